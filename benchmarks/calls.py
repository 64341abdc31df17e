"""The same calls made in several ways: by this client, by hand on aiohttp and cattrs, and with no client at all.

A way is an async context manager that opens a client and gives a function making one call. Ids are fresh at each
call, for one fixed id hides the work on URLs behind caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, TypeAlias

import aiohttp
import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from deepnote_async import DeepnoteClient, TokenBucket

from .canned import PAGES, ROWS

__all__ = ["TOKEN", "WAYS", "Call", "Way"]

TOKEN: Final = "a-key-for-the-canned-server"
_HEADERS: Final = {"Authorization": f"Bearer {TOKEN}"}
Call: TypeAlias = Callable[[], Awaitable[object]]
Way: TypeAlias = Callable[[str], AbstractAsyncContextManager[Call]]


def _json_reader() -> Callable[[str], Any]:
    """What the client itself reads JSON with."""
    try:
        from orjson import loads
    except ImportError:
        return json.loads
    return loads


# This client.


@contextlib.asynccontextmanager
async def _client(url: str) -> AsyncIterator[DeepnoteClient]:
    limiter = TokenBucket(1e6, 1e6, adaptive=False)
    async with DeepnoteClient(TOKEN, base_url=url, rate_limiter=limiter) as client:
        yield client


@contextlib.asynccontextmanager
async def _our_get(url: str) -> AsyncIterator[Call]:
    async with _client(url) as client:
        yield lambda: client.runs.get(str(uuid.uuid4()))


@contextlib.asynccontextmanager
async def _our_list(url: str) -> AsyncIterator[Call]:
    async with _client(url) as client:

        async def call() -> None:
            count = 0
            async for _ in client.notebooks.list_runs(uuid.uuid4().hex, page_size=ROWS):
                count += 1
            assert count == ROWS * PAGES

        yield call


@contextlib.asynccontextmanager
async def _our_create(url: str) -> AsyncIterator[Call]:
    async with _client(url) as client:
        yield lambda: client.runs.create(uuid.uuid4().hex, inputs={"region": "EU"})


# By hand.


@attrs.define
class _Run:
    """The fields of our Run."""

    run_id: str
    notebook_id: str | None = None
    status: str = "pending"
    created_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    snapshot_status: str | None = None
    snapshot_content: str | None = None
    snapshot_download_url: str | None = None
    snapshot_blocks: list[dict[str, Any]] | None = None


@attrs.define
class _Receipt:
    run_id: str
    status: str = "pending"
    created_at: datetime | None = None


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(datetime, lambda value, _: datetime.fromisoformat(value))
    names = {
        "run_id": "runId",
        "notebook_id": "notebookId",
        "created_at": "createdAt",
        "finished_at": "completedAt",
        "snapshot_status": "snapshotStatus",
        "snapshot_content": "snapshotContent",
        "snapshot_download_url": "snapshotDownloadUrl",
        "snapshot_blocks": "snapshotBlocks",
    }
    for cls in (_Run, _Receipt):
        fields: dict[str, Any] = {
            field.name: override(rename=names[field.name]) for field in attrs.fields(cls) if field.name in names
        }
        hook = make_dict_structure_fn(cls, converter, _cattrs_detailed_validation=False, **fields)
        converter.register_structure_hook(cls, hook)
    return converter


@contextlib.asynccontextmanager
async def _hand_get(url: str) -> AsyncIterator[Call]:
    converter, loads = _converter(), _json_reader()
    async with aiohttp.ClientSession() as session:

        async def call() -> _Run:
            async with session.get(f"{url}/v2/runs/{uuid.uuid4()}", headers=_HEADERS) as response:
                if response.status != 200:
                    raise RuntimeError(response.status)
                return converter.structure((await response.json(loads=loads))["run"], _Run)

        yield call


@contextlib.asynccontextmanager
async def _hand_list(url: str) -> AsyncIterator[Call]:
    converter, loads = _converter(), _json_reader()
    async with aiohttp.ClientSession() as session:

        async def page(path: str, token: str | None) -> tuple[list[_Run], str | None]:
            query = {"pageSize": str(ROWS)} | ({} if token is None else {"pageToken": token})
            async with session.get(path, params=query, headers=_HEADERS) as response:
                if response.status != 200:
                    raise RuntimeError(response.status)
                data = await response.json(loads=loads)
                return converter.structure(data["runs"], list[_Run]), data["pagination"]["nextPageToken"]

        async def runs() -> AsyncIterator[_Run]:
            path, token = f"{url}/v2/notebooks/{uuid.uuid4().hex}/runs", None
            while True:
                items, token = await page(path, token)
                for item in items:
                    yield item
                if token is None:
                    return

        async def call() -> None:
            count = 0
            async for _ in runs():
                count += 1
            assert count == ROWS * PAGES

        yield call


@contextlib.asynccontextmanager
async def _hand_create(url: str) -> AsyncIterator[Call]:
    converter, loads = _converter(), _json_reader()
    async with aiohttp.ClientSession() as session:

        async def call() -> _Receipt:
            body = {"notebookId": uuid.uuid4().hex, "inputs": {"region": "EU"}}
            async with session.post(f"{url}/v2/runs", json=body, headers=_HEADERS) as response:
                if response.status >= 300:
                    raise RuntimeError(response.status)
                return converter.structure(await response.json(loads=loads), _Receipt)

        yield call


# Less than any client does.


class _Wire(asyncio.Protocol):
    """A connection that awaits one answer at a time, which must come in one piece, and does not look at it."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._answer.set_result(data)

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer


@contextlib.asynccontextmanager
async def _wire(url: str) -> AsyncIterator[Call]:
    authority = url.removeprefix("http://")
    host, _, port = authority.partition(":")
    idle: list[_Wire] = []

    async def call() -> bytes:
        if not idle:
            _, new = await asyncio.get_running_loop().create_connection(_Wire, host, int(port))
            idle.append(new)
        wire = idle.pop()
        head = f"GET /v2/runs/{uuid.uuid4()} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        answer = await wire.ask(head.encode())
        idle.append(wire)
        return answer

    try:
        yield call
    finally:
        for wire in idle:
            wire.transport.close()


WAYS: Final[dict[str, Way]] = {
    "get": _our_get,
    "list": _our_list,
    "create": _our_create,
    "hand get": _hand_get,
    "hand list": _hand_list,
    "hand create": _hand_create,
    "wire": _wire,
}
