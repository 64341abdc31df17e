"""The process that ``scale`` measures: it reads where the service is and the ids of the runs, and awaits them.

The rooms below are measured apart, for measuring one disturbs the others: a ticker costs CPU, and a collection of
garbage stalls the loop.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import attrs

from deepnote_async import DeepnoteClient, TokenBucket

from .settings import POLL

__all__ = ["WORK"]

TICK: Final = 0.001  # s
AFTERWARDS: Final = 0.3  # s in which stalls are still counted
PAGE_OF_MEMORY: Final = os.sysconf("SC_PAGE_SIZE")


@attrs.define
class Stalls:
    """The longest a loop kept a 1 ms ticker waiting; ``cpu`` is the part of a wait that its own thread computed."""

    wall: float = 0.0
    cpu: float = 0.0

    async def watch(self) -> None:
        """Tick for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due, busy = loop.time() + TICK, time.thread_time()
            await asyncio.sleep(TICK)
            self.wall = max(self.wall, loop.time() - due)
            self.cpu = max(self.cpu, time.thread_time() - busy)

    def as_dict(self) -> dict[str, float]:
        """Both, in milliseconds."""
        return {"stall": 1000 * self.wall, "stall_cpu": 1000 * self.cpu}


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_OF_MEMORY


def _settled() -> int:
    for _ in range(3):
        gc.collect()
    return _resident()


async def _cancelled(task: asyncio.Task[Any], stalls: Stalls) -> float:
    """Cancel a task under the eyes of a ticker; returns the seconds until it has ended."""
    ticker = asyncio.create_task(stalls.watch())
    await asyncio.sleep(10 * TICK)
    before = time.perf_counter()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    took = time.perf_counter() - before
    await asyncio.sleep(AFTERWARDS)
    ticker.cancel()
    return took


async def _watch(client: DeepnoteClient, ids: list[str], seconds: float) -> dict[str, float]:
    """Memory and CPU while all runs go on, then the cost of cancelling."""
    before, busy = _settled(), time.process_time()
    task = asyncio.create_task(client.await_run(ids))
    await asyncio.sleep(seconds)
    spent = time.process_time() - busy
    requests = client.stats().requests
    watched = client.stats().watched_runs
    memory = _settled() - before
    stalls = Stalls()
    took = await _cancelled(task, stalls)
    told = {"bytes": memory / len(ids), "cpu": spent, "requests": requests, "watched": watched}
    return told | {"cancelling": 1000 * took, "cancel_stall": 1000 * stalls.wall}


async def _to_the_end(client: DeepnoteClient, ids: list[str], seconds: float) -> dict[str, float]:
    """Stalls from the registering of the runs until all are told and forgotten."""
    del seconds
    stalls = Stalls()
    ticker = asyncio.create_task(stalls.watch())
    runs = await client.await_run(ids)
    told = len(runs)
    del runs
    await asyncio.sleep(AFTERWARDS)
    ticker.cancel()
    return {"told": told} | stalls.as_dict()


Work = Callable[[DeepnoteClient, list[str], float], Awaitable[dict[str, float]]]
WORK: Final[dict[str, Work]] = {"watch": _watch, "end": _to_the_end}


async def main() -> None:
    """Do one work as ordered on stdin; the findings go to stdout."""
    order = json.loads(sys.stdin.readline())
    ids: list[str] = order["ids"]
    # Told a rate out of reach, so that it is CPU that is measured.
    limiter = TokenBucket(1e6, 1e6, adaptive=False)
    async with DeepnoteClient(order["token"], base_url=order["url"], rate_limiter=limiter, poll=POLL) as client:
        await client.await_run(ids[:1], timeout=0.2, return_exceptions=True)  # loads what is loaded at first use
        found = await WORK[order["work"]](client, ids, order["seconds"])
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
