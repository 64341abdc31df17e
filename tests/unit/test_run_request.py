"""What a start may ask for: everything refused, everything converted, and a body that says only what was set."""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import math
import pickle
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async import InvalidRequestError, RunRequest, grid

NB = "0f3a"


@attrs.define
class Dtype:
    kind: str


@attrs.define
class Scalar:
    """Stands for numpy's scalars and arrays: a dtype, and tolist() for Python's own value."""

    held: Any
    dtype: Dtype
    text: str = ""

    def tolist(self) -> Any:
        return self.held

    def __str__(self) -> str:
        return self.text or str(self.held)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Stamp(datetime):
    """Stands for a pandas timestamp that is not a time."""

    def isoformat(self, *_: Any, **__: Any) -> str:
        return "NaT"


def body(**options: Any) -> dict[str, Any]:
    return RunRequest(NB, **options).body()


def sent(value: Any) -> Any:
    return body(inputs={"x": value})["inputs"]["x"]


def test_only_what_was_set_is_sent() -> None:
    assert body() == {"notebookId": NB}
    assert body(inputs={}) == {"notebookId": NB, "inputs": {}}
    assert body(detached=True) == {"notebookId": NB, "detached": True}
    assert body(detached=False) == {"notebookId": NB, "detached": False}
    assert body(detached_run_storage_mode="readonly") == {"notebookId": NB, "detachedRunStorageMode": "readonly"}
    assert body(key="mine") == {"notebookId": NB}


def test_all_that_can_be_set_together() -> None:
    assert body(
        inputs={"a": 1}, detached=True, detached_run_storage_mode="read_write", extra_body={"machine": "big"}
    ) == {
        "notebookId": NB,
        "inputs": {"a": "1"},
        "detached": True,
        "detachedRunStorageMode": "read_write",
        "machine": "big",
    }


@pytest.mark.parametrize("detached", [None, False])
def test_blocks_run_in_the_live_notebook(detached: bool | None) -> None:
    asked = body(block_ids=["a", "b"], run_dependent_blocks=True, detached=detached)
    assert asked == {"notebookId": NB, "detached": False, "blockIds": ["a", "b"], "runDependentBlocks": True}
    assert body(block_ids=iter(["a"]))["blockIds"] == ["a"]
    assert "runDependentBlocks" not in body(block_ids=("a",))


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"block_ids": []}, "empty"),
        ({"block_ids": ["a", "b", "a"]}, "twice"),
        ({"block_ids": "abc"}, "list"),
        ({"block_ids": b"abc"}, "list"),
        ({"block_ids": 7}, "list"),
        ({"block_ids": ["a", ""]}, "text"),
        ({"block_ids": ["a", 7]}, "text"),
        ({"block_ids": [["a"]]}, "text"),
        ({"block_ids": ["a"], "detached": True}, "detached"),
        ({"block_ids": ["a"], "detached_run_storage_mode": "readonly"}, "storage_mode"),
        ({"block_ids": ["a"], "detached": False, "detached_run_storage_mode": "readonly"}, "storage_mode"),
        ({"run_dependent_blocks": True}, "block_ids"),
        ({"run_dependent_blocks": False}, "block_ids"),
        ({"detached": False, "detached_run_storage_mode": "readonly"}, "detached"),
        ({"detached": "no"}, "detached"),
        ({"detached": 0}, "detached"),
        ({"block_ids": ["a"], "run_dependent_blocks": "yes"}, "run_dependent_blocks"),
        ({"detached_run_storage_mode": 3}, "storage_mode"),
        ({"detached_run_storage_mode": "writable"}, "storage_mode"),
        ({"inputs": [("a", 1)]}, "inputs"),
        ({"inputs": "a=1"}, "inputs"),
        ({"inputs": {"": 1}}, "name"),
        ({"inputs": {1: 1}}, "name"),
        ({"extra_body": [1]}, "extra_body"),
        ({"extra_body": {"a": {1, 2}}}, "extra_body"),
        ({"extra_body": {"a": math.nan}}, "extra_body"),
        ({"extra_body": {b"a": 1}}, "extra_body"),
        ({"key": ""}, "key"),
        ({"key": 1}, "key"),
    ],
)
def test_refused_before_sending(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(InvalidRequestError, match=hint) as caught:
        RunRequest(NB, **options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("notebook_id", ["", None, 7, b"nb", ["nb"]])
def test_a_notebook_is_named_by_text(notebook_id: Any) -> None:
    with pytest.raises(InvalidRequestError):
        RunRequest(notebook_id)


def test_a_uuid_names_a_notebook() -> None:
    known = uuid.UUID(int=7)
    assert RunRequest(known).notebook_id == str(known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (True, True),
        (False, False),
        (0, "0"),
        (-12, "-12"),
        (10**30, "1" + "0" * 30),
        (1.5, "1.5"),
        (1e-7, "1e-07"),
        (-0.0, "-0.0"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), "2026-03-01T12:00:00+00:00"),
        (time(8, 30), "08:30:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        ([], []),
        (["a", 1, 2.5], ["a", "1", "2.5"]),
        (("a", "b"), ["a", "b"]),
        (range(3), ["0", "1", "2"]),
        (Scalar(5, Dtype("i")), "5"),
        (Scalar(True, Dtype("b")), True),
        (Scalar(0.25, Dtype("f")), "0.25"),
        (Scalar("word", Dtype("U")), "word"),
        (Scalar([1, 2], Dtype("i")), ["1", "2"]),
        (Scalar(1_767_225_600_000_000_000, Dtype("M"), "2026-01-01"), "2026-01-01"),
        ([Scalar(5, Dtype("i"))], ["5"]),
    ],
)
def test_inputs_are_converted(value: Any, text: Any) -> None:
    assert sent(value) == text
    assert type(sent(value)) is type(text)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (None, "None"),
        ({}, "dict"),
        ({"a": 1}, "dict"),
        ({"a"}, "set"),
        (frozenset("a"), "frozenset"),
        (b"bytes", "bytes"),
        (bytearray(b"x"), "bytearray"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "inf"),
        (Decimal("NaN"), "nan"),
        (Decimal("sNaN"), "nan"),
        (Decimal("Infinity"), "inf"),
        (1j, "complex"),
        (Fraction(1, 3), "Fraction"),
        (timedelta(1), "timedelta"),
        (object(), "object"),
        (iter("ab"), "iterator"),
        (["a", None], "None"),
        (["a", True], "list"),
        (["a", ["b"]], "list"),
        ([{"a": 1}], "dict"),
        ([math.nan], "nan"),
        (Stamp(2026, 1, 1, tzinfo=UTC), "NaT"),
        (Scalar(0, Dtype("M"), "NaT"), "NaT"),
        (Scalar(math.nan, Dtype("f")), "nan"),
        (Scalar([[1], [2]], Dtype("i")), "list"),
        (Scalar([True], Dtype("b")), "list"),
    ],
)
def test_inputs_that_are_refused_say_which_and_why(value: Any, hint: str) -> None:
    with pytest.raises(InvalidRequestError, match=hint) as caught:
        sent(value)
    assert "'x'" in str(caught.value)


def test_a_number_of_too_many_digits_is_refused_like_the_rest() -> None:
    with pytest.raises(InvalidRequestError, match="digits"):
        sent(10**6000)


def test_extra_body_goes_over_everything() -> None:
    assert body(detached=True, extra_body={"detached": None, "new": [1]}) == {
        "notebookId": NB,
        "detached": None,
        "new": [1],
    }


def test_a_request_does_not_follow_its_callers_changes() -> None:
    inputs, blocks, extra = {"a": "1"}, ["b"], {"c": 1}
    request = RunRequest(NB, inputs=inputs, block_ids=blocks, extra_body=extra)
    before = json.dumps(request.body())
    inputs["a"], extra["c"] = "2", 2
    blocks.append("d")
    assert json.dumps(request.body()) == before


def test_requests_are_values() -> None:
    request = RunRequest(NB, inputs={"a": [1]}, block_ids=["b"], extra_body={"c": []}, key="k")
    twin = pickle.loads(pickle.dumps(request))
    assert twin == request
    assert hash(twin) == hash(request)
    assert RunRequest(NB, inputs={"a": 2}) != RunRequest(NB, inputs={"a": 3})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.notebook_id = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        RunRequest(NB, {"a": 1})  # type: ignore[misc]


def test_inputs_and_extras_are_in_no_repr() -> None:
    assert "hush" not in repr(RunRequest(NB, inputs={"password": "hush"}, extra_body={"k": "hush"}))


scalars = st.one_of(
    st.text(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.uuids(),
)
inputs_strategy = st.dictionaries(
    st.text(min_size=1), st.one_of(scalars, st.booleans(), st.lists(scalars), st.tuples(scalars, scalars)), max_size=5
)


@given(inputs_strategy)
def test_accepted_inputs_are_text_booleans_or_lists_of_text(inputs: dict[str, Any]) -> None:
    given_body = RunRequest(NB, inputs=inputs).body()
    assert list(given_body["inputs"]) == list(inputs)
    for value in given_body["inputs"].values():
        assert type(value) in {str, bool, list}
        assert not isinstance(value, list) or all(type(item) is str for item in value)
    assert json.loads(json.dumps(given_body)) == given_body


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.binary() | scalars, st.lists, max_leaves=5))
def test_any_value_is_converted_or_refused(value: Any) -> None:
    with contextlib.suppress(InvalidRequestError):
        assert isinstance(sent(value), str | bool | list)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**15), 10**15))
def test_numbers_come_back_from_their_text(number: float, whole: int) -> None:
    assert float(sent(number)) == number
    assert int(sent(whole)) == whole


# A grid.


def test_a_grid_has_every_combination_the_last_fastest() -> None:
    requests = list(grid(NB, region=["EU", "US"], year=range(2024, 2027)))
    assert [(r.inputs or {}).items() for r in requests] == [
        {"region": region, "year": str(year)}.items() for region in ("EU", "US") for year in (2024, 2025, 2026)
    ]
    assert all(r.notebook_id == NB for r in requests)


def test_a_grid_of_nothing_is_one_run_and_one_of_an_empty_choice_none() -> None:
    assert [r.body() for r in grid(NB)] == [{"notebookId": NB}]
    assert list(grid(NB, a=[], b=[1])) == []


def test_a_grid_is_made_as_it_is_read() -> None:
    huge = grid(NB, a=range(1000), b=range(1000), c=range(1000))
    assert [dict(r.inputs or {})["c"] for r in itertools.islice(huge, 3)] == ["0", "1", "2"]
    assert iter(huge) is huge


@pytest.mark.parametrize("choice", ["EU", b"EU", 7, None])
def test_a_bare_value_is_no_choice_and_is_refused_at_once(choice: Any) -> None:
    with pytest.raises(InvalidRequestError, match="region"):
        grid(NB, region=choice)


def test_a_choice_the_service_refuses_is_refused_when_it_is_reached() -> None:
    requests = grid(NB, region=["EU", None])
    assert next(requests).inputs == {"region": "EU"}
    with pytest.raises(InvalidRequestError, match="None"):
        next(requests)


def test_choices_may_come_from_a_generator() -> None:
    def regions() -> Iterator[str]:
        yield from ("EU", "US")

    assert len(list(grid(NB, region=regions(), n=[1, 2]))) == 4


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.lists(st.integers(), max_size=4), max_size=3))
def test_a_grid_is_the_product_of_its_choices(choices: dict[str, list[int]]) -> None:
    expected = [dict(zip(choices, map(str, values), strict=True)) for values in itertools.product(*choices.values())]
    assert [dict(request.inputs or {}) for request in grid(NB, **choices)] == expected
