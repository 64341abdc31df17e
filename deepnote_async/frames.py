"""From a table's page to a pandas frame: each column by the type it had where it was made.

Types are named as pandas, Polars, Spark or Arrow name them. pandas' columns come as numbers if they were NumPy's, else
as text, missing values as ``nan``, ``None``, ``NaT`` or ``<NA>``, and numbers beyond 2**53 as text, too.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from .dataframes import INDEX_COLUMN
from .errors import ConfigurationError

__all__ = ["make_frame"]

WIDEST: Final = 20  # digits after the first that a number of 64 bits may have
_MISSING: Final = frozenset({"nan", "NaN", "None", "NaT", "<NA>", "null", ""})
_MISSING_TEXT: Final = {"str": frozenset({"nan"}), "string": frozenset({"<NA>"}), "category": frozenset({"nan"})}
_MISSING_OBJECTS: Final = frozenset({"nan", "None", "NaT", "<NA>"})
_SPARK_INTEGERS: Final = {"bigint": "int64", "long": "int64", "int": "int32", "smallint": "int16", "tinyint": "int8"}
_TRUTH: Final = {"True": True, "true": True, "False": False, "false": False}
_UNIT: Final = re.compile(r"\b(ns|us|μs|µs|ms|s)\b")
_ZONE: Final = re.compile(r",\s*(?:tz=|time_zone=)?'?(?!None\b)([A-Za-z][\w+\-/:]*|[+-]\d\d:?\d\d)'?\s*[\])]")
# What pandas and what is parsed raise for values that are not of the type named.
_UNFIT: Final = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)

Values = Sequence[Any]
Reader = Callable[[Any, Values, str], Any]


def make_frame(columns: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> Any:
    """The frame; raises :class:`ConfigurationError` without pandas."""
    try:
        pd = importlib.import_module("pandas")
    except ImportError as error:
        raise ConfigurationError("to_pandas() needs pandas: pip install 'deepnote-async[pandas]'") from error
    series: dict[Any, Any] = {}
    for column in columns:
        name = column.get("name")
        key = name if isinstance(name, str) else str(name)
        if key not in series:
            series[key] = _column(pd, [row.get(key) for row in rows], column)
    index = series.pop(INDEX_COLUMN, None)
    frame = pd.DataFrame(series, index=pd.RangeIndex(len(rows)))
    if index is not None and len(rows):
        frame.index = pd.Index(index, name=None)
    return frame


def _column(pd: Any, values: Values, column: Mapping[str, Any]) -> Any:
    dtype = column.get("dtype")
    name = dtype if isinstance(dtype, str) else ""
    reader = next((reader for pattern, reader in _READERS if pattern.match(name)), None)
    if reader is not None:
        try:
            return reader(pd, values, name)
        except _UNFIT:
            pass
    return _text_or_objects(pd, values, name, column.get("stats"))


def _known(values: Values) -> list[Any]:
    """The values, None where one is missing."""
    return [None if _is_missing(value) else value for value in values]


def _is_missing(value: Any) -> bool:
    return value in _MISSING if type(value) is str else type(value) is float and math.isnan(value)


def _integers(pd: Any, values: Values, dtype: str) -> Any:
    bare = dtype.partition("[")[0]
    nullable = bare != bare.lower() or bare != dtype
    numpy_name = _SPARK_INTEGERS.get(bare.lower(), bare.lower())
    numbers = values if {*map(type, values)} <= {int} else [_integer(value) for value in _known(values)]
    if nullable or None in numbers:
        # Int64 for int64, UInt8 for uint8.
        numpy_name = numpy_name.replace("uint", "UInt") if numpy_name[0] == "u" else numpy_name.capitalize()
    return pd.Series(pd.array(numbers, dtype=numpy_name))


def _integer(value: Any) -> int | None:
    if value is None or type(value) is int:
        return value
    if isinstance(value, str):
        try:
            return int(value.removesuffix(".0"))  # so pandas' nullable integers come where one of them is missing
        except ValueError:
            value = Decimal(value)
    if isinstance(value, Decimal) and not (value.is_finite() and value.adjusted() <= WIDEST):
        raise ValueError("no integer of 64 bits")  # nor is it written out, which would take its digits squared
    whole = int(value)
    if isinstance(value, bool) or whole != value:
        raise ValueError("no integer")
    return whole


def _floats(pd: Any, values: Values, dtype: str) -> Any:
    bare = dtype.partition("[")[0]
    size = "32" if bare.lower() in {"float16", "float32", "real"} else "64"
    if {*map(type, values)} <= {float, int}:
        numbers: Values = values
    else:
        numbers = [None if value is None else float(value) for value in _known(values)]
    nullable = bare[:1] == "F" or bare != dtype
    return pd.Series(pd.array(numbers, dtype=f"{'F' if nullable else 'f'}loat{size}"))


def _booleans(pd: Any, values: Values, dtype: str) -> Any:
    flags = [_TRUTH[value] if type(value) is str else value for value in _known(values)]
    if not {*map(type, flags)} <= {bool, type(None)}:
        raise ValueError("no booleans")
    nullable = dtype != "bool" or None in flags
    return pd.Series(pd.array(flags, dtype="boolean" if nullable else "bool"))


def _times(pd: Any, values: Values, dtype: str) -> Any:
    unit, zone = _UNIT.search(dtype), _ZONE.search(dtype)
    texts = [_time_text(value) for value in _known(values)]
    if zone is None:
        try:
            times = pd.Series(pd.to_datetime(texts, format="ISO8601"))
        except ValueError:  # of several zones, which their type does not name
            times = pd.Series(pd.to_datetime(texts, format="ISO8601", utc=True))
    else:
        times = pd.Series(pd.to_datetime(texts, format="ISO8601", utc=True))
        with contextlib.suppress(*_UNFIT):  # a zone that has no name here; the instants are right in UTC
            times = times.dt.tz_convert(zone[1])
    finest = unit[1].replace("μ", "u").replace("µ", "u") if unit else "us"
    try:
        return times.dt.as_unit(finest)
    except ValueError:  # nanoseconds end in the year 2262
        return times.dt.as_unit("us")


def _time_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError("no time")


def _dates(pd: Any, values: Values, _: str) -> Any:
    return _times(pd, values, "datetime64[ms]")


def _durations(pd: Any, values: Values, dtype: str) -> Any:
    unit = _UNIT.search(dtype)
    texts = [_time_text(value) for value in _known(values)]
    return pd.Series(pd.to_timedelta(texts)).dt.as_unit(unit[1] if unit else "us")


def _decimals(pd: Any, values: Values, _: str) -> Any:
    # A float has lost its digits already, so what it shows is what it is taken for.
    return pd.Series([None if value is None else Decimal(str(value)) for value in _known(values)], dtype=object)


def _complexes(pd: Any, values: Values, dtype: str) -> Any:
    missing = complex("nan")
    return pd.Series([missing if value is None else complex(value) for value in _known(values)], dtype=dtype)


def _periods(pd: Any, values: Values, dtype: str) -> Any:
    return pd.Series(pd.array(_known(values), dtype=dtype))


def _text_or_objects(pd: Any, values: Values, dtype: str, stats: object) -> Any:
    """Text, categories, and what has no type of its own: as it came, but for missing values."""
    family = dtype.lower().replace("large_", "").replace("utf8", "string").partition("[")[0]
    family = "category" if family.startswith(("categor", "enum")) else family
    words = _MISSING_TEXT.get(family, _MISSING_OBJECTS)
    if isinstance(stats, Mapping) and stats.get("nan_count") == 0:
        words = frozenset()  # nothing is missing, so these are words
    known = [None if type(value) is str and value in words else value for value in values]
    kinds = {*map(type, known)} <= {str, type(None)}
    if family == "category":
        with contextlib.suppress(TypeError):  # what has no hash is no category
            return pd.Series(known, dtype="category")
    if family == "string" and kinds:
        return pd.Series(known, dtype="string")
    if family == "str" and kinds and not pd.__version__.startswith(("1.", "2.")):
        return pd.Series(known, dtype="str")
    return pd.Series(known, dtype=object)


_READERS: Final[Sequence[tuple[re.Pattern[str], Reader]]] = [
    (re.compile(r"(?i:u?int(?:8|16|32|64))(?:\[pyarrow\])?$|bigint$|long$|int$|smallint$|tinyint$"), _integers),
    (re.compile(r"(?i:float(?:16|32|64)?|double|real)(?:\[pyarrow\])?$"), _floats),
    (re.compile(r"(?i:bool|boolean)(?:\[pyarrow\])?$"), _booleans),
    (re.compile(r"(?i:datetime|timestamp)"), _times),
    (re.compile(r"(?i:date(?:32|64)?)(?:\[|$)"), _dates),
    (re.compile(r"(?i:timedelta|duration)"), _durations),
    (re.compile(r"(?i:decimal)"), _decimals),
    (re.compile(r"complex(?:64|128)$"), _complexes),
    (re.compile(r"period\["), _periods),
]
