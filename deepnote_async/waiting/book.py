"""A batch's own hold on its ledger: which row each request has, and what is written when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, InvalidRequestError, OutcomeUnknownError
from ..ledger.keys import Keys, canonical, digest_of
from ..ledger.ledger import Ledger
from ..ledger.records import Row
from ..ledger.writer import Writer
from ..run_request import RunRequest
from ..session import CLOCK_ERROR

if TYPE_CHECKING:
    from ..core import Core
    from ..models import Run, RunStarted

__all__ = ["Book", "checked_rerun"]


def checked_rerun(rerun: Collection[str], *, kept: bool) -> frozenset[str]:
    """The statuses whose runs are to be started anew; raises :class:`InvalidRequestError`."""
    if isinstance(rerun, str | bytes) or not isinstance(rerun, Collection):
        raise InvalidRequestError(f"rerun is a collection of run statuses: write rerun=({rerun!r},)")
    statuses = frozenset(map(str, rerun))
    if statuses and not kept:
        raise InvalidRequestError("rerun is about what a ledger remembers: give run_many a ledger, too")
    if "success" in statuses:
        raise InvalidRequestError("rerun starts failures anew: a run that ended in success is not started again")
    return statuses


class Book:
    """The rows of one batch, and the writer that brings them to disk."""

    def __init__(self, ledger: Ledger, core: Core, rerun: frozenset[str]) -> None:
        self._ledger = ledger
        self._path = os.path.abspath(ledger.path)  # noqa: PTH100 - links stay as they are
        self._core = core
        self._rerun = rerun
        self._writer: Writer | None = None
        self._keys = Keys()
        self._rows: dict[str, Row] = {}  # the last attempt of each key
        self._next_id = 1
        self._last = 0
        self._failed = False
        self._claimed: deque[tuple[int, str]] = deque()  # runs whose ids may not be on disk yet

    # Opening and closing.

    async def open(self, patience: float | None = None) -> None:
        """Lock and read the ledger; raises :class:`ConfigurationError`.

        What was being started when its process ended is of unknown outcome from now on. A ledger that a batch of this
        client was left with is waited for until its last start is written, but no longer than ``patience`` seconds.
        """
        left = self._core.ledgers_left.get(self._path)
        if left is not None:
            await asyncio.wait([left], timeout=patience)
        writer = Writer(self._ledger.path)
        rows = await writer.open()
        self._writer = writer
        now, today = self._core.now(), self._time(0.0)
        for row in rows:
            self._rows[row.key] = row
            if row.run_id is not None:
                # Known as ours, earlier attempts too, so that no unknown start is taken to have become them.
                began = row.created_at if row.created_at is not None else row.since
                age = 0.0 if began is None else max(today - began, 0.0)
                self._core.started.add(row.run_id, now - age)
        self._next_id = rows[-1].id + 1 if rows else 1
        for row in self._rows.values():
            if row.state == "starting":
                self.unknown(row, "the process ended before the answer came")

    async def leave(self, tasks: Collection[asyncio.Task[None]]) -> None:
        """Let the ledger go: now, or when the starts on the wire, whose outcome belongs in it, have ended."""
        tasks = set(tasks)
        core = self._core
        # In a task of its own, so that a caller who is cancelled meanwhile leaves no half-closed ledger.
        left = core.ledgers_left[self._path] = core.spawn(self._close(tasks), "deepnote ledger")
        left.add_done_callback(self._has_left)
        core.leave_running(left)
        if all(task.cancelling() for task in tasks):
            # Not by awaiting it: cut off by the client's closing, it would cancel the caller, too.
            await asyncio.wait([left])
            if not left.cancelled():
                left.result()

    def _has_left(self, left: asyncio.Task[None]) -> None:
        if self._core.ledgers_left.get(self._path) is left:
            del self._core.ledgers_left[self._path]

    async def _close(self, after: Collection[asyncio.Task[None]]) -> None:
        try:
            if after:
                await asyncio.wait(after)
        finally:
            if self._writer is not None:
                await self._writer.close()
                self._disown(self._writer.on_disk)

    def _disown(self, on_disk: int) -> None:
        """Let runs whose ids did not reach the disk be found again by the next batch on this ledger.

        For the ledger their starts are of unknown outcome. Were they still known as this client's, no run would be
        found for them, and they would be made again.
        """
        while self._claimed:
            ticket, run_id = self._claimed.popleft()
            if ticket > on_disk:
                self._core.started.forget(run_id)

    def failure(self) -> ConfigurationError | None:
        """Why not all was written, told once."""
        if self._writer is None or self._writer.broken is None or self._failed:
            return None
        self._failed = True
        return ConfigurationError(*self._writer.broken.args)

    # Rows.

    def row_of(self, request: RunRequest) -> Row:
        """The row of a request just read: the one it had, or a new one.

        Raises :class:`InvalidRequestError` for a key that names another request already.
        """
        text = canonical(request)
        digest = digest_of(text)
        key = request.key if request.key is not None else self._keys.derive(digest)
        row = self._rows.get(key)
        if row is None:
            return self._add(Row(0, key, 1, request.notebook_id, digest, text if self._ledger.inputs else None))
        if row.named:
            raise InvalidRequestError(f"two requests have the key {key!r}: give each a key of its own")
        if row.digest != digest:
            raise InvalidRequestError(f"the key {key!r} names another request in the ledger: give this one another key")
        row.named = True
        if row.state == "ended" and row.status in self._rerun:
            return self._add(Row(0, key, row.attempt + 1, row.notebook_id, digest, row.request))
        return row

    def _add(self, row: Row) -> Row:
        row.id, row.named = self._next_id, True
        self._next_id += 1
        self._rows[row.key] = row
        self._put(row)
        return row

    def unresolved(self) -> Iterator[Row]:
        """The starts of unknown outcome."""
        return (row for row in list(self._rows.values()) if row.state == "unknown")

    def is_alone(self, row: Row) -> bool:
        """Whether no other start of unknown outcome may have become a run that begun since this one left."""
        return not any(
            other is not row
            and other.notebook_id == row.notebook_id
            and (other.until is None or row.since is None or other.until >= row.since)
            for other in self.unresolved()
        )

    def unnamed(self) -> list[Row]:
        """What the requests, read to their end, do not name."""
        return [row for row in self._rows.values() if not row.named]

    # What becomes of them.

    async def intend(self, row: Row) -> None:
        """Have it on disk that a start is about to leave; raises :class:`ConfigurationError`, and then none may."""
        row.state, row.until, row.error = "starting", None, None
        row.since = self._time(-CLOCK_ERROR)
        await self._written(self._put(row))

    def planned(self, row: Row, error: object = None) -> None:
        """The start certainly did not happen."""
        row.state, row.since, row.until = "planned", None, None
        row.error = None if error is None else str(error)
        self._put(row)

    def unknown(self, row: Row, error: object) -> None:
        """The start may have happened."""
        row.state, row.until, row.error = "unknown", self._time(CLOCK_ERROR), str(error)
        self._put(row)

    def started(self, row: Row, told: Run | RunStarted) -> None:
        """The start became a run."""
        row.has_started(told)
        ticket = self._put(row)
        if self._writer is not None:
            while self._claimed and self._claimed[0][0] <= self._writer.on_disk:
                self._claimed.popleft()
        self._claimed.append((ticket, told.run_id))

    def ended(self, row: Row, run: Run) -> None:
        """The run has ended."""
        row.has_ended(run)
        self._put(row)

    def unknown_error(self, row: Row, request: RunRequest) -> OutcomeUnknownError:
        """What a request hears whose start is of unknown outcome since an earlier process."""
        message = f"a start of notebook {row.notebook_id} may have happened and was not repeated: {row.error}"
        return OutcomeUnknownError(message, request=request, notebook_id=row.notebook_id, window=row.window)

    def request_of(self, row: Row) -> RunRequest:
        """The request of a row that only the ledger knows: all of it if it was kept, else its notebook and key."""
        if row.request is None:
            return RunRequest(row.notebook_id, key=row.key)
        body: dict[str, Any] = json.loads(row.request)
        body.pop("notebookId", None)
        inputs = body.pop("inputs", None)
        # As it was sent: what else there was makes no difference on the wire as `extra_body`.
        return RunRequest(row.notebook_id, inputs=inputs, extra_body=body or None, key=row.key)

    # The disk.

    @property
    def ticket(self) -> int:
        """Stands for all that was written so far."""
        return self._last

    async def on_disk(self, ticket: int) -> None:
        """Wait until what was written up to then is on disk, or never will be."""
        with contextlib.suppress(ConfigurationError):
            await self._written(ticket)

    def _put(self, row: Row) -> int:
        if self._writer is not None:
            self._last = self._writer.put(row)
        return self._last

    async def _written(self, ticket: int) -> None:
        if self._writer is not None:
            await self._writer.written(ticket)

    def _time(self, shift: float) -> float:
        return self._core.clock.at(self._core.now()) + shift
