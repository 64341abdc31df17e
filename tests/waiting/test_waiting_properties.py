"""What holds of every wait, whatever the runs, the listings and the faults are like."""

from __future__ import annotations

import asyncio
import collections
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_world import World, now, virtual, world

from deepnote_async import OutcomeUnknownError, PollPolicy, Run, TokenBucket

lengths = st.lists(st.floats(0.0, 400.0), min_size=1, max_size=60)
finals = st.sampled_from(["success", "success", "success", "error", "stopped", "internal_error"])
services = st.fixed_dictionaries(
    {
        "order": st.sampled_from(["newest", "oldest", "random"]),
        "page_tokens": st.sampled_from(["cursor", "offset"]),
        "token_ttl": st.sampled_from([None, 0.5, 5.0, 60.0]),
        "dialect": st.sampled_from(["live", "reference"]),
        "startup": st.sampled_from([0.0, 3.0]),
        "seed": st.integers(0, 10**6),
        "latency": st.sampled_from([0.001, 0.05, 0.5]),
    }
)
KINDS = ["refuse", "drop_before", "drop_after", "error_before", "error_after", "html", "truncated", "hang", "delay"]
faults = st.dictionaries(st.sampled_from(KINDS), st.floats(0.01, 0.15), max_size=4)


@attrs.frozen
class Foreign:
    """Runs of others on the notebook: before ours, among them, and long ended."""

    before: int
    among: int

    def add(self, w: World) -> None:
        for number in range(self.before):
            w.one(40, created_at=w.service.clock() - 10 * number)

    def come(self, w: World) -> None:
        for _ in range(self.among):
            w.one(60)


foreign = st.builds(Foreign, st.sampled_from([0, 3, 90, 250]), st.sampled_from([0, 0, 1, 7]))


async def our_runs(w: World, wanted: list[float], kind: str, others: Foreign, pace: float) -> list[Any]:
    others.add(w)
    refs = []
    for length in wanted:
        others.come(w)
        if kind == "ours":
            refs += await w.start(length)
        else:
            refs.append(w.one(length).id)
        await asyncio.sleep(pace)
    return refs


@settings(max_examples=40)
@given(
    wanted=lengths,
    options=services,
    others=foreign,
    kind=st.sampled_from(["ours", "theirs"]),
    pace=st.sampled_from([0.0, 0.5]),
    final=finals,
)
@virtual
async def test_every_run_is_told_once_in_time_and_as_it_is(wanted, options, others, kind, pace, final):
    async with world(**options) as w:
        refs = await our_runs(w, wanted, kind, others, pace)
        ids = [ref if isinstance(ref, str) else ref.run_id for ref in refs]
        for run_id in ids[::3]:
            w.service.runs[run_id].final = final
        asked, began = w.requests, now()
        told: list[Run] = []
        late = []
        async for run in w.client.as_completed(refs):
            told.append(run)
            late.append(w.service.clock() - max(w.service.runs[run.run_id].ends_at, began + w.service.clock() - now()))
        assert sorted(run.run_id for run in told) == sorted(ids)
        assert {run.run_id: run.status for run in told} == {run_id: w.service.runs[run_id].final for run_id in ids}
        # `maximum`, a tenth of it for the jitter, and the requests of one round.
        round_trips = options["latency"] * (6 + len(w.notebook.runs) / 100)
        assert max(late) <= 33.0 + round_trips
        assert w.requests - asked <= sum(10 + length / 10 for length in wanted)


@settings(max_examples=30)
@given(wanted=lengths, options=services, others=foreign, broken=faults, kind=st.sampled_from(["ours", "theirs"]))
@virtual
async def test_faults_change_cost_and_never_what_is_told(wanted, options, others, broken, kind):
    async with world(**options) as w:
        refs = await our_runs(w, wanted, kind, others, 0.0)
        for fault, rate in broken.items():
            w.break_down(fault, rate=rate)
        w.refuse("/v2/notebooks/", 403, rate=0.1)
        ended = await w.client.await_run(refs)
        for ref, run in zip(refs, ended, strict=True):
            assert run.run_id == (ref if isinstance(ref, str) else ref.run_id)
            assert run.status == w.service.runs[run.run_id].final
        assert now() < 3000


@settings(max_examples=30)
@given(
    number=st.integers(1, 60),
    in_flight=st.integers(1, 30),
    options=services,
    others=foreign,
    broken=faults,
    rate=st.sampled_from([0.5, 5.0, 1e6]),
)
@virtual
async def test_a_batch_accounts_for_every_request_and_starts_none_twice(
    number, in_flight, options, others, broken, rate
):
    limiter = TokenBucket(rate, max(1.0, min(rate, 5.0)), adaptive=False)
    async with world(**options, failures=0.1, median=20, client={"rate_limiter": limiter}) as w:
        others.add(w)
        known = set(w.service.runs)
        for fault, share in broken.items():
            w.break_down(fault, rate=share)
        async with w.client.run_many([w.notebook.id] * number, max_in_flight=in_flight) as batch:
            results = []
            async for result in batch:
                results.append(result)
                assert batch.stats.in_flight <= in_flight
        assert sorted(result.index for result in results) == list(range(number))
        began = set(w.service.runs) - known
        ours = collections.Counter(result.run_id for result in results if result.run_id is not None)
        assert set(ours.values()) <= {1}
        unknown = sum(isinstance(result.error, OutcomeUnknownError) for result in results)
        assert sum(ours.values()) + unknown == number
        # What began beyond what is known is among what may have begun.
        assert ours.keys() <= began
        assert len(began - ours.keys()) <= unknown
        for result in results:
            if result.run is not None:
                assert result.run.status == w.service.runs[result.run_id].final


@settings(max_examples=15)
@given(wanted=lengths, options=services, timeout=st.floats(0.0, 300.0), snapshots=st.booleans())
@virtual
async def test_at_a_deadline_what_had_ended_in_time_is_told(wanted, options, timeout, snapshots):
    async with world(**options) as w:
        refs = [w.one(length).id for length in wanted]
        snapshot = "inline" if snapshots else None
        told = await w.client.await_run(refs, timeout=timeout, snapshot=snapshot, return_exceptions=True)
        assert now() <= timeout + 12
        assert len(told) == len(refs)
        for length, item in zip(wanted, told, strict=True):
            if isinstance(item, Run):
                assert length <= timeout + 12
                assert item.is_terminal
            elif timeout > 5 and not snapshots:
                assert length >= timeout - 0.25 - 40 * options["latency"] - 0.1 * timeout


@pytest.mark.parametrize("seed", range(5))
@virtual
async def test_under_a_limit_every_wait_ends_all_the_same(seed):
    async with world(seed=seed, client={"rate_limiter": TokenBucket(2.0, 5.0, adaptive=False)}) as w:
        first = await w.start(*[(number * 37) % 200 for number in range(40)])
        others = w.ids(*[(number * 53) % 300 for number in range(60)])
        notebooks = [w.service.add_notebook() for _ in range(20)]
        alone = [w.service.add_run(notebook, length=100).id for notebook in notebooks]
        refs = [*first, *others, *alone]
        ended = await w.client.await_run(refs)
        assert all(run.succeeded for run in ended)
        assert now() < 600


def test_a_policy_of_ones_own_bounds_the_lateness():
    for maximum in (2.0, 10.0, 120.0):
        _bounded(maximum)


@virtual
async def _bounded(maximum: float) -> None:
    async with world(client={"poll": PollPolicy(initial=1.0, maximum=maximum)}) as w:
        runs = {run.id: run for run in w.add(*[number * 31 % 700 for number in range(50)])}
        async for told in w.client.as_completed(list(runs)):
            assert w.service.clock() - runs[told.run_id].ends_at <= maximum * 1.1 + 1
