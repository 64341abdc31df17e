"""Deadlines of attempts, many of them on one timer.

``asyncio.timeout`` sets and cancels a timer for every attempt. Nearly all attempts have the same length, though, so
they come due in the order they began: a queue and one timer serve them all. The meaning is asyncio.timeout's own, a
cancellation that is taken back where it was raised.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import Final

__all__ = ["Deadlines", "Guard"]


class Guard:
    """One deadline for what the current task awaits; call :meth:`stop` when that is over, however it ended."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_handle", "task", "when")

    def __init__(self, deadlines: Deadlines, task: asyncio.Task[object], when: float) -> None:
        self._deadlines = deadlines
        self.task: asyncio.Task[object] | None = task
        self.when: float = when
        self._cancelling = task.cancelling()
        self._expired = False
        self._handle: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """Cancel what is awaited, because its time is over."""
        if self.task is not None and not self._expired:
            self._expired = True
            self.task.cancel()

    def expired(self) -> bool:
        """Whether a cancellation just caught is this guard's; if so, it is taken back."""
        return self._expired and self.task is not None and self.task.uncancel() <= self._cancelling

    def stop(self) -> None:
        """The awaited thing is over."""
        self.task = None
        if self._handle is not None:
            self._handle.cancel()
        else:
            self._deadlines.one_stopped()


class Deadlines:
    """The deadlines of one event loop's attempts, most of them ``usual`` seconds long."""

    __slots__ = ("_live", "_loop", "_queue", "_resting", "_timer", "usual")

    def __init__(self, usual: float) -> None:
        self.usual: Final = usual
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._queue: deque[Guard] = deque()
        self._live = 0
        self._resting = False  # soon to see whether the timer can go
        self._timer: asyncio.TimerHandle | None = None

    def guard(self, seconds: float) -> Guard:
        """Start a deadline for the current task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task: await the client within the event loop")
        guard = Guard(self, task, self._loop.time() + seconds)
        if seconds != self.usual:
            guard._handle = self._loop.call_at(guard.when, guard.expire)  # noqa: SLF001 - its other half
            return guard
        self._queue.append(guard)
        self._live += 1
        if self._timer is None:
            self._set(guard.when)
        return guard

    def one_stopped(self) -> None:
        """One of the usual ones is over; with the last of them the timer goes.

        Not at once: a task that makes one call after another would set and cancel a timer for each, at 3 % of a call.
        """
        self._live -= 1
        if self._live == 0:
            self._queue.clear()
            if not self._resting:
                self._resting = True
                self._loop.call_soon(self._rest)

    def _rest(self) -> None:
        self._resting = False
        if self._live == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, when: float) -> None:
        # In an empty context: it may outlast by far the call that first needs it.
        self._timer = self._loop.call_at(when, self._expire_due, context=contextvars.Context())

    def _expire_due(self) -> None:
        self._timer = None
        now = self._loop.time()
        queue = self._queue
        while queue and (queue[0].task is None or queue[0].when <= now):
            queue.popleft().expire()
        if queue:
            self._set(queue[0].when)
