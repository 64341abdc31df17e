"""The server as a process of its own, and the handle to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

from .server import HOST, FakeDeepnote, open_port, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["FakeProcess", "serve_until_told"]


async def serve_until_told(fake: FakeDeepnote) -> None:
    """Serve, print one line of JSON when ready, and end at SIGTERM, SIGINT or when stdin closes.

    The line has ``url``, ``token``, ``notebooks`` (their ids) and ``control``, an origin of its own whose ``/stats``
    (``?calls=1`` for every request) no limit counts, and whose ``/outage?start=&end=&kind=`` starts an outage.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows has no handlers in the loop
            loop.add_signal_handler(name, told.set)
    _on_end_of_stdin(lambda: loop.call_soon_threadsafe(told.set))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(fake)
        control = await open_port(await serve(stack, _control(fake)))
        ready = {"url": fake.url, "token": fake.token, "control": f"http://{HOST}:{control}"}
        sys.stdout.write(json.dumps(ready | {"notebooks": list(fake.service.notebooks)}) + "\n")
        sys.stdout.flush()
        await told.wait()


def _on_end_of_stdin(then: Callable[[], object]) -> None:
    def watch() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the loop may have ended first
            # Not sys.stdin: its lock, held by a daemon thread, would abort the interpreter's shutdown.
            while os.read(0, 4096):
                pass
            then()

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def _control(fake: FakeDeepnote) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        given = parse_qs(query)
        if path == "/stats":
            return web.json_response(fake.stats(calls="calls" in given))
        if path == "/outage":
            start, end = (float(given[key][0]) for key in ("start", "end"))
            fake.service.outage(start, end, "html" if given.get("kind") == ["html"] else "refuse")
            return web.json_response({})
        return web.Response(status=404)

    return answer


class FakeProcess:
    """:class:`FakeDeepnote` in another process: ``async with FakeProcess(limit_rate=50) as fake``.

    Takes the options of ``python -m deepnote_async.testing`` with underscores; None leaves one out. The process ends
    with the block, and with this process however it ends.
    """

    def __init__(self, **options: float | str | None) -> None:
        given = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
        self._arguments = [f"--{name}={value}" for name, value in given.items()]
        self._process: asyncio.subprocess.Process | None = None
        self.url: str = ""
        self.token: str = ""
        self.control: str = ""
        self.notebooks: list[str] = []

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "deepnote_async.testing", *self._arguments]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        try:
            await self._read_line(self._process)
        except BaseException:
            await self._end()
            raise
        return self

    async def _read_line(self, process: asyncio.subprocess.Process) -> None:
        line = await process.stdout.readline() if process.stdout is not None else b""
        if not line:
            raise RuntimeError("the server did not start")
        ready = json.loads(line)
        self.url, self.token, self.control = ready["url"], ready["token"], ready["control"]
        self.notebooks = ready["notebooks"]

    async def __aexit__(self, *exc: object) -> None:
        await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if not isinstance(error, TimeoutError):
                raise

    async def stats(self, *, calls: bool = False) -> dict[str, Any]:
        """What :meth:`FakeDeepnote.stats` tells, asked past the rate limit."""
        answer: dict[str, Any] = await self._ask("/stats?calls=1" if calls else "/stats")
        return answer

    async def outage(self, start: float, end: float, *, kind: str = "refuse") -> None:
        """An outage (``refuse`` or ``html``) from ``start`` to ``end``, in seconds of service time from now."""
        await self._ask(f"/outage?start={start}&end={end}&kind={kind}")

    async def _ask(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.control + path) as answer:
            answer.raise_for_status()
            return await answer.json()
