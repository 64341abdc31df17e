"""The starts of a batch: read, admitted, sent, and what became of each.

One task reads the requests and takes them to the gate, so that at most one start waits there. Each start on the wire
is a task of the client's that outlives the batch if need be, for a start that was sent is never forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..errors import (
    ApiError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DeepnoteError,
    NotStartedError,
    PermissionDeniedError,
    RateLimitError,
    TransportError,
)
from ..gate import Lane
from ..models import Run
from ..run_request import RunRequest
from ..wire import read_run_started
from .halfopen import HalfOpen
from .reconcile import Reconciler

if TYPE_CHECKING:
    from ..ledger.records import Row
    from ..resources.runs import Runs
    from ..session import Session
    from ..transport import HttpRequest
    from .book import Book
    from .entries import Entry
    from .fanout import Fanout

__all__ = ["Starts"]

logger: logging.Logger = logging.getLogger("deepnote_async")


class Starts:
    """Starts the requests of one batch and tells it of each."""

    def __init__(
        self,
        batch: Fanout,
        session: Session,
        runs: Runs,
        source: AsyncIterator[RunRequest | str],
        *,
        reconciler: Reconciler | None,
        give_up_after: float,
        book: Book | None = None,
    ) -> None:
        self._batch = batch
        self._session = session
        self._core = session.core
        self._runs = runs
        self._source = source
        self._way = HalfOpen(session)
        self._give_up_after = give_up_after
        self._book = book
        self._named: dict[int, Entry] = {}  # by row: who waits to hear what became of an earlier process's start
        self._again: deque[Entry] = deque()
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._refused: DeepnoteError | None = None
        # With a reconciler: the notebooks with a start on the wire or of unknown outcome, and who waits for them.
        self._reconciler = reconciler
        self._busy: set[str] = set()
        self._unresolved: set[int] = set()  # rows of which it is being found out
        self._parked: dict[str, deque[Entry]] = {}
        self.waiting: int = 0
        """Requests that were read and neither have a run nor have ended."""
        self.broken: BaseException | None = None
        """What the source of the requests raised."""
        self.stopped: bool = False
        self.exhausted: bool = False
        self.tasks: set[asyncio.Task[None]] = set()
        """Starts, and searches for what became of them, that have not ended."""
        self._searches: set[asyncio.Task[None]] = set()

    @property
    def over(self) -> bool:
        """Whether no more requests will be read."""
        return self.stopped or self.exhausted

    def begin(self) -> None:
        """Set out, in the caller's context, for it is the caller's iterable that runs in it."""
        self._feeder = self._core.spawn(self._feed(), "deepnote batch", contextvars.copy_context())

    def make_room(self) -> None:
        """Look again whether another request may be read or started."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def stop(self) -> None:
        """Read and start nothing more."""
        self.stopped = True
        feeder, self._feeder = self._feeder, None
        if feeder is not None and feeder is not asyncio.current_task():
            feeder.cancel()

    def leave(self) -> None:
        """Look no longer for what became of starts; what is on the wire goes on."""
        self.stop()
        for task in self._searches:
            task.cancel()

    def _hold(self, task: asyncio.Task[None], *, search: bool = True) -> None:
        held = (self.tasks, self._searches) if search else (self.tasks,)
        for tasks in held:
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    # From an earlier process.

    def _resume(self) -> None:
        """Set out to learn what became of the starts that broke with an earlier process."""
        if self._book is None or self._reconciler is None:
            return
        broken: dict[str, list[Row]] = {}
        for row in self._book.unresolved():
            broken.setdefault(row.notebook_id, []).append(row)
        for notebook_id, rows in broken.items():
            # Until it is known, a start of ours would be one more that it may have become.
            self._busy.add(notebook_id)
            work = self._resolve_rows(self._book, self._reconciler, notebook_id, rows)
            self._unresolved.update(row.id for row in rows)
            self._hold(self._core.spawn(work, "deepnote reconcile"))

    async def _resolve_rows(self, book: Book, reconciler: Reconciler, notebook_id: str, rows: list[Row]) -> None:
        try:
            for row in rows:
                error = book.unknown_error(row, book.request_of(row))
                outcome: Run | DeepnoteError | None = error
                with contextlib.suppress(DeepnoteError):
                    outcome = await reconciler.resolve(error, alone=book.is_alone(row))
                self._has_resolved(book, row, outcome)
        finally:
            self._free(notebook_id)

    def _has_resolved(self, book: Book, row: Row, outcome: Run | DeepnoteError | None) -> None:
        self._unresolved.discard(row.id)
        entry = self._named.pop(row.id, None)
        if entry is not None and not entry.ended:
            self._resolved(entry, entry.unknown if isinstance(outcome, DeepnoteError) else outcome)
        elif isinstance(outcome, Run):
            book.started(row, outcome)
        elif outcome is None:
            book.planned(row)

    def adopt(self, entry: Entry, row: Row) -> bool:
        """Take up a request where the ledger left it; False if it is still to be started."""
        if row.state in {"started", "ended"}:
            self._batch.resumed(entry, row.receipt())
        elif row.state == "unknown" and self._book is not None:
            error = entry.unknown = self._book.unknown_error(row, entry.request)
            if row.id in self._unresolved:
                self._named[row.id] = entry
            else:
                self._batch.end(entry, error=error)
        else:
            return False
        return True

    # Reading.

    async def _feed(self) -> None:
        try:
            self._resume()
            while (entry := await self._next_entry()) is not None:
                if self._refused is not None:
                    self._not_started(entry, "starts are refused", self._refused)
                elif await self._admitted(entry):
                    self._begin(entry)
        except Exception as error:  # noqa: BLE001 - a bug, or a limiter that broke, must not leave anybody waiting
            if not self.stopped:
                self.broken = error
                self._batch.stop(error)
        finally:
            self.exhausted = True
            self._batch.wake()

    async def _next_entry(self) -> Entry | None:
        while True:
            if self._again:
                entry = self._again.popleft()
                if not self._park(entry):
                    return entry
            elif self.exhausted and not self.waiting:
                return None
            elif not self.exhausted and self._batch.has_room():
                await self._read()
            else:
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    async def _read(self) -> None:
        try:
            entry = self._batch.read(await self._source.__anext__())
            self.waiting += 1
            if entry.row is None or not self.adopt(entry, entry.row):
                self._again.append(entry)
        except StopAsyncIteration:
            self._batch.take_leftover()
            self.exhausted = True
        except (Exception, asyncio.CancelledError) as error:
            if self.stopped:
                raise
            # Told at the end, when what was read before has ended.
            self.broken, self.exhausted = error, True

    def _park(self, entry: Entry) -> bool:
        """With a reconciler, one start a notebook: let this one wait for the other."""
        if self._reconciler is None or entry.notebook_id not in self._busy:
            return False
        self._parked.setdefault(entry.notebook_id, deque()).append(entry)
        return True

    def _free(self, notebook_id: str) -> None:
        self._busy.discard(notebook_id)
        parked = self._parked.get(notebook_id)
        if parked:
            self._again.append(parked.popleft())
        self.make_room()

    async def _admitted(self, entry: Entry) -> bool:
        """Wait until the start may leave; False if it was ended instead."""
        gate = self._session.gate
        if self._book is not None:
            await self._way.set_clock(entry.notebook_id)
        while True:
            if not await self._way.wait(entry.notebook_id, self._give_up_after):
                self._refused = self._way.cause
                self._not_started(entry, "the service has not answered for too long", self._refused)
                return False
            await gate.enter(Lane.START)
            if not self._way.held and self._refused is None:
                return True
            gate.unused()
            if self._refused is not None:
                self._not_started(entry, "starts are refused", self._refused)
                return False

    # Sending.

    def _begin(self, entry: Entry) -> None:
        self._busy.add(entry.notebook_id)
        entry.http = self._runs.start_request(entry.request)
        entry.sent_at = self._core.now()
        entry.task = self._core.spawn(self._start(entry, entry.http), "deepnote start", contextvars.copy_context())
        self._hold(entry.task, search=False)
        entry.task.add_done_callback(functools.partial(self._start_over, entry))

    def _start_over(self, entry: Entry, task: asyncio.Task[None]) -> None:
        if entry.task is task:
            entry.task = None
        if entry.http is not None and not entry.http.begun:
            self._session.gate.leave()  # cancelled before its first step
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            logger.error("a start failed in a way it never should", exc_info=bug)
            self._batch.end(entry, error=DeepnoteError(f"the start failed: {type(bug).__name__}: {bug}"))

    async def _start(self, entry: Entry, http: HttpRequest) -> None:
        try:
            if not await self._is_intended(entry):
                return
            started = await self._session.attempt(http, read_run_started, lane=Lane.START, in_own_task=True)
        except asyncio.CancelledError:
            if http.sent:
                self._unknown(entry, http, ClientClosedError("the client was closed before the answer came"))
            else:
                self._note_planned(entry, None)
            raise
        except DeepnoteError as error:
            self._start_failed(entry, http, error)
        else:
            self._batch.has_started(entry, self._runs.note(started, entry.request))
        finally:
            if entry.unknown is None or entry.ended:
                self._free(entry.notebook_id)

    def _start_failed(self, entry: Entry, http: HttpRequest, error: DeepnoteError) -> None:
        match error:
            case RateLimitError():
                self._try_again(entry)
            case AuthenticationError() | PermissionDeniedError():
                self._refused = error
                self._not_started(entry, "the service refuses starts", error)
            case TransportError(sent=False, retryable=True):
                self._way.hold(error)
                self._try_again(entry)
            case TransportError(sent=False):
                self._not_started(entry, "the start could not be sent", error)
            case ApiError(status=status) if status < 500:
                self._note_planned(entry, error)
                self._batch.end(entry, error=error)
            case _ if http.sent:
                self._unknown(entry, http, error)
            case _:
                self._not_started(entry, "the start could not be sent", error)

    async def _is_intended(self, entry: Entry) -> bool:
        """Write down that the start is about to leave; if that fails nothing more is started."""
        if self._book is None or entry.row is None:
            return True
        try:
            await self._book.intend(entry.row)
        except ConfigurationError as error:
            self._not_started(entry, "its intent could not be written down", error)
            self._batch.stop(error, "the ledger cannot be written")
            return False
        return True

    def _note_planned(self, entry: Entry, error: object) -> None:
        if self._book is not None and entry.row is not None and entry.row.state not in {"started", "ended"}:
            self._book.planned(entry.row, error)

    def _try_again(self, entry: Entry) -> None:
        self._note_planned(entry, None)
        if entry.ended or self.stopped or entry.leftover:
            self._not_started(entry, "the batch was over before it could be tried again", None)
        else:
            self._again.append(entry)

    def _not_started(self, entry: Entry, reason: str, cause: BaseException | None) -> None:
        message = reason if cause is None else f"{reason}: {cause}"
        self._note_planned(entry, message)
        self._batch.end(entry, error=NotStartedError(message, cause=cause))

    # Of unknown outcome.

    def unknown_error(self, entry: Entry, http: HttpRequest, cause: DeepnoteError) -> DeepnoteError:
        """That a start may have happened."""
        error = entry.unknown = self._session.unknown(cause, http, entry.sent_at)
        error.request, error.notebook_id = entry.request, entry.notebook_id
        if self._book is not None and entry.row is not None:
            self._book.unknown(entry.row, cause)
        return error

    def _unknown(self, entry: Entry, http: HttpRequest, cause: DeepnoteError) -> None:
        self._way.hold(cause)
        error = self.unknown_error(entry, http, cause)
        if self._reconciler is None or entry.ended or self._core.closed:
            self._batch.end(entry, error=error)
        else:
            entry.task = self._core.spawn(self._reconcile(entry, self._reconciler), "deepnote reconcile")
            self._hold(entry.task)

    async def _reconcile(self, entry: Entry, reconciler: Reconciler) -> None:
        error = entry.unknown
        assert error is not None  # noqa: S101 - set where this is spawned
        outcome: Run | DeepnoteError | None = error
        try:
            alone = self._book is None or entry.row is None or self._book.is_alone(entry.row)
            outcome = await reconciler.resolve(error, alone=alone)
        except DeepnoteError:
            outcome = error
        finally:
            entry.task = None
            if not entry.ended:
                self._resolved(entry, outcome)
            self._free(entry.notebook_id)

    def _resolved(self, entry: Entry, outcome: Run | DeepnoteError | None) -> None:
        if isinstance(outcome, Run):
            entry.unknown = None
            self._batch.has_started(entry, outcome)
        elif outcome is None:
            entry.unknown = None
            if self._book is not None and entry.row is not None:
                self._book.planned(entry.row)
            self._try_again(entry)
        else:
            self._batch.end(entry, error=outcome)
