"""What a request says: paths that lead nowhere else, queries and bodies that arrive as they were meant."""

from __future__ import annotations

import json
import string
import uuid
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepnote_async import outgoing
from deepnote_async.errors import InvalidRequestError

simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    simple, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=6), max_leaves=25
)


@given(st.text(min_size=1).filter(lambda text: text not in {".", ".."}))
@example("a/b")
@example("../../me")
@example("a?b#c")
@example("%2e%2e")
@example("ä\r\n ")
def test_an_id_is_exactly_one_segment_and_comes_back(text: str) -> None:
    try:
        encoded = outgoing.segment(text, "run_id")
    except InvalidRequestError:
        assert any("\ud800" <= char <= "\udfff" for char in text)
        return
    assert set(encoded) <= set(string.ascii_letters + string.digits + "%-._~")
    assert unquote(encoded) == text
    parts = urlsplit(f"https://x/v2/runs/{encoded}")
    assert parts.path.split("/")[3:] == [encoded]
    assert not parts.query
    assert not parts.fragment


@pytest.mark.parametrize("text", ["", ".", "..", None, 7, b"id", ["id"], "\ud800"])
def test_ids_that_lead_elsewhere_are_refused(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="run_id"):
        outgoing.segment(text, "run_id")


def test_a_uuid_is_an_id() -> None:
    assert outgoing.segment(uuid.UUID(int=1), "run_id") == "00000000-0000-0000-0000-000000000001"


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_a_query_comes_back(params: dict[str, str]) -> None:
    try:
        query = outgoing.query_string(params)
    except InvalidRequestError:
        assert any("\ud800" <= char <= "\udfff" for char in "".join([*params, *params.values()]))
        return
    assert dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))) == params
    assert not set(query) & set(' +#/?"<>')


def test_parameters_that_are_none_are_left_out() -> None:
    assert outgoing.query_string({"a": None, "b": True, "c": [1, None, False], "d": 2.5}) == "b=true&c=1&c=false&d=2.5"
    assert outgoing.query_string(None) == ""
    assert outgoing.query_string({}) == ""


def test_the_query_of_a_page() -> None:
    assert outgoing.page_query(None, None) == ""
    assert outgoing.page_query(100, "a&b=c") == "pageSize=100&pageToken=a%26b%3Dc"
    assert outgoing.page_query(1, None, nameContains="x y") == "nameContains=x%20y&pageSize=1"


@pytest.mark.parametrize("size", [0, -1, 101, True, 1.0, "10", float("nan")])
def test_page_sizes_outside_1_to_100_are_refused(size: Any) -> None:
    with pytest.raises(InvalidRequestError, match="page_size"):
        outgoing.page_query(size, None)


@given(values)
def test_what_is_dumped_comes_back(value: Any) -> None:
    assert json.loads(outgoing.dump(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object(), {b"k": 1}])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="JSON"):
        outgoing.dump(value)


def test_what_is_nested_past_reason_or_in_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidRequestError):
        outgoing.dump(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidRequestError):
        outgoing.dump(deep)
