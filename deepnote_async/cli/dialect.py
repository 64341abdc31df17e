"""Which dialect a service speaks, told by its answers; and the rows of each kind in them, whatever their wrapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

from .recording import Exchange

__all__ = ["Dialect", "Trait", "dialect_of", "pagination_of", "rows_of", "traits_of"]

Dialect = Literal["live", "reference", "mixed", "unknown"]
Json: TypeAlias = dict[str, Any]

_LISTS: Final = {"projects": "projects", "runs": "runs"}
_ALONE: Final = {"Project": "project", "Notebook": "notebook", "Run": "run"}
_IN_NOTEBOOKS: Final = {"Block": "blocks", "Input": "inputs"}
_IN_LISTS: Final = {"Project in a list": "projects", "Run in a list": "runs"}


@attrs.frozen
class Trait:
    """One sign of a dialect."""

    what: str
    dialect: Literal["live", "reference"]


def _object(value: Any) -> Json | None:
    return value if isinstance(value, dict) else None


def _bodies(exchanges: Iterable[Exchange], label: str) -> Iterator[Json]:
    for exchange in exchanges:
        body = _object(exchange.body)
        if exchange.ok and body is not None and exchange.label.partition(",")[0] == label:
            yield body


def _objects(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def pagination_of(exchange: Exchange) -> Json | None:
    """A list's ``pagination``."""
    body = _object(exchange.body)
    if not exchange.ok or body is None or exchange.label.partition(",")[0] not in _LISTS:
        return None
    return _object(body.get("pagination"))


def rows_of(exchanges: Iterable[Exchange], name: str) -> list[Json]:
    """All objects of one kind of :data:`~deepnote_async.cli.expected.LIVE` that the answers hold."""
    exchanges = list(exchanges)
    if name == "Me":
        return list(_bodies(exchanges, "me"))
    if name == "Pagination":
        return [found for exchange in exchanges if (found := pagination_of(exchange)) is not None]
    if name in _IN_LISTS:
        key = _IN_LISTS[name]
        return [row for body in _bodies(exchanges, key) for row in _objects(body.get(key))]
    if name == "Notebook in a project":
        holders = rows_of(exchanges, "Project in a list") + rows_of(exchanges, "Project")
        return [row for holder in holders for row in _objects(holder.get("notebooks"))]
    if name in _IN_NOTEBOOKS:
        return [row for holder in rows_of(exchanges, "Notebook") for row in _objects(holder.get(_IN_NOTEBOOKS[name]))]
    key = _ALONE[name]
    return [inner if (inner := _object(body.get(key))) is not None else body for body in _bodies(exchanges, key)]


def traits_of(exchanges: Sequence[Exchange]) -> list[Trait]:
    """Every sign of a dialect, none twice."""
    return list(dict.fromkeys(_traits(exchanges)))


def _traits(exchanges: Sequence[Exchange]) -> Iterator[Trait]:
    for body in _bodies(exchanges, "project"):
        enveloped = _object(body.get("project")) is not None
        yield Trait("an enveloped project", "live") if enveloped else Trait("a bare project", "reference")
    for row in rows_of(exchanges, "Project in a list"):
        located = {"folder", "notebooks"} & row.keys()
        yield Trait("projects with notebooks", "live") if located else Trait("projects without notebooks", "reference")
    for pagination in rows_of(exchanges, "Pagination"):
        counted = {"hasMore", "pageSize"} & pagination.keys()
        yield Trait("hasMore", "live") if counted else Trait("no hasMore", "reference")
        if "nextPageToken" not in pagination:
            yield Trait("no token at a list's end", "reference")
        elif pagination["nextPageToken"] is None:
            yield Trait("a null token at a list's end", "live")
    for row in rows_of(exchanges, "Notebook"):
        yield Trait("blocks of a notebook", "live") if "blocks" in row else Trait("no blocks", "reference")
    for row in rows_of(exchanges, "Run in a list") + rows_of(exchanges, "Run"):
        if "completedAt" in row:
            yield Trait("completedAt", "live")
        if "finishedAt" in row:
            yield Trait("finishedAt", "reference")
    for row in rows_of(exchanges, "Run"):
        shown = any(field.startswith("snapshot") for field in row)
        yield Trait("snapshots", "live") if shown else Trait("no snapshots", "reference")


def dialect_of(traits: Iterable[Trait]) -> Dialect:
    """The dialect that all signs agree on."""
    spoken: set[Dialect] = {trait.dialect for trait in traits}
    if len(spoken) == 2:
        return "mixed"
    return spoken.pop() if spoken else "unknown"
