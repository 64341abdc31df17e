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
SUFFIXES: Final[Mapping[str, Format]] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
OTHERS: Final = {";": "';'", "\t": "tabs"}  # what separates cells elsewhere


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
            name, value = name[:-1].rstrip(), _json(value, f"-i {name}=")
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
            name, choices = name[:-1].rstrip(), _json(value, f"--grid {name}=")
        if not isinstance(choices, list) or not choices:
            raise InvalidRequestError(f"--grid {name}:= takes a JSON list, as {name}:='[1, 2]'")
        if name in found:
            raise InvalidRequestError(f"--grid gives {name!r} twice: write {name}=v1,v2")
        _check_choices(name, choices, value)
        found[name] = choices
    return found


def _check_choices(name: str, choices: Sequence[Any], value: str) -> None:
    """Refuse what was hardly meant: ``1,,2``, or a choice that would start the same runs again."""
    if not value.lstrip().startswith("[") and "" in choices:
        raise InvalidRequestError(f"--grid {name}={value} has an empty choice: write {name}:='[\"\"]' if it is meant")
    # As they are sent, where a number is its text.
    sent = [str(each) if type(each) in (int, float) else each for each in choices]
    for number, each in enumerate(sent):
        if each in sent[:number] and any(each == other and type(each) is type(other) for other in sent[:number]):
            raise InvalidRequestError(f"--grid {name}={value} has {each!r} twice: give each choice once")


def _split(word: str, option: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    name = name.strip()
    if not equals or not name.rstrip(":"):
        raise InvalidRequestError(f"{option} takes name=value, not {word!r}")
    return name, value


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{where} takes JSON: {error}") from None
    except RecursionError:
        raise InvalidRequestError(f"{where} takes JSON, and this is nested too deeply") from None


def read_rows(source: str, kind: Format | None, key_column: str) -> list[Row]:
    """Read a whole file, ``-`` for stdin, before anything is started: an error in it names the line."""
    name = "stdin" if source == "-" else source
    data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequestError(f"{name}, line {line}: no UTF-8 text") from None
    is_json = text.lstrip().startswith(("{", "["))
    kind = kind or SUFFIXES.get(Path(source).suffix.lower()) or ("jsonl" if is_json else "csv")
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
            if not any(cell.strip() for cell in cells):  # a line of spaces, too: nobody means a run by it
                continue
            if not header:
                header = _header(cells, where)
                continue
            if len(cells) != len(header):
                raise InvalidRequestError(f"{where}: {len(cells)} cells, where the header has {len(header)}")
            given = {column: cell for column, cell in zip(header, cells, strict=True) if cell}
            yield Row(where, given.pop(key_column, None), given)
    except csv.Error as error:
        where = f"{name}, line {lines.line_num}"
        if not header:
            _check_separator(text.lstrip().partition("\n")[0], where)  # '"a";"b"' is no CSV at all
        raise InvalidRequestError(f"{where}: {error}") from None


def _check_separator(header: str, where: str) -> None:
    """Refuse a header that other separators divide: read at commas, each of its lines would start a wrong run."""
    for separator, named in OTHERS.items():
        if separator in header:
            raise InvalidRequestError(f"{where}: the cells are separated by {named}: write commas")


def _header(cells: Sequence[str], where: str) -> list[str]:
    _check_separator("".join(cells), where)
    header = [cell.strip() for cell in cells]
    for number, column in enumerate(header, 1):
        if not column:
            raise InvalidRequestError(f"{where}: column {number} has no name")
        if header.count(column) > 1:
            raise InvalidRequestError(f"{where}: two columns are named {column!r}")
    return header


def _json_rows(text: str, name: str, key_column: str) -> Iterator[Row]:
    for where, given in _json_values(text, name):
        if not isinstance(given, dict):
            raise InvalidRequestError(f'{where}: a run is an object of inputs, as {{"region": "EU"}}')
        inputs = {column: value for column, value in given.items() if value is not None}
        yield Row(where, _json_key(inputs.pop(key_column, None), where, key_column), inputs)


def _json_values(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """The values of JSON lines, or of the one array that a file may be instead, each with where it stands."""
    if text.lstrip().startswith("["):
        for number, value in enumerate(_json(text, name), 1):
            yield f"{name}, item {number}", value
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        if line.strip() == "{":
            raise InvalidRequestError(f"{where}: each object stands on one line: `jq -c . FILE` writes it so")
        yield where, _json(line, where)


def _json_key(key: Any, where: str, key_column: str) -> str | None:
    """A row's name, which is text or a number; an empty one is none, as in CSV."""
    if isinstance(key, bool) or not isinstance(key, str | int | float | None):
        raise InvalidRequestError(f"{where}: {key_column!r} names the row: it takes text, not {json.dumps(key)[:60]}")
    return None if key is None or key == "" else str(key)


def requests_of(
    notebook: str, rows: Sequence[Row], choices: Mapping[str, Sequence[Any]]
) -> list[tuple[str, RunRequest]]:
    """The requests of all rows, each times every combination of the choices, with where each comes from.

    Raises :class:`InvalidRequestError` for a key that two have: found by the ledger, it would end a batch half-way.
    """
    found: list[tuple[str, RunRequest]] = []
    seen: dict[str, str] = {}
    for row in rows or [Row("--grid", None, {})]:
        if twice := sorted(set(row.inputs) & set(choices)):
            raise InvalidRequestError(f"{row.where}: {twice[0]!r} is in the file and in --grid: leave it out of one")
        for values in itertools.product(*choices.values()):
            chosen = dict(zip(choices, values, strict=True))
            key = _key(row, chosen)
            if key is not None:
                if key in seen:
                    raise InvalidRequestError(f"{row.where}: the key {key!r} is that of {seen[key]}, too")
                seen[key] = row.where
            try:
                found.append((row.where, RunRequest(notebook, inputs=(row.inputs | chosen) or None, key=key)))
            except InvalidRequestError as error:
                raise InvalidRequestError(f"{row.where}: {error}") from None
    return found


def _key(row: Row, chosen: Mapping[str, Any]) -> str | None:
    """A key for each of one row's requests."""
    if row.key is None:
        return None
    return " ".join([row.key, *(f"{name}={value}" for name, value in chosen.items())])
