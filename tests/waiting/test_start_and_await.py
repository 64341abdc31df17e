"""``client.run``: a start and its wait in one, under one timeout."""

from __future__ import annotations

import asyncio

import pytest
from virtual_world import cancelled, now, only, virtual, world

from deepnote_async import (
    BadRequestError,
    ClientClosedError,
    InvalidRequestError,
    NotStartedError,
    OutcomeUnknownError,
    RunFailedError,
    RunRequest,
    RunTimeoutError,
    TokenBucket,
)


@pytest.mark.parametrize("dialect", ["live", "reference"])
@virtual
async def test_it_starts_once_and_comes_back_with_the_end(dialect):
    async with world(dialect=dialect) as w:
        w.notebook.succeeds(after=20)
        run = await w.client.run(w.notebook.id, inputs={"year": 2024})
        assert (run.succeeded, run.notebook_id) == (True, w.notebook.id)
        (state,) = w.notebook.runs
        assert (state.id, dict(state.inputs)) == (run.run_id, {"year": "2024"})
        assert (await w.client.run(RunRequest(w.notebook.id, detached=True))).succeeded
        assert w.starts == 2


@virtual
async def test_a_failed_run_is_a_result_unless_checked():
    async with world() as w:
        w.notebook.fails("it broke", after=5)
        assert (await w.client.run(w.notebook.id)).error == "it broke"
        with pytest.raises(RunFailedError, match="it broke"):
            await w.client.run(w.notebook.id, check=True)


@virtual
async def test_what_cannot_be_is_refused_before_anything_is_started():
    async with world() as w:
        for wrong in ({"timeout": -1}, {"snapshot": "pdf"}, {"inputs": {"a": None}}):
            with pytest.raises(InvalidRequestError):
                await w.client.run(w.notebook.id, **wrong)
        with pytest.raises(InvalidRequestError, match="set them in the request"):
            await w.client.run(RunRequest(w.notebook.id), detached=True)
        assert w.requests == 0


@virtual
async def test_one_timeout_is_for_both_the_start_and_the_wait():
    async with world(latency=5) as w:
        w.notebook.stalls()
        with pytest.raises(RunTimeoutError) as caught:
            await w.client.run(w.notebook.id, timeout=60)
        assert now() == pytest.approx(60)
        assert caught.value.run_id == w.notebook.runs[0].id


@virtual
async def test_a_deadline_that_passes_before_sending_is_not_started():
    async with world(client={"rate_limiter": TokenBucket(0.01, 1, adaptive=False)}) as w:
        await w.client.me()
        with pytest.raises(NotStartedError):
            await w.client.run(w.notebook.id, timeout=10)
        assert (now(), w.starts) == (pytest.approx(10.02), 0)


@virtual
async def test_a_deadline_that_passes_after_sending_is_of_unknown_outcome():
    async with world(latency=4) as w:
        await w.client.me()  # from here on it knows the server's time
        with pytest.raises(OutcomeUnknownError) as caught:
            await w.client.run(w.notebook.id, timeout=3)
        assert (now(), len(w.notebook.runs)) == (7, 1)
        assert caught.value.notebook_id == w.notebook.id
        assert [run.run_id for run in await w.client.runs.candidates(caught.value)] == [w.notebook.runs[0].id]


@virtual
async def test_a_deadline_that_passes_after_the_start_tells_the_run():
    async with world() as w:
        w.notebook.stalls()
        with pytest.raises(RunTimeoutError) as caught:
            await w.client.run(w.notebook.id, timeout=10)
        assert (caught.value.run_id, caught.value.status) == (w.notebook.runs[0].id, "running")


@virtual
async def test_cancelled_while_waiting_one_warning_names_the_run(caplog):
    async with world() as w:
        w.notebook.succeeds(after=60)
        running = asyncio.create_task(w.client.run(w.notebook.id))
        await asyncio.sleep(10)
        await cancelled(running)
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert w.notebook.runs[0].id in record.message
        assert (await w.client.await_run(w.notebook.runs[0].id)).succeeded


@virtual
async def test_cancelled_while_it_is_started_the_start_goes_on_and_one_warning_names_the_run(caplog):
    async with world(latency=3) as w:
        running = asyncio.create_task(w.client.run(w.notebook.id))
        await asyncio.sleep(1)
        await cancelled(running)
        assert caplog.records == []
        await asyncio.sleep(5)
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert w.notebook.runs[0].id in record.message


@virtual
async def test_a_timeout_logs_nothing(caplog):
    async with world() as w:
        w.notebook.stalls()
        with pytest.raises(RunTimeoutError):
            await w.client.run(w.notebook.id, timeout=60)
        assert caplog.records == []


@virtual
async def test_cancelled_before_it_was_sent_nothing_is_started(caplog):
    async with world(client={"rate_limiter": TokenBucket(0.01, 1, adaptive=False)}) as w:
        await w.client.me()
        running = asyncio.create_task(w.client.run(w.notebook.id))
        await asyncio.sleep(1)
        await cancelled(running)
        assert (w.starts, caplog.records) == (0, [])


@virtual
async def test_a_notebook_that_is_not_there_is_told_at_once():
    async with world() as w:
        with pytest.raises(BadRequestError, match="Notebook not found"):
            await w.client.run("nobody")


@virtual
async def test_closing_the_client_ends_it_at_once():
    async with world() as w:
        w.notebook.stalls()
        running = asyncio.create_task(w.client.run(w.notebook.id))
        await asyncio.sleep(10)
        await w.client.aclose()
        (outcome,) = await asyncio.gather(running, return_exceptions=True)
        only(outcome, ClientClosedError)
        assert now() == 10
