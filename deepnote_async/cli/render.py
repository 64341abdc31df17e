"""What is printed on stdout: JSON lines for programs, tables for people."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

    from ..models import Run

__all__ = [
    "RUN_COLUMNS",
    "cell",
    "columns_of",
    "console",
    "harmless",
    "jsonable",
    "print_json",
    "print_record",
    "print_table",
    "run_record",
    "seconds",
]

SECRETS: Final = {"snapshot_download_url", "snapshot_content", "snapshot_blocks"}  # links, and what is printed apart
COLOURS: Final = {"success": "green", "error": "red", "internal_error": "red", "stopped": "yellow"}
# All that a terminal obeys; a colour stands in a group, for it may stay. A cut sequence loses the ESC that begins it.
CONTROLS: Final = re.compile(
    r"(\x1b\[[0-9;]*m)"
    r"|\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
RUN_COLUMNS: Final = ("run_id", "status", "created_at", "duration", "error")


def jsonable(value: Any) -> Any:
    """A model, or what it holds, as JSON takes it: the wire's names in snake_case, times as ISO 8601."""
    import attrs

    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    if isinstance(value, str | int | float | bool | None):
        return value
    if attrs.has(type(value)):
        found = {each.name: jsonable(getattr(value, each.name)) for each in attrs.fields(type(value))}
        extra = found.pop("extra", None)
        return {name: item for name, item in found.items() if name not in SECRETS} | ({"extra": extra} if extra else {})
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    return [jsonable(item) for item in value] if isinstance(value, Iterable) else str(value)


def run_record(run: Run) -> dict[str, Any]:
    """A run, with its duration in seconds."""
    return {**jsonable(run), "duration": jsonable(run.duration)}


def print_json(record: Any) -> None:
    """One line, at once, for a program may be waiting for it."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(record, ensure_ascii=plain) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], records: Iterable[Mapping[str, Any]], *, verbatim: bool = False) -> None:
    """A table for people, as wide as it needs to be where no terminal bounds it.

    ``verbatim`` are names of columns, and values, that mean nothing to this program.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        # An id that is cut is of no use.
        name = Text(harmless(column, colours=False) if verbatim else column.replace("_", " "))
        table.add_column(name, overflow="fold", no_wrap=column == "id" or column.endswith("_id"))
    for record in records:
        table.add_row(*(cell(record.get(column), "" if verbatim else column) for column in columns))
    _print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """One thing for people: a name and a value on each line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in record.items():
        if value not in (None, "", [], {}):
            table.add_row(Text(harmless(name, colours=False).replace("_", " ")), cell(value, name))
    _print(table)


def _print(table: Any) -> None:
    drawn = console(highlight=False) if sys.stdout.isatty() else console(highlight=False, width=10_000)
    drawn.print(table, markup=False)


def console(**options: Any) -> Console:
    """A console on stdout that raises :class:`BrokenPipeError` for a reader who has gone, where rich's own exits."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, "nobody reads any more")

    return Plain(**options)


def harmless(text: str, *, colours: bool = True) -> str:
    """Text of others without what a terminal would obey: it may colour its words, but not clear the screen."""
    kept = CONTROLS.sub(r"\1" if colours else "", text)
    return f"{kept}\x1b[0m" if "\x1b" in kept else kept


def cell(value: Any, column: str = "") -> Any:
    """A value as it stands in a table, which may depend on the column's name."""
    from rich.text import Text

    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return seconds(value) if column == "duration" else f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if column.endswith("_at") and isinstance(value, str):
        return f"{value[:10]} {value[11:19]} UTC"
    return Text(harmless(text, colours=False), style=COLOURS.get(text, "") if column == "status" else "")


def columns_of(records: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[str]:
    """Those of the columns wanted that say something."""
    return [name for name in wanted if any(record.get(name) is not None for record in records)]


def seconds(value: float) -> str:
    """A length of time for people: ``8.3 s``, ``4 min 05 s``, ``2 h 10 min``."""
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
