"""The deadline of a batch: nothing is raised, and everything read is accounted for."""

from __future__ import annotations

import asyncio

import pytest
from virtual_world import cancelled, now, only, virtual, world

from deepnote_async import (
    NotStartedError,
    OutcomeUnknownError,
    PollPolicy,
    RunTimeoutError,
    TokenBucket,
)


@virtual
async def test_open_requests_end_as_timeouts_with_their_run_ids():
    async with world() as w:
        w.notebook.succeeds(after=20, times=3)
        w.notebook.stalls()
        async with w.client.run_many([w.notebook.id] * 8, timeout=60) as batch:
            results = await batch.collect()
        assert now() == pytest.approx(60)
        assert [result.ok for result in results] == [True] * 3 + [False] * 5
        for result in results[3:]:
            error = only(result.error, RunTimeoutError)
            assert (error.run_id, error.status) == (result.run_id, "running")
        late = [result.run_id for result in results[3:]]
        assert late == [result.run_id for result in batch.unfinished]
        assert w.client.stats().watched_runs == 0


@virtual
async def test_read_but_unstarted_ones_were_not_started_and_unread_ones_stay_unread():
    async with world(client={"rate_limiter": TokenBucket(0.1, 2, adaptive=False)}) as w:
        w.notebook.stalls()
        read = 0

        def requests():
            nonlocal read
            while True:
                read += 1
                yield w.notebook.id

        async with w.client.run_many(requests(), max_in_flight=10, timeout=15) as batch:
            results = await batch.collect()
        assert now() == pytest.approx(15)
        assert len(results) == read <= 10
        started = [result for result in results if result.run_id is not None]
        assert {result.run_id for result in started} == {run.id for run in w.notebook.runs}
        assert {type(result.error) for result in started} == {RunTimeoutError}
        rest = [result for result in results if result.run_id is None]
        assert rest
        assert {type(result.error) for result in rest} == {NotStartedError}
        assert all(result.error.out_of_time for result in rest)


@virtual
async def test_a_start_on_the_wire_is_of_unknown_outcome_and_is_listed_when_its_answer_comes(caplog):
    async with world(latency=8) as w:
        async with w.client.run_many([w.notebook.id] * 3, timeout=5) as batch:
            results = await batch.collect()
            assert now() == 5
            for result in results:
                error = only(result.error, OutcomeUnknownError)
                assert (error.notebook_id, error.request) == (w.notebook.id, result.request)
                only(error.cause, RunTimeoutError)
            assert batch.unfinished == []
        await asyncio.sleep(10)
        assert sorted(result.run_id for result in batch.unfinished) == sorted(run.id for run in w.notebook.runs)
        assert len(caplog.records) == 3
        for run in w.notebook.runs:
            assert sum(run.id in record.message for record in caplog.records) == 1
        assert w.starts == 3


@virtual
async def test_a_start_on_the_wire_that_breaks_afterwards_is_listed_as_unknown(caplog):
    async with world(latency=8) as w:
        w.break_down("drop_after", methods="POST")
        async with w.client.run_many([w.notebook.id], timeout=5) as batch:
            await batch.collect()
        await asyncio.sleep(10)
        (left,) = batch.unfinished
        assert (left.run_id, type(left.error)) == (None, OutcomeUnknownError)
        assert len(caplog.records) == 1


@virtual
async def test_a_start_on_the_wire_that_was_refused_afterwards_leaves_nothing(caplog):
    async with world(latency=8) as w:
        w.refuse("/v2/runs", 429, methods="POST", count=1)
        w.refuse("/v2/runs", 400, methods="POST", count=1)
        w.break_down("refuse", methods="POST", count=1)
        async with w.client.run_many([w.notebook.id] * 3, timeout=5) as batch:
            results = await batch.collect()
        await asyncio.sleep(10)
        assert (len(results), batch.unfinished, w.starts, len(caplog.records)) == (3, [], 3, 0)


@virtual
async def test_last_looks_catch_runs_that_ended_just_before_the_deadline():
    async with world(client={"poll": PollPolicy(initial=25, maximum=30)}) as w:
        w.notebook.succeeds(after=59.6)
        async with w.client.run_many([w.notebook.id] * 30, timeout=60) as batch:
            results = await batch.collect()
        assert all(result.ok for result in results)


@virtual
async def test_a_timeout_of_nothing_starts_nothing_for_certain():
    async with world() as w:
        async with w.client.run_many([w.notebook.id] * 3, timeout=0) as batch:
            results = await batch.collect()
        assert now() == 0
        assert len(results) <= 3
        assert not any(result.ok for result in results)
        await asyncio.sleep(5)
        assert len(batch.unfinished) == w.starts == len(w.notebook.runs)


@virtual
async def test_results_unread_at_the_deadline_are_still_there():
    async with world() as w:
        w.notebook.succeeds(after=5, times=2)
        w.notebook.stalls()
        async with w.client.run_many([w.notebook.id] * 4, timeout=30) as batch:
            await asyncio.sleep(500)
            results = await batch.collect()
        assert [result.ok for result in results] == [True, True, False, False]


@virtual
async def test_a_batch_that_ends_before_its_deadline_leaves_no_timer():
    async with world() as w:
        w.notebook.succeeds(after=5)
        async with w.client.run_many([w.notebook.id] * 4, timeout=5000) as batch:
            assert len(await batch.collect()) == 4
        loop = asyncio.get_running_loop()
        assert not any(timer.when() == pytest.approx(5000) for timer in loop._scheduled if not timer.cancelled())


@virtual
async def test_an_outage_at_the_deadline_leaves_the_rest_not_started():
    async with world() as w:
        w.service.outage()
        async with w.client.run_many([w.notebook.id] * 20, max_in_flight=5, timeout=100) as batch:
            results = await batch.collect()
        assert now() == pytest.approx(100)
        assert {type(result.error) for result in results} == {NotStartedError}
        assert w.notebook.runs == []


@virtual
async def test_an_iterable_that_hangs_does_not_hold_up_the_deadline():
    async with world() as w:
        w.notebook.succeeds(after=5)

        async def requests():
            yield w.notebook.id
            await asyncio.sleep(1e6)

        async with w.client.run_many(requests(), timeout=50) as batch:
            assert [result.ok for result in await batch.collect()] == [True]
        assert now() == pytest.approx(50)


@virtual
async def test_cancelled_at_its_deadline_it_leaks_nothing():
    async with world(latency=0.5) as w:

        async def work() -> None:
            async with w.client.run_many([w.notebook.id] * 50, max_in_flight=5, timeout=10) as batch:
                await batch.collect()

        for moment in (9.5, 9.75, 9.9, 9.999):
            working = asyncio.create_task(work())
            await asyncio.sleep(moment)
            await cancelled(working)
