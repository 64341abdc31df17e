"""Which operation a raw path names. An id is one segment, decoded only after the path was split."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Route", "find"]


@attrs.frozen
class Route:
    """The operations of one path by method, and the ids in it."""

    methods: Mapping[str, str]
    ids: tuple[str, ...]


_PATHS: Mapping[str, Mapping[str, str]] = {
    "v2/me": {"GET": "get_me"},
    "v2/projects": {"GET": "list_projects", "POST": "create_project"},
    "v2/projects/*": {"GET": "get_project", "DELETE": "delete_project"},
    "v2/notebooks": {"POST": "create_notebook"},
    "v2/notebooks/*": {"GET": "get_notebook", "DELETE": "delete_notebook"},
    "v2/notebooks/*/runs": {"GET": "list_runs"},
    "v2/runs": {"POST": "create_run"},
    "v2/runs/*": {"GET": "get_run"},
    "v1/projects/*/notebooks/*/execute": {"POST": "execute_v1"},
}
_SHAPES = [(tuple(path.split("/")), methods) for path, methods in _PATHS.items()]


def find(raw_path: str) -> Route | None:
    """The route of a raw path, None if there is none; an empty id names nothing."""
    parts = raw_path.split("/")[1:]
    for shape, methods in _SHAPES:
        if len(shape) == len(parts) and all(want in ("*", got) for want, got in zip(shape, parts, strict=True)):
            ids = tuple(unquote(got) for want, got in zip(shape, parts, strict=True) if want == "*")
            return Route(methods, ids) if all(ids) else None
    return None
