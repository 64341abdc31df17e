"""How long a batch will still take, from the lengths of runs seen so far. No I/O, no clock.

It is honest by being rough: nothing until enough runs have ended, then a span. Runs still going count with the time
they have taken (censored observations), so that the short ones that end first do not make the rest look short.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

__all__ = ["Recent", "in_words", "remaining"]

ENOUGH: Final = 5  # runs that have ended; a batch of fewer is told of by its counts alone
CAUTION: Final = 1.3  # the span's upper end over the estimate of what is not started yet
LONGER: Final = 2.0  # the last to end is the longest, and those that have ended so far are the short ones


class Recent:
    """How fast a count that only grows has grown over the last ``over`` seconds, from its first look on.

    What the first look finds is no pace: a batch that is taken up again has much of an earlier day at once.
    """

    def __init__(self, over: float) -> None:
        self._over = over
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, now: float, count: int) -> float:
        """Take in the count at a time, and tell how much it grows a second; 0 at the first look."""
        if not self._seen:
            self._seen.append((now, count))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._over:
            self._seen.popleft()
        since, before = self._seen[0]
        if now > self._seen[-1][0]:
            self._seen.append((now, count))
        return (count - before) / max(now - since, 0.1)


def remaining(
    *,
    lengths: Sequence[float],
    ages: Sequence[float],
    waiting: int,
    at_once: int,
    starts_a_second: float,
    ends_a_second: float,
) -> tuple[float, float] | None:
    """The seconds until the last run ends, from and to, or None while too little is known.

    ``lengths`` of runs that ended, ``ages`` of those going on, how many are ``waiting`` to be started, how many may go
    on ``at_once``, and how many were started and have ended a second of late.
    """
    if not ages and not waiting:
        return 0.0, 0.0
    if len(lengths) < ENOUGH:
        return None
    ordered = sorted(lengths)
    mean = (sum(lengths) + sum(ages)) / len(lengths)
    typical, long = ordered[len(ordered) // 2], LONGER * max(ordered[-1], mean, *ages)
    if not waiting:
        return max(typical - min(ages), 0.0), max(long - min(ages), mean)
    pace = min(starts_a_second or math.inf, at_once / mean if mean > 0 else math.inf)
    until_started = waiting / pace if pace < math.inf else 0.0
    # What lengths and starts do not tell, as the reading of outputs, shows in the pace at which results come.
    at_this_pace = (waiting + len(ages)) / ends_a_second if ends_a_second > 0 else 0.0
    return until_started + typical, max(until_started * CAUTION + long, at_this_pace)


def in_words(span: tuple[float, float] | None) -> str:
    """A span for people, in figures no finer than it deserves: ``3 to 5 min left``."""
    if span is None:
        return ""
    low, high = span
    if high < 10:
        return "seconds left"
    unit, name = (1.0, "s") if high < 90 else (60.0, "min") if high < 90 * 60 else (3600.0, "h")
    step = 10 if name == "s" else 1
    low_shown, high_shown = (step * math.floor(low / unit / step), step * math.ceil(high / unit / step))
    if low_shown == 0:
        return f"up to {high_shown} {name} left"
    return f"{low_shown} to {high_shown} {name} left" if low_shown < high_shown else f"about {high_shown} {name} left"
