"""The program as a whole: its commands, how it fails, and what it costs to be asked for help."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time

import pytest

from deepnote_async.cli.app import PLACES
from deepnote_async.testing import Input

COMMANDS = ("me", "projects", "notebooks", "runs", "run", "run-many", "plan", "ledger", "doctor", "demo", "fake-server")
GROUPS = {
    "projects": ("list", "create", "get", "delete"),
    "notebooks": ("create", "get", "inputs", "runs", "delete"),
    "runs": ("start", "get", "wait", "outputs", "download"),
    "ledger": ("show",),
}


def test_help_lists_every_command_and_loads_none_of_them():
    spy = (
        "import sys; from deepnote_async.cli.app import run; status = run(['--help']); "
        "print(*sys.modules, sep='\\n', file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", spy], capture_output=True, text=True, check=True)
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    loaded = set(done.stderr.splitlines())
    assert not loaded & {"aiohttp", "attrs", "cattrs", "rich", "asyncio", "deepnote_async.client"}
    assert not {name for name in loaded if name.startswith("deepnote_async.cli.")} - {
        f"deepnote_async.cli.{name}" for name in ("app", "common", "exits", "lazy")
    }


def test_every_command_has_a_line_a_help_and_an_example():
    from typer.testing import CliRunner

    from deepnote_async.cli.app import app

    assert tuple(PLACES) == COMMANDS
    paths = [(name,) for name in COMMANDS if name not in GROUPS]
    paths += [(group, name) for group, names in GROUPS.items() for name in names]
    for path in paths:
        done = CliRunner().invoke(app, [*path, "--help"], prog_name="deepnote-async")
        assert done.exit_code == 0, done.output
        assert re.search(rf"Example:\s+deepnote-async {' '.join(path)}\b", done.output), done.output
    for group, names in GROUPS.items():
        listed = CliRunner().invoke(app, [group, "--help"]).output
        assert [name for name in names if f"\n  {name} " not in listed] == []
        assert "..." not in listed.partition("Commands:")[2], "no line is cut"
    for path in (["run"], ["run-many"], ["runs", "wait"]):
        assert "--timeout SECONDS" in CliRunner().invoke(app, [*path, "--help"]).output


def help_times() -> list[tuple[float, float]]:
    """Seconds until the answer, and of them the processor's, of nine processes."""
    taken = []
    for _ in range(9):
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "deepnote_async.cli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        taken.append((time.monotonic() - began, used))
    return taken


@pytest.mark.slow
def test_help_costs_little():
    # Of the processor, for other processes do not count in it; medians, for the first one reads files. Alone 0.13 s.
    taken = [used for _, used in help_times()]
    assert statistics.median(taken) < 0.35, taken


@pytest.mark.slow
@pytest.mark.long
def test_help_answers_at_once_on_a_quiet_machine():
    taken = [seconds for seconds, _ in help_times()]
    assert statistics.median(taken) < 0.35, taken


async def test_piped_it_prints_json_lines(program, fake):
    fake.notebook("report")
    done = await program("projects", "list")
    assert done.status == 0, done.err
    (project,) = done.json()
    assert project["id"] == next(iter(fake.service.projects))
    assert project["created_at"].endswith("+00:00")
    assert done.err == ""


async def test_options_stand_before_or_after_the_command(here, fake):
    for arguments in (("--table", "me"), ("me", "--table")):
        done = await here(*arguments)
        assert "user email" in done.out
    assert (await here("--base-url", "http://127.0.0.1:1", "doctor")).status == 3
    done = await here("me", "--token", "wrong")
    assert done.status == 3
    assert "401" in done.err
    assert "wrong" not in done.err


async def test_projects_and_notebooks_are_made_shown_and_deleted(here, fake):
    (project,) = (await here("projects", "create", "Reports")).json()
    (notebook,) = (await here("notebooks", "create", project["id"], "--name", "Monthly")).json()
    assert (await here("notebooks", "get", notebook["id"])).json()[0]["name"] == "Monthly"
    assert "Monthly" in (await here("projects", "get", project["id"], "--table")).out
    refused = await here("projects", "delete", project["id"])
    assert (refused.status, "--yes" in refused.err) == (2, True)
    assert (await here("notebooks", "delete", notebook["id"], "--yes")).json() == [
        {"id": notebook["id"], "deleted": True}
    ]
    assert (await here("projects", "delete", project["id"], "--yes", "--table")).err == f"Deleted {project['id']}.\n"
    gone = await here("projects", "get", project["id"])
    assert gone.status == 3
    assert gone.err.count("\n") == 1


@pytest.mark.slow
async def test_runs_are_started_awaited_and_read(here, fake, tmp_path):
    notebook = fake.notebook("report").succeeds(after=5, outputs=["the answer"])
    (started,) = (await here("runs", "start", notebook.id, "-i", "region=EU")).json()
    run_id = started["run_id"]
    done = await here("runs", "wait", run_id)
    assert (done.status, done.json()[0]["status"], done.json()[0]["duration"]) == (0, "success", 5.0)
    assert (await here("runs", "get", run_id)).json()[0]["run_id"] == run_id
    assert (await here("runs", "outputs", run_id, "--table")).out == "the answer\n"
    assert [run["run_id"] for run in (await here("notebooks", "runs", notebook.id)).json()] == [run_id]
    file = tmp_path / "report.snapshot.deepnote"
    assert (await here("runs", "download", run_id, "--to", file)).status == 0
    assert (await here("runs", "download", run_id)).out == file.read_text()


async def test_inputs_are_listed(here, fake):
    fake.notebook("report").inputs = [Input("region", "input-select", "EU", options=["EU", "US"])]
    (found,) = (await here("notebooks", "inputs", fake.notebook("report").id)).json()
    assert (found["name"], found["options"]) == ("region", ["EU", "US"])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("projets",), 2, "Did you mean 'projects'?"),
        (("me", "--nonsense"), 2, "--nonsense"),
        (("run",), 2, "NOTEBOOK"),
        (("run", "nb", "-i", "region"), 2, "-i takes name=value"),
        (("run-many", "nb"), 2, "nothing to run"),
        (("run-many", "nb", "--inputs", "none.csv"), 2, "none.csv: No such file"),
        (("run-many", "nb", "--grid", "a=1", "--rerun-failed"), 2, "--ledger"),
        (("ledger", "show", "none.sqlite"), 2, "no such file"),
        (("--base-url", "http://example.com", "me"), 2, "http"),
        (("--base-url", "http://127.0.0.1:1", "--timeout", "2", "me"), 3, "check the network"),
        (("runs", "get", "unknown"), 3, "404"),
        (("run", "unknown"), 3, "check the notebook's id"),
    ],
)
async def test_an_error_is_one_line_and_a_status(here, tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    done = await here(*arguments)
    assert (done.status, done.out) == (status, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("deepnote-async: error: ")
    assert words in done.err


async def test_debug_shows_where_and_no_key(here, fake):
    done = await here("runs", "get", "unknown", "--debug")
    assert done.status == 3
    assert "Traceback" in done.err
    assert fake.token not in done.err


async def test_without_a_key_it_says_where_to_get_one(here, fake):
    fake.service.token = ""
    done = await here("me")
    assert done.status == 2
    assert "API keys" in done.err


async def test_a_reader_who_goes_away_is_no_error(program, fake):
    for number in range(200):
        fake.service.add_project(f"project {number}")
    process = await program.start("projects", "list")
    await process.stdout.readline()
    process.stdout._transport.close()
    assert await process.stderr.read() == b""
    assert await process.wait() == 141


@pytest.mark.slow
async def test_words_are_completed(program):
    completing = {"_DEEPNOTE_ASYNC_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = await program(COMP_WORDS="deepnote-async pro", **completing)
    assert done.out.split() == ["projects"]
    done = await program(COMP_WORDS="deepnote-async runs out", **completing | {"COMP_CWORD": "2"})
    assert done.out.split() == ["outputs"]


# On a terminal.


async def test_on_a_terminal_it_prints_tables(terminal, fake):
    fake.notebook("report")
    screen = terminal()
    await screen.start("projects", "list")
    assert await screen.ends() == 0
    assert "project type" in screen.shown
    assert "\x1b[1m" in screen.raw
    with pytest.raises(json.JSONDecodeError):
        json.loads(screen.shown)


@pytest.mark.slow
async def test_no_color_is_heeded(terminal, fake):
    fake.notebook("report").succeeds(after=0.1)
    screen = terminal()
    await screen.start("run-many", fake.notebook("report").id, "--grid", "a=1", NO_COLOR="1")
    assert await screen.ends() == 0
    assert "success" in screen.shown
    assert "\x1b[32m" not in screen.raw


@pytest.mark.slow
async def test_deleting_is_asked_for(terminal, fake):
    notebook = fake.notebook("report")
    screen = terminal()
    await screen.start("notebooks", "delete", notebook.id)
    await screen.sees(r"for ever\? \[y/N\]")
    screen.type("n\n")
    assert await screen.ends() == 1
    assert notebook.id in fake.service.notebooks


@pytest.mark.slow
async def test_a_wait_is_shown_and_left_with_ctrl_c(terminal, fake):
    notebook = fake.notebook("report").stalls()
    screen = terminal()
    await screen.start("run", notebook.id)
    run_id = (await screen.sees(r"run [0-9a-f-]{36}: (pending|running), \d")).split()[1].rstrip(":")
    screen.type("\x03")
    assert await screen.ends() == 130
    assert f"Left; run {run_id} goes on. Take it up again with `deepnote-async runs wait {run_id}`" in screen.shown
    assert "Traceback" not in screen.shown


@pytest.mark.slow
async def test_the_fake_server_serves_until_it_is_told():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deepnote_async.cli", "fake-server", "--notebooks", "2", "--api-key", "secret"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    assert (ready["token"], len(ready["notebooks"])) == ("secret", 2)
    env = os.environ | {"DEEPNOTE_TOKEN": "secret", "DEEPNOTE_BASE_URL": ready["url"]}
    asked = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deepnote_async.cli", "me"), env=env, stdout=asyncio.subprocess.DEVNULL
    )
    assert await asked.wait() == 0
    process.terminate()
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"Ended after 1 requests.\n")
