"""``python -m benchmarks NAME [--json]``, from the root of the repository."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from . import batches, chart, day, footprint, foreground, instructions, ledger, mixed, overhead, scale, soak
from .report import Report

SEEDS: Final = 5
CHART: Final = Path(".assets/fanout.svg")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    result = argparse.ArgumentParser(prog="python -m benchmarks", description="What the client costs, measured.")
    add = result.add_argument
    add("name", choices=[*BENCHMARKS, "chart"])
    add("path", nargs="?", type=Path, default=CHART, help=f"chart: where to draw to (default: {CHART})")
    add("--results", type=Path, help="chart: the JSON of fanout to draw, in place of running it")
    add("--json", action="store_true", help="print one JSON object")
    add("--virtual", action="store_true", help="fanout, untold, window: in virtual time")
    add("--seeds", type=int, default=SEEDS, help="how many seeds to take the mean of, in virtual time")
    add("--seed", type=int, default=1, help="the first seed")
    add("--ours", action="store_true", help="without the baselines")
    add("--order", choices=("newest", "oldest", "random"), default="newest", help="of the runs in a listing")
    add("--foreign", type=int, default=0, help="earlier runs of others on the notebook")
    add("--uvloop", action="store_true", help="overhead: with the extra `speed` (uvloop, orjson) on both sides")
    add("--runs", type=int, default=20_000, help="scale: how many runs are awaited")
    add("--minutes", type=float, default=10.0, help="soak: how long")
    return result


def _batches(options: argparse.Namespace) -> Iterator[Report]:
    seeds = range(options.seed, options.seed + options.seeds) if options.virtual else None
    for case in batches.cases(options.name, order=options.order, foreign=options.foreign):
        yield batches.run_case(case, seeds=seeds, baselines=not options.ours)


def _mixed(options: argparse.Namespace) -> Iterator[Report]:
    return mixed.run(range(options.seed, options.seed + options.seeds))


def _foreground(_: argparse.Namespace) -> Iterator[Report]:
    yield foreground.run()


def _scale(options: argparse.Namespace) -> Iterator[Report]:
    yield scale.run(options.runs)


def _day(options: argparse.Namespace) -> Iterator[Report]:
    yield day.run(options.seed)


def _overhead(options: argparse.Namespace) -> Iterator[Report]:
    yield overhead.run(speed=options.uvloop)


def _instructions(_: argparse.Namespace) -> Iterator[Report]:
    yield instructions.run()


def _soak(options: argparse.Namespace) -> Iterator[Report]:
    yield soak.run(options.minutes)


def _footprint(_: argparse.Namespace) -> Iterator[Report]:
    yield footprint.run()


def _ledger(_: argparse.Namespace) -> Iterator[Report]:
    yield ledger.run()


BENCHMARKS: Final[dict[str, Callable[[argparse.Namespace], Iterator[Report]]]] = {
    "fanout": _batches,
    "untold": _batches,
    "window": _batches,
    "mixed": _mixed,
    "foreground": _foreground,
    "scale": _scale,
    "day": _day,
    "overhead": _overhead,
    "instructions": _instructions,
    "footprint": _footprint,
    "soak": _soak,
    "ledger": _ledger,
}


def _chart(options: argparse.Namespace) -> None:
    """Draw ``fanout``, as it was found before or as it is found now."""
    (case,) = batches.cases("fanout")
    if options.results is None:
        report = batches.run_case(case, seeds=None).as_json()
    else:
        report = json.loads(options.results.read_text())["reports"][0]
    options.path.write_text(chart.draw(report, case.setting.runs))


def main() -> None:
    """Run one benchmark and print what it found."""
    options = parser().parse_args()
    if options.name == "chart":
        _chart(options)
        return
    reports: list[Report] = []
    for report in BENCHMARKS[options.name](options):
        reports.append(report)
        if not options.json:
            print(report.as_text(), end="\n\n", flush=True)
    if options.json:
        print(json.dumps({"benchmark": options.name, "reports": [report.as_json() for report in reports]}))
    else:
        print("\n".join(reports[-1].notes))


if __name__ == "__main__":
    main()
