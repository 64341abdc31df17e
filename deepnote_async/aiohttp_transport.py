"""The one room that touches aiohttp."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import attrs
from yarl import URL

from ._version import __version__
from .credentials import Secret, without_tracebacks
from .errors import ClientClosedError, ConfigurationError, DecodeError, DeepnoteError, TransportError
from .transport import HttpRequest, HttpResponse, SinkError
from .wire import readable

__all__ = ["AiohttpTransport", "ConnectionOptions"]

IDLE_READ: Final = 15.0  # s a connection waits for the next read
IDLE_START: Final = 2.0  # s for the next start: one idle for longer may be dying, and a start cannot be repeated
KEPT_OF_OVERSIZE: Final = 2**16
_HEADERS: Final = {"Accept": "application/json", "User-Agent": f"deepnote-async/{__version__}"}
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


@attrs.frozen(eq=False)
class ConnectionOptions:
    """How connections are made; ``session`` is borrowed for its connector and its trace configs, never closed."""

    proxy: Secret | None = None
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    trust_env: bool = False
    session: aiohttp.ClientSession | None = attrs.field(default=None, repr=False)

    def slots(self, wanted: int) -> int:
        """How many requests may be out at once: no more than a borrowed connector has connections."""
        connector = self.session.connector if self.session is not None else None
        if connector is None:
            return wanted
        return min(wanted, connector.limit or wanted, connector.limit_per_host or wanted)


class AiohttpTransport:
    """Carries requests over aiohttp.

    Reads and starts have a session each: only starts pay for the hook that tells whether anything was sent, and their
    connections are kept idle for a shorter time. A borrowed session lends its connector only, so that none of its
    defaults (headers, auth, cookies, redirects, base URL) can change anything. Other origins get a session of
    their own, on which no header of ours stands.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._owned: list[aiohttp.ClientSession] = []
        self._reads: aiohttp.ClientSession | None = None
        self._starts: aiohttp.ClientSession | None = None
        self._foreign: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the sessions, within the event loop they will belong to."""
        self._reads = self._session(IDLE_READ)
        self._starts = self._session(IDLE_START, counting=True)

    async def close(self) -> None:
        """Close every session and connection of ours; what is on the wire fails."""
        for session in self._owned:
            await session.close()
        self._owned.clear()
        self._reads = self._starts = self._foreign = None

    def _session(self, idle: float, *, counting: bool = False, bare: bool = False) -> aiohttp.ClientSession:
        traces: list[aiohttp.TraceConfig] = [_counting_headers()] if counting else []
        borrowed = None if bare else self._options.session
        if borrowed is not None:
            if borrowed.connector is None or borrowed.closed:
                raise ConfigurationError("the borrowed session is closed")
            traces += borrowed.trace_configs
        session = aiohttp.ClientSession(
            connector=borrowed.connector if borrowed is not None else self._connector(idle),
            connector_owner=borrowed is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=None if bare else _HEADERS,
            timeout=_NO_TIMEOUT,
            trace_configs=traces,
            # Of a POST without a body aiohttp would say that it is an octet-stream, which a strict service refuses.
            skip_auto_headers=("Content-Type",) if counting else (),
        )
        self._owned.append(session)
        return session

    def _connector(self, idle: float) -> aiohttp.TCPConnector:
        # No limit here: the gate admits no more than there are slots, and a wait in the pool would count as the
        # service's.
        return aiohttp.TCPConnector(limit=0, keepalive_timeout=idle, ssl=self._options.ssl_context or True)

    def _proxy(self, url: str) -> str | None:
        if self._options.proxy is not None:
            return self._options.proxy.reveal()
        if not self._options.trust_env:
            return None
        # Asked here and not by aiohttp, whose trust_env would also look for a password in ~/.netrc.
        parts = urlsplit(url)
        return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)

    def _for(self, request: HttpRequest) -> aiohttp.ClientSession:
        if self._reads is None or self._starts is None:
            raise ClientClosedError("the client is closed")
        if request.token is not None:
            return self._reads if request.method == "GET" else self._starts
        if self._foreign is None:
            self._foreign = self._session(IDLE_READ, bare=True)
        return self._foreign

    async def send(self, request: HttpRequest, /) -> HttpResponse:
        """Carry one request; see :class:`~deepnote_async.transport.Transport`."""
        try:
            return await self._carry(request)
        except (DeepnoteError, SinkError) as error:
            # The frames below hold answers and links in the clear.
            raise error.with_traceback(None) from None
        except Exception as error:  # noqa: BLE001 - whatever aiohttp raises, nothing but our own errors leaves here
            failure, cause = _no_answer(request, error), _harmless(request, error)
        # Out here the error from below is not its context.
        raise failure from cause

    async def _carry(self, request: HttpRequest) -> HttpResponse:
        session = self._for(request)
        token = request.token
        response = await session.request(
            request.method,
            URL(request.url, encoded=True) if request.private else _url(request.url),
            data=request.body,
            headers={**request.headers, "Authorization": f"Bearer {token.reveal()}"} if token else None,
            allow_redirects=False,
            proxy=self._proxy(request.url),
            ssl=self._options.ssl_context or True,
            trace_request_ctx=request,
        )
        try:
            status, content = response.status, response.content
            # Of an error's body a message is all that is wanted.
            limit = request.max_bytes if status < 300 else min(KEPT_OF_OVERSIZE, request.max_bytes)
            if request.sink is not None and status < 300:
                body = await _pour(content, request.sink)
            elif content.is_eof():
                # Most answers come whole, in one piece with their headers: then there is nothing to wait for.
                body = content.read_nowait()
            else:
                body = await _gather(content, limit)
            if len(body) > limit and status < 300:
                raise _oversize(body, status, limit)
            return HttpResponse(status, response.headers, body[:limit])
        finally:
            # Read to its end a response has given its connection back already; anything else must not be reused.
            if response.connection is not None:
                response.close()


def _url(text: str) -> URL:
    """A URL that the session built, taken apart where it was put together: yarl's own parsing costs 4 us more."""
    scheme, _, rest = text.partition("://")
    authority, slash, target = rest.partition("/")
    path, _, query = target.partition("?")
    return URL.build(scheme=scheme, authority=authority, path=slash + path, query_string=query, encoded=True)


def _oversize(body: bytes, status: int, limit: int) -> DecodeError:
    reason = f"the answer is over max_response_bytes ({limit} bytes)"
    return DecodeError(reason, body=readable(body[:KEPT_OF_OVERSIZE]), status=status)


async def _gather(content: aiohttp.StreamReader, limit: int) -> bytes:
    """A body to its end, or to where it is over the limit."""
    chunks: list[bytes] = []
    size = 0
    while size <= limit and (chunk := await content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


async def _pour(content: aiohttp.StreamReader, sink: Callable[[bytes], Awaitable[object]]) -> bytes:
    while chunk := await content.readany():
        try:
            await sink(chunk)
        except OSError as error:
            raise SinkError(error) from None
    return b""


def _counting_headers() -> aiohttp.TraceConfig:
    """Counts how often a request's headers left: 0 says for certain that the service saw nothing of it."""

    async def count(_: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.sent += 1

    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(count)
    return config


def _no_answer(request: HttpRequest, error: Exception) -> TransportError:
    kind = type(error).__name__
    if isinstance(error, aiohttp.ClientSSLError):
        # No second look makes a certificate good.
        return TransportError(f"no secure connection: {kind}: {_text(request, error)}", sent=False, retryable=False)
    if isinstance(error, aiohttp.InvalidURL):
        return TransportError(f"no URL: {kind}: {_text(request, error)}", sent=False, retryable=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransportError(f"no connection: {kind}: {_text(request, error)}", sent=False)
    if _never_written(error):
        request.sent = 0
    # Reads do not carry the hook; for them it does not matter.
    sent = request.sent > 0 if request.method not in {"GET", "HEAD"} else True
    return TransportError(f"the connection broke: {kind}: {_text(request, error)}", sent=sent)


def _text(request: HttpRequest, error: Exception) -> str:
    """What the error says; nothing where the URL is a secret, which the text may hold."""
    if request.private or request.token is None:
        return "(details withheld)"
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text names the URL, and a proxy's holds a password.
        return request.token.scrub(f"{error.status} {error.message}")
    return request.token.scrub(str(error))


def _harmless(request: HttpRequest, error: Exception) -> BaseException | None:
    """The error as a cause, without its tracebacks; None if it may carry the request, the key or the link with it."""
    if request.private or isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return None
    if isinstance(error, aiohttp.ClientConnectorError):
        # It names the proxy, password and all; what it was raised from does not.
        return None if error.__cause__ is None else without_tracebacks(error.__cause__)
    return without_tracebacks(error)


def _never_written(error: BaseException | None) -> bool:
    """Whether the first write met a connection that was closing already, so that no byte left."""
    while error is not None:
        if isinstance(error, aiohttp.ClientConnectionResetError) and "closing transport" in str(error):
            return True
        error = error.__cause__
    return False
