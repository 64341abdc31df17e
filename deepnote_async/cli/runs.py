"""``deepnote-async runs``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DeepnoteError, RunTimeoutError
from .common import Common, command
from .exits import FAILED, PROGRAM, line_of, naming, say, status_of
from .inputs import typed_inputs
from .lazy import PLAIN
from .listing import print_one
from .outputs import Save, made_ready, print_run
from .progress import noticed, shown
from .render import columns_of, jsonable, print_json, print_table, run_record, seconds

if TYPE_CHECKING:
    from ..models import Run

__all__ = ["Inputs", "app"]

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Runs.", **PLAIN)
Id = Annotated[str, typer.Argument(help="The run's id.", show_default=False, metavar="RUN")]
Ids = Annotated[list[str], typer.Argument(help="The runs' ids.", show_default=False, metavar="RUN...")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input; NAME:=JSON for true, false and lists."),
]
COLUMNS = ("run_id", "status", "duration", "error")


@command(app, "start", "deepnote-async runs start NOTEBOOK -i region=EU")
async def start(
    common: Common,
    notebook: Annotated[str, typer.Argument(help="The notebook's id.", show_default=False, metavar="NOTEBOOK")],
    given: Inputs = None,
) -> None:
    """Start a run and print its id; `runs wait` waits for it."""
    inputs = typed_inputs(given or [])
    async with common.client() as client, noticed(common, "starting"):
        started = await client.runs.create(notebook, inputs=inputs or None)
    with naming(started.run_id):
        print_one(common, jsonable(started))
        sys.stdout.flush()


@command(app, "get", "deepnote-async runs get RUN")
async def get(common: Common, run: Id) -> None:
    """Show where a run stands."""
    async with common.client() as client, noticed(common, "reading the run"):
        found = await client.runs.get(run)
    print_one(common, run_record(found))


@command(app, "wait", "deepnote-async runs wait RUN1 RUN2 --timeout 3600")
async def wait(common: Common, runs: Ids) -> int:
    """Wait for runs and print each as it ends.

    Whoever started them. Ctrl-C leaves them running.
    """
    import asyncio

    ended: list[Run] = []
    errors: list[DeepnoteError] = []
    began = asyncio.get_running_loop().time()

    def told() -> str:
        elapsed = seconds(asyncio.get_running_loop().time() - began)
        return f"{len(ended)} of {len(runs)} ended, {elapsed}"

    try:
        async with common.client(waits=True) as client, shown(common, told, lambda: len(ended) / len(runs)):
            async for each in client.as_completed(runs, timeout=common.timeout, return_exceptions=True):
                if isinstance(each, DeepnoteError):
                    errors.append(each)
                    continue
                ended.append(each)
                if common.json:
                    print_json(run_record(each))
    except asyncio.CancelledError:
        _print_ended(common, ended)
        say(f"Left; the runs go on. `{PROGRAM} runs wait` with the same ids takes the wait up again.")
        raise
    _print_ended(common, ended)
    return _status(ended, errors)


def _print_ended(common: Common, ended: list[Run]) -> None:
    if not common.json and ended:
        records = [run_record(run) for run in ended]
        print_table(columns_of(records, COLUMNS), records)


def _status(ended: list[Run], errors: list[DeepnoteError]) -> int:
    for error in errors:
        say(f"{PROGRAM}: error: {line_of(error)}")
    late = [error for error in errors if isinstance(error, RunTimeoutError)]
    if errors:
        return status_of((late or errors)[0])
    return 0 if all(run.succeeded for run in ended) else FAILED


@command(app, "outputs", "deepnote-async runs outputs RUN --save outputs/")
async def outputs(common: Common, run: Id, save: Save = None) -> int:
    """Print what a run's blocks have put out.

    Text, tables, images by name, and why it failed.
    """
    made_ready(save)
    async with common.client() as client, noticed(common, "reading the outputs"):
        # Waiting for an ended run costs nothing and bears with a snapshot that is late.
        found = await client.runs.get(run, snapshot_delivery="blocks")
        if found.is_terminal and found.snapshot_blocks is None:
            found = await client.await_run(found, snapshot="blocks", timeout=common.timeout)
    if not found.is_terminal:
        say(f"run {run} has not ended: it is {found.status}; `{PROGRAM} runs wait {run}` waits for it")
    return print_run(common, found, save)


@command(app, "download", "deepnote-async runs download RUN --to report.snapshot.deepnote")
async def download(
    common: Common,
    run: Id,
    to: Annotated[Path | None, typer.Option(help="The file to write.  [default: stdout]", show_default=False)] = None,
) -> int:
    """Fetch a run's snapshot, the notebook with its outputs as YAML."""
    async with common.client() as client, noticed(common, "downloading"):
        if to is None:
            text = await client.runs.download_snapshot(run)
            found = text is not None
            sys.stdout.write(text or "")
        else:
            before = _stamp(to)
            await client.runs.download_snapshot(run, to=to)
            found = _stamp(to) != before
    if not found:
        say(f"{PROGRAM}: error: run {run} has no snapshot: it goes on, or its notebook keeps none")
        return FAILED
    if to is not None:
        say(f"Wrote {to}.")
    return 0


def _stamp(path: Path) -> Any:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns
