"""Batches that keep a ledger, and take it up again, in virtual time."""

from __future__ import annotations

import asyncio
import stat

import pytest
from virtual_world import Fault, now, virtual, world

from deepnote_async import (
    ConfigurationError,
    InvalidRequestError,
    Ledger,
    NotStartedError,
    OutcomeUnknownError,
    RunRequest,
    RunTimeoutError,
)
from deepnote_async.ledger.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "batch.sqlite"


def requests_of(here, numbers):
    return [RunRequest(here.notebook.id, inputs={"number": number}) for number in numbers]


async def run(here, requests, path, **options):
    async with here.client.run_many(requests, ledger=path, **options) as batch:
        return await batch.collect(), batch


def told(results):
    # What else a run had, such as where its snapshot stands, is not in the ledger.
    names = ("run_id", "notebook_id", "status", "created_at", "finished_at", "error")
    return [tuple(getattr(result.run, name) for name in names) for result in results]


async def until(condition):
    while not condition():  # noqa: ASYNC110 - in virtual time it costs nothing
        await asyncio.sleep(0.1)


async def entries(path):
    return [entry async for entry in Ledger.open(path)]


@virtual
async def test_what_has_ended_is_given_from_the_ledger(path):
    async with world() as here:
        first, _ = await run(here, requests_of(here, range(20)), path)
        before = here.requests
        again, batch = await run(here, requests_of(here, range(20)), path)
        assert here.requests == before
        assert told(again) == told(first)
        assert [result.key for result in again] == [result.key for result in first]
        assert batch.stats.succeeded == 20
        assert batch.leftover == []
        assert len(here.service.runs) == 20


@virtual
async def test_a_snapshot_costs_one_read_each(path):
    async with world(snapshot_delay=0.0) as here:
        await run(here, requests_of(here, range(5)), path)
        before = here.reads()
        results, _ = await run(here, requests_of(here, range(5)), path, snapshot="inline")
        assert here.reads() - before == 5
        assert all(result.run.snapshot_content for result in results)


@virtual
async def test_what_was_left_is_awaited_and_the_rest_started(path):
    async with world() as here:
        async with here.client.run_many(requests_of(here, range(30)), ledger=path, max_in_flight=10) as batch:
            async for _ in batch:
                break
        summary = await Ledger.open(path).summary()
        assert summary.total == summary.ended + summary.started + summary.planned
        results, _ = await run(here, requests_of(here, range(30)), str(path))
        assert all(result.ok for result in results)
        assert len(here.service.runs) == here.starts == 30


@virtual
async def test_reordered_and_extended_rows_start_nothing_twice(path):
    async with world() as here:
        numbers = [0, 1, 1, 2, 3]
        await run(here, requests_of(here, numbers), path)
        results, batch = await run(here, requests_of(here, [9, 3, 1, 2, 1, 1]), path)
        assert all(result.ok for result in results)
        assert len(here.service.runs) == 7  # 9 and a third 1
        assert len({result.run_id for result in results}) == 6
        (left,) = batch.leftover
        assert left.run.succeeded
        assert left.index < 0


@virtual
async def test_open_leftovers_are_awaited(path):
    async with world() as here:
        here.notebook.succeeds(after=50.0)
        async with here.client.run_many(requests_of(here, range(3)), ledger=path) as batch:
            await until(lambda: batch.stats.started == 3)
        results, batch = await run(here, requests_of(here, [1]), Ledger(path))
        assert [result.ok for result in results] == [True]
        assert sorted(result.run.status for result in batch.leftover) == ["success", "success"]
        assert now() > 50.0
        assert (await Ledger.open(path).summary()).succeeded == 3


@virtual
async def test_a_start_whose_answer_was_lost_stays_unknown(path):
    async with world(faults=[Fault("drop_after", methods="POST", count=1)]) as here:
        ((first,), _) = await run(here, requests_of(here, [1]), path)
        assert isinstance(first.error, OutcomeUnknownError)
        ((again,), _) = await run(here, requests_of(here, [1]), path)
        assert isinstance(again.error, OutcomeUnknownError)
        assert again.error.window == first.error.window
        assert again.error.request == again.request
        assert len(await here.client.runs.candidates(again.error)) == 1
        ((found,), _) = await run(here, requests_of(here, [1]), path, on_unknown="reconcile")
        assert found.ok
        assert len(here.service.runs) == 1
        (entry,) = await entries(path)
        assert (entry.state, entry.run_id) == ("ended", found.run_id)


@virtual
async def test_a_start_that_never_happened_is_made_when_that_is_certain(path):
    async with world(faults=[Fault("drop_before", methods="POST", count=1)]) as here:
        ((first,), _) = await run(here, requests_of(here, [1]), path)
        assert isinstance(first.error, OutcomeUnknownError)
        before = now()
        results, _ = await run(here, requests_of(here, [2, 1]), path, on_unknown="reconcile")
        assert all(result.ok for result in results)
        assert now() - before > 60.0
        assert len(here.service.runs) == 2


@virtual
async def test_two_unknown_starts_of_one_notebook_are_not_taken_for_each_other(path):
    faults = [Fault("drop_after", methods="POST", count=1), Fault("drop_before", methods="POST", count=1)]
    async with world(faults=faults, latency=0.5) as here:
        results, _ = await run(here, requests_of(here, [1, 2]), path)
        assert all(isinstance(result.error, OutcomeUnknownError) for result in results)
        assert len(here.service.runs) == 1
        results, _ = await run(here, requests_of(here, [1, 2]), path, on_unknown="reconcile")
        assert all(isinstance(result.error, OutcomeUnknownError) for result in results)
        assert len(here.service.runs) == 1


@virtual
async def test_an_unknown_leftover_is_resolved_and_not_started(path):
    async with world(faults=[Fault("drop_before", methods="POST", count=1)]) as here:
        await run(here, requests_of(here, [1]), path)
        results, batch = await run(here, requests_of(here, [2]), path, on_unknown="reconcile")
        assert [result.ok for result in results] == [True]
        (left,) = batch.leftover
        assert isinstance(left.error, NotStartedError)
        assert len(here.service.runs) == 1


@virtual
async def test_failures_are_started_anew_when_asked_for_and_stay_in_the_ledger(path):
    async with world() as here:
        here.notebook.fails("bad cell", times=2).fails(status="internal_error", times=1).succeeds()
        first, _ = await run(here, requests_of(here, range(5)), path)
        assert sum(result.ok for result in first) == 2
        again, _ = await run(here, requests_of(here, range(5)), path)
        assert told(again) == told(first)
        third, _ = await run(here, requests_of(here, range(5)), path, rerun=("error", "internal_error"))
        assert all(result.ok for result in third)
        assert len(here.service.runs) == 8
        written = await entries(path)
        assert sorted(entry.attempt for entry in written) == [1] * 5 + [2] * 3
        assert sum(entry.error == "bad cell" for entry in written) == 2
        summary = await Ledger.open(path).summary()
        assert (summary.succeeded, summary.failed, summary.earlier) == (5, 0, 3)


@virtual
async def test_a_throttled_start_keeps_its_place(path):
    async with world(faults=[Fault("error_before", 0.3, methods="POST", status=429)]) as here:
        results, _ = await run(here, requests_of(here, range(20)), path)
        assert all(result.ok for result in results)
        assert len(here.service.runs) == 20


@virtual
async def test_a_refused_start_is_made_again_next_time(path):
    async with world() as here:
        fault = here.refuse("/v2/runs", 400, methods="POST", count=1)
        ((first,), _) = await run(here, requests_of(here, [1]), path)
        assert first.error.status == 400
        (entry,) = await entries(path)
        assert entry.state == "planned"
        assert "400" in entry.error
        here.service.faults.remove(fault)
        ((again,), _) = await run(here, requests_of(here, [1]), path)
        assert again.ok


@virtual
async def test_a_deadline_leaves_the_runs_started(path):
    async with world() as here:
        here.notebook.succeeds(after=100.0)
        results, _ = await run(here, requests_of(here, range(3)), path, timeout=30.0)
        assert all(isinstance(result.error, RunTimeoutError) for result in results)
        assert (await Ledger.open(path).summary()).started == 3
        results, _ = await run(here, requests_of(here, range(3)), path)
        assert all(result.ok for result in results)
        assert len(here.service.runs) == 3


@virtual
async def test_a_start_on_the_wire_when_its_batch_was_left_is_written_down(path):
    async with world(latency=5.0) as here:
        await here.client.me()
        async with here.client.run_many(requests_of(here, [1]), ledger=path):
            await until(lambda: here.starts)
        await asyncio.sleep(20.0)
        (entry,) = await entries(path)
        assert (entry.state, entry.run_id) == ("started", next(iter(here.service.runs)))
        ((result,), _) = await run(here, requests_of(here, [1]), path)
        assert result.ok


@virtual
async def test_a_batch_taken_up_at_once_waits_for_the_starts_left_on_the_wire(path):
    async with world(latency=5.0) as here:
        await here.client.me()
        async with here.client.run_many(requests_of(here, [1]), ledger=path):
            await until(lambda: here.starts)
        ((result,), _) = await run(here, requests_of(here, [1]), path)
        assert result.ok
        assert result.run_id == next(iter(here.service.runs))
        assert here.starts == 1


@virtual
async def test_a_batch_cancelled_while_its_ledger_closes_leaves_it_whole(path):
    async with world() as here:

        async def whole():
            async with here.client.run_many(requests_of(here, [1]), ledger=path) as batch:
                await batch.collect()
                asyncio.get_running_loop().call_soon(task.cancel)

        for _ in range(5):
            task = asyncio.create_task(whole())
            await asyncio.wait([task])
            ((result,), _) = await run(here, requests_of(here, [1]), path)
            assert result.ok
        assert here.starts == 1


@virtual
async def test_a_disk_that_hangs_as_the_client_closes_cancels_nobody(path, monkeypatch):
    async def hangs(_):
        await asyncio.get_running_loop().create_future()

    async with world() as here:
        batch = here.client.run_many(requests_of(here, [1]), ledger=path)
        await batch.__aenter__()
        await batch.collect()
        writer = batch._fanout._book._writer
        monkeypatch.setattr(type(writer), "close", hangs)
        leaving = asyncio.create_task(batch.__aexit__(None, None, None))
        await asyncio.sleep(0.1)
        await here.client.aclose(grace=0.1)
        assert await asyncio.wait_for(leaving, 10) is None
        writer.shut()


@virtual
async def test_two_requests_under_one_key_are_refused(path):
    async with world() as here:
        one, other = (RunRequest(here.notebook.id, inputs={"n": n}, key="same") for n in (1, 2))
        with pytest.raises(InvalidRequestError, match="same"):
            await run(here, [one, other], path)
        with pytest.raises(InvalidRequestError, match="same"):
            await run(here, [other], path)
        with pytest.raises(InvalidRequestError, match="same"):
            await run(here, [one, one], path)
        ((result,), _) = await run(here, [one], path)
        assert (result.ok, result.key) == (True, "same")
        assert len(here.service.runs) == 1


@virtual
async def test_a_second_batch_on_the_same_ledger_is_refused(path):
    async with world() as here:
        async with here.client.run_many(requests_of(here, [1]), ledger=path) as batch:
            with pytest.raises(ConfigurationError, match="another batch"):
                await run(here, [], path)
            assert len(await batch.collect()) == 1
        await run(here, [], path)


@virtual
async def test_inputs_are_kept_only_when_asked_for(path):
    async with world() as here:
        await run(here, [RunRequest(here.notebook.id, inputs={"who": "a secret name"})], path)
        assert b"secret name" not in path.read_bytes()
        (entry,) = await entries(path)
        assert entry.body is None
        other = path.with_name("other.sqlite")
        request = RunRequest(here.notebook.id, inputs={"who": "a secret name"}, detached=True)
        await run(here, [request], Ledger(other, inputs=True))
        (entry,) = await entries(other)
        assert entry.body == request.body()
        _, batch = await run(here, [], other)
        assert batch.leftover[0].request.body() == request.body()
        for file in (path, other):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


@virtual
async def test_a_cancelled_reader_loses_no_result(path):
    async with world() as here:
        taken = []
        async with here.client.run_many(requests_of(here, range(10)), ledger=path) as batch:
            while True:
                try:
                    async with asyncio.timeout(0.3):
                        taken.append(await anext(batch))
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    break
        assert len({result.run_id for result in taken}) == len(taken) == 10


@virtual
async def test_closing_the_client_leaves_the_ledger_whole(path):
    async with world() as here:
        here.notebook.succeeds(after=1000.0)
        async with here.client.run_many(requests_of(here, range(5)), ledger=path) as batch:
            await until(lambda: batch.stats.started == 5)
            await here.client.aclose()
        assert (await Ledger.open(path).summary()).started == 5


class Full:
    """A disk with room for so many writes only."""

    def __init__(self, monkeypatch, room):
        self.room = room
        put = Store.put

        def limited(store, rows):
            self.room -= 1
            pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
            store._connection.execute(f"PRAGMA max_page_count = {pages if self.room < 0 else 10**9}")
            # More than any page in use has room for.
            put(store, rows if self.room >= 0 else [(*each[:-1], "x" * 10_000) for each in rows])

        monkeypatch.setattr(Store, "put", limited)


@pytest.mark.parametrize("room", [0, 1, 2, 3, 5, 8, 13, 21])
def test_with_the_disk_full_at_any_write_no_start_leaves_without_its_intent(path, monkeypatch, room):
    batch_on_a_full_disk(path, Full(monkeypatch, room))


async def gather(here, path, results):
    async with here.client.run_many(requests_of(here, range(20)), ledger=path, on_unknown="reconcile") as batch:
        async for result in batch:
            results.append(result)


@virtual
async def batch_on_a_full_disk(path, disk):
    async with world() as here:
        results = []
        with pytest.raises(ConfigurationError, match="disk is full"):
            await gather(here, path, results)
        intended = [entry for entry in await entries(path) if entry.state != "planned"]
        assert here.starts <= len(intended)
        # What was started is awaited and told all the same.
        assert sum(result.ok for result in results) == here.starts
        assert all(result.ok or isinstance(result.error, NotStartedError) for result in results)
        disk.room = 10**9
        results, _ = await run(here, requests_of(here, range(20)), path, on_unknown="reconcile")
        assert all(result.ok for result in results)
        assert {result.run_id for result in results} == here.service.runs.keys()
        assert len(here.service.runs) == 20


@virtual
async def test_rerun_says_what_is_wrong(path):
    async with world() as here:
        for wrong in (
            {"rerun": "error", "ledger": path},
            {"rerun": ("success",), "ledger": path},
            {"rerun": ("error",)},
        ):
            with pytest.raises(InvalidRequestError, match="rerun"):
                here.client.run_many([], **wrong)
        for ledger in (5, b"x", ""):
            with pytest.raises(InvalidRequestError, match="ledger"):
                here.client.run_many([], ledger=ledger)
