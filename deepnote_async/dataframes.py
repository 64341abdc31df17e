"""Tables among a run's outputs.

The service shows one page of a table. What it writes depends on the library that held the table: pandas' values are
numbers or text, whatever the column's type, and its missing values are words. ``to_pandas()`` makes good for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATAFRAME_MIME", "INDEX_COLUMN", "DataFrameOutput", "read_dataframe"]

DATAFRAME_MIME: Final = "application/vnd.deepnote.dataframe.v3+json"
INDEX_COLUMN: Final = "_deepnote_index_column"


def _count(value: tuple[Any, ...]) -> str:
    return f"<{len(value)}>"


@attrs.frozen(kw_only=True)
class DataFrameOutput:
    """A table as it was shown: often one page of it (10 rows unless the block says otherwise) of ``row_count`` rows.

    ``columns`` are mappings with ``name`` and ``dtype``, among them the index as ``_deepnote_index_column``. ``rows``
    map names to values as the service writes them, where ``"nan"`` may be a missing number and ``"True"`` a boolean:
    :meth:`to_pandas` reads them by their types. ``extra`` is what else the output says.
    """

    columns: tuple[Mapping[str, Any], ...] = attrs.field(default=(), hash=False, repr=_count)
    rows: tuple[Mapping[str, Any], ...] = attrs.field(default=(), hash=False, repr=_count)
    row_count: int = 0
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False, hash=False)

    @property
    def is_truncated(self) -> bool:
        """Whether the table has more rows than were shown."""
        return self.row_count > len(self.rows)

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, without the index."""
        names = (column.get("name") for column in self.columns)
        return [str(name) for name in names if name != INDEX_COLUMN]

    def records(self, include_index: bool = False) -> list[dict[str, Any]]:
        """The rows as dicts of their own, with values as the service writes them."""
        if include_index:
            return [dict(row) for row in self.rows]
        return [{name: value for name, value in row.items() if name != INDEX_COLUMN} for row in self.rows]

    def to_pandas(self) -> pd.DataFrame:
        """The rows shown as a frame, the types of its columns kept and its index restored.

        Integers and booleans with missing values get pandas' nullable types; dates, which pandas has no type for,
        become times. A column of type ``object`` stays the text that came, and so does one that its type does not
        fit. Raises :class:`ConfigurationError` without pandas.
        """
        from .frames import make_frame

        return make_frame(self.columns, self.rows)


def read_dataframe(value: object) -> DataFrameOutput | None:
    """The table a value is, None if it is none; parts that cannot be read are left out."""
    if not isinstance(value, Mapping):
        return None
    raw_columns, raw_rows = value.get("columns"), value.get("rows")
    if not isinstance(raw_columns, list | tuple) and not isinstance(raw_rows, list | tuple):
        return None
    rows = _mappings(raw_rows)
    # Without a list of columns, they are what the rows name.
    named = () if raw_columns else dict.fromkeys(key for row in rows for key in row)
    count = value.get("row_count")
    return DataFrameOutput(
        columns=_mappings(raw_columns) or tuple({"name": name} for name in named),
        rows=rows,
        row_count=count if type(count) is int and count >= 0 else len(rows),
        extra={key: item for key, item in value.items() if key not in {"columns", "rows", "row_count"}},
    )


def _mappings(value: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(item for item in value if isinstance(item, Mapping)) if isinstance(value, list | tuple) else ()
