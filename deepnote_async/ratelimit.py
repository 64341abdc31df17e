"""The rate at which requests leave: a token bucket that finds an unpublished limit by itself.

:class:`Bucket` is the arithmetic, over a clock that is passed in. :class:`TokenBucket` is the bucket on the running
event loop's clock, as the client uses it.

How the limit is found. While nothing was refused the rate doubles each second in which it was what held requests
back. A refusal tells more than "slower": what went through since the last pause ended, over that time and the pause
now asked for, is the limit itself, both for a sliding bucket and for a fixed window, whose pause lasts to its end.
From there the rate follows the cubic of TCP CUBIC (RFC 9438): it comes back to the estimate, rests there, and then
probes beyond with growing steps. Its pace goes with the pauses, for the longer they are, the dearer a probe.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

from .errors import ConfigurationError
from .retry import LONGEST_PAUSE, backoff, pause_asked
from .settings import RetryPolicy

__all__ = ["Bucket", "RateLimiter", "TokenBucket"]

FIRST_RATE: Final = 5.0
LEAST_RATE: Final = 1 / LONGEST_PAUSE
SEARCH_CAPACITY: Final = 5.0
BACK_OFF_TO: Final = 0.95  # of the estimate, after a refusal
LEAST_PACE: Final = 4.0  # s from there back to the estimate
PACE_PER_PAUSE: Final = 10.0
PACE_KEPT: Final = 0.7
TELLING: Final = 5  # fewer successes than this between two refusals tell of a burst, not of a rate
MARKS: Final = 12
SEARCH_SUFFIX: Final = 1.0  # s that a part of the time since the last pause must cover to tell of the limit
CRUISE_SUFFIX: Final = 4.0
ROUNDING: Final = 0.5  # s by which a pause in whole seconds is too long on average
SAME_REFUSAL: Final = 1.0  # s after one that teaches, in which others are taken for its echo
IDLE: Final = 1.0  # s with a full bucket after which what went before tells nothing of the limit


@runtime_checkable
class RateLimiter(Protocol):
    """What paces a client's requests; several clients may share one.

    ``acquire`` returns when one more request may leave. It is called by one task at a time and may be cancelled, and
    must then have taken nothing. ``answered`` is told every answer's status and headers, and must be quick.
    """

    async def acquire(self) -> None:
        """Wait until one request may leave."""
        ...

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Hear of an answer."""
        ...


class Bucket:
    """A token bucket whose rate may be learned; every method is told the time, in seconds of any steady clock.

    At most ``capacity`` + rate x t requests are admitted in any t seconds.
    """

    __slots__ = (
        "_capacity",
        "_ceiling",
        "_clean_since",
        "_clean_successes",
        "_cut_at",
        "_estimate",
        "_hint",
        "_hint_until",
        "_learns",
        "_marks",
        "_pace",
        "_pressed",
        "_rate",
        "_refusals",
        "_rng",
        "_searching",
        "_stamp",
        "_taught",
        "_tokens",
        "_wanted",
        "paused_until",
    )

    def __init__(
        self,
        rate: float | None = None,
        capacity: float | None = None,
        *,
        adaptive: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        self._ceiling = rate if rate is not None else math.inf
        self._rate = rate if rate is not None else FIRST_RATE
        self._capacity = capacity
        self._learns = adaptive
        self._searching = adaptive and rate is None
        self._estimate = self._ceiling
        self._rng = rng or random.Random()
        self._tokens = self.capacity
        self._stamp = -math.inf
        self.paused_until: float = -math.inf
        self._wanted = False  # whether somebody waits for a token
        self._cut_at = -math.inf
        self._taught = True  # by the last refusal; if it told of a burst only, what follows is added to what it knew
        self._refusals = 0  # without a success between
        self._pressed = 0.0  # s in use since the last refusal, or since the last doubling
        self._pace = LEAST_PACE
        self._clean_since = -math.inf
        self._clean_successes = 0
        # Moments since the last pause, one a second, and the successes before each.
        self._marks: deque[tuple[float, int]] = deque(maxlen=MARKS)
        self._hint = math.inf
        self._hint_until = -math.inf

    @property
    def rate(self) -> float:
        """Requests a second at which tokens come now."""
        return self._rate

    @property
    def capacity(self) -> float:
        """The most tokens that can be saved up."""
        if self._capacity is not None:
            return self._capacity
        tenth = max(1.0, self._rate / 10)
        return max(tenth, SEARCH_CAPACITY) if self._searching else tenth

    def take(self, now: float, reserve: float = 0.0) -> float:
        """Take a token and return 0.0, or return the seconds after which it is worth asking again.

        So many tokens are left in ``reserve``, where the capacity holds more than that.
        """
        if now < self.paused_until:
            return self.paused_until - now
        self._refill(now)
        needed = 1.0 + reserve if reserve and self.capacity >= 1.0 + reserve else 1.0
        if self._tokens >= needed - 1e-9:
            self._tokens -= 1.0
            return 0.0
        self._wanted = True
        return max((needed - self._tokens) / self._pace_now(now), 1e-6)

    def give_back(self) -> None:
        """Return a token that was taken for a request that never left."""
        self._tokens = min(self._tokens + 1.0, self.capacity)

    def _pace_now(self, now: float) -> float:
        return min(self._rate, self._hint) if now < self._hint_until else self._rate

    def _refill(self, now: float) -> None:
        if self._stamp == -math.inf:
            self._stamp = self._clean_since = now
            return
        elapsed = now - self._stamp
        if elapsed <= 0.0:
            return
        self._stamp = now
        gained = self._tokens + elapsed * self._pace_now(now)
        capacity = self.capacity
        if gained < capacity:
            self._tokens = gained
        else:
            self._tokens = capacity
            self._wanted = False
            if gained - capacity > IDLE * self._rate:
                self._clean_since, self._clean_successes = now, 0
                self._marks.clear()
        # Only while it is what holds requests back does a clean second say anything.
        if self._wanted and self._learns:
            self._grow(elapsed)

    def _grow(self, elapsed: float) -> None:
        if self._hint < self._rate:
            return
        self._pressed += elapsed
        if self._searching:
            if self._pressed >= max(1.0, 1.0 / self._rate):
                self._pressed = 0.0
                self._rate = min(self._rate * 2.0, self._ceiling)
        elif self._rate < self._ceiling:
            self._rate = min(self._cubic(), self._ceiling)

    def _cubic(self) -> float:
        offset = self._pressed / self._pace - 1.0
        return self._estimate * (1.0 + (1.0 - BACK_OFF_TO) * offset**3)

    def answered(self, status: int, headers: Mapping[str, str], now: float) -> None:
        """Learn from an answer: a 429 pauses every caller, ``RateLimit-*`` headers slow down before that."""
        if status == 429:
            self._refused(headers, now)
            return
        self._refusals = 0
        if not self._marks or now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, self._clean_successes))
        self._clean_successes += 1
        remaining = headers.get("RateLimit-Remaining")
        if remaining is not None:
            self._heed(remaining, headers.get("RateLimit-Reset"), now)

    def _heed(self, remaining: str, reset: str | None, now: float) -> None:
        try:
            left, seconds = float(remaining), float(reset or "")
        except ValueError:
            return
        if not (0.0 < seconds <= LONGEST_PAUSE and left >= 0.0):
            return
        self._hint, self._hint_until = left / seconds, now + seconds
        if left < 1.0:
            self._hint = math.inf
            self._pause(now, seconds)

    def _refused(self, headers: Mapping[str, str], now: float) -> None:
        asked = pause_asked(headers)
        # Answers to what left before the pause are the same refusal, heard again.
        again = now < max(self.paused_until, self._cut_at + SAME_REFUSAL)
        if not again:
            self._refusals += 1
        pause = asked if asked is not None else backoff(self._refusals, RetryPolicy(), self._rng)
        if self._learns and not again:
            self._learn(now, pause)
        self._pause(now, pause)

    def _pause(self, now: float, pause: float) -> None:
        self.paused_until = max(self.paused_until, now + min(pause, LONGEST_PAUSE))
        # What was saved up is spent; one token is ready when the pause ends, if the rate allows that.
        self._tokens = min(self._tokens, 0.0)
        self._stamp = max(now, self.paused_until - 1.0 / self._rate)
        if self._taught:
            self._clean_since, self._clean_successes = self.paused_until, 0
            self._marks.clear()

    def _learn(self, now: float, pause: float) -> None:
        if pause == int(pause):
            pause -= ROUNDING  # given in whole seconds it was rounded up
        pause = max(pause, 1e-3)
        estimate = self._measured(now, pause)
        telling = self._clean_successes >= TELLING
        self._taught = telling
        self._estimate = min(estimate, self._rate) if telling else self._rate / 2
        self._rate = max(self._estimate * BACK_OFF_TO, LEAST_RATE)
        self._cut_at = now
        self._pace = max(LEAST_PACE, PACE_PER_PAUSE * pause, self._pace * PACE_KEPT)
        self._pressed = 0.0
        self._searching = not telling

    def _measured(self, now: float, pause: float) -> float:
        """The limit by what went through since the last pause, or lately: rising slowly would dilute the rest."""
        # Of a long pause only a long time tells: it lasts to the end of a window that began when the last one ended.
        least = max(SEARCH_SUFFIX if self._searching else CRUISE_SUFFIX, 2.0 * pause)
        best = max(self._clean_successes, 1) / (max(now - self._clean_since, 0.0) + pause)
        for since, before in self._marks:
            if now - since >= least and self._clean_successes - before >= TELLING:
                best = max(best, (self._clean_successes - before) / (now - since + pause))
        return best


class TokenBucket:
    """A token bucket: ``rate`` in requests a second, ``capacity`` the burst it allows.

    A given rate is used from the start and never exceeded; without one the bucket searches for the limit. With
    ``adaptive`` it comes down at a 429 and up again slowly; without, a 429 pauses it and changes nothing else.
    ``capacity`` None is a tenth of a second's requests, at least 1 (5 while searching). One bucket may be shared by
    several clients of one event loop. Raises :class:`ConfigurationError` for a rate of 0, below, or not a number.
    """

    __slots__ = ("_bucket",)

    def __init__(self, rate: float | None = None, capacity: float | None = None, *, adaptive: bool = True) -> None:
        if rate is not None and not _is_positive(rate):
            raise ConfigurationError(f"rate is a number of requests a second over 0, or None to search, not {rate!r}")
        if capacity is not None and not (_is_positive(capacity) and capacity >= 1):
            raise ConfigurationError(f"capacity is a number of requests of at least 1, not {capacity!r}")
        if rate is None and not adaptive:
            raise ConfigurationError("without adaptive=True the bucket cannot search: give a rate")
        self._bucket = Bucket(rate, capacity, adaptive=adaptive)

    @property
    def rate(self) -> float:
        """Requests a second allowed at this moment."""
        return self._bucket.rate

    @property
    def capacity(self) -> float:
        """Requests that may leave at once after a rest."""
        return self._bucket.capacity

    def take(self, reserve: float = 0.0) -> float:
        """Take a token at once and return 0.0, or return the seconds after which it is worth asking again.

        So many tokens are left in ``reserve``, where the capacity holds more than that.
        """
        return self._bucket.take(asyncio.get_running_loop().time(), reserve)

    async def acquire(self) -> None:
        """Wait for a token; cancelled, it has taken none."""
        # No event tells that a token is due: time does.
        while delay := self.take():  # noqa: ASYNC110
            await asyncio.sleep(delay)

    def give_back(self) -> None:
        """Return a token whose request never left."""
        self._bucket.give_back()

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer's status and headers."""
        self._bucket.answered(status, headers, asyncio.get_running_loop().time())

    def __repr__(self) -> str:
        return f"TokenBucket(rate={self.rate:.3g}, capacity={self.capacity:.3g})"


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
