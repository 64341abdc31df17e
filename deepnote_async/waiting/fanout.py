"""A batch: requests are read, started and awaited, and each ends in one result."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

import attrs

from ..errors import ClientClosedError, DeepnoteError, InvalidRequestError, NotStartedError, RunTimeoutError
from ..ledger.ledger import Ledger
from ..models import Run, RunStarted, RunStatus
from ..run_request import RunRequest
from .book import Book
from .entries import Entry, Requests, reader_of
from .reconcile import Reconciler
from .results import BatchStats, RunResult
from .starts import Starts
from .wait import OnUpdate, Outcome, Wait, last_looks_before

if TYPE_CHECKING:
    from ..resources.runs import Runs
    from ..session import Session
    from ..snapshots import Snapshot
    from .watcher import Watcher

__all__ = ["BatchOptions", "Fanout"]

logger: logging.Logger = logging.getLogger("deepnote_async")


@attrs.frozen(eq=False, kw_only=True)
class BatchOptions:
    """What ``run_many`` was asked for beside the requests."""

    max_in_flight: int = 100
    timeout: float | None = None
    snapshot: Snapshot | None = None
    on_update: OnUpdate | None = None
    max_failures: int | None = None
    reconcile: bool = False
    give_up_after: float = 3600.0
    ledger: Ledger | None = None
    rerun: frozenset[str] = frozenset()


class _BatchWait(Wait):
    """Passes what the watcher tells straight to the batch."""

    __slots__ = ("_batch",)

    def __init__(self, batch: Fanout, snapshot: Snapshot | None, on_update: OnUpdate | None) -> None:
        super().__init__(snapshot, on_update)
        self._batch = batch

    def tell(self, run_id: str, outcome: Outcome) -> None:
        self.open.pop(run_id, None)
        self._batch.run_ended(run_id, outcome)


class Fanout:
    """What happens in a batch; :class:`~deepnote_async.RunBatch` is what its user sees of it."""

    def __init__(
        self, session: Session, runs: Runs, watcher: Watcher, requests: Requests, options: BatchOptions
    ) -> None:
        self._core = session.core
        self._watcher = watcher
        self._options = options
        reconciler = Reconciler(session, give_up_after=options.give_up_after) if options.reconcile else None
        ledger = options.ledger
        self._book = None if ledger is None else Book(ledger, session.core, options.rerun)
        self._starts = Starts(
            self,
            session,
            runs,
            reader_of(requests),
            reconciler=reconciler,
            give_up_after=options.give_up_after,
            book=self._book,
        )
        self._wait = _BatchWait(self, options.snapshot, options.on_update)
        self._open: dict[int, Entry] = {}
        self._by_run: dict[str, list[Entry]] = {}
        self._results: deque[tuple[RunResult, int]] = deque()  # each with the ledger's ticket for it
        self.unfinished: list[RunResult] = []
        self.leftover: list[RunResult] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._deadline: float | None = None
        self._entered = False
        self.stats: BatchStats = BatchStats()

    @property
    def running(self) -> list[str]:
        """The ids of the runs that are awaited at this moment."""
        return list(self._by_run)

    async def enter(self) -> None:
        """Open the ledger, if there is one, and begin to start."""
        self._core.check()
        if self._entered:
            raise InvalidRequestError("a batch is entered once: make another with run_many")
        self._entered = True
        if self._book is not None:
            await self._book.open(self._options.timeout)
            if self._core.closed:
                await self._book.leave(())
                self._core.check()
        self._core.at_close(self._client_closed)
        timeout = self._options.timeout
        if timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline = deadline = loop.time() + timeout
            self._timers = [
                loop.call_at(last_looks_before(deadline, timeout), self._watcher.hasten, self._wait),
                loop.call_at(deadline, self._time_is_up),
            ]
        self._starts.begin()

    async def leave(self, *, well: bool) -> None:
        """Start nothing more and await nothing more; ``well`` says that no exception is on its way already."""
        self._leave()
        if self._book is not None:
            await self._book.leave(self._starts.tasks)
            failure = self._book.failure()
            if failure is not None and well:
                raise failure

    def _raise_broken(self) -> None:
        broken, self._starts.broken = self._starts.broken, None
        if broken is None and self._book is not None:
            broken = self._book.failure()
        if broken is not None:
            raise broken

    async def next_result(self) -> RunResult | None:
        """The next request that has ended; None once all have."""
        if not self._entered:
            raise InvalidRequestError("enter the batch first: `async with client.run_many(...) as batch:`")
        while not self._results:
            if self._is_over():
                await self._watcher.pass_on(self._wait, self._deadline)
                self._raise_broken()
                return None
            await self._wait.changed()
        result, ticket = taken = self._results.popleft()
        if self._book is not None:
            try:
                await self._book.on_disk(ticket)
            except BaseException:
                self._results.appendleft(taken)
                raise
        self._starts.make_room()
        return result

    def _is_over(self) -> bool:
        return not self._open and not self._results and self._starts.over

    # What the starts ask and tell.

    def has_room(self) -> bool:
        """Whether another request may be read."""
        return len(self._open) + len(self._results) < self._options.max_in_flight

    def read(self, request: RunRequest | str) -> Entry:
        """Take in a request."""
        checked = request if isinstance(request, RunRequest) else RunRequest(request)
        row = None if self._book is None else self._book.row_of(checked)
        entry = self._open[self.stats.read] = Entry(self.stats.read, checked, row=row)
        self.stats.read += 1
        return entry

    def has_started(self, entry: Entry, started: RunStarted | Run) -> None:
        """Take in that a request has its run, which is awaited from now on."""
        if self._book is not None and entry.row is not None:
            self._book.started(entry.row, started)
        entry.run_id, entry.status = started.run_id, started.status
        self.stats.started += not entry.leftover
        if entry.ended:
            logger.warning(
                "run %s of notebook %s was started as its batch was left; it goes on",
                started.run_id,
                entry.notebook_id,
            )
            self.unfinished.append(entry.result())
            return
        self._starts.waiting -= 1
        # A list, for a service that answers two starts with one run gives both its end.
        self._by_run.setdefault(started.run_id, []).append(entry)
        self._watcher.watch(started, self._wait)

    def resumed(self, entry: Entry, told: RunStarted | Run) -> None:
        """Take in the run a request had in an earlier process; one that has ended is read for its snapshot only."""
        entry.run_id, entry.status = told.run_id, told.status
        self.stats.started += not entry.leftover
        self._starts.waiting -= 1
        if isinstance(told, Run) and (self._options.snapshot is None or entry.leftover):
            self.end(entry, run=told)
            return
        self._by_run.setdefault(told.run_id, []).append(entry)
        self._watcher.watch(told, self._wait)

    def take_leftover(self) -> None:
        """The requests are read to their end: take up what only the ledger names."""
        if self._book is None:
            return
        for number, row in enumerate(self._book.unnamed(), 1):
            entry = self._open[-number] = Entry(-number, self._book.request_of(row), row=row)
            self._starts.waiting += 1
            if not self._starts.adopt(entry, row):
                self.end(entry, error=NotStartedError("the requests no longer name it"))

    def wake(self) -> None:
        """Let the reader look again."""
        self._wait.wake()

    # Ending.

    def run_ended(self, run_id: str, outcome: Outcome) -> None:
        """Hear from the watcher how a run ended."""
        for entry in self._by_run.pop(run_id, ()):
            if isinstance(outcome, Run):
                if self._book is not None and entry.row is not None:
                    self._book.ended(entry.row, outcome)
                self.end(entry, run=outcome)
                continue
            if isinstance(outcome, ClientClosedError):
                self.unfinished.append(entry.result())
            self.end(entry, error=outcome)

    def end(self, entry: Entry, *, run: Run | None = None, error: DeepnoteError | None = None) -> None:
        """Give a request its result; what comes after the batch was left is kept in ``unfinished``."""
        if entry.ended:
            if entry.unknown is not None and entry.unknown is error:
                logger.warning("a start of notebook %s left on the wire: %s", entry.notebook_id, error)
                self.unfinished.append(entry.result(error=error))
            return
        entry.ended = True
        self._starts.waiting -= entry.run_id is None
        del self._open[entry.index]
        result = entry.result(run, error)
        self._wait.wake()
        if entry.leftover:
            self.leftover.append(result)
            return
        self.stats.count(result)
        self._results.append((result, 0 if self._book is None else self._book.ticket))
        limit = self._options.max_failures
        if limit is not None and not self._starts.stopped and self.stats.failed + self.stats.errors >= limit:
            self.stop(None, "max_failures was reached")

    def stop(
        self, cause: BaseException | None, reason: str = "the batch was ended", *, out_of_time: bool = False
    ) -> None:
        """Start nothing more; what is read but not on the wire was not started."""
        self._starts.stop()
        for entry in list(self._open.values()):
            if entry.run_id is None and entry.unknown is None and not entry.on_wire:
                if entry.task is not None:
                    entry.task.cancel()
                message = reason if cause is None else f"{reason}: {cause}"
                error = NotStartedError(message, cause=cause)
                error.out_of_time = out_of_time
                self.end(entry, error=error)

    def _time_is_up(self) -> None:
        self.stop(None, "the batch's timeout passed before it could be started", out_of_time=True)
        late = RunTimeoutError("the batch's timeout passed before the answer came")
        for entry in list(self._open.values()):
            if entry.run_id is None:
                self._give_up_start(entry, late)
                continue
            watched = self._wait.open.get(entry.run_id)
            if watched is not None and watched.end is not None:
                self.run_ended(entry.run_id, watched.end)  # only its snapshot was still to come
                continue
            message = f"run {entry.run_id} had not ended when the batch's timeout passed; it goes on"
            self.unfinished.append(entry.result())
            self.end(entry, error=RunTimeoutError(message, run_id=entry.run_id, status=self._status(entry)))
        self._watcher.forget(self._wait)
        self._by_run.clear()

    def _status(self, entry: Entry) -> RunStatus | None:
        watched = self._wait.open.get(entry.run_id or "")
        return watched.status if watched is not None else entry.status

    def _give_up_start(self, entry: Entry, cause: DeepnoteError) -> None:
        """End a request whose start is on the wire, which goes on, or of unknown outcome, which stays so."""
        if entry.unknown is not None:
            error: DeepnoteError = entry.unknown
            self.end(entry, error=error)
            if entry.task is not None:
                entry.task.cancel()
        elif entry.task is not None and entry.http is not None:
            self._core.leave_running(entry.task)
            error = self._starts.unknown_error(entry, entry.http, cause)
            self.end(entry, error=error)

    def _leave(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._core.no_longer_at_close(self._client_closed)
        self._starts.leave()
        for entry in list(self._open.values()):
            entry.ended = True
            if entry.run_id is not None:
                self.unfinished.append(entry.result())
            elif entry.on_wire and entry.task is not None:
                self._core.leave_running(entry.task)
            elif entry.task is not None:
                entry.task.cancel()
            if entry.unknown is not None:
                self.unfinished.append(entry.result(error=entry.unknown))
        self._open.clear()
        self._by_run.clear()
        self._watcher.forget(self._wait)
        if self._wait.updates is not None:
            self._wait.updates.cancel()
        self._wait.wake()

    def _client_closed(self) -> None:
        """Called when the client closes: the watcher has ended the open runs already."""
        closed = ClientClosedError("the client was closed")
        if not self._starts.over:
            self._starts.broken = closed
        self.stop(closed)
        for entry in list(self._open.values()):
            self._give_up_start(entry, closed)
