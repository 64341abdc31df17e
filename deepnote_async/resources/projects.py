"""Projects. Source: https://deepnote.com/docs/api-reference/projects"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from ..outgoing import dump, page_query, required_text, segment
from ..pagination import AsyncPaginator, Page
from ..wire import nothing, read_project, read_projects

if TYPE_CHECKING:
    from ..models import Project
    from ..session import Session

__all__ = ["Projects"]


class Projects:
    """``client.projects``"""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(
        self, *, name_contains: str | None = None, page_size: int | None = None, page_token: str | None = None
    ) -> AsyncPaginator[Project]:
        """All projects of the workspace, or those whose name contains a text, whatever its case.

        ``page_size`` is 1 to 100 (the service's default is 50). A ``page_token`` resumes a list and goes with the
        filters it was given for. Names are not unique.
        """
        page_query(page_size, page_token)

        async def fetch(token: str | None) -> Page[Project]:
            query = page_query(page_size, token, nameContains=name_contains)
            return Page(*await self._session.call("GET", "/v2/projects", read_projects, query=query))

        return AsyncPaginator(fetch, page_token)

    async def create(self, name: str, *, folder_id: str | None = None, project_type: str | None = None) -> Project:
        """Create a project; on the live service it holds one placeholder notebook from the start.

        Never repeated once sent: raises :class:`OutcomeUnknownError` if the answer was lost.
        """
        if required_text(name, "name") == "":
            raise InvalidRequestError("a project's name is not empty")
        body = {"name": name, "folderId": folder_id, "projectType": project_type}
        sent = dump({key: value for key, value in body.items() if value is not None})
        return await self._session.call("POST", "/v2/projects", read_project, body=sent)

    async def get(self, project_id: str) -> Project:
        """One project with its notebooks; raises :class:`NotFoundError`."""
        return await self._session.call("GET", _path(project_id), read_project)

    async def delete(self, project_id: str) -> None:
        """Delete a project with all it holds; raises :class:`NotFoundError`."""
        await self._session.call("DELETE", _path(project_id), nothing)


def _path(project_id: str) -> str:
    return f"/v2/projects/{segment(project_id, 'project_id')}"
