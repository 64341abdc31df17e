"""A batch: requests are read, started and awaited, and each ends in one result.

One task reads the requests and takes them to the gate, so that at most one start waits there; each start on the wire
is a task that outlives the batch if need be, for a start that was sent is never forgotten.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import attrs

from ..errors import (
    ApiError,
    AuthenticationError,
    ClientClosedError,
    DeepnoteError,
    InvalidRequestError,
    NotStartedError,
    PermissionDeniedError,
    RateLimitError,
    RunTimeoutError,
    TransportError,
)
from ..gate import Lane
from ..models import Run, RunStarted, RunStatus
from ..run_request import RunRequest
from ..wire import read_run_started
from .halfopen import HalfOpen
from .results import BatchStats, RunResult
from .wait import OnUpdate, Outcome, Wait

if TYPE_CHECKING:
    from ..resources.runs import Runs
    from ..session import Session
    from ..snapshots import Snapshot
    from ..transport import HttpRequest
    from .watcher import Watcher

__all__ = ["BatchOptions", "Requests", "RunBatch", "last_looks_before"]

logger = logging.getLogger("deepnote_async")

Requests: TypeAlias = Iterable[RunRequest | str] | AsyncIterable[RunRequest | str]
LAST_TENTH: Final = 0.25  # s, at most


def last_looks_before(deadline: float, timeout: float) -> float:
    """When the last looks before a deadline are to be made: in the last tenth of the time, at most 0.25 s before."""
    return deadline - min(timeout / 10, LAST_TENTH)


@attrs.frozen(kw_only=True)
class BatchOptions:
    """What ``run_many`` was asked for beside the requests."""

    max_in_flight: int = 100
    timeout: float | None = None
    snapshot: Snapshot | None = None
    on_update: OnUpdate | None = None
    max_failures: int | None = None
    give_up_after: float = 3600.0


@attrs.define(eq=False)
class _Entry:
    """One request on its way."""

    index: int
    request: RunRequest
    http: HttpRequest | None = None
    task: asyncio.Task[None] | None = None
    sent_at: float = 0.0
    run_id: str | None = None
    status: RunStatus | None = None
    ended: bool = False

    def result(self, run: Run | None = None, error: DeepnoteError | None = None) -> RunResult:
        return RunResult(
            index=self.index, key=self.request.key, request=self.request, run_id=self.run_id, run=run, error=error
        )


class _BatchWait(Wait):
    """Passes what the watcher tells straight to the batch."""

    __slots__ = ("_batch",)

    def __init__(self, batch: RunBatch, snapshot: Snapshot | None, on_update: OnUpdate | None) -> None:
        super().__init__(snapshot, on_update)
        self._batch = batch

    def tell(self, run_id: str, outcome: Outcome) -> None:
        self.open.pop(run_id, None)
        self._batch.run_ended(run_id, outcome)


class RunBatch:
    """The runs of ``run_many``: iterate it for one :class:`RunResult` for every request, as it ends.

    Requests are read as there is room: at most ``max_in_flight`` are started or waiting to be, results not yet taken
    included. Left early, by ``break``, an exception or a cancellation, it starts nothing more; the remote runs go on
    and are listed in :attr:`unfinished`. One task reads it at a time.
    """

    def __init__(
        self, session: Session, runs: Runs, watcher: Watcher, requests: Requests, options: BatchOptions
    ) -> None:
        self._session = session
        self._core = session.core
        self._runs = runs
        self._watcher = watcher
        self._options = options
        self._source = _reader_of(requests)
        self._wait = _BatchWait(self, options.snapshot, options.on_update)
        self._way = HalfOpen(session)
        self._open: dict[int, _Entry] = {}
        self._by_run: dict[str, _Entry] = {}
        self._again: deque[_Entry] = deque()
        self._results: deque[RunResult] = deque()
        self._unfinished: list[RunResult] = []
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._deadline: float | None = None
        self._refused: DeepnoteError | None = None
        self._broken: BaseException | None = None
        self._stopped = False
        self._exhausted = False
        self._entered = False
        self.stats = BatchStats()
        """Where the batch stands."""

    @property
    def unfinished(self) -> list[RunResult]:
        """Starts whose runs had not ended when the batch was over: their ``run_id``, or an error if it is not known.

        A start that was on the wire then is added when its answer comes.
        """
        return list(self._unfinished)

    @property
    def leftover(self) -> list[RunResult]:
        """Entries of the ledger that the requests no longer name; empty without a ledger."""
        return []

    async def __aenter__(self) -> Self:
        self._core.check()
        if self._entered:
            raise InvalidRequestError("a batch is entered once: make another with run_many")
        self._entered = True
        self._core.at_close(self._client_closed)
        timeout = self._options.timeout
        if timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline = deadline = loop.time() + timeout
            self._timers = [
                loop.call_at(last_looks_before(deadline, timeout), self._watcher.hasten, self._wait),
                loop.call_at(deadline, self._time_is_up),
            ]
        # In the caller's context, for it is the caller's iterable that runs in it.
        self._feeder = self._core.spawn(self._feed(), "deepnote batch", contextvars.copy_context())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def __aiter__(self) -> AsyncIterator[RunResult]:
        return self

    async def __anext__(self) -> RunResult:
        if not self._entered:
            raise InvalidRequestError("enter the batch first: `async with client.run_many(...) as batch:`")
        while not self._results:
            if self._is_over():
                await self._watcher.pass_on(self._wait, self._deadline)
                if self._broken is not None:
                    broken, self._broken = self._broken, None
                    raise broken
                raise StopAsyncIteration
            await self._wait.changed()
        result = self._results.popleft()
        self._make_room()
        return result

    async def collect(self) -> list[RunResult]:
        """All results, in the order of the requests."""
        return sorted([result async for result in self], key=lambda result: result.index)

    def _is_over(self) -> bool:
        return not self._open and not self._results and (self._stopped or self._exhausted)

    # Reading and starting.

    async def _feed(self) -> None:
        try:
            while (entry := await self._next_entry()) is not None:
                if self._refused is not None:
                    self._not_started(entry, "starts are refused", self._refused)
                elif await self._admitted(entry):
                    self._begin(entry)
        except Exception as error:  # noqa: BLE001 - a bug, or a limiter that broke, must not leave anybody waiting
            if not self._stopped:
                self._broken = error
                self._stop(error)
        finally:
            self._exhausted = True
            self._wait.wake()

    async def _next_entry(self) -> _Entry | None:
        while True:
            if self._again:
                return self._again.popleft()
            if self._exhausted:
                if not any(entry.run_id is None for entry in self._open.values()):
                    return None
            elif len(self._open) + len(self._results) < self._options.max_in_flight:
                try:
                    return self._entry(await self._source.__anext__())
                except StopAsyncIteration:
                    self._exhausted = True
                except (Exception, asyncio.CancelledError) as error:
                    if self._stopped:
                        raise
                    # Told at the end, when what was read before has ended.
                    self._broken, self._exhausted = error, True
                continue
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _entry(self, request: RunRequest | str) -> _Entry:
        checked = request if isinstance(request, RunRequest) else RunRequest(request)
        entry = self._open[self.stats.read] = _Entry(self.stats.read, checked)
        self.stats.read += 1
        return entry

    async def _admitted(self, entry: _Entry) -> bool:
        """Wait until the start may leave; False if it was ended instead."""
        gate = self._session.gate
        while True:
            if not await self._way.wait(entry.request.notebook_id, self._options.give_up_after):
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

    def _begin(self, entry: _Entry) -> None:
        entry.http = self._runs.start_request(entry.request)
        entry.sent_at = self._core.now()
        entry.task = self._core.spawn(self._start(entry, entry.http), "deepnote start", contextvars.copy_context())
        entry.task.add_done_callback(functools.partial(self._start_over, entry))

    def _start_over(self, entry: _Entry, task: asyncio.Task[None]) -> None:
        entry.task = None
        if entry.http is not None and not entry.http.begun:
            self._session.gate.leave()  # cancelled before its first step
        if not task.cancelled():
            task.exception()

    async def _start(self, entry: _Entry, http: HttpRequest) -> None:
        try:
            started = await self._session.attempt(http, read_run_started, lane=Lane.START, in_own_task=True)
        except asyncio.CancelledError:
            if http.sent:
                self._unknown(entry, http, ClientClosedError("the client was closed before the answer came"))
            raise
        except DeepnoteError as error:
            self._start_failed(entry, http, error)
        else:
            self._has_started(entry, self._runs.note(started, entry.request))
        finally:
            self._make_room()

    def _start_failed(self, entry: _Entry, http: HttpRequest, error: DeepnoteError) -> None:
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
                self._end(entry, error=error)
            case _ if http.sent:
                self._unknown(entry, http, error)
            case _:
                self._not_started(entry, "the start could not be sent", error)

    def _try_again(self, entry: _Entry) -> None:
        if entry.ended or self._stopped:
            self._not_started(entry, "the batch was over before it could be tried again", None)
        else:
            self._again.append(entry)

    def _unknown(self, entry: _Entry, http: HttpRequest, cause: DeepnoteError) -> None:
        self._way.hold(cause)
        error = self._session.unknown(cause, http, entry.sent_at)
        error.request, error.notebook_id = entry.request, entry.request.notebook_id
        if entry.ended:
            logger.warning("a start of notebook %s left on the wire: %s", entry.request.notebook_id, error)
            self._unfinished.append(entry.result(error=error))
        else:
            self._end(entry, error=error)

    def _has_started(self, entry: _Entry, started: RunStarted) -> None:
        entry.run_id, entry.status = started.run_id, started.status
        self.stats.started += 1
        if entry.ended:
            logger.warning(
                "run %s of notebook %s was started as its batch was left; it goes on",
                started.run_id,
                entry.request.notebook_id,
            )
            self._unfinished.append(entry.result())
            return
        self._by_run[started.run_id] = entry
        self._watcher.watch(started, self._wait)

    # Ending.

    def run_ended(self, run_id: str, outcome: Outcome) -> None:
        """Hear from the watcher how a run ended."""
        entry = self._by_run.pop(run_id, None)
        if entry is None:
            return
        if isinstance(outcome, Run):
            self._end(entry, run=outcome)
            return
        if isinstance(outcome, ClientClosedError):
            self._unfinished.append(entry.result())
        self._end(entry, error=outcome)

    def _not_started(self, entry: _Entry, reason: str, cause: BaseException | None) -> None:
        message = reason if cause is None else f"{reason}: {cause}"
        self._end(entry, error=NotStartedError(message, cause=cause))

    def _end(self, entry: _Entry, *, run: Run | None = None, error: DeepnoteError | None = None) -> None:
        if entry.ended:
            return
        entry.ended = True
        del self._open[entry.index]
        result = entry.result(run, error)
        self.stats.count(result)
        self._results.append(result)
        self._wait.wake()
        limit = self._options.max_failures
        if limit is not None and not self._stopped and self.stats.failed + self.stats.errors >= limit:
            self._stop(None, "max_failures was reached")

    def _stop(self, cause: BaseException | None, reason: str = "the batch was ended") -> None:
        """Start nothing more; what is read but not on the wire was not started."""
        self._stopped = True
        self._cancel_feeder()
        for entry in list(self._open.values()):
            if entry.run_id is None and not self._is_on_wire(entry):
                self._not_started(entry, reason, cause)

    def _cancel_feeder(self) -> None:
        feeder, self._feeder = self._feeder, None
        if feeder is not None and feeder is not asyncio.current_task():
            feeder.cancel()

    def _is_on_wire(self, entry: _Entry) -> bool:
        if entry.task is None or entry.task.done() or entry.http is None:
            return False
        if entry.http.sent:
            return True
        entry.task.cancel()
        return False

    def _time_is_up(self) -> None:
        self._stop(None, "the batch's timeout passed before it could be started")
        for entry in list(self._open.values()):
            if entry.run_id is None:
                self._let_go_on_wire(entry, RunTimeoutError("the batch's timeout passed before the answer came"))
                continue
            message = f"run {entry.run_id} had not ended when the batch's timeout passed; it goes on"
            self._unfinished.append(entry.result())
            self._end(entry, error=RunTimeoutError(message, run_id=entry.run_id, status=self._status(entry)))
        self._watcher.forget(self._wait)
        self._by_run.clear()

    def _status(self, entry: _Entry) -> RunStatus | None:
        watched = self._wait.open.get(entry.run_id or "")
        return watched.status if watched is not None else entry.status

    def _let_go_on_wire(self, entry: _Entry, cause: DeepnoteError) -> None:
        if entry.task is not None and entry.http is not None:
            self._core.leave_running(entry.task)
            error = self._session.unknown(cause, entry.http, entry.sent_at)
            error.request, error.notebook_id = entry.request, entry.request.notebook_id
            self._end(entry, error=error)

    def _leave(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._core.no_longer_at_close(self._client_closed)
        self._stopped = True
        self._cancel_feeder()
        for entry in list(self._open.values()):
            entry.ended = True
            if entry.run_id is not None:
                self._unfinished.append(entry.result())
            elif self._is_on_wire(entry) and entry.task is not None:
                self._core.leave_running(entry.task)
        self._open.clear()
        self._by_run.clear()
        self._watcher.forget(self._wait)
        if self._wait.updates is not None:
            self._wait.updates.cancel()
        self._wait.wake()

    def _client_closed(self) -> None:
        """Called when the client closes: the watcher has ended the open runs already."""
        closed = ClientClosedError("the client was closed")
        if not self._exhausted and not self._stopped:
            self._broken = closed
        self._stop(closed, "the batch was ended")
        for entry in list(self._open.values()):
            self._let_go_on_wire(entry, closed)


def _reader_of(requests: Requests) -> AsyncIterator[RunRequest | str]:
    if isinstance(requests, AsyncIterable):
        return aiter(requests)
    if isinstance(requests, str | bytes) or not isinstance(requests, Iterable):
        raise InvalidRequestError("run_many takes an iterable of RunRequests: write run_many([request])")
    return _Stepped(iter(requests))


class _Stepped:
    """A plain iterator read as an async one; a generator would not survive being cancelled in between."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        for request in self._iterator:
            return request
        raise StopAsyncIteration
