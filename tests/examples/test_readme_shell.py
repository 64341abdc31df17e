"""The README's shell lines, typed as they stand: on a fake service in a terminal's place, and in a copy of the tree."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
INSTALLING = [block for block in BLOCKS if "pip install" in block]
SERVING = next(block for block in BLOCKS if "fake-server" in block)
TYPED = [block for block in BLOCKS if block not in INSTALLING and block != SERVING]


def environment(**more: str) -> dict[str, str]:
    """That of somebody who has installed the package, and nothing else."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "SYSTEMROOT", "TMPDIR") if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | more


def typed(block: str, folder: Path, environ: Mapping[str, str], ends: int = 0) -> str:
    """Type a block into a shell that stops at the first line that fails; what it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == ends, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def begun(block: str, folder: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A block whose last line goes on until it is ended as Ctrl-C does."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with begun(SERVING, tmp_path_factory.mktemp("service"), environment()) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield {"notebook": told["notebooks"][0], "DEEPNOTE_BASE_URL": told["url"], "DEEPNOTE_TOKEN": told["token"]}


def test_every_shell_block_is_known_here():
    assert README.count("```sh") == len(BLOCKS) == len(TYPED) + len(INSTALLING) + 1
    assert not re.search(r"```(?!sh\n|python\n|\n)", README)


@pytest.mark.parametrize("block", TYPED, ids=lambda block: " ".join(block.split()[:3]))
def test_the_command_line_as_it_stands(block, service, tmp_path):
    environ = environment(**{name: value for name, value in service.items() if name.isupper()})
    block = block.replace("NOTEBOOK_ID", service["notebook"])
    # The doctor's last word on this service is that its clock runs fast: its line alone may end so.
    before, doctor, rest = block.partition("deepnote-async doctor ")
    printed = typed(before, tmp_path, environ)
    if doctor:
        assert rest.count("\n") == 1
        printed += typed(doctor + rest, tmp_path, environ, ends=1)
    assert printed.strip()
    assert service["DEEPNOTE_TOKEN"] not in printed
    if "run-many" in block:
        results = [json.loads(line) for line in printed.splitlines()]
        assert [result["status"] for result in results[:-1]] == ["success"] * 4
        assert results[-1]["counts"]["succeeded"] == 4


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git holds of the tree, with nothing installed."""
    folder = tmp_path_factory.mktemp("clone")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def newcomer() -> dict[str, str]:
    """The environment of a machine with only Python and git."""
    return {name: value for name, value in environment().items() if not name.startswith("PYTHON")}


def test_the_demo_as_a_newcomer_types_it(clone, newcomer):
    (block,) = (block for block in INSTALLING if block.endswith("deepnote-async demo\n"))
    assert re.search(r"succeeded\s+\D*500", typed(block, clone, newcomer))


def test_the_board_as_a_newcomer_types_it(clone, newcomer):
    (block,) = (block for block in INSTALLING if "serve.py" in block)
    with begun(block, clone, newcomer) as process:
        assert process.stdout is not None
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+/", line)))
        with urllib.request.urlopen(url) as answer:
            assert b"<main" in answer.read()


def test_the_test_command_is_what_the_gate_types():
    (block,) = (block for block in INSTALLING if block.endswith("pytest\n"))
    assert block.startswith("python3 -m venv ")
    assert "readme_command pytest" in (ROOT / ".ci" / "run").read_text()
