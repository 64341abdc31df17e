"""The process that ``overhead`` measures: two ways of a call in turn, A B A B, by its own CPU time."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import Call


async def _burst(call: Call, workers: int, each: int) -> float:
    """CPU seconds a call takes, with so many workers making so many each."""

    async def work() -> None:
        for _ in range(each):
            await call()

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(workers)))
    return (time.process_time() - began) / (workers * each)


async def _alternate(order: dict[str, Any]) -> list[tuple[float, float]]:
    # Not before it is settled whether orjson is there.
    from .calls import WAYS
    from .generated import GENERATORS

    ways = WAYS | {name: generator.way for name, generator in GENERATORS.items()}
    workers, each = order["workers"], max(order["calls"] // order["workers"], 1)
    one, other = (ways[name](order["url"]) for name in order["ways"])
    async with one as first, other as second:
        for call in (first, second):
            await _burst(call, workers, max(each // 5, 1))
        return [
            (await _burst(first, workers, each), await _burst(second, workers, each)) for _ in range(order["pairs"])
        ]


def _runner(*, speed: bool) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """How to run: with the extra ``speed`` or as if it were not installed."""
    if speed:
        run: Callable[[Coroutine[Any, Any, Any]], Any] = importlib.import_module("uvloop").run
        return run
    modules: dict[str, Any] = sys.modules
    modules["orjson"] = None
    return asyncio.run


def main() -> None:
    """Measure as ordered on stdin; the seconds a call, pair by pair, go to stdout."""
    order = json.loads(sys.stdin.readline())
    print(json.dumps(_runner(speed=order["speed"])(_alternate(order))))


if __name__ == "__main__":
    main()
