"""One wait: the runs somebody awaits together, and what is to be told of them.

Awaiting one run, awaiting many, iterating as they end and feeding a batch are this one thing, read in different ways.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..errors import DeepnoteError, InvalidRequestError
from ..models import Run

if TYPE_CHECKING:
    from ..snapshots import Snapshot
    from .watched import Watched

__all__ = ["Outcome", "Updates", "Wait", "last_looks_before"]

logger: logging.Logger = logging.getLogger("deepnote_async")

Outcome: TypeAlias = Run | DeepnoteError
OnUpdate: TypeAlias = Callable[[Run], Any]
LAST_TENTH: Final = 0.25  # s, at most


def last_looks_before(deadline: float, timeout: float) -> float:
    """When the last looks before a deadline are to be made: in the last tenth of the time, at most 0.25 s before."""
    return deadline - min(timeout / 10, LAST_TENTH)


class Updates:
    """Calls a caller's ``on_update`` in the caller's own context.

    A plain function is called at once. A coroutine function runs one call at a time; meanwhile only the newest state
    of each run is kept for it.
    """

    __slots__ = ("_context", "_failed", "_on_update", "_pending", "_task")

    def __init__(self, on_update: OnUpdate) -> None:
        self._on_update = on_update
        self._context = contextvars.copy_context()
        self._pending: dict[str, Run] = {}
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    def tell(self, run: Run) -> None:
        """Pass on a run's new state."""
        if self._task is not None and not self._task.done():
            self._pending[run.run_id] = run
            return
        try:
            answer = self._context.run(self._on_update, run)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - a caller's function may raise anything
            self._log(error)
            return
        if inspect.isawaitable(answer):
            self._task = asyncio.get_running_loop().create_task(
                self._drain(answer), name="deepnote on_update", context=self._context.copy()
            )
            if inspect.iscoroutine(answer):
                coroutine = answer
                # Cancelled before its first step, the task would leave it unawaited.
                self._task.add_done_callback(lambda _: coroutine.close())

    async def _drain(self, answer: Any) -> None:
        while True:
            try:
                await answer
            except Exception as error:  # noqa: BLE001 - as above
                self._log(error)
            if not self._pending:
                return
            run = self._pending.pop(next(iter(self._pending)))
            try:
                answer = self._on_update(run)
            except Exception as error:  # noqa: BLE001 - as above
                self._log(error)
                answer = asyncio.sleep(0)

    def _log(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            message = "on_update failed; it goes on being called, but this wait's further failures are not logged"
            logger.warning(message, exc_info=error)

    async def finish(self, deadline: float | None = None) -> None:
        """Wait until everything told has been passed on, but not past the deadline."""
        if self._task is not None:
            left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
            await asyncio.wait([self._task], timeout=left)

    def cancel(self) -> None:
        """Pass on no more."""
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()


class Wait:
    """Collects the outcomes of the runs added to it; the watcher tells, one reader takes."""

    __slots__ = ("_reader", "alone", "open", "snapshot", "told", "updates")

    def __init__(self, snapshot: Snapshot | None = None, on_update: OnUpdate | None = None) -> None:
        self.snapshot = snapshot
        self.alone: dict[Wait, None] = {self: None}  # shared by all runs that nobody else awaits
        self.updates: Updates | None = Updates(on_update) if on_update is not None else None
        self.open: dict[str, Watched] = {}
        self.told: deque[tuple[str, Outcome]] = deque()
        self._reader: asyncio.Future[None] | None = None

    def update(self, run: Run) -> None:
        """Hear of a run's new state."""
        if self.updates is not None:
            self.updates.tell(run)

    def tell(self, run_id: str, outcome: Outcome) -> None:
        """Hear how a run ended, or why it can no longer be awaited."""
        self.open.pop(run_id, None)
        self.told.append((run_id, outcome))
        self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def changed(self, deadline: float | None = None) -> bool:
        """Wait until something is told or :meth:`wake` is called; False if the deadline came first.

        Cancelled, it has taken nothing: what was told is still there.
        """
        if self.told:
            return True
        if self._reader is not None:
            raise InvalidRequestError("one task at a time reads a wait: another waits for its next run already")
        loop = asyncio.get_running_loop()
        reader = self._reader = loop.create_future()
        timer = None if deadline is None else loop.call_at(deadline, _expire, reader)
        try:
            await reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()
        return bool(self.told) or deadline is None or loop.time() < deadline


def _expire(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)
