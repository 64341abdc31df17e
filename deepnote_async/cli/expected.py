"""What answers are to look like: the reference definition's fields, the live service's, and those the client reads.

Tests hold the first against openapi.yaml, the last against the client's own readers and the second against the model
of the service. A type is text, number, boolean, list, object or null, or several of them; ``?`` marks a field
that may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from ..models import AccessLevel, ProjectType, RunStatus
from .dialect import Dialect
from .findings import safe_name

__all__ = ["CLIENT", "ENUMS", "LIVE", "NEEDED", "REFERENCE", "Comparison", "compare", "kind"]

Fields = Mapping[str, str]

REFERENCE: Final[Mapping[str, Fields]] = {
    "Run": {"runId": "text", "notebookId": "text", "status": "text", "createdAt": "text", "finishedAt": "text"},
    "Notebook": {"id": "text", "name": "text", "projectId": "text"},
    "Project": {"id": "text", "name": "text", "projectType": "text", "folderId": "text"},
    "Me": {"apiKey": "object", "user": "object", "workspace": "object", "accessLevel": "text"},
    "Pagination": {"nextPageToken": "text"},
    "Error": {"message": "text"},
}

_RUN: Final = {
    "runId": "text",
    "notebookId": "text",
    "status": "text",
    "createdAt": "text",
    "completedAt": "text null",
    "projectId": "?text",
}
_PROJECT: Final = {
    "id": "text",
    "name": "text",
    "projectType": "text",
    "createdAt": "text",
    "updatedAt": "text null",
    "folder": "object null",
    "notebooks": "list",
}
_LAST_RUN: Final = {
    "createdAt": "?text",
    "updatedAt": "?text null",
    "isInit": "?boolean",
    "isScheduled": "?boolean",
    "lastRunAt": "?text null",
}
LIVE: Final[Mapping[str, Fields]] = {
    "Run in a list": _RUN,
    "Run": _RUN
    | {
        "error": "text null object",
        "snapshotContent": "?text null",
        "snapshotDownloadUrl": "?text null",
        "snapshotStatus": "?text null",
        "snapshotBlocks": "?list null",
        "viewUrl": "?text null",
    },
    "Notebook": {"id": "text", "name": "text", "projectId": "text", "blocks": "list", "inputs": "?list"} | _LAST_RUN,
    "Input": {
        "name": "text",
        "type": "text",
        "value": "?text boolean list null",
        "label": "?text null",
        "blockId": "?text",
        "options": "?list null",
        "multiple": "?boolean null",
        "min": "?number text null",
        "max": "?number text null",
        "step": "?number text null",
    },
    "Block": {"id": "text", "type": "text", "content": "text null"},
    "Notebook in a project": {"id": "text", "name": "text"} | _LAST_RUN,
    "Project in a list": _PROJECT,
    "Project": _PROJECT | {"files": "?list", "integrations": "?list", "environment": "?object text null"},
    "Me": REFERENCE["Me"],
    "Pagination": {"pageSize": "number", "nextPageToken": "text null", "hasMore": "boolean"},
    "Error": {"message": "text", "error": "?text"},
}

# What the client's models have a place for; the rest is kept in `extra`.
CLIENT: Final[Mapping[str, frozenset[str]]] = {
    "Run": frozenset({"runId", "id", "notebookId", "status", "createdAt", "completedAt", "finishedAt", "error"})
    | {"snapshot", "snapshotStatus", "snapshotContent", "snapshotDownloadUrl", "snapshotBlocks"},
    "Notebook": frozenset({"id", "name", "projectId", "blocks", "inputs"}),
    "Project": frozenset(["id", "name", "projectType", "folderId", "createdAt", "updatedAt", "folder", "notebooks"]),
    "Input": frozenset({"name", "type", "value", "label", "options", "multiple", "min", "max", "step"}),
    "Block": frozenset(),
    "Me": frozenset({"apiKey", "user", "workspace", "accessLevel"}),
    "Pagination": frozenset({"nextPageToken", "hasMore"}),
    "Error": frozenset({"message", "error"}),
}
# Without which an answer cannot be read at all.
NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "Run": frozenset({"runId", "status"}),
    "Notebook": frozenset({"id"}),
    "Project": frozenset({"id"}),
    "Input": frozenset({"name"}),
}


def _values(of: type[str]) -> frozenset[str]:
    return frozenset(value for value in vars(of).values() if isinstance(value, of))


ENUMS: Final[Mapping[str, frozenset[str]]] = {
    "status": _values(RunStatus),
    "projectType": _values(ProjectType),
    "accessLevel": _values(AccessLevel),
    "snapshotStatus": frozenset({"pending", "available", "unavailable"}),
    "type": frozenset(
        f"input-{what}" for what in ("text", "textarea", "select", "slider", "checkbox", "date", "date-range", "file")
    ),
}

_KINDS: Final = {str: "text", bool: "boolean", int: "number", float: "number", list: "list", dict: "object"}


def kind(value: object) -> str:
    """The JSON type of a value."""
    return "null" if value is None else _KINDS.get(type(value), "other")


def schema_of(name: str) -> str:
    """The schema that a row follows: ``Run`` for a ``Run in a list``."""
    return name.partition(" ")[0]


@attrs.frozen
class Comparison:
    """Field names by what is the matter with them; of ``wrong`` and ``new`` the types, never a value."""

    rows: int
    new: Mapping[str, str]
    missing: frozenset[str]
    wrong: Mapping[str, str]
    beyond: frozenset[str]
    """Known, but not to openapi.yaml."""
    unread: frozenset[str]
    """Named by openapi.yaml and nowhere to be seen."""

    @property
    def as_expected(self) -> bool:
        """Whether nothing is the matter."""
        return not (self.new or self.missing or self.wrong)


def compare(name: str, rows: Iterable[Mapping[str, Any]], dialect: Dialect) -> Comparison:
    """Hold the rows of one kind against what is known of them in a dialect; in a mixed one whatever either has."""
    rows = list(rows)
    reference, spoken = REFERENCE.get(schema_of(name), {}), LIVE[name]
    seen: dict[str, set[str]] = {}
    for row in rows:
        for field, value in row.items():
            seen.setdefault(field, set()).add(kind(value))
    always = {field for field in seen if all(field in row for row in rows)}
    required = {field for field, types in spoken.items() if not types.startswith("?")} if dialect == "live" else set()
    required |= NEEDED.get(schema_of(name), frozenset())
    if schema_of(name) == "Run" and "id" in always:
        required.discard("runId")
    allowed = {field: _allowed(field, reference, spoken, dialect) for field in reference.keys() | spoken.keys()}
    return Comparison(
        rows=len(rows),
        new={safe_name(field): _types(seen[field]) for field in seen.keys() - allowed.keys()},
        missing=frozenset(required - always),
        wrong={
            field: f"{_types(seen[field])} where {' or '.join(sorted(allowed[field]))} belongs"
            for field in seen.keys() & allowed.keys()
            if not seen[field] <= allowed[field]
        },
        beyond=frozenset((seen.keys() & allowed.keys()) - reference.keys()),
        unread=frozenset(reference.keys() - seen.keys()),
    )


def _allowed(field: str, reference: Fields, spoken: Fields, dialect: Dialect) -> set[str]:
    """The types a field may have: by its own dialect where that names it, else by any."""
    own = {"live": spoken.get(field), "reference": reference.get(field)}.get(dialect)
    types = own if own is not None else f"{spoken.get(field, '')} {reference.get(field, '')}"
    return set(types.removeprefix("?").split())


def _types(types: Iterable[str]) -> str:
    return "/".join(sorted(types))
