"""``foreground``: what a caller's own calls cost beside a saturated background. Real time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import attrs

from deepnote_async import DeepnoteClient, RunRequest

from .measure import percentile
from .report import Column, Figure, Report
from .settings import Setting
from .worlds import RealWorld, in_process

__all__ = ["run"]

EACH: Final = 0.1  # s between two calls
CALLS: Final = 300
WATCHED: Final = 2_000
STARTED: Final = 1_000
MORE: Final = 0.005  # s that the 95th percentile may lie above an idle client's
# Spread over many notebooks, or pages would tell of all runs without coming near the limit.
# Long enough that the work outlasts the calls.
SETTING: Final = Setting(
    title="foreground", notebooks=100, rate=50.0, burst=50.0, told=True, median=60.0, earlier_span=0.0
)
COLUMNS: Final = (
    Column("calls", "me() calls", ".0f"),
    Column("median", "median ms", ".2f"),
    Column("late", "95th ms", ".2f"),
    Column("worst", "worst ms", ".2f"),
    Column("used", "limit used", ".0%"),
)
Background: TypeAlias = Callable[[DeepnoteClient, RealWorld], Awaitable[object]]


async def _idle(client: DeepnoteClient, world: RealWorld) -> None:
    del client, world


async def _watching(client: DeepnoteClient, world: RealWorld) -> None:
    await client.await_run([str(run["id"]) for run in (await world.process.stats())["runs"]])


async def _starting(client: DeepnoteClient, world: RealWorld) -> None:
    requests = (RunRequest(world.notebooks[n % len(world.notebooks)]) for n in range(STARTED))
    async with client.run_many(requests, max_in_flight=STARTED) as batch:
        await batch.collect()


async def _latencies(client: DeepnoteClient) -> list[float]:
    """How long some calls took, one begun each tenth of a second."""
    began = time.perf_counter()
    took = []
    for n in range(CALLS):
        await asyncio.sleep(max(began + n * EACH - time.perf_counter(), 0.0))
        before = time.perf_counter()
        await client.me()
        took.append(time.perf_counter() - before)
    return sorted(took)


@contextlib.asynccontextmanager
async def _beside(work: Awaitable[object]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _beside_background(background: Background, earlier: int) -> dict[str, float]:
    """One row: calls beside some work, which goes on all the while."""

    async def work(world: RealWorld) -> dict[str, float]:
        async with world.client(SETTING.limiter()) as client:
            await client.me()  # the first call opens a connection
            async with _beside(background(client, world)):
                began = world.now()
                took = await _latencies(client)
                ended = world.now()
        return _row(took, sum(began <= call.time < ended for call in (await world.account()).calls) / (ended - began))

    return in_process(attrs.evolve(SETTING, earlier=earlier // SETTING.notebooks), work)


def _row(took: Sequence[float], rate: float) -> dict[str, float]:
    return {
        "calls": len(took),
        "median": 1000 * (percentile(took, 0.5) or 0.0),
        "late": 1000 * (percentile(took, 0.95) or 0.0),
        "worst": 1000 * took[-1],
        "used": rate / (SETTING.pace or rate),
    }


def run() -> Report:
    """The benchmark."""
    rows = {
        "idle": _beside_background(_idle, 0),
        f"{WATCHED} runs watched": _beside_background(_watching, WATCHED),
        f"{STARTED} runs being started": _beside_background(_starting, 0),
    }
    idle = rows["idle"]["late"]
    return Report(
        title="foreground: me() each 0.1 s on a client told its limit of 50 requests/s; in real time",
        columns=COLUMNS,
        rows=rows,
        figures=[
            Figure(what=f"95th above idle, {name}, ms", value=row["late"] - idle, bound=1000 * MORE)
            for name, row in rows.items()
            if name != "idle"
        ],
        notes=("limit used: requests the service saw during the calls, over rate x time",),
    )
