"""Notebooks. Source: https://deepnote.com/docs/api-reference/notebooks"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..outgoing import dump, page_query, required_text, segment
from ..pagination import AsyncPaginator, Page
from ..wire import nothing, read_notebook, read_runs

if TYPE_CHECKING:
    from ..models import Notebook, Run
    from ..session import Session

__all__ = ["Notebooks", "runs_path"]


class Notebooks:
    """``client.notebooks``"""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create(self, project_id: str, *, name: str | None = None) -> Notebook:
        """Create an empty notebook in a project.

        Raises :class:`ConflictError` for a name the project has already, and for projects that take no further
        notebook. Never repeated once sent: raises :class:`OutcomeUnknownError` if the answer was lost.
        """
        segment(project_id, "project_id")
        body = {"projectId": str(project_id)} | ({} if name is None else {"name": required_text(name, "name")})
        return await self._session.call("POST", "/v2/notebooks", read_notebook, body=dump(body))

    async def get(self, notebook_id: str) -> Notebook:
        """One notebook with its blocks and inputs; raises :class:`NotFoundError`."""
        return await self._session.call("GET", _path(notebook_id), read_notebook)

    async def delete(self, notebook_id: str) -> None:
        """Delete a notebook; raises :class:`NotFoundError`."""
        await self._session.call("DELETE", _path(notebook_id), nothing)

    def list_runs(
        self, notebook_id: str, *, page_size: int | None = None, page_token: str | None = None
    ) -> AsyncPaginator[Run]:
        """The runs of a notebook, those started elsewhere too; the live service gives the newest first.

        ``page_size`` is 1 to 100 (the service's default is 20). Listed runs carry neither error nor snapshot.
        """
        path = runs_path(notebook_id)
        page_query(page_size, page_token)

        async def fetch(token: str | None) -> Page[Run]:
            return Page(*await self._session.call("GET", path, read_runs, query=page_query(page_size, token)))

        return AsyncPaginator(fetch, page_token)

    async def execute_v1(self, project_id: str, notebook_id: str) -> None:
        """Execute a whole notebook through the legacy v1 API: fire and forget.

        It starts the project's machine if need be and does nothing when the notebook already runs. No run id comes
        back, so its end cannot be awaited. Deepnote has taken it out of its documentation; prefer ``runs.create``.
        """
        project, notebook = segment(project_id, "project_id"), segment(notebook_id, "notebook_id")
        await self._session.call("POST", f"/v1/projects/{project}/notebooks/{notebook}/execute", nothing)


def _path(notebook_id: str) -> str:
    return f"/v2/notebooks/{segment(notebook_id, 'notebook_id')}"


def runs_path(notebook_id: str) -> str:
    """The path of a notebook's runs."""
    return f"{_path(notebook_id)}/runs"
