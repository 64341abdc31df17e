"""The watcher: every awaited run of a client registered once, however many await it, and one look after another.

It has one task while anything is watched, and one more for each look on the wire. The schedule says what to look at;
a look passes the gate first and is chosen then, so that the choice is as late as it can be.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ..errors import (
    ApiError,
    ClientClosedError,
    DecodeError,
    DeepnoteError,
    RateLimitError,
    ServerError,
    TransportError,
)
from ..gate import Lane
from ..models import Run, RunStarted
from ..outgoing import page_query, query_string
from ..resources.notebooks import runs_path
from ..resources.runs import RunRef, run_id_of, run_path
from ..snapshots import Snapshot, may_still_come
from ..wire import read_run, read_runs
from .outage import Listings, Outage
from .places import Look, Page
from .schedule import Schedule
from .watched import Watched

if TYPE_CHECKING:
    from ..session import Session
    from ..settings import PollPolicy
    from .wait import Outcome, Wait

__all__ = ["Watcher"]

logger: logging.Logger = logging.getLogger("deepnote_async")

PAGE_SIZE: Final = 100
DATE_ERROR: Final = 0.5  # s that an offset from `Date`, which is cut to the second, may be wrong by
LOOKS_AT_ONCE: Final = 16  # on the wire: answers that come together are taken in together, and pages take a while


class Watcher:
    """Watches the runs of one token."""

    def __init__(self, session: Session, poll: PollPolicy) -> None:
        self._session = session
        self._core = session.core
        self._poll = poll
        self._schedule = Schedule(poll, session.core.rng)
        self._watched: dict[str, Watched] = {}
        self._pairs = 0  # of a watched run and a wait
        self._outage = Outage(poll)
        self._task: asyncio.Task[None] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._looks = 0
        self._listings = Listings()

    def __len__(self) -> int:
        return len(self._watched)

    # Coming and going.

    def watch(self, ref: RunRef, wait: Wait) -> None:
        """Let ``wait`` be told how a run ends."""
        run_id = run_id_of(ref)
        if run_id in wait.open:
            return
        if isinstance(ref, Run) and ref.is_terminal and wait.snapshot is None:
            wait.tell(run_id, ref)
            return
        if self._core.closed:
            wait.tell(run_id, _closed())
            return
        watched = self._watched.get(run_id)
        if watched is None:
            watched = self._register(run_id, ref)
        watched.join(wait)
        self._pairs += 1
        wait.open[run_id] = watched
        if self._task is None:
            self._task = self._core.spawn(self._work(), "deepnote watcher")
        self._ring()

    def _register(self, run_id: str, ref: RunRef) -> Watched:
        now = self._core.now()
        started = self._core.started.when(run_id)
        told = ref if isinstance(ref, Run | RunStarted) else None
        born = started if started is not None or told is None else self._on_our_clock(told.created_at, now)
        watched = self._watched[run_id] = Watched(run_id, born, now)
        watched.ours_since = born if isinstance(told, RunStarted) else started
        if watched.ours_since is not None:
            # Its start was on the wire no longer than that; the receipt, read soon after it came, says it better.
            watched.earliest = watched.ours_since - self._session.timeouts.timeout
            receipt = None if told is None else self._on_our_clock(told.created_at, now)
            if receipt is not None:
                watched.earliest = max(watched.earliest, min(receipt, watched.ours_since) - DATE_ERROR)
        if told is not None:
            watched.status = told.status
            if told.notebook_id is not None:
                watched.notebook = self._schedule.notebook(told.notebook_id)
        if isinstance(told, Run) and told.is_terminal:
            self._has_ended(watched, told, now)
            self._schedule.read_at(watched, now)
        else:
            self._schedule.add(watched, now)
        return watched

    def _born(self, watched: Watched, run: Run, now: float) -> float | None:
        born, answered = self._on_our_clock(run.created_at, now), watched.ours_since
        if born is None or answered is None:
            return born if answered is None else answered
        # A start of ours happened while it was on the wire, whatever the service's clock has done since.
        return min(max(born, watched.earliest), answered)

    def _on_our_clock(self, time: datetime | None, now: float) -> float | None:
        if time is None:
            return None
        return min(now - (self._core.clock.at(now) - time.timestamp()), now)

    def forget(self, wait: Wait) -> None:
        """Let a wait go with all its runs, which go on without it."""
        if len(wait.open) == self._pairs:
            # Nobody else waits for anything: no need to take thousands of runs out one by one.
            self._watched, wait.open = {}, {}
            self._schedule.clear()
            self._pairs = 0
        for run_id, watched in wait.open.items():
            watched.part([wait])
            self._pairs -= 1
            if not watched.waits:
                self._schedule.remove(watched)
                del self._watched[run_id]
        wait.open.clear()
        self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if not self._watched and self._task is not None:
            self._task.cancel()
            self._task = None
            self._outage.over()
            self._listings.clear()

    def hasten(self, wait: Wait) -> None:
        """Look at a wait's open runs now, as far as the gate lets it."""
        self._outage.resting_until = 0.0
        self._schedule.hasten(wait.open.values(), self._core.now())
        self._ring()

    async def pass_on(self, wait: Wait, deadline: float | None) -> None:
        """Let ``on_update`` hear all that was told, but not past the deadline or the closing of the client."""
        updates, core = wait.updates, self._core
        if updates is None or core.closed:
            return
        core.at_close(updates.cancel)
        try:
            await updates.finish(deadline)
        finally:
            core.no_longer_at_close(updates.cancel)

    def close(self) -> None:
        """End every wait, for the client is closed."""
        self._end_all(_closed)

    def _end_all(self, error: Callable[[], DeepnoteError]) -> None:
        for watched in list(self._watched.values()):
            self._tell(watched, error())

    # The work.

    def _ring(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    async def _sleep(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        alarm = self._alarm = loop.create_future()
        timer = None if until == math.inf else loop.call_at(until, self._ring)
        try:
            await alarm
        finally:
            self._alarm = None
            if timer is not None:
                timer.cancel()

    def _next_look(self) -> float:
        due = self._schedule.next_due()
        if due is None or self._looks >= (1 if self._outage.severe else LOOKS_AT_ONCE):
            return math.inf
        return max(due, self._outage.resting_until)

    async def _work(self) -> None:
        try:
            while True:
                due = self._next_look()
                if due > self._core.now():
                    await self._sleep(due)
                else:
                    await self._session.gate.enter(Lane.LOOK)
                    self._begin_look()
        except Exception as error:  # noqa: BLE001 - a bug must not leave anybody waiting for ever
            self._task = None
            self._died(error)

    def _died(self, error: Exception) -> None:
        logger.error("the watcher failed; every wait ends with it", exc_info=error)
        reason = f"the watcher failed: {type(error).__name__}: {error}"
        self._end_all(lambda: error if isinstance(error, DeepnoteError) else DeepnoteError(reason))

    def _begin_look(self) -> None:
        look = None
        try:
            look = self._schedule.choose(self._core.now())
        finally:
            if look is None:
                self._session.gate.unused()
        if look is None:
            return
        self._looks += 1
        task = self._core.spawn(self._look(look), "deepnote look")
        task.add_done_callback(functools.partial(self._look_over, look))

    def _look_over(self, look: Look, _: object) -> None:
        self._looks -= 1
        self._schedule.over(look)
        if not look.begun:
            self._session.gate.leave()
        self._ring()

    async def _look(self, look: Look) -> None:
        try:
            if isinstance(look.item, Watched):
                await self._look_at_run(look, look.item)
            else:
                await self._look_at_page(look)
        except ClientClosedError:
            return
        except Exception as error:  # noqa: BLE001 - as above
            self._died(error)

    async def _look_at_run(self, look: Look, watched: Watched) -> None:
        delivery = watched.delivery()
        query = "" if delivery is None else query_string({"snapshotDelivery": delivery})
        request = self._session.request("GET", run_path(watched.run_id), query=query)
        look.begun = True  # the attempt gives the slot back
        try:
            run = await self._session.attempt(request, read_run, lane=Lane.LOOK)
        except (ApiError, TransportError, DecodeError) as error:
            if self._watched.get(watched.run_id) is watched:
                self._failed_alone(look, watched, error)
            return
        self._outage.over()
        self._listings.read_alone(self._core.now())
        if self._watched.get(watched.run_id) is watched:
            self._seen_alone(look, watched, run, delivery)

    async def _look_at_page(self, look: Look) -> None:
        notebook = look.notebook
        assert notebook is not None  # noqa: S101 - looks of pages have one
        request = self._session.request("GET", runs_path(notebook.id), query=page_query(PAGE_SIZE, look.token))
        look.begun = True
        try:
            runs, next_token = await self._session.attempt(request, read_runs, lane=Lane.LOOK)
        except (ApiError, TransportError, DecodeError) as error:
            self._failed_page(look, error)
            return
        self._outage.over()
        self._listings.listed(notebook.id)
        self._seen_page(look, runs, next_token)

    # What a look showed.

    def _seen_page(self, look: Look, runs: Iterable[Run], next_token: str | None) -> None:
        now = self._core.now()
        here = self._schedule.page_of(look)
        for run in runs:
            watched = self._watched.get(run.run_id)
            if watched is None:
                length = run.duration
                if length is not None:
                    here.notebook.foreign_ended(run.run_id, length.total_seconds())
            elif watched.end is None:
                self._seen_listed(look, here, watched, run, now)
        self._schedule.page_read(look, here, next_token, now)

    def _seen_listed(self, look: Look, here: Page, watched: Watched, run: Run, now: float) -> None:
        if watched.notebook is None or watched.place is here.notebook.frontier:
            look.found += 1
            watched.notebook = here.notebook
        self._changed(watched, run)
        if not run.is_terminal:
            self._schedule.met(watched, here, self._born(watched, run, now), now)
            return
        self._has_ended(watched, run, now)
        if run.succeeded:
            self._tell(watched, run, [wait for wait in watched.waits if wait.snapshot is None])
        if watched.waits:
            # A listed row has neither error nor snapshot.
            self._schedule.read_at(watched, now)

    def _seen_alone(self, look: Look, watched: Watched, run: Run, delivery: Snapshot | None) -> None:
        now = self._core.now()
        watched.failing_since = None
        if watched.notebook is None and run.notebook_id is not None:
            watched.notebook = self._schedule.notebook(run.notebook_id)
        self._changed(watched, run)
        if not run.is_terminal and watched.end is None:
            self._schedule.met_alone(look, self._born(watched, run, now), now)
            return
        if watched.end is None:
            self._has_ended(watched, run, now)
        settled = not may_still_come(run) or now >= watched.read_until
        self._tell(
            watched,
            run if run.is_terminal else watched.end or run,
            [wait for wait in watched.waits if wait.snapshot is None or (settled and wait.snapshot == delivery)],
        )
        if watched.waits:
            self._read_again(watched, now, wait=watched.delivery() == delivery and not settled)

    def _read_again(self, watched: Watched, now: float, *, wait: bool) -> None:
        """Read an ended run for what is still to come: at once, or the later the longer it has been coming."""
        since = self._poll.snapshot_wait - (watched.read_until - now)
        due = min(now + max(self._poll.initial, since / 2), watched.read_until) if wait else now
        self._schedule.read_at(watched, due)

    def _has_ended(self, watched: Watched, run: Run, now: float) -> None:
        length = None if run.duration is None else run.duration.total_seconds()
        if length is not None:
            length = min(length, now - watched.earliest)
        self._schedule.ended(watched, length)
        self._schedule.remove(watched)
        watched.end = run
        watched.read_until = now + self._poll.snapshot_wait

    def _changed(self, watched: Watched, run: Run) -> None:
        if run.status != watched.status or not watched.seen_before:
            watched.status = run.status
            watched.seen_before = True
            for wait in tuple(watched.waits):
                wait.update(run)

    def _tell(self, watched: Watched, outcome: Outcome, waits: Sequence[Wait] | None = None) -> None:
        """Tell some of those who wait, or all; when nobody waits any more the run is no longer watched."""
        told = tuple(watched.waits) if waits is None else waits
        watched.part(told)
        self._pairs -= len(told)
        for wait in told:
            # An error raised in many tasks would gather the tracebacks of all.
            wait.tell(watched.run_id, outcome if isinstance(outcome, Run) else copy.copy(outcome))
        if not watched.waits and self._watched.pop(watched.run_id, None) is not None:
            self._schedule.remove(watched)
            self._stop_if_idle()

    # What a look failed to show.

    def _failed_alone(self, look: Look, watched: Watched, error: ApiError | TransportError | DecodeError) -> None:
        now = self._core.now()
        if isinstance(error, RateLimitError):
            self._schedule.throttled(look, now)
            return
        fatal = watched.is_ended_by(error, now, self._poll.visible_after)
        if watched.end is not None and (fatal or now >= watched.read_until):
            self._tell(watched, watched.end)
            return
        if watched.failing_since is None:
            watched.failing_since = now
        if fatal or now - watched.failing_since >= self._poll.give_up_after:
            self._tell(watched, error)
            return
        self._schedule.failed(look, now)
        self._count_failure(error, now)

    def _failed_page(self, look: Look, error: ApiError | TransportError | DecodeError) -> None:
        now = self._core.now()
        if isinstance(error, RateLimitError):
            self._schedule.throttled(look, now)
        elif isinstance(error, TransportError | ServerError) and not self._fails_alone(look, now):
            self._schedule.failed(look, now)
            self._count_failure(error, now)
        else:
            self._schedule.page_refused(look, now)

    def _fails_alone(self, look: Look, now: float) -> bool:
        """Whether it is only the listing that fails, again and again, while single reads succeed."""
        page, notebook = look.page, look.notebook
        if page is None or notebook is None or look.scouting:
            return False
        if self._listings.fails_alone(notebook.id, page.failures, now):
            return True
        if page.failures:
            # One of its runs is read by itself, to learn which it is.
            for item in page.members.values():
                if not item.busy:
                    self._schedule.read_at(item, now)
                    break
        return False

    def _count_failure(self, error: DeepnoteError, now: float) -> None:
        if not isinstance(error, TransportError | ServerError | DecodeError):
            return
        since = self._outage.failed(error, now, len(self._watched))
        if now - since < self._poll.give_up_after:
            return
        for watched in list(self._watched.values()):
            if now - max(since, watched.added) >= self._poll.give_up_after:
                self._tell(watched, watched.end or error)


def _closed() -> ClientClosedError:
    return ClientClosedError("the client was closed while the run was awaited; the run goes on")
