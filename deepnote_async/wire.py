"""JSON to models and back, in both dialects of the service.

The reference definition and the live service differ in envelopes, in the name of a run's end time and in what they
leave out; a decoder takes whichever it is given. What the service sends beyond is kept in ``extra``; a missing id is a
:class:`DecodeError`, never a KeyError.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from .errors import DecodeError, InvalidRequestError
from .models import (
    NOTHING_EXTRA,
    AccessLevel,
    Me,
    Notebook,
    NotebookInput,
    Project,
    ProjectType,
    Run,
    RunStarted,
    RunStatus,
)

__all__ = [
    "anything",
    "decode",
    "dump",
    "is_segment",
    "nothing",
    "page_query",
    "query_string",
    "read_me",
    "read_notebook",
    "read_project",
    "read_projects",
    "read_run",
    "read_run_started",
    "read_runs",
    "readable",
    "redact",
    "required_text",
    "segment",
]

_loads: Callable[[bytes], Any] = json.loads
with contextlib.suppress(ImportError):  # the extra `speed`; by name, so that types need not know whether it is there
    _loads = importlib.import_module("orjson").loads

T = TypeVar("T")
Decoder = Callable[[Any], T]


class _UnreadableError(ValueError):
    """A value that is not what its place asks for."""


# Leaves. Each takes the value and, for cattrs, a type it does not need.


def _text(value: Any, _: Any = None) -> str | None:
    if value is None or type(value) is str:
        return value
    raise _UnreadableError(f"{type(value).__name__} where text belongs")


# Ids are most of what is read of a page; nearly all of them pass without the call of is_segment.


def _identifier(value: Any, _: Any = None) -> str:
    if type(value) is str and ((len(value) > 2 and value.isascii()) or is_segment(value)):
        return value
    raise _UnreadableError("no id")


def _identifier_or_none(value: Any, _: Any = None) -> str | None:
    """An id that may be left out; one that no path could lead to says as little as none."""
    if type(value) is str and ((len(value) > 2 and value.isascii()) or is_segment(value)):
        return value
    return None


def _time(value: Any, _: Any = None) -> datetime | None:
    if not value:
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is UTC:
            return time
        return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise _UnreadableError("no ISO 8601 time") from None


def _flag(value: Any, _: Any = None) -> bool | None:
    if value is None or type(value) is bool:
        return value
    raise _UnreadableError(f"{type(value).__name__} where a boolean belongs")


def _list(value: Any, _: Any = None) -> list[Any] | None:
    if value is None or type(value) is list:
        return value
    raise _UnreadableError(f"{type(value).__name__} where a list belongs")


def _mapping(value: Any, _: Any = None) -> Mapping[str, Any]:
    return NOTHING_EXTRA if value is None else _object(value)


def _mapping_or_none(value: Any, _: Any = None) -> Mapping[str, Any] | None:
    return None if value is None else _object(value)


def _anything(value: Any, _: Any = None) -> Any:
    return value


def _object(value: Any) -> dict[str, Any]:
    if type(value) is dict:
        return value
    raise _UnreadableError(f"{type(value).__name__} where an object belongs")


def _objects(value: Any) -> list[dict[str, Any]]:
    return [_object(item) for item in _list(value) or ()]


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


def _status(value: Any, _: Any = None) -> RunStatus:
    try:
        return _STATUSES[value]
    except (KeyError, TypeError):
        if type(value) is str and value:
            return RunStatus(value)
    raise _UnreadableError("no status")


def _first_status(value: Any, _: Any = None) -> RunStatus:
    # A receipt with an id tells of a start that happened, whatever else is wrong with it.
    return _status(value) if type(value) is str and value else RunStatus.PENDING


def _first_time(value: Any, _: Any = None) -> datetime | None:
    try:
        return _time(value)
    except _UnreadableError:
        return None


def _project_type(value: Any, _: Any = None) -> ProjectType | None:
    text = _text(value)
    return None if text is None else ProjectType(text)


def _access_level(value: Any, _: Any = None) -> AccessLevel | None:
    text = _text(value)
    return None if text is None else AccessLevel(text)


def _run_error(value: Any, _: Any = None) -> str | None:
    """Text, or an object with a message: both have been seen."""
    if type(value) is dict:
        value = value.get("message") or value.get("error") or json.dumps(value)
    return _text(value)


def _blocks(value: Any, _: Any = None) -> list[Mapping[str, Any]]:
    return list(_objects(value))


def _blocks_or_none(value: Any, _: Any = None) -> list[Mapping[str, Any]] | None:
    return None if value is None else _blocks(value)


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


@attrs.frozen
class _Reader(Generic[T]):
    """What reads objects of one class: ``one`` of them, or ``many``."""

    one: Callable[[dict[str, Any]], T]
    many: Callable[[list[dict[str, Any]]], list[T]]


def _reader(
    cls: type[T],
    translate: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    required: Collection[str] = (),
    **fields: Any,
) -> _Reader[T]:
    """The reader of a class; ``translate`` puts what comes under names that are not the class's where it belongs.

    The fields of the class that have no default must be there, and those that are ``required``.
    """
    known = frozenset(field.rename for field in fields.values())
    open_cls = _open_twin(cls, required)
    fields["extra"] = override(omit=True)
    generated = make_dict_structure_fn(open_cls, _converter, _cattrs_detailed_validation=False, **fields)

    def one(data: dict[str, Any]) -> Any:
        if known.issuperset(data):
            made = generated(data, open_cls)
        else:
            data = translate(data)
            made = generated(data, open_cls)
            made.extra = {key: value for key, value in data.items() if key not in known} or NOTHING_EXTRA
        made.__class__ = cls
        return made

    def many(items: list[dict[str, Any]]) -> list[Any]:
        # Asked once for all of them, whose keys are mostly the same objects, it costs a tenth.
        if not known.issuperset(set().union(*items)):
            return [one(item) for item in items]
        made = [generated(item, open_cls) for item in items]
        for each in made:
            each.__class__ = cls
        return made

    return _Reader(one, many)


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


_run: Final = _reader(
    Run,
    _own_names_of_run,
    ("status",),  # taken for one that goes on, a run without would be awaited for ever
    run_id=_field("runId", _identifier),
    notebook_id=_field("notebookId", _identifier_or_none),
    status=_field("status", _status),
    created_at=_field("createdAt", _time),
    finished_at=_field("completedAt", _time),
    error=_field("error", _run_error),
    snapshot_status=_field("snapshotStatus", _text),
    snapshot_content=_field("snapshotContent", _text),
    snapshot_download_url=_field("snapshotDownloadUrl", _text),
    snapshot_blocks=_field("snapshotBlocks", _blocks_or_none),
)
_run_started: Final = _reader(
    RunStarted,
    _own_names,
    run_id=_field("runId", _identifier),
    status=_field("status", _first_status),
    created_at=_field("createdAt", _first_time),
    notebook_id=_field("notebookId", _identifier_or_none),
)
_input: Final = _reader(
    NotebookInput,
    name=_field("name", _identifier),
    type=_field("type", _text),
    value=_field("value", _anything),
    label=_field("label", _text),
    options=_field("options", _list),
    multiple=_field("multiple", _flag),
    min=_field("min", _anything),
    max=_field("max", _anything),
    step=_field("step", _anything),
)


def _inputs(value: Any, _: Any = None) -> list[NotebookInput]:
    return _input.many(_objects(value))


_notebook: Final = _reader(
    Notebook,
    id=_field("id", _identifier),
    name=_field("name", _text),
    project_id=_field("projectId", _text),
    blocks=_field("blocks", _blocks),
    inputs=_field("inputs", _inputs),
)


def _notebooks(value: Any, _: Any = None) -> list[Notebook]:
    return _notebook.many(_objects(value))


_project: Final = _reader(
    Project,
    id=_field("id", _identifier),
    name=_field("name", _text),
    project_type=_field("projectType", _project_type),
    folder_id=_field("folderId", _text),
    created_at=_field("createdAt", _time),
    updated_at=_field("updatedAt", _time),
    folder=_field("folder", _mapping_or_none),
    notebooks=_field("notebooks", _notebooks),
)
_me: Final = _reader(
    Me,
    api_key=_field("apiKey", _mapping),
    user=_field("user", _mapping),
    workspace=_field("workspace", _mapping),
    access_level=_field("accessLevel", _access_level),
)


def _unwrap(data: Any, envelope: str) -> dict[str, Any]:
    data = _object(data)
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
    return _me.one(_object(data))


def read_runs(data: Any) -> tuple[list[Run], str | None]:
    """A page of runs and the next page's token."""
    return _run.many(_items(data, "runs")), _next_token(data)


def read_projects(data: Any) -> tuple[list[Project], str | None]:
    """A page of projects and the next page's token."""
    return _project.many(_items(data, "projects")), _next_token(data)


def _items(data: Any, name: str) -> list[dict[str, Any]]:
    data = _object(data)
    if name not in data:
        raise _UnreadableError(f"no {name!r}")
    items: list[dict[str, Any]] = data[name]
    if type(items) is list and {*map(type, items)} <= {dict}:
        return items
    raise _UnreadableError(f"{name!r} is no list of objects")


def _next_token(data: dict[str, Any]) -> str | None:
    """Null, absent and empty all end a list, and so does ``hasMore: false``."""
    pagination = _mapping(data.get("pagination"))
    if pagination.get("hasMore") is False:
        return None
    return _text(pagination.get("nextPageToken")) or None


def decode(reader: Decoder[T], body: bytes, status: int | None = None) -> T:
    """Read a success with one of the readers; raises :class:`DecodeError` with the body kept."""
    try:
        # Where nothing is wanted, or nothing came and anything will do, there is nothing to parse.
        return reader(None if reader is nothing or (not body and reader is anything) else _loads(body))
    except _UnreadableError as error:
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


# And back.


def dump(value: Any) -> bytes:
    """JSON for a request's body; raises :class:`InvalidRequestError` for what JSON cannot say."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"this cannot be written as JSON: {error}") from None


def required_text(value: object, name: str) -> str:
    """The text itself; raises :class:`InvalidRequestError` for anything else."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is text, not {value!r}")
    return value


def segment(value: object, name: str) -> str:
    """An opaque id as one segment of a path, percent-encoded; raises :class:`InvalidRequestError` where it cannot be.

    Empty, ``.`` and ``..`` would lead to another path, so they are refused.
    """
    text = value if isinstance(value, str) else str(value) if isinstance(value, uuid.UUID) else ""
    if not is_segment(text):
        raise InvalidRequestError(f"{name} is the id as text, not {value!r}")
    # Nearly all ids are letters, digits and hyphens, and urllib takes five calls to find that these stay as they are.
    return text if text.isascii() and text.replace("-", "").isalnum() else quote(text, safe="")


def is_segment(text: str) -> bool:
    """Whether a text can be one segment of a path: not empty, ``.`` or ``..``, and without lone surrogates."""
    if text in {"", ".", ".."}:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def query_string(params: Mapping[str, Any] | None) -> str:
    """Parameters as a query, those that are None left out."""
    pairs = [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in (params or {}).items()
        for item in (value if isinstance(value, list | tuple) else [value])
        if item is not None
    ]
    try:
        return urlencode(pairs, quote_via=quote, safe="")
    except UnicodeEncodeError:
        raise InvalidRequestError("a parameter holds a lone surrogate, which no URL can carry") from None


def page_query(page_size: int | None, page_token: str | None, **filters: str | None) -> str:
    """The query of one page; raises :class:`InvalidRequestError` for a page size outside 1 to 100."""
    if page_size is not None and (type(page_size) is not int or not 1 <= page_size <= 100):
        raise InvalidRequestError(f"page_size is a whole number from 1 to 100, not {page_size!r}")
    return query_string({**filters, "pageSize": page_size, "pageToken": page_token})
