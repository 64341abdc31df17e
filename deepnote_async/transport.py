"""The seam below the session: one request goes down, one answer comes up.

The session knows no HTTP library. What carries its requests is a :class:`Transport`: aiohttp in production, an
in-memory model of the service in tests and simulations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from .credentials import Secret

__all__ = ["HttpRequest", "HttpResponse", "SinkError", "Transport"]


@attrs.define(eq=False)
class HttpRequest:
    """One attempt at one call.

    ``url`` is absolute and already percent-encoded. ``token`` stays apart from ``headers`` so that no frame of ours
    holds it in the clear; None sends no Authorization. A transport counts in ``sent`` how often the first byte
    may have left: whether a start may be repeated hangs on it; the fields after it are the session's own. With a
    ``sink``, the body of a 2xx answer goes there chunk by chunk and the answer's own body is empty. ``private`` says
    that the URL itself is a secret, a signed link.
    """

    method: str
    url: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)
    token: Secret | None = attrs.field(default=None, repr=False)
    max_bytes: int = 64 * 2**20
    sink: Callable[[bytes], Awaitable[object]] | None = attrs.field(default=None, repr=False)
    private: bool = False
    sent: int = 0
    sent_before: int = 0
    begun: bool = False

    @property
    def sent_in_all(self) -> int:
        """How often its headers left, in this attempt and those before."""
        return self.sent_before + self.sent


@attrs.define(eq=False)
class HttpResponse:
    """An answer of any status. ``headers`` are looked up without regard to case; ``body`` is decompressed."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=False)


class SinkError(Exception):
    """The place a download goes to failed for ``reason``: not the connection."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Transport(Protocol):
    """Anything that can carry one request: the client's ``transport=`` argument.

    ``send`` raises :class:`~deepnote_async.TransportError` when no answer came, with ``sent`` telling whether the
    request may have reached the service, and :class:`~deepnote_async.DecodeError` for a body over ``max_bytes``. It
    is cancelled at the attempt's deadline and must hold nothing afterwards.
    """

    async def send(self, request: HttpRequest, /) -> HttpResponse:
        """Carry one request and return its answer, whatever the status."""
        ...
