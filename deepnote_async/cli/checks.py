"""Inputs checked against the notebook before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..client import DeepnoteClient
    from ..run_request import RunRequest

__all__ = ["Check", "checked"]

Check = Annotated[
    bool, typer.Option("--check/--no-check", help="Compare the inputs with the notebook's before the start.")
]


async def checked(
    client: DeepnoteClient, notebook: str, requests: Sequence[tuple[str, RunRequest]]
) -> list[RunRequest]:
    """Read."""
    return [request for _, request in requests]
