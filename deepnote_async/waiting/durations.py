"""How likely a run of a given age is to end now, learned from what has been seen. No I/O, no clock.

The estimate is that of survival analysis: ends over exposure, in buckets of age that widen by half an octave. It takes
runs still going (censored observations), needs no finished run to begin with, and each notebook leans on what all of
them show until it knows its own. Source: Cox & Oakes, Analysis of Survival Data (1984), chapter 3.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Durations"]

YOUNGEST: Final = 0.01  # s, the upper end of the first bucket
PER_OCTAVE: Final = 2
BUCKETS: Final = 60  # to about 10^7 s
OWN_PRIOR: Final = 2.0  # ends that a notebook's parent counts for
POOL_PRIOR: Final = 0.5  # ends that the hazard 1/age counts for
_EDGES: Final = [0.0] + [YOUNGEST * 2.0 ** (k / PER_OCTAVE) for k in range(BUCKETS - 1)] + [math.inf]
_MIDDLE: Final = [max((_EDGES[k] + min(_EDGES[k + 1], 2 * _EDGES[k] + YOUNGEST)) / 2, YOUNGEST) for k in range(BUCKETS)]


def bucket_of(age: float) -> int:
    """The bucket an age in seconds falls into."""
    if age < YOUNGEST:
        return 0
    return min(1 + int(PER_OCTAVE * math.log2(age / YOUNGEST)), BUCKETS - 1)


class Durations:
    """The lengths of some runs: a notebook's with those of all as ``parent``, or those of all."""

    __slots__ = ("_ends", "_exposure", "_hazard", "_parent", "finished")

    def __init__(self, parent: Durations | None = None) -> None:
        self._parent = parent
        self._ends: dict[int, int] = {}
        self._exposure: dict[int, float] = {}
        self._hazard: dict[int, float] = {}
        self.finished: int = 0

    def observe(self, since: float, until: float, *, ended: bool) -> None:
        """Take in that a run was watched from age ``since`` to age ``until``, and whether it ended then."""
        if self._parent is not None:
            self._parent.observe(since, until, ended=ended)
        last = bucket_of(until)
        for k in range(bucket_of(since), last + 1):
            spent = min(until, _EDGES[k + 1]) - max(since, _EDGES[k])
            if spent > 0.0:
                self._exposure[k] = self._exposure.get(k, 0.0) + spent
        if ended:
            self._ends[last] = self._ends.get(last, 0) + 1
            self.finished += 1
            self._hazard.clear()

    def hazard(self, age: float) -> float:
        """Ends a second to expect of a run of this age in seconds."""
        k = bucket_of(age)
        known = self._hazard.get(k)
        if known is None:
            known = self._hazard[k] = self._estimate(k)
        return known

    def _estimate(self, k: int) -> float:
        expected = self._parent.hazard(_MIDDLE[k]) if self._parent is not None else 1.0 / _MIDDLE[k]
        weight = OWN_PRIOR if self._parent is not None else POOL_PRIOR
        return (self._ends.get(k, 0) + weight) / (self._exposure.get(k, 0.0) + weight / expected)
