"""``deepnote-async notebooks``"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from .common import Common, command
from .lazy import PLAIN
from .listing import Yes, ask_to_delete, print_deleted, print_listed, print_many, print_one
from .progress import noticed
from .render import RUN_COLUMNS, jsonable, run_record

__all__ = ["app"]

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Notebooks.", **PLAIN)
INPUT_COLUMNS: Final = ("name", "type", "value", "label", "options", "multiple", "min", "max", "step")
Id = Annotated[str, typer.Argument(help="The notebook's id.", show_default=False, metavar="NOTEBOOK")]


@command(app, "create", "deepnote-async notebooks create PROJECT --name Report")
async def create(
    common: Common,
    project: Annotated[str, typer.Argument(help="The project's id.", show_default=False, metavar="PROJECT")],
    name: Annotated[str | None, typer.Option(help="Its name.")] = None,
) -> None:
    """Create an empty notebook in a project."""
    async with common.client() as client, noticed(common, "creating the notebook"):
        made = await client.notebooks.create(project, name=name)
    print_one(common, jsonable(made))


@command(app, "get", "deepnote-async notebooks get NOTEBOOK")
async def get(common: Common, notebook: Id) -> None:
    """Show a notebook; with --json its blocks, too."""
    async with common.client() as client, noticed(common, "reading the notebook"):
        found = await client.notebooks.get(notebook)
    if common.json:
        print_one(common, jsonable(found))
        return
    inputs = ", ".join(each.name for each in found.inputs)
    fields = {"id": found.id, "name": found.name, "project_id": found.project_id}
    print_one(common, fields | {"blocks": str(len(found.blocks)), "inputs": inputs})


@command(app, "inputs", "deepnote-async notebooks inputs NOTEBOOK")
async def inputs(common: Common, notebook: Id) -> None:
    """List the inputs a run of the notebook can be given."""
    async with common.client() as client, noticed(common, "reading the notebook"):
        found = await client.notebooks.get(notebook)
    print_many(common, [jsonable(each) for each in found.inputs], INPUT_COLUMNS)


@command(app, "runs", "deepnote-async notebooks runs NOTEBOOK --limit 5")
async def runs(
    common: Common, notebook: Id, limit: Annotated[int | None, typer.Option(min=1, help="No more than so many.")] = None
) -> None:
    """List the runs of a notebook, those started elsewhere too."""
    async with common.client() as client:
        found = client.notebooks.list_runs(notebook, page_size=min(limit or 100, 100))
        await print_listed(common, found, RUN_COLUMNS, limit, run_record)


@command(app, "delete", "deepnote-async notebooks delete NOTEBOOK --yes")
async def delete(common: Common, notebook: Id, yes: Yes = False) -> None:
    """Delete a notebook."""
    ask_to_delete("notebook", notebook, yes=yes)
    async with common.client() as client, noticed(common, "deleting the notebook"):
        await client.notebooks.delete(notebook)
    print_deleted(common, notebook)
