"""``ledger``: what keeping a ledger costs a batch, and how long a big one takes to open. Real time."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deepnote_async import DeepnoteClient, PollPolicy, RunRequest, TokenBucket
from deepnote_async.ledger.records import Row
from deepnote_async.ledger.store import Store
from deepnote_async.ledger.writer import Writer
from deepnote_async.testing import FakeProcess

from .report import Column, Figure, Report

__all__ = ["run"]

RATE: Final = 200.0  # starts a second
RUNS: Final = 1_000
LENGTH: Final = 1.0  # s of each run
ROUNDS: Final = 3
ENTRIES: Final = 100_000
COLUMNS: Final = (Column("wall", "wall s"), Column("cpu", "CPU s"), Column("starts", "starts/s", ".0f"))


async def _batch(fake: FakeProcess, ledger: Path | None) -> dict[str, float]:
    # The looks have their share of the requests beside the starts.
    limiter = TokenBucket(2 * RATE, 20.0, adaptive=False)
    # Looked at often, or how late the last run is told would hide what the ledger costs.
    poll = PollPolicy(initial=0.2, maximum=0.5)
    async with DeepnoteClient(fake.token, base_url=fake.url, rate_limiter=limiter, poll=poll) as client:
        await client.me()
        requests = (RunRequest(fake.notebooks[0], inputs={"number": number}) for number in range(RUNS))
        began, cpu, paced = time.perf_counter(), time.process_time(), _Paced(requests)
        async with client.run_many(paced, max_in_flight=RUNS, ledger=ledger) as batch:
            results = await batch.collect()
        wall = time.perf_counter() - began
        if not all(result.ok for result in results):
            raise RuntimeError("a run was lost")
        return {"wall": wall, "cpu": time.process_time() - cpu, "starts": RUNS / (paced.last - began)}


class _Paced:
    """Requests that come so many a second."""

    def __init__(self, requests: Iterable[RunRequest]) -> None:
        self._requests = iter(requests)
        self._began = time.perf_counter()
        self._given = 0
        self.last = self._began

    def __aiter__(self) -> _Paced:
        return self

    async def __anext__(self) -> RunRequest:
        await asyncio.sleep(max(self._began + self._given / RATE - time.perf_counter(), 0.0))
        for request in self._requests:
            self._given += 1
            self.last = time.perf_counter()
            return request
        raise StopAsyncIteration


async def _rounds(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {"without": [], "with a ledger": []}
    for number in range(ROUNDS):
        # By turns, for the machine may be busier now than then.
        for name, path in (("without", None), ("with a ledger", folder / f"{number}.sqlite")):
            async with FakeProcess(median=LENGTH, sigma=0.0) as fake:
                found[name].append(await _batch(fake, path))
    return {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


async def _opening(path: Path) -> float:
    store = Store.writing(str(path))
    rows = (
        Row(n, f"{n:032x}.1", 1, "n" * 36, f"{n:064x}", None, "ended", "r" * 36, "success", 1e9, None, 1e9, 2e9)
        for n in range(1, ENTRIES + 1)
    )
    store.put([row.values() for row in rows])
    store.close()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        writer = Writer(str(path))
        held = await writer.open()
        took.append(time.perf_counter() - began)
        if len(held) != ENTRIES:
            raise RuntimeError("an entry was lost")
        await writer.close()
    return statistics.median(took)


def run() -> Report:
    """The benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(_rounds(Path(folder)))
        opening = asyncio.run(_opening(Path(folder) / "big.sqlite"))
    more = rows["with a ledger"]["wall"] / rows["without"]["wall"] - 1
    return Report(
        title=f"ledger: {RUNS} runs of {LENGTH:g} s, {RATE:g} starts a second; in real time",
        columns=COLUMNS,
        rows=rows,
        figures=[
            Figure(what="wall time that the ledger adds, %", value=100 * more, bound=10.0),
            Figure(what=f"s to open a ledger of {ENTRIES} entries", value=opening, bound=1.0),
        ],
        notes=(f"medians of {ROUNDS} rounds, by turns",),
    )
