"""``deepnote-async run-many``"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from ..errors import InvalidRequestError
from .checks import Check, checked
from .common import Common, epilog, with_common
from .fan import Fan
from .inputs import Format, read_rows, requests_of, typed_choices

if TYPE_CHECKING:
    from ..run_request import RunRequest

__all__ = ["run_many"]

FAILURES: Final = ("error", "internal_error", "stopped")


def _run_many(
    common: Common,
    notebook: Annotated[str, typer.Argument(help="The notebook's id.", show_default=False, metavar="NOTEBOOK")],
    inputs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="CSV with a header, JSON lines or an array: a run each; - is stdin."),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V1,V2", help="Each row once for every value; NAME:=JSON for a list of others."),
    ] = None,
    kind: Annotated[
        Format | None, typer.Option("--format", help="Of the file.  [default: by its name, else its first letter]")
    ] = None,
    key_column: Annotated[str, typer.Option(help="What names a row across changes of the file.")] = "key",
    max_in_flight: Annotated[int, typer.Option(min=1, help="Runs under way at once.")] = 100,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Remember every run here: the same command goes on later.")
    ] = None,
    rerun_failed: Annotated[bool, typer.Option("--rerun-failed", help="Start the ledger's failed runs anew.")] = False,
    unknown: Annotated[
        Literal["report", "reconcile"], typer.Option("--on-unknown", help="What to do with a start that broke.")
    ] = "report",
    max_failures: Annotated[int | None, typer.Option(min=1, help="Start nothing more after so many.")] = None,
    outputs: Annotated[bool, typer.Option("--outputs", help="Print each run's text, too.")] = False,
    check: Check = True,
) -> Coroutine[Any, Any, int]:
    """Run a notebook for every row of a file, every combination of a grid, or both, and print each one's result.

    As JSON lines results come as they end, as a table at the end: of more than 40 rows those that are not well, or
    all with --outputs.

    The whole file is read and checked before anything starts. A CSV column is an input, an empty cell leaves it to the
    notebook, as null does in JSON. A column `key` is no input but the row's name in the ledger.

    Ctrl-C once: nothing more is started, what runs is awaited. Twice: left at once, and the runs go on.

    The exit status is the first that holds of: 130 left with Ctrl-C before all were started and awaited, 4 out of
    time, 3 refused by the API or without an answer, 2 an input or the ledger, 1 a run failed, 0 all are well.
    """
    if inputs is None and not grid:
        raise InvalidRequestError("nothing to run: give --inputs FILE, --grid NAME=V1,V2, or both")
    if rerun_failed and ledger is None:
        raise InvalidRequestError("--rerun-failed is about the runs of an earlier time: name their --ledger, too")
    # Before the event loop runs, so that Ctrl-C ends a program that reads from a terminal or a slow pipe.
    rows = [] if inputs is None else read_rows(inputs, kind, key_column)
    requests = requests_of(notebook, rows, typed_choices(grid or []))
    fan = Fan(common, total=len(requests), outputs=outputs, at_once=max_in_flight, ledger=ledger)
    return _work(
        common,
        fan,
        notebook,
        requests,
        check=check,
        max_in_flight=max_in_flight,
        snapshot="blocks" if outputs else None,
        on_update=fan.hear,
        max_failures=max_failures,
        on_unknown=unknown,
        ledger=ledger,
        rerun=FAILURES if rerun_failed else (),
    )


async def _work(
    common: Common, fan: Fan, notebook: str, requests: list[tuple[str, RunRequest]], *, check: bool, **options: Any
) -> int:
    """Read the notebook and see the batch to its end, both within the one timeout."""
    clock, timeout = asyncio.get_running_loop().time, common.timeout
    began = clock()
    async with common.client(waits=True, limiter=fan.limiter) as client:
        plain = [request for _, request in requests]
        if check:
            reader = client if timeout is None else client.with_options(total_timeout=max(timeout, 0.001))
            plain = await checked(common, reader, notebook, requests)
        rest = None if timeout is None else max(timeout - (clock() - began), 0.0)
        return await fan.drive(client, client.run_many(plain, timeout=rest, **options))


run_many: Callable[..., Any] = with_common(_run_many)
run_many.__dict__["epilog"] = epilog("deepnote-async run-many NOTEBOOK --inputs params.csv --ledger nightly.sqlite")
