"""Three hundred starts through every kind of fault: each accounted for, none twice, none under another's name."""

from __future__ import annotations

import collections

import pytest
from loopback_servers import client_of, settled
from virtual_world import virtual, world

from deepnote_async import OutcomeUnknownError, PollPolicy, RetryPolicy, RunRequest
from deepnote_async.testing import FakeDeepnote, Fault

STARTS = 300
SENT = {"drop_before", "drop_after", "error_after"}  # what strikes a start after it has left the client
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))]


def faults(before: str) -> list[Fault]:
    """5 % of the starts break before they take effect, 9 % after it; 10 % of the reads fail."""
    return [
        Fault(before, rate=0.05, methods="POST"),
        Fault("drop_after", rate=0.05, methods="POST"),
        Fault("error_after", rate=0.04, methods="POST", status=500),
        Fault("drop_after", rate=0.04, methods="GET"),
        Fault("error_before", rate=0.03, methods="GET", status=503, html=True),
        Fault("truncated", rate=0.03, methods="GET"),
    ]


def requests_of(notebook: str) -> list[RunRequest]:
    return [RunRequest(notebook, inputs={"number": str(n)}, key=f"key {n}") for n in range(STARTS)]


async def account(client, service, results) -> dict[str, int]:
    """Hold what was told against what the service has, and count."""
    unknown = [result.error for result in results if isinstance(result.error, OutcomeUnknownError)]
    known = [result.run_id for result in results if result.run_id is not None]
    runs = service.runs
    struck = [call for call in service.calls if call.method == "POST" and call.fault in SENT]
    asked = collections.Counter(run.inputs["number"] for run in runs.values())
    service.faults.clear()
    candidates = [{run.run_id for run in await client.runs.candidates(error)} for error in unknown]
    named = set(known).union(*candidates)

    assert [(result.index, result.key) for result in results] == [(n, f"key {n}") for n in range(STARTS)]
    assert len(known) == len(set(known))
    assert len(known) + len(unknown) == STARTS
    # None was started twice, by whatever way.
    assert set(asked.values()) <= {1}
    assert len(runs) == sum(call.run_id is not None for call in service.calls)
    # Each result has its own request's run, as the service ended it.
    for result in results:
        if result.run_id is not None:
            assert runs[result.run_id].inputs == result.request.inputs == {"number": str(result.index)}
        if result.run is not None:
            assert (result.run.run_id, result.run.status) == (result.run_id, runs[result.run_id].final)
    # Every run is named by a result, and what is of unknown outcome was really struck.
    assert named == set(runs)
    assert len(unknown) == len(struck)
    lost = {call.run_id for call in struck if call.run_id is not None}
    assert lost == set(runs) - set(known)
    for error in unknown:
        assert error.request.inputs["number"] not in {runs[run_id].inputs["number"] for run_id in known}
    # One whose start took effect has its own run among its candidates.
    for error, found in zip(unknown, candidates, strict=True):
        own = {run_id for run_id in lost if runs[run_id].inputs == error.request.inputs}
        assert own <= found <= lost
    return {"unknown": len(unknown), "struck": len(struck), "lost": len(lost), "runs": len(runs)}


@pytest.mark.parametrize("before", ["refuse", "drop_before"])
@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_three_hundred_starts_through_faults(seed, before):
    # Some search for the limit, some go as fast as they can.
    options = {"rate_limiter": None} if seed % 2 else {}
    async with world(seed=seed, median=40, failures=0.1, client=options) as w:
        await w.client.me()  # until an answer has come, it is our own clock that counts
        w.service.faults += faults(before)
        async with w.client.run_many(requests_of(w.notebook.id), max_in_flight=10 + 20 * (seed % 10)) as batch:
            results = await batch.collect()
        assert batch.unfinished == []
        found = await account(w.client, w.service, results)
        assert found["struck"] > 5


@pytest.mark.slow
async def test_three_hundred_starts_through_faults_on_real_connections():
    quick = {"poll": PollPolicy(initial=0.02, maximum=0.2), "retry": RetryPolicy(initial=0.005, maximum=0.02)}
    async with FakeDeepnote(notebooks=["n"], startup=0.0, seed=7, faults=faults("drop_before")) as fake:
        notebook = fake.notebook("n").succeeds(after=lambda chance: chance.uniform(0.05, 0.5))
        async with client_of(fake.url, fake.token, **quick) as client:
            async with client.run_many(requests_of(notebook.id), max_in_flight=50) as batch:
                results = await batch.collect()
            assert batch.unfinished == []
            found = await account(client, fake.service, results)
            assert found["struck"] > 5
            await settled(client)
