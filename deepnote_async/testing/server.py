"""The model behind real sockets on loopback."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from .model import Service
from .scripting import Scripting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from typing import Unpack

    from .model import ServiceOptions
    from .record import Call
    from .replies import Reply

__all__ = ["FakeDeepnote"]

HOST = "127.0.0.1"


class FakeDeepnote(Scripting):
    """The Deepnote API on loopback: ``async with FakeDeepnote() as fake`` gives ``fake.url`` and ``fake.token``.

    Takes the options of :class:`Service`, and ``notebooks`` (names) to begin with. With ``time_scale=60`` a minute of
    service time passes in a real second: run lengths, delays of snapshots, outages and expiries are service time, while
    rate limits, ``latency``, delays of faults and Retry-After stay in real seconds. ``latency`` holds back every answer
    after the request took effect. Storage links lead to another port, whose calls are in ``fake.service.storage``.
    """

    def __init__(
        self,
        *,
        notebooks: Sequence[str] = (),
        projects: Sequence[str] = (),
        time_scale: float = 1.0,
        latency: float = 0.0,
        port: int = 0,
        **options: Unpack[ServiceOptions],
    ) -> None:
        self.latency = latency
        self._scale = time_scale
        self._epoch = time.time()
        self._origin = time.monotonic()
        self._port = port
        self._stack = AsyncExitStack()
        self._closing = asyncio.Event()
        self._site: web.TCPSite | None = None
        self._runner: web.ServerRunner | None = None
        self.url: str = ""
        self.service: Service = Service(clock=self._now, limit_clock=time.monotonic, **options)
        for project in projects:
            self.service.add_project(project)
        for name in notebooks:
            self.service.add_notebook(name)

    @property
    def raw_paths(self) -> list[str]:
        """The paths asked so far, as received."""
        return [call.path for call in self.service.calls]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self._closing.set)
            self._runner = await serve(stack, self._answer)
            self._port = await self._listen(self._port)
            self.url = f"http://{HOST}:{self._port}"
            storage = await serve(stack, self._answer_storage)
            self.service.storage.url = f"http://{HOST}:{await open_port(storage)}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        # Hanging answers are let go first, or the server would wait for them.
        self._closing.set()
        await self._stack.aclose()

    async def _listen(self, port: int) -> int:
        if self._runner is None:
            raise RuntimeError("the server is not running")
        self._site = web.TCPSite(self._runner, HOST, port)
        await self._site.start()
        return int(self._runner.addresses[0][1])

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Refuse connections while the block lasts, and break those that are idle; the port stays the same."""
        if self._site is None or self._runner is None or self._runner.server is None:
            raise RuntimeError("the server is not running")
        await self._site.stop()
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        try:
            yield
        finally:
            await self._listen(self._port)

    def real_time(self, at: float) -> float:
        """The time of this machine's clock (``time.time()``) at a moment of service time."""
        return self._epoch + (at - self._epoch) / self._scale

    def stats(self, *, calls: bool = False) -> dict[str, Any]:
        """What was asked and what became of the runs, in real time, as JSON takes it; ``calls`` adds every request."""
        now = self._now()
        asked = self.service.calls
        runs = [
            {
                "id": run.id,
                "notebook_id": run.notebook_id,
                "status": run.status(now),
                "created": self.real_time(run.created_at),
                "ended": None if run.ended_at is None else self.real_time(run.ended_at),
            }
            for run in self.service.runs.values()
        ]
        by_status = Counter(str(call.status) for call in asked)
        result = {"now": self.real_time(now), "requests": len(asked), "by_status": dict(by_status), "runs": runs}
        return result | ({"calls": [self._row(call) for call in asked]} if calls else {})

    def _row(self, call: Call) -> dict[str, Any]:
        return {
            "time": self.real_time(call.time),
            "method": call.method,
            "path": call.path,
            "status": call.status,
            "run_id": call.run_id,
            "fault": call.fault,
        }

    def _now(self) -> float:
        return self._epoch + (time.monotonic() - self._origin) * self._scale

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read() if request.can_read_body else b""
        path, _, query = request.raw_path.partition("?")
        reply = self.service.handle(request.method, path, query, request.headers, body)
        return await self._deliver(request, reply)

    async def _answer_storage(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        storage = self.service.storage
        return await self._deliver(request, storage.handle(self.service, request.method, path, query, request.headers))

    async def _deliver(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        if self.latency + reply.delay > 0:
            await asyncio.sleep(self.latency + reply.delay)
        if reply.breaks == "hang":
            await self._closing.wait()
        if reply.breaks is not None:
            _break(request, reply)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


def _break(request: web.BaseRequest, reply: Reply) -> None:
    transport = request.transport
    if transport is None:
        return
    if reply.breaks != "truncated":
        transport.abort()
        return
    head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    start = f"HTTP/1.1 {reply.status} \r\n{head}Content-Length: {len(reply.body)}\r\n\r\n"
    transport.write(start.encode() + reply.body[: len(reply.body) // 2])
    transport.close()


async def serve(
    stack: AsyncExitStack, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
) -> web.ServerRunner:
    """A server of one handler, taken down with ``stack``; handlers of clients that went away are cancelled."""
    server = web.Server(answer, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


async def open_port(runner: web.ServerRunner, port: int = 0) -> int:
    """Listen on loopback; 0 takes any free port. Returns the port."""
    await web.TCPSite(runner, HOST, port).start()
    return int(runner.addresses[0][1])
