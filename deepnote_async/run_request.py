"""What a start asks for, checked before it is sent.

The service refuses these things with a 400; refusing them here costs no request and says what to write instead.
Source: https://deepnote.com/docs/api-reference/runs
"""

from __future__ import annotations

import itertools
import json
import math
import numbers
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any, Literal, Self, TypeAlias, get_args

import attrs

from .errors import InvalidRequestError
from .inputs import check_inputs
from .models import Notebook
from .outgoing import is_segment

__all__ = ["InputValue", "RunRequest", "StorageMode", "grid"]

StorageMode: TypeAlias = Literal["read_write", "readonly"]
InputValue: TypeAlias = str | bool | list[str]


def _notebook_id(value: object) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    if not isinstance(value, str) or not is_segment(value):
        raise InvalidRequestError(f"notebook_id is the notebook's id as text, not {value!r}")
    return value


def _flag(_: Any, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise InvalidRequestError(f"{field.name} is True, False or None, not {value!r}")


def _storage_mode(_: Any, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and value not in get_args(StorageMode):
        raise InvalidRequestError(f"{field.name} is 'read_write' or 'readonly', not {value!r}")


def _key(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise InvalidRequestError("key is non-empty text, or None to derive it from the request")


def _block_ids(value: object) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidRequestError(f"block_ids is a list of block ids: write block_ids=[{value!r}]")
    ids = list(value)
    if not ids:
        raise InvalidRequestError("block_ids is empty: leave it out to run all blocks")
    for block in ids:
        if not isinstance(block, str) or not block:
            raise InvalidRequestError(f"block_ids holds {block!r}: a block id is non-empty text")
    if len(set(ids)) < len(ids):
        raise InvalidRequestError("block_ids names a block twice: name each once, in the order they are to run")
    return ids


def _extra_body(value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidRequestError("extra_body is a mapping of JSON values")
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"extra_body cannot be written as JSON: {error}") from None
    return dict(value)


def _inputs(value: Mapping[str, Any] | None) -> Mapping[str, InputValue] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidRequestError("inputs maps input names to values: write inputs={'name': value}")
    return {_input_name(name): _input_value(name, item) for name, item in value.items()}


def _input_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(f"the input name {name!r} is not text")
    return name


def _input_value(name: str, value: object) -> InputValue:
    value = _plain(name, value)
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple | range):
        return [_list_item(name, item) for item in value]
    return _input_text(name, value)


def _list_item(name: str, value: object) -> str:
    value = _plain(name, value)
    if isinstance(value, bool):
        raise InvalidRequestError(f"input {name!r} has {value} in a list of text: write {str(value)!r}")
    return _input_text(name, value)


def _plain(name: str, value: object) -> object:
    """Turn numpy's scalars and arrays into Python's own, without needing numpy."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return value
    if getattr(dtype, "kind", "") == "M":
        # item() of a nanosecond time is a bare integer.
        text = str(value)
        if text == "NaT":
            raise InvalidRequestError(f"input {name!r} is NaT: leave it out")
        return text
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else value


def _input_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, date | time):
        text = value.isoformat()
        if text == "NaT":
            raise InvalidRequestError(f"input {name!r} is NaT: leave it out")
        return text
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Decimal):
        return _finite(name, value.is_finite(), format(value, "f"))
    if isinstance(value, numbers.Integral):
        try:
            return str(int(value))
        except ValueError:
            raise InvalidRequestError(f"input {name!r} is a number of too many digits: write it as text") from None
    if isinstance(value, float):
        return _finite(name, math.isfinite(value), repr(float(value)))
    if value is None:
        raise InvalidRequestError(f"input {name!r} is None: leave it out to use the notebook's own value")
    raise InvalidRequestError(
        f"input {name!r} is of type {type(value).__name__}: inputs are text, booleans, numbers, dates and lists of text"
    )


def _finite(name: str, finite: bool, text: str) -> str:
    if not finite:
        raise InvalidRequestError(f"input {name!r} is {text.lower()}: no finite number")
    return text


@attrs.frozen
class RunRequest:
    """One run to start: of a whole notebook, or with ``block_ids`` of some of its blocks.

    ``inputs`` maps the names of the notebook's input blocks to text, booleans or lists of text; numbers and dates
    are turned into text. ``detached`` runs (the service's default) execute a copy on a machine of their own;
    ``detached_run_storage_mode`` is for them alone. ``block_ids`` need a live run, so ``detached=False`` is sent with
    them. ``extra_body`` is merged into the body as it is, for what this client does not know. ``key`` names the
    request within a batch. Raises :class:`InvalidRequestError` for what the service would refuse.
    """

    notebook_id: str = attrs.field(converter=_notebook_id)
    inputs: Mapping[str, InputValue] | None = attrs.field(
        default=None, kw_only=True, hash=False, repr=False, converter=_inputs
    )
    detached: bool | None = attrs.field(default=None, kw_only=True, validator=_flag)
    detached_run_storage_mode: StorageMode | None = attrs.field(default=None, kw_only=True, validator=_storage_mode)
    block_ids: Sequence[str] | None = attrs.field(default=None, kw_only=True, hash=False, converter=_block_ids)
    run_dependent_blocks: bool | None = attrs.field(default=None, kw_only=True, validator=_flag)
    extra_body: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, hash=False, repr=False, converter=_extra_body
    )
    key: str | None = attrs.field(default=None, kw_only=True, converter=_key)

    def __attrs_post_init__(self) -> None:
        if self.block_ids is not None:
            if self.detached:
                raise InvalidRequestError("block_ids run in the live notebook: leave detached out, or write False")
            if self.detached_run_storage_mode is not None:
                raise InvalidRequestError(
                    "detached_run_storage_mode is for detached runs, block_ids for live ones: leave one of them out"
                )
        elif self.run_dependent_blocks is not None:
            raise InvalidRequestError("run_dependent_blocks needs block_ids: the blocks whose dependents are to run")
        if self.detached is False and self.detached_run_storage_mode is not None:
            raise InvalidRequestError("detached_run_storage_mode is for detached runs: leave one of the two out")

    def checked(self, notebook: Notebook) -> Self:
        """The request itself if its inputs are what the notebook, read by ``notebooks.get``, takes.

        Raises :class:`InvalidRequestError` for another notebook, a name it does not have, and a value of the wrong
        kind or outside its options or its range, with the nearest that would do. Options that the notebook fills from
        a variable are not known before it runs, so they may be refused wrongly or not at all.
        """
        if self.notebook_id.replace("-", "").lower() != notebook.id.replace("-", "").lower():
            raise InvalidRequestError(f"the request is for notebook {self.notebook_id!r}, not {notebook.id!r}")
        check_inputs(self.inputs or {}, notebook)
        return self

    def body(self) -> dict[str, Any]:
        """The JSON body of the start: only what was set, for the defaults are the service's."""
        options = {
            "inputs": self.inputs,
            "detached": False if self.block_ids is not None else self.detached,
            "detachedRunStorageMode": self.detached_run_storage_mode,
            "blockIds": self.block_ids,
            "runDependentBlocks": self.run_dependent_blocks,
        }
        set_ones = {name: value for name, value in options.items() if value is not None}
        return {"notebookId": self.notebook_id, **set_ones, **(self.extra_body or {})}


def grid(notebook_id: str, **choices: Iterable[Any]) -> Iterator[RunRequest]:
    """One request for every combination of the choices, the last varying fastest.

    ``grid(nb, region=["EU", "US"], year=range(2020, 2026))`` makes twelve. Each choice is an iterable of input
    values; raises :class:`InvalidRequestError` for a bare text, whose characters nobody means.
    """
    for name, values in choices.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise InvalidRequestError(f"the choices of {name!r} are a list of values: write {name}=[{values!r}]")
    return _combinations(notebook_id, choices)


def _combinations(notebook_id: str, choices: Mapping[str, Iterable[Any]]) -> Iterator[RunRequest]:
    for values in itertools.product(*choices.values()):
        yield RunRequest(notebook_id, inputs=dict(zip(choices, values, strict=True)) or None)
