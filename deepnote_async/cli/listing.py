"""What projects, notebooks and runs have in common: to be listed, shown and deleted."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .exits import say
from .progress import noticed
from .render import columns_of, print_json, print_record, print_table

if TYPE_CHECKING:
    from ..pagination import AsyncPaginator
    from .common import Common

__all__ = ["Yes", "ask", "ask_to_delete", "print_deleted", "print_listed", "print_many", "print_one"]

T = TypeVar("T")
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


async def print_listed(
    common: Common,
    listed: AsyncPaginator[T],
    columns: Sequence[str],
    limit: int | None,
    record_of: Callable[[T], dict[str, Any]],
) -> None:
    """Print what a list gives: as it comes as JSON lines, when it is complete as a table."""
    records: list[dict[str, Any]] = []
    count = 0
    async with noticed(common, lambda: f"listing: {count} so far"), contextlib.aclosing(aiter(listed)) as items:
        async for item in items:
            count += 1
            if common.json:
                print_json(record_of(item))
            else:
                records.append(record_of(item))
            if count == limit:
                break
    if not common.json:
        print_many(common, records, columns)


def print_many(common: Common, records: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print some records, or for people that there are none."""
    if common.json:
        for record in records:
            print_json(record)
    elif records:
        print_table(columns_of(records, columns), records)
    else:
        say("None.")


def print_one(common: Common, record: dict[str, Any]) -> None:
    """Print one record."""
    (print_json if common.json else print_record)(record)


def ask_to_delete(kind: str, name: str, *, yes: bool) -> None:
    """Have a person confirm a deletion; where there is none, ``--yes`` does."""
    ask(f"Delete {kind} {name}, for ever?", f"to delete {kind} {name}", yes=yes)


def ask(question: str, to_do_it: str, *, yes: bool) -> None:
    """Have a person say yes, or end here; where there is no person to ask, ``--yes`` is what says it."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"say --yes {to_do_it}: there is no terminal to ask on")
    typer.confirm(question, abort=True, err=True)


def print_deleted(common: Common, name: str) -> None:
    """Say that it is done."""
    if common.json:
        print_json({"id": name, "deleted": True})
    else:
        say(f"Deleted {name}.")
