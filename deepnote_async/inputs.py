"""Whether the inputs of a start are what a notebook takes, as the service would judge them.

Source: https://deepnote.com/docs/api-reference/runs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from .errors import InvalidRequestError
from .models import Notebook, NotebookInput

__all__ = ["check_inputs"]

MOST_DIGITS: Final = 30
_TEXT_TYPES: Final = {"input-text", "input-textarea", "input-file"}
_RANGES: Final = ("past7days", "past14days", "pastMonth", "past3months", "past6months", "pastYear")
_DAYS: Final = re.compile(r"customDays\d+", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d.*)?", re.ASCII)


def check_inputs(inputs: Mapping[str, Any], notebook: Notebook) -> None:
    """Raises :class:`InvalidRequestError` that names everything wrong and what is nearest to it."""
    faults = [*_faults(inputs, notebook)]
    if faults:
        raise InvalidRequestError("; ".join(faults))


def _faults(inputs: Mapping[str, Any], notebook: Notebook) -> Iterator[str]:
    declared = {item.name: item for item in notebook.inputs}
    for name, value in inputs.items():
        if name in declared:
            fault = _fault(declared[name], value)
            if fault is not None:
                yield f"input {name!r} {fault}"
        elif declared:
            yield f"the notebook has no input {name!r}: {_nearest(name, declared)}"
        else:
            yield f"the notebook tells of no inputs, so of none named {name!r}: was it read by notebooks.get?"


def _nearest(wrong: str, known: Iterable[str]) -> str:
    import difflib

    names = [*known]
    close = difflib.get_close_matches(wrong.lower(), {name.lower(): name for name in names}, n=1, cutoff=0.5)
    if close:
        return f"did you mean {next(name for name in names if name.lower() == close[0])!r}?"
    shown = ", ".join(map(repr, names[:10]))
    return f"it is one of {shown}{', ...' if len(names) > 10 else ''}"


def _fault(declared: NotebookInput, value: Any) -> str | None:
    match declared.type:
        case "input-checkbox":
            return None if isinstance(value, bool) else f"is a checkbox: write True or False, not {value!r}"
        case "input-select":
            return _select_fault(declared, value)
        case "input-slider":
            return _slider_fault(declared, value)
        case "input-date" | "input-date-range" as kind:
            return _date_fault(value) if kind == "input-date" else _range_fault(value)
        case kind if kind in _TEXT_TYPES and not isinstance(value, str):
            return f"takes text, not {value!r}"
    return None


def _date_fault(value: Any) -> str | None:
    return None if _is_date(value) else f"is a date: write one as 2026-01-31, not {value!r}"


def _is_date(value: Any) -> bool:
    # An empty one is a date not chosen, which the notebook shows as an empty field.
    if not isinstance(value, str) or not (value == "" or _DATE.fullmatch(value)):
        return False
    try:
        return value == "" or datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def _range_fault(value: Any) -> str | None:
    if isinstance(value, list) and len(value) == 2 and all(map(_is_date, value)):
        return None
    if isinstance(value, str) and (value in _RANGES or _DAYS.fullmatch(value) or _is_date(value)):
        return None
    if isinstance(value, str) and value[:1].isalpha():
        return f"is a range of dates, and there is none {value!r}: {_nearest(value, [*_RANGES, 'customDays30'])}"
    return f"is a range of dates: write two as ['2026-01-01', '2026-01-31'], or 'past7days', not {value!r}"


def _select_fault(declared: NotebookInput, value: Any) -> str | None:
    if declared.multiple and not isinstance(value, list):
        return f"takes a list: write [{value!r}]"
    if not declared.multiple and not isinstance(value, str):
        return f"takes one of its options, not {value!r}"
    options = [_option(item) for item in declared.options or ()]
    chosen: Sequence[str] = value if isinstance(value, list) else [value]
    wrong = next((item for item in chosen if item not in options), None)
    # Without any the options come from a variable, and only the run will know them.
    return None if not options or wrong is None else f"has no option {wrong!r}: {_nearest(wrong, options)}"


def _option(item: Any) -> str:
    if isinstance(item, Mapping):
        item = item.get("value", item.get("label"))
    return str(item)


def _slider_fault(declared: NotebookInput, value: Any) -> str | None:
    number = _number(value)
    if number is None:
        return f"is a slider: write a number, not {value!r}"
    low, high, step = _number(declared.min), _number(declared.max), _number(declared.step)
    if low is not None and number < low:
        return f"is {value}, below its range: the nearest is {low}"
    if high is not None and number > high:
        return f"is {value}, above its range: the nearest is {high}"
    if not step or step < 0:
        return None
    base = low or Decimal(0)
    steps = (number - base) / step
    # Bounds and steps are floats on the wire, where a third of one is cut off somewhere.
    if abs(steps - round(steps)) <= Decimal("1e-6"):
        return None
    return f"is {value}, between its steps: the nearest is {(base + round(steps) * step).normalize():f}"


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    # Reckoning with more digits than any slider has could take for ever.
    return number if number.is_finite() and abs(number.adjusted()) <= MOST_DIGITS else None
