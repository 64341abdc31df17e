"""What is counted while a way of running notebooks is at work, and what comes of it. Plain values."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

__all__ = ["Tally"]


@attrs.define(eq=False)
class Tally:
    """The count of one way: ``known`` maps each run to the moment (``time.time()``) its end was known.

    ``abandoned`` are requests without a run's end to show for them. ``delays`` and ``lengths`` are in seconds.
    ``refresh`` brings the counts up to date while it works.
    """

    name: str
    wanted: int
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    abandoned: int = 0
    requests: int = 0
    throttled: int = 0
    seconds: float = 0.0
    refresh: Callable[[], None] | None = attrs.field(default=None, repr=False)
    known: dict[str, float] = attrs.field(factory=dict, repr=False)
    reasons: dict[str, int] = attrs.field(factory=dict)
    delays: list[float] = attrs.field(factory=list, repr=False)
    lengths: list[float] = attrs.field(factory=list, repr=False)

    @property
    def ended(self) -> int:
        """Requests whose run is known to have ended, well or not."""
        return self.succeeded + self.failed

    @property
    def going(self) -> int:
        """Runs that were started and are still awaited."""
        return max(self.started - self.ended - self.reasons.get("waiting", 0), 0)

    def count_end(self, run_id: str, now: float, *, succeeded: bool) -> None:
        """Take in a run's end, known at ``now``."""
        self.known[run_id] = now
        if succeeded:
            self.succeeded += 1
        else:
            self.failed += 1

    def give_up(self, reason: str) -> None:
        """Take in a request that is given up."""
        self.abandoned += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def measure(self, spans: Iterable[tuple[str, float, float]]) -> None:
        """Compare with the service's own account: for each run its id, its creation and its end."""
        for run_id, created, ended in spans:
            if run_id in self.known:
                self.delays.append(max(self.known[run_id] - ended, 0.0))
                self.lengths.append(ended - created)

    def take_account(self, stats: Mapping[str, Any]) -> None:
        """Take over what the embedded service counted and timed: it saw every request, repeated ones too."""
        self.requests = stats["requests"]
        self.throttled = stats["by_status"].get("429", 0)
        ended = [run for run in stats["runs"] if run["ended"] is not None]
        self.measure((run["id"], run["created"], run["ended"]) for run in ended)

    @property
    def slowest(self) -> float | None:
        """The longest run whose end is known."""
        return max(self.lengths, default=None)

    @property
    def mean_delay(self) -> float | None:
        """From a run's end to its being known."""
        return statistics.fmean(self.delays) if self.delays else None

    @property
    def late_delay(self) -> float | None:
        """The delay that 95 of 100 runs stay under."""
        ordered = sorted(self.delays)
        return ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)] if ordered else None
