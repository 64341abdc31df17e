"""The service in two times: a process of its own where time is real, a model in memory where it is virtual."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import aiohttp
import attrs

from deepnote_async import DeepnoteClient, PollPolicy, RateLimiter, TransportError
from deepnote_async.testing import FakeProcess, MemoryTransport, Service, run_virtual, virtual_service
from deepnote_async.transport import HttpRequest

from .settings import POLL, Setting

__all__ = ["Account", "Answer", "Caller", "NoAnswerError", "Seen", "VirtualWorld", "World", "in_memory", "in_process"]

T = TypeVar("T")
LATENCY: Final = 0.002  # s of an answer in virtual time, about that of the real process
CONNECTIONS: Final = 100


@attrs.frozen
class Seen:
    """One request as the service saw it; ``time`` is on its clock."""

    time: float
    method: str
    path: str
    status: int | None

    @property
    def kind(self) -> str:
        """Whether it was a start, a page, a single read, or something else."""
        if self.method == "POST":
            return "start"
        if self.path.startswith("/v2/notebooks/"):
            return "page"
        return "single" if self.path.startswith("/v2/runs/") else "other"


@attrs.frozen
class Account:
    """The service's own account, asked past the limit: every request, and when each run ended (None: it goes on)."""

    calls: Sequence[Seen]
    ends: dict[str, float | None]


@attrs.frozen
class Answer:
    """What a minimal caller reads of an answer."""

    status: int
    retry_after: float | None
    body: Any


class NoAnswerError(Exception):
    """The connection broke."""


Caller: TypeAlias = Callable[[str, str, Any], Awaitable[Answer]]


class World(Protocol):
    """One service, whatever its time."""

    notebooks: Sequence[str]

    def now(self) -> float:
        """The service's clock, in seconds."""
        ...

    def client(self, limiter: RateLimiter | None, poll: PollPolicy = ...) -> DeepnoteClient:
        """Our client of it."""
        ...

    def caller(self) -> AbstractAsyncContextManager[Caller]:
        """A minimal caller of it: method, path and JSON body in, one answer out."""
        ...

    async def account(self) -> Account:
        """What it saw."""
        ...


class RealWorld:
    """A ``FakeProcess`` on the same machine, so that both have one clock."""

    def __init__(self, process: FakeProcess) -> None:
        self._process = process
        self.notebooks: Sequence[str] = process.notebooks

    @property
    def process(self) -> FakeProcess:
        """The service itself."""
        return self._process

    def now(self) -> float:
        """The machine's clock."""
        return time.time()

    def client(self, limiter: RateLimiter | None, poll: PollPolicy = POLL) -> DeepnoteClient:
        """Our client over aiohttp."""
        process = self._process
        return DeepnoteClient(process.token, base_url=process.url, rate_limiter=limiter, poll=poll)

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        """aiohttp as it comes."""
        headers = {"Authorization": f"Bearer {self._process.token}"}
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(self._process.url, headers=headers, connector=connector) as session:

            async def call(method: str, path: str, body: Any) -> Answer:
                try:
                    async with session.request(method, path, json=body) as answer:
                        after = answer.headers.get("Retry-After")
                        read = await answer.json() if answer.ok else None
                        return Answer(answer.status, None if after is None else float(after), read)
                except (aiohttp.ClientError, TimeoutError) as error:
                    raise NoAnswerError from error

            yield call

    async def account(self) -> Account:
        """What the process tells at its other origin."""
        told = await self._process.stats(calls=True)
        calls = [Seen(row["time"], row["method"], row["path"], row["status"]) for row in told["calls"]]
        return Account(calls, {run["id"]: run["ended"] for run in told["runs"]})


class VirtualWorld:
    """A ``Service`` on the clock of a virtual loop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.notebooks: Sequence[str] = list(service.notebooks)

    def now(self) -> float:
        """The service's clock."""
        return self.service.clock()

    def client(self, limiter: RateLimiter | None, poll: PollPolicy = POLL) -> DeepnoteClient:
        """Our client over memory."""
        transport = MemoryTransport(self.service, latency=LATENCY)
        return DeepnoteClient(self.service.token, transport=transport, rate_limiter=limiter, poll=poll)

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        """The transport itself, with as many connections as the other world's."""
        transport = MemoryTransport(self.service, latency=LATENCY)
        headers = {"Authorization": f"Bearer {self.service.token}"}
        connections = asyncio.Semaphore(CONNECTIONS)

        async def call(method: str, path: str, body: Any) -> Answer:
            sent = None if body is None else json.dumps(body).encode()
            request = HttpRequest(method, f"https://api.invalid{path}", headers, sent)
            async with connections:
                try:
                    answer = await transport.send(request)
                except TransportError as error:
                    raise NoAnswerError from error
            after = answer.headers.get("Retry-After")
            read = json.loads(answer.body) if answer.status < 300 else None
            return Answer(answer.status, None if after is None else float(after), read)

        yield call

    async def account(self) -> Account:
        """What the model remembers."""
        service = self.service
        calls = [Seen(call.time, call.method, call.path, call.status) for call in service.calls]
        return Account(calls, {run.id: run.ended_at for run in service.runs.values()})


@asynccontextmanager
async def _process(setting: Setting) -> AsyncIterator[RealWorld]:
    async with FakeProcess(**setting.of_process()) as process:
        yield RealWorld(process)


def in_process(setting: Setting, work: Callable[[RealWorld], Coroutine[Any, Any, T]]) -> T:
    """Do some work on a service in a process of its own, in real time."""

    async def main() -> T:
        async with _process(setting) as world:
            return await work(world)

    return asyncio.run(main())


def in_memory(setting: Setting, work: Callable[[VirtualWorld], Coroutine[Any, Any, T]]) -> T:
    """Do some work on a service in memory, in virtual time."""

    async def main() -> T:
        service = virtual_service(**setting.of_service())
        for _ in range(setting.notebooks):
            service.add_earlier_runs(service.add_notebook(), setting.earlier, setting.earlier_span)
        return await work(VirtualWorld(service))

    return run_virtual(main())
