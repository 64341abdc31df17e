"""JSON to models, in both dialects of the service.

The reference definition and the live service differ in envelopes, in the name of a run's end time and in what they
leave out; a decoder takes whichever it is given. What the service sends beyond is kept in ``extra``; a missing id is a
:class:`DecodeError`, never a KeyError.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Callable, Collection
from typing import Any, Final, Generic, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from .errors import DecodeError
from .leaves import (
    UnreadableError,
    access_level,
    array,
    as_it_is,
    blocks,
    blocks_or_none,
    first_status,
    first_time,
    flag,
    identifier,
    identifier_or_none,
    json_object,
    mapping,
    mapping_or_none,
    objects,
    project_type,
    run_error,
    status,
    text,
    time,
)
from .models import (
    NOTHING_EXTRA,
    Me,
    Notebook,
    NotebookInput,
    Project,
    Run,
    RunStarted,
)

__all__ = [
    "anything",
    "decode",
    "nothing",
    "read_me",
    "read_notebook",
    "read_project",
    "read_projects",
    "read_run",
    "read_run_started",
    "read_runs",
    "readable",
    "redact",
]

try:  # the extra `speed`; by name, so that types need not know whether it is there
    _read_json = importlib.import_module("orjson").loads
except ImportError:
    _read_json = json.JSONDecoder().decode


def _loads(body: bytes) -> Any:
    """JSON in UTF-8; what else json.loads takes (a byte order mark, UTF-16, lone surrogates, NaN) is left to it."""
    try:
        return _read_json(body.decode())
    except ValueError:
        return json.loads(body)


T = TypeVar("T")
Decoder = Callable[[Any], T]


# Dialects: what differs between the reference definition and the live service is made one here.


def _own_names(data: dict[str, Any]) -> dict[str, Any]:
    """A receipt's fields under the names that this room reads."""
    data = dict(data)
    if "runId" not in data and "id" in data:
        data["runId"] = data.pop("id")
    return data


def _own_names_of_run(data: dict[str, Any]) -> dict[str, Any]:
    """A run's."""
    data = _own_names(data)
    if "finishedAt" in data:
        finished = data.pop("finishedAt")
        data["completedAt"] = data.get("completedAt") or finished
    if type(data.get("snapshot")) is dict:
        _flatten_snapshot(data)
    return data


def _flatten_snapshot(data: dict[str, Any]) -> None:
    """Some deployments nest the snapshot; left in ``extra`` its link would no longer be a secret."""
    nested = dict(data.pop("snapshot"))
    link = nested.pop("downloadUrl", None)
    nested.setdefault("snapshotDownloadUrl", link)
    for name in ("snapshotContent", "snapshotDownloadUrl", "snapshotStatus", "snapshotBlocks"):
        data[name] = data.get(name) or nested.pop(name, None)


# Branches. cattrs writes one straight-line function for each class from the names of its fields on the wire.

_converter: Final = cattrs.Converter(detailed_validation=False)


def _field(name: str, leaf: Callable[..., Any]) -> Any:
    return override(rename=name, struct_hook=leaf)


class _Reader(Generic[T]):
    """Reads objects of one class; ``translate`` puts what comes under names that are not the class's where it belongs.

    The fields of the class that have no default must be there, and those that are ``required``. What reads them is
    generated when first needed: done for all classes it was a ninth of our part of the import.
    """

    def __init__(
        self,
        cls: type[T],
        translate: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        required: Collection[str] = (),
        **fields: Any,
    ) -> None:
        self._cls = cls
        self._translate = translate
        self._required = required
        self._fields = fields
        self._known: frozenset[str] = frozenset(field.rename for field in fields.values())

    @functools.cached_property
    def _generated(self) -> Callable[[dict[str, Any], Any], Any]:
        fields = self._fields | {"extra": override(omit=True)}
        open_cls = _open_twin(self._cls, self._required)
        return make_dict_structure_fn(open_cls, _converter, _cattrs_detailed_validation=False, **fields)

    def one(self, data: dict[str, Any]) -> T:
        """Read one object."""
        cls, known = self._cls, self._known
        if known.issuperset(data):
            made = self._generated(data, cls)
        else:
            data = self._translate(data)
            made = self._generated(data, cls)
            made.extra = {key: value for key, value in data.items() if key not in known} or NOTHING_EXTRA
        made.__class__ = cls
        instance: T = made
        return instance

    def many(self, items: list[dict[str, Any]]) -> list[T]:
        """Read several."""
        # Asked once for all of them, whose keys are mostly the same objects, it costs a tenth.
        if not self._known.issuperset(set().union(*items)):
            return [self.one(item) for item in items]
        cls, generated = self._cls, self._generated
        made = [generated(item, cls) for item in items]
        for each in made:
            each.__class__ = cls
        return made


def _open_twin(cls: type[Any], required: Collection[str]) -> type[Any]:
    """A subclass of a frozen class that is not frozen.

    A frozen class sets each slot of a new instance through ``object.__setattr__``, which makes it three times as dear
    and a page of runs a fifth. So instances are made as the twin's and become the frozen class's own.
    """
    defaults = {field.name: attrs.NOTHING if field.name in required else field.default for field in attrs.fields(cls)}
    fields = {name: attrs.field(default=default) for name, default in defaults.items()}
    filler: Any = attrs.make_class(cls.__name__, fields, kw_only=True, repr=False, eq=False)
    own = {"__slots__": (), "__attrs_attrs__": filler.__attrs_attrs__, "__init__": filler.__init__}
    return type(cls.__name__, (cls,), own | {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__})


_run: Final = _Reader(
    Run,
    _own_names_of_run,
    ("status",),  # taken for one that goes on, a run without would be awaited for ever
    run_id=_field("runId", identifier),
    notebook_id=_field("notebookId", identifier_or_none),
    status=_field("status", status),
    created_at=_field("createdAt", time),
    finished_at=_field("completedAt", time),
    error=_field("error", run_error),
    snapshot_status=_field("snapshotStatus", text),
    snapshot_content=_field("snapshotContent", text),
    snapshot_download_url=_field("snapshotDownloadUrl", text),
    snapshot_blocks=_field("snapshotBlocks", blocks_or_none),
)


_run_started: Final = _Reader(
    RunStarted,
    _own_names,
    run_id=_field("runId", identifier),
    status=_field("status", first_status),
    created_at=_field("createdAt", first_time),
    notebook_id=_field("notebookId", identifier_or_none),
)


_input: Final = _Reader(
    NotebookInput,
    name=_field("name", identifier),
    type=_field("type", text),
    value=_field("value", as_it_is),
    label=_field("label", text),
    options=_field("options", array),
    multiple=_field("multiple", flag),
    min=_field("min", as_it_is),
    max=_field("max", as_it_is),
    step=_field("step", as_it_is),
)


def _inputs(value: Any, _: Any = None) -> list[NotebookInput]:
    return _input.many(objects(value))


_notebook: Final = _Reader(
    Notebook,
    id=_field("id", identifier),
    name=_field("name", text),
    project_id=_field("projectId", text),
    blocks=_field("blocks", blocks),
    inputs=_field("inputs", _inputs),
)


def _notebooks(value: Any, _: Any = None) -> list[Notebook]:
    return _notebook.many(objects(value))


_project: Final = _Reader(
    Project,
    id=_field("id", identifier),
    name=_field("name", text),
    project_type=_field("projectType", project_type),
    folder_id=_field("folderId", text),
    created_at=_field("createdAt", time),
    updated_at=_field("updatedAt", time),
    folder=_field("folder", mapping_or_none),
    notebooks=_field("notebooks", _notebooks),
)


_me: Final = _Reader(
    Me,
    api_key=_field("apiKey", mapping),
    user=_field("user", mapping),
    workspace=_field("workspace", mapping),
    access_level=_field("accessLevel", access_level),
)


def _unwrap(data: Any, envelope: str) -> dict[str, Any]:
    data = json_object(data)
    inner = data.get(envelope)
    return inner if type(inner) is dict else data


def read_run(data: Any) -> Run:
    """A run, in its envelope or bare."""
    return _run.one(_unwrap(data, "run"))


def read_run_started(data: Any) -> RunStarted:
    """The receipt of a start, bare or in an envelope."""
    return _run_started.one(_unwrap(data, "run"))


def read_notebook(data: Any) -> Notebook:
    """A notebook, in its envelope or bare."""
    return _notebook.one(_unwrap(data, "notebook"))


def read_project(data: Any) -> Project:
    """A project, in its envelope (live) or bare (reference)."""
    return _project.one(_unwrap(data, "project"))


def read_me(data: Any) -> Me:
    """The owner of the key."""
    return _me.one(json_object(data))


def read_runs(data: Any) -> tuple[list[Run], str | None]:
    """A page of runs and the next page's token."""
    return _run.many(_items(data, "runs")), _next_token(data)


def read_projects(data: Any) -> tuple[list[Project], str | None]:
    """A page of projects and the next page's token."""
    return _project.many(_items(data, "projects")), _next_token(data)


def _items(data: Any, name: str) -> list[dict[str, Any]]:
    data = json_object(data)
    if name not in data:
        raise UnreadableError(f"no {name!r}")
    items: list[dict[str, Any]] = data[name]
    if type(items) is list and {*map(type, items)} <= {dict}:
        return items
    raise UnreadableError(f"{name!r} is no list of objects")


def _next_token(data: dict[str, Any]) -> str | None:
    """Null, absent and empty all end a list, and so does ``hasMore: false``."""
    pagination = mapping(data.get("pagination"))
    if pagination.get("hasMore") is False:
        return None
    return text(pagination.get("nextPageToken")) or None


def decode(reader: Decoder[T], body: bytes, status: int | None = None) -> T:
    """Read a success with one of the readers; raises :class:`DecodeError` with the body kept."""
    try:
        # Where nothing is wanted, or nothing came and anything will do, there is nothing to parse.
        return reader(None if reader is nothing or (not body and reader is anything) else _loads(body))
    except UnreadableError as error:
        reason = str(error)
    except KeyError as error:
        reason = f"no {error}"
    except RecursionError:
        reason = "nested past reason"
    except ValueError:
        reason = "no JSON"
    raise DecodeError(f"the service's answer cannot be read: {reason}", body=readable(body), status=status)


def nothing(_: Any) -> None:
    """For answers that say nothing beyond their status."""


def anything(data: Any) -> Any:
    """Any JSON value, as it is."""
    return data


# The end of the text ends a link too, for a body may have been cut short. Possessive, for each step that it could go
# back to costs a hundred bytes, and a link may be as long as a body.
_LINK: Final = re.compile(r'("(?:snapshotDownloadUrl|downloadUrl)"\s*+:\s*+)"(?:[^"\\]++|\\.)*+\\?(?:"|\Z)', re.DOTALL)


def redact(text: str) -> str:
    """A text without the signed links a run carries."""
    return _LINK.sub(r'\1"***"', text)


def readable(body: bytes) -> str:
    """A body as text, whatever its bytes."""
    return body.decode("utf-8", "replace")
