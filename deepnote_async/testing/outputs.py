"""Outputs as the service's notebooks leave them, for ``notebook.succeeds(outputs=[...])``.

``table`` writes as Deepnote's own formatter writes a pandas frame: one page of rows, numbers as numbers, everything
else as text, and words for what is missing.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

__all__ = ["error", "image", "printed", "result", "table"]

Json = dict[str, Any]

PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
DATAFRAME_MIME: Final = "application/vnd.deepnote.dataframe.v3+json"
INDEX: Final = "_deepnote_index_column"
LONGEST: Final = 1000  # characters of a cell
EXACT: Final = 2**53  # beyond it JavaScript's numbers are not exact, so they are sent as text
_MISSING: Final = {"object": "None", "datetime64": "NaT", "timedelta64": "NaT", "str": "nan", "category": "nan"}


def printed(text: str, *, stream: Literal["stdout", "stderr"] = "stdout") -> Json:
    """What a block prints."""
    return {"output_type": "stream", "name": stream, "text": text}


def result(text: str, *, data: Mapping[str, Any] | None = None, execution_count: int = 1) -> Json:
    """The value of a block's last line, as text and, in ``data``, by other MIME types."""
    bundle = {"text/plain": text, **(data or {})}
    return {"output_type": "execute_result", "data": bundle, "metadata": {}, "execution_count": execution_count}


def image(content: bytes = PIXEL, *, mime: str = "image/png") -> Json:
    """A picture, as a plot is shown."""
    bundle = {"text/plain": "<Figure size 640x480 with 1 Axes>", mime: base64.encodebytes(content).decode()}
    return {"output_type": "display_data", "data": bundle, "metadata": {}}


def error(what: str | BaseException = "RuntimeError: the notebook failed") -> Json:
    """An uncaught exception, given as one or as the text ``"Name: message"``."""
    text = f"{type(what).__name__}: {what}" if isinstance(what, BaseException) else what
    name, colon, value = text.partition(": ")
    if not colon:
        name, value = "RuntimeError", text
    lines = [
        f"\x1b[0;31m{'-' * 75}\x1b[0m",
        f"\x1b[0;31m{name}\x1b[0m{'Traceback (most recent call last)':>{max(75 - len(name), 34)}}",
        "Cell \x1b[0;32mIn[1], line 1\x1b[0m\n\x1b[0;32m----> 1\x1b[0m step()",
        f"\x1b[0;31m{name}\x1b[0m: {value}",
    ]
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": lines}


def table(
    rows: Iterable[Mapping[str, Any]] | Mapping[str, Sequence[Any]],
    *,
    dtypes: Mapping[str, str] | None = None,
    page_size: int = 10,
) -> Json:
    """A data frame of these rows (or columns, ``{"n": [1, 2]}``), of which the first ``page_size`` are shown.

    Types are what pandas would make of the values, unless ``dtypes`` names them (``{"n": "Int64"}``).
    """
    if isinstance(rows, Mapping):
        rows = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    every = [*rows]
    names = [*dict.fromkeys(name for row in every for name in row)]
    columns: list[Json] = []
    cells: list[list[Any]] = []
    for name in names:
        values = [row.get(name) for row in every]
        dtype = (dtypes or {}).get(name) or _dtype(values)
        missing = sum(map(_is_missing, values))
        stats = {"unique_count": len({*map(repr, values)}) - bool(missing), "nan_count": missing}
        columns.append({"name": name, "dtype": dtype, "stats": stats})
        cells.append(_cells(values[:page_size], dtype))
    columns.append({"name": INDEX, "dtype": "int64"})
    cells.append([*range(min(len(every), page_size))])
    page = [dict(zip([*names, INDEX], row, strict=True)) for row in zip(*cells, strict=True)]
    shown = {
        "column_count": len(names),
        "columns": columns,
        "row_count": len(every),
        "preview_row_count": len(every),
        "rows": page,
        "type": "dataframe",
    }
    bundle = {DATAFRAME_MIME: shown, "text/plain": f"[{len(every)} rows x {len(names)} columns]"}
    return result("", data=bundle) | {"metadata": {"table_state_spec": None}}


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _dtype(values: Sequence[Any]) -> str:
    present = [value for value in values if not _is_missing(value)]
    kinds = {*map(type, present)}
    whole = len(present) == len(values)
    if kinds == {bool} and whole:
        return "bool"
    if kinds == {int} and whole:
        return "int64"
    if kinds and kinds <= {int, float}:
        return "float64"
    if kinds == {datetime}:
        zones = {value.tzinfo for value in present}
        if len(zones) == 1:
            zone = zones.pop()
            return "datetime64[us]" if zone is None else f"datetime64[us, {zone}]"
    return "object"


def _cells(values: Sequence[Any], dtype: str) -> list[Any]:
    if dtype in {"int64", "float64"}:
        cells = ["nan" if _is_missing(value) else float(value) if dtype == "float64" else value for value in values]
        large = any(not isinstance(value, str) and abs(value) > EXACT for value in cells)
        return [*map(str, cells)] if large else cells
    word = _MISSING.get(dtype.partition("[")[0], "<NA>")
    gaps = any(map(_is_missing, values))
    if dtype.startswith(("Int", "UInt")) and gaps:
        values = [value if value is None else float(value) for value in values]
    return [word if _is_missing(value) else _cut(str(value)) for value in values]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
