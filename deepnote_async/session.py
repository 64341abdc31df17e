"""One call in, one answer out: the gate, the attempts, the pauses between them, and one error in the end.

Three ways lead through here. :meth:`Session.call` is a plain call with retries. :meth:`Session.attempt` is a single
try that was let through the gate already, for the watcher and the fan-out, which decide themselves what comes next.
:meth:`Session.download` fetches a link of the service's that may lead elsewhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

from multidict import CIMultiDict

from .core import Core
from .credentials import Secret, TokenSource, without_tracebacks
from .errors import (
    ApiError,
    ClientClosedError,
    DecodeError,
    DeepnoteError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ServerError,
    TransportError,
)
from .gate import Gate, Lane
from .retry import api_error, is_repeatable, pause_before_retry
from .settings import RetryPolicy, Timeouts, origin_of
from .transport import HttpRequest, HttpResponse, SinkError
from .wire import decode, redact

__all__ = ["Session", "Unattended"]

logger: logging.Logger = logging.getLogger("deepnote_async")

T = TypeVar("T")
Unattended = Callable[["asyncio.Task[Any]"], None]

CLOCK_ERROR: Final = 5.0  # s by which the window of an unknown outcome is widened on each side
_JSON: Final = {"Content-Type": "application/json"}
_NO_HEADERS: Final[dict[str, str]] = {}


class Session:
    """Calls of one token: its gate, its key and its patience, over what the client shares."""

    def __init__(
        self,
        core: Core,
        base_url: str,
        tokens: TokenSource,
        gate: Gate,
        timeouts: Timeouts,
        retry: RetryPolicy,
        max_response_bytes: int,
    ) -> None:
        self.core = core
        self.base_url = base_url
        self.tokens = tokens
        self.gate = gate
        self.timeouts = timeouts
        self.retry = retry
        self.max_response_bytes = max_response_bytes

    async def call(
        self,
        method: str,
        path: str,
        read: Callable[[Any], T],
        *,
        query: str = "",
        body: bytes | None = None,
        unattended: Unattended | None = None,
        deadline: float | None = None,
    ) -> T:
        """Make a call and read its answer, trying again as the policy says.

        Raises what the last attempt met, an :class:`ApiError`, a :class:`TransportError` or a :class:`DecodeError`, or
        an :class:`OutcomeUnknownError` when a request that must not be repeated broke after it was sent. One whose
        caller is cancelled after that goes on, and ``unattended`` is told how it ended.
        """
        core = self.core
        core.check()
        began = core.now()
        own = self.deadline(began)
        deadline = own if deadline is None else deadline if own is None else min(own, deadline)
        request = self.request(method, path, query=query, body=body)
        failure: ApiError | TransportError | DecodeError | None = None
        attempts = 0
        while True:
            attempts += 1
            try:
                await self.admit(deadline, attempts)
            except RequestTimeoutError as error:
                raise error from failure
            earlier = failure
            try:
                return await self.attempt(request, read, deadline=deadline, unattended=unattended)
            except DecodeError as error:
                failure, pause = error, None
            except (ApiError, TransportError) as error:
                error.attempts = attempts
                failure, pause = error, pause_before_retry(error, method, self.retry, core.rng)
            if pause is None or (deadline is not None and core.now() + pause >= deadline):
                failure.__cause__ = failure.__cause__ or earlier
                failure.out_of_time = pause is not None
                raise self.verdict(failure, request, began)
            await core.pause(pause)

    def deadline(self, now: float) -> float | None:
        """When a call that begins ``now`` has to be over, on the loop's clock."""
        total = self.timeouts.total_timeout
        return None if total is None else now + total

    def request(self, method: str, path: str, *, query: str = "", body: bytes | None = None) -> HttpRequest:
        """A request to the API, for :meth:`attempt`."""
        url = f"{self.base_url}{path}?{query}" if query else self.base_url + path
        return HttpRequest(method, url, _NO_HEADERS if body is None else _JSON, body, max_bytes=self.max_response_bytes)

    async def admit(
        self, deadline: float | None, attempts: int = 1, lane: Lane = Lane.INTERACTIVE, gate: Gate | None = None
    ) -> None:
        """Wait for a slot and a token; raises :class:`RequestTimeoutError` at the deadline."""
        gate = gate or self.gate
        if deadline is not None and deadline <= self.core.now():
            raise RequestTimeoutError("its time was over before the call was sent", sent=False, attempts=attempts)
        if gate.try_enter(lane):
            return
        if deadline is None:
            await gate.enter(lane)
            return
        core = self.core
        guard = core.deadlines.guard(deadline - core.now())
        try:
            await gate.enter(lane)
        except asyncio.CancelledError:
            if guard.expired():
                reason = "total_timeout passed while the call waited for its turn"
                raise RequestTimeoutError(reason, sent=False, attempts=attempts) from None
            raise
        finally:
            guard.stop()

    async def attempt(
        self,
        request: HttpRequest,
        read: Callable[[Any], T],
        *,
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
        unattended: Unattended | None = None,
        in_own_task: bool = False,
    ) -> T:
        """Make one attempt that the gate has let through, and give its slot back.

        A refused key is renewed once if a provider gives keys, and the attempt made once more. ``in_own_task`` says
        that the caller is a task which no user cancels, so a start needs no further one.
        """
        unshielded = in_own_task or is_repeatable(request.method)
        renewable = self.tokens.fixed is None
        while True:
            if unshielded:
                request.begun = True
                try:
                    response = await self._exchange(request, deadline)
                finally:
                    self.gate.leave()
            else:
                response = await self._shielded(request, deadline, unattended)
            if response.status != 401 or not renewable:
                return self._answer(request, response, read)
            renewable = False
            # Answered, so nothing of it is on its way any more.
            request.sent_before += request.sent
            request.sent = 0
            await self.admit(deadline, lane=lane)

    def _answer(self, request: HttpRequest, response: HttpResponse, read: Callable[[Any], T]) -> T:
        if response.status >= 300:
            if not (response.status == 404 and request.method == "DELETE" and request.sent_in_all > 1):
                raise self._refusal(request, response)
            # Its headers left more than once, so it may be that the first deleted it.
            return read(None)
        try:
            answer = decode(read, response.body, response.status)
        except DecodeError as error:
            raise self._redacted(request, error) from None
        self.core.reads += is_repeatable(request.method)
        return answer

    async def _shielded(
        self, request: HttpRequest, deadline: float | None, unattended: Unattended | None
    ) -> HttpResponse:
        # A start is not broken off half-way: it runs in a task that outlives a cancelled caller once bytes have left.
        task = self.core.spawn(
            self._exchange(request, deadline), f"deepnote {request.method}", contextvars.copy_context()
        )
        try:
            # The slot is not given back in the task itself: cancelled before its first step, it would never come to it.
            return await self.core.outcome(task, self.gate.leave)
        except (asyncio.CancelledError, ClientClosedError):
            if request.sent:
                self.core.leave_running(task)
                task.add_done_callback(unattended or _report_unattended(request.method, self._path(request)))
            else:
                task.cancel()
                task.add_done_callback(_retrieve)
            raise

    async def _exchange(self, request: HttpRequest, deadline: float | None, *, foreign: bool = False) -> HttpResponse:
        """One request, one answer, within ``timeout`` from now; ``foreign`` ones carry no key and teach no limit."""
        core = self.core
        if core.closed:
            raise ClientClosedError("the client was closed")
        now = core.now()
        seconds = self.timeouts.timeout
        if deadline is not None and deadline - now < seconds:
            seconds = max(deadline - now, 0.0)
        # A start on the wire has its grace when the client closes.
        guard = core.deadlines.guard(seconds, until_close=is_repeatable(request.method))
        core.on_wire += 1
        request.sent_before += request.sent
        request.sent = 0
        try:
            if not foreign:
                request.token = self.tokens.fixed or await self.tokens.get()
                core.requests += 1
            response = await core.transport.send(request)
        except asyncio.CancelledError as error:
            if not guard.expired():
                raise
            # It stays in reach as the context of what is raised here.
            without_tracebacks(error)
            if core.closed:
                raise ClientClosedError("the client was closed") from None
            raise self._too_late(request, seconds) from None
        except DecodeError as error:
            raise self._redacted(request, error) from None
        except (DeepnoteError, SinkError):
            raise
        except Exception as error:  # noqa: BLE001 - a transport of the user's may raise anything
            failure = f"the transport failed: {type(error).__name__}: {error}"
            raise TransportError(failure, sent=True) from without_tracebacks(error)
        finally:
            guard.stop()
            core.on_wire -= 1
        if not foreign:
            self._heard(response)
        return response

    def _heard(self, response: HttpResponse) -> None:
        core = self.core
        headers = response.headers
        core.clock.heard(headers.get("Date"), core.now())
        if response.status == 429:
            core.throttled += 1
        try:
            self.gate.limiter.answered(response.status, headers)
        except Exception:
            # The answer is worth more than the limiter's opinion of it.
            logger.exception("the rate limiter failed to take in an answer")

    def _path(self, request: HttpRequest) -> str:
        return "(a download link)" if request.private else request.url.removeprefix(self.base_url).partition("?")[0]

    def _too_late(self, request: HttpRequest, seconds: float) -> RequestTimeoutError:
        # A read may not carry the hook that knows; for it the answer does not matter.
        sent = request.sent > 0 or is_repeatable(request.method)
        left = " that total_timeout, or the wait, left" if seconds < self.timeouts.timeout else ""
        reason = f"{request.method} {self._path(request)} had no answer within the {seconds:.3g} s{left}"
        return RequestTimeoutError(reason, sent=sent)

    def _refusal(self, request: HttpRequest, response: HttpResponse) -> ApiError:
        error = api_error(response, request.method, self._path(request), 1)
        scrubbed = self._scrubber(request)
        error.message = scrubbed(error.message)
        error.body = scrubbed(error.body)
        error.args = (error.message,)
        # Where a redirect would have led may be a signed link.
        headers = ((name, scrubbed(value)) for name, value in error.headers.items() if name.lower() != "location")
        error.headers = CIMultiDict(headers)
        return error

    def _redacted(self, request: HttpRequest, error: DecodeError) -> DecodeError:
        error.body = self._scrubber(request)(error.body)
        # The frames it came through hold the body as it was.
        return error.with_traceback(None)

    def _scrubber(self, request: HttpRequest) -> Callable[[str], str]:
        """Takes out of a text the key that the service may have echoed and the links it may have signed."""
        token = request.token
        return redact if token is None else lambda text: redact(token.scrub(text))

    def verdict(
        self, error: ApiError | TransportError | DecodeError, request: HttpRequest, since: float
    ) -> DeepnoteError:
        """The error a caller sees: after sending what must not be repeated, that its outcome is unknown."""
        certain = is_repeatable(request.method) or (isinstance(error, TransportError) and not error.sent)
        if certain or (isinstance(error, ApiError) and not isinstance(error, ServerError)):
            return error
        return self.unknown(error, request, since)

    def unknown(self, error: DeepnoteError, request: HttpRequest, since: float) -> OutcomeUnknownError:
        """That ``request``, begun at ``since`` on the loop's clock, may have taken effect."""
        core = self.core
        window = (
            core.clock.datetime_at(since, -CLOCK_ERROR),
            core.clock.datetime_at(core.now(), CLOCK_ERROR),
        )
        message = f"{request.method} {self._path(request)} may have taken effect and was not repeated: {error}"
        return OutcomeUnknownError(message, window=window, cause=error)

    async def download(
        self, link: Secret, sink: Callable[[bytes], Awaitable[object]] | None = None, *, deadline: float | None = None
    ) -> bytes:
        """Fetch a link of the service's; the key goes along only to the API's own origin.

        A link to another origin takes a slot but no token, for its limit is not the API's. Raises
        :class:`ApiError` when the link is refused, as an expired one is, and :class:`TransportError` when it cannot be
        reached.
        """
        core = self.core
        core.check()
        request = self._link_request(link)
        if request is None:
            raise DecodeError("the service gave a download link that is no URL")
        request.sink = sink
        foreign = origin_of(request.url) != origin_of(self.base_url)
        gate = core.elsewhere if foreign else self.gate
        await self.admit(deadline, gate=gate)
        try:
            response = await self._exchange(request, deadline, foreign=foreign)
        except SinkError as error:
            raise error.reason from None
        finally:
            gate.leave()
        if response.status >= 300:
            # Object storage repeats the request, signature and all, in its error documents, and the path is a secret.
            response.body = b'{"message": "the download link was refused"}'
            raise self._refusal(request, response)
        return response.body

    def _link_request(self, link: Secret) -> HttpRequest | None:
        """The request for a link, None if it is no URL. Only here does a frame hold the link in the clear."""
        try:
            url = urljoin(self.base_url + "/", link.reveal())
            good = url.isascii() and url.isprintable() and origin_of(url)[0] in {"http", "https"}
        except ValueError:
            return None
        return HttpRequest("GET", url, max_bytes=self.max_response_bytes, private=True) if good else None


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _report_unattended(method: str, path: str) -> Unattended:
    def report(task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            logger.warning("%s %s was cut off after its caller left: it may have taken effect", method, path)
        elif task.exception() is not None:
            logger.warning("%s %s broke after its caller left: %s", method, path, task.exception())
        else:
            logger.warning("%s %s went on after its caller left: status %d", method, path, task.result().status)

    return report
