"""Thousands of cancellations at random awaits over real connections, and nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import re
import time
from pathlib import Path

import attrs
import pytest
from loopback_servers import client_of, freely, held, until

from deepnote_async import (
    ApiError,
    ClientClosedError,
    DecodeError,
    DeepnoteClient,
    OutcomeUnknownError,
    PollPolicy,
    RunStarted,
    TokenBucket,
    TransportError,
)
from deepnote_async.testing import FakeDeepnote, Fault

pytestmark = pytest.mark.slow

AT_ONCE = 60
MINUTES_A_SECOND = 60.0
STARTED = re.compile(r"run (\S+) of notebook \S+ (was started|goes on)")
UNKNOWN = re.compile(r"a start of notebook \S+ (whose caller had left|left on the wire)")


class CountingFake(FakeDeepnote):
    """Knows how many requests it is at."""

    open = 0

    async def _answer(self, request):
        self.open += 1
        try:
            return await super()._answer(request)
        finally:
            self.open -= 1


@attrs.define
class Storm:
    """Calls of all kinds, each cancelled at some moment; ``named`` are the runs that somebody was told of."""

    client: DeepnoteClient
    fake: FakeDeepnote
    chance: random.Random
    named: set[str] = attrs.field(factory=set)
    unknown: int = 0
    batches: list = attrs.field(factory=list)
    cancelled: int = 0

    def ids(self, number: int) -> list[str]:
        return self.chance.choices(list(self.fake.service.runs), k=number)

    @property
    def notebook(self) -> str:
        return self.chance.choice(list(self.fake.service.notebooks))

    async def plain(self) -> None:
        calls = (
            self.client.me,
            lambda: self.client.runs.get(*self.ids(1)),
            lambda: self.client.projects.list(page_size=1).collect(),
            lambda: self.client.notebooks.list_runs(self.notebook, page_size=100).collect(limit=300),
        )
        await self.chance.choice(calls)()

    async def create(self) -> None:
        started = await self.client.runs.create(self.notebook)
        self.named.add(started.run_id)

    async def await_one(self) -> None:
        await self.client.await_run(*self.ids(1), on_update=self.updated, snapshot=self.chance.choice([None, "inline"]))

    async def await_many(self) -> None:
        await self.client.await_run(self.ids(30), return_exceptions=True, timeout=self.chance.choice([None, 0.05]))

    async def as_completed(self) -> None:
        async for _ in self.client.as_completed(self.ids(20)):
            await asyncio.sleep(0)

    async def run(self) -> None:
        run = await self.client.run(self.notebook)
        self.named.add(run.run_id)

    async def run_many(self) -> None:
        batch = self.client.run_many([self.notebook] * 6, max_in_flight=self.chance.choice([1, 3, 100]))
        self.batches.append(batch)
        async with batch:
            async for result in batch:
                self.named.add(result.run_id)
                self.unknown += isinstance(result.error, OutcomeUnknownError)

    async def updated(self, run: object) -> None:
        await asyncio.sleep(0.001)

    async def blow(self) -> None:
        """Begin one call and cancel it."""
        kinds = (self.plain, self.create, self.await_one, self.await_many, self.as_completed, self.run, self.run_many)
        task = asyncio.create_task(self.chance.choice(kinds)(), name="caller")
        if self.chance.random() < 0.5:
            for _ in range(self.chance.randrange(80)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.chance.expovariate(100))
        task.cancel()
        try:
            await task
        except OutcomeUnknownError:
            self.unknown += 1
        except (asyncio.CancelledError, ApiError, TransportError, DecodeError):
            pass
        self.cancelled += task.cancelled()

    async def rage(self, cancellations: int) -> None:
        """Blow until so many calls were cut off."""

        async def worker():
            while self.cancelled < cancellations:
                await self.blow()

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    async def calm(self, caplog) -> None:
        """Wait for the starts on the wire, and take in who was told of them."""
        await until(lambda: not any(held(self.client)), 5.0)
        for batch in self.batches:
            left = [*batch.unfinished, *[result async for result in batch]]
            self.named |= {result.run_id for result in left}
            self.unknown += sum(isinstance(result.error, OutcomeUnknownError) for result in left)
        self.named |= {found[1] for record in caplog.records if (found := STARTED.match(record.getMessage()))}


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("cancellations", "limiter"),
    [
        (500, freely),
        (300, lambda: TokenBucket(2000.0, 5, adaptive=False)),
        pytest.param(5000, freely, marks=pytest.mark.slow),
        pytest.param(5000, lambda: TokenBucket(2000.0, 5, adaptive=False), marks=pytest.mark.slow),
    ],
)
async def test_a_storm_of_cancellations_leaves_nothing(cancellations, limiter, caplog):
    caplog.set_level(logging.DEBUG, "deepnote_async")
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    poll = PollPolicy(initial=0.01, maximum=0.05)
    async with CountingFake(notebooks=["a", "b", "c"], time_scale=MINUTES_A_SECOND, latency=0.001) as fake:
        before = {run.id for name in "abc" for run in [fake.service.add_run(fake.notebook(name)) for _ in range(60)]}
        tasks, files = asyncio.all_tasks(), descriptors()
        async with client_of(fake.url, fake.token, poll=poll, max_connections=30, rate_limiter=limiter()) as client:
            storm = Storm(client, fake, random.Random(4))
            await storm.rage(cancellations)
            await storm.calm(caplog)
            assert storm.cancelled >= cancellations
            # Every run is known to somebody.
            assert set(fake.service.runs) - before == storm.named - {None}
            await until(lambda: fake.open == 0)
            assert (await client.me()).user is not None
        await until(lambda: asyncio.all_tasks() == tasks, 5.0)
        await until(lambda: descriptors() == files, 5.0)
        assert fake.open == 0
        gc.collect()
        await asyncio.sleep(0)
    assert complaints == []
    loud = [record for record in caplog.records if record.levelno > logging.INFO]
    assert [record for record in loud if not STARTED.match(record.getMessage())] == []
    assert {record.levelno for record in loud} <= {logging.WARNING}


@pytest.mark.parametrize("cancellations", [300, pytest.param(5000, marks=pytest.mark.slow)])
async def test_a_storm_over_connections_that_break_leaves_nothing(cancellations, caplog):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    poll = PollPolicy(initial=0.01, maximum=0.05)
    kinds = ("drop_before", "drop_after", "truncated", "html", "hang", "hang_after", "error_after")
    async with CountingFake(notebooks=["a", "b", "c"], time_scale=MINUTES_A_SECOND) as fake:
        before = {run.id for name in "abc" for run in [fake.service.add_run(fake.notebook(name)) for _ in range(60)]}
        tasks, files = asyncio.all_tasks(), descriptors()
        fake.service.faults += [Fault(kind, rate=0.02) for kind in kinds]
        options = {"poll": poll, "max_connections": 30, "timeout": 0.1}
        async with client_of(fake.url, lambda: fake.token, **options) as client:
            storm = Storm(client, fake, random.Random(5))
            await storm.rage(cancellations)
            fake.service.faults.clear()
            await storm.calm(caplog)
            lost = set(fake.service.runs) - before - storm.named
            told = [record for record in caplog.records if UNKNOWN.match(record.getMessage())]
            assert len(lost) <= storm.unknown + len(told)
            await until(lambda: fake.open == 0)
        await until(lambda: asyncio.all_tasks() == tasks, 5.0)
        await until(lambda: descriptors() == files, 5.0)
        gc.collect()
        await asyncio.sleep(0)
    assert complaints == []


async def test_closing_while_hundreds_wait_ends_each_at_once():
    async with CountingFake(notebooks=["n"], latency=0.01) as fake:
        runs = [fake.service.add_run(fake.notebook("n"), length=1e6).id for _ in range(300)]
        tasks, files = asyncio.all_tasks(), descriptors()
        client = await client_of(fake.url, fake.token).__aenter__()

        async def iterate():
            async for _ in client.as_completed(runs):
                pass

        async def batch():
            async with client.run_many([fake.notebook("n").id] * 20) as many:
                async for result in many:
                    raise result.error or AssertionError

        waits = [asyncio.create_task(client.await_run(run)) for run in runs]
        waits += [asyncio.create_task(client.await_run(runs)) for _ in range(20)]
        waits += [asyncio.create_task(iterate()) for _ in range(20)]
        waits += [asyncio.create_task(client.await_run(RunStarted(run_id=run), snapshot="inline")) for run in runs]
        waits += [asyncio.create_task(batch()) for _ in range(3)]
        waits += [asyncio.create_task(client.me()) for _ in range(100)]
        await asyncio.sleep(0.1)
        waits = [task for task in waits if not task.done()]
        assert len(waits) > 600
        began = time.perf_counter()
        await client.aclose()
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert time.perf_counter() - began < 0.5
        # The requests of a batch say more: not started, or of unknown outcome, because of the closing.
        reasons = {type(getattr(error, "cause", error)) for error in ended}
        assert reasons == {ClientClosedError}
        assert not any(held_at_close(client))
        await until(lambda: asyncio.all_tasks() == tasks)
        await until(lambda: descriptors() == files)
        assert fake.open == 0


def held_at_close(client: DeepnoteClient) -> tuple[int, ...]:
    stats = client.stats()
    return stats.connections, stats.slots, stats.waiters, stats.watched_runs, stats.tasks
