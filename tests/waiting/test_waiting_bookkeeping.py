"""Nothing is left of a wait, however it ends and whenever."""

from __future__ import annotations

import asyncio
import gc
import random
import time

import pytest
from virtual_world import World, assert_nothing_held, at_rest, now, virtual, world

from deepnote_async import DeepnoteError, RunStarted, TokenBucket


async def all_of(iterator) -> None:
    async for _ in iterator:
        pass


async def batch_of(w: World, number: int, **options) -> None:
    async with w.client.run_many([w.notebook.id] * number, **options) as batch:
        await batch.collect()


def some_wait(w: World, rng: random.Random, runs: list[str]):
    """Any way to wait, for any of the runs."""
    chosen = rng.sample(runs, rng.choice([1, 1, 2, 5, 30]))
    refs = [RunStarted(run_id=run, notebook_id=w.notebook.id) if rng.random() < 0.5 else run for run in chosen]
    timeout = rng.choice([None, None, 0, 3, 50])
    match rng.randrange(8):
        case 0:
            return w.client.await_run(refs[0], timeout=timeout)
        case 1:
            return w.client.await_run(refs, timeout=timeout, on_update=lambda _: asyncio.sleep(rng.random()))
        case 2:
            return w.client.await_run(refs, snapshot="inline", timeout=timeout, return_exceptions=True)
        case 3:
            return all_of(w.client.as_completed(refs, timeout=timeout))
        case 4:
            return w.client.run(w.notebook.id, timeout=timeout)
        case 5:
            return batch_of(w, rng.randrange(30), max_in_flight=rng.choice([1, 5, 100]), timeout=timeout)
        case 6:
            return batch_of(w, 5, max_failures=1, snapshot="blocks")
        case _:
            return w.client.me()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
@pytest.mark.parametrize("limited", [False, True])
@virtual
async def test_hundreds_of_cancellations_at_random_moments_leave_nothing(seed, limited, caplog):
    rng = random.Random(seed)
    limit = {"rate_limiter": TokenBucket(20.0, 20.0, adaptive=False)} if limited else {}
    async with world(seed=seed, latency=0.3, snapshot_delay=2, client={**limit, "max_connections": 10}) as w:
        runs = w.ids(*[rng.uniform(0, 60) for _ in range(200)])
        w.break_down("drop_before", rate=0.02)
        w.break_down("hang", rate=0.01)
        loop = asyncio.get_running_loop()
        waits = []
        for _ in range(500):
            waiting = asyncio.create_task(some_wait(w, rng, runs))
            waits.append(waiting)
            if rng.random() < 0.9:
                loop.call_later(rng.choice([0, 0.3, 0.6, rng.random(), rng.uniform(0, 40)]), waiting.cancel)
            if rng.random() < 0.5:
                await asyncio.sleep(rng.choice([0, 0.01, 0.3]))
        for outcome in await asyncio.gather(*waits, return_exceptions=True):
            assert outcome is None or not isinstance(outcome, Exception) or isinstance(outcome, DeepnoteError)
        gc.collect()


@virtual
async def test_thousands_of_waits_cancelled_in_the_same_moment_leave_nothing():
    async with world() as w:
        runs = w.ids(*[1e9] * 3000)
        before = asyncio.all_tasks()
        waits = [asyncio.create_task(w.client.await_run([run, runs[0]])) for run in runs]
        for moment in (0, 0.01, 20):
            await asyncio.sleep(moment)
        assert w.client.stats().watched_runs == 3000
        assert w.client.stats().tasks < 150
        for waiting in waits:
            waiting.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert w.client.stats().watched_runs == 0
        await at_rest(w.client, before)


@virtual
async def test_thousands_who_wait_for_one_run_are_let_go_in_no_time():
    async with world() as w:
        (run,) = w.ids(1e9)
        before = asyncio.all_tasks()

        async def cost(waits):
            waiting = [asyncio.create_task(w.client.await_run(run)) for _ in range(waits)]
            await asyncio.sleep(1)
            gc.collect()
            gc.disable()  # what it looks through is everything that other tests have left
            try:
                began = time.process_time()
                for each in waiting:
                    each.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
                return time.process_time() - began
            finally:
                gc.enable()

        await cost(100)
        # Were each taken out of a list of all, ten times as many would cost a hundred times as much.
        few = min([await cost(300) for _ in range(3)])
        many = min([await cost(3000) for _ in range(3)])
        assert many < 30 * few
        assert w.client.stats().watched_runs == 0
        await at_rest(w.client, before)


@virtual
async def test_a_wait_cancelled_after_each_number_of_steps_leaves_nothing():
    async with world(latency=0.001, snapshot_delay=1) as w:
        run = w.one(2)
        for steps in range(60):
            waiting = asyncio.create_task(w.client.await_run([run.id], snapshot="inline"))
            for _ in range(steps):
                await asyncio.sleep(0.0007 if steps % 2 else 0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert w.client.stats().watched_runs == 0


@virtual
async def test_a_batch_cancelled_after_each_number_of_steps_leaves_nothing():
    async with world(latency=0.001, client={"rate_limiter": TokenBucket(50.0, 2.0, adaptive=False)}) as w:
        w.notebook.succeeds(after=0.1)
        known = 0
        for steps in range(60):
            batch = w.client.run_many([w.notebook.id] * 4, max_in_flight=2)

            async def work(batch=batch) -> int:
                async with batch:
                    return len(await batch.collect())

            working = asyncio.create_task(work())
            for _ in range(steps):
                await asyncio.sleep(0.003 if steps % 2 else 0)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            assert w.client.stats().watched_runs == 0
            await asyncio.sleep(1)
            known += batch.stats.started
            assert_nothing_held(w.client.stats())
        assert known == len(w.notebook.runs)


@virtual
async def test_no_task_timer_or_lock_exists_for_each_awaited_run():
    async with world() as w:
        started = [RunStarted(run_id=run, notebook_id=w.notebook.id) for run in w.ids(*[1e9] * 600)]
        waiting = asyncio.create_task(w.client.await_run(started))
        await asyncio.sleep(100.005)
        assert len(asyncio.all_tasks()) < 150
        timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
        assert len(timers) < 150
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@virtual
async def test_a_client_that_is_closed_in_the_midst_of_everything_ends_everything(caplog):
    rng = random.Random(7)
    async with world(latency=0.3, client={"max_connections": 5}) as w:
        w.notebook.stalls()
        runs = w.ids(*[1e9] * 100)
        waits = [asyncio.create_task(some_wait(w, rng, runs)) for _ in range(200)]
        await asyncio.sleep(5)
        closing = now()
        await w.client.aclose()
        await asyncio.wait(waits)
        assert now() - closing <= 1
        for waiting in waits:
            error = waiting.exception()
            assert error is None or isinstance(error, DeepnoteError)
