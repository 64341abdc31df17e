"""What can go wrong on purpose: single faults by chance or script, and outages by the clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Mapping

__all__ = ["Break", "Fault", "FaultKind", "Outage", "OutageKind", "pick"]

FaultKind = Literal[
    "refuse",
    "drop_before",
    "drop_after",
    "error_before",
    "error_after",
    "delay",
    "hang",
    "hang_after",
    "html",
    "truncated",
]
OutageKind = Literal["refuse", "hang", "html", "unauthorized"]
Break = Literal["refuse", "drop", "hang", "truncated"]


def _methods(value: Collection[str] | str | None) -> frozenset[str] | None:
    if value is None:
        return None
    return frozenset([value.upper()] if isinstance(value, str) else (method.upper() for method in value))


@attrs.define(eq=False)
class Fault:
    """One way for requests to go wrong: a ``rate`` of those that match, at most ``count`` of them.

    ``methods`` and ``path`` (a text found in the raw path) choose the requests; None and "" take all. The kinds:

    - ``refuse``: no connection, nothing sent (over a real socket it shows as a reset);
    - ``drop_before``, ``drop_after``: the connection is lost before or after the request took effect;
    - ``error_before``, ``error_after``: the answer is ``status`` with ``headers``, before or after the effect, as JSON
      or with ``html`` as a page; any status will do, so 401, 429 or 302 can be scripted too;
    - ``delay``: the request takes effect at once, its answer comes ``seconds`` (real) later;
    - ``hang``, ``hang_after``: no answer ever, before or after the effect;
    - ``html``: 200 with a page of a proxy, nothing done; ``truncated``: done, and the answer breaks off half-way.

    ``late_start`` lets a run started under ``drop_after``, ``error_after`` or ``hang_after`` come into being only so
    many seconds (service time) after the break.
    """

    kind: FaultKind
    rate: float = 1.0
    methods: frozenset[str] | None = attrs.field(default=None, converter=_methods)
    path: str = ""
    count: int | None = None
    seconds: float = 1.0
    status: int = 503
    html: bool = False
    headers: Mapping[str, str] = attrs.field(factory=dict)
    late_start: float = 0.0

    @property
    def takes_effect(self) -> bool:
        """Whether the request is processed all the same."""
        return self.kind in {"drop_after", "error_after", "delay", "hang_after", "truncated"}

    @property
    def breaks(self) -> Break | None:
        """What it does to the connection, if anything."""
        return _BREAKS.get(self.kind)

    def strikes(self, method: str, path: str, chance: random.Random) -> bool:
        """Whether it hits this request; counts down if so."""
        if self.count == 0 or (self.methods is not None and method not in self.methods) or self.path not in path:
            return False
        if self.rate < 1.0 and chance.random() >= self.rate:
            return False
        if self.count is not None:
            self.count -= 1
        return True


_BREAKS: Mapping[str, Break] = {
    "refuse": "refuse",
    "drop_before": "drop",
    "drop_after": "drop",
    "hang": "hang",
    "hang_after": "hang",
    "truncated": "truncated",
}


@attrs.define(eq=False)
class Outage:
    """A span of service time in which nothing is served; :meth:`lift` ends it early."""

    start: float
    end: float = math.inf
    kind: OutageKind = "refuse"

    def covers(self, now: float) -> bool:
        """Whether it is on at ``now``."""
        return self.start <= now < self.end

    def lift(self) -> None:
        """End it now, and for good."""
        self.end = -math.inf

    def as_fault(self) -> Fault:
        """The fault every request meets while it lasts."""
        if self.kind == "html":
            return Fault("error_before", status=503, html=True)
        if self.kind == "unauthorized":
            return Fault("error_before", status=401)
        return Fault(self.kind)


def pick(faults: Collection[Fault], method: str, path: str, chance: random.Random) -> Fault | None:
    """The first fault that hits this request, or None."""
    return next((fault for fault in faults if fault.strikes(method, path, chance)), None)
