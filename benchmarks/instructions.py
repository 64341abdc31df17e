"""``instructions``: what a call costs in instructions, which a busy machine does not change: for comparing commits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .canned import serving
from .report import Column, Figure, Report, Value

__all__ = ["run"]

CALLS: Final = 200
WARM: Final = 50
ROWS: Final = {
    "runs.get, by hand": "hand get",
    "runs.get": "get",
    "runs.create, by hand": "hand create",
    "runs.create": "create",
}
COLUMNS: Final = (Column("instructions", "instructions", ",.0f"), Column("a_call", "a call", ",.0f"))
NOTES: Final = (
    f"instructions: under callgrind, for {CALLS} calls one after another: what {WARM + CALLS} calls need, less what",
    f"  {WARM} calls need; one worker, plain asyncio, and the JSON reader that is installed",
)
_COLLECTED: Final = re.compile(r"Collected *: *(\d+)")


def _count(way: str, url: str, calls: int) -> int:
    line = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    worker = ["-m", "benchmarks.instructions_worker", way, url, str(calls)]
    # Hashes drawn anew would lay out every dict anew.
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*line, *worker], env=environment, capture_output=True, text=True, check=False)
    found = _COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"valgrind failed: {done.stderr[-2000:]}")
    return int(found[1])


def _counted(url: str) -> dict[str, int]:
    def count(way: str) -> int:
        return _count(way, url, WARM + CALLS) - _count(way, url, WARM)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(ROWS, pool.map(count, ROWS.values()), strict=True))


def run() -> Report:
    """The benchmark; raises SystemExit where valgrind is missing."""
    if shutil.which("valgrind") is None:
        raise SystemExit("instructions are counted by valgrind, which is not installed: apt-get install valgrind")
    with serving() as url:
        found = _counted(url)
    return Report(
        title=f"instructions: {CALLS} calls under callgrind",
        columns=COLUMNS,
        rows={name: _row(count) for name, count in found.items()},
        figures=[
            _figure(found, "runs.get", 1.0),
            # A start runs in a task of its own, and a hook tells when its headers leave: this much they may cost.
            _figure(found, "runs.create", 1.5),
        ],
        notes=NOTES,
    )


def _row(count: int) -> Mapping[str, Value]:
    return {"instructions": count, "a_call": count / CALLS}


def _figure(found: Mapping[str, int], name: str, bound: float) -> Figure:
    value = found[name] / found[f"{name}, by hand"]
    return Figure(what=f"{name}, to hand-written", value=value, bound=bound, spec=".3f")
