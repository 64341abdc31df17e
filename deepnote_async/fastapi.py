"""The client in a FastAPI service: one for each process, its errors as answers, its waits ended in good time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import signal
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from types import FrameType
from typing import Annotated, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotation at run time

from .client import DeepnoteClient
from .errors import (
    ApiError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    DeepnoteError,
    InvalidRequestError,
    NotFoundError,
    NotStartedError,
    OutcomeUnknownError,
    RateLimitError,
    RequestTimeoutError,
    RunFailedError,
    RunTimeoutError,
    UnprocessableEntityError,
)
from .retry import retry_after

__all__ = [
    "DeepnoteDep",
    "Lifespan",
    "add_deepnote_handlers",
    "deepnote_for",
    "deepnote_lifespan",
    "get_deepnote",
]

logger: logging.Logger = logging.getLogger("deepnote_async")

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[Any]]
NAME: Final = "deepnote"
SHARE: Final = 0.8  # of the grace period is for waits; the rest for starts on the wire, whose outcome must be kept
LOOK: Final = 0.02  # s between two looks whether the last wait has ended
VIEWS: Final = 1000  # of tenants, kept for one client


# Lifetime.


def deepnote_lifespan(
    own: Lifespan | None = None,
    /,
    *,
    client: Callable[[], DeepnoteClient] = DeepnoteClient,
    grace: float = 10.0,
) -> Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """One client for the process, entered at startup and closed at shutdown: ``FastAPI(lifespan=deepnote_lifespan())``.

    ``own``, the app's own lifespan, runs within it and finds the client at ``app.state.deepnote``; or call this one
    from yours: ``async with deepnote_lifespan()(app): yield``. ``client`` makes the client, in the worker.

    Waits have ``grace`` seconds to end, from the signal that ends the server: then the client is closed, and what
    still waits gets :class:`~deepnote_async.ClientClosedError`. Servers tell a lifespan only after the last request,
    so without this a request that awaits a run of an hour would hold the process for an hour. A limit of the server's
    own (uvicorn's ``--timeout-graceful-shutdown``) should be longer.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        within = own(app) if own is not None else nullcontext()
        async with client() as entered:
            closing = _Closing(entered, grace)
            setattr(app.state, NAME, entered)
            try:
                with _heard(closing.begin):
                    async with within as state:
                        try:
                            yield {**(state or {}), NAME: entered}
                        finally:
                            # Before the app's own end, which may wait for what only the closing ends.
                            closing.begin()
            finally:
                await closing.finish()
                delattr(app.state, NAME)

    return lifespan


class _Closing:
    """Closes a client once its waits have ended, or their time is up."""

    def __init__(self, client: DeepnoteClient, grace: float) -> None:
        if not (math.isfinite(grace) and grace >= 0):
            raise ConfigurationError(f"grace is a number of seconds from 0, not {grace!r}")
        self._client = client
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Let the grace period begin, unless it has."""
        if self._deadline is None:
            now = self._loop.time()
            self._deadline = now + self._grace
            self._timer = self._loop.call_at(now + self._grace * SHARE, self._close)

    def _close(self) -> None:
        self._task = self._loop.create_task(self._client.aclose(self._grace * (1 - SHARE)), name="deepnote shutdown")

    async def finish(self) -> None:
        """Wait for the last wait, but not past the time for it, and close the client."""
        self.begin()
        for _ in range(math.ceil(self._grace / LOOK)):
            if self._task is not None or not self._is_busy():
                break
            await asyncio.sleep(LOOK)
        if self._timer is not None:
            self._timer.cancel()
        left = (self._deadline or 0.0) - self._loop.time()
        await self._client.aclose(max(left, 0.0))
        if self._task is not None:
            await self._task

    def _is_busy(self) -> bool:
        stats = self._client.stats()
        return bool(stats.watched_runs or stats.waiters or stats.connections)


@contextmanager
def _heard(then: Callable[[], None]) -> Iterator[None]:
    """Call ``then`` in the loop at the signals that end the server, before its own handlers, which go on to hear them.

    Only handlers that somebody has set are joined: where nobody listens a signal keeps its usual effect.
    """
    loop = asyncio.get_running_loop()
    mine: dict[signal.Signals, tuple[Any, Any]] = {}

    def joined(earlier: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def told(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(then)
            earlier(number, frame)

        return told

    # Elsewhere (a test client's thread) no handler can be set, and no signal arrives.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            earlier = signal.getsignal(number)
            if callable(earlier):
                mine[number] = (earlier, joined(earlier))
                signal.signal(number, mine[number][1])
    try:
        yield
    finally:
        for number, (earlier, told) in mine.items():
            if signal.getsignal(number) is told:
                signal.signal(number, earlier)


# Dependencies.


async def get_deepnote(connection: HTTPConnection) -> DeepnoteClient:
    """The client of the process, as a dependency; tests put another in ``app.dependency_overrides[get_deepnote]``.

    Raises :class:`~deepnote_async.ConfigurationError` in an app without :func:`deepnote_lifespan`.
    """
    # The state of the request is handed on to mounted apps, which have an app.state of their own.
    client = getattr(connection.state, NAME, None) or getattr(connection.app.state, NAME, None)
    if not isinstance(client, DeepnoteClient):
        raise ConfigurationError(
            "no client: write FastAPI(lifespan=deepnote_lifespan()), and enter the lifespan in tests"
        )
    return client


DeepnoteDep = Annotated[DeepnoteClient, Depends(get_deepnote)]

_views: WeakKeyDictionary[DeepnoteClient, OrderedDict[bytes, DeepnoteClient]] = WeakKeyDictionary()


def deepnote_for(token: Callable[..., str | Awaitable[str]]) -> Callable[..., Awaitable[DeepnoteClient]]:
    """A dependency for a client with the tenant's own token: ``Annotated[DeepnoteClient, Depends(deepnote_for(key))]``.

    ``token`` is a dependency that returns the key. All requests with one key share a view, for limits go by key: a
    view for each request would know no limit. The thousand keys used last are kept, and none in clear.
    """
    given = Depends(token)

    async def view_for(client: DeepnoteDep, token: str = given) -> DeepnoteClient:
        views = _views.setdefault(client, OrderedDict())
        key = hashlib.sha256(token.encode()).digest()
        view = views.get(key)
        if view is None:
            view = views[key] = client.with_options(token=token)
        views.move_to_end(key)
        if len(views) > VIEWS:
            views.popitem(last=False)
        return view

    return view_for


# Errors.

_SAME_STATUS: Final = (BadRequestError, NotFoundError, ConflictError, UnprocessableEntityError, RateLimitError)
_OWN: Final[tuple[tuple[type[DeepnoteError], int, str], ...]] = (
    (RequestTimeoutError, 504, "Deepnote did not answer in time"),
    (RunTimeoutError, 504, "The run has not ended in time; it goes on"),
    (RunFailedError, 502, "The run ended otherwise than in success"),
    (OutcomeUnknownError, 502, "The run may have been started or not"),
    (NotStartedError, 503, "The run was not started"),
    (ClientClosedError, 503, "The service is shutting down"),
    (InvalidRequestError, 422, "Deepnote would refuse the request"),
    (DeepnoteError, 502, "Deepnote did not give a usable answer"),
)
_API_DETAILS: Final[Mapping[int, str]] = {
    400: "Deepnote refused the request",
    404: "Deepnote has no such thing",
    409: "Deepnote reports a conflict",
    422: "Deepnote refused the request",
    429: "Too many requests to Deepnote",
    502: "Deepnote failed",
    503: "Deepnote is not available",
    504: "Deepnote did not answer in time",
}


def add_deepnote_handlers(app: FastAPI, *, retry_after: float = 5.0) -> None:
    """Answer errors of the client with statuses that tell this service's own callers what to do.

    429 and 503 come with Retry-After: Deepnote's own, else ``retry_after`` seconds. 400, 404, 409 and 422 are passed
    on; a refused key is 502, for it is this service's and not the caller's; no answer in time is 504. The body has
    ``detail``, ``error`` (the class) and, where there is one, ``run_id``, but nothing that Deepnote wrote: that is
    logged. :class:`~deepnote_async.ConfigurationError` stays a 500.
    """

    async def handle(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, DeepnoteError) or isinstance(error, ConfigurationError):
            raise error
        status, detail = _status_and_detail(error)
        logger.warning("answered %d for %s: %s", status, type(error).__name__, error)
        body = {"detail": detail, "error": type(error).__name__, **_run_of(error)}
        headers = {"Retry-After": str(_pause(error, retry_after))} if status in {429, 503} else None
        return JSONResponse(body, status, headers)

    app.add_exception_handler(DeepnoteError, handle)


def _status_and_detail(error: DeepnoteError) -> tuple[int, str]:
    if isinstance(error, NotStartedError) and isinstance(error.cause, ApiError):
        error = error.cause
    if not isinstance(error, ApiError):
        return next((status, detail) for kind, status, detail in _OWN if isinstance(error, kind))
    status = error.status if isinstance(error, _SAME_STATUS) or error.status in {503, 504} else 502
    return status, _API_DETAILS.get(status, _API_DETAILS[502])


def _run_of(error: DeepnoteError) -> dict[str, str]:
    if isinstance(error, RunFailedError):
        return {"run_id": error.run.run_id}
    run_id = error.run_id if isinstance(error, RunTimeoutError) else None
    return {} if run_id is None else {"run_id": run_id}


def _pause(error: DeepnoteError, otherwise: float) -> int:
    source = error.cause if isinstance(error, NotStartedError) else error
    asked = None
    if isinstance(source, RateLimitError):
        asked = source.retry_after
    elif isinstance(source, ApiError):
        asked = retry_after(source.headers)
    return max(math.ceil(otherwise if asked is None else asked), 1)
