"""Tables among outputs, without pandas."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from deepnote_async import ConfigurationError, DataFrameOutput, Run
from deepnote_async.testing import outputs as made

MIME = "application/vnd.deepnote.dataframe.v3+json"
ROWS = [{"n": n, "name": f"row {n}"} for n in range(25)]


def table_of(value: Any) -> DataFrameOutput | None:
    output = {"output_type": "execute_result", "data": {MIME: value}}
    return Run(run_id="r", snapshot_blocks=[{"id": "b", "outputs": [made.printed("x"), output]}]).first_dataframe()


def shown(output: dict[str, Any]) -> DataFrameOutput:
    table = table_of(output["data"][MIME])
    assert table is not None
    return table


def test_a_table_may_be_made_of_columns() -> None:
    assert made.table({"a": [1, 2], "b": ["x", None]}) == made.table([{"a": 1, "b": "x"}, {"a": 2, "b": None}])
    with pytest.raises(ValueError, match="shorter"):
        made.table({"a": [1, 2], "b": []})


def test_a_page_of_a_table() -> None:
    table = shown(made.table(ROWS))
    assert (len(table.rows), table.row_count, table.is_truncated) == (10, 25, True)
    assert table.column_names == ["n", "name"]
    assert [column["name"] for column in table.columns] == ["n", "name", "_deepnote_index_column"]
    assert [column["dtype"] for column in table.columns] == ["int64", "object", "int64"]
    assert table.extra["column_count"] == 2
    assert not shown(made.table(ROWS, page_size=25)).is_truncated


def test_records_are_dicts_of_their_own_without_the_index_unless_asked() -> None:
    table = shown(made.table(ROWS))
    assert table.records()[3] == {"n": 3, "name": "row 3"}
    assert table.records(include_index=True)[3] == {"n": 3, "name": "row 3", "_deepnote_index_column": 3}
    table.records(include_index=True)[3]["n"] = 99
    assert table.records()[3]["n"] == 3


def test_the_first_table_is_found_wherever_it_is() -> None:
    found = [
        {"id": "a", "outputs": [made.printed("x"), {"output_type": "display_data", "data": {MIME: {"error": "no"}}}]},
        {"id": "b", "outputs": [made.table([{"first": 1}]), made.table([{"second": 1}])]},
    ]
    table = Run(run_id="r", snapshot_blocks=found).first_dataframe()
    assert table is not None
    assert table.column_names == ["first"]


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"error": "Traceback"}, {"columns": 3, "rows": "x"}])
def test_what_is_no_table_is_none(value: Any) -> None:
    assert table_of(value) is None


def test_half_a_table_is_what_can_be_read_of_it() -> None:
    assert table_of({"rows": [{"a": 1}, 3, {"b": 2}]}) == DataFrameOutput(
        columns=({"name": "a"}, {"name": "b"}), rows=({"a": 1}, {"b": 2}), row_count=2
    )
    assert table_of({"columns": [{"name": "a"}, None], "row_count": True}) == DataFrameOutput(columns=({"name": "a"},))
    assert table_of({"columns": [], "rows": [], "row_count": -1}) == DataFrameOutput()


def test_a_repr_counts() -> None:
    text = repr(shown(made.table(ROWS)))
    assert "columns=<3>" in text
    assert "row 3" not in text


def test_without_pandas_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'deepnote-async\[pandas\]'"):
        shown(made.table(ROWS)).to_pandas()
