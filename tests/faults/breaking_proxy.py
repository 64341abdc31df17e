"""A proxy on loopback that breaks what it carries: one fault at a time, on every request it strikes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

import attrs
from loopback_servers import Exchange, Received, receive

SLOWLY = 0.02  # s between two bytes of a dribble, and of a delay twice that
HUGE = 100 * 2**20
MANY = 2**16


@attrs.define(eq=False)
class Struck(Exchange):
    """A request in the hands of a fault."""

    target: tuple[str, int]
    first: bool

    async def passed_on(self) -> tuple[bytes, bytes]:
        """Let the service do what was asked: the head and the body of its answer."""
        reader, writer = await asyncio.open_connection(*self.target)
        request = self.received
        headers = {**request.headers, "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"{request.method} {request.target} HTTP/1.1\r\n{lines}\r\n".encode() + request.body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join([*kept, b"\r\n"]), body

    async def half(self) -> None:
        """Half of the body, or of the head where there is no body."""
        head, body = await self.passed_on()
        await self.raw(head + body[: len(body) // 2] if body else head[: len(head) // 2])
        await asyncio.sleep(0.005)  # so that it arrives before the end does

    async def pour(self, head: str, chunks: Iterator[bytes]) -> None:
        await self.raw(f"HTTP/1.1 200 OK\r\n{head}".encode())
        for chunk in chunks:
            await self.raw(chunk)


Fault = Callable[[Struck], Awaitable[None]]


async def nothing(struck: Struck) -> None:
    head, body = await struck.passed_on()
    await struck.raw(head + body)


async def reset_after(struck: Struck) -> None:
    await struck.passed_on()
    struck.reset()


async def cut(struck: Struck) -> None:
    await struck.half()
    struck.reset()


async def closed(struck: Struck) -> None:
    await struck.half()
    struck.writer.close()


async def delay(struck: Struck) -> None:
    await asyncio.sleep(2 * SLOWLY)
    await nothing(struck)


async def dribble(struck: Struck) -> None:
    head, body = await struck.passed_on()
    for byte in head + body:
        await struck.raw(bytes([byte]))
        await asyncio.sleep(SLOWLY)


async def hang(struck: Struck) -> None:
    await struck.hang()


async def bad_chunk(struck: Struck) -> None:
    head, _ = await struck.passed_on()
    status = head.partition(b"\r\n")[0].replace(b"204", b"200")
    await struck.raw(status + b'\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\nnonsense\r\n')


async def html(struck: Struck) -> None:
    await struck.answer(b"<!doctype html><title>Sign in</title>", headers={"Content-Type": "text/html"})


async def truncated(struck: Struck) -> None:
    head, body = await struck.passed_on()
    status = int(head.split(b" ", 2)[1])
    if status == 204:
        await struck.raw(head)
    else:
        await struck.answer(body[: len(body) // 2], status, {"Content-Type": "application/json"})


async def gzip_bomb(struck: Struck) -> None:
    await struck.passed_on()
    bomb = bomb_of(HUGE)
    await struck.pour(f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n", iter([bomb]))


async def huge(struck: Struck) -> None:
    await struck.passed_on()
    await struck.pour(f"Content-Length: {HUGE}\r\n\r\n", (b" " * MANY for _ in range(HUGE // MANY)))


async def header_bomb(struck: Struck) -> None:
    await struck.passed_on()
    await struck.pour("X: ", (b"x" * MANY for _ in range(HUGE // MANY)))


async def endless_headers(struck: Struck) -> None:
    await struck.passed_on()
    await struck.pour("", (b"X-%d: x\r\n" % number * 1000 for number in range(10_000)))


async def dying(struck: Struck) -> None:
    """Break at the second request of a connection, before it is passed on."""
    if struck.first:
        await nothing(struck)
    else:
        struck.reset()


_bombs: dict[int, bytes] = {}


def bomb_of(size: int) -> bytes:
    """So many zeros, a thousandth of it compressed."""
    if size not in _bombs:
        _bombs[size] = gzip.compress(bytes(size), 9)
    return _bombs[size]


@attrs.define(eq=False)
class Connection:
    """What came on one connection, and how much of it after a fault struck there."""

    requests: list[Received] = attrs.field(factory=list)
    struck: bool = False
    after: int = 0


class BreakingProxy:
    """Stands before the service at ``target``; ``fault`` strikes ``times`` requests, None none."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.fault: Fault | None = None
        self.times = 10**9
        self.resets_at_once = False
        self.connections: list[Connection] = []
        self.writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def reused_after_a_fault(self) -> int:
        """How many requests came on connections that had been struck."""
        return sum(connection.after for connection in self.connections)

    def close_idle(self) -> None:
        """Close every connection, as a server does with those that idle."""
        for writer in self.writers:
            writer.close()

    def _strikes(self) -> bool:
        self.times -= 1
        return self.times >= 0

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection()
        self.connections.append(connection)
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                while not writer.is_closing():
                    await self._carry_one(connection, reader, writer)
            finally:
                self.writers.discard(writer)
                writer.close()

    async def _carry_one(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.resets_at_once and self._strikes():
            connection.struck = True
            Exchange(Received("", "", {}, b"", 0), writer).reset()
            return
        received = await receive(reader)
        connection.after += connection.struck
        first = not connection.requests
        connection.requests.append(received)
        fault = self.fault if self.fault is not None and self._strikes() else nothing
        # A delay breaks nothing, so its connection may be used again.
        connection.struck |= fault not in {nothing, delay, html, truncated} and not (fault is dying and first)
        await fault(Struck(received, writer, self._target, first))
