"""Snapshots: they come after the final status, or never."""

from __future__ import annotations

import asyncio

import pytest
from virtual_world import now, virtual, world

from deepnote_async import NotFoundError, PollPolicy, Run, RunFailedError

DELIVERIES = {"downloadUrl": "snapshot_download_url", "inline": "snapshot_content", "blocks": "snapshot_blocks"}
EVERY = pytest.mark.parametrize(("delivery", "field"), DELIVERIES.items(), ids=DELIVERIES)


def carried(run: Run) -> set[str]:
    return {field for field in DELIVERIES.values() if getattr(run, field)}


@EVERY
@pytest.mark.parametrize("tells", [True, False], ids=["with-status", "without-status"])
@virtual
async def test_a_wait_goes_on_until_a_late_snapshot_comes(delivery, field, tells):
    async with world(snapshot_delay=4, tells_snapshot_status=tells) as w:
        run = w.one(20)
        ended = await w.client.await_run(run.id, snapshot=delivery)
        assert ended.succeeded
        assert carried(ended) == {field}
        assert 24 <= now() < 40


@EVERY
@virtual
async def test_a_listed_end_is_read_once_for_its_snapshot(delivery, field):
    async with world() as w:
        started = await w.start(*[30] * 40)
        ended = await w.client.await_run(started, snapshot=delivery)
        assert all(carried(run) == {field} for run in ended)
        assert [w.reads(run.run_id) for run in started] == [1] * 40
        assert w.listings >= 1


@EVERY
@virtual
async def test_a_failed_run_has_its_snapshot_too(delivery, field):
    async with world(snapshot_delay=4) as w:
        run = w.one(20, status="error")
        with pytest.raises(RunFailedError) as caught:
            await w.client.await_run(run.id, snapshot=delivery, check=True)
        assert carried(caught.value.run) == {field}


@EVERY
@virtual
async def test_a_final_run_is_read_for_the_snapshot_asked_for(delivery, field):
    async with world(snapshot_delay=4) as w:
        known = Run(run_id=w.one(0).id, status="success")
        assert carried(await w.client.await_run(known, snapshot=delivery)) == {field}


@virtual
async def test_a_snapshot_that_never_comes_ends_the_wait_after_snapshot_wait():
    async with world(snapshot_delay=1e6, client={"poll": PollPolicy(snapshot_wait=15)}) as w:
        known = await w.client.await_run(w.one(5).id)
        before, asked = now(), w.requests
        ended = await w.client.await_run(known, snapshot="inline")
        assert ended.succeeded
        assert carried(ended) == set()
        assert ended.snapshot_status == "pending"
        assert 15 <= now() - before < 16
        assert w.requests - asked <= 10


@virtual
async def test_a_snapshot_wait_of_nothing_reads_once():
    async with world(snapshot_delay=1e6, client={"poll": PollPolicy(snapshot_wait=0)}) as w:
        known = await w.client.await_run(w.one(5).id)
        asked = w.requests
        assert carried(await w.client.await_run(known, snapshot="inline")) == set()
        assert w.requests - asked == 1


@EVERY
@virtual
async def test_the_reference_dialect_has_none_and_that_is_no_error(delivery, field):
    async with world(dialect="reference") as w:
        ended = await w.client.await_run(w.one(5).id, snapshot=delivery)
        assert ended.succeeded
        assert carried(ended) == set()
        assert now() < 30


@virtual
async def test_an_unavailable_snapshot_ends_the_wait_at_once():
    async with world() as w:
        empty = w.service.add_notebook(blocks=0)
        known = await w.client.await_run(w.service.add_run(empty, length=5).id)
        before, asked = now(), w.requests
        ended = await w.client.await_run(known, snapshot="blocks")
        assert ended.snapshot_status == "unavailable"
        assert (w.requests - asked, now() - before) == (1, pytest.approx(0.02))


@virtual
async def test_callers_of_different_deliveries_share_the_watch_and_get_a_last_read_each():
    async def alone() -> int:
        async with world() as w:
            await w.client.await_run(w.one(300).id)
            return w.requests

    expected = await alone()
    async with world() as w:
        run = w.one(300)
        waits = [w.client.await_run(run.id, snapshot=delivery) for delivery in (*DELIVERIES, None, "inline")]
        ended = await asyncio.gather(*waits)
        assert [carried(item) for item in ended[:3]] == [{field} for field in DELIVERIES.values()]
        assert carried(ended[4]) == {"snapshot_content"}
        assert w.requests <= expected + 3


@virtual
async def test_a_caller_without_a_snapshot_does_not_wait_for_one():
    async with world(snapshot_delay=8, client={"poll": PollPolicy(maximum=2)}) as w:
        run = w.one(20)
        patient = asyncio.create_task(w.client.await_run(run.id, snapshot="inline"))
        assert (await w.client.await_run(run.id)).succeeded
        told = now()
        assert carried(await patient) == {"snapshot_content"}
        assert told < 28 <= now()


@virtual
async def test_a_deadline_before_the_snapshot_gives_the_run_without_it():
    async with world(snapshot_delay=1e6, client={"poll": PollPolicy(snapshot_wait=100)}) as w:
        run = w.one(5)
        ended = await w.client.await_run(run.id, snapshot="inline", timeout=60)
        assert ended.succeeded
        assert not carried(ended)
        assert now() == pytest.approx(60, abs=1)


@pytest.mark.parametrize("status", [403, 404])
@virtual
async def test_an_end_known_from_a_listing_stands_though_its_snapshot_is_refused(status):
    async with world() as w:
        started = await w.start(*[30] * 30)
        w.refuse("/v2/runs/", status, methods="GET")
        ended = await w.client.await_run(started, snapshot="inline")
        assert all(run.succeeded and not carried(run) for run in ended)


@virtual
async def test_a_snapshot_that_cannot_be_read_does_not_lose_the_end():
    async with world() as w:
        started = await w.start(*[30] * 30)
        w.break_down("html", path="/v2/runs/", methods="GET")
        ended = await w.client.await_run(started, snapshot="inline")
        assert all(run.succeeded for run in ended)
        assert now() < 120


@virtual
async def test_as_completed_and_run_many_bring_snapshots_too():
    async with world(snapshot_delay=4) as w:
        async for run in w.client.as_completed(w.ids(5, 10), snapshot="blocks"):
            assert carried(run) == {"snapshot_blocks"}
        w.notebook.succeeds(after=10)
        async with w.client.run_many([w.notebook.id] * 3, snapshot="inline") as batch:
            assert all(carried(result.unwrap()) == {"snapshot_content"} for result in await batch.collect())
        assert carried(await w.client.run(w.notebook.id, snapshot="downloadUrl")) == {"snapshot_download_url"}


@virtual
async def test_a_run_deleted_before_its_end_was_seen_is_not_found():
    async with world(snapshot_delay=4) as w:
        run = w.one(20)
        waiting = asyncio.create_task(w.client.await_run(run.id, snapshot="inline"))
        await asyncio.sleep(3)
        del w.service.runs[run.id]
        with pytest.raises(NotFoundError):
            await waiting
