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

SPENT: Final = 16  # guards that may lie in the queue beside the live ones, and as many more as there are of those


class Guard:
    """One deadline for what the current task awaits; call :meth:`stop` when that is over, however it ended."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "handle", "task", "until_close", "when")

    def __init__(self, deadlines: Deadlines, task: asyncio.Task[object], when: float, until_close: bool) -> None:
        self._deadlines = deadlines
        self.task: asyncio.Task[object] | None = task
        self.when: float = when
        self.until_close: bool = until_close
        self._cancelling = task.cancelling()
        self._expired = False
        self.handle: asyncio.TimerHandle | None = None  # of a timer of its own

    def expire(self) -> None:
        """Cancel what is awaited, because its time is over."""
        if self.task is not None and not self._expired:
            self._expired = True
            self.task.cancel()

    def expired(self) -> bool:
        """Whether a cancellation just caught is this guard's; if so, it is taken back."""
        if not self._expired or self.task is None:
            return False
        self._expired = False
        return self.task.uncancel() <= self._cancelling

    def stop(self) -> None:
        """The awaited thing is over."""
        if self._expired:
            # What was awaited made an error of its own of the cancellation: it is taken back all the same.
            self.expired()
        self.task = None
        self._deadlines.stopped(self)


class Deadlines:
    """The deadlines of one event loop's attempts, most of them ``usual`` seconds long."""

    __slots__ = ("_context", "_live", "_loop", "_others", "_queue", "_resting", "_timer", "usual")

    def __init__(self, usual: float) -> None:
        self.usual: Final = usual
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._queue: deque[Guard] = deque()
        self._others: set[Guard] = set()  # of another length, each with a timer of its own
        self._live = 0
        self._resting = False  # soon to see whether the timer can go
        # The timer's own, empty: it may outlast by far the call that first needs it.
        self._context = contextvars.Context()
        self._timer: asyncio.TimerHandle | None = None

    def guard(self, seconds: float, *, until_close: bool = False) -> Guard:
        """Start a deadline for the current task; with ``until_close``, :meth:`close` is one as well."""
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a deadline needs a task: await the client within the event loop")
        guard = Guard(self, task, self._loop.time() + seconds, until_close)
        if seconds != self.usual:
            self._others.add(guard)
            guard.handle = self._loop.call_at(guard.when, guard.expire)
            return guard
        self._live += 1
        if len(self._queue) > SPENT + 2 * self._live:
            self._queue = deque(waiting for waiting in self._queue if waiting.task is not None)
        self._queue.append(guard)
        if self._timer is None:
            self._set(guard.when)
        return guard

    def close(self) -> None:
        """Expire the guards that were made with ``until_close``."""
        for guard in [*self._queue, *self._others]:
            if guard.until_close:
                guard.expire()

    def stopped(self, guard: Guard) -> None:
        """A guard is over; with the last of the usual ones their timer goes.

        Not at once: a task that makes one call after another would set and cancel a timer for each, at 2 % of a call.
        """
        if guard.handle is not None:
            guard.handle.cancel()
            self._others.discard(guard)
            return
        self._live -= 1
        if self._live == 0:
            self._queue.clear()
            # A call that its loop was closed under ends when it is collected.
            if not (self._resting or self._loop.is_closed()):
                self._resting = True
                self._loop.call_soon(self._rest, context=self._context)

    def _rest(self) -> None:
        self._resting = False
        if self._live == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, when: float) -> None:
        self._timer = self._loop.call_at(when, self._expire_due, context=self._context)

    def _expire_due(self) -> None:
        self._timer = None
        now = self._loop.time()
        queue = self._queue
        while queue and (queue[0].task is None or queue[0].when <= now):
            queue.popleft().expire()
        if queue:
            self._set(queue[0].when)
