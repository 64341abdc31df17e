"""Inputs as they are typed and as they stand in files."""

from __future__ import annotations

import io
import sys

import pytest

from deepnote_async import InvalidRequestError, NotebookInput
from deepnote_async.cli.checks import fitted
from deepnote_async.cli.inputs import Row, read_rows, requests_of, typed_choices, typed_inputs


def read(tmp_path, text, name="rows.csv", kind=None):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_rows(str(tmp_path / name), kind, "key")


def test_inputs_are_text_or_json():
    words = ["region=EU", "formula=a=b", "empty=", "flag:=true", 'tags:=["a", "b"]']
    assert typed_inputs(words) == {
        "region": "EU",
        "formula": "a=b",
        "empty": "",
        "flag": True,
        "tags": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["region"], "-i takes name=value, not 'region'"),
        (["=EU"], "-i takes name=value"),
        ([":=1"], "-i takes name=value"),
        (["a=1", "a=2"], "gives 'a' twice"),
        (["a:=yes"], "-i a:= takes JSON"),
    ],
)
def test_what_is_no_input_is_refused(words, message):
    with pytest.raises(InvalidRequestError, match=message):
        typed_inputs(words)


def test_blanks_around_a_name_are_no_part_of_it():
    assert typed_inputs([" a =1", "b := true"]) == {"a": "1", "b": True}
    assert typed_choices(["c =1,2"]) == {"c": ["1", "2"]}


def test_choices_are_divided_at_commas_or_json():
    assert typed_choices(["region=EU,US", 'name:=["a,b", 2]']) == {"region": ["EU", "US"], "name": ["a,b", 2]}
    with pytest.raises(InvalidRequestError, match="takes a JSON list"):
        typed_choices(["name:=2"])
    with pytest.raises(InvalidRequestError, match="gives 'a' twice"):
        typed_choices(["a=1", "a=2"])
    assert typed_choices(['a:=["", "1"]', 'b:=[true, "True"]']) == {"a": ["", "1"], "b": [True, "True"]}


@pytest.mark.parametrize("word", ["a=1,,2", "a=", "a=1,"])
def test_an_empty_choice_is_refused(word):
    with pytest.raises(InvalidRequestError, match=r"--grid a=.* has an empty choice"):
        typed_choices([word])


@pytest.mark.parametrize("word", ["a=1,2,1", 'a:=[1, "1"]', "a:=[true, false, true]"])
def test_a_repeated_choice_is_refused(word):
    with pytest.raises(InvalidRequestError, match="twice: give each choice once"):
        typed_choices([word])


def test_a_csv_names_inputs_in_its_header(tmp_path):
    rows = read(tmp_path, '\ufeffregion,year,key\nEU,2024,first\n\n"U,S",,\n')
    assert [(row.key, row.inputs) for row in rows] == [
        ("first", {"region": "EU", "year": "2024"}),
        (None, {"region": "U,S"}),
    ]
    assert [row.where.rpartition(", ")[2] for row in rows] == ["line 2", "line 4"]


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path):
    rows = read(tmp_path, 'text,n\n"one\ntwo",1\nthree,2\n')
    assert rows[0].inputs["text"] == "one\ntwo"
    assert [row.where.rpartition(", ")[2] for row in rows] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "line 3: 1 cells, where the header has 2"),
        ("a,b\n1,2,3\n", "line 2: 3 cells, where the header has 2"),
        ("a,a\n1,2\n", "line 1: two columns are named 'a'"),
        ("a,\n1,2\n", "line 1: column 2 has no name"),
        ('a\n1\n"2\n', "line 3"),
        (b"a\n1\n\xff\n", "line 3: no UTF-8 text"),
        ("region;year\nEU;2024\n", "line 1: the cells are separated by ';': write commas"),
        ("price;a,b\n1,5;2,3\n", "line 1: the cells are separated by ';'"),
        ('"region";"year"\n"EU";"2024"\n', "line 1: the cells are separated by ';'"),
        ("region\tyear\nEU\t2024\n", "line 1: the cells are separated by tabs: write commas"),
        ("a,b\n", "holds no inputs"),
        ("", "holds no inputs"),
    ],
)
def test_an_error_in_a_csv_names_the_line(tmp_path, text, message):
    with pytest.raises(InvalidRequestError, match=message):
        read(tmp_path, text)


def test_a_line_of_spaces_is_no_run(tmp_path):
    assert [row.inputs for row in read(tmp_path, "a\n   \n1\n \t\n")] == [{"a": "1"}]
    assert [row.inputs for row in read(tmp_path, "a,b\n  , \n1, \n")] == [{"a": "1", "b": " "}]


def test_json_lines_keep_their_types(tmp_path):
    rows = read(tmp_path, '{"flag": true, "n": 2, "gone": null, "key": 7}\n\n{"tags": ["a"]}\n', "rows.jsonl")
    assert [(row.key, row.inputs) for row in rows] == [("7", {"flag": True, "n": 2}), (None, {"tags": ["a"]})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n[1]\n', "line 2: a run is an object"),
        ('{"a": 1}\n{"a"\n', "line 2 takes JSON"),
        ('{"a": 1}\n' + '{"a": ' + "[" * 200_000 + "\n", "line 2 takes JSON, and this is nested too deeply"),
        ('{\n  "a": 1\n}\n', "line 1: each object stands on one line: `jq -c . FILE`"),
        ('[{"a": 1},\n 2]', "item 2: a run is an object"),
        ('[{"a": 1},\n', "rows.jsonl takes JSON: .* line 2"),
        ("[]", "holds no inputs"),
        ('{"key": {"a": 1}}', "line 1: 'key' names the row: it takes text, not {\"a\": 1}"),
        ('{"key": true}', "line 1: 'key' names the row: it takes text, not true"),
    ],
)
def test_an_error_in_json_lines_names_the_line(tmp_path, text, message):
    with pytest.raises(InvalidRequestError, match=message):
        read(tmp_path, text, "rows.jsonl")


def test_a_file_may_be_one_array(tmp_path):
    rows = read(tmp_path, '[\n  {"n": 1, "key": "one"},\n  {"n": 2, "key": ""}\n]\n', "rows.json")
    assert [(row.key, row.inputs) for row in rows] == [("one", {"n": 1}), (None, {"n": 2})]
    assert rows[1].where.endswith("rows.json, item 2")


@pytest.mark.parametrize("text", ['{"n": "1"}\n', "n\n1\n", '[{"n": "1"}]'])
def test_what_has_no_suffix_is_told_by_its_first_letter(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [row.inputs for row in read_rows("-", None, "key")] == [{"n": "1"}]


def test_the_format_named_goes_before_the_suffix(tmp_path):
    assert read(tmp_path, '{"n": 1}\n', "rows.csv", "jsonl")[0].inputs == {"n": 1}


def test_another_column_may_be_the_key(tmp_path):
    (tmp_path / "rows.csv").write_text("key,id\nE,7\n")
    assert read_rows(str(tmp_path / "rows.csv"), None, "id")[0][1:] == ("7", {"key": "E"})


def test_a_grid_multiplies_the_rows(tmp_path):
    rows = read(tmp_path, "region,key\nEU,e\nUS,u\n")
    requests = [request for _, request in requests_of("nb", rows, {"year": [2024, 2025], "kind": ["a"]})]
    assert [(request.key, request.inputs) for request in requests] == [
        ("e year=2024 kind=a", {"region": "EU", "year": "2024", "kind": "a"}),
        ("e year=2025 kind=a", {"region": "EU", "year": "2025", "kind": "a"}),
        ("u year=2024 kind=a", {"region": "US", "year": "2024", "kind": "a"}),
        ("u year=2025 kind=a", {"region": "US", "year": "2025", "kind": "a"}),
    ]


def test_a_grid_alone_has_no_keys():
    requests = requests_of("nb", [], {"year": [2024, 2025]})
    assert [(where, request.key) for where, request in requests] == [("--grid", None)] * 2


def test_a_key_twice_is_refused_with_both_its_lines(tmp_path):
    rows = read(tmp_path, "region,key\nEU,a\nUS,b\nAS,a\n")
    with pytest.raises(InvalidRequestError, match=r"line 4: the key 'a' is that of .*rows.csv, line 2, too"):
        requests_of("nb", rows, {})


def test_keys_are_compared_as_they_are_with_the_grid(tmp_path):
    rows = [Row("line 2", "a", {"region": "EU"}), Row("line 3", "b", {})]
    assert len({request.key for _, request in requests_of("nb", rows, {"n": ["1", "2"]})}) == 4
    with pytest.raises(InvalidRequestError, match=r"line 2: the key 'a n=True' is that of line 2, too"):
        requests_of("nb", rows, {"n": [True, "True"]})


def test_an_input_of_file_and_grid_both_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match="line 2: 'a' is in the file and in --grid"):
        requests_of("nb", read(tmp_path, "a\n1\n"), {"a": [1]})


def test_a_value_that_cannot_be_sent_names_its_line(tmp_path):
    rows = read(tmp_path, '{"a": "b"}\n{"a": {"b": 1}}\n', "rows.jsonl")
    with pytest.raises(InvalidRequestError, match=r"line 2: input 'a' is of type dict"):
        requests_of("nb", rows, {})


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        ({"type": "input-checkbox"}, "True", True),
        ({"type": "input-checkbox"}, "0", False),
        ({"type": "input-checkbox"}, "perhaps", "perhaps"),
        ({"type": "input-select", "multiple": True}, "a", ["a"]),
        ({"type": "input-select", "multiple": True}, '["a", "b"]', ["a", "b"]),
        ({"type": "input-select", "multiple": True}, "[a", "[a"),
        ({"type": "input-select"}, '["a"]', '["a"]'),
        ({"type": "input-date-range"}, '["2024-01-01", "2024-02-01"]', ["2024-01-01", "2024-02-01"]),
        ({"type": "input-text"}, "true", "true"),
        ({"type": "input-checkbox"}, True, True),
    ],
)
def test_text_is_made_what_the_input_takes(declared, text, value):
    assert fitted(text, NotebookInput(name="x", **declared)) == value
