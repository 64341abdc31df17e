"""Inputs as they are typed, and as they stand in files: a run's each, with the line an error is to name."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..errors import InvalidRequestError
from ..run_request import RunRequest

__all__ = ["Format", "Row", "read_rows", "requests_of", "typed_choices", "typed_inputs"]

Format: TypeAlias = Literal["csv", "jsonl"]
SUFFIXES: Final[Mapping[str, Format]] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Row(NamedTuple):
    """The inputs of one run, its key if it has one, and where they come from."""

    where: str
    key: str | None
    inputs: dict[str, Any]


def typed_inputs(words: Sequence[str]) -> dict[str, Any]:
    """``name=text``, or ``name:=JSON`` for what is no text; a name twice is refused."""
    found: dict[str, Any] = {}
    for word in words:
        name, value = _split(word, "-i")
        if name.endswith(":"):
            name, value = name[:-1], _json(value, f"-i {name}=")
        if name in found:
            raise InvalidRequestError(f'-i gives {name!r} twice: a list is written {name}:=\'["a", "b"]\'')
        found[name] = value
    return found


def typed_choices(words: Sequence[str]) -> dict[str, list[Any]]:
    """``name=v1,v2``, or ``name:=JSON`` for a list of what is no text or has commas."""
    found: dict[str, list[Any]] = {}
    for word in words:
        name, value = _split(word, "--grid")
        choices: Any = value.split(",")
        if name.endswith(":"):
            name, choices = name[:-1], _json(value, f"--grid {name}=")
        if not isinstance(choices, list) or not choices:
            raise InvalidRequestError(f"--grid {name}:= takes a JSON list, as {name}:='[1, 2]'")
        if name in found:
            raise InvalidRequestError(f"--grid gives {name!r} twice: write {name}=v1,v2")
        found[name] = choices
    return found


def _split(word: str, option: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name.rstrip(":"):
        raise InvalidRequestError(f"{option} takes name=value, not {word!r}")
    return name, value


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{where} takes JSON: {error}") from None


def read_rows(source: str, kind: Format | None, key_column: str) -> list[Row]:
    """Read a whole file, ``-`` for stdin, before anything is started: an error in it names the line."""
    name = "stdin" if source == "-" else source
    data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequestError(f"{name}, line {line}: no UTF-8 text") from None
    kind = kind or SUFFIXES.get(Path(source).suffix.lower()) or ("jsonl" if text.lstrip()[:1] == "{" else "csv")
    rows = list((_csv_rows if kind == "csv" else _json_rows)(text, name, key_column))
    if not rows:
        raise InvalidRequestError(f"{name} holds no inputs")
    return rows


def _csv_rows(text: str, name: str, key_column: str) -> Iterator[Row]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    before = 0
    try:
        for cells in lines:
            where, before = f"{name}, line {before + 1}", lines.line_num
            if not any(cells):
                continue
            if not header:
                header = _header(cells, where)
                continue
            if len(cells) != len(header):
                raise InvalidRequestError(f"{where}: {len(cells)} cells, where the header has {len(header)}")
            given = {column: cell for column, cell in zip(header, cells, strict=True) if cell}
            yield Row(where, given.pop(key_column, None), given)
    except csv.Error as error:
        raise InvalidRequestError(f"{name}, line {lines.line_num}: {error}") from None


def _header(cells: Sequence[str], where: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    for number, column in enumerate(header, 1):
        if not column:
            raise InvalidRequestError(f"{where}: column {number} has no name")
        if header.count(column) > 1:
            raise InvalidRequestError(f"{where}: two columns are named {column!r}")
    return header


def _json_rows(text: str, name: str, key_column: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        given = _json(line, where)
        if not isinstance(given, dict):
            raise InvalidRequestError(f'{where}: a line is an object of inputs, as {{"region": "EU"}}')
        given = {column: value for column, value in given.items() if value is not None}
        key = given.pop(key_column, None)
        yield Row(where, None if key is None else str(key), given)


def requests_of(
    notebook: str, rows: Sequence[Row], choices: Mapping[str, Sequence[Any]]
) -> list[tuple[str, RunRequest]]:
    """The requests of all rows, each times every combination of the choices, with where each comes from."""
    found: list[tuple[str, RunRequest]] = []
    for row in rows or [Row("--grid", None, {})]:
        if twice := sorted(set(row.inputs) & set(choices)):
            raise InvalidRequestError(f"{row.where}: {twice[0]!r} is in the file and in --grid: leave it out of one")
        for values in itertools.product(*choices.values()):
            chosen = dict(zip(choices, values, strict=True))
            # One row's requests need keys of their own.
            words = [row.key, *(f"{name}={value}" for name, value in chosen.items())]
            key = None if row.key is None else " ".join(map(str, words))
            try:
                found.append((row.where, RunRequest(notebook, inputs=(row.inputs | chosen) or None, key=key)))
            except InvalidRequestError as error:
                raise InvalidRequestError(f"{row.where}: {error}") from None
    return found
