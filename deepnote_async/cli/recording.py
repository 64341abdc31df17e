"""A transport that passes requests on and remembers the answers, headers and all, which the client does not show."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from multidict import CIMultiDict

from ..errors import DeepnoteError, TransportError
from ..transport import HttpRequest, HttpResponse, Transport

__all__ = ["NO_JSON", "Exchange", "Recording"]

NO_JSON: Final = object()


@attrs.define(eq=False)
class Exchange:
    """One call: what was sent, and the answer if one came.

    ``began`` and ``ended`` are of the wall clock, ``seconds`` of the steady one. ``body`` is :data:`NO_JSON` where no
    JSON came. ``label`` and ``error``, what the client made of it, are for who made the call to set.
    """

    began: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=CIMultiDict, repr=False)
    body: Any = attrs.field(default=NO_JSON, repr=False)
    label: str = ""
    error: DeepnoteError | None = attrs.field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether it was answered with success, in JSON."""
        return self.status is not None and 200 <= self.status < 300 and self.body is not NO_JSON


class Recording:
    """Carries GET requests, at most ``most`` of them, through another transport, and records what comes back.

    Anything else is refused here, below the client: what it carries changes nothing.
    """

    def __init__(self, inner: Transport, *, most: int, clock: Callable[[], float] = time.time) -> None:
        self._inner = inner
        self._most = most
        self._clock = clock
        self.exchanges: list[Exchange] = []

    async def send(self, request: HttpRequest, /) -> HttpResponse:
        """Carry one request; see :class:`~deepnote_async.transport.Transport`."""
        if request.method != "GET" or len(self.exchanges) >= self._most:
            raise TransportError("a checkup reads only, and little", sent=False, retryable=False)
        steady = asyncio.get_running_loop().time
        exchange = Exchange(began=self._clock())
        self.exchanges.append(exchange)
        began = steady()
        response = await self._inner.send(request)
        exchange.seconds, exchange.ended = steady() - began, self._clock()
        exchange.status, exchange.headers = response.status, response.headers
        try:
            exchange.body = json.loads(response.body)
        except (ValueError, RecursionError):
            exchange.body = NO_JSON
        return response
