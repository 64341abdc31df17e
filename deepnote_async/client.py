"""The client: everything the API offers, and runs awaited."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl as ssl_module
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload
from urllib.parse import quote

import attrs

from .aiohttp_transport import AiohttpTransport, ConnectionOptions
from .core import GRACE, Core
from .credentials import Secret, TokenProvider, TokenSource, masked
from .errors import ConfigurationError, DeepnoteError, InvalidRequestError
from .gate import Gate
from .ledger import Ledger
from .models import ClientStats, Me, Run, RunStarted
from .outgoing import dump, query_string, required_text
from .ratelimit import RateLimiter, TokenBucket
from .resources.notebooks import Notebooks
from .resources.projects import Projects
from .resources.runs import RunRef, Runs, as_request
from .run_request import RunRequest, StorageMode
from .session import Session
from .settings import PollPolicy, RetryPolicy, Timeouts, parse_base_url
from .snapshots import Snapshot, checked_delivery
from .transport import Transport
from .waiting.awaiting import Completed, WaitOptions, await_many, await_one, checked_timeout
from .waiting.batch import RunBatch
from .waiting.book import checked_rerun
from .waiting.entries import Requests
from .waiting.fanout import BatchOptions, Fanout
from .waiting.wait import OnUpdate
from .waiting.watcher import Watcher
from .wire import anything, read_me

if TYPE_CHECKING:
    import aiohttp

__all__ = ["DeepnoteClient", "RunRefs"]

logger: logging.Logger = logging.getLogger("deepnote_async")

# A str is an iterable of str, so `Iterable[str]` would let one run's id pass for many.
RunRefs: TypeAlias = list[str] | tuple[str, ...] | set[str] | Iterable[uuid.UUID | RunStarted | Run]
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


class _Unset:
    """The client's own value."""


_UNSET = _Unset()


class DeepnoteClient:
    """An asyncio client of the Deepnote API (v2, a preview that may change, and the legacy v1 execute).

    ``token`` is an API key (Settings & members > Security > API keys), or a function, plain or async, that gives one
    and is asked for every request; by default DEEPNOTE_TOKEN. Times are in seconds: ``timeout`` is for one attempt
    from the moment it has its connection, body included, ``total_timeout`` for a whole call with its retries.

    Make one client for each process and enter it with ``async with``; it belongs to the event loop it was entered
    in. Raises :class:`ConfigurationError` for options that cannot be; nothing is sent before the first call.
    """

    def __init__(
        self,
        token: str | TokenProvider | None = None,
        *,
        base_url: str | None = None,
        allow_http: bool = False,
        timeout: float = 30.0,
        total_timeout: float | None = 120.0,
        retry: RetryPolicy = RetryPolicy(),
        poll: PollPolicy = PollPolicy(),
        rate_limiter: RateLimiter | None = None,
        max_connections: int = 100,
        max_response_bytes: int = 64 * 2**20,
        proxy: str | None = None,
        ssl_context: ssl_module.SSLContext | None = None,
        trust_env: bool = False,
        session: aiohttp.ClientSession | None = None,
        transport: Transport | None = None,
    ) -> None:
        token = key = masked(token)  # no frame of ours keeps the clear text
        proxy = via = masked(proxy)
        _check_whole("max_connections", max_connections)
        _check_whole("max_response_bytes", max_response_bytes)
        if session is not None and transport is not None:
            raise ConfigurationError("session and transport exclude each other: give one of them")
        if transport is not None and not callable(getattr(transport, "send", None)):
            raise ConfigurationError("transport has a method send(request)")
        if proxy is not None and not isinstance(proxy, Secret):
            raise ConfigurationError("proxy is a URL as text")
        if rate_limiter is not None and not isinstance(rate_limiter, RateLimiter):
            raise ConfigurationError("rate_limiter has the methods acquire() and answered(status, headers)")
        _check_policies(retry, poll)
        options = ConnectionOptions(proxy=via, ssl_context=ssl_context, trust_env=trust_env, session=session)
        timeouts = Timeouts(timeout=timeout, total_timeout=total_timeout)
        core = Core(transport or AiohttpTransport(options), options.slots(max_connections), timeout)
        self._owner = True
        self._build(
            Session(
                core,
                parse_base_url(base_url, allow_http=allow_http),
                TokenSource(key),
                Gate(core.slots, rate_limiter or TokenBucket()),
                timeouts,
                retry,
                max_response_bytes,
            ),
            poll,
        )

    def _build(self, session: Session, poll: PollPolicy, watcher: Watcher | None = None) -> None:
        self._session = session
        self._poll = poll
        self._watcher = watcher if watcher is not None else Watcher(session, poll)
        self.projects: Projects = Projects(session)
        self.notebooks: Notebooks = Notebooks(session)
        self.runs: Runs = Runs(session, poll)
        session.core.hold(session.gate, self._watcher)

    # Lifetime.

    async def __aenter__(self) -> Self:
        if self._owner:
            self._session.core.enter()
        else:
            self._session.core.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self, grace: float = GRACE) -> None:
        """Close the client: waits end at once with :class:`ClientClosedError`, their runs go on.

        Starts on the wire whose callers have left get up to ``grace`` seconds to end. Idempotent, and safe from any
        task of the client's event loop. Closing a view made with :meth:`with_options` closes nothing.
        """
        if self._owner:
            await self._session.core.close(grace)

    def with_options(
        self,
        *,
        token: str | TokenProvider | _Unset = _UNSET,
        timeout: float | _Unset = _UNSET,
        total_timeout: float | _Unset | None = _UNSET,
        retry: RetryPolicy | _Unset = _UNSET,
        poll: PollPolicy | _Unset = _UNSET,
    ) -> DeepnoteClient:
        """A view of this client with other options: it shares the connections, and closing it closes nothing.

        With another token it has a rate limiter and a watcher of its own, for limits go by key.
        """
        if token is None:
            raise ConfigurationError("with_options(token=None) would take the environment's key: leave token out")
        token = key = masked(token)
        mine = self._session
        tokens = mine.tokens if isinstance(token, _Unset) else TokenSource(key)
        same_key = tokens is mine.tokens or (tokens.fixed is not None and tokens.fixed == mine.tokens.fixed)
        session = Session(
            mine.core,
            mine.base_url,
            tokens,
            mine.gate if same_key else Gate(mine.core.slots, TokenBucket()),
            Timeouts(
                timeout=mine.timeouts.timeout if isinstance(timeout, _Unset) else timeout,
                total_timeout=mine.timeouts.total_timeout if isinstance(total_timeout, _Unset) else total_timeout,
            ),
            mine.retry if isinstance(retry, _Unset) else retry,
            mine.max_response_bytes,
        )
        view = object.__new__(type(self))
        view._owner = False
        policy = self._poll if isinstance(poll, _Unset) else poll
        _check_policies(session.retry, policy)
        view._build(session, policy, self._watcher if same_key and policy == self._poll else None)
        return view

    def stats(self) -> ClientStats:
        """What the client and its views hold at this moment, and what they have done so far."""
        return self._session.core.stats()

    def __repr__(self) -> str:
        # One that could not be built stands in the frames of the error that says so.
        session = getattr(self, "_session", None)
        return f"<{type(self).__name__} {session.base_url if session is not None else 'not built'}>"

    # Calls.

    async def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Any:
        """Call any other endpoint, ``path`` from the host on (``/v2/machine-types``), and return its decoded JSON.

        Gate, errors and retry rules are those of every call. None is returned for an empty answer.
        """
        if str(method).upper() not in _METHODS:
            raise InvalidRequestError(f"method is one of {', '.join(sorted(_METHODS))}, not {method!r}")
        if not required_text(path, "path").startswith("/") or "?" in path or "#" in path:
            raise InvalidRequestError("path begins with / and has no query: pass that as params={...}")
        try:
            encoded = quote(path, safe="/%:@!$&'()*+,;=~")
        except UnicodeEncodeError:
            raise InvalidRequestError("path holds a lone surrogate, which no URL can carry") from None
        if params is not None and not isinstance(params, Mapping):
            raise InvalidRequestError("params maps names to values: write params={'name': value}")
        body = None if json is None else dump(json)
        return await self._session.call(method.upper(), encoded, anything, query=query_string(params), body=body)

    async def me(self) -> Me:
        """Who the key belongs to, and what they may do.

        Source: https://deepnote.com/docs/api-reference/me
        """
        return await self._session.call("GET", "/v2/me", read_me)

    # Waiting.

    @overload
    async def await_run(
        self,
        run: RunRef,
        /,
        *,
        timeout: float | None = ...,
        snapshot: Snapshot | None = ...,
        on_update: OnUpdate | None = ...,
        check: bool = ...,
    ) -> Run: ...

    @overload
    async def await_run(
        self,
        runs: RunRefs,
        /,
        *,
        timeout: float | None = ...,
        snapshot: Snapshot | None = ...,
        on_update: OnUpdate | None = ...,
        check: bool = ...,
        return_exceptions: Literal[False] = ...,
    ) -> list[Run]: ...

    @overload
    async def await_run(
        self,
        runs: RunRefs,
        /,
        *,
        timeout: float | None = ...,
        snapshot: Snapshot | None = ...,
        on_update: OnUpdate | None = ...,
        check: bool = ...,
        return_exceptions: bool,
    ) -> list[Run | DeepnoteError]: ...

    async def await_run(
        self,
        run: RunRef | RunRefs,
        /,
        *,
        timeout: float | None = None,
        snapshot: Snapshot | None = None,
        on_update: OnUpdate | None = None,
        check: bool = False,
        return_exceptions: bool = False,
    ) -> Run | list[Run] | list[Run | DeepnoteError]:
        """Wait until a run, or each of many, has ended, and return it, or them in the order asked.

        A failed run is a result; with ``check`` it is raised as :class:`RunFailedError`. After ``timeout`` seconds
        :class:`RunTimeoutError` is raised, and the runs go on. ``snapshot`` waits for the outputs too, and reads them
        in that delivery. ``on_update(run)`` hears of every new status: a plain function, quick, in the loop, or a
        coroutine function. Of many, all are told before the first error is raised; with ``return_exceptions``
        errors stand in their runs' places.

        Looks that fail do not end a wait until they have for ``PollPolicy.give_up_after``; a run that does not exist
        and a key that is refused do.
        """
        self._session.core.check()
        options = WaitOptions(timeout=timeout, snapshot=snapshot, on_update=on_update)
        if not isinstance(run, str | uuid.UUID | RunStarted | Run | Iterable):
            raise InvalidRequestError(f"await_run takes a run or runs, not {run!r}")
        if isinstance(run, str | uuid.UUID | RunStarted | Run):
            if return_exceptions:
                raise InvalidRequestError("return_exceptions is for many runs: pass a list")
            return await await_one(self._watcher, run, options, check=check)
        return await await_many(self._watcher, run, options, check=check, return_exceptions=return_exceptions)

    @overload
    def as_completed(
        self,
        runs: RunRefs,
        /,
        *,
        timeout: float | None = ...,
        snapshot: Snapshot | None = ...,
        on_update: OnUpdate | None = ...,
        return_exceptions: Literal[False] = ...,
    ) -> AsyncIterator[Run]: ...

    @overload
    def as_completed(
        self,
        runs: RunRefs,
        /,
        *,
        timeout: float | None = ...,
        snapshot: Snapshot | None = ...,
        on_update: OnUpdate | None = ...,
        return_exceptions: bool,
    ) -> AsyncIterator[Run | DeepnoteError]: ...

    def as_completed(
        self,
        runs: RunRefs,
        /,
        *,
        timeout: float | None = None,
        snapshot: Snapshot | None = None,
        on_update: OnUpdate | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Any]:
        """Give each of many runs as it ends; the arguments are those of :meth:`await_run`.

        Without ``return_exceptions`` all others are given before the first error is raised. Cancelling ``__anext__``
        loses nothing; leaving the loop lets the runs go on.
        """
        self._session.core.check()
        options = WaitOptions(timeout=timeout, snapshot=snapshot, on_update=on_update)
        if isinstance(runs, str | uuid.UUID | RunStarted | Run):
            raise InvalidRequestError("as_completed takes a list of runs: write as_completed([run])")
        return Completed(self._watcher, runs, options, return_exceptions=return_exceptions)

    async def run(
        self,
        notebook_id_or_request: str | RunRequest,
        *,
        timeout: float | None = None,
        snapshot: Snapshot | None = None,
        on_update: OnUpdate | None = None,
        check: bool = False,
        inputs: Mapping[str, Any] | None = None,
        detached: bool | None = None,
        detached_run_storage_mode: StorageMode | None = None,
        block_ids: Sequence[str] | None = None,
        run_dependent_blocks: bool | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run and await it: ``runs.create`` and :meth:`await_run` in one, under one ``timeout``.

        Cancelled after the start, the run goes on, and a warning names it.
        """
        request = as_request(
            notebook_id_or_request,
            inputs=inputs,
            detached=detached,
            detached_run_storage_mode=detached_run_storage_mode,
            block_ids=block_ids,
            run_dependent_blocks=run_dependent_blocks,
            extra_body=extra_body,
        )
        core = self._session.core
        core.check()
        options = WaitOptions(timeout=timeout, snapshot=snapshot, on_update=on_update)
        deadline = None if options.timeout is None else core.now() + options.timeout
        started = await self.runs.start(request, deadline)
        if deadline is not None:
            options = attrs.evolve(options, timeout=max(deadline - core.now(), 0.0))
        try:
            return await await_one(self._watcher, started, options, check=check)
        except asyncio.CancelledError:
            logger.warning(
                "run %s of notebook %s goes on though its caller has left", started.run_id, request.notebook_id
            )
            raise

    def run_many(
        self,
        requests: Requests,
        *,
        max_in_flight: int = 100,
        timeout: float | None = None,
        snapshot: Snapshot | None = None,
        on_update: OnUpdate | None = None,
        max_failures: int | None = None,
        on_unknown: Literal["report", "reconcile"] = "report",
        ledger: str | os.PathLike[str] | Ledger | None = None,
        rerun: Collection[str] = (),
    ) -> RunBatch:
        """Start a run for each request and await them all: ``async with client.run_many(requests) as batch``.

        ``requests`` is any iterable or async iterable, read only as there is room for ``max_in_flight``. Iterating the
        batch gives one :class:`RunResult` for each request read, as it ends. After ``max_failures`` results that are
        not ok nothing more is started. At the ``timeout`` open requests give :class:`RunTimeoutError` results, nothing
        is raised.

        A start that broke after it was sent is not repeated blindly. By default it gives :class:`OutcomeUnknownError`.
        With ``on_unknown="reconcile"`` one start a notebook is on the wire at a time, and after a break the notebook's
        runs are read until exactly one is found that nobody here started, which is taken for the request's, or until
        listings a minute after the break show none, and the request is started again; more than one are reported.
        That is safe only while nobody else starts that notebook: another's run would be taken for ours.

        With a ``ledger``, a file, the batch survives its process: run again with it after any death, requests whose
        runs have ended are given from it, those that were started are awaited, those on the wire then are of unknown
        outcome, and the rest are started. ``rerun=("error", "internal_error")`` starts runs that had ended so anew.
        Entering the batch raises :class:`ConfigurationError` for a ledger that cannot be used; one that can no longer
        be written ends the starting, and that error is raised when the results have been given.
        """
        _check_whole("max_in_flight", max_in_flight, InvalidRequestError)
        if max_failures is not None:
            _check_whole("max_failures", max_failures, InvalidRequestError)
        if on_unknown not in {"report", "reconcile"}:
            raise InvalidRequestError(f"on_unknown is 'report' or 'reconcile', not {on_unknown!r}")
        options = BatchOptions(
            max_in_flight=max_in_flight,
            timeout=checked_timeout(timeout),
            snapshot=checked_delivery(snapshot),
            on_update=on_update,
            max_failures=max_failures,
            reconcile=on_unknown == "reconcile",
            give_up_after=self._poll.give_up_after,
            ledger=ledger if ledger is None or isinstance(ledger, Ledger) else Ledger(ledger),
            rerun=checked_rerun(rerun, kept=ledger is not None),
        )
        return RunBatch(Fanout(self._session, self.runs, self._watcher, requests, options))


def _check_policies(retry: object, poll: object) -> None:
    if not isinstance(retry, RetryPolicy):
        raise ConfigurationError(f"retry is a RetryPolicy(...), not {retry!r}")
    if not isinstance(poll, PollPolicy):
        raise ConfigurationError(f"poll is a PollPolicy(...), not {poll!r}")


def _check_whole(name: str, value: object, error: type[DeepnoteError] = ConfigurationError) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise error(f"{name} is a whole number of at least 1, not {value!r}")
