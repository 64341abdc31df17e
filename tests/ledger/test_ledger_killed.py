"""A batch killed at random moments and begun again with the same command until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from deepnote_async import Ledger
from deepnote_async.testing import FakeProcess

WORKER = Path(__file__).with_name("killed_worker.py")
ROWS = 200
LATEST = 1.6  # s after a batch has begun at which it is killed: about as long as one takes


async def killed(job, after):
    """Run the worker until it ends or is killed; what it said, and whether it ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), json.dumps(job), stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    lines = [await process.stdout.readline()]
    assert lines == [b"begun\n"]
    if after is not None:
        try:
            await asyncio.wait_for(process.wait(), after)
        except TimeoutError:
            # Not process.kill(): it would look first, and take from asyncio how a process has just ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines()
    status = await process.wait()
    assert status in {0, -9}, lines
    # The last may have been cut off.
    told = [json.loads(line) for line in lines[1:] if line.endswith(b"}")]
    return told, status == 0


async def trial(path, seed, kills, *, change):
    """One batch, killed so often and then left to end; checks that nothing was started twice or lost."""
    chance = random.Random(seed)
    async with FakeProcess(notebooks=4, median=0.2, sigma=0.5, seed=seed, latency=0.01) as fake:
        job = {"url": fake.url, "token": fake.token, "notebooks": fake.notebooks, "ledger": str(path)}
        job |= {"count": ROWS, "shuffle": None}
        seen = {}
        done = 0
        for _ in range(kills):
            told, ended = await killed(job, chance.uniform(0.0, LATEST))
            note(told, seen)
            done += not ended
            if change:
                job |= {"count": job["count"] + 3, "shuffle": chance.random()}
        told, ended = await killed(job, None)
        assert ended
        note(told, seen)
        *results, last = told
        assert last == {"leftover": 0}
        assert len(results) == len({row["key"] for row in results}) == job["count"]
        assert {row["error"] for row in results} == {"None"}
        runs = [run["id"] for run in (await fake.stats())["runs"]]
    # As many runs as requests, each told for one request: none twice, none unaccounted.
    assert Counter(row["run"] for row in results) == Counter(runs)
    entries = [entry async for entry in Ledger.open(path)]
    assert {(entry.key, entry.run_id) for entry in entries} == {(row["key"], row["run"]) for row in results}
    assert {(entry.state, entry.attempt) for entry in entries} == {("ended", 1)}
    return done


def note(told, seen):
    """A request that was told its run once is told the same one ever after."""
    for row in told:
        if "key" in row and row["run"] is not None:
            assert seen.setdefault(row["key"], row["run"]) == row["run"]


@pytest.mark.slow
@pytest.mark.parametrize("change", [False, True], ids=["same", "changed"])
async def test_a_batch_killed_thrice_starts_nothing_twice(tmp_path, change):
    await trial(tmp_path / "batch.sqlite", 7 + change, 3, change=change)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("change", [False, True], ids=["same", "changed"])
async def test_a_batch_killed_at_a_hundred_moments_starts_nothing_twice(tmp_path, change):
    moments = 0
    seed = 100 + 1000 * change
    while moments < 100:
        seed += 1
        moments += await trial(tmp_path / f"{seed}.sqlite", seed, 5, change=change)
