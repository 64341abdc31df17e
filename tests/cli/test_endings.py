"""Endings that are nobody's fault, or the machine's: readers who go, full disks, Ctrl-C, no time."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest
from cli_kit import PROGRAM, Piped, environment

from deepnote_async import errors
from deepnote_async.cli import exits
from deepnote_async.testing import FakeDeepnote, Input

pytestmark = pytest.mark.slow


def shell(line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, with the program in ``$P``."""
    env = environment(None, P=" ".join(PROGRAM), **more)
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=60, check=False)


async def in_shell(fake, line: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(shell, line, DEEPNOTE_TOKEN=fake.token, DEEPNOTE_BASE_URL=fake.url)


@pytest.mark.parametrize("words", ["--help", "runs --help", "projects list --table", "projects list --json", "me"])
async def test_a_reader_who_is_gone_is_no_failure(fake, words):
    fake.notebook("report")
    # The reader has gone before the program writes its first word.
    done = await in_shell(fake, f"{{ sleep 0.2; $P {words}; echo $? >&2; }} | true")
    assert done.stderr == "141\n"


async def test_a_closed_stdout_is_no_fault_of_the_program(fake):
    done = await in_shell(fake, "$P projects list >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "darwin", reason="there is no /dev/full")
@pytest.mark.parametrize("words", ["me --json", "me --table", "--help"])
async def test_a_full_disk_is_one_line_and_no_wrong_usage(fake, words):
    done = await in_shell(fake, f"$P {words} >/dev/full")
    assert done.returncode == 5
    assert done.stderr == "deepnote-async: error: No space left on device\n"


@pytest.mark.parametrize("words", ["run", "run --table", "runs start", "runs start --table"])
async def test_a_run_whose_outputs_cannot_be_written_is_named(fake, words):
    notebook = fake.notebook("report").succeeds(after=1)
    done = await in_shell(fake, f"$P {words} {notebook.id} >/dev/full")
    (run_id,) = fake.service.runs
    assert done.returncode == 5
    assert f"run {run_id} was started" in done.stderr


async def test_a_folder_that_cannot_be_is_told_before_anything_is_paid(here, fake, tmp_path):
    notebook = fake.notebook("report").succeeds(after=1)
    (tmp_path / "file").write_text("mine")
    done = await here("run", notebook.id, "--save", tmp_path / "file")
    assert (done.status, done.out) == (2, "")
    assert "File exists" in done.err
    assert not fake.service.runs


async def test_time_goes_by_while_the_inputs_are_read_too():
    async with FakeDeepnote(latency=3.0) as fake:
        notebook = fake.notebook("report")
        notebook.inputs = [Input("region", "input-text", "EU")]
        done = await Piped(fake)("run", notebook.id, "-i", "region=EU", "--timeout", "0.5")
        assert (done.status, done.out) == (4, "")
        assert done.err.count("\n") == 1
        assert not fake.service.runs


def test_a_start_that_ran_out_of_time_is_so_told_whether_it_happened_or_not():
    late = errors.RequestTimeoutError("late", sent=True)
    assert exits.status_of(errors.OutcomeUnknownError("?", notebook_id="n", cause=late)) == 4
    assert exits.status_of(errors.OutcomeUnknownError("?", cause=errors.TransportError("gone", sent=True))) == 3
    assert exits.status_of(errors.NotStartedError("no", cause=late)) == 4


async def test_a_start_on_its_way_when_the_time_is_up_is_timed_out_and_says_where_to_look():
    async with FakeDeepnote(latency=3.0) as fake:
        notebook = fake.notebook("report")
        done = await Piped(fake)("run", notebook.id, "--timeout", "1")
    assert (done.status, done.out) == (4, "")
    assert f"deepnote-async notebooks runs {notebook.id}" in done.err


@pytest.mark.parametrize("presses", [1, 2])
async def test_ctrl_c_while_a_start_is_on_the_wire_says_where_to_look(presses):
    async with FakeDeepnote(latency=3.0) as fake:
        notebook = fake.notebook("report").succeeds(after=1)
        process = await Piped(fake).start("run", notebook.id)
        async with asyncio.timeout(10):
            while not fake.calls:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.2)
        _, err = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 130
    assert f"Left while starting; look with `deepnote-async notebooks runs {notebook.id}`." in err.decode()
    assert "Unclosed" not in err.decode()
    assert "Traceback" not in err.decode()


async def test_ctrl_c_tells_of_the_runs_that_have_ended(terminal, here, fake):
    notebook = fake.notebook("report").succeeds(after=0.1, times=1).stalls()
    ids = [(await here("runs", "start", notebook.id)).json()[0]["run_id"] for _ in range(2)]
    screen = terminal()
    await screen.start("runs", "wait", *ids)
    await screen.sees("1 of 2 ended")
    screen.type("\x03")
    assert await screen.ends() == 130
    left = screen.shown.partition("Left; the runs go on")[0]
    assert ids[0] in left
    assert "success" in left
