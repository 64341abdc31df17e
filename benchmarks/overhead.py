"""``overhead``: CPU of a call beside the same call written by hand, and beside generated clients. Real time."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from .canned import PAGES, ROWS, serving
from .generated import GENERATORS
from .report import Column, Figure, Report, Value

__all__ = ["run"]

WORKERS: Final = (1, 20)
PAIRS: Final = 45  # many and short, for the clock of a shared machine changes from one second to the next
PAIRS_GENERATED: Final = 15  # their calls are four and more times as long
COLUMNS: Final = tuple(
    column
    for workers in WORKERS
    for column in (
        Column(f"microseconds_{workers}", f"us, {workers} at once", ".1f"),
        Column(f"ratio_{workers}", f"ratio, {workers} at once", ".3f"),
    )
)
NOTES: Final = (
    "us: CPU of the client's process for one call (for list_runs: for one run), the median of the bursts",
    f"ratio: to the row it is compared with, the median of {PAIRS} pairs of bursts A B A B ({PAIRS_GENERATED} for",
    "  generated clients); ids are fresh",
    "the wire alone: a ready request written to a socket, and what comes taken unread: below it no client goes",
    "both sides read JSON with the standard library on plain asyncio, or, with --uvloop, both with orjson on uvloop",
)


@attrs.frozen
class Pair:
    """Two ways of one call: what is measured, and what it is held against.

    There are ``calls`` in a burst, ``times`` bursts of each, and ``per`` units in a call.
    """

    way: str
    against: str
    calls: int
    per: int = 1
    times: int = PAIRS


PAIRS_OF: Final = {
    "runs.get": Pair("get", "hand get", 400),
    "list_runs, a run": Pair("list", "hand list", 20, ROWS * PAGES),
    "runs.create": Pair("create", "hand create", 400),
}
WIRE: Final = Pair("wire", "hand get", 400)


@attrs.frozen
class Found:
    """What a pair cost, by the number of workers: both sides' CPU seconds, pair by pair."""

    pair: Pair
    bursts: Mapping[int, list[tuple[float, float]]]

    def microseconds(self, workers: int, side: int) -> float:
        """CPU of a unit: side 0 is what is measured, side 1 what it is held against."""
        return 1e6 * statistics.median(burst[side] for burst in self.bursts[workers]) / self.pair.per

    def ratio(self, workers: int) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(one / other for one, other in self.bursts[workers])

    def row(self) -> dict[str, Value]:
        """Itself in a table."""
        return _row(lambda workers: self.microseconds(workers, 0), self.ratio)

    def other_row(self) -> dict[str, Value]:
        """What it was held against in a table."""
        return _row(lambda workers: self.microseconds(workers, 1), lambda _: 1.0)


def _row(microseconds: Any, ratio: Any) -> dict[str, Value]:
    return {
        key: value
        for workers in WORKERS
        for key, value in (
            (f"microseconds_{workers}", microseconds(workers)),
            (f"ratio_{workers}", ratio(workers)),
        )
    }


@attrs.frozen
class Bench:
    """Where to measure and how: ``speed`` is the extra of that name."""

    url: str
    speed: bool
    folder: Path

    def __call__(self, pair: Pair) -> Found:
        return Found(pair, {workers: self._alternate(pair, workers) for workers in WORKERS})

    def _alternate(self, pair: Pair, workers: int) -> list[tuple[float, float]]:
        order = {
            "url": self.url,
            "speed": self.speed,
            "ways": [pair.way, pair.against],
            "workers": workers,
            "calls": pair.calls,
            "pairs": pair.times,
        }
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.overhead_worker"],
            input=json.dumps(order),
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(self.folder)])},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found: list[tuple[float, float]] = json.loads(done.stdout)
        return found


@contextmanager
def _bench(speed: bool) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="generated") as folder, serving() as url:
        yield Bench(url, speed, Path(folder))


def run(*, speed: bool = False) -> Report:
    """The benchmark, with the extra ``speed`` on both sides or without."""
    notes = list(NOTES)
    with _bench(speed) as bench:
        found = {name: bench(pair) for name, pair in PAIRS_OF.items()}
        wire = bench(WIRE)
        generated = {}
        for name, generator in GENERATORS.items():
            failure = generator.make(bench.folder)
            if failure is None:
                generated[name] = bench(Pair(name, "get", 300, times=PAIRS_GENERATED))
            else:
                notes.append(f"left out: {failure}")
    rows: dict[str, dict[str, Value]] = {}
    for name, one in found.items():
        rows[f"{name}, by hand"] = one.other_row()
        rows[name] = one.row()
    rows["the wire alone, to runs.get by hand"] = wire.row()
    rows |= {f"{name}, to runs.get": one.row() for name, one in generated.items()}
    return Report(
        title=f"overhead: CPU of a call on {'uvloop, with orjson' if speed else 'asyncio, with json'}; in real time",
        columns=COLUMNS,
        rows=rows,
        figures=_figures(found, generated),
        notes=notes,
    )


def _figures(found: Mapping[str, Found], generated: Mapping[str, Found]) -> list[Figure]:
    bounds = {"runs.get": 1.0, "list_runs, a run": 1.0}
    least = {"openapi-generator": 5.0, "openapi-python-client": 12.0}
    return [
        *(
            Figure(what=f"{name}, to hand-written", value=max(map(found[name].ratio, WORKERS)), bound=bound, spec=".3f")
            for name, bound in bounds.items()
        ),
        *(
            Figure(
                what=f"{name}, to runs.get",
                value=min(map(one.ratio, WORKERS)),
                bound=least[name],
                at_least=True,
                spec=".1f",
            )
            for name, one in generated.items()
        ),
    ]
