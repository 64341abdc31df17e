"""A service and its client in memory and virtual time, and a check that nothing is left of what was awaited."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import attrs

from deepnote_async import ClientStats, DeepnoteClient, TokenBucket
from deepnote_async.testing import (
    Fault,
    MemoryTransport,
    NotebookState,
    RunState,
    Service,
    run_virtual,
    virtual_service,
)
from deepnote_async.transport import HttpRequest, HttpResponse

LONGEST = 30 * 86400.0  # s of virtual time after which a test has hung
SETTLED = 31.0  # s in which every attempt on the wire has ended


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in virtual time."""

    async def limited(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(LONGEST):
            await test(*args, **kwargs)

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtual(limited(*args, **kwargs))

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


def freely() -> TokenBucket:
    """A limiter that holds nobody back."""
    return TokenBucket(1e6, 1e6, adaptive=False)


def only(error: BaseException | None, kind: type[BaseException]) -> Any:
    """The error, which is of this very class."""
    assert type(error) is kind, repr(error)
    return error


@attrs.define
class Doctored:
    """A transport whose JSON answers can be changed on their way."""

    inner: MemoryTransport
    change: Callable[[HttpRequest, dict[str, Any]], None] | None = None

    async def send(self, request: HttpRequest, /) -> HttpResponse:
        response = await self.inner.send(request)
        if self.change is not None and response.status < 300:
            body = json.loads(response.body)
            self.change(request, body)
            response.body = json.dumps(body).encode()
        return response


@attrs.define
class World:
    """One service, one client of it, one notebook."""

    service: Service
    client: DeepnoteClient
    transport: Doctored
    notebook: NotebookState

    @property
    def requests(self) -> int:
        return len(self.service.calls)

    def reads(self, run: RunState | str | None = None) -> int:
        """How many single reads came, of one run or of any."""
        run_id = run.id if isinstance(run, RunState) else run or ""
        return self.service.count(method="GET", path_prefix=f"/v2/runs/{run_id}")

    @property
    def listings(self) -> int:
        return self.service.count(method="GET", path_prefix="/v2/notebooks/")

    @property
    def starts(self) -> int:
        return self.service.count(method="POST", path_prefix="/v2/runs")

    def add(self, *lengths: float, **options: Any) -> list[RunState]:
        """Runs of these lengths that somebody else has just started."""
        return [self.service.add_run(self.notebook, length=length, **options) for length in lengths]

    def ids(self, *lengths: float, **options: Any) -> list[str]:
        return [run.id for run in self.add(*lengths, **options)]

    def one(self, length: float = 10.0, **options: Any) -> RunState:
        return self.service.add_run(self.notebook, length=length, **options)

    async def start(self, *lengths: float) -> list[Any]:
        """Runs of these lengths, started by the client."""
        started = []
        for length in lengths:
            self.notebook.succeeds(after=length, times=1)
            started.append(await self.client.runs.create(self.notebook.id))
        return started

    def break_down(self, kind: Any, **options: Any) -> Fault:
        """Let requests go wrong from now on."""
        fault = Fault(kind, **options)
        self.service.faults.append(fault)
        return fault

    def refuse(self, path: str, status: int, **options: Any) -> Fault:
        """Let requests to paths with ``path`` in them be answered by ``status`` from now on."""
        return self.break_down("error_before", path=path, status=status, **options)


@contextlib.asynccontextmanager
async def world(
    *, latency: float = 0.02, seed: int = 1, client: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    """A world; when its body ends without an error, nothing may be left of what it awaited."""
    service = virtual_service(**({"seed": seed, "sigma": 0.5} | options))
    transport = Doctored(MemoryTransport(service, latency=latency))
    mine = DeepnoteClient(service.token, transport=transport, **({"rate_limiter": freely()} | dict(client or {})))
    mine._session.core.rng.seed(seed)
    before = asyncio.all_tasks()
    async with mine:
        yield World(service, mine, transport, service.add_notebook())
        await at_rest(mine, before)


async def at_rest(client: DeepnoteClient, tasks: set[asyncio.Task[Any]]) -> None:
    """Nothing is watched and nobody waits at once; no task is left once what was on the wire has ended."""
    await asyncio.sleep(0)
    stats = client.stats()
    assert (stats.watched_runs, stats.waiters) == (0, 0), stats
    await asyncio.sleep(SETTLED)
    assert_nothing_held(client.stats())
    assert asyncio.all_tasks() == tasks


def assert_nothing_held(stats: ClientStats) -> None:
    held = (stats.connections, stats.slots, stats.waiters, stats.watched_runs, stats.tasks)
    assert held == (0, 0, 0, 0, 0), stats


async def taken(iterator: AsyncIterator[Any], into: list[Any]) -> None:
    """Take everything; what came before an error is kept."""
    async for item in iterator:
        into.append(item)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended so."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
