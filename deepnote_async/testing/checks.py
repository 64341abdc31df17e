"""What the service refuses in a body: types in both dialects, meaning in the live one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from .replies import RefusedError

if TYPE_CHECKING:
    from .state import NotebookState

__all__ = ["Start", "check_inputs", "check_start", "one_of", "text"]


@attrs.frozen
class Start:
    """A well-formed request to start a run."""

    notebook_id: str
    inputs: Mapping[str, Any]
    block_ids: Sequence[str] | None
    detached: bool


def text(body: Mapping[str, Any], key: str, *, required: bool = False) -> str | None:
    """A text of the body, None if it is absent."""
    if key not in body and not required:
        return None
    value = body.get(key)
    if not isinstance(value, str):
        raise RefusedError(400, f"{key} must be a string" if key in body else f"{key} is required")
    return value


def one_of(body: Mapping[str, Any], key: str, choices: Sequence[str]) -> str | None:
    """A text of the body out of some choices."""
    value = text(body, key)
    if value is not None and value not in choices:
        raise RefusedError(400, f"{key} is not one of " + ", ".join(choices))
    return value


def _flag(body: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise RefusedError(400, f"{key} must be a boolean")
    return value


def check_start(body: Mapping[str, Any], *, strict: bool) -> Start:
    """The start that a body asks for."""
    one_of(body, "detachedRunStorageMode", ("read_write", "readonly"))
    _flag(body, "runDependentBlocks", default=False)
    inputs = body.get("inputs", {})
    if not isinstance(inputs, Mapping):
        raise RefusedError(400, "inputs must be an object")
    start = Start(
        notebook_id=text(body, "notebookId", required=True) or "",
        inputs=inputs,
        block_ids=_block_ids(body, strict=strict),
        detached=_flag(body, "detached", default=True),
    )
    if strict and start.block_ids is not None and start.detached:
        raise RefusedError(400, "blockIds is not supported for detached runs")
    return start


def _block_ids(body: Mapping[str, Any], *, strict: bool) -> list[str] | None:
    if "blockIds" not in body:
        return None
    ids = body["blockIds"]
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise RefusedError(400, "blockIds must be a list of strings")
    if strict and (not ids or len(set(ids)) != len(ids)):
        raise RefusedError(400, "blockIds must be unique and not empty")
    return ids


def check_inputs(start: Start, notebook: NotebookState) -> None:
    """Refuse values and names of inputs, and blocks, that the notebook does not take."""
    declared = None if notebook.inputs is None else {item.name for item in notebook.inputs}
    for name, value in start.inputs.items():
        if not _is_input(value):
            raise RefusedError(400, f'Invalid input "{name}": expected a string, a boolean or a list of strings')
        if declared is not None and name not in declared:
            raise RefusedError(400, f'Input "{name}" is not defined for this notebook')
    known = {block.id for block in notebook.blocks}
    if not known.issuperset(start.block_ids or ()):
        raise RefusedError(400, "Block not found in notebook")


def _is_input(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, str | bool)
