"""The way most programs begin: a loop for each run, a few attempts for each call, nothing shared between them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from .tally import Tally

__all__ = ["run_naively"]

ATTEMPTS = 5
FIRST_PAUSE = 0.5  # s, doubled after each attempt, unless the service says how long
FINAL = {"success", "error", "internal_error", "stopped"}


class _GivenUpError(Exception):
    """Five attempts came to nothing."""


async def run_naively(url: str, token: str, notebook_id: str, tally: Tally, *, interval: float) -> None:
    """Start all runs at once and ask for each by itself every ``interval`` seconds until it has ended."""
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:
        await asyncio.gather(
            *(_one(session, notebook_id, number, tally, interval) for number in range(tally.wanted)),
        )
    tally.seconds = time.monotonic() - began


async def _one(session: aiohttp.ClientSession, notebook_id: str, number: int, tally: Tally, interval: float) -> None:
    doing = "starting"
    try:
        body = {"notebookId": notebook_id, "inputs": {"case": str(number)}}
        run_id = (await _call(session, tally, "POST", "/v2/runs", body))["runId"]
        tally.started += 1
        doing = "waiting"
        while True:
            answer = await _call(session, tally, "GET", f"/v2/runs/{run_id}")
            status = answer.get("run", answer)["status"]
            if status in FINAL:
                tally.count_end(run_id, time.time(), succeeded=status == "success")
                return
            await asyncio.sleep(interval)
    except _GivenUpError:
        tally.give_up(doing)


async def _call(session: aiohttp.ClientSession, tally: Tally, method: str, path: str, body: Any = None) -> Any:
    for attempt in range(ATTEMPTS):
        tally.requests += 1
        pause = FIRST_PAUSE * 2**attempt
        try:
            async with session.request(method, path, json=body) as answer:
                if answer.ok:
                    return await answer.json()
                tally.throttled += answer.status == 429
                pause = float(answer.headers.get("Retry-After", pause))
        except aiohttp.ClientError:
            pass
        if attempt + 1 < ATTEMPTS:
            await asyncio.sleep(pause)
    raise _GivenUpError
