"""A server as fast as Python allows, for measuring the CPU of clients: canned answers, nothing looked up.

As a program it prints its port and ends when stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["PAGES", "ROWS", "serving"]

ROWS: Final = 100  # runs on a page
PAGES: Final = 5  # of a list
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PAGE: Final = re.compile(rb"/runs\?(?:.*&)?pageToken=(\d+)")
_LIST: Final = re.compile(rb"GET [^ ]*/notebooks/")


def _row(number: int) -> dict[str, Any]:
    return {
        "runId": f"7d0b4c0e-5a3b-4b0e-9a3e-{number:012x}",
        "notebookId": "0f4a9f2c6d5e4b3a8c7d6e5f4a3b2c1d",
        "status": "success",
        "createdAt": "2026-11-23T10:00:00.000Z",
        "completedAt": "2026-11-23T10:01:00.000Z",
    }


def _run() -> dict[str, Any]:
    link = "https://storage.example/snapshots/7d0b4c0e?signature=0123456789abcdef"
    rest = {"error": None, "snapshotStatus": "ready", "snapshotContent": None, "snapshotDownloadUrl": link}
    return {"run": _row(0) | rest}


def _page(number: int) -> dict[str, Any]:
    token = str(number + 1) if number + 1 < PAGES else None
    return {"runs": [_row(number * ROWS + row) for row in range(ROWS)], "pagination": {"nextPageToken": token}}


def _answer(status: str, body: dict[str, Any]) -> bytes:
    text = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Date: Mon, 23 Nov 2026 10:02:00 GMT\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


_SINGLE: Final = _answer("200 OK", _run())
_STARTED: Final = _answer("202 Accepted", {"runId": "7d0b4c0e-5a3b-4b0e-9a3e-000000000000", "status": "pending"})
_LISTED: Final = [_answer("200 OK", _page(number)) for number in range(PAGES)]


def _answer_to(head: bytes) -> bytes:
    if head.startswith(b"POST"):
        return _STARTED
    if _LIST.match(head):
        page = _PAGE.search(head)
        return _LISTED[int(page[1]) if page is not None else 0]
    return _SINGLE


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length is not None else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._transport.write(_answer_to(head))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run the server in a process of its own; gives its origin."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-m", __name__], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


if __name__ == "__main__":
    asyncio.run(_serve())
