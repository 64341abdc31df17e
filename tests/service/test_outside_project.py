"""A project outside this repository installs the wheel, and tests its own program with the fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FILES = {
    "pytest.ini": "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\n",
    # pytest-asyncio's first look for an old loop makes one (Python 3.11 to 3.13) and never closes it.
    "conftest.py": "import asyncio\n\nasyncio.set_event_loop(None)\n",
    "test_a_stranger.py": """
import sys

def test_the_plugin_costs_nothing_to_those_who_do_not_use_it():
    assert "pytest_deepnote_async" in sys.modules
    assert not {"deepnote_async", "aiohttp", "attrs", "cattrs"} & set(sys.modules)
""",
    "test_plain.py": """
import asyncio
import pytest

def test_on_loopback(fake_deepnote, deepnote_client):
    report = fake_deepnote.notebook("report").succeeds(after=3, outputs=["done"])

    async def main():
        async with deepnote_client as client:
            return await client.run(report.id, timeout=30, snapshot="blocks")

    assert "done" in str(asyncio.run(main()).snapshot_blocks)
    assert fake_deepnote.calls[0].method == "POST"

@pytest.mark.deepnote(seed=7)
def test_in_virtual_time(virtual_deepnote):
    report = virtual_deepnote.notebook("report").fails("NameError: x", after=600)
    run = virtual_deepnote.run(lambda client: client.run(report.id, timeout=900))
    assert run.error == "NameError: x"
""",
    "test_asyncio.py": """
import pytest

pytestmark = pytest.mark.asyncio

async def test_the_client_is_entered(fake_deepnote, deepnote_client):
    report = fake_deepnote.notebook("report").succeeds(after=3)
    started = await deepnote_client.runs.create(report.id)
    fake_deepnote.outage(10)
    assert (await deepnote_client.await_run(started, timeout=30)).succeeded

async def test_in_an_app(fake_deepnote, deepnote_client):
    from fastapi import FastAPI
    from deepnote_async.fastapi import add_deepnote_handlers, get_deepnote
    app = FastAPI()
    add_deepnote_handlers(app)
    app.dependency_overrides[get_deepnote] = lambda: deepnote_client
    assert (await deepnote_client.me()).access_level == "admin"
""",
    "test_anyio.py": """
import pytest

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_the_client_is_entered(fake_deepnote, deepnote_client):
    report = fake_deepnote.notebook("report").fails("NameError: x", after=3)
    assert (await deepnote_client.run(report.id, timeout=30)).error == "NameError: x"
""",
}


SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")  # unset, pytest-asyncio warns of it


def run(*command: str | Path, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "DEEPNOTE_"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, Path]:
    """A folder with the project, and the python that has the built wheel."""
    folder = tmp_path_factory.mktemp("project")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheel", ROOT, cwd=folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    wheel = next((folder / "wheel").glob("*.whl"))
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[fastapi]", "pytest", "pytest-asyncio", cwd=folder)
    place = folder / "tests"
    place.mkdir()
    for name, text in FILES.items():
        (place / name).write_text(text)
    return place, python


def test_all_kinds_of_tests_pass_with_warnings_as_errors(project):
    place, python = project
    where = run(python, "-c", "import deepnote_async; print(deepnote_async.__file__)", cwd=place)
    assert str(ROOT) not in where
    assert "6 passed" in run(python, "-W", "error", "-m", "pytest", "-q", *SCOPE, cwd=place)


def test_plain_functions_need_no_pytest_asyncio(project):
    place, python = project
    command = (python, "-W", "error", "-m", "pytest", "-q", "-p", "no:asyncio", "test_a_stranger.py", "test_plain.py")
    assert "3 passed" in run(*command, cwd=place)


def test_its_auto_mode_is_as_good(project):
    place, python = project
    # Without anyio's plugin: the two of them both claim an async test in that mode.
    command = (python, "-W", "error", "-m", "pytest", "-q", *SCOPE, "-o", "asyncio_mode=auto", "--ignore=test_anyio.py")
    assert "5 passed" in run(*command, cwd=place)
