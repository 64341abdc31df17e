"""``footprint``: what the client costs before its first call and after its last: time to import, memory at rest."""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp

from deepnote_async import DeepnoteClient, TokenBucket

from .canned import serving
from .report import Column, Figure, Report

__all__ = ["PROCESSES", "measured", "run"]

ROOT: Final = Path(__file__).parents[1]
PROCESSES: Final = 20
CALLS: Final = 1000
ROUNDS: Final = 4
IMPORTS: Final = {
    "aiohttp, attrs, cattrs, anyio": "import aiohttp, attrs, cattrs, anyio",
    "deepnote_async": "import deepnote_async",
    "deepnote_async, with its client": "from deepnote_async import DeepnoteClient",
}
TIMED: Final = (
    "import sys, time; sys.path.insert(0, {root!r}); t = time.perf_counter(); {line}; print(time.perf_counter() - t)"
)
COLUMNS: Final = (
    Column("took", "import ms", ".1f"),
    Column("ratio", "of the first"),
    Column("rest", "at rest KiB", ".0f"),
    Column("left", "left by 1,000 calls KiB", ".0f"),
)
NOTES: Final = (
    f"import: median of {PROCESSES} processes each, in turn; the ratio is that of the medians",
    "at rest: what Python has allocated for an entered client, or session, that has made one call; modules not counted",
    f"left: what {CALLS} calls at once leave of that, the least of {ROUNDS - 1} rounds after one that warmed it up",
)


def _import_times() -> dict[str, float]:
    took: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(PROCESSES):
        for name, line in IMPORTS.items():
            program = TIMED.format(root=str(ROOT), line=line)
            done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
            took[name].append(float(done.stdout))
    return {name: statistics.median(times) for name, times in took.items()}


def _allocated() -> float:
    """KiB that Python has given out."""
    for _ in range(3):
        gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1024


async def _of_session(url: str) -> dict[str, float]:
    before = _allocated()
    async with aiohttp.ClientSession() as session:

        async def call() -> None:
            async with session.get(f"{url}/v2/runs/x") as answer:
                await answer.read()

        return await _held(call, before)


async def _of_client(url: str) -> dict[str, float]:
    before = _allocated()
    freely = TokenBucket(1e6, 1e6, adaptive=False)
    async with DeepnoteClient("token", base_url=url, rate_limiter=freely) as client:

        async def call() -> None:
            await client.runs.get("x")

        return await _held(call, before)


async def _held(call: Callable[[], Awaitable[None]], before: float) -> dict[str, float]:
    await call()
    rest = _allocated()
    held = []
    for _ in range(ROUNDS):
        await asyncio.gather(*(call() for _ in range(CALLS)))
        held.append(_allocated())
    # How many connections are idle afterwards differs by chance; what a call leaves would be left each time.
    return {"rest": rest - before, "left": min(later - earlier for earlier, later in pairwise(held))}


def measured(what: str) -> dict[str, float]:
    """Memory of a client or a bare session, measured in this process."""
    work = {"client": _of_client, "session": _of_session}[what]
    with serving() as url:
        # Once without measuring: what the first use of a library allocates for good is not the client's.
        asyncio.run(work(url))
        tracemalloc.start()
        try:
            return asyncio.run(work(url))
        finally:
            tracemalloc.stop()


def _apart(what: str) -> dict[str, float]:
    program = f"import json; from benchmarks.footprint import measured; print(json.dumps(measured({what!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def run() -> Report:
    """The benchmark."""
    times = _import_times()
    least = next(iter(times.values()))
    rows: dict[str, dict[str, Any]] = {
        name: {"took": 1000 * took, "ratio": took / least} for name, took in times.items()
    }
    session, client = _apart("session"), _apart("client")
    rows["an aiohttp.ClientSession"] = dict(session)
    rows["a DeepnoteClient"] = dict(client)
    return Report(
        title="footprint: time to import and memory at rest",
        columns=COLUMNS,
        rows=rows,
        figures=[
            Figure(what="import deepnote_async, of its libraries", value=rows["deepnote_async"]["ratio"], bound=1.10),
            Figure(
                what="with its client", value=rows["deepnote_async, with its client"]["ratio"], bound=1.10, spec=".2f"
            ),
            Figure(what="a client over a session, KiB", value=client["rest"] - session["rest"], bound=1024, spec=".0f"),
            Figure(what=f"left by {CALLS} calls, KiB", value=client["left"], bound=64, spec=".0f"),
        ],
        notes=NOTES,
    )
