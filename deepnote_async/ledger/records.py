"""What the ledger holds of one request, inside and as callers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import attrs

from ..models import Run, RunStarted, RunStatus

__all__ = ["LedgerEntry", "LedgerState", "LedgerSummary", "Row", "Values", "entry_of"]

LedgerState: TypeAlias = Literal["planned", "starting", "started", "ended", "unknown"]
Values: TypeAlias = tuple[
    int,
    str,
    int,
    str,
    str,
    str | None,
    str,
    str | None,
    str | None,
    float | None,
    float | None,
    float | None,
    float | None,
    str | None,
]


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


@attrs.define(eq=False)
class Row:
    """One attempt at one request, as it stands in the file; its fields are the columns, in their order.

    All times are seconds since the epoch, in the service's time. A start was under way within ``since`` and ``until``.
    """

    id: int
    key: str
    attempt: int
    notebook_id: str
    digest: str
    request: str | None
    state: LedgerState = "planned"
    run_id: str | None = None
    status: str | None = None
    since: float | None = None
    until: float | None = None
    created_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    named: bool = False
    """Whether the requests of this process name it; not in the file."""

    def values(self) -> Values:
        """The columns."""
        return (
            self.id,
            self.key,
            self.attempt,
            self.notebook_id,
            self.digest,
            self.request,
            self.state,
            self.run_id,
            self.status,
            self.since,
            self.until,
            self.created_at,
            self.finished_at,
            self.error,
        )

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """The span of the service's time in which its start was under way, once that is over."""
        since, until = _time(self.since), _time(self.until)
        return None if since is None or until is None else (since, until)

    def has_started(self, told: Run | RunStarted) -> None:
        """Take in the run's id."""
        self.state, self.run_id, self.status = "started", told.run_id, str(told.status)
        self.created_at, self.error = _seconds(told.created_at), None

    def has_ended(self, run: Run) -> None:
        """Take in how the run ended."""
        self.state, self.status, self.error = "ended", str(run.status), run.error
        self.created_at = _seconds(run.created_at) if run.created_at is not None else self.created_at
        self.finished_at = _seconds(run.finished_at)

    def receipt(self) -> Run | RunStarted:
        """Its run, as far as the ledger knows it."""
        assert self.run_id is not None  # noqa: S101 - asked of rows that have a run
        status, created = RunStatus(self.status or "pending"), _time(self.created_at)
        if self.state != "ended":
            return RunStarted(run_id=self.run_id, status=status, created_at=created, notebook_id=self.notebook_id)
        return Run(
            run_id=self.run_id,
            notebook_id=self.notebook_id,
            status=status,
            created_at=created,
            finished_at=_time(self.finished_at),
            error=self.error,
        )


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One attempt at one request of a batch, as its ledger tells it.

    ``state`` is ``"planned"`` (nothing was sent, or it was certainly refused), ``"starting"``, ``"started"``,
    ``"ended"`` or ``"unknown"``; ``status`` is the run's own. ``window`` is when a start of unknown outcome was under
    way. ``request_hash`` stands for what was asked; ``body`` is None unless the ledger was written with
    ``inputs=True``.
    """

    key: str
    attempt: int
    state: LedgerState
    notebook_id: str
    request_hash: str
    body: Mapping[str, Any] | None = attrs.field(default=None, repr=False, hash=False)
    run_id: str | None = None
    status: RunStatus | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    window: tuple[datetime, datetime] | None = None
    error: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether something goes on, or may go on, in the service."""
        return self.state in {"starting", "started", "unknown"}

    @property
    def has_failed(self) -> bool:
        """Whether its run ended otherwise than in success."""
        return self.state == "ended" and self.status != "success"


def entry_of(row: Row) -> LedgerEntry:
    """A row as callers see it."""
    return LedgerEntry(
        key=row.key,
        attempt=row.attempt,
        state=row.state,
        notebook_id=row.notebook_id,
        request_hash=row.digest,
        body=None if row.request is None else json.loads(row.request),
        run_id=row.run_id,
        status=None if row.status is None else RunStatus(row.status),
        created_at=_time(row.created_at),
        finished_at=_time(row.finished_at),
        window=row.window,
        error=row.error,
    )


@attrs.frozen(kw_only=True)
class LedgerSummary:
    """How many requests stand where, each counted by its last attempt; ``earlier`` attempts are counted beside.

    ``ended`` is ``succeeded`` and ``failed`` together.
    """

    planned: int = 0
    starting: int = 0
    started: int = 0
    unknown: int = 0
    succeeded: int = 0
    failed: int = 0
    earlier: int = 0

    @property
    def ended(self) -> int:
        """Requests whose run has ended."""
        return self.succeeded + self.failed

    @property
    def total(self) -> int:
        """All requests."""
        return self.planned + self.starting + self.started + self.unknown + self.ended
