"""``soak``: mixed traffic over a service that breaks, for minutes; what of it stays. Real time.

Traffic comes in rounds. After each all its callers are gone, the client is at rest, and what it holds is measured then:
under traffic every figure would show only how much of it there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import random
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from deepnote_async import DeepnoteClient, DeepnoteError, PollPolicy, RetryPolicy, RunRequest, TokenBucket
from deepnote_async.core import STARTS_REMEMBERED
from deepnote_async.snapshots import Snapshot
from deepnote_async.testing import FakeProcess

from .report import Column, Figure, Report

__all__ = ["run", "slope"]

ROUND: Final = 3.0  # s of traffic
PATIENCE: Final = 30.0  # s for what is on the wire to end
WARM: Final = 4  # rounds until everything has been used once
CALLERS: Final = 40
TIMEOUT: Final = 1.0  # s; of the faults some hang
OUTAGE_EVERY: Final = 5  # rounds
OUTAGE: Final = 1.0  # s
MINUTE: Final = 60.0
DELIVERIES: Final[tuple[Snapshot | None, ...]] = (None, "inline", "downloadUrl")
COLUMNS: Final = (
    Column("before", "before", ".1f"),
    Column("start", "warm", ".1f"),
    Column("end", "at the end", ".1f"),
    Column("after", "closed", ".1f"),
    Column("slope", "slope a minute", "+.3f"),
    Column("noise", "its noise", ".3f"),
)
SERVICE: Final[dict[str, float]] = {
    "notebooks": 4,  # few, so that what is remembered of each is soon full
    "median": 1.0,
    "startup": 0.1,
    "failures": 0.1,
    "faults": 0.05,
    "seed": 1,
}
NOTES: Final = (
    "blocks: what Python's own allocator has given out, in thousands: what is not freed shows there at once",
    "before: no client yet; warm: at rest after the first rounds; closed: after aclose(), with garbage collected",
    "slope: least squares over the second half of the rounds, all at rest; noise: by the slopes of five parts of it",
    "the client remembers its last hundred thousand starts, and a thousand foreign runs of each notebook: the first",
    "  memory is filled beforehand, the second within the first minute",
)


@attrs.frozen
class Held:
    """What the process holds at one moment."""

    minutes: float
    memory: float  # MiB, resident
    blocks: float  # thousands, of Python's allocator
    descriptors: float
    tasks: float
    threads: float

    @classmethod
    def now(cls, began: float) -> Held:
        """What it holds now, garbage collected."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            (time.monotonic() - began) / MINUTE,
            pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            sys.getallocatedblocks() / 1000,
            sum(1 for _ in Path("/proc/self/fd").iterdir()),
            len(asyncio.all_tasks()),
            threading.active_count(),
        )


KINDS: Final = ("memory", "blocks", "descriptors", "tasks", "threads")
PARTS: Final = 5  # of the rounds, whose slopes show how far one slope can be trusted


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The slope of a line through the points by least squares, and its noise.

    What a process holds at one moment is what it held a moment ago and a little more or less, so the distances from
    the line say nothing of the slope's error. The slopes of consecutive parts do: it is two of their standard errors.
    """
    size = len(points) // PARTS
    if size < 3:
        return _line(points), math.inf
    parts = [_line(points[k * size : (k + 1) * size]) for k in range(PARTS)]
    return _line(points), 2 * statistics.stdev(parts) / PARTS**0.5


def _line(points: Sequence[tuple[float, float]]) -> float:
    times = [time for time, _ in points]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(set(times)) > 1 else 0.0


class Traffic:
    """Callers of every kind, each of which leaves at some moment."""

    def __init__(self, client: DeepnoteClient, process: FakeProcess) -> None:
        self._client = client
        self._process = process
        self._chance = random.Random(1)
        self._runs: list[str] = []
        self.calls = 0
        self.cancelled = 0
        self.errors = 0

    def _some_runs(self, number: int) -> list[str]:
        return [self._chance.choice(self._runs) for _ in range(number)] if self._runs else []

    async def _plain(self) -> None:
        await self._client.me()
        await self._client.projects.list(page_size=1).collect(limit=3)
        for run in self._some_runs(1):
            await self._client.runs.get(run)

    async def _create(self) -> None:
        started = await self._client.runs.create(self._chance.choice(self._process.notebooks))
        self._runs = [*self._runs[-200:], started.run_id]

    async def _await(self) -> None:
        wanted = self._chance.choice(DELIVERIES)
        await self._client.await_run(self._some_runs(30), snapshot=wanted, on_update=_heard, return_exceptions=True)

    async def _as_completed(self) -> None:
        async for _ in self._client.as_completed(self._some_runs(10), return_exceptions=True):
            if self._chance.random() < 0.1:
                break

    async def _batch(self) -> None:
        requests = (RunRequest(notebook, inputs={"a": "b"}) for notebook in self._process.notebooks * 25)
        async with self._client.run_many(requests, max_in_flight=5, timeout=2.0) as batch:
            await batch.collect()

    async def _view(self) -> None:
        view = self._client.with_options(token=lambda: self._process.token, timeout=0.5)
        await view.await_run(self._some_runs(3), timeout=1.0, return_exceptions=True)

    async def _caller(self, until: float) -> None:
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            self._plain,
            self._plain,
            self._create,
            self._await,
            self._as_completed,
            self._batch,
            self._view,
        )
        while (left := until - time.monotonic()) > 0:
            self.calls += 1
            try:
                async with asyncio.timeout(min(left, self._chance.expovariate(1.0))):
                    await self._chance.choice(kinds)()
            except DeepnoteError:
                self.errors += 1
            except TimeoutError:
                self.cancelled += 1
            await asyncio.sleep(0.02)

    async def round(self, number: int) -> None:
        """One round of traffic; when it ends the client is at rest."""
        if number % OUTAGE_EVERY == OUTAGE_EVERY - 1:
            await self._process.outage(0.0, OUTAGE, kind=self._chance.choice(["refuse", "html"]))
        until = time.monotonic() + ROUND
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._caller(until))
        async with asyncio.timeout(PATIENCE):
            while not _at_rest(self._client):  # noqa: ASYNC110 - a client at rest sets no event
                await asyncio.sleep(0.01)


def _heard(_: object) -> None:
    """An update."""


def _at_rest(client: DeepnoteClient) -> bool:
    stats = client.stats()
    return not (stats.connections or stats.slots or stats.waiters or stats.watched_runs or stats.tasks)


@attrs.define
class _Soaked:
    """All that was measured: before there was a client, at rest after each round, and after it was closed."""

    before: Held
    rounds: list[Held] = attrs.field(factory=list)
    after: Held | None = None
    requests: int = 0
    calls: int = 0
    cancelled: int = 0
    errors: int = 0


def _client(process: FakeProcess) -> DeepnoteClient:
    return DeepnoteClient(
        process.token,
        base_url=process.url,
        rate_limiter=TokenBucket(500.0, 50.0, adaptive=False),
        timeout=TIMEOUT,
        total_timeout=5.0,
        poll=PollPolicy(initial=0.05, maximum=1.0),
        retry=RetryPolicy(initial=0.02, maximum=0.2),
    )


async def _soak(minutes: float) -> _Soaked:
    began = time.monotonic()
    logging.getLogger("deepnote_async").setLevel(logging.ERROR)
    async with FakeProcess(**SERVICE) as process:
        soaked = _Soaked(Held.now(began))
        async with _client(process) as client:
            for number in range(STARTS_REMEMBERED):
                # A time of its own for each, as real ones have: one shared by all would be freed by none.
                client._session.core.started.add(str(uuid.uuid4()), float(number))
            traffic = Traffic(client, process)
            number = 0
            while number <= WARM or time.monotonic() - began < minutes * MINUTE:
                await traffic.round(number)
                number += 1
                if number >= WARM:
                    soaked.rounds.append(Held.now(began))
            soaked.requests = client.stats().requests
        soaked.calls, soaked.cancelled, soaked.errors = traffic.calls, traffic.cancelled, traffic.errors
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while len(asyncio.all_tasks()) > soaked.before.tasks:  # noqa: ASYNC110 - sets no event either
                    await asyncio.sleep(0.01)
        soaked.after = Held.now(began)
    return soaked


def _row(soaked: _Soaked, kind: str) -> dict[str, float | None]:
    later = soaked.rounds[len(soaked.rounds) // 2 :]
    found, noise = slope([(held.minutes, getattr(held, kind)) for held in later])
    return {
        "before": getattr(soaked.before, kind),
        "start": getattr(soaked.rounds[0], kind),
        "end": getattr(soaked.rounds[-1], kind),
        "after": getattr(soaked.after, kind),
        "slope": found,
        "noise": noise,
    }


def run(minutes: float) -> Report:
    """The benchmark."""
    soaked = asyncio.run(_soak(minutes))
    rows = {kind: _row(soaked, kind) for kind in KINDS}
    did = f"{soaked.calls} calls, {soaked.cancelled} left early, {soaked.errors} failed; {soaked.requests} requests"
    return Report(
        title=f"soak: {minutes:g} minutes of mixed traffic, 5 % of requests going wrong, outages; {did}",
        columns=COLUMNS,
        rows={"memory, MiB": rows["memory"]} | {kind: rows[kind] for kind in KINDS[1:]},
        figures=[
            Figure(what="memory slope beyond noise, MiB/min", value=_beyond(rows["memory"]), bound=0.0, spec=".3f"),
            Figure(what="blocks slope beyond noise, 1000/min", value=_beyond(rows["blocks"]), bound=0.0, spec=".3f"),
            *(
                Figure(what=f"{kind} left", value=_left(rows[kind]), bound=0.0, spec=".0f")
                for kind in ("descriptors", "tasks")
            ),
            Figure(what="tasks at rest, above before", value=_at_end(rows["tasks"]), bound=0.0, spec=".0f"),
        ],
        notes=NOTES,
    )


def _beyond(row: dict[str, float | None]) -> float:
    return max((row["slope"] or 0.0) - (row["noise"] or 0.0), 0.0)


def _left(row: dict[str, float | None]) -> float:
    return (row["after"] or 0.0) - (row["before"] or 0.0)


def _at_end(row: dict[str, float | None]) -> float:
    return (row["end"] or 0.0) - (row["before"] or 0.0)
