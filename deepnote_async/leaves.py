"""What a model's fields hold: text, ids, times, statuses.

Each reader takes the value and, for cattrs, a type it does not need; it raises :class:`UnreadableError` for a value
that is not what its place asks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .models import NOTHING_EXTRA, AccessLevel, ProjectType, RunStatus
from .outgoing import is_segment

__all__ = [
    "UnreadableError",
    "access_level",
    "array",
    "as_it_is",
    "blocks",
    "blocks_or_none",
    "first_status",
    "first_time",
    "flag",
    "identifier",
    "identifier_or_none",
    "json_object",
    "mapping",
    "mapping_or_none",
    "objects",
    "project_type",
    "run_error",
    "status",
    "text",
    "time",
]


class UnreadableError(ValueError):
    """A value that is not what its place asks for."""


def text(value: Any, _: Any = None) -> str | None:
    """Text, or nothing."""
    if value is None or type(value) is str:
        return value
    raise UnreadableError(f"{type(value).__name__} where text belongs")


# Ids are most of what is read of a page; nearly all of them pass without the call of is_segment.


def identifier(value: Any, _: Any = None) -> str:
    """An id, which must be there."""
    if type(value) is str and ((len(value) > 2 and value.isascii()) or is_segment(value)):
        return value
    raise UnreadableError("no id")


def identifier_or_none(value: Any, _: Any = None) -> str | None:
    """An id that may be left out; one that no path could lead to says as little as none."""
    if type(value) is str and ((len(value) > 2 and value.isascii()) or is_segment(value)):
        return value
    return None


def time(value: Any, _: Any = None) -> datetime | None:
    """An ISO 8601 time as an aware UTC datetime; without a zone it is taken for UTC."""
    if not value:
        return None
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is UTC:
            return at
        return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise UnreadableError("no ISO 8601 time") from None


def flag(value: Any, _: Any = None) -> bool | None:
    """A boolean, or nothing."""
    if value is None or type(value) is bool:
        return value
    raise UnreadableError(f"{type(value).__name__} where a boolean belongs")


def array(value: Any, _: Any = None) -> list[Any] | None:
    """A list, or nothing."""
    if value is None or type(value) is list:
        return value
    raise UnreadableError(f"{type(value).__name__} where a list belongs")


def mapping(value: Any, _: Any = None) -> Mapping[str, Any]:
    """An object, empty where there is none."""
    return NOTHING_EXTRA if value is None else json_object(value)


def mapping_or_none(value: Any, _: Any = None) -> Mapping[str, Any] | None:
    """An object, or nothing."""
    return None if value is None else json_object(value)


def as_it_is(value: Any, _: Any = None) -> Any:
    """Any value."""
    return value


def json_object(value: Any) -> dict[str, Any]:
    """An object, which must be there."""
    if type(value) is dict:
        return value
    raise UnreadableError(f"{type(value).__name__} where an object belongs")


def objects(value: Any) -> list[dict[str, Any]]:
    """A list of objects, empty where there is none."""
    return [json_object(item) for item in array(value) or ()]


_STATUSES: Final = {
    str(status): status
    for status in (
        RunStatus.PENDING,
        RunStatus.RUNNING,
        RunStatus.SUCCESS,
        RunStatus.ERROR,
        RunStatus.INTERNAL_ERROR,
        RunStatus.STOPPED,
    )
}


def status(value: Any, _: Any = None) -> RunStatus:
    """A run's status, which must be there; one that is not known is kept."""
    try:
        return _STATUSES[value]
    except (KeyError, TypeError):
        if type(value) is str and value:
            return RunStatus(value)
    raise UnreadableError("no status")


def first_status(value: Any, _: Any = None) -> RunStatus:
    """The status in a receipt: that of a start accepted a moment ago where none is told."""
    # A receipt with an id tells of a start that happened, whatever else is wrong with it.
    return status(value) if type(value) is str and value else RunStatus.PENDING


def first_time(value: Any, _: Any = None) -> datetime | None:
    """The time in a receipt, nothing where it cannot be read."""
    try:
        return time(value)
    except UnreadableError:
        return None


def project_type(value: Any, _: Any = None) -> ProjectType | None:
    """A project's type; one that is not known is kept."""
    given = text(value)
    return None if given is None else ProjectType(given)


def access_level(value: Any, _: Any = None) -> AccessLevel | None:
    """What a key may do; a level that is not known is kept."""
    given = text(value)
    return None if given is None else AccessLevel(given)


def run_error(value: Any, _: Any = None) -> str | None:
    """Text, or an object with a message: both have been seen."""
    if type(value) is dict:
        value = value.get("message") or value.get("error") or json.dumps(value)
    return text(value)


def blocks(value: Any, _: Any = None) -> list[Mapping[str, Any]]:
    """A notebook's blocks, as they are."""
    return list(objects(value))


def blocks_or_none(value: Any, _: Any = None) -> list[Mapping[str, Any]] | None:
    """A snapshot's blocks, or nothing."""
    return None if value is None else blocks(value)
