"""The service gone for minutes: waits go on and end right, calls fail in time and say why, the log keeps calm."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re

import pytest
from loopback_servers import client_of, settled
from virtual_world import now, virtual, world

from deepnote_async import (
    AuthenticationError,
    OutcomeUnknownError,
    PollPolicy,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from deepnote_async.testing import FakeDeepnote

MINUTE = 60.0
GONE = pytest.mark.parametrize("kind", ["refuse", "hang", "html"])
WHY = {
    "refuse": (TransportError, "refuse", 5),
    "hang": (RequestTimeoutError, "no answer within", 4),
    "html": (ServerError, "503", 5),
}


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@GONE
@virtual
async def test_everything_that_waits_goes_on_through_ten_minutes_of_nothing(kind, caplog):
    async with world(seed=3) as w:
        w.notebook.succeeds(after=100)
        lengths = range(30, 930, 15)
        one = asyncio.create_task(w.client.await_run(w.one(500).id, snapshot="inline"))
        runs = w.ids(*lengths)
        many = asyncio.create_task(w.client.await_run(runs))
        ended = []

        async def as_they_end():
            async for run in w.client.as_completed(runs):
                ended.append(run.run_id)

        told = asyncio.create_task(as_they_end())
        async with w.client.run_many([w.notebook.id] * 30) as batch:
            collecting = asyncio.create_task(batch.collect())
            await asyncio.sleep(MINUTE)
            before = w.requests
            w.service.outage(0, 10 * MINUTE, kind)
            await asyncio.sleep(10 * MINUTE)
            assert w.requests - before < 150
            results = await collecting
        assert all(result.ok for result in results)
        assert (await one).snapshot_content
        assert [run.run_id for run in await many] == runs
        await told
        assert sorted(ended) == sorted(runs)
        assert now() < 930 + 3 * MINUTE
        assert 1 <= len(warnings(caplog)) <= 11
        times = [int(re.search(r"for (\d+) s", text)[1]) for text in warnings(caplog)]
        assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("total_timeout", [120.0, 10.0])
@GONE
@virtual
async def test_a_plain_call_fails_within_its_time_and_says_why(kind, total_timeout, caplog):
    error, reason, attempts = WHY[kind]
    async with world(client={"total_timeout": total_timeout}) as w:
        w.service.outage(kind=kind)
        for call in (w.client.me(), w.client.projects.delete("p"), w.client.projects.list().collect()):
            began = now()
            with pytest.raises(error, match=reason) as caught:
                await call
            assert now() - began <= total_timeout
            assert type(caught.value) is error
            assert caught.value.attempts == attempts or total_timeout < 120
            assert 1 <= caught.value.attempts <= 5
        assert warnings(caplog) == []


@GONE
@virtual
async def test_a_start_fails_within_its_time_and_says_whether_it_was_sent(kind):
    async with world() as w:
        w.service.outage(kind=kind)
        with pytest.raises((TransportError, OutcomeUnknownError)) as caught:
            await w.client.runs.create(w.notebook.id)
        assert now() <= 120
        if kind == "refuse":
            assert (caught.value.sent, caught.value.attempts, w.starts) == (False, 5, 5)
        else:
            assert isinstance(caught.value.cause, WHY[kind][0])
            assert w.starts == 1


class Vault:
    """Gives the newest key, and takes its time; by then it may have expired."""

    def __init__(self, service) -> None:
        self._service = service
        self._number = 0
        self.asked = 0
        service.add_token("key-0")

    async def __call__(self) -> str:
        self.asked += 1
        key = f"key-{self._number}"
        await asyncio.sleep(0.3)
        return key

    def expire(self) -> None:
        """Let another key take the newest one's place."""
        self._service.revoke_token(f"key-{self._number}")
        self._number += 1
        self._service.add_token(f"key-{self._number}")


@virtual
async def test_keys_that_expire_under_the_waits_cost_nothing_but_requests(caplog):
    async with world() as w:
        w.notebook.succeeds(after=150)
        vault = Vault(w.service)
        view = w.client.with_options(token=vault)
        lengths = range(30, 930, 15)
        many = asyncio.create_task(view.await_run(w.ids(*lengths)))
        singles = [asyncio.create_task(view.await_run(w.one(length).id)) for length in range(100, 900, 100)]

        async def revoking():
            for _ in range(400):
                await asyncio.sleep(1.7)
                vault.expire()

        revoked = asyncio.create_task(revoking())
        async with view.run_many([w.notebook.id] * 30, max_in_flight=10) as batch:
            results = await batch.collect()
        assert [result.error for result in results] == [None] * 30
        assert len(w.notebook.runs) == len(lengths) + len(singles) + 30
        assert all(run.succeeded for run in await many)
        assert all(run.succeeded for run in await asyncio.gather(*singles))
        await revoked
        assert w.service.count(status=401) > 0
        assert warnings(caplog) == []


@virtual
async def test_a_call_whose_key_is_refused_asks_once_more_and_no_oftener():
    async with world() as w:
        vault = Vault(w.service)
        view = w.client.with_options(token=vault)
        w.service.outage(0, 5 * MINUTE, "unauthorized")
        for call in (view.me(), view.runs.create(w.notebook.id), view.await_run(w.one(5).id)):
            asked, requests = vault.asked, w.requests
            with pytest.raises(AuthenticationError):
                await call
            assert (vault.asked - asked, w.requests - requests) == (2, 2)
        await asyncio.sleep(5 * MINUTE)
        assert (await view.me()).user is not None


@pytest.mark.slow
async def test_an_outage_of_real_connections(caplog):
    poll = PollPolicy(initial=0.02, maximum=0.1)
    retry = RetryPolicy(initial=0.01, maximum=0.05)
    async with FakeDeepnote(notebooks=["n"], startup=0.0) as fake:
        notebook = fake.notebook("n").succeeds(after=0.3)
        async with client_of(fake.url, fake.token, poll=poll, retry=retry, total_timeout=0.5) as client:
            runs = [fake.service.add_run(notebook, length=0.1 + 0.02 * n).id for n in range(50)]
            waiting = asyncio.create_task(client.await_run(runs))
            async with client.run_many([notebook.id] * 40, max_in_flight=15) as batch:
                collecting = asyncio.create_task(batch.collect())
                await asyncio.sleep(0.2)
                async with fake.down():
                    began = asyncio.get_running_loop().time()
                    with pytest.raises(TransportError) as caught:
                        await client.me()
                    assert asyncio.get_running_loop().time() - began < 0.6
                    assert caught.value.attempts > 1
                    await asyncio.sleep(0.5)
                results = await collecting
            ended = await waiting
            assert [run.run_id for run in ended] == runs
            assert all(run.succeeded for run in ended)
            lost = [result for result in results if not result.ok]
            assert all(isinstance(result.error, OutcomeUnknownError) for result in lost)
            known = {result.run_id for result in results if result.ok}
            assert len(notebook.runs) - len(runs) - len(known) <= len(lost) <= 15
            assert len(warnings(caplog)) <= 1
            await settled(client)
