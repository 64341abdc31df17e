"""``scale``: many thousand runs in one await, on a service that knows them already. Real time.

The client is a process of its own, so that its memory and CPU are its alone. Of the CPU of a look, single reads are
measured where listings are refused, and pages where there are both, less what the single reads among them cost.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import attrs

from .report import Column, Figure, Report
from .settings import Setting
from .worlds import RealWorld, in_process

__all__ = ["run"]

SETTLING: Final = 8.0  # s in which twenty thousand runs are found and watched
LONGER: Final = 8.0  # a run's median length, in that
PER: Final = 20_000
COLUMNS: Final = (
    Column("bytes", "bytes a run", ".0f"),
    Column("pages", "pages", ".0f"),
    Column("singles", "single reads", ".0f"),
    Column("cpu", "CPU s"),
    Column("stall", "stall ms", ".1f"),
    Column("stall_cpu", "its own CPU ms", ".1f"),
    Column("cancelling", "cancelling ms", ".1f"),
    Column("cancel_stall", "its stall ms", ".1f"),
)
NOTES: Final = (
    "bytes a run: growth of the resident set over the list of ids, all runs watched, garbage collected",
    "stall: the longest lateness of a 1 ms ticker from registering until all are told and forgotten; its own CPU: the",
    "  most that the loop's thread computed between two ticks, which other processes do not disturb",
)
Found = dict[str, float]


async def _measure(world: RealWorld, work: str, seconds: float) -> Found:
    process = world.process
    ids = [run["id"] for run in (await process.stats())["runs"]]
    order = {"work": work, "url": process.url, "token": process.token, "ids": ids, "seconds": seconds}
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.scale_worker"]
    worker = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    answer, _ = await worker.communicate(json.dumps(order).encode() + b"\n")
    if worker.returncode:
        raise RuntimeError("the measured process failed")
    found: Found = json.loads(answer)
    # What was asked after the measuring is not in its CPU; the first requests are what it counts.
    calls = (await world.account()).calls[: int(found.get("requests", sys.maxsize))]
    kinds = Counter(call.kind for call in calls if call.status is not None and call.status < 400)
    return found | {"pages": kinds["page"], "singles": kinds["single"]}


def _in_process(setting: Setting, work: str, seconds: float) -> Found:
    async def measure(world: RealWorld) -> Found:
        return await _measure(world, work, seconds)

    return in_process(setting, measure)


def _cpu_figures(watched: Mapping[str, Any], singly: Mapping[str, Any]) -> list[Figure]:
    single = singly["cpu"] / max(singly["singles"], 1)
    page = (watched["cpu"] - single * watched["singles"]) / watched["pages"] if watched["pages"] else None
    return [
        Figure(what="CPU a page of 100, ms", value=None if page is None else 1000 * page, bound=2.5),
        Figure(what="CPU a single read, ms", value=1000 * single, bound=0.5, spec=".3f"),
    ]


def run(runs: int) -> Report:
    """The benchmark."""
    seconds = SETTLING * max(runs / PER, 1.0)
    setting = Setting(title="scale", earlier=runs, earlier_span=0.0, median=LONGER * seconds, sigma=0.15)
    watched = _in_process(setting, "watch", seconds)
    ended = _in_process(attrs.evolve(setting, median=LONGER * seconds / 3), "end", seconds)
    singly = _in_process(attrs.evolve(setting, listing_status=403), "watch", seconds)
    return Report(
        title=f"scale: {runs} runs of one notebook in one await_run, ids only, no limit; in real time",
        columns=COLUMNS,
        rows={"watched, then cancelled": watched, "awaited to the end": ended, "listings refused": singly},
        figures=[
            Figure(what="runs told", value=ended["told"], bound=runs, at_least=True, spec=".0f"),
            Figure(what="bytes a run", value=watched["bytes"], bound=1024, spec=".0f"),
            Figure(what="longest stall, ms", value=ended["stall"], bound=50, spec=".1f"),
            Figure(what="cancelling all, ms", value=watched["cancelling"], bound=50, spec=".1f"),
            Figure(what="stall when cancelling, ms", value=watched["cancel_stall"], bound=50, spec=".1f"),
            *_cpu_figures(watched, singly),
        ],
        notes=NOTES,
    )
