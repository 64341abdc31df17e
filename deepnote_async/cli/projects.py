"""``deepnote-async projects``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .common import Common, command
from .lazy import PLAIN
from .listing import Yes, ask_to_delete, print_deleted, print_listed, print_one
from .progress import noticed
from .render import jsonable

if TYPE_CHECKING:
    from ..models import Project

__all__ = ["app"]

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Projects.", **PLAIN)
COLUMNS: Final = ("id", "name", "project_type", "created_at", "updated_at")
Id = Annotated[str, typer.Argument(help="The project's id.", show_default=False, metavar="PROJECT")]


@command(app, "list", "deepnote-async projects list --name-contains report")
async def list_(
    common: Common,
    name_contains: Annotated[str | None, typer.Option(help="Only those whose names contain this.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="No more than so many.")] = None,
) -> None:
    """List the projects of the workspace."""
    async with common.client() as client:
        found = client.projects.list(name_contains=name_contains, page_size=min(limit or 100, 100))
        await print_listed(common, found, COLUMNS, limit, jsonable)


@command(app, "create", "deepnote-async projects create 'Monthly report'")
async def create(
    common: Common,
    name: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    folder_id: Annotated[str | None, typer.Option(help="The folder to put it in.")] = None,
    project_type: Annotated[str | None, typer.Option("--type", help="standard, notebook or agent.")] = None,
) -> None:
    """Create a project; the service puts a notebook into it."""
    async with common.client() as client, noticed(common, "creating the project"):
        made = await client.projects.create(name, folder_id=folder_id, project_type=project_type)
    _print(common, made)


@command(app, "get", "deepnote-async projects get PROJECT")
async def get(common: Common, project: Id) -> None:
    """Show a project with its notebooks."""
    async with common.client() as client, noticed(common, "reading the project"):
        found = await client.projects.get(project)
    _print(common, found)


@command(app, "delete", "deepnote-async projects delete PROJECT --yes")
async def delete(common: Common, project: Id, yes: Yes = False) -> None:
    """Delete a project with all its notebooks."""
    ask_to_delete("project", project, yes=yes)
    async with common.client() as client, noticed(common, "deleting the project"):
        await client.projects.delete(project)
    print_deleted(common, project)


def _print(common: Common, project: Project) -> None:
    record = jsonable(project)
    if not common.json:
        record["notebooks"] = "\n".join(f"{each.id}  {each.name or ''}" for each in project.notebooks)
        record["folder"] = (project.folder or {}).get("name")
        record.pop("extra", None)
    print_one(common, record)
