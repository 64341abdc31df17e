"""One picture of ``fanout``: what each way spends, and how late it tells. An SVG of text and shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

import attrs

from .settings import OURS

__all__ = ["draw"]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 690, 52, 340
# Of middle lightness, so that they are read on white and on near black.
INK: Final = "#7a7a7a"
GRID: Final = "#7a7a7a55"
MINE: Final = "#2f81f7"
THEIRS: Final = "#d1652b"
TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
FONT: Final = "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""


@attrs.frozen
class Axis:
    """A logarithmic axis: values from ``low`` to ``high`` onto pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies."""
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """The round values within."""
        return [tick for tick in TICKS if self.low <= tick <= self.high]


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    below = [tick for tick in TICKS if tick <= min(values) / 1.1] or [TICKS[0]]
    above = [tick for tick in TICKS if tick >= max(values) * 1.3] or [max(values) * 1.3]
    return Axis(below[-1], above[0], start, end)


def _text(
    x: float, y: float, text: str, *, size: int = 13, colour: str = INK, anchor: str = "start", more: str = ""
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{more}>'
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="{GRID}"/>'


def _grid(across: Axis, up: Axis) -> Iterator[str]:
    for tick in across.ticks():
        x = across.at(tick)
        yield _line(x, TOP, x, BOTTOM)
        yield _text(x, BOTTOM + 20, f"{tick:g}", anchor="middle")
    for tick in up.ticks():
        y = up.at(tick)
        yield _line(LEFT, y, RIGHT, y)
        yield _text(LEFT - 8, y + 4, f"{tick:g} s", anchor="end")


def _point(x: float, y: float, name: str, row: Mapping[str, Any], wanted: int, *, below: bool) -> Iterator[str]:
    colour = MINE if name == OURS else THEIRS
    to_the_left = x > (LEFT + RIGHT) / 2
    anchor, aside = ("end", -12) if to_the_left else ("start", 12)
    lines = y + 22 if below else y - 14
    yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="7" fill="{colour}"/>'
    yield _text(x + aside, lines, name, colour=colour, anchor=anchor, size=14, more=' font-weight="600"')
    found = f"{row['finished']:.0f} of {wanted} told, {row['mean']:.2g} s late, {row['requests']:.3g} requests a run"
    yield _text(x + aside, lines + 16, found, anchor=anchor, size=12)


def _points(rows: Mapping[str, Mapping[str, Any]], wanted: int, across: Axis, up: Axis) -> Iterator[str]:
    placed: list[tuple[float, float]] = []
    for name, row in rows.items():
        x, y = across.at(row["requests"]), up.at(row["mean"])
        # Two that lie side by side are written one above and one below.
        below = any(abs(y - other) < 40 for _, other in placed)
        placed.append((x, y))
        yield from _point(x, y, name, row, wanted, below=below)


def draw(report: Mapping[str, Any], wanted: int) -> str:
    """The picture of a ``fanout`` report in its JSON form."""
    rows = {name: row for name, row in report["rows"].items() if row["mean"]}
    across = _axis([row["requests"] for row in rows.values()], LEFT, RIGHT)
    up = _axis([row["mean"] for row in rows.values()], BOTTOM, TOP)
    title = f"{wanted} runs of one notebook, 50 requests/s allowed, ten times real speed"
    body = [
        _text(LEFT, 28, title, size=14, more=' font-weight="600"'),
        *_grid(across, up),
        _text((LEFT + RIGHT) / 2, HEIGHT - 12, "requests a run", anchor="middle"),
        _text(0, 0, "mean delay from a run's end to its being told", anchor="middle", more=_TURNED),
        *_points(rows, wanted, across, up),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {FONT}>'
    return "\n".join([head, f"<title>{escape(title)}</title>", *body, "</svg>", ""])


_TURNED: Final = f' transform="translate(20 {(TOP + BOTTOM) / 2:.0f}) rotate(-90)"'
