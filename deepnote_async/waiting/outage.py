"""Whether the service answers looks at all. While it does not, one look at a time asks, ever more rarely."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from ..errors import DeepnoteError

if TYPE_CHECKING:
    from ..settings import PollPolicy

__all__ = ["Listings", "Outage"]

logger: logging.Logger = logging.getLogger("deepnote_async")

SEVERE: Final = 3  # failed looks in a row
LISTING_FAILS: Final = 3  # failures in a row after which a listing may be counted as refused
LOG_EVERY: Final = 60.0  # s


class Outage:
    """Counts looks that failed in a row; told the time, in seconds of the loop's clock."""

    __slots__ = ("_failures", "_logged", "_poll", "_since", "resting_until")

    def __init__(self, poll: PollPolicy) -> None:
        self._poll = poll
        self._failures = 0
        self._since: float | None = None
        self._logged: float | None = None
        self.resting_until: float = 0.0

    @property
    def severe(self) -> bool:
        """Whether so many failed in a row that it is no accident of single looks."""
        return self._failures >= SEVERE

    def failed(self, error: DeepnoteError, now: float, watched: int) -> float:
        """Hear of a look that failed, and return since when all have."""
        self._failures += 1
        since = self._since = now if self._since is None else self._since
        if self.severe:
            wait = self._poll.initial * 2.0 ** min(self._failures - SEVERE, 30)
            self.resting_until = now + min(wait, self._poll.maximum)
            self._log(error, now, watched)
        return since

    def _log(self, error: DeepnoteError, now: float, watched: int) -> None:
        if self._logged is None or now - self._logged >= LOG_EVERY:
            self._logged = now
            since = now - (self._since if self._since is not None else now)
            logger.warning("no look at the %d awaited runs has succeeded for %.0f s: %s", watched, since, error)

    def over(self) -> None:
        """Hear of an answer."""
        self._failures = 0
        self._since = None
        self.resting_until = 0.0


class Listings:
    """Tells listings that fail by themselves, while single reads succeed, from a service that is away."""

    __slots__ = ("_failing", "_read_alone")

    def __init__(self) -> None:
        self._failing: dict[str, float] = {}  # notebooks whose listings fail, and since when
        self._read_alone = -math.inf  # when a single read last succeeded

    def read_alone(self, now: float) -> None:
        """Hear of a single read that succeeded."""
        self._read_alone = now

    def listed(self, notebook_id: str) -> None:
        """Hear of a listing that succeeded."""
        self._failing.pop(notebook_id, None)

    def fails_alone(self, notebook_id: str, failures: int, now: float) -> bool:
        """Hear of a listing that failed, after so many failures in a row; whether it may be counted as refused."""
        since = self._failing.setdefault(notebook_id, now)
        if failures < LISTING_FAILS or self._read_alone <= since:
            return False
        del self._failing[notebook_id]
        return True

    def clear(self) -> None:
        """Nothing is watched any more."""
        self._failing.clear()
