"""What time it is for the service, from the ``Date`` of its answers."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Final

from .retry import server_time

__all__ = ["ServerClock"]

# 2000 and 2100: a Date beyond says nothing, and times reckoned from it would not be times any more.
EARLIEST: Final = 946_684_800.0
LATEST: Final = 4_102_444_800.0


class ServerClock:
    """The service's time as an offset from a steady clock of ours.

    A ``Date`` is cut to the second, so each answer says only that the service's time lay within one second of it when
    the answer left. The offset is kept within all that was heard; where nothing fits any more, a clock was set anew,
    and the newest word counts.
    """

    __slots__ = ("_high", "_last", "_low", "_wall")

    def __init__(self) -> None:
        self._low = -math.inf
        self._high = math.inf
        self._last = ""
        self._wall: float | None = None  # our own wall clock as an offset from the steady one

    def began(self, now: float) -> None:
        """Set out from our own wall clock, which counts until the first answer."""
        self._wall = time.time() - now

    def heard(self, date: str | None, now: float) -> None:
        """Take in the ``Date`` of an answer that came ``now``."""
        if date is None or date == self._last:
            return
        self._last = date
        then = server_time(date)
        if then is None or not EARLIEST < then < LATEST:
            return
        # The answer left at most a moment before it came, at least at the start of its second.
        low, high = then - now, then + 1.0 - now
        self._low, self._high = max(self._low, low), min(self._high, high)
        if self._low > self._high:
            self._low, self._high = low, high

    @property
    def known(self) -> bool:
        """Whether an answer has told the time."""
        return self._low > -math.inf

    def at(self, now: float, wall: float | None = None) -> float:
        """The service's time in seconds since the epoch; before any answer, our own wall clock."""
        if self._low == -math.inf:
            ours = time.time() if self._wall is None else now + self._wall
            return ours if wall is None else wall
        return now + (self._low + self._high) / 2

    def datetime_at(self, now: float, shift: float = 0.0) -> datetime:
        """The service's time, ``shift`` seconds on, as an aware UTC datetime."""
        return datetime.fromtimestamp(self.at(now) + shift, UTC)
