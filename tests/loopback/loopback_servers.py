"""Servers on loopback that answer, break and hang as told, and the clients for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Self

import attrs

from deepnote_async import DeepnoteClient, RetryPolicy, TokenBucket

TOKEN = "a-token-that-nobody-may-see"
QUICK = RetryPolicy(attempts=3, initial=0.001, maximum=0.002)
ME = b'{"user": {"id": "u"}}'
STARTED = b'{"runId": "r1", "status": "pending"}'


def freely() -> TokenBucket:
    """A limiter that holds nobody back."""
    return TokenBucket(1e6, 1e6, adaptive=False)


def client_of(url: str, token: Any = TOKEN, **options: Any) -> DeepnoteClient:
    """A client with quick retries and no rate limit."""
    options = {"rate_limiter": freely(), "retry": QUICK, "timeout": 5.0} | options
    return DeepnoteClient(token, base_url=url, **options)


@attrs.frozen
class Received:
    """One request as its bytes came in, and the connection it came on, counted from 0."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@attrs.define
class Exchange:
    """A request and the way back to its client."""

    received: Received
    writer: asyncio.StreamWriter

    async def answer(
        self, body: bytes = b"{}", status: int = 200, headers: Mapping[str, str] | None = None, *, close: bool = False
    ) -> None:
        head = {"Content-Length": str(len(body))} | dict(headers or {}) | ({"Connection": "close"} if close else {})
        await self.raw(head_of(status, head) + body)
        if close:
            self.writer.close()

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang(self) -> None:
        await asyncio.get_running_loop().create_future()


Answer = Callable[[Exchange], Awaitable[None]]


def head_of(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode()


class RawServer:
    """Hands each request to ``answer``; ``requests`` keeps them all, ``connections`` counts."""

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.requests: list[Received] = []
        self.connections = 0
        self.url = ""

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, self.connections))
        self.connections += 1
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        try:
            while not writer.is_closing():
                received = await receive(reader, connection)
                self.requests.append(received)
                await self._answer(Exchange(received, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def receive(reader: asyncio.StreamReader, connection: int = 0) -> Received:
    """Read one request off a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.title(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("Content-Length", "0")))
    return Received(method, target, headers, body, connection)


async def serve_runs(exchange: Exchange) -> None:
    """Answer as the service would, as far as plain calls go."""
    received = exchange.received
    if received.method == "DELETE":
        await exchange.answer(b"", 204)
    elif received.method == "POST":
        await exchange.answer(STARTED, 202)
    elif "/v2/runs/" in received.path:
        run_id = received.path.rpartition("/")[2]
        await exchange.answer(json.dumps({"run": {"runId": run_id, "status": "running"}}).encode())
    else:
        await exchange.answer(ME)


@contextlib.asynccontextmanager
async def closed_port() -> AsyncIterator[str]:
    """A URL at which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


def in_turn(*answers: Answer) -> Answer:
    """Each request gets the next answer, the last of them for ever."""
    left = list(answers)

    async def answer(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return answer


def says(body: bytes = b"{}", status: int = 200, *, close: bool = False, **headers: str) -> Answer:
    """An answer; headers are written with underscores."""

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(
            body, status, {key.replace("_", "-"): value for key, value in headers.items()}, close=close
        )

    return answer


async def resets(exchange: Exchange) -> None:
    """Break the connection with nothing said."""
    exchange.reset()


async def hangs(exchange: Exchange) -> None:
    """Say nothing."""
    await exchange.hang()


def own_tasks() -> list[asyncio.Task[Any]]:
    """The tasks of clients that are still there."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("deepnote")]


def held_connections(client: DeepnoteClient) -> int:
    """How many connections are out of their pools."""
    transport = client._session.core.transport
    sessions = [session for session in (transport._reads, transport._starts, transport._foreign) if session]
    return sum(len(session.connector._acquired) for session in sessions)


async def settled(client: DeepnoteClient, patience: float = 0.5) -> None:
    """Wait, not for long, until the client holds nothing, and assert it."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: not any(held(client)) and not own_tasks(), patience)
    assert held(client) == (0, 0, 0, 0, 0, 0)
    assert own_tasks() == []


def held(client: DeepnoteClient) -> tuple[int, ...]:
    """What a client holds that it must not hold at rest."""
    stats = client.stats()
    return stats.connections, stats.slots, stats.waiters, stats.watched_runs, stats.tasks, held_connections(client)


async def until(condition: Callable[[], object], patience: float = 2.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - a condition of the other side's sets no event
            await asyncio.sleep(0.001)
