"""The example under load: 200 clients, 1,000 runs in flight, streams that hang up, and a shutdown in the middle."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from contextlib import suppress

import aiohttp
import attrs
import pytest
from service_kit import served, until

from deepnote_async.testing import FakeProcess

CLIENTS = 200
BATCHES = 10


@attrs.define
class Load:
    """What 200 clients ask, and how long each answer took."""

    url: str
    batches: list[str]
    streams: bool
    pace: float  # s between two requests of one client
    waits: list[tuple[float, float]] = attrs.field(factory=list)
    hung_up: int = 0
    chunks: int = 0

    async def run(self, seconds: float) -> None:
        self.waits.clear()
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number, seconds))

    async def _client(self, number: int, seconds: float) -> None:
        chance = random.Random(number)
        ends = time.monotonic() + seconds
        batch = self.batches[number % len(self.batches)]
        connector = aiohttp.TCPConnector(limit=2)
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            listening = asyncio.create_task(self._listen(session, batch, chance)) if self.streams else None
            await asyncio.sleep(chance.uniform(0, self.pace))
            while time.monotonic() < ends:
                began = time.perf_counter()
                path = "/health" if chance.random() < 0.1 else f"/batches/{batch}"
                async with session.get(path) as answer:
                    assert answer.status == 200
                    await answer.read()
                self.waits.append((began, time.perf_counter() - began))
                await asyncio.sleep(self.pace * chance.uniform(0.8, 1.2))
            if listening is not None:
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening

    async def _listen(self, session: aiohttp.ClientSession, batch: str, chance: random.Random) -> None:
        """Listen for some seconds, hang up in mid-stream, come again."""
        while True:
            async with session.get(f"/batches/{batch}/events") as answer:
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.uniform(10, 30)):
                        async for _ in answer.content.iter_any():
                            self.chunks += 1
                answer.close()
            self.hung_up += 1

    def p99(self, window: float = 5.0) -> float:
        """The median of the p99 of each five seconds: others on the same cores may stall all of us in one of them."""
        windows: dict[int, list[float]] = {}
        for began, took in self.waits:
            windows.setdefault(int((began - self.waits[0][0]) / window), []).append(took)
        return statistics.median(sorted(waits)[int(len(waits) * 0.99)] for waits in windows.values())

    def p99_of_all(self) -> float:
        waits = sorted(took for _, took in self.waits)
        return waits[int(len(waits) * 0.99)]


async def health(session: aiohttp.ClientSession) -> dict:
    async with session.get("/health") as answer:
        return await answer.json()


async def begin(session: aiohttp.ClientSession, months: int, in_flight: int) -> str:
    order = {"regions": ["EU", "US", "APAC", "LATAM"], "months": months, "max_in_flight": in_flight}
    async with session.post("/batches", json=order) as answer:
        return (await answer.json())["id"]


def no_leak(before: dict, after: dict) -> None:
    assert after["listeners"] == 0
    # The probe's own request is a task of uvicorn's; everything else was there before.
    assert after["loop_tasks"] <= before["loop_tasks"] + BATCHES + after["tasks"] - before["tasks"]
    assert after["tasks"] <= 200
    assert after["connections"] <= 100


async def put_under_load(seconds: float, in_flight: int, months: int, grace: float, tell) -> None:
    pace = min(seconds / 2, 2.0)
    async with FakeProcess(median=25, sigma=0.3) as fake:
        environment = {"DEEPNOTE_TOKEN": fake.token, "DEEPNOTE_BASE_URL": fake.url}
        arguments = (fake.notebooks[0], "--grace", f"{grace:g}")
        async with served(*arguments, **environment) as app, aiohttp.ClientSession(app.url) as session:
            first = await begin(session, 1, 1)  # something to ask about while idle
            quiet = Load(app.url, [first], streams=False, pace=pace)
            await quiet.run(min(seconds, 20))
            before = await health(session)
            batches = [await begin(session, months, in_flight) for _ in range(BATCHES)]
            await until(
                lambda: health(session), lambda now: now["watched_runs"] >= in_flight * BATCHES * 0.95, patience=60
            )
            busy = Load(app.url, batches, streams=True, pace=pace)
            await busy.run(seconds)
            after = await until(lambda: health(session), lambda now: now["listeners"] == 0)
            tell(before=before, after=after, quiet=quiet, busy=busy)
            assert busy.hung_up >= CLIENTS * (seconds >= 40)
            assert after["watched_runs"] >= in_flight * BATCHES * 0.8
            no_leak(before, after)
            began = time.monotonic()
            await app.terminate()
            tell(shutdown=time.monotonic() - began)
            assert time.monotonic() - began < grace


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_minute_of_200_clients_with_1000_runs_in_flight(capsys):
    figures = {}
    await put_under_load(60, 100, 75, 8.0, figures.update)
    quiet, busy = figures["quiet"].p99(), figures["busy"].p99()
    with capsys.disabled():
        told = {"p99 idle ms": quiet * 1e3, "p99 busy ms": busy * 1e3, "shutdown s": figures["shutdown"]}
        told |= {"p99 of all": [figures[key].p99_of_all() * 1e3 for key in ("quiet", "busy")]}
        told |= {"asked": len(figures["busy"].waits), "hung up": figures["busy"].hung_up}
        sys.stdout.write(json.dumps(told | {"chunks": figures["busy"].chunks, "after": figures["after"]}) + "\n")
    # Below some milliseconds it is the measuring process on the same cores that is measured.
    assert busy <= 3 * max(quiet, 0.005)


@pytest.mark.timeout(100)
@pytest.mark.slow
async def test_some_seconds_of_200_clients():
    await put_under_load(1, 3, 3, 1.5, lambda **_: None)
