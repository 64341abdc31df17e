"""The model as an in-memory transport, at home in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
from multidict import CIMultiDict

from deepnote_async.errors import DecodeError, TransportError
from deepnote_async.transport import HttpRequest, HttpResponse, SinkError

from .model import Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Unpack

    from .model import ServiceOptions
    from .replies import Reply

__all__ = ["EPOCH", "MemoryTransport", "virtual_service"]

EPOCH: Final = 1_800_000_000.0


def virtual_service(*, epoch: float = EPOCH, **options: Unpack[ServiceOptions]) -> Service:
    """A service whose clock is the running event loop's: under virtual time its runs end in virtual time.

    Call it within the loop it is to live in.
    """
    loop = asyncio.get_running_loop()
    return Service(clock=lambda: epoch + loop.time(), **options)


@attrs.define(eq=False)
class MemoryTransport:
    """A :class:`~deepnote_async.transport.Transport` that asks a service in memory.

    A request takes effect the moment it is sent; its answer comes ``latency`` seconds later. Links to the service's
    storage origin are served too. A ``hang`` lasts until the caller gives up.
    """

    service: Service
    latency: float = attrs.field(default=0.0, kw_only=True)

    async def send(self, request: HttpRequest, /) -> HttpResponse:
        """Carry one request; a fault that breaks the connection raises TransportError."""
        reply = self._ask(request)
        sent = reply.breaks != "refuse"
        request.sent += sent
        if self.latency + reply.delay > 0:
            await asyncio.sleep(self.latency + reply.delay)
        if reply.breaks == "hang":
            await asyncio.get_running_loop().create_future()
        if reply.breaks is not None:
            raise TransportError(f"connection broken: {reply.breaks}", sent=sent)
        return await _response(request, reply)

    def _ask(self, request: HttpRequest) -> Reply:
        url = urlsplit(request.url)
        headers = CIMultiDict(request.headers)
        if request.token is not None:
            headers["Authorization"] = f"Bearer {request.token.reveal()}"
        storage = self.service.storage
        if request.url.startswith(f"{storage.url}/"):
            return storage.handle(self.service, request.method, url.path, url.query, headers)
        return self.service.handle(request.method, url.path, url.query, headers, request.body or b"")


async def _response(request: HttpRequest, reply: Reply) -> HttpResponse:
    headers = CIMultiDict(reply.headers)
    if not 200 <= reply.status < 300:
        return HttpResponse(reply.status, headers, reply.body[: request.max_bytes])
    if request.sink is not None:
        return await _pour(request.sink, HttpResponse(reply.status, headers), reply.body)
    if len(reply.body) > request.max_bytes:
        raise DecodeError(f"the answer has more than {request.max_bytes} bytes", status=reply.status)
    return HttpResponse(reply.status, headers, reply.body)


async def _pour(sink: Callable[[bytes], Awaitable[object]], answer: HttpResponse, body: bytes) -> HttpResponse:
    try:
        await sink(body)
    except OSError as error:
        raise SinkError(error) from None
    return answer
