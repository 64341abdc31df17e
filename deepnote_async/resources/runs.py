"""Runs. Source: https://deepnote.com/docs/api-reference/runs"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import attrs

from ..credentials import Secret
from ..errors import (
    ApiError,
    DecodeError,
    InvalidRequestError,
    NotStartedError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ServerError,
    TransportError,
)
from ..models import Run, RunStarted
from ..outgoing import dump, is_segment, query_string, segment
from ..retry import pause_before_retry
from ..run_request import RunRequest, StorageMode
from ..snapshots import Snapshot, checked_delivery, may_still_come
from ..wire import decode, read_run, read_run_started
from .notebooks import Notebooks

if TYPE_CHECKING:
    from ..session import Session
    from ..settings import PollPolicy
    from ..transport import HttpRequest, HttpResponse

__all__ = ["RunRef", "Runs", "run_id_of", "run_path"]

logger: logging.Logger = logging.getLogger("deepnote_async")

RunRef: TypeAlias = str | uuid.UUID | RunStarted | Run
START_PATH = "/v2/runs"


class Runs:
    """``client.runs``"""

    __slots__ = ("_poll", "_session")

    def __init__(self, session: Session, poll: PollPolicy) -> None:
        self._session = session
        self._poll = poll

    async def create(
        self,
        notebook_id_or_request: str | RunRequest,
        *,
        inputs: Mapping[str, Any] | None = None,
        detached: bool | None = None,
        detached_run_storage_mode: StorageMode | None = None,
        block_ids: Sequence[str] | None = None,
        run_dependent_blocks: bool | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> RunStarted:
        """Start a run of a notebook and return its receipt; see :class:`RunRequest` for the arguments.

        The service knows no idempotency key, so a start is repeated only when it certainly did not happen. Raises
        :class:`NotStartedError` when its time passed before it was sent, :class:`OutcomeUnknownError` when it broke
        afterwards, and :class:`BadRequestError` for a notebook the service does not know. Cancelled after it was
        sent, the start goes on, and a warning names the run.
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
        return await self.start(request)

    async def start(self, request: RunRequest, deadline: float | None = None) -> RunStarted:
        """:meth:`create`, by a deadline on the loop's clock beside the client's ``total_timeout``."""
        body = dump(request.body())
        try:
            started = await self._session.call(
                "POST",
                START_PATH,
                read_run_started,
                body=body,
                unattended=self._report(request),
                deadline=deadline,
            )
        except OutcomeUnknownError as error:
            error.request, error.notebook_id = request, request.notebook_id
            raise
        except (ApiError, TransportError) as error:
            if not (error.out_of_time or isinstance(error, RequestTimeoutError)):
                raise
            raise NotStartedError(f"not started in time: {error}", cause=error) from error
        return self.note(started, request)

    def note(self, started: RunStarted, request: RunRequest) -> RunStarted:
        """Remember a run as started by this client, and complete its receipt."""
        self._session.core.started.add(started.run_id, self._session.core.now())
        return attrs.evolve(started, notebook_id=request.notebook_id)

    def start_request(self, request: RunRequest) -> HttpRequest:
        """The start as one request, for who admits and repeats it himself."""
        return self._session.request("POST", START_PATH, body=dump(request.body()))

    def _report(self, request: RunRequest) -> Any:
        def report(task: asyncio.Task[HttpResponse]) -> None:
            outcome = self.settled(task, request)
            if isinstance(outcome, RunStarted):
                logger.warning(
                    "run %s of notebook %s was started though its caller had left; it goes on",
                    outcome.run_id,
                    request.notebook_id,
                )
            elif outcome is not None:
                logger.warning("a start of notebook %s whose caller had left: %s", request.notebook_id, outcome)

        return report

    def settled(self, task: asyncio.Task[HttpResponse], request: RunRequest) -> RunStarted | OutcomeUnknownError | None:
        """How a start ended whose caller had left: a run, None for certainly none, or that it is unknown."""
        unknown = OutcomeUnknownError(
            "the start may have happened: its caller left before the answer",
            request=request,
            notebook_id=request.notebook_id,
        )
        if task.cancelled() or task.exception() is not None:
            error = None if task.cancelled() else task.exception()
            if getattr(error, "sent", True) is False:
                return None
            unknown.cause = unknown.__cause__ = error
            return unknown
        response = task.result()
        if response.status >= 300:
            return unknown if response.status >= 500 else None
        try:
            return self.note(decode(read_run_started, response.body, response.status), request)
        except DecodeError as error:
            unknown.cause = unknown.__cause__ = error
            return unknown

    async def get(self, run_id: str | uuid.UUID, *, snapshot_delivery: Snapshot | None = None) -> Run:
        """Read one run; raises :class:`NotFoundError`.

        ``snapshot_delivery`` asks for the snapshot as a link (``"downloadUrl"``, what the live service does unasked),
        as YAML text (``"inline"``) or as ``"blocks"``. It comes some time after the final status.
        """
        if snapshot_delivery is None:
            return await self._session.call("GET", run_path(run_id), read_run)
        query = query_string({"snapshotDelivery": checked_delivery(snapshot_delivery)})
        return await self._session.call("GET", run_path(run_id), read_run, query=query)

    async def download_snapshot(self, run: RunRef, *, to: str | os.PathLike[str] | None = None) -> str | None:
        """Fetch a run's snapshot document: as text, or streamed to the file ``to``, giving None then.

        None, too, when the run has no snapshot, which one that has just ended is given ``snapshot_wait`` for; then no
        file is made. The key goes to the API's own origin only. An expired link is asked for anew once. All of it has
        ``total_timeout``, and each attempt at the document ``timeout``.
        """
        core = self._session.core
        core.check()
        deadline = self._session.deadline(core.now())
        known = run if isinstance(run, Run) else None
        if known is None or not (known.snapshot_content or known.snapshot_download_url):
            known = await self._with_snapshot(run_id_of(run), deadline)
        if known.snapshot_content:
            return await _deliver(known.snapshot_content, to)
        if known.snapshot_download_url is None:
            return None
        try:
            return await self._fetch(Secret(known.snapshot_download_url), to, deadline)
        except ApiError as error:
            fresh = await self._with_link(known.run_id, deadline)
            # After a 401 it may be the key that is another now.
            stale = fresh.snapshot_download_url == known.snapshot_download_url and error.status != 401
            if not fresh.snapshot_download_url or stale:
                raise
        return await self._fetch(Secret(fresh.snapshot_download_url), to, deadline)

    async def _with_link(self, run_id: str, deadline: float | None) -> Run:
        query = query_string({"snapshotDelivery": "downloadUrl"})
        return await self._session.call("GET", run_path(run_id), read_run, query=query, deadline=deadline)

    async def _with_snapshot(self, run_id: str, deadline: float | None) -> Run:
        core = self._session.core
        until = core.now() + self._poll.snapshot_wait
        while True:
            run = await self._with_link(run_id, deadline)
            if not run.is_terminal or not may_still_come(run):
                return run
            if run.finished_at is not None:
                # One that ended long ago has had its time.
                age = core.clock.at(core.now()) - run.finished_at.timestamp()
                until = min(until, core.now() + self._poll.snapshot_wait - age)
            now = core.now()
            pause = min(self._poll.initial, until - now)
            # A look that begins at the deadline, or a moment before it, would only fail.
            if pause <= 0.0 or (deadline is not None and now + pause >= deadline):
                return run
            await core.pause(pause)

    async def _fetch(self, link: Secret, to: str | os.PathLike[str] | None, deadline: float | None) -> str | None:
        """Fetch a link, beginning anew where it breaks, as often as the retry policy says."""
        session, core = self._session, self._session.core
        attempts = 0
        while True:
            attempts += 1
            try:
                return await self._fetch_once(link, to, deadline)
            except (TransportError, ServerError) as error:
                error.attempts = attempts
                pause = pause_before_retry(error, "GET", session.retry, core.rng)
                if pause is None or (deadline is not None and core.now() + pause >= deadline):
                    raise
            await core.pause(pause)

    async def _fetch_once(self, link: Secret, to: str | os.PathLike[str] | None, deadline: float | None) -> str | None:
        if to is None:
            return (await self._session.download(link, deadline=deadline)).decode("utf-8", "replace")
        async with _written_whole(to) as write:
            await self._session.download(link, write, deadline=deadline)
        return None

    async def candidates(self, error: OutcomeUnknownError) -> list[Run]:
        """The runs that a start of unknown outcome may have become.

        They are the notebook's runs created within the error's window of server time that this client neither
        started nor claimed. A run can appear in the list some time after its start broke: none is no proof.
        """
        if error.notebook_id is None or error.window is None:
            raise InvalidRequestError("this error is not of a start: it names no notebook")
        since, until = error.window
        started = self._session.core.started
        pages = Notebooks(self._session).list_runs(error.notebook_id, page_size=100).pages()
        found: list[Run] = []
        async with contextlib.aclosing(pages):
            async for page in pages:
                found += [
                    run
                    for run in page.items
                    if run.created_at is not None and since <= run.created_at <= until and run.run_id not in started
                ]
        return found


def as_request(notebook_id_or_request: str | RunRequest, **options: Any) -> RunRequest:
    """A request from a notebook's id and options; a ready one takes no options beside it."""
    if not isinstance(notebook_id_or_request, RunRequest):
        return RunRequest(notebook_id_or_request, **options)
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InvalidRequestError(f"{', '.join(given)} beside a RunRequest: set them in the request")
    return notebook_id_or_request


def run_path(run_id: object) -> str:
    """The path of one run."""
    return f"/v2/runs/{segment(run_id, 'run_id')}"


def run_id_of(run: RunRef) -> str:
    """The id a reference to a run stands for."""
    match run:
        case Run() | RunStarted():
            return run.run_id
        case uuid.UUID():
            return str(run)
        case str() if is_segment(run):
            return run
    raise InvalidRequestError(f"a run is its id as text, a UUID, a RunStarted or a Run, not {run!r}")


async def _deliver(content: str, to: str | os.PathLike[str] | None) -> str | None:
    if to is None:
        return content
    async with _written_whole(to) as write:
        await write(content.encode())
    return None


@contextlib.asynccontextmanager
async def _written_whole(to: str | os.PathLike[str]) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """What writes a file that comes to stand at ``to`` once it is written to its end, and not at all otherwise.

    It is opened at the first piece, for a download may wait long for its turn.
    """
    partial = Path(f"{os.fspath(to)}.{uuid.uuid4().hex}.part")
    file: anyio.AsyncFile[bytes] | None = None

    async def write(piece: bytes) -> None:
        nonlocal file
        if file is None:
            file = await _opened(partial)
        await file.write(piece)

    try:
        yield write
        await write(b"")  # an empty document makes a file, too
        if file is not None:
            await file.aclose()
        await anyio.to_thread.run_sync(partial.replace, to)
    except BaseException:
        if file is not None:
            # Without an await: a closing in a thread does not begin in a cancelled task.
            _discard(file, partial)
        raise


async def _opened(partial: Path) -> anyio.AsyncFile[bytes]:
    opening = asyncio.create_task(anyio.open_file(partial, "xb"), name="deepnote file")
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # The thread that opens it cannot be called back.
        opening.add_done_callback(lambda done: _give_up(done, partial))
        raise


def _give_up(opening: asyncio.Future[anyio.AsyncFile[bytes]], partial: Path) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _discard(opening.result(), partial)


def _discard(file: anyio.AsyncFile[bytes], partial: Path) -> None:
    with contextlib.suppress(OSError):
        file.wrapped.close()
    with contextlib.suppress(OSError):
        partial.unlink()
