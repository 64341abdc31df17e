"""Rate limits of two shapes, as state machines over a passed clock.

Rates and windows are in real seconds, whatever the time scale of the service: they bound what a client sends, and
``Retry-After`` is what it must wait by its own clock.
"""

from __future__ import annotations

import math
from typing import Protocol

import attrs

__all__ = ["FixedWindow", "Limit", "SlidingLimit", "Verdict"]


@attrs.frozen
class Verdict:
    """Whether a request is let in, and the headers that say so."""

    admitted: bool
    headers: dict[str, str] = attrs.field(factory=dict)


class Limit(Protocol):
    """A rate limit: asked once for every request, before anything else happens to it."""

    def admit(self, now: float, /) -> Verdict:
        """Count one request at ``now`` (real seconds) and judge it."""
        ...


def _seconds(value: float, *, fractional: bool) -> str:
    return f"{value:.3f}" if fractional else str(max(1, math.ceil(value)))


@attrs.define(eq=False)
class SlidingLimit:
    """A token bucket: ``rate`` requests a second, ``burst`` at once after a pause.

    ``fractional`` answers Retry-After in decimals; the live service rounds up to whole seconds. ``announce`` sends
    the RateLimit headers with every answer, ``retry_after=False`` leaves a 429 without a hint.
    """

    rate: float = attrs.field(validator=attrs.validators.gt(0))
    burst: float = attrs.field(default=1.0, validator=attrs.validators.ge(1))
    fractional: bool = attrs.field(default=False, kw_only=True)
    announce: bool = attrs.field(default=False, kw_only=True)
    retry_after: bool = attrs.field(default=True, kw_only=True)
    _level: float = attrs.field(default=0.0, init=False)
    _at: float | None = attrs.field(default=None, init=False)

    def admit(self, now: float, /) -> Verdict:
        """Take one token at ``now`` if there is one; a refused request takes none."""
        passed = math.inf if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._level = min(self.burst, self._level + passed * self.rate)
        # A client that waits exactly as long as told must not miss its token by a rounding error.
        admitted = self._level >= 1.0 - 1e-9
        if admitted:
            self._level -= 1.0
        return Verdict(admitted, self._headers(admitted=admitted))

    def _headers(self, *, admitted: bool) -> dict[str, str]:
        wait = _seconds(max(0.0, 1.0 - self._level) / self.rate, fractional=self.fractional)
        headers = {"Retry-After": wait} if self.retry_after and not admitted else {}
        if self.announce:
            headers |= {
                "RateLimit-Limit": f"{self.burst:g}",
                "RateLimit-Remaining": str(int(max(0.0, self._level))),
                "RateLimit-Reset": wait,
            }
        return headers


@attrs.define(eq=False)
class FixedWindow:
    """A quota of ``limit`` requests per window of ``seconds``; a window opens with the first request after the last.

    A 429 carries Retry-After (unless ``retry_after=False``) and RateLimit-Reset, both up to the window's end;
    ``announce`` sends the RateLimit headers with every answer.
    """

    limit: int = attrs.field(validator=attrs.validators.ge(1))
    seconds: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    fractional: bool = attrs.field(default=False, kw_only=True)
    announce: bool = attrs.field(default=False, kw_only=True)
    retry_after: bool = attrs.field(default=True, kw_only=True)
    _ends: float = attrs.field(default=-math.inf, init=False)
    _used: int = attrs.field(default=0, init=False)

    def admit(self, now: float, /) -> Verdict:
        """Count one request at ``now``, refused ones too."""
        if now >= self._ends:
            self._ends, self._used = now + self.seconds, 0
        self._used += 1
        admitted = self._used <= self.limit
        return Verdict(admitted, self._headers(now, admitted=admitted))

    def _headers(self, now: float, *, admitted: bool) -> dict[str, str]:
        wait = _seconds(self._ends - now, fractional=self.fractional)
        headers = {} if admitted and not self.announce else {"RateLimit-Reset": wait}
        if self.announce:
            headers |= {"RateLimit-Limit": str(self.limit)}
            headers |= {"RateLimit-Remaining": str(max(0, self.limit - self._used))}
        if self.retry_after and not admitted:
            headers["Retry-After"] = wait
        return headers
