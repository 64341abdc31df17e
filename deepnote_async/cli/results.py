"""The results of a batch as they are printed: a line of JSON each, or a table that fits the screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from .exits import PROGRAM, line_of
from .outputs import reason_of, text_of
from .render import cell, columns_of, jsonable

if TYPE_CHECKING:
    from ..models import Run
    from ..waiting.results import RunResult

__all__ = ["left_record", "print_results", "record_of"]

COLUMNS: Final = ("index", "key", "inputs", "run_id", "status", "duration", "text", "error")
LONG: Final = {"key", "inputs", "text", "error"}  # cut to what there is room for; an id that is cut is of no use
BETWEEN: Final = 3  # characters between two columns
LEAST: Final = 8  # characters of a column that is cut
NARROW: Final = 120  # characters, below which an id of 36 leaves too little for the rest


def record_of(result: RunResult, *, outputs: bool) -> dict[str, Any]:
    """What became of one request."""
    run = result.run
    record = {
        "index": result.index,
        "key": result.key,
        "inputs": jsonable(result.request.inputs or {}),
        "run_id": result.run_id,
        "status": None if run is None else str(run.status),
        "ok": result.ok,
        "created_at": None if run is None else jsonable(run.created_at),
        "finished_at": None if run is None else jsonable(run.finished_at),
        "duration": None if run is None else jsonable(run.duration),
        "error": _error(result, outputs=outputs),
    }
    return record | ({"text": None if run is None else text_of(run)} if outputs else {})


def left_record(result: RunResult, *, outputs: bool) -> dict[str, Any]:
    """A request whose end was not awaited."""
    record = record_of(result, outputs=outputs)
    if result.error is None:
        record["error"] = f"left as it went on: take it up again with `{PROGRAM} runs wait {result.run_id}`"
    return record


def _error(result: RunResult, *, outputs: bool) -> str | None:
    if result.error is not None:
        return line_of(result.error)
    if result.run is None:
        return None
    return reason_of(result.run) or (None if outputs else _where_the_reason_is(result.run))


def _where_the_reason_is(run: Run) -> str | None:
    """The service seldom says why a run failed: its outputs do, which were not read."""
    failed = run.is_terminal and not run.succeeded and str(run.status) != "stopped"
    return f"`{PROGRAM} runs outputs {run.run_id}` tells why" if failed else None


def print_results(records: Sequence[Mapping[str, Any]]) -> None:
    """A line each, however long what it says; where nothing bounds it, all of it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=10_000)
    columns = columns_of(records, COLUMNS)
    narrow = console.width < NARROW and "run_id" in columns
    if narrow:
        columns.remove("run_id")
    rows = [[Text("") + _cell(record.get(column), column) for column in columns] for record in records]
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column, width in zip(columns, _widths(columns, rows, console.width), strict=True):
        table.add_column(column.replace("_", " "), overflow="ellipsis", no_wrap=True, width=width)
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
    # An id is for asking on: of runs that are well there is nothing to ask.
    for record in records if narrow else ():
        if record["run_id"] is not None and not record["ok"]:
            console.print(f"{record['index']}: run {record['run_id']}", markup=False)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[Any]], room: int) -> list[int]:
    """How wide each column is. rich, left to it, would cut the ids as well."""
    wanted = [max(len(name), *(row[at].cell_len for row in rows)) for at, name in enumerate(columns)]
    room -= BETWEEN * (len(columns) - 1) + sum(
        width for name, width in zip(columns, wanted, strict=True) if name not in LONG
    )
    long = sorted((at for at, name in enumerate(columns) if name in LONG), key=wanted.__getitem__)
    for number, at in enumerate(long):
        # The shortest first: what it leaves of its share is for the longer ones.
        wanted[at] = min(wanted[at], max(room // (len(long) - number), LEAST))
        room -= wanted[at]
    return wanted


def _cell(value: Any, column: str) -> Any:
    if column == "inputs":
        value = " ".join(f"{name}={_word(each)}" for name, each in value.items())
    return cell(" ".join(value.split()) if column in LONG and isinstance(value, str) else value, column)


def _word(value: Any) -> str:
    """A value as one word."""
    plain = isinstance(value, str) and value and not any(letter.isspace() for letter in value)
    return value if plain else json.dumps(value, ensure_ascii=False)
