"""``mixed``: many notebooks with one run each, of eight kinds of length that earlier runs have shown. Virtual time.

Listing is of no use here, so what is compared is when to look: the density of looks that known lengths allow, against
an interval that grows with a run's age.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from deepnote_async import Run, RunRequest, TokenBucket
from deepnote_async.testing import Lognormal

from .baselines import BACKOFF
from .batches import COLUMNS
from .measure import Measured, Told, average, measure
from .report import Column, Figure, Report
from .settings import OURS, Setting
from .worlds import Account, VirtualWorld, in_memory

__all__ = ["ALIKE", "compare", "figures", "run"]

KINDS: Final = 8
EARLIER: Final = 50  # runs of each notebook, ended and awaited before
LONG_AGO: Final = 3600.0  # s before the start, when the last of them began
BETWEEN: Final = 1.4  # from one kind's median to the next
ALIKE: Final = Setting(title="runs of a notebook alike", runs=400, notebooks=400, sigma=0.3)
UNLIKE: Final = attrs.evolve(ALIKE, title="runs of a notebook as unlike as elsewhere", sigma=0.8)
TABLE: Final = (
    *(column for column in COLUMNS if column.key not in {"used", "product"}),
    Column("cost", "requests x delay"),
    Column("ratio", "of backoff's", ".3f"),
)


def _median(kind: int) -> float:
    return ALIKE.median * math.pow(BETWEEN, kind - (KINDS - 1) / 2)


def _prepare(world: VirtualWorld, setting: Setting) -> list[Run]:
    """Give each notebook its kind of length and its earlier runs, all of them over."""
    service = world.service
    now = service.clock()
    earlier: list[Run] = []
    for n, notebook in enumerate(service.notebooks.values()):
        notebook.lengths = Lognormal(_median(n % KINDS), setting.sigma)
        for k in range(EARLIER):
            run = service.add_run(notebook, created_at=now - LONG_AGO - k)
            created = datetime.fromtimestamp(run.created_at, UTC)
            earlier.append(Run(run_id=run.id, notebook_id=notebook.id, created_at=created))
    return earlier


HOW: Final = (
    f"kinds of length: medians from {_median(0):.1f} s to {_median(KINDS - 1):.1f} s, each {BETWEEN:g} times the last",
    "backoff: intervals from 0.1 s, times 1.5, to 3 s; neither way is short of rate",
    "the requests that showed the earlier runs are not counted: they were awaited in their time",
)


async def _ours(setting: Setting, world: VirtualWorld) -> Measured:
    earlier = _prepare(world, setting)
    told = Told()
    async with world.client(TokenBucket(1e6, 1e6, adaptive=False)) as client:
        await client.await_run(earlier)
        seen = len(world.service.calls)
        requests = [RunRequest(notebook_id) for notebook_id in world.notebooks]
        async with client.run_many(requests, max_in_flight=len(requests)) as batch:
            async for result in batch:
                if result.run is not None:
                    told.note(result.run.run_id, world.now(), succeeded=result.ok)
    account = await world.account()
    return measure(setting, told, Account(account.calls[seen:], account.ends))


async def _backoff(setting: Setting, world: VirtualWorld) -> Measured:
    _prepare(world, setting)
    return measure(setting, await BACKOFF(world, setting), await world.account())


def _cost(measured: Measured) -> float:
    return (measured.requests or 0.0) * (measured.mean or 0.0)


def compare(setting: Setting, seeds: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """Both ways on the same services."""
    settings = [attrs.evolve(setting, seed=seed) for seed in seeds]
    mine = [in_memory(one, functools.partial(_ours, one)) for one in settings]
    theirs = [in_memory(one, functools.partial(_backoff, one)) for one in settings]
    whole = statistics.fmean(map(_cost, theirs))
    rows: dict[str, dict[str, float | None]] = {}
    for name, found in ((OURS, mine), ("backoff x1.5", theirs)):
        cost = statistics.fmean(map(_cost, found))
        rows[name] = attrs.asdict(average(found)) | {"cost": cost, "ratio": cost / whole}
    return rows


def figures(setting: Setting, rows: Mapping[str, Mapping[str, float | None]]) -> list[Figure]:
    """What is to be reached, where earlier runs tell of later ones."""
    found = rows[OURS]
    told = Figure(what="runs told", value=found["finished"], bound=setting.runs, at_least=True, spec=".0f")
    if setting is not ALIKE:
        return [told]
    return [told, Figure(what="requests x mean delay, of backoff's", value=found["ratio"], bound=0.40, spec=".3f")]


def run(seeds: Sequence[int]) -> Iterator[Report]:
    """The benchmark, with runs of one notebook alike and not."""
    for setting in (ALIKE, UNLIKE):
        rows = compare(setting, seeds)
        yield Report(
            title=(
                f"mixed: {setting.runs} notebooks with one run each and {EARLIER} earlier ones that the process has "
                f"seen,\n{KINDS} kinds of length, {setting.title} (sigma {setting.sigma:g}); in virtual time, "
                f"mean of {len(seeds)} seeds"
            ),
            columns=TABLE,
            rows=rows,
            figures=figures(setting, rows),
            notes=HOW,
        )
