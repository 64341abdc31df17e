"""What a run leaves behind: Jupyter outputs by block, and the snapshot document as YAML."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .outputs import error, printed

if TYPE_CHECKING:
    from .state import Block, NotebookState, RunState

__all__ = ["blocks", "document", "timestamp"]

_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


@functools.lru_cache(maxsize=2**16)  # a run is listed many times
def timestamp(at: float) -> str:
    """A time as the service writes it: UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def blocks(notebook: NotebookState | None, run: RunState) -> list[dict[str, Any]]:
    """The executed blocks with their outputs and no source."""
    executed = _executed(notebook, run)
    return [
        {"id": block.id, "type": block.type, "outputs": _outputs(run, last=block is executed[-1]), "metadata": {}}
        for block in executed
    ]


def document(notebook: NotebookState | None, run: RunState) -> str:
    """The text of the ``.snapshot.deepnote`` document of a run that has ended."""
    return "".join(f"{line}\n" for line in _lines(_tree(notebook, run)))


def _executed(notebook: NotebookState | None, run: RunState) -> list[Block]:
    every = [block for block in notebook.blocks if block.executable] if notebook is not None else []
    if run.block_ids is None:
        return every
    by_id = {block.id: block for block in every}
    return [by_id[key] for key in run.block_ids if key in by_id]


def _outputs(run: RunState, *, last: bool) -> list[Mapping[str, Any]]:
    if not last:
        return []
    failed = run.final != "success"
    outputs = run.outputs
    if outputs is None:
        outputs = [] if failed else [f"inputs: {json.dumps(dict(run.inputs), sort_keys=True)}\n"]
    made = [printed(item) if isinstance(item, str) else item for item in outputs]
    if failed and not any(item.get("output_type") == "error" for item in made):
        made.append(error(run.error) if run.error else error())
    return made


def _tree(notebook: NotebookState | None, run: RunState) -> dict[str, Any]:
    ended = run.ends_at
    rows = [
        {
            "id": row["id"],
            "type": row["type"],
            "content": block.content or "",
            "executionStartedAt": timestamp(run.starts_at),
            "executionFinishedAt": timestamp(ended),
            "outputs": row["outputs"],
        }
        for row, block in zip(blocks(notebook, run), _executed(notebook, run), strict=True)
    ]
    page = {"id": run.notebook_id, "name": notebook.name if notebook else "", "blocks": rows}
    return {
        "metadata": {"createdAt": timestamp(run.created_at), "snapshotHash": run.id.replace("-", "")},
        "execution": {"triggeredBy": "api", "startedAt": timestamp(run.starts_at), "finishedAt": timestamp(ended)},
        "version": "1.0.0",
        "project": {"id": notebook.project_id if notebook else "", "name": "Project", "notebooks": [page]},
    }


def _key(key: str) -> str:
    return key if key.isascii() and key.isidentifier() and key.lower() not in _YAML_WORDS else _scalar(key)


def _scalar(value: Any) -> str:
    # YAML takes JSON's escapes but for pairs of surrogates, and folds some characters that JSON leaves alone.
    return re.sub(r"[^ -~]", _escaped, json.dumps(value, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _lines(node: Any) -> list[str]:
    """Block-style YAML; a scalar is written as JSON."""
    if isinstance(node, Mapping) and node:
        return [line for key, value in node.items() for line in _entry(f"{_key(key)}:", value)]
    if isinstance(node, Sequence) and not isinstance(node, str) and node:
        return [line for item in node for line in _item(_lines(item))]
    return [_scalar(node)]


def _entry(head: str, value: Any) -> list[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        return [head, *(f"  {line}" for line in _lines(value))]
    return [f"{head} {_scalar(value)}"]


def _item(lines: Sequence[str]) -> list[str]:
    return [f"- {lines[0]}", *(f"  {line}" for line in lines[1:])]
