"""The process whose instructions are counted: one way of a call, so often, one after another."""

from __future__ import annotations

import asyncio
import sys

from .calls import WAYS


async def _make(way: str, url: str, calls: int) -> None:
    async with WAYS[way](url) as call:
        for _ in range(calls):
            await call()


if __name__ == "__main__":
    asyncio.run(_make(sys.argv[1], sys.argv[2], int(sys.argv[3])))
