"""Admission: one slot and one token, granted together, to the best waiter at that moment.

Granting them together keeps either from inverting the other: a caller that holds a slot never waits for a token, and
a token is never spent on a caller that then waits for a slot. While several wait, one acquire of the limiter is
pending, and whoever is best when it comes gets it: interactive calls first, then starts and looks in turn.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from .errors import ClientClosedError, ConfigurationError, DeepnoteError

if TYPE_CHECKING:
    from .ratelimit import RateLimiter

logger: logging.Logger = logging.getLogger("deepnote_async")

__all__ = ["Gate", "Lane", "NoLimit", "Slots"]

# An endless stream of interactive calls may not starve the rest: every so many grants one goes past it.
INTERACTIVE_IN_A_ROW: Final = 9


class Lane(enum.IntEnum):
    """What a request is for, in the order of precedence."""

    INTERACTIVE = 0
    START = 1
    LOOK = 2


# Tokens that starts and looks leave behind, so that a caller's own call need not wait for the next one.
RESERVE: Final = {Lane.INTERACTIVE: 0.0, Lane.START: 1.0, Lane.LOOK: 1.0}


class Slots:
    """How many requests may be on the wire at once; several gates may share one count."""

    __slots__ = ("free", "limit", "short")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.free: int = limit
        self.short: deque[Gate] = deque()  # that have waiters and found no slot, the next one first

    def wanted_by(self, gate: Gate) -> None:
        """Remember a gate that has waiters and found no slot free."""
        if gate not in self.short:
            self.short.append(gate)

    def release(self) -> None:
        """Free one slot and wake all gates short of one, for the first of them may have nobody left or no token."""
        self.free += 1
        for gate in tuple(self.short):
            gate.wake()

    def served(self, gate: Gate) -> None:
        """A gate has had its turn: the others that are short of a slot come before it."""
        if gate in self.short:
            self.short.remove(gate)
            if gate.waiting:
                self.short.append(gate)


class NoLimit:
    """The limiter of requests that count against no limit of the service's."""

    def take(self, _: float = 0.0) -> float:
        """There is always a token."""
        return 0.0

    def give_back(self) -> None:
        """Nothing was taken."""

    async def acquire(self) -> None:
        """There is always a token."""

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Nothing follows from an answer."""


class Gate:
    """Lets requests through as slots and the limiter allow."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_lanes",
        "_nap",
        "_pump",
        "_row",
        "_slots",
        "_spare",
        "_started_last",
        "_take",
        "limiter",
        "waiting",
    )

    def __init__(self, slots: Slots, limiter: RateLimiter) -> None:
        self._slots = slots
        self.limiter: RateLimiter = limiter
        # Our own bucket can tell at once whether a token is there; another limiter is always asked by the pump.
        self._take: Callable[[float], float] | None = getattr(limiter, "take", None)
        self._lanes: tuple[deque[asyncio.Future[None]], ...] = (deque(), deque(), deque())
        self._pump: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None
        self._row = 0
        self._started_last = False
        self._spare = False
        self._closed = False
        self.waiting: int = 0

    def try_enter(self, lane: Lane) -> bool:
        """Take a slot and a token if both are there and nobody who comes first waits for them."""
        # Where some gate is short of a slot it is that one's turn, whoever comes first.
        if self._slots.free == 0 or self._slots.short or self._take is None:
            return False
        if self.waiting and (lane is not Lane.INTERACTIVE or self._lanes[lane] or self._row >= INTERACTIVE_IN_A_ROW):
            return False
        if self._take(RESERVE[lane]):
            return False
        self._slots.free -= 1
        if self.waiting:
            self._row += 1
        return True

    async def enter(self, lane: Lane) -> None:
        """Wait for a slot and a token; :meth:`leave` gives the slot back. Cancelled, it holds neither."""
        if self._closed:
            raise ClientClosedError("the client is closed")
        if self.try_enter(lane):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes[lane].append(future)
        self.waiting += 1
        self.wake()
        if lane is Lane.INTERACTIVE and self._nap is not None and not self._nap.done():
            self._nap.set_result(None)  # the pump waits for more than this one needs
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._forget_one()
            elif future.exception() is None:
                self.unused()
            raise

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.release()

    def unused(self) -> None:
        """Give back a grant for which nothing was sent: to the next waiter, else slot and token to where they were."""
        future = self._best()
        if future is not None:
            future.set_result(None)
            return
        self._give_back()
        self._slots.release()

    def close(self) -> None:
        """Refuse everyone, those who wait included."""
        self._closed = True
        self._refuse(lambda: ClientClosedError("the client was closed"))

    def wake(self) -> None:
        """Set the pump going if there is somebody to grant to and something to grant."""
        if self.waiting == 0:
            self._slots.served(self)
            return
        if self._pump is not None:
            return
        if self._slots.free == 0:
            self._slots.wanted_by(self)
            return
        # Not by the loop's task factory: an eager one would run it to its end before it stands here as the pump.
        self._pump = asyncio.Task(
            self._grant_while_waiting(),
            loop=asyncio.get_running_loop(),
            name="deepnote gate",
            context=contextvars.Context(),
        )

    def _forget_one(self) -> None:
        # The cancelled future itself stays in its lane until it comes up: taking it out would be O(n).
        self.waiting -= 1
        if self.waiting == 0:
            self._empty()

    def _empty(self) -> None:
        for lane in self._lanes:
            lane.clear()
        self._stop_pump()

    def _stop_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def _refuse(self, error: Callable[[], DeepnoteError]) -> None:
        for lane in self._lanes:
            for future in lane:
                # One that is cancelled but has not run yet counts itself out.
                if not future.done():
                    self.waiting -= 1
                    future.set_exception(error())
        self._empty()

    async def _grant_while_waiting(self) -> None:
        try:
            while self.waiting and self._slots.free:
                await self._token()
                if not self._grant():
                    break  # let those who are cancelled count themselves out
        except Exception as error:
            logger.exception("the rate limiter failed")
            reason = f"the rate limiter failed: {type(error).__name__}: {error}"
            self._pump = None
            self._refuse(lambda: ConfigurationError(reason))
            return
        self._pump = None
        self.wake()

    async def _token(self) -> None:
        if self._spare:
            return
        if self._take is None:
            await self.limiter.acquire()
            return
        loop = asyncio.get_running_loop()
        while delay := self._take(RESERVE[Lane.INTERACTIVE if self._lanes[Lane.INTERACTIVE] else Lane.LOOK]):
            nap = self._nap = loop.create_future()
            timer = loop.call_later(delay, _end_nap, nap)
            try:
                await nap
            finally:
                self._nap = None
                timer.cancel()

    def _grant(self) -> bool:
        # While the limiter was asked, another gate may have taken the last slot.
        future = self._best() if self._slots.free else None
        self._spare = False
        if future is None:
            self._give_back()
        else:
            self._slots.free -= 1
            self._slots.served(self)
            future.set_result(None)
        return future is not None

    def _give_back(self) -> None:
        """Return a token to the limiter, or keep it for who comes next if the limiter takes none back."""
        give_back: Callable[[], None] | None = getattr(self.limiter, "give_back", None)
        if give_back is not None:
            give_back()
        else:
            self._spare = True

    def _best(self) -> asyncio.Future[None] | None:
        """Take out the waiter that is to have the next grant."""
        # Not while somebody waits: all who do may be cancelled, and not yet have run to count themselves out.
        while any(self._lanes):
            future = self._lanes[self._choose()].popleft()
            if not future.done():
                self.waiting -= 1
                return future
        return None

    def _choose(self) -> Lane:
        interactive, starts, looks = self._lanes
        if interactive and (self._row < INTERACTIVE_IN_A_ROW or not (starts or looks)):
            self._row += 1
            return Lane.INTERACTIVE
        self._row = 0
        start = bool(starts) and not (looks and self._started_last)
        self._started_last = start
        return Lane.START if start else Lane.LOOK


def _end_nap(nap: asyncio.Future[None]) -> None:
    if not nap.done():
        nap.set_result(None)
