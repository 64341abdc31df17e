"""``run-many``: what it prints, how it ends, and that Ctrl-C loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal

import pytest
from cli_kit import Piped

from deepnote_async.testing import FakeProcess, Input

pytestmark = pytest.mark.slow


def echoed(record):
    """The inputs as the run itself saw them."""
    return json.loads(record["text"].removeprefix("inputs: "))


async def test_each_row_is_a_run_and_each_result_a_line(here, fake):
    notebook = fake.notebook("report").succeeds(after=1)
    rows = "region,key\nEU,first\nUS,second\n"
    done = await here("run-many", notebook.id, "--inputs", "-", "--grid", "year=2024,2025", "--outputs", stdin=rows)
    assert done.status == 0, done.err
    records = sorted(done.json(), key=lambda record: record["index"])
    assert [(record["key"], echoed(record)) for record in records] == [
        ("first year=2024", {"region": "EU", "year": "2024"}),
        ("first year=2025", {"region": "EU", "year": "2025"}),
        ("second year=2024", {"region": "US", "year": "2024"}),
        ("second year=2025", {"region": "US", "year": "2025"}),
    ]
    assert re.fullmatch(r".* not checked\.\n4 of 4 succeeded, 0 failed, in \d.*\n", done.err, re.DOTALL)


async def test_a_failed_run_is_a_line_too_and_the_status(here, fake):
    notebook = fake.notebook("report").fails("KeyError: 'x'", after=1, times=1).succeeds(after=1)
    done = await here("run-many", notebook.id, "--grid", "n=1,2", "--outputs", "--quiet", "--max-in-flight", "1")
    assert done.status == 1
    assert [(record["ok"], record["error"]) for record in done.json()] == [(False, "KeyError: 'x'"), (True, None)]


async def test_after_enough_failures_nothing_more_is_started(here, fake):
    notebook = fake.notebook("report").fails("X: y", after=1)
    done = await here("run-many", notebook.id, "--grid", "n=1,2,3,4", "--max-in-flight", "1", "--max-failures", "2")
    assert done.status == 1
    assert len(notebook.runs) == 2
    assert "2 not started" in done.err


async def test_a_deadline_is_a_status_of_its_own(here, fake):
    done = await here("run-many", fake.notebook("report").stalls().id, "--grid", "n=1,2", "--timeout", "1")
    assert done.status == 4
    assert all("runs wait" in record["error"] for record in done.json())


async def test_a_server_that_is_silent_keeps_nobody_past_the_deadline(here):
    async def silent(reader, writer):
        with contextlib.closing(writer):
            await reader.read()

    clock = asyncio.get_running_loop().time
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        command = ("run-many", "nb", "--grid", "n=1,2", "--timeout", "1", "--base-url", url)
        for check, words in (("--check", "allow more time with --timeout"), ("--no-check", "may have taken effect")):
            began = clock()
            done = await here(*command, check)
            assert done.status == 4, done
            assert words in done.out + done.err
            assert clock() - began < 3


async def test_reading_the_notebook_takes_from_the_time_of_the_batch(here, fake):
    notebook = fake.notebook("report").stalls()
    fake.latency = 1.5
    done = await here("run-many", notebook.id, "--grid", "n=1", "--timeout", "2")
    assert done.status == 4
    assert re.search(r"1 without a result, in 0\.\d s", done.err), done.err


async def test_a_failed_run_says_where_the_reason_is(here, fake):
    notebook = fake.notebook("report").fails(after=1)
    [record] = (await here("run-many", notebook.id, "--grid", "n=1")).json()
    assert record["error"] == f"`deepnote-async runs outputs {record['run_id']}` tells why"


async def test_a_key_twice_is_refused_before_anything_starts(here, fake, tmp_path):
    notebook = fake.notebook("report").succeeds(after=1)
    rows = "key,n\na,1\nb,2\na,3\n"
    for more in ((), ("--ledger", tmp_path / "l.sqlite")):
        done = await here("run-many", notebook.id, "--inputs", "-", *more, stdin=rows)
        assert (done.status, done.out) == (2, "")
        assert "stdin, line 4: the key 'a' is that of stdin, line 2" in done.err
    assert not notebook.runs


@pytest.mark.parametrize("how", ["--table", "--json"])
async def test_what_breaks_a_batch_leaves_what_ended_told(here, fake, tmp_path, how):
    # Here the ledger, which remembers another request by the third one's key.
    notebook = fake.notebook("report").succeeds(after=0.1)
    command = ("run-many", notebook.id, "--inputs", "-", "--ledger", tmp_path / "l.sqlite", "--max-in-flight", 1, how)
    assert (await here(*command, stdin="key,n\nc,9\n")).status == 0
    done = await here(*command, stdin="key,n\na,1\nb,2\nc,3\nd,4\n")
    assert done.status == 2
    assert "the key 'c' names another request in the ledger" in done.err
    assert done.out.count("success") == 2
    assert "2 of 4 succeeded, 0 failed, 2 not started" in done.err


async def test_a_refused_key_is_the_api_s(here, fake):
    done = await here("run-many", fake.notebook("report").id, "--grid", "n=1", "--no-check", "--token", "wrong")
    assert done.status == 3
    assert "check the key" in done.json()[0]["error"]


async def test_a_table_is_no_longer_than_a_screen(here, fake):
    notebook = fake.notebook("report").succeeds(after=0.1)
    command = ("run-many", notebook.id, "--grid", f"n={','.join(map(str, range(60)))}", "--no-check", "--table")
    done = await here(*command, "--token", "wrong")
    assert done.out.count("check the key") == 40
    assert "... and 20 more" in done.err
    assert (await here("run-many", notebook.id, "--grid", "n=1,2", "--table")).out.count("success") == 2


async def test_a_long_table_says_what_it_leaves_out_and_has_all_outputs(fake, here, monkeypatch):
    monkeypatch.setattr("deepnote_async.cli.fan.TABLE", 3)
    notebook = fake.notebook("report").succeeds(after=0.1)
    command = ("run-many", notebook.id, "--grid", "n=1,2,3,4", "--no-check", "--table")
    done = await here(*command)
    assert done.out == ""
    assert "Not listed: 4 that are well; --outputs or --json lists them." in done.err
    done = await here(*command, "--outputs")
    assert done.out.count("inputs:") == 4
    assert "Not listed" not in done.err


async def test_a_wrong_column_is_refused_before_anything_starts(here, fake, tmp_path):
    notebook = fake.notebook("report")
    notebook.inputs = [Input("region")]
    (tmp_path / "rows.csv").write_text("region\nEU\n")
    assert (await here("run-many", notebook.id, "--inputs", tmp_path / "rows.csv")).status == 0
    (tmp_path / "rows.csv").write_text("regoin\nEU\nUS\n")
    done = await here("run-many", notebook.id, "--inputs", tmp_path / "rows.csv")
    assert (done.status, len(notebook.runs)) == (2, 1)
    assert "rows.csv, line 2: the notebook has no input 'regoin': did you mean 'region'?" in done.err


async def test_in_a_pipe_progress_is_a_line_now_and_then(here, fake, monkeypatch):
    monkeypatch.setattr("deepnote_async.cli.progress.UNNOTICED", 0.1)
    monkeypatch.setattr("deepnote_async.cli.progress.LINE", 0.4)
    command = ("run-many", fake.notebook("report").stalls().id, "--grid", "n=1,2", "--timeout", "1.5", "--no-check")
    lines = (await here(*command)).err.splitlines()
    assert re.match(r"0 of 2 ended \(0 succeeded, 0 failed\) · 2 in flight \(.*\) · \S+ of 5.0 requests/s", lines[1])
    assert len(lines) >= 3
    assert (await here(*command, "--quiet")).err == ""


async def test_what_cannot_be_a_ledger_is_wrong_usage(here, fake, tmp_path):
    (tmp_path / "l.sqlite").write_text("no ledger")
    done = await here("run-many", fake.notebook("report").id, "--grid", "n=1", "--ledger", tmp_path / "l.sqlite")
    assert (done.status, done.out) == (2, "")
    assert "l.sqlite" in done.err.splitlines()[-1]
    assert not fake.service.runs


async def test_a_ledger_is_shown(here, fake, tmp_path):
    notebook = fake.notebook("report").fails("X: y", after=1, times=1).succeeds(after=1)
    again = ("run-many", notebook.id, "--grid", "n=1,2", "--ledger", tmp_path / "l.sqlite", "--max-in-flight", 1)
    assert (await here(*again)).status == 1
    assert (await here("ledger", "show", tmp_path / "l.sqlite")).json()[0]["counts"]["failed"] == 1
    assert (await here(*again)).status == 1
    assert len(notebook.runs) == 2
    assert (await here(*again, "--rerun-failed")).status == 0
    assert len(notebook.runs) == 3


async def test_ctrl_c_on_a_terminal_waits_for_what_runs_and_a_second_leaves(terminal, fake, tmp_path):
    notebook = fake.notebook("report").succeeds(after=2, times=2).stalls()
    command = (
        "run-many",
        notebook.id,
        "--grid",
        "n=1,2,3,4,5,6",
        "--max-in-flight",
        3,
        "--ledger",
        tmp_path / "l.sqlite",
    )
    screen = terminal()
    await screen.start(*command)
    await screen.sees(
        r"2 of 6 ended \(2 succeeded, 0 failed\) · 3 in flight \(.*?\) · [\d.]+ of [\d.]+ requests/s · 0 thr"
    )
    screen.type("\x03")
    told = " ".join((await screen.sees(r"(?s)Nothing more is started.*leaves at once")).split())
    assert "Still awaited: 3 runs (" in told
    assert "not started: 1." in told
    assert f"The same command, with --ledger {tmp_path / 'l.sqlite'}, goes on from here." in told
    await asyncio.sleep(0.3)
    screen.type("\x03")
    assert await screen.ends() == 130
    assert "Left. Still going: 3 runs (" in screen.shown
    assert len(notebook.runs) == 5


async def test_ctrl_c_when_all_are_started_is_no_failure_of_theirs(fake, program):
    notebook = fake.notebook("report").succeeds(after=40)
    process = await program.start("run-many", notebook.id, "--grid", "n=1,2", "--no-check")
    await _until(lambda: len(notebook.runs) == 2)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out.count(b"success")) == (0, 2)
    assert b"All are started. Still awaited: 2 runs" in err
    assert b"begins anew" not in err


@pytest.mark.parametrize("how", ["--json", "--table"])
async def test_a_second_ctrl_c_prints_what_ended_and_names_what_goes_on(fake, program, how):
    notebook = fake.notebook("report").succeeds(after=0.1, times=1).stalls()
    process = await program.start("run-many", notebook.id, "--grid", "n=1,2,3,4,5,6,7,8", "--no-check", how)
    await _until(lambda: len(notebook.runs) == 8)
    await asyncio.sleep(3)  # the end of the first is heard of
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
    out, err = (each.decode() for each in await asyncio.wait_for(process.communicate(), 30))
    assert process.returncode == 130
    going = [run.id for run in notebook.runs[1:]]
    assert out.count("success") == 1
    told = re.search("Left. Still going: 7 runs.*`deepnote-async runs wait (.*)` waits for them", err)
    assert told is not None, err
    assert sorted(told[1].split()) == sorted(going)
    if how == "--json":
        left = [record for record in map(json.loads, out.splitlines()) if record["status"] is None]
        assert sorted(record["run_id"] for record in left) == sorted(going)
        assert all(f"runs wait {record['run_id']}" in record["error"] for record in left)


async def test_left_with_starts_on_the_wire_it_says_that_they_may_have_happened(program):
    async def silent(reader, writer):
        with contextlib.closing(writer):
            await reader.read()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        process = await program.start("run-many", "nb", "--grid", "n=1,2", "--no-check", "--base-url", url)
        await asyncio.sleep(2)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.3)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert "Left. 2 starts may have happened: look with `deepnote-async notebooks runs nb`." in err.decode()
    assert len(out.splitlines()) == 2


async def _until(true):
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what another process does sets no event
            await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 2])
async def test_a_batch_of_300_rows_goes_on_where_it_was_left(tmp_path, presses):
    rows = tmp_path / "rows.csv"
    rows.write_text("n,region\n" + "".join(f"{number},{'EU' if number % 2 else 'US'}\n" for number in range(300)))
    async with FakeProcess(median=1.0, sigma=0.3) as service:
        program = Piped(service)
        command = ("run-many", service.notebooks[0], "--inputs", rows, "--ledger", tmp_path / "l.sqlite", "--outputs")
        process = await program.start(*command)
        for _ in range(20):
            await asyncio.wait_for(process.stdout.readline(), 30)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.2)
        _, err = await process.communicate()
        assert process.returncode == 130, err
        assert b"Traceback" not in err
        assert len((await service.stats())["runs"]) < 300
        done = await program(*command)
        assert done.status == 0, done.err
        assert len((await service.stats())["runs"]) == 300
    records = done.json()
    assert sorted(record["index"] for record in records) == list(range(300))
    assert all(echoed(record) == record["inputs"] for record in records)
    assert {record["inputs"]["n"] for record in records} == {str(number) for number in range(300)}
