"""What a benchmark found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Column", "Figure", "Report"]

Value = float | str | None


@attrs.frozen
class Column:
    """One column of a table: what it is called in JSON and in print, and how its numbers are written."""

    key: str
    heading: str
    spec: str = ".2f"

    def show(self, value: Value) -> str:
        """A value as it is printed."""
        if value is None:
            return "-"
        return value if isinstance(value, str) else format(value, self.spec)


@attrs.frozen(kw_only=True)
class Figure:
    """A figure beside the one to reach: at most ``bound``, or at least."""

    what: str
    value: float | None
    bound: float
    at_least: bool = False
    spec: str = ".2f"

    @property
    def reached(self) -> bool:
        """Whether it is reached; what could not be measured is not."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def as_row(self) -> list[str]:
        """Itself for a table."""
        value = "-" if self.value is None else format(self.value, self.spec)
        sense = "at least" if self.at_least else "at most"
        return [self.what, value, f"{sense} {self.bound:{self.spec}}", "yes" if self.reached else "NO"]

    def as_json(self) -> dict[str, Any]:
        """Itself as plain values."""
        return attrs.asdict(self, filter=lambda field, _: field.name != "spec") | {"reached": self.reached}


@attrs.frozen(kw_only=True)
class Report:
    """One table, and the figures to reach; ``notes`` say how they are computed, for all reports of a benchmark."""

    title: str
    columns: Sequence[Column]
    rows: Mapping[str, Mapping[str, Value]]
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()

    def as_text(self) -> str:
        """The tables as they are printed."""
        body = [
            [name, *(column.show(row.get(column.key)) for column in self.columns)] for name, row in self.rows.items()
        ]
        parts = [self.title, "", table(["", *(column.heading for column in self.columns)], body)]
        if self.figures:
            head = ["to reach", "measured", "bound", "reached"]
            parts += ["", table(head, [figure.as_row() for figure in self.figures])]
        return "\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "title": self.title,
            "rows": {name: dict(row) for name, row in self.rows.items()},
            "figures": [figure.as_json() for figure in self.figures],
        }


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns side by side: names to the left, numbers to the right."""
    lines = [head, *body]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    drawn = ["  ".join([line[0].ljust(widths[0]), *_to_the_right(line[1:], widths[1:])]).rstrip() for line in lines]
    return "\n".join([drawn[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *drawn[1:]])


def _to_the_right(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
