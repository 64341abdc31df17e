"""Inputs compared with the notebook before anything is started, and text made what its input blocks take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

from ..errors import InvalidRequestError
from .exits import say
from .progress import noticed

if TYPE_CHECKING:
    from ..client import DeepnoteClient
    from ..models import Notebook, NotebookInput
    from ..run_request import RunRequest
    from .common import Common

__all__ = ["Check", "checked", "fitted"]

Check = Annotated[
    bool, typer.Option("--check/--no-check", help="Read the notebook first, and compare the inputs with its own.")
]
WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


async def checked(
    common: Common, client: DeepnoteClient, notebook_id: str, requests: Sequence[tuple[str, RunRequest]]
) -> list[RunRequest]:
    """The requests as the notebook takes them, which is read once.

    Raises :class:`InvalidRequestError` for the first that it would not take, with where that comes from.
    """
    if not any(request.inputs for _, request in requests):
        return [request for _, request in requests]
    async with noticed(common, "reading the notebook's inputs"):
        notebook = await client.notebooks.get(notebook_id)
    if not notebook.inputs:
        if not common.quiet:
            say("The notebook tells of no inputs, so these are not checked.")
        return [request for _, request in requests]
    return [_checked(where, request, notebook) for where, request in requests]


def _checked(where: str, request: RunRequest, notebook: Notebook) -> RunRequest:
    declared = {item.name: item for item in notebook.inputs}
    given = request.inputs or {}
    inputs = {name: fitted(value, declared[name]) if name in declared else value for name, value in given.items()}
    try:
        return attrs.evolve(request, inputs=inputs or None).checked(notebook)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{where}: {error} (--no-check starts it all the same)") from None


def fitted(value: Any, declared: NotebookInput) -> Any:
    """Text, which is all a CSV and a command line have, as what an input block takes: a truth value, or a list."""
    if not isinstance(value, str):
        return value
    if declared.type == "input-checkbox":
        return WORDS.get(value.strip().lower(), value)
    is_list = bool(declared.multiple) or declared.type == "input-date-range"
    if is_list and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return [value] if declared.multiple else value
