"""Progress and results, drawn: in place on a terminal, as plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from .tally import Tally

__all__ = ["Board"]

LINES_EVERY: Final = 2.0  # s, where nothing can be drawn in place
BAR: Final = 22


class Board:
    """Draws the counts of one way, or of two side by side."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet  # no progress, only what came of it
        self._live: Live | None = None
        self._began = 0.0
        self._last_line = 0.0

    def say(self, text: str) -> None:
        """Print a paragraph."""
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def drawing(self, ways: Sequence[Tally]) -> Iterator[None]:
        """While the block lasts, :meth:`draw` shows where the ways stand."""
        self._began = self._last_line = time.monotonic()
        if self._quiet:
            yield
            return
        if not self._console.is_terminal:
            yield
            self._lines(ways)
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield
            self.draw(ways)

    def draw(self, ways: Sequence[Tally]) -> None:
        """Show where the ways stand now."""
        for tally in ways:
            if tally.refresh is not None:
                tally.refresh()
        if self._live is not None:
            self._live.update(self._progress(ways), refresh=True)
        elif not self._quiet and time.monotonic() - self._last_line >= LINES_EVERY:
            self._lines(ways)

    def _lines(self, ways: Sequence[Tally]) -> None:
        self._last_line = time.monotonic()
        seconds = self._last_line - self._began
        for tally in ways:
            self.say(
                f"{seconds:5.1f} s  {tally.name}: {tally.ended} of {tally.wanted} ended, {tally.going} under way, "
                f"{tally.abandoned} given up; {tally.requests} requests, {tally.throttled} throttled"
            )

    def _progress(self, ways: Sequence[Tally]) -> Table:
        table = _grid(ways, f"{time.monotonic() - self._began:.1f} s")
        bars: list[RenderableType] = [
            ProgressBar(tally.wanted, tally.ended, width=BAR, complete_style="green", finished_style="green")
            for tally in ways
        ]
        table.add_row("", *bars)
        table.add_row("runs ended", *(f"{tally.ended} of {tally.wanted}" for tally in ways))
        table.add_row("under way", *(str(tally.going) for tally in ways))
        table.add_row("given up", *(_warned(tally.abandoned) for tally in ways))
        table.add_row("requests sent", *(f"{tally.requests:,}" for tally in ways))
        table.add_row("throttled answers", *(f"{tally.throttled:,}" for tally in ways))
        return table

    def results(self, ways: Sequence[Tally]) -> None:
        """Print what came of it."""
        table = _grid(ways, "result")
        table.add_row("succeeded", *(f"[bold]{tally.succeeded} of {tally.wanted}[/]" for tally in ways))
        table.add_row("failed", *(str(tally.failed) for tally in ways))
        table.add_row("given up", *(_warned(tally.abandoned) for tally in ways))
        table.add_row("slowest run", *(_seconds(tally.slowest) for tally in ways))
        table.add_row("requests sent", *(f"{tally.requests:,}" for tally in ways))
        table.add_row("requests a run that ended", *(_per_run(tally) for tally in ways))
        table.add_row("throttled answers (429)", *(f"{tally.throttled:,}" for tally in ways))
        table.add_row("delay, end to known: mean", *(_seconds(tally.mean_delay) for tally in ways))
        table.add_row("delay, end to known: 95th %", *(_seconds(tally.late_delay) for tally in ways))
        table.add_row("time taken", *(_seconds(tally.seconds) for tally in ways))
        self._console.print(table)


def _grid(ways: Sequence[Tally], corner: str) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column(corner, min_width=27)
    for tally in ways:
        table.add_column(tally.name, justify="right", min_width=BAR)
    return table


def _warned(count: int) -> str:
    return f"[red]{count}[/]" if count else "0"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _per_run(tally: Tally) -> str:
    return f"{tally.requests / tally.ended:.2f}" if tally.ended else "-"
