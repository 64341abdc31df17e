"""``day``: ten thousand runs in one simulated day, with an outage and a limit that is halved at noon. Virtual time.

At real speed, unlike the rest: it is what a worker costs that lives in a bigger program for a day.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import attrs

from deepnote_async import PollPolicy, RunRequest
from deepnote_async.testing import Lognormal, SlidingLimit

from .measure import Told, percentile
from .report import Column, Figure, Report
from .settings import Setting
from .worlds import Account, Seen, VirtualWorld, in_memory

__all__ = ["run"]

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
RUNS: Final = 10_000
WAVES: Final = 100  # in which the requests come, evenly over the day
SHORTEST: Final = 60.0  # s, medians of the notebooks' lengths, evenly spread over their logarithm
LONGEST: Final = HOUR
OUTAGE: Final = (6 * HOUR, 6 * HOUR + 600.0)
RATE: Final = 5.0  # requests a second until noon
SETTING: Final = Setting(title="day", runs=RUNS, notebooks=50, rate=RATE, burst=5.0)
COLUMNS: Final = (
    Column("told", "told", ".0f"),
    Column("start", "starts", ".0f"),
    Column("page", "pages", ".0f"),
    Column("single", "single reads", ".0f"),
    Column("refused", "429", ".0f"),
    Column("unserved", "in outage", ".0f"),
    Column("requests", "requests/run"),
    Column("mean", "mean delay s"),
    Column("late", "95th s"),
)
NOTES: Final = (
    f"{RUNS} requests in {WAVES} waves over the day; {SETTING.notebooks} notebooks, medians from a minute to an hour",
    f"limit: {RATE:g} requests/s (burst {SETTING.burst:g}), not told; from noon half of it",
    "outage: no connection for ten minutes from 6:00; a part of the day counts the runs whose ends fall into it",
)
PARTS: Final = {
    "until the outage": (0.0, OUTAGE[0]),
    "outage": OUTAGE,
    "until noon": (OUTAGE[1], 12 * HOUR),
    "half the limit": (12 * HOUR, DAY),
    "after midnight": (DAY, float("inf")),
}


@attrs.define
class Day:
    """What a day came to."""

    told: Told
    account: Account
    began: float
    results: int
    errors: int
    cpu: float


def _prepare(world: VirtualWorld) -> None:
    service = world.service
    notebooks = list(service.notebooks.values())
    for n, notebook in enumerate(notebooks):
        notebook.lengths = Lognormal(SHORTEST * (LONGEST / SHORTEST) ** (n / (len(notebooks) - 1)), SETTING.sigma)
    service.outage(*OUTAGE)


async def _requests(world: VirtualWorld) -> AsyncIterator[RunRequest]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for n in range(RUNS):
        due = began + DAY / WAVES * (n * WAVES // RUNS)
        await asyncio.sleep(max(due - loop.time(), 0.0))
        yield RunRequest(world.notebooks[n % len(world.notebooks)])


async def _live(world: VirtualWorld) -> Day:
    _prepare(world)
    day = Day(Told(), Account((), {}), world.now(), 0, 0, time.process_time())

    def at_noon() -> None:
        world.service.limit = SlidingLimit(RATE / 2, SETTING.burst)

    asyncio.get_running_loop().call_later(DAY / 2, at_noon)
    async with (
        world.client(None, PollPolicy()) as client,
        client.run_many(_requests(world), max_in_flight=RUNS) as batch,
    ):
        async for result in batch:
            day.results += 1
            day.errors += result.run is None
            if result.run is not None:
                day.told.note(result.run.run_id, world.now(), succeeded=result.ok)
    day.cpu = time.process_time() - day.cpu
    day.account = await world.account()
    return day


def _row(day: Day, since: float, until: float) -> dict[str, float | None]:
    def within(at: float) -> bool:
        return day.began + since <= at < day.began + until

    calls = [call for call in day.account.calls if within(call.time)]
    ends = {run_id: end for run_id, end in day.account.ends.items() if end is not None and within(end)}
    delays = sorted(day.told.when[run_id] - end for run_id, end in ends.items() if run_id in day.told.when)
    count = len(delays)
    kinds = Counter(call.kind for call in calls if call.status is not None and call.status < 300)
    return {
        "told": count,
        **{kind: kinds[kind] for kind in ("start", "page", "single")},
        "refused": _count(calls, lambda call: call.status == 429),
        "unserved": _count(calls, lambda call: call.status is None),
        "requests": len(calls) / count if count else None,
        "mean": sum(delays) / count if count else None,
        "late": percentile(delays, 0.95),
    }


def _count(calls: Sequence[Seen], fits: Callable[[Seen], bool]) -> int:
    return sum(map(fits, calls))


def run(seed: int = 1) -> Report:
    """The benchmark."""
    day = in_memory(attrs.evolve(SETTING, seed=seed), _live)
    rows = {name: _row(day, *part) for name, part in PARTS.items()}
    started = len(day.account.ends)
    return Report(
        title=f"day: {RUNS} runs over {SETTING.notebooks} notebooks in a simulated day; in virtual time",
        columns=COLUMNS,
        rows=rows | {"in all": _row(day, 0.0, float("inf"))},
        figures=[
            Figure(what="runs told", value=len(day.told.when), bound=RUNS, at_least=True, spec=".0f"),
            Figure(what="told twice", value=day.told.repeated, bound=0, spec=".0f"),
            Figure(what="started without being told", value=started - len(day.told.when), bound=0, spec=".0f"),
            Figure(what="results beyond one a request", value=day.results - RUNS, bound=0, spec=".0f"),
        ],
        notes=(*NOTES, f"CPU of the whole day, the service's model included: {day.cpu:.1f} s"),
    )
