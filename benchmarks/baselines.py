"""What programs do without this client: a loop for each run, five attempts for each call."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, Final

import attrs

from deepnote_async import TokenBucket

from .measure import Told
from .settings import SPEED, Setting
from .worlds import Answer, Caller, NoAnswerError, World

__all__ = ["BACKOFF", "BASELINES", "Polling"]

ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.5  # s, doubled after each attempt, unless the service says how long
FINAL: Final = {"success", "error", "internal_error", "stopped"}


class _GivenUpError(Exception):
    """Five attempts came to nothing."""


@attrs.frozen(kw_only=True)
class Polling:
    """A way of polling: intervals from ``first``, times ``factor``, to ``longest`` seconds.

    ``paced`` lets every request pass a token bucket that is told the limit.
    """

    name: str
    first: float
    factor: float = 1.0
    longest: float
    paced: bool

    def intervals(self) -> Iterator[float]:
        """The pauses between two reads of a run."""
        for step in itertools.count():
            yield min(self.first * self.factor ** min(step, 100), self.longest)

    async def __call__(self, world: World, setting: Setting) -> Told:
        """Start all runs and ask for each by itself until it has ended."""
        told = Told()
        async with world.caller() as call:
            attempts = _Attempts(call, TokenBucket(setting.pace, adaptive=False) if self._is_paced(setting) else None)
            notebooks = itertools.cycle(world.notebooks)
            await asyncio.gather(*(self._one(world, attempts, next(notebooks), told) for _ in range(setting.runs)))
        return told

    def _is_paced(self, setting: Setting) -> bool:
        return self.paced and setting.pace is not None

    async def _one(self, world: World, attempts: _Attempts, notebook_id: str, told: Told) -> None:
        try:
            run_id = (await attempts("POST", "/v2/runs", {"notebookId": notebook_id}))["runId"]
            for interval in self.intervals():
                await asyncio.sleep(interval)
                status = (await attempts("GET", f"/v2/runs/{run_id}"))["run"]["status"]
                if status in FINAL:
                    told.note(run_id, world.now(), succeeded=status == "success")
                    return
        except _GivenUpError:
            return


class _Attempts:
    """A minimal caller with patience, and with a bucket if there is one."""

    def __init__(self, call: Caller, bucket: TokenBucket | None) -> None:
        self._call = call
        self._bucket = bucket
        self._turn = asyncio.Lock()

    async def __call__(self, method: str, path: str, body: Any = None) -> Any:
        for attempt in range(ATTEMPTS):
            if self._bucket is not None:
                async with self._turn:  # first come, first served
                    await self._bucket.acquire()
            pause = FIRST_PAUSE * 2**attempt
            try:
                answer: Answer = await self._call(method, path, body)
            except NoAnswerError:
                pass
            else:
                if answer.status < 300:
                    return answer.body
                pause = answer.retry_after if answer.retry_after is not None else pause
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(pause)
        raise _GivenUpError


_POLL: Final = 2.0 / SPEED
BACKOFF: Final = Polling(
    name="backoff x1.5, token bucket", first=1.0 / SPEED, factor=1.5, longest=30.0 / SPEED, paced=True
)
BASELINES: Final = (
    Polling(name=f"poll each {_POLL:g} s", first=_POLL, longest=_POLL, paced=False),
    Polling(name=f"poll each {_POLL:g} s, token bucket", first=_POLL, longest=_POLL, paced=True),
    BACKOFF,
)
