"""What a client and its views share: the transport, the slots, the tasks that outlive a call, and their end."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from .aiohttp_transport import AiohttpTransport
from .deadlines import Deadlines
from .errors import ClientClosedError
from .gate import Gate, NoLimit, Slots
from .models import ClientStats
from .servertime import ServerClock
from .transport import Transport

__all__ = ["Core", "Started"]

T = TypeVar("T")
GRACE: Final = 5.0
STARTS_REMEMBERED: Final = 100_000


class Started:
    """The runs this client started or claimed, with when; the oldest are forgotten past a hundred thousand."""

    __slots__ = ("_when",)

    def __init__(self) -> None:
        self._when: OrderedDict[str, float] = OrderedDict()

    def add(self, run_id: str, now: float) -> None:
        """Remember a run."""
        self._when[run_id] = now
        if len(self._when) > STARTS_REMEMBERED:
            self._when.popitem(last=False)

    def forget(self, run_id: str) -> None:
        """Let a run be taken for that of a start of unknown outcome."""
        self._when.pop(run_id, None)

    def when(self, run_id: str) -> float | None:
        """When the run was started, on the loop's clock, if it was by this client."""
        return self._when.get(run_id)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._when


class Watching(Protocol):
    """What watches runs, as far as the core has to know it."""

    def __len__(self) -> int:
        """How many runs are watched."""
        ...

    def __hash__(self) -> int:
        """Itself, for a set."""
        ...

    def close(self) -> None:
        """End every wait."""
        ...


class Core:
    """One client's hold on the outside world, from entering to closing."""

    def __init__(self, transport: Transport, slots: int, attempt_timeout: float) -> None:
        self.transport = transport
        self.slots: Slots = Slots(slots)
        self.clock: ServerClock = ServerClock()
        self.started: Started = Started()
        self.rng: random.Random = random.Random()
        self.requests = 0
        self.throttled = 0
        self.reads = 0  # that succeeded
        self.on_wire = 0
        self.closed: bool = False
        #: The steady clock of the client's event loop, in seconds; from entering on the loop's own, which is cheaper.
        self.now: Callable[[], float] = _running_time
        self._attempt_timeout = attempt_timeout
        #: Of attempts, and of waits at the gate; from entering on.
        self.deadlines: Deadlines
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unattended: set[asyncio.Task[Any]] = set()
        self._sleepers: set[asyncio.Future[None]] = set()
        # Weakly, for views come and go with the requests of a service.
        self._gates: weakref.WeakSet[Gate] = weakref.WeakSet()
        # For downloads from other origins, whose limits are not the API's.
        self.elsewhere: Gate = Gate(self.slots, NoLimit())
        self._gates.add(self.elsewhere)
        self._watchers: weakref.WeakSet[Watching] = weakref.WeakSet()
        self._at_close: list[Callable[[], None]] = []
        self.ledgers_left: dict[str, asyncio.Task[None]] = {}  # until the starts that their batches left are in them
        self._closing: asyncio.Task[None] | None = None

    def hold(self, gate: Gate, watcher: Watching) -> None:
        """Count a gate and a watcher in, and end them with the client, for as long as somebody uses them."""
        self._gates.add(gate)
        self._watchers.add(watcher)

    def stats(self) -> ClientStats:
        """What is held at this moment, and what was done so far."""
        return ClientStats(
            connections=self.on_wire,
            slots=self.slots.limit - self.slots.free,
            waiters=sum(gate.waiting for gate in self._gates),
            watched_runs=sum(len(watcher) for watcher in self._watchers),
            tasks=len(self._tasks),
            requests=self.requests,
            throttled=self.throttled,
        )

    def enter(self) -> None:
        """Take hold of the running event loop and open the transport."""
        if self.closed:
            raise ClientClosedError("the client was closed: make a new one")
        if self._loop is not None:
            raise ClientClosedError("the client is entered already: use it, or make another")
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._pid = os.getpid()
        self.deadlines = Deadlines(self._attempt_timeout)
        self.clock.began(self._loop.time())
        if isinstance(self.transport, AiohttpTransport):
            self.transport.open()

    def check(self) -> None:
        """Raise :class:`ClientClosedError` unless the client can be used here and now."""
        if self.closed:
            raise ClientClosedError("the client is closed: make a new one")
        if self._loop is None:
            raise ClientClosedError("the client is not entered: write `async with DeepnoteClient() as client:`")
        # Before the loop: a forked child may run the parent's, or asyncio may deny that any runs.
        if self._pid != os.getpid():
            raise ClientClosedError("the client belongs to the parent process: make one after the fork")
        if self._loop is not asyncio.get_running_loop():
            raise ClientClosedError("the client belongs to another event loop: make one for each")

    def at_close(self, end: Callable[[], None]) -> None:
        """Call ``end`` as soon as the client is closed."""
        self._at_close.append(end)

    def no_longer_at_close(self, end: Callable[[], None]) -> None:
        """Take back :meth:`at_close`."""
        if end in self._at_close:
            self._at_close.remove(end)

    def spawn(
        self, work: Coroutine[Any, Any, T], name: str, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        """Run ``work`` in a task that :meth:`close` ends, in an empty context unless one is given.

        In the context of whoever came first it would carry their trace and tenant for as long as it lives.
        """
        task = asyncio.get_running_loop().create_task(work, name=name, context=context or contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def leave_running(self, task: asyncio.Task[Any]) -> None:
        """Let ``task``, whose caller is gone, go on to its end: closing waits for it, for the grace period."""
        self._unattended.add(task)
        task.add_done_callback(self._unattended.discard)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not past the closing of the client."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper)
        try:
            await self._until_closed(sleeper)
        finally:
            timer.cancel()

    async def outcome(self, task: asyncio.Task[T], at_end: Callable[[], object]) -> T:
        """Await ``task``, but not past the closing of the client; it goes on when its caller is cancelled.

        ``at_end`` is called when the task has ended, whether somebody still waits for it or not.
        """
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ended(_: object) -> None:
            at_end()
            _wake(sleeper)

        task.add_done_callback(ended)
        await self._until_closed(sleeper)
        return task.result()

    async def _until_closed(self, sleeper: asyncio.Future[None]) -> None:
        if self.closed:
            raise ClientClosedError("the client was closed")
        self._sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            self._sleepers.discard(sleeper)

    async def close(self, grace: float = GRACE) -> None:
        """End every wait at once and close the transport; idempotent, and safe from any task.

        Starts whose callers are gone have up to ``grace`` seconds to end.
        """
        if self._loop is None or self._loop.is_closed():
            self.closed = True
            return
        if self._pid != os.getpid():
            raise ClientClosedError("the client belongs to the parent process: close it there")
        if self._loop is not asyncio.get_running_loop():
            raise ClientClosedError("the client belongs to another event loop: close it there")
        if self._closing is None:
            self._end_waits()
            self._closing = self._loop.create_task(
                self._close(grace), name="deepnote close", context=contextvars.Context()
            )
        # In a task of its own, so that a caller who is cancelled leaves no half-closed client.
        await asyncio.shield(self._closing)

    def _end_waits(self) -> None:
        self.closed = True
        for watcher in list(self._watchers):
            watcher.close()
        for end in list(self._at_close):
            end()
        for gate in list(self._gates):
            gate.close()
        self._at_close.clear()
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_exception(ClientClosedError("the client was closed"))
        self.deadlines.close()

    async def _close(self, grace: float) -> None:
        await asyncio.sleep(0)  # the callers of starts on the wire leave them running
        for task in self._tasks - self._unattended:
            task.cancel()
        if self._unattended:
            await asyncio.wait(self._unattended, timeout=grace)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # their done callbacks
        if isinstance(self.transport, AiohttpTransport):
            await self.transport.close()


def _running_time() -> float:
    return asyncio.get_running_loop().time()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
