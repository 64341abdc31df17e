"""What a benchmark asks of the service, and what all of them share."""

from __future__ import annotations

from typing import Any, Final

import attrs

from deepnote_async import PollPolicy, TokenBucket
from deepnote_async.testing import FixedWindow, Limit, ServiceOptions, SlidingLimit
from deepnote_async.testing.pages import Order

__all__ = ["OURS", "POLL", "SPEED", "Setting"]

OURS: Final = "deepnote-async"
SPEED: Final = 10.0  # times real speed
POLL: Final = PollPolicy(initial=1.0 / SPEED, maximum=30.0 / SPEED)
FOREIGN_SPAN: Final = 600.0 / SPEED  # s before the start over which other people's runs began


@attrs.frozen(kw_only=True)
class Setting:
    """One service and the work on it. ``told`` says whether the client is given the limit; times are in seconds.

    The limit is ``rate`` requests a second with ``burst`` at once after a rest, or ``window`` requests each
    ``window_seconds``, or none. ``earlier`` runs of other people are on each notebook.
    """

    title: str
    runs: int = 500
    notebooks: int = 1
    rate: float | None = None
    burst: float = 1.0
    window: int | None = None
    window_seconds: float = 60.0
    told: bool = False
    order: Order = "newest"
    earlier: int = 0
    earlier_span: float = FOREIGN_SPAN
    median: float = 60.0 / SPEED
    sigma: float = 0.8
    failures: float = 0.05
    listing_status: int | None = None
    seed: int = 1

    @property
    def pace(self) -> float | None:
        """Requests a second that the limit allows in the long run."""
        return self.rate if self.window is None else self.window / self.window_seconds

    def limiter(self) -> TokenBucket:
        """The client's own bucket: told the limit, with its usual small burst, or searching."""
        return TokenBucket(self.pace) if self.told else TokenBucket()

    def of_process(self) -> dict[str, Any]:
        """The options of a ``FakeProcess``."""
        return {
            "notebooks": self.notebooks,
            "limit_rate": self.rate,
            "limit_burst": self.burst,
            "window": self.window,
            "window_seconds": self.window_seconds,
            "order": self.order,
            "runs": self.earlier,
            "runs_span": self.earlier_span,
            "median": self.median,
            "sigma": self.sigma,
            "failures": self.failures,
            "startup": 1.0 / SPEED,
            "listing_status": self.listing_status,
            "seed": self.seed,
        }

    def of_service(self) -> ServiceOptions:
        """The options of a ``Service``."""
        return {
            "limit": self._limit(),
            "order": self.order,
            "median": self.median,
            "sigma": self.sigma,
            "failures": self.failures,
            "startup": 1.0 / SPEED,
            "seed": self.seed,
        }

    def _limit(self) -> Limit | None:
        if self.window is not None:
            return FixedWindow(self.window, self.window_seconds)
        return SlidingLimit(self.rate, self.burst) if self.rate is not None else None
