"""Awaiting runs: one, many, or as they end. All three read one :class:`Wait`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

import attrs

from ..errors import DeepnoteError, InvalidRequestError, RunFailedError, RunTimeoutError
from ..models import Run, RunStatus
from ..resources.runs import RunRef, run_id_of
from ..settings import is_number
from ..snapshots import Snapshot, checked_delivery
from .wait import OnUpdate, Outcome, Wait, last_looks_before

if TYPE_CHECKING:
    from .watcher import Watcher

__all__ = ["Completed", "WaitOptions", "await_many", "await_one", "checked_timeout"]

T = TypeVar("T")
REGISTERED_AT_ONCE: Final = 500  # runs between two chances for other tasks


def checked_timeout(timeout: float | None) -> float | None:
    """The timeout itself; raises :class:`InvalidRequestError` for what is no number of seconds."""
    if timeout is None:
        return None
    if not is_number(timeout) or timeout < 0:
        raise InvalidRequestError(f"timeout is a number of seconds of at least 0, or None, not {timeout!r}")
    return None if timeout == math.inf else timeout


@attrs.frozen(eq=False, kw_only=True)
class WaitOptions:
    """What a wait was asked for beside the runs."""

    timeout: float | None = attrs.field(default=None, converter=checked_timeout)
    snapshot: Snapshot | None = attrs.field(default=None, converter=checked_delivery)
    on_update: OnUpdate | None = None


class Reading:
    """Reads a wait to its end or its deadline, with last looks just before that."""

    __slots__ = ("_deadline", "_hasten_at", "_refs", "_wait", "_watcher")

    def __init__(self, watcher: Watcher, refs: Iterable[RunRef], options: WaitOptions) -> None:
        self._watcher = watcher
        self._refs = iter(refs)
        self._wait = Wait(options.snapshot, options.on_update)
        self._deadline: float | None = None
        self._hasten_at: float | None = None
        if options.timeout is not None:
            self._deadline = asyncio.get_running_loop().time() + options.timeout
            self._hasten_at = last_looks_before(self._deadline, options.timeout)

    async def begin(self) -> None:
        """Register the runs; cancelled, it goes on from there when it is called again."""
        registered = 0
        while (ref := next(self._refs, None)) is not None:
            self._watcher.watch(ref, self._wait)
            registered += 1
            if registered % REGISTERED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def next(self) -> tuple[str, Outcome] | None:
        """What is told next; None when all is told or the deadline has passed."""
        wait = self._wait
        while not wait.told:
            if not wait.open:
                return None
            if not await wait.changed(self._hasten_at if self._hasten_at is not None else self._deadline):
                if self._hasten_at is None:
                    return None
                self._hasten_at = None
                self._watcher.hasten(wait)
        return wait.told.popleft()

    def timed_out(self) -> dict[str, Outcome]:
        """An error for every run that is still open, or the run where only its snapshot was still to come."""
        return {run_id: watched.end or _too_late(run_id, watched.status) for run_id, watched in self._wait.open.items()}

    async def finish(self) -> None:
        """Let ``on_update`` hear all that was told, by the deadline."""
        await self._watcher.pass_on(self._wait, self._deadline)

    def end(self) -> None:
        """Let the runs go, those not yet registered too."""
        self._refs = iter(())
        self._watcher.forget(self._wait)
        if self._wait.updates is not None:
            self._wait.updates.cancel()
        self._wait.wake()


def _too_late(run_id: str, status: RunStatus | None) -> RunTimeoutError:
    seen = f"last seen as {status}" if status is not None else "never seen"
    return RunTimeoutError(
        f"run {run_id} had not ended when the timeout passed ({seen}); it goes on", run_id=run_id, status=status
    )


async def await_one(watcher: Watcher, ref: RunRef, options: WaitOptions, *, check: bool) -> Run:
    """Await one run; see :meth:`DeepnoteClient.await_run`."""
    outcomes = await _outcomes(watcher, [ref], options)
    (outcome,) = outcomes.values()
    outcome = _checked(outcome) if check else outcome
    if isinstance(outcome, DeepnoteError):
        raise outcome
    return outcome


async def await_many(
    watcher: Watcher, refs: Iterable[RunRef], options: WaitOptions, *, check: bool, return_exceptions: bool
) -> list[Run | DeepnoteError]:
    """Await runs; see :meth:`DeepnoteClient.await_run`."""
    listed = list(refs)
    ids = [run_id_of(ref) for ref in listed]
    outcomes = await _outcomes(watcher, dict(zip(ids, listed, strict=True)).values(), options)
    if check:
        outcomes = {run_id: _checked(outcome) for run_id, outcome in outcomes.items()}
    if not return_exceptions:
        _raise_first(outcomes)
    return [outcomes[run_id] for run_id in ids]


async def _outcomes(watcher: Watcher, refs: Iterable[RunRef], options: WaitOptions) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    reading = Reading(watcher, refs, options)
    try:
        await reading.begin()
        while (told := await reading.next()) is not None:
            outcomes[told[0]] = told[1]
        outcomes.update(reading.timed_out())
        await reading.finish()
    finally:
        reading.end()
    return outcomes


def _checked(outcome: Outcome) -> Outcome:
    if isinstance(outcome, Run) and not outcome.succeeded:
        return RunFailedError(outcome)
    return outcome


def _raise_first(outcomes: dict[str, Outcome]) -> None:
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, DeepnoteError)]
    if not errors:
        return
    first = errors[0]
    if isinstance(first, RunTimeoutError):
        raise _many_too_late(outcomes)
    raise first


def _many_too_late(outcomes: dict[str, Outcome]) -> RunTimeoutError:
    finished = [outcome for outcome in outcomes.values() if isinstance(outcome, Run)]
    late = [run_id for run_id, outcome in outcomes.items() if isinstance(outcome, RunTimeoutError)]
    status = None
    if len(late) == 1:
        (error,) = (outcome for outcome in outcomes.values() if isinstance(outcome, RunTimeoutError))
        status = error.status
    return RunTimeoutError(
        f"{len(late)} of {len(outcomes)} runs had not ended when the timeout passed; they go on",
        run_id=late[0] if len(late) == 1 else None,
        status=status,
        finished=finished,
        unfinished=late,
    )


class Completed(Generic[T]):
    """Runs as they end: an async iterator that may be cancelled in ``__anext__``, and left at any time."""

    def __init__(
        self, watcher: Watcher, refs: Iterable[RunRef], options: WaitOptions, *, return_exceptions: bool
    ) -> None:
        self._reading: Reading | None = None  # first, for it may yet turn out that there is nothing to read
        self._watcher = watcher
        self._refs: Iterable[RunRef] = {run_id_of(ref): ref for ref in refs}.values()
        self._options = options
        self._return_exceptions = return_exceptions
        self._begun = False
        self._outcomes: dict[str, Outcome] = {}
        self._late: list[Outcome] | None = None  # what is given after the deadline
        self._loop: asyncio.AbstractEventLoop | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while self._late is None:
            reading = await self._started()
            told = await reading.next()
            if told is None:
                late = reading.timed_out()
                await reading.finish()
                reading.end()
                self._late = [item for item in late.values() if self._return_exceptions or isinstance(item, Run)]
                self._outcomes.update(late)
                break
            self._outcomes[told[0]] = told[1]
            if self._return_exceptions or isinstance(told[1], Run):
                return told[1]  # type: ignore[return-value]
        if self._late:
            return self._late.pop(0)  # type: ignore[return-value]
        outcomes, self._outcomes = self._outcomes, {}
        if not self._return_exceptions:
            _raise_first(outcomes)
        raise StopAsyncIteration

    async def _started(self) -> Reading:
        if self._reading is None:
            self._loop = asyncio.get_running_loop()
            self._reading = Reading(self._watcher, self._refs, self._options)
        if not self._begun:
            await self._reading.begin()
            self._refs = ()
            self._begun = True
        return self._reading

    async def aclose(self) -> None:
        """Let the runs go; they go on remotely."""
        if self._reading is not None:
            self._reading.end()
        self._late = []
        self._outcomes.clear()

    def __del__(self) -> None:
        # `break` out of the loop leaves the iterator to be collected, in whichever thread that happens.
        if self._reading is not None and self._late is None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._reading.end)
