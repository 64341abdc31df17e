"""Starts of unknown outcome, with ``on_unknown="reconcile"``: claimed, started again, or reported."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from virtual_world import Fault, now, virtual, world

from deepnote_async import DeepnoteClient, InvalidRequestError, OutcomeUnknownError, RunRequest
from deepnote_async.waiting.reconcile import Reconciler


def requests_of(here, count):
    return [RunRequest(here.notebook.id, inputs={"number": number}) for number in range(count)]


@virtual
async def test_a_lost_answer_is_found_again_and_claimed():
    async with world(faults=[Fault("drop_after", methods="POST", count=1)]) as here:
        async with here.client.run_many(requests_of(here, 5), on_unknown="reconcile") as batch:
            results = await batch.collect()
        assert all(result.ok for result in results)
        assert len(here.service.runs) == 5
        assert {result.run_id for result in results} == here.service.runs.keys()


@virtual
async def test_a_start_that_never_happened_is_made_again_a_minute_later():
    async with world(faults=[Fault("drop_before", methods="POST", count=1)]) as here:
        begun = now()
        async with here.client.run_many(requests_of(here, 3), on_unknown="reconcile") as batch:
            results = await batch.collect()
        assert all(result.ok for result in results)
        assert len(here.service.runs) == 3
        assert here.service.count(method="POST") == 4
        again = [call.time for call in here.service.calls if call.method == "POST"][1]
        assert again - here.service.calls[0].time >= 60.0
        assert now() - begun < 400.0


@virtual
async def test_a_run_that_comes_into_being_twenty_seconds_later_is_claimed():
    async with world(faults=[Fault("drop_after", methods="POST", count=1, late_start=20.0)]) as here:
        async with here.client.run_many(requests_of(here, 3), on_unknown="reconcile") as batch:
            results = await batch.collect()
        assert all(result.ok for result in results)
        assert {result.run_id for result in results} == here.service.runs.keys()
        assert len(here.service.runs) == 3


@virtual
async def test_more_than_one_candidate_is_reported():
    async with world(faults=[Fault("drop_after", methods="POST", count=1)]) as here:
        await here.client.me()  # from its answer the service's clock is known
        async with here.client.run_many(requests_of(here, 1), on_unknown="reconcile") as batch:
            here.service.add_run(here.notebook.id, started_by="somebody else")
            (result,) = await batch.collect()
        assert isinstance(result.error, OutcomeUnknownError)
        assert len(await here.client.runs.candidates(result.error)) == 2


@virtual
async def test_one_start_a_notebook_is_on_the_wire_and_other_notebooks_go_on():
    async with world(faults=[Fault("drop_before", methods="POST", count=1)], latency=0.5) as here:
        other = here.service.add_notebook("other", lengths=5.0)
        requests = [RunRequest(here.notebook.id), RunRequest(here.notebook.id), RunRequest(other.id)]
        ended = {}
        async with here.client.run_many(requests, on_unknown="reconcile") as batch:
            async for result in batch:
                ended[result.index] = now()
                assert result.ok
        assert ended[2] < 45.0 < ended[0] < ended[1] + 1000.0


@virtual
async def test_reconciling_ends_with_the_timeout_as_unknown():
    async with world(faults=[Fault("drop_before", methods="POST", count=1)]) as here:
        async with here.client.run_many(requests_of(here, 2), on_unknown="reconcile", timeout=20.0) as batch:
            results = await batch.collect()
        assert isinstance(results[0].error, OutcomeUnknownError)
        assert now() < 30.0


@virtual
async def test_leaving_while_reconciling_keeps_the_unknown_start():
    async with world(faults=[Fault("drop_after", methods="POST", count=1, late_start=20.0)]) as here:
        async with here.client.run_many(requests_of(here, 2), on_unknown="reconcile") as batch:
            await asyncio.sleep(0.5)
        (left,) = batch.unfinished
        assert isinstance(left.error, OutcomeUnknownError)
        assert left.error.request == left.request


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
@virtual
async def test_three_hundred_starts_under_faults_end_as_three_hundred_runs(seed):
    faults = [
        Fault("drop_before", 0.05, methods="POST"),
        Fault("drop_after", 1.0, methods="POST", count=1, late_start=20.0),
        Fault("drop_after", 0.05, methods="POST"),
        Fault("error_after", 0.04, methods="POST", status=500),
        Fault("error_before", 0.05, methods="GET", status=503),
        Fault("drop_before", 0.05, methods="GET"),
    ]
    async with world(faults=faults, seed=seed) as here:
        async with here.client.run_many(requests_of(here, 300), on_unknown="reconcile") as batch:
            results = await batch.collect()
        assert len(results) == 300
        assert not [result for result in results if result.error is not None]
        assert len(here.service.runs) == 300
        assert {result.run_id for result in results} == here.service.runs.keys()
        inputs = {run_id: run.inputs for run_id, run in here.service.runs.items()}
        assert all(inputs[result.run_id] == {"number": str(result.index)} for result in results)


def test_other_words_are_refused():
    with pytest.raises(InvalidRequestError, match="reconcile"):
        DeepnoteClient("key").run_many([], on_unknown="repeat")


def age_reckoned(here, run):
    return now() - here.client._watcher._watched[run.id].born


@virtual
async def test_a_start_answered_late_is_as_old_as_its_run():
    async with world() as here:
        await here.client.me()  # now the client knows the service's time
        here.break_down("delay", methods="POST", seconds=4.0)
        here.notebook.succeeds(after=1000)
        waiting = asyncio.create_task(here.client.run(here.notebook.id))
        await asyncio.sleep(100)
        (run,) = here.service.runs.values()
        assert age_reckoned(here, run) == pytest.approx(here.service.clock() - run.created_at, abs=1.5)
        assert (await waiting).succeeded


@virtual
async def test_a_start_of_an_earlier_process_is_as_old_as_its_run():
    async with world() as here:
        await here.client.me()
        began = datetime.fromtimestamp(here.service.clock(), UTC)
        run = here.one(length=8000.0)
        await asyncio.sleep(3600)
        lost = OutcomeUnknownError("lost", notebook_id=here.notebook.id, window=(began - timedelta(seconds=5), began))
        claimed = await Reconciler(here.client._session, give_up_after=10.0).resolve(lost)
        assert claimed.run_id == run.id
        waiting = asyncio.create_task(here.client.await_run(claimed))
        await asyncio.sleep(100)
        assert age_reckoned(here, run) == pytest.approx(3700, abs=2)
        assert (await waiting).succeeded
