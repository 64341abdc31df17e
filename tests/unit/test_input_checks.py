"""``RunRequest.checked``: names and values refused before anything is started, and what is named in their place."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from deepnote_async import InvalidRequestError, Notebook, NotebookInput, RunRequest

BOOK = Notebook(
    id="f05a7c0d-6bd5-4a24-8b2a-4c9d6f2f7f5b",
    inputs=[
        NotebookInput(name="region", type="input-select", options=["EU", "US", "APAC"]),
        NotebookInput(
            name="teams", type="input-select", options=["red", {"value": "blue", "label": "Blue"}], multiple=True
        ),
        NotebookInput(name="from_variable", type="input-select"),
        NotebookInput(name="year", type="input-slider", min=2000, max=2030, step=5),
        NotebookInput(name="share", type="input-slider", min=0, max=1, step=0.1),
        NotebookInput(name="any_number", type="input-slider"),
        NotebookInput(name="dry_run", type="input-checkbox"),
        NotebookInput(name="title", type="input-text"),
        NotebookInput(name="since", type="input-date"),
        NotebookInput(name="span", type="input-date-range"),
        NotebookInput(name="novel", type="input-brand-new", min="?", options=[1]),
    ],
)


def refusal(**inputs: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        RunRequest(BOOK.id, inputs=inputs).checked(BOOK)
    return str(caught.value)


@pytest.mark.parametrize(
    "inputs",
    [
        {"region": "EU"},
        {"teams": []},
        {"teams": ["red", "blue"]},
        {"from_variable": "whatever"},
        {"year": 2025},
        {"year": "2030"},
        {"year": Decimal("2000.0")},
        {"share": 0.3},
        {"share": 0.7000000001},
        {"share": 1},
        {"any_number": -1e9},
        {"dry_run": False},
        {"title": ""},
        {"title": 7},
        {"since": date(2026, 1, 2)},
        {"since": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)},
        {"since": "2026-01-02T03:04:05.678Z"},
        {"since": ""},
        {"span": "past7days"},
        {"span": "customDays45"},
        {"span": "2026-01-02"},
        {"span": ["2026-01-02T00:00:00.000Z", ""]},
        {"span": [date(2026, 1, 2), date(2026, 2, 2)]},
        {"novel": ["x"]},
        {},
    ],
)
def test_what_fits_is_the_request_itself(inputs: dict[str, Any]) -> None:
    request = RunRequest(BOOK.id, inputs=inputs)
    assert request.checked(BOOK) is request
    assert RunRequest(BOOK.id).checked(BOOK).inputs is None


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"regoin": "EU"}, "no input 'regoin': did you mean 'region'?"),
        ({"Region": "EU"}, "no input 'Region': did you mean 'region'?"),
        ({"zzz": "EU"}, "no input 'zzz': it is one of 'region', 'teams'"),
        ({"region": "EUU"}, "'region' has no option 'EUU': did you mean 'EU'?"),
        ({"region": "eu"}, "'region' has no option 'eu': did you mean 'EU'?"),
        ({"region": ["EU"]}, "'region' takes one of its options, not ['EU']"),
        ({"region": True}, "'region' takes one of its options, not True"),
        ({"teams": "red"}, "'teams' takes a list: write ['red']"),
        ({"teams": ["red", "bleu"]}, "'teams' has no option 'bleu': did you mean 'blue'?"),
        ({"year": 1999}, "'year' is 1999, below its range: the nearest is 2000"),
        ({"year": 2031}, "'year' is 2031, above its range: the nearest is 2030"),
        ({"year": 2023}, "'year' is 2023, between its steps: the nearest is 2025"),
        ({"share": 0.26}, "'share' is 0.26, between its steps: the nearest is 0.3"),
        ({"year": "soon"}, "'year' is a slider: write a number, not 'soon'"),
        ({"any_number": "inf"}, "'any_number' is a slider"),
        ({"any_number": "1e3000000"}, "'any_number' is a slider"),
        ({"any_number": True}, "'any_number' is a slider"),
        ({"dry_run": "true"}, "'dry_run' is a checkbox: write True or False, not 'true'"),
        ({"title": ["x"]}, "'title' takes text, not ['x']"),
        ({"since": True}, "'since' is a date: write one as 2026-01-31, not True"),
        ({"since": "2024-13-45"}, "'since' is a date: write one as 2026-01-31, not '2024-13-45'"),
        ({"since": "31.01.2026"}, "'since' is a date: write one"),
        ({"since": "20260131"}, "'since' is a date: write one"),
        ({"span": ["2026-01-01"]}, "'span' is a range of dates: write two as ['2026-01-01', "),
        ({"span": [1, 2]}, "'span' is a range of dates: write two"),
        ({"span": ["2026-01-01", "2026-02-30"]}, "'span' is a range of dates: write two"),
        ({"span": True}, "'span' is a range of dates: write two"),
        ({"span": "past7day"}, "there is none 'past7day': did you mean 'past7days'?"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(inputs: dict[str, Any], told: str) -> None:
    assert told in refusal(**inputs)


def test_everything_wrong_is_told_at_once() -> None:
    text = refusal(regoin="EU", year=1, dry_run=True)
    assert "region" in text
    assert "the nearest is 2000" in text
    assert "dry_run" not in text


def test_a_request_for_another_notebook_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="is for notebook 'other', not 'f05a"):
        RunRequest("other").checked(BOOK)
    request = RunRequest(BOOK.id.replace("-", "").upper())
    assert request.checked(BOOK) is request


def test_a_notebook_that_tells_of_no_inputs_takes_none() -> None:
    with pytest.raises(InvalidRequestError, match=r"was it read by notebooks\.get\?"):
        RunRequest("n", inputs={"a": "b"}).checked(Notebook(id="n"))
    assert RunRequest("n").checked(Notebook(id="n")) == RunRequest("n")


def test_bounds_that_cannot_be_read_bind_nobody() -> None:
    odd = Notebook(id="n", inputs=[NotebookInput(name="x", type="input-slider", min="low", max=[], step=-1)])
    request = RunRequest("n", inputs={"x": 3})
    assert request.checked(odd) is request
