"""The reads of a checkup, made by the client's own calls: a dozen at most, one after another."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from ..client import DeepnoteClient
from ..errors import AuthenticationError, DeepnoteError, TransportError
from ..settings import RetryPolicy
from .recording import Exchange, Recording

if TYPE_CHECKING:
    from ..models import Notebook, Project, Run
    from ..pagination import AsyncPaginator, Page
    from ..transport import Transport

__all__ = ["MOST_REQUESTS", "Checkup", "examine"]

T = TypeVar("T")
MOST_REQUESTS: Final = 12
PATIENCE: Final = 15.0  # s for an answer
SILENCES: Final = 2  # calls in a row without an answer, after which no more are made


async def examine(
    transport: Transport,
    token: str | None,
    *,
    base_url: str | None = None,
    notebook_id: str | None = None,
    recording: Recording | None = None,
) -> list[Exchange]:
    """Read what can be read, and return every exchange in order.

    ``notebook_id`` is looked at in place of one that a project lists. Raises
    :class:`~deepnote_async.ConfigurationError` where no client can be built; nothing that the service does is raised.
    """
    recording = recording or Recording(transport, most=MOST_REQUESTS)
    client = DeepnoteClient(
        token,
        base_url=base_url,
        transport=recording,
        timeout=PATIENCE,
        total_timeout=2 * PATIENCE,
        retry=RetryPolicy(attempts=1),
    )
    async with client:
        checkup = Checkup(client, recording)
        await checkup.all(notebook_id)
    return checkup.exchanges


class Checkup:
    """The calls; one that fails is an exchange like any other, with its error."""

    def __init__(self, client: DeepnoteClient, recording: Recording) -> None:
        self._client = client
        self._recording = recording
        self._silent = 0
        self._refused = False
        self.exchanges: list[Exchange] = []

    async def _ask(self, label: str, call: Callable[[], Awaitable[T]]) -> T | None:
        if self._refused or self._silent >= SILENCES:
            return None
        before = len(self._recording.exchanges)
        result, failure = None, None
        try:
            result = await call()
        except DeepnoteError as error:
            failure = error
        made = self._recording.exchanges[before:]
        exchange = made[-1] if made else Exchange()  # it may not have been sent
        exchange.label, exchange.error = label, failure
        self.exchanges.append(exchange)
        self._silent = self._silent + 1 if exchange.status is None else 0
        first = len(self.exchanges) == 1
        self._refused = isinstance(failure, AuthenticationError) or (first and isinstance(failure, TransportError))
        return result

    async def all(self, notebook_id: str | None) -> None:
        """Make them all, as far as one leads to the next."""
        client = self._client
        if await self._ask("me", client.me) is not None:
            for _ in range(2):
                await self._ask("me, again", client.me)
        first = await self._ask("projects", lambda: _page(client.projects.list(page_size=1)))
        if first is not None and first.next_page_token is not None:
            token = first.next_page_token
            await self._ask("projects, next page", lambda: _page(client.projects.list(page_size=1, page_token=token)))
        many = await self._ask("projects, 100 a page", lambda: _page(client.projects.list(page_size=100)))
        await self._look_into(many.items if many is not None else [], notebook_id)
        await self._ask("run that does not exist", lambda: client.runs.get(uuid.uuid4()))

    async def _look_into(self, projects: list[Project], notebook_id: str | None) -> None:
        client = self._client
        busiest = max(projects, key=lambda project: max(map(_last_run, project.notebooks), default=""), default=None)
        notebooks = busiest.notebooks if busiest is not None else []
        if busiest is not None:
            alone = await self._ask("project", lambda: client.projects.get(busiest.id))
            notebooks = notebooks or (alone.notebooks if alone is not None else [])
        if notebook_id is None and notebooks:
            notebook_id = max(notebooks, key=_last_run).id
        if notebook_id is not None:
            await self._look_at_runs(notebook_id)

    async def _look_at_runs(self, notebook_id: str) -> None:
        client = self._client
        await self._ask("notebook", lambda: client.notebooks.get(notebook_id))
        runs = await self._ask("runs", lambda: _page(client.notebooks.list_runs(notebook_id, page_size=100)))
        if runs is not None and runs.items:
            run = _one_that_ended(runs.items)
            await self._ask("run", lambda: client.runs.get(run.run_id))


async def _page(paginator: AsyncPaginator[T]) -> Page[T]:
    async with aclosing(paginator.pages()) as pages:
        return await anext(pages)


def _last_run(notebook: Notebook) -> str:
    at = notebook.extra.get("lastRunAt")
    # One that never ran is better than none.
    return at if isinstance(at, str) else " "


def _one_that_ended(runs: list[Run]) -> Run:
    return next((run for run in runs if run.is_terminal), runs[0])
