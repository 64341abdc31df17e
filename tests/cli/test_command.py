"""The command as a user types it: in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys

import pytest

from deepnote_async import __version__
from deepnote_async.testing import FakeDeepnote

COMMAND = ("-c", "from deepnote_async.cli import main; main()")


async def run_command(
    *arguments: str, program: tuple[str, ...] = COMMAND, answer: bytes = b"", **environment: str
) -> tuple[int | None, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEEPNOTE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program, *arguments),
        env=inherited | {"COLUMNS": "100", "NO_COLOR": "1"} | environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(answer)
    return process.returncode, output.decode()


async def test_without_the_extra_it_names_what_to_install():
    program = ("-c", "import sys; sys.modules['typer'] = None; from deepnote_async.cli import main; main()")
    status, output = await run_command("demo", program=program)
    assert status == 2
    assert output == "The command line needs two more packages: pip install 'deepnote-async[cli]'\n"


async def test_it_tells_its_version():
    assert await run_command("--version") == (0, f"{__version__}\n")


@pytest.mark.slow
async def test_the_demo_accounts_for_every_run():
    status, output = await run_command("demo", "--runs", "5")
    assert status == 0, output
    assert re.search(r"succeeded +│ +5 of 5\n", output)
    assert re.search(r"failed +│ +0\n", output)
    assert re.search(r"throttled answers \(429\) +│ +\d+\n", output)
    for row in ("slowest run", "delay, end to known: mean", "delay, end to known: 95th %"):
        assert re.search(rf"{row} +│ +\d+\.\d\d s\n", output)
    # Where it cannot draw in place it says in plain lines where it stands.
    assert re.search(
        r"^ +2\.\d s  deepnote-async: \d of 5 ended, \d under way, 0 given up; \d+ requests", output, re.MULTILINE
    )


@pytest.mark.slow
async def test_compare_shows_both_ways_and_how_far_the_naive_one_gets():
    status, output = await run_command("demo", "--runs", "30", "--compare")
    assert status == 0, output
    found = re.search(r"succeeded +│ +30 of 30 │ +(\d+) of 30\n", output)
    assert found
    assert int(found[1]) <= 30
    assert "naive polling" in output


async def test_a_real_run_is_started_only_after_a_yes(here, fake):
    notebook = fake.notebook("Report")
    done = await here("demo", "--runs", "3", "--notebook", notebook.id, stdin="n\n")
    assert (done.status, done.out) == (2, "")
    assert "say --yes to start 3 real runs" in done.err
    assert not fake.calls


@pytest.mark.slow
async def test_on_a_terminal_the_demo_asks_before_real_runs(terminal, fake):
    screen = terminal()
    await screen.start("demo", "--notebook", fake.notebook("Report").id)
    await screen.sees(r"This starts 500 real runs .* \[y/N\]")
    screen.type("n\n")
    assert await screen.ends() == 1
    assert not fake.calls


@pytest.mark.slow
async def test_real_runs_are_started_and_awaited():
    async with FakeDeepnote(time_scale=20) as fake:
        notebook = fake.notebook("Report").succeeds(after=5)
        status, output = await run_command(
            *("demo", "--runs", "3", "--notebook", notebook.id, "--yes"),
            DEEPNOTE_TOKEN=fake.token,
            DEEPNOTE_BASE_URL=fake.url,
        )
        assert len(notebook.runs) == 3
    assert status == 0, output
    assert re.search(r"succeeded +│ +3 of 3\n", output)
    assert fake.token not in output


@pytest.mark.slow
async def test_a_quiet_demo_shows_only_what_came_of_it(here, fake):
    notebook = fake.notebook("Report").succeeds(after=1)
    done = await here("demo", "-q", "--runs", "2", "--notebook", notebook.id, "--yes")
    assert done.status == 0
    assert "under way" not in done.out
    assert "2 of 2" in done.out


@pytest.mark.slow
async def test_failed_runs_are_counted_and_tell_in_the_exit_status():
    async with FakeDeepnote(time_scale=20) as fake:
        notebook = fake.notebook("Report").fails(after=5, times=1).succeeds(after=5)
        status, output = await run_command(
            *("demo", "--runs", "2", "--base-url", fake.url, "--token", fake.token, "--notebook", notebook.id, "--yes")
        )
    assert status == 1
    assert re.search(r"failed +│ +1\n", output)


async def test_a_refused_key_gives_up_in_one_line_and_no_traceback(here, fake):
    notebook = fake.notebook("Report")
    done = await here("demo", "--runs", "2", "--token", "wrong", "--notebook", notebook.id, "--yes")
    assert done.status == 3
    assert "deepnote-async gave up 2 of 2 runs" in done.out
    assert "Traceback" not in done.err


async def test_a_missing_key_is_one_line(here, fake):
    fake.service.token = ""
    done = await here("demo", "--notebook", "some-id", "--yes")
    assert done.status == 2
    assert "no API key" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--base-url", "https://api.deepnote.com"), "--notebook"),
        (("--compare", "--notebook", "some-id"), "embedded service only"),
        (("--runs", "0"), "--runs"),
        (("--timeout", "5", "--notebook", "some-id"), "--timeout"),
        (("--json",), "run-many does"),
    ],
)
async def test_options_that_do_not_go_together_are_refused(here, arguments, message):
    done = await here("demo", *arguments)
    assert done.status == 2
    assert message in done.err
