"""What becomes of the requests of a batch."""

from __future__ import annotations

import attrs

from ..errors import DeepnoteError
from ..models import Run
from ..run_request import RunRequest

__all__ = ["BatchStats", "RunResult"]


@attrs.frozen(kw_only=True)
class RunResult:
    """What became of one request: a ``run`` that ended, or an ``error``.

    ``index`` is the request's place in the iterable, from 0. ``run_id`` is None if nothing was started. A run that
    failed is no error; ``ok`` tells. ``key`` is the request's own or, with a ledger, the one derived for it.
    """

    index: int
    key: str | None = None
    request: RunRequest
    run_id: str | None = None
    run: Run | None = None
    error: DeepnoteError | None = None

    @property
    def ok(self) -> bool:
        """Whether the run was started and ended in success."""
        return self.error is None and self.run is not None and self.run.succeeded

    def unwrap(self) -> Run:
        """The run if it ended in success; else raises the error, or :class:`RunFailedError`."""
        if self.error is not None:
            raise self.error
        if self.run is None:
            raise DeepnoteError("the run has not ended yet")
        return self.run.raise_for_status()


@attrs.define(kw_only=True)
class BatchStats:
    """Where a batch stands: requests ``read``, ``started``, and of those that have a result, how they ended."""

    read: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    errors: int = 0

    @property
    def ended(self) -> int:
        """Requests that have a result."""
        return self.succeeded + self.failed + self.errors

    @property
    def in_flight(self) -> int:
        """Requests that were read and have no result yet."""
        return self.read - self.ended

    def count(self, result: RunResult) -> None:
        """Take in a result."""
        if result.error is not None:
            self.errors += 1
        elif result.ok:
            self.succeeded += 1
        else:
            self.failed += 1
