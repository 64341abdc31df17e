"""Starts in an outage: held back, never repeated, none forgotten."""

from __future__ import annotations

import asyncio
import collections

import pytest
from virtual_world import now, only, virtual, world

from deepnote_async import (
    NotStartedError,
    OutcomeUnknownError,
    PollPolicy,
    RateLimitError,
    TransportError,
)

HOLDING = [
    {"kind": "refuse"},
    {"kind": "drop_before"},
    {"kind": "drop_after"},
    {"kind": "error_before", "status": 503},
    {"kind": "error_after", "status": 500},
    {"kind": "html"},
    {"kind": "hang_after"},
    {"kind": "truncated"},
]
EVERY = pytest.mark.parametrize("broken", HOLDING, ids=lambda broken: broken["kind"])


async def batch_of(w, number: int, **options):
    async with w.client.run_many([w.notebook.id] * number, **options) as batch:
        return await batch.collect()


@EVERY
@virtual
async def test_a_start_that_breaks_holds_further_starts_until_a_read_succeeds(broken):
    """At most those on the wire when it broke are POSTed during the outage."""
    async with world() as w:
        w.notebook.succeeds(after=30)
        faults = [w.break_down(**broken)]
        collecting = asyncio.create_task(batch_of(w, 60, max_in_flight=5))
        await asyncio.sleep(600)
        assert w.starts <= 5
        w.service.faults.remove(faults[0])
        results = await collecting
        unknown = [result for result in results if isinstance(result.error, OutcomeUnknownError)]
        good = [result for result in results if result.ok]
        assert len(unknown) + len(good) == 60
        assert (broken["kind"] == "refuse") == (not unknown)
        assert len(unknown) <= 5
        started = {run.id for run in w.notebook.runs}
        assert {result.run_id for result in good} <= started
        assert len(started) <= 60


@EVERY
@virtual
async def test_one_start_that_breaks_costs_the_others_nothing(broken):
    async with world() as w:
        w.notebook.succeeds(after=30)
        w.break_down(**broken, methods="POST", count=1)
        results = await batch_of(w, 30, max_in_flight=5)
        errors = [result.error for result in results if result.error is not None]
        if broken["kind"] == "refuse":
            assert errors == []
        else:
            (error,) = errors
            only(error, OutcomeUnknownError)
        assert now() < 500


@virtual
async def test_with_no_look_due_one_is_made_of_a_page_of_the_notebook():
    async with world() as w:
        w.break_down("refuse", methods="POST", count=1)
        w.notebook.succeeds(after=5)
        await batch_of(w, 1)
        calls = [(call.method, call.path, call.query) for call in w.service.calls[:3]]
        assert calls == [
            ("POST", "/v2/runs", ""),
            ("GET", f"/v2/notebooks/{w.notebook.id}/runs", "pageSize=1"),
            ("POST", "/v2/runs", ""),
        ]


@virtual
async def test_a_listing_that_is_refused_shows_that_the_service_is_there():
    async with world() as w:
        w.break_down("refuse", methods="POST", count=1)
        w.refuse("/v2/notebooks/", 404)
        w.notebook.succeeds(after=5)
        results = await batch_of(w, 5)
        assert all(result.ok for result in results)


@virtual
async def test_a_read_throttled_during_the_hold_says_nothing():
    async with world() as w:
        fault = w.break_down("drop_before", methods="POST")
        throttle = w.refuse("/v2/notebooks/", 429)
        collecting = asyncio.create_task(batch_of(w, 20, max_in_flight=4))
        await asyncio.sleep(300)
        assert w.starts <= 4
        w.service.faults.remove(fault)
        w.service.faults.remove(throttle)
        results = await collecting
        assert sum(result.ok for result in results) >= 16


@virtual
async def test_an_outage_of_ten_minutes_is_survived_with_everything_accounted():
    async with world() as w:
        w.notebook.succeeds(after=45)
        w.service.outage(60, 660)
        before = collections.Counter()
        collecting = asyncio.create_task(batch_of(w, 300, max_in_flight=50))
        await asyncio.sleep(61)
        before["starts"], before["all"] = w.starts, w.requests
        await asyncio.sleep(598)
        assert w.starts - before["starts"] <= 50
        assert w.requests - before["all"] < 250
        results = await collecting
        assert sum(result.ok for result in results) == 300
        assert len(w.notebook.runs) == 300


@virtual
async def test_an_outage_that_never_ends_gives_up_in_the_end():
    async with world(client={"poll": PollPolicy(give_up_after=900)}) as w:
        w.service.outage()
        results = await batch_of(w, 20, max_in_flight=5)
        assert 900 <= now() < 1200
        assert len(results) == 20
        for result in results:
            only(only(result.error, NotStartedError).cause, TransportError)
        assert w.starts <= 20


@virtual
async def test_a_certificate_that_is_refused_is_not_tried_again():
    async with world() as w:
        send = w.transport.inner.send

        class Refusing:
            posts = 0

            async def send(self, request):
                if request.method == "POST":
                    self.posts += 1
                    raise TransportError("certificate verify failed", sent=False, retryable=False)
                return await send(request)

        w.transport.inner = Refusing()
        results = await batch_of(w, 3)
        assert [type(result.error) for result in results] == [NotStartedError] * 3
        assert w.transport.inner.posts == 3


@pytest.mark.parametrize("seed", range(6))
@virtual
async def test_nothing_is_started_twice_under_faults(seed):
    async with world(seed=seed, median=20, failures=0.1) as w:
        for kind in ("refuse", "drop_before", "drop_after", "error_before", "error_after", "html", "hang_after"):
            w.break_down(kind, rate=0.03)
        w.refuse("", 429, rate=0.05, headers={"Retry-After": "1"})
        async with w.client.run_many([w.notebook.id] * 80, max_in_flight=20) as batch:
            results = await batch.collect()
        assert [result.index for result in results] == list(range(80))
        known = [result.run_id for result in results if result.run_id is not None]
        unknown = [result for result in results if isinstance(result.error, OutcomeUnknownError)]
        assert len(set(known)) == len(known)
        assert len(known) + len(unknown) == 80
        strangers = {run.id for run in w.notebook.runs} - set(known)
        assert set(known) <= w.service.runs.keys()
        assert len(strangers) <= len(unknown)
        for result in results:
            if result.run is not None:
                assert result.run.status == w.service.runs[result.run_id].final
            assert not isinstance(result.error, RateLimitError)
        assert batch.unfinished == []


@virtual
async def test_candidates_find_what_an_unknown_start_has_become():
    async with world() as w:
        await w.client.me()
        w.break_down("error_after", methods="POST", count=2)
        results = await batch_of(w, 10, max_in_flight=2)
        unknown = [result.error for result in results if isinstance(result.error, OutcomeUnknownError)]
        known = {result.run_id for result in results}
        found = {run.run_id for error in unknown for run in await w.client.runs.candidates(error)}
        assert found == {run.id for run in w.notebook.runs} - known
        assert len(found) == len(unknown) == 2
