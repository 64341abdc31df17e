"""Runs as they end: an iterator that can be cancelled, left and closed at any time."""

from __future__ import annotations

import asyncio
import gc

import pytest
from virtual_world import cancelled, now, only, taken, virtual, world

from deepnote_async import (
    ClientClosedError,
    InvalidRequestError,
    NotFoundError,
    PollPolicy,
    Run,
    RunStarted,
    RunTimeoutError,
)

NOBODY = "00000000-0000-4000-8000-000000000000"
QUICK = {"poll": PollPolicy(initial=0.5, maximum=1.0)}


@virtual
async def test_runs_come_in_the_order_of_their_ending():
    async with world(client=QUICK) as w:
        lengths = [50, 10, 40, 20, 30]
        runs = w.ids(*lengths)
        told = [run.run_id async for run in w.client.as_completed(runs)]
        assert told == [run for _, run in sorted(zip(lengths, runs, strict=True))]


@virtual
async def test_each_comes_as_it_ends_and_not_at_the_end_of_all():
    async with world(client=QUICK) as w:
        times = [now() async for _ in w.client.as_completed(w.ids(10, 100, 1000))]
        assert [round(time / 10) for time in times] == [1, 10, 100]


@virtual
async def test_duplicates_come_once_and_none_is_no_run():
    async with world() as w:
        first, second = w.ids(5, 9)
        told = [run.run_id async for run in w.client.as_completed([first, second, RunStarted(run_id=first), first])]
        assert sorted(told) == sorted([first, second])
        ended = Run(run_id="r", status="success")
        assert [run async for run in w.client.as_completed([ended, ended])] == [ended]
        assert [run async for run in w.client.as_completed([])] == []


@virtual
async def test_a_failed_run_is_a_result():
    async with world() as w:
        told = [run.status async for run in w.client.as_completed(w.ids(5, status="error"))]
        assert told == ["error"]


@virtual
async def test_the_others_come_first_and_then_the_first_error_is_raised():
    async with world() as w:
        told = []
        with pytest.raises(NotFoundError):
            await taken(w.client.as_completed([NOBODY, *w.ids(20, 40)]), told)
        assert len(told) == 2
        assert now() >= 40


@virtual
async def test_at_a_timeout_the_others_have_come_and_the_error_tells_both():
    async with world() as w:
        runs = w.ids(5, 1e9, 8)
        ended = []
        with pytest.raises(RunTimeoutError, match="1 of 3") as caught:
            await taken(w.client.as_completed(runs, timeout=60), ended)
        told = [run.run_id for run in ended]
        assert told == [runs[0], runs[2]]
        assert (caught.value.unfinished, caught.value.run_id) == ([runs[1]], runs[1])
        assert [run.run_id for run in caught.value.finished] == told
        assert now() == pytest.approx(60)


@virtual
async def test_with_return_exceptions_errors_come_as_results():
    async with world() as w:
        runs = [NOBODY, *w.ids(5, 1e9, 1e9)]
        told = [item async for item in w.client.as_completed(runs, timeout=60, return_exceptions=True)]
        assert [type(item) for item in told] == [NotFoundError, Run, RunTimeoutError, RunTimeoutError]
        assert [item.run_id for item in told[2:]] == runs[2:]


@virtual
async def test_it_ends_once_and_for_all():
    async with world() as w:
        told = w.client.as_completed([NOBODY])
        with pytest.raises(NotFoundError):
            await anext(told)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(told)


@virtual
async def test_cancelling_anext_loses_no_result():
    async with world() as w:
        runs = w.ids(*[number * 7 % 101 + 1 for number in range(60)])
        iterator = w.client.as_completed(runs)
        told, cut = [], 0
        while True:
            try:
                told.append((await asyncio.wait_for(anext(iterator), 0.37)).run_id)
            except TimeoutError:
                cut += 1
            except StopAsyncIteration:
                break
        assert sorted(told) == sorted(runs)
        assert cut > 100


@virtual
async def test_cancelling_anext_while_it_registers_loses_and_repeats_nothing():
    async with world() as w:
        runs = [Run(run_id=f"r{number}", status="success") for number in range(1800)] + [
            Run(run_id=run) for run in w.ids(*[5] * 10)
        ]
        iterator = w.client.as_completed(runs)
        for _ in range(3):
            # Never eager, for then it would have its answer before it can be cancelled.
            waiting = asyncio.Task(anext(iterator))
            await asyncio.sleep(0)
            await cancelled(waiting)
        told = [run.run_id async for run in iterator]
        assert sorted(told) == sorted(run.run_id for run in runs)


@virtual
async def test_break_leaves_nothing_watched():
    async with world() as w:
        async for _ in w.client.as_completed(w.ids(5, 100, 1e9)):
            break
        gc.collect()
        await asyncio.sleep(0)
        assert w.client.stats().watched_runs == 0


@virtual
async def test_an_exception_in_the_loop_comes_out_as_it_is_and_leaves_nothing_watched():
    async with world() as w:

        async def work() -> None:
            async for _ in w.client.as_completed(w.ids(5, 100, 1e9)):
                raise KeyError("mine")

        with pytest.raises(KeyError):
            await work()
        gc.collect()
        await asyncio.sleep(0)
        assert w.client.stats().watched_runs == 0


@virtual
async def test_one_that_was_never_begun_watches_nothing():
    async with world() as w:
        w.client.as_completed(w.ids(5))
        gc.collect()
        assert (w.requests, w.client.stats().watched_runs) == (0, 0)


@virtual
async def test_aclose_from_another_task_ends_it_at_once():
    async with world() as w:
        iterator = w.client.as_completed(w.ids(5, 1e9))
        await anext(iterator)
        waiting = asyncio.create_task(anext(iterator))
        await asyncio.sleep(30)
        await asyncio.create_task(iterator.aclose())
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert now() < 40
        assert w.client.stats().watched_runs == 0
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        await iterator.aclose()


@virtual
async def test_aclose_while_it_registers_ends_it():
    async with world() as w:
        iterator = w.client.as_completed([RunStarted(run_id=run) for run in w.ids(*[1e9] * 1200)])
        waiting = asyncio.create_task(anext(iterator))
        await asyncio.sleep(0)
        await iterator.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert w.client.stats().watched_runs == 0


@virtual
async def test_aclose_before_the_beginning_watches_nothing():
    async with world() as w:
        iterator = w.client.as_completed(w.ids(5))
        await iterator.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        assert w.requests == 0


@virtual
async def test_within_an_async_generator_that_another_task_closes():
    async with world() as w:

        async def events():
            async for run in w.client.as_completed(w.ids(5, 1e9)):
                yield run.run_id

        stream = events()
        await anext(stream)
        await asyncio.create_task(stream.aclose())
        gc.collect()
        await asyncio.sleep(0)
        assert w.client.stats().watched_runs == 0


@virtual
async def test_closing_the_client_ends_it_at_once():
    async with world() as w:
        iterator = w.client.as_completed(w.ids(5, 1e9, 1e9))
        await anext(iterator)
        waiting = asyncio.create_task(anext(iterator))
        await asyncio.sleep(1)
        before = now()
        await w.client.aclose()
        with pytest.raises(ClientClosedError):
            await waiting
        assert now() == before


@virtual
async def test_a_client_closed_between_two_results_keeps_what_was_told():
    async with world() as w:
        iterator = w.client.as_completed(w.ids(5, 5, 1e9), return_exceptions=True)
        told = [await anext(iterator)]
        await asyncio.sleep(20)
        await w.client.aclose()
        told += [item async for item in iterator]
        assert [type(item) for item in told] == [Run, Run, ClientClosedError]
        only(told[-1], ClientClosedError)


@pytest.mark.parametrize("wrong", ["a-run", [5], [None], 5, [""]])
@virtual
async def test_what_stands_for_no_run_is_refused_at_the_call(wrong):
    async with world() as w:
        with pytest.raises((InvalidRequestError, TypeError)):
            w.client.as_completed(wrong)
        gc.collect()


@virtual
async def test_an_iterator_left_after_its_loop_is_gone_harms_nobody():
    async with world() as w:
        iterator = w.client.as_completed(w.ids(5, 1e9))
        await anext(iterator)
        kept.append(iterator)
        await w.client.aclose()


kept: list[object] = []


def test_one_that_outlived_its_loop_can_be_collected():
    test_an_iterator_left_after_its_loop_is_gone_harms_nobody()
    kept.clear()
    gc.collect()
