"""``deepnote-async ledger``: what a batch's ledger holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..ledger import Ledger, LedgerEntry, LedgerSummary
from .common import Common, command
from .lazy import PLAIN
from .render import print_json

__all__ = ["app"]

app: typer.Typer = typer.Typer(no_args_is_help=True, **PLAIN)

COUNTS: Final = ("planned", "starting", "started", "unknown", "succeeded", "failed", "earlier")
File = Annotated[Path, typer.Argument(help="The ledger.", show_default=False)]


@app.callback()
def about() -> None:
    """Look into a batch's ledger; this changes nothing, and a batch may be writing it."""


@command(app, "show", "deepnote-async ledger show nightly.sqlite")
async def show(common: Common, file: File) -> None:
    """Print how many requests stand where.

    The runs that may still go on and the failures are named.
    """
    summary, open_ones, failures = await _read(Ledger.open(file))
    if common.json:
        print_json(_as_json(summary, open_ones, failures))
        return
    for name in COUNTS:
        typer.echo(f"{name:<9} {getattr(summary, name):>7}")
    _list("open", open_ones)
    _list("failures", failures)


async def _read(ledger: Ledger) -> tuple[LedgerSummary, list[LedgerEntry], list[LedgerEntry]]:
    last: dict[str, LedgerEntry] = {}
    async for entry in ledger:
        # Of each request its last attempt, which comes after the others.
        last.pop(entry.key, None)
        if entry.is_open or entry.has_failed:
            last[entry.key] = entry
    return (
        await ledger.summary(),
        [entry for entry in last.values() if entry.is_open],
        [entry for entry in last.values() if entry.has_failed],
    )


def _list(heading: str, entries: list[LedgerEntry]) -> None:
    if entries:
        typer.echo(f"\n{heading}:")
    for entry in entries:
        words = (entry.key, entry.run_id, f"{entry.state}/{entry.status or '-'}", entry.error)
        typer.echo("  " + "  ".join(word for word in words if word is not None))


def _as_json(summary: LedgerSummary, open_ones: list[LedgerEntry], failures: list[LedgerEntry]) -> dict[str, Any]:
    counts = {name: getattr(summary, name) for name in COUNTS}
    return {"counts": counts, "open": list(map(_plain, open_ones)), "failures": list(map(_plain, failures))}


def _plain(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "attempt": entry.attempt,
        "state": entry.state,
        "notebook_id": entry.notebook_id,
        "run_id": entry.run_id,
        "status": entry.status,
        "created_at": None if entry.created_at is None else entry.created_at.isoformat(),
        "finished_at": None if entry.finished_at is None else entry.finished_at.isoformat(),
        "window": None if entry.window is None else [each.isoformat() for each in entry.window],
        "error": entry.error,
    }
