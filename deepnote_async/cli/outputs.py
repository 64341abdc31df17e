"""What a run has put out, printed and saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .render import print_json, run_record

if TYPE_CHECKING:
    from ..models import Run
    from .common import Common

__all__ = ["Save", "print_run", "save_outputs", "text_of"]

Save = Annotated[
    Path | None,
    typer.Option("--save", metavar="DIR", help="Put images and tables into this folder.", show_default=False),
]


def text_of(run: Run) -> str:
    """Everything that is text."""
    found = []
    for block in run.snapshot_blocks or ():
        for output in block.get("outputs") or ():
            found.append(str(output.get("text", "")))
    return "".join(found)


def print_run(common: Common, run: Run) -> None:
    """Print a run with its outputs."""
    if common.json:
        print_json(run_record(run) | {"text": text_of(run)})


def save_outputs(run: Run, folder: Path | None) -> None:
    """Save."""
