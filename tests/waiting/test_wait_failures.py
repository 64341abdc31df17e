"""Looks that fail: what ends a wait, and what it rides out."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re

import pytest
from virtual_world import freely, now, virtual, world

from deepnote_async import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    PollPolicy,
    RunStarted,
    RunTimeoutError,
    ServerError,
    TransportError,
)
from deepnote_async.errors import DeepnoteError

NOBODY = "00000000-0000-4000-8000-000000000000"


# What ends a wait.


@virtual
async def test_404_of_a_single_read_ends_a_wait():
    async with world() as w:
        with pytest.raises(NotFoundError):
            await w.client.await_run(NOBODY)
        assert (w.requests, now()) == (1, pytest.approx(0.02))


@virtual
async def test_404_of_a_run_seen_before_ends_a_wait():
    async with world() as w:
        run = w.one(1e9)
        waiting = asyncio.create_task(w.client.await_run(run.id))
        await asyncio.sleep(60)
        del w.service.runs[run.id]
        w.notebook.runs.clear()
        with pytest.raises(NotFoundError):
            await waiting
        assert now() < 180


@virtual
async def test_404_of_our_own_start_is_borne_for_a_while():
    async with world() as w:
        (started,) = await w.start(60)
        run = w.service.runs.pop(started.run_id)
        w.notebook.runs.clear()
        waiting = asyncio.create_task(w.client.await_run(started))
        await asyncio.sleep(25)
        assert w.requests > 3
        w.service.runs[run.id] = run
        assert (await waiting).succeeded


@pytest.mark.parametrize("ref", [lambda started: started, lambda started: started.run_id])
@virtual
async def test_404_of_our_own_start_ends_a_wait_after_visible_after(ref):
    async with world() as w:
        (started,) = await w.start(1e9)
        w.service.runs.clear()
        w.notebook.runs.clear()
        with pytest.raises(NotFoundError):
            await w.client.await_run(ref(started))
        assert 30 <= now() < 75


@virtual
async def test_404_of_a_start_of_long_ago_is_not_borne():
    async with world() as w:
        (started,) = await w.start(1e9)
        await asyncio.sleep(100)
        w.service.runs.clear()
        w.notebook.runs.clear()
        asked = w.reads()
        with pytest.raises(NotFoundError):
            await w.client.await_run(started.run_id)
        assert w.reads() - asked == 1


@virtual
async def test_401_of_a_fixed_key_ends_a_wait():
    async with world() as w:
        waiting = asyncio.create_task(w.client.await_run(w.one(1e9).id))
        await asyncio.sleep(60)
        w.service.revoke_token(w.service.token)
        with pytest.raises(AuthenticationError):
            await waiting
        assert now() < 180


@virtual
async def test_401_ends_a_wait_only_after_the_provider_was_asked():
    async with world() as w:
        asked = []

        def provider() -> str:
            asked.append(now())
            return keys[-1]

        keys = [w.service.token]
        view = w.client.with_options(token=provider)
        w.service.add_token("second")
        waiting = asyncio.create_task(view.await_run(w.one(300).id))
        await asyncio.sleep(60)
        w.service.revoke_token(w.service.token)
        keys.append("second")
        assert (await waiting).succeeded
        before = len(asked)
        w.service.revoke_token("second")
        with pytest.raises(AuthenticationError):
            await view.await_run(w.one(300).id)
        assert len(asked) == before + 2


@virtual
async def test_403_ends_a_wait():
    async with world() as w:
        w.refuse("/v2/runs/", 403)
        with pytest.raises(PermissionDeniedError):
            await w.client.await_run(w.one(5).id)
        assert w.requests == 1


@virtual
async def test_an_id_the_service_refuses_ends_a_wait():
    async with world() as w:
        w.refuse("/v2/runs/", 400)
        with pytest.raises(BadRequestError):
            await w.client.await_run("what-is-this")


@virtual
async def test_a_provider_that_breaks_ends_every_wait():
    async with world() as w:

        def provider() -> str:
            raise KeyError("vault")

        view = w.client.with_options(token=provider)
        with pytest.raises(DeepnoteError):
            await view.await_run(w.one(5).id)


@virtual
async def test_a_limiter_that_breaks_ends_every_wait(caplog):
    class Broken:
        async def acquire(self) -> None:
            raise KeyError("redis")

        def answered(self, status, headers) -> None:
            pass

    async with world(client={"rate_limiter": Broken()}) as w:
        with pytest.raises(ConfigurationError, match="rate limiter failed"):
            await w.client.await_run(w.one(5).id)


# What it rides out.


BROKEN = [
    {"kind": "error_before", "status": 500},
    {"kind": "error_before", "status": 503, "html": True},
    {"kind": "drop_after"},
    {"kind": "refuse"},
    {"kind": "html"},
    {"kind": "truncated"},
    {"kind": "hang"},
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: "-".join(map(str, broken.values())))
@virtual
async def test_a_failed_look_does_not_end_a_wait(broken):
    async with world() as w:
        w.break_down(**broken, count=4)
        runs = w.ids(30, 40)
        assert all(run.succeeded for run in await w.client.await_run(runs))
        assert now() < 300


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: "-".join(map(str, broken.values())))
@virtual
async def test_unbroken_failure_ends_it_after_give_up_after(broken):
    poll = PollPolicy(give_up_after=900)
    async with world(client={"poll": poll}) as w:
        run = w.one(1e9)
        waiting = asyncio.create_task(w.client.await_run(run.id))
        await asyncio.sleep(50)
        w.break_down(**broken)
        with pytest.raises((ServerError, TransportError, DecodeError)):
            await waiting
        assert 900 <= now() < 1080


@virtual
async def test_failures_broken_by_an_answer_count_from_anew():
    async with world(client={"poll": PollPolicy(give_up_after=300)}) as w:
        run = w.one(3000)
        waiting = asyncio.create_task(w.client.await_run(run.id))
        while now() < 3000:
            fault = w.break_down("refuse")
            await asyncio.sleep(220)
            w.service.faults.remove(fault)
            await asyncio.sleep(70)
        assert (await waiting).succeeded


@virtual
async def test_a_run_added_in_an_outage_is_given_its_own_time():
    async with world(client={"poll": PollPolicy(give_up_after=600)}) as w:
        w.break_down("refuse")
        early = asyncio.create_task(w.client.await_run(w.one(5).id))
        await asyncio.sleep(500)
        late = asyncio.create_task(w.client.await_run(w.one(5).id))
        with pytest.raises(TransportError):
            await early
        assert now() < 700
        with pytest.raises(TransportError):
            await late
        assert 1100 <= now() < 1200


@virtual
async def test_failed_looks_are_made_ever_more_rarely():
    async with world() as w:
        runs = w.ids(*[1e9] * 200)
        waiting = asyncio.create_task(w.client.await_run(runs, timeout=2000))
        await asyncio.sleep(100)
        before = w.requests
        w.break_down("refuse")
        with pytest.raises(RunTimeoutError):
            await waiting
        # One look at a time, each `maximum` (30 s) after the one before: not one for every run.
        assert w.requests - before < 200 + 100


@pytest.mark.parametrize("kind", ["refuse", "hang", "html"])
@virtual
async def test_waits_go_on_through_an_outage_of_ten_minutes_and_end_right(kind, caplog):
    async with world() as w:
        runs = [*w.add(*range(30, 1230, 12)), *w.add(50, 700, status="error")]
        waiting = asyncio.create_task(w.client.await_run([run.id for run in runs]))
        await asyncio.sleep(60)
        w.service.outage(0, 600, kind)
        before = w.requests
        await asyncio.sleep(600)
        assert w.requests - before < 150
        ended = await waiting
        assert [(run.run_id, run.status) for run in ended] == [(run.id, run.final) for run in runs]
        assert now() < 1300
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert 1 <= len(told) <= 11
        assert all(re.search(r"no look at the \d+ awaited runs has succeeded for \d+ s", r.message) for r in told)
        times = [int(re.search(r"for (\d+) s", record.message)[1]) for record in told]
        assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))


@virtual
async def test_an_hour_of_nothing_but_429_is_survived():
    async with world(client={"rate_limiter": None}) as w:
        runs = w.ids(10, 20, 30)
        w.break_down("error_before", status=429, headers={"Retry-After": "60"})
        waiting = asyncio.create_task(w.client.await_run(runs))
        await asyncio.sleep(3600)
        assert w.requests < 200
        w.service.faults.clear()
        assert all(run.succeeded for run in await waiting)
        assert now() < 3800


# Listings.


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500, 401])
@virtual
async def test_a_listing_that_is_refused_ends_nothing_and_costs_requests_only(status):
    async with world(client={"rate_limiter": freely()}) as w:
        w.refuse("/v2/notebooks/", status, methods="GET")
        started = await w.start(*[30 + number for number in range(40)])
        ended = await w.client.await_run(started)
        assert [run.run_id for run in ended] == [run.run_id for run in started]
        assert all(run.succeeded for run in ended)
        assert w.listings >= 1
        assert now() < 140
        assert w.requests < 40 * 30


@virtual
async def test_listings_that_cannot_be_read_cost_requests_only():
    async with world() as w:
        w.break_down("html", path="/v2/notebooks/")
        started = await w.start(*[30 + number for number in range(40)])
        assert all(run.succeeded for run in await w.client.await_run(started))


@virtual
async def test_runs_that_a_listing_lacks_are_read_singly():
    async with world() as w:
        started = await w.start(*[40 + number for number in range(30)])
        hidden = {started[number].run_id for number in range(0, 30, 3)}
        w.notebook.runs[:] = [run for run in w.notebook.runs if run.id not in hidden]
        ended = await w.client.await_run(started)
        assert all(run.succeeded for run in ended)
        assert w.listings >= 1
        assert all(w.reads(run_id) >= 1 for run_id in hidden)


@virtual
async def test_a_notebook_deleted_under_its_runs_costs_requests_only():
    async with world() as w:
        started = await w.start(*[40 + number for number in range(30)])
        waiting = asyncio.create_task(w.client.await_run(started))
        await asyncio.sleep(20)
        w.service.remove_notebook(w.notebook)
        assert all(run.succeeded for run in await waiting)


@pytest.mark.parametrize("dialect", ["live", "reference"])
@virtual
async def test_page_tokens_that_expire_cost_requests_only(dialect):
    async with world(token_ttl=3.0, dialect=dialect) as w:
        started = await w.start(*[30 + number / 4 for number in range(250)])
        ended = await w.client.await_run(started)
        assert all(run.succeeded for run in ended)
        assert now() < 180


@virtual
async def test_a_listed_success_is_final_without_a_read():
    async with world() as w:
        started = await w.start(*[30] * 60)
        ended = await w.client.await_run(started)
        assert all(run.succeeded and run.notebook_id == w.notebook.id for run in ended)
        assert (w.listings >= 1, w.reads()) == (True, 0)


@virtual
async def test_a_listed_failure_is_read_once_for_its_error():
    async with world() as w:
        started = await w.start(*[30] * 50)
        w.notebook.fails("it broke", after=30)
        started += [await w.client.runs.create(w.notebook.id) for _ in range(10)]
        ended = await w.client.await_run(started)
        assert [run.error for run in ended] == [None] * 50 + ["it broke"] * 10
        assert [w.reads(run.run_id) for run in started] == [0] * 50 + [1] * 10


@virtual
async def test_a_listed_failure_whose_read_is_refused_is_told_as_listed():
    async with world() as w:
        started = await w.start(*[30] * 30)
        w.notebook.fails("it broke", after=30)
        started.append(await w.client.runs.create(w.notebook.id))
        w.refuse("/v2/runs/", 404, methods="GET")
        ended = await w.client.await_run(started)
        assert (ended[-1].status, ended[-1].error) == ("error", None)


@virtual
async def test_a_run_of_the_future_is_awaited_like_any_other():
    async with world() as w:
        run = w.one(30)
        w.transport.change = lambda _, body: body["run"].update(createdAt="2999-01-01T00:00:00Z")
        assert (await w.client.await_run(run.id)).run_id == run.id
        w.transport.change = lambda _, body: body["run"].update(createdAt=None, completedAt=None)
        assert (await w.client.await_run(RunStarted(run_id=w.one(30).id))).succeeded
