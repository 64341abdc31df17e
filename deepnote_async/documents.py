"""The snapshot document: YAML to plain values, as its writer meant it.

Documents are written as YAML 1.2, where ``no``, ``12:30`` and ``2026-08-17`` are text; PyYAML's own rules are those of
YAML 1.1. So only its parser is used, whose events need no recursion and say how deep they are; no tag is obeyed.
Sources: https://yaml.org/spec/1.2.2/#103-core-schema, https://deepnote.com/docs/deepnote-format
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from .errors import ConfigurationError, DecodeError

__all__ = ["blocks_of"]

MAX_DEPTH: Final = 256  # what reads the values afterwards is recursive: json, repr, pickle
MAX_EXPANSION: Final = 10  # values that aliases make of one that was written; a document names few of them
SMALL: Final = 100_000  # values that any document may expand to

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"([-+]?)\.(inf|Inf|INF|(?<![-+].)(?:nan|NaN|NAN))")
_NO_KEY: Final = object()


def blocks_of(content: str, notebook_id: str | None = None) -> list[Any]:
    """The blocks of a document, of that notebook alone where it is in it: others hold what earlier runs left.

    Raises :class:`DecodeError` for a text that is no such document and :class:`ConfigurationError` without PyYAML.
    """
    document = load(content)
    project = document.get("project") if isinstance(document, Mapping) else None
    notebooks = project.get("notebooks") if isinstance(project, Mapping) else None
    if not isinstance(notebooks, list):
        raise DecodeError("the snapshot document cannot be read: it has no project.notebooks")
    every = [notebook for notebook in notebooks if isinstance(notebook, Mapping)]
    asked = _plain_id(notebook_id)
    chosen = [notebook for notebook in every if asked and _plain_id(notebook.get("id")) == asked] or every
    return [block for notebook in chosen for block in _list(notebook.get("blocks"))]


def _plain_id(value: object) -> str:
    """An id without its dashes: the same notebook goes by both forms."""
    return value.replace("-", "").lower() if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _pyyaml() -> ModuleType:
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise ConfigurationError(
            "a snapshot as YAML text needs PyYAML: pip install 'deepnote-async[yaml]', or ask for snapshot=\"blocks\""
        ) from error


def load(content: str) -> Any:
    """The values of the first document of a YAML text; raises :class:`DecodeError`."""
    yaml = _pyyaml()
    builder = _Builder()
    steps = builder.steps(yaml.events)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(content)
        try:
            while (event := loader.get_event()) is not None and not builder.done:
                steps[type(event)](event)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise DecodeError(f"the snapshot document cannot be read: {error.problem or 'no YAML'}{where}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # of characters that there are not
        raise DecodeError(f"the snapshot document cannot be read: {type(error).__name__}") from None
    return builder.root


class _Open:
    """A list or mapping whose end has not come yet."""

    __slots__ = ("anchor", "key", "value", "weight")

    def __init__(self, value: list[Any] | dict[str, Any], anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: Any = _NO_KEY
        self.weight = 1


class _Builder:
    """Values from the parser's events, on a stack of its own."""

    def __init__(self) -> None:
        self.root: Any = None
        self.done = False
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._written = 0
        self._expanded = 0

    def steps(self, events: Any) -> dict[type, Callable[[Any], None]]:
        """What to do for each kind of event."""
        return {
            events.ScalarEvent: self._scalar,
            events.AliasEvent: self._alias,
            events.SequenceStartEvent: lambda event: self._begin(event, []),
            events.MappingStartEvent: lambda event: self._begin(event, {}),
            events.SequenceEndEvent: self._end,
            events.MappingEndEvent: self._end,
            events.DocumentEndEvent: self._finish,
            events.StreamStartEvent: _pass,
            events.StreamEndEvent: _pass,
            events.DocumentStartEvent: _pass,
        }

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        # Keys are JSON's, so text whatever they look like; a quoted or tagged scalar is text, too.
        value = text if self._wants_key() or not event.implicit[0] else _plain(text)
        self._written += 1
        if event.anchor is not None:
            self._anchors[event.anchor] = value, 1
        self._place(value, 1)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise DecodeError("the snapshot document cannot be read: an alias names nothing that ended before it")
        self._place(*self._anchors[event.anchor])

    def _begin(self, event: Any, value: list[Any] | dict[str, Any]) -> None:
        if self._wants_key():
            raise DecodeError("the snapshot document cannot be read: a key is no text")
        if len(self._open) >= MAX_DEPTH:
            raise DecodeError("the snapshot document cannot be read: nested past reason")
        self._written += 1
        self._open.append(_Open(value, event.anchor))

    def _end(self, _: Any) -> None:
        ended = self._open.pop()
        if ended.anchor is not None:
            self._anchors[ended.anchor] = ended.value, ended.weight
        # Its parts have been counted as they came.
        self._expanded -= ended.weight - 1
        self._place(ended.value, ended.weight)

    def _finish(self, _: Any) -> None:
        self.done = True

    def _wants_key(self) -> bool:
        return bool(self._open) and type(self._open[-1].value) is dict and self._open[-1].key is _NO_KEY

    def _place(self, value: Any, weight: int) -> None:
        self._expanded += weight
        if self._expanded > max(SMALL, MAX_EXPANSION * self._written):
            raise DecodeError("the snapshot document cannot be read: its aliases expand past reason")
        if not self._open:
            self.root = value
            return
        top = self._open[-1]
        top.weight += weight
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is not _NO_KEY:
            top.value[top.key] = value
            top.key = _NO_KEY
        elif isinstance(value, str):
            top.key = value
        else:
            raise DecodeError("the snapshot document cannot be read: a key is no text")


def _pass(_: Any) -> None:
    pass


def _plain(text: str) -> Any:
    """A plain scalar by the rules of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    try:
        if _INTEGER.fullmatch(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        special = _SPECIAL.fullmatch(text)
        return float(text) if _FLOAT.fullmatch(text) else float(special[1] + special[2]) if special else text
    except ValueError:  # more digits than an int may be read from
        return text
