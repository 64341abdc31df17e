"""The README: every block of Python compiles and runs, and its tables name what there is."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import deepnote_async.errors
from deepnote_async import DeepnoteClient, PollPolicy, RetryPolicy
from deepnote_async.testing import FakeDeepnote, outputs

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SECTIONS = [title for title, _ in BLOCKS]
SOURCES = dict(BLOCKS)


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDeepnote]:
    async with FakeDeepnote(time_scale=20) as fake:
        monkeypatch.setenv("DEEPNOTE_TOKEN", fake.token)
        monkeypatch.setenv("DEEPNOTE_BASE_URL", fake.url)
        yield fake


async def run_block(section: str, notebook_id: str = "") -> dict[str, Any]:
    """Run a block as its reader would, at the top level of a program that may await."""
    source = SOURCES[section].replace("NOTEBOOK_ID", notebook_id)
    code = compile(source, f"README: {section}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    names: dict[str, Any] = {"__name__": "readme"}
    running = eval(code, names)
    if inspect.isawaitable(running):
        await running
    return names


def test_every_block_of_python_is_known_here():
    assert SECTIONS == [
        "Quick start",
        "Waiting",
        "Results",
        "Fan-out",
        "A batch that survives its process",
        "FastAPI",
        "Testing your own program",
        "Testing with pytest",
    ]
    assert README.count("```python") == len(BLOCKS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_block_of_python_compiles(section):
    compile(SOURCES[section], section, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def test_the_two_commands_stand_as_they_are_to_be_typed():
    venv = "python3 -m venv .venv && .venv/bin/pip install -e"
    assert f"\n{venv} '.[cli]' && .venv/bin/deepnote-async demo\n" in README
    assert f"\n{venv} '.[cli,dev]' && .venv/bin/pytest\n" in README


@pytest.mark.slow
async def test_quick_start_runs_as_a_program(fake, tmp_path):
    notebook = fake.notebook("Report").succeeds(after=5)
    program = tmp_path / "quickstart.py"
    program.write_text(SOURCES["Quick start"].replace("NOTEBOOK_ID", notebook.id))
    process = await run_program(program)
    assert process.returncode == 0, process.stderr
    assert "success 0:00:05" in process.stdout


async def run_program(program: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, [sys.executable, str(program)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
async def test_waiting_shows_outputs(fake, capsys):
    await run_block("Waiting", fake.notebook("Report").succeeds(after=5, outputs=["the answer"]).id)
    assert "the answer" in capsys.readouterr().out


@pytest.mark.slow
async def test_waiting_tells_of_a_failure(fake, capsys):
    await run_block("Waiting", fake.notebook("Report").fails("KeyError: 'region'", after=5).id)
    assert capsys.readouterr().out == "failed: KeyError: 'region'\n"


@pytest.mark.slow
async def test_results_are_shown_or_why_there_are_none(fake, capsys):
    notebook = fake.service.add_notebook(inputs=["region"])
    notebook.fails(outputs=[outputs.error("KeyError: 'EU'")], after=1, times=1).succeeds(after=1, outputs=["done"])
    await run_block("Results", notebook.id)
    await run_block("Results", notebook.id)
    assert capsys.readouterr().out == "KeyError: 'EU'\ndone\n"


@pytest.mark.slow
async def test_results_become_frames(fake, capsys):
    pytest.importorskip("pandas")
    notebook = fake.service.add_notebook(inputs=["region"])
    notebook.succeeds(after=5, outputs=[outputs.table([{"price": 0.5}] * 12), outputs.image()])
    names = await run_block("Results", notebook.id)
    shown = capsys.readouterr().out
    assert shown.count("'price': 0.5") == 10
    assert "12 [" in shown
    assert "price    float64" in shown
    assert names["pictures"][0].startswith(b"\x89PNG")


@pytest.mark.slow
async def test_fan_out_accounts_for_every_request(fake, capsys):
    await run_block("Fan-out", fake.notebook("Report").fails(after=5, times=3).succeeds(after=5).id)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert all(line.startswith("{'region':") for line in lines)
    assert sum(line.endswith(" error") for line in lines) == 3


@pytest.mark.slow
async def test_fastapi_answers_with_the_run(fake):
    fastapi = pytest.importorskip("fastapi")
    app = (await run_block("FastAPI", fake.notebook("Report").succeeds(after=5).id))["app"]
    assert isinstance(app, fastapi.FastAPI)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path = "/reports/EU"
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "headers": [], "root_path": ""}
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert b'"seconds":5' in sent[1]["body"]


@pytest.mark.slow
async def test_testing_your_own_program(capsys):
    await run_block("Testing your own program")
    assert re.fullmatch(r"\d+ requests\n", capsys.readouterr().out)


@pytest.mark.slow
def test_testing_with_pytest(tmp_path):
    (tmp_path / "test_report.py").write_text(SOURCES["Testing with pytest"])
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_every_option_of_the_client_is_in_the_table_with_its_default():
    parameters = inspect.signature(DeepnoteClient).parameters.values()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", README, re.MULTILINE))
    for option in parameters:
        assert option.name in rows, option.name
        if option.name in {"token", "base_url"}:
            continue
        default = option.default
        shown = f"{type(default).__name__}()" if isinstance(default, RetryPolicy | PollPolicy) else repr(default)
        assert rows[option.name] == f"`{shown}`"


@pytest.mark.parametrize("policy", [RetryPolicy, PollPolicy])
def test_every_field_of_a_policy_is_named_with_its_default(policy):
    for field in attrs.fields(policy):
        assert f"`{field.name}" in README
        assert str(field.default) in README


def test_every_error_is_in_the_table():
    table = README.partition("## Errors")[2]
    assert [name for name in deepnote_async.errors.__all__ if f"`{name}`" not in table] == []


@pytest.mark.slow
async def test_a_batch_with_a_ledger_takes_up_where_it_was(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notebook = fake.notebook("Report").succeeds(after=1)
    for _ in range(2):
        await run_block("A batch that survives its process", notebook.id)
        told = capsys.readouterr().out.splitlines()
        assert len(told) == 2
        assert all(line.endswith(" ended well") for line in told)
        assert {line.split()[1] for line in told} == fake.service.runs.keys()
    assert len(fake.service.runs) == 2
