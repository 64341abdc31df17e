"""Many deadlines on one timer, with the meaning of asyncio.timeout."""

from __future__ import annotations

import asyncio
import contextvars
import random

import pytest

from deepnote_async.deadlines import Deadlines

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


def timers() -> int:
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


async def within(deadlines: Deadlines, seconds: float, work: float) -> str:
    guard = deadlines.guard(seconds)
    try:
        await asyncio.sleep(work)
    except asyncio.CancelledError:
        if guard.expired():
            return "late"
        raise
    finally:
        guard.stop()
    return "done"


@pytest.mark.parametrize("seconds", [10.0, 3.0, 25.0])
async def test_lengths_usual_and_not(seconds: float) -> None:
    deadlines = Deadlines(10.0)
    began = now()
    assert await within(deadlines, seconds, seconds + 1) == "late"
    assert now() == began + seconds
    assert await within(deadlines, seconds, seconds - 1) == "done"
    assert now() == began + 2 * seconds - 1
    await asyncio.sleep(0)
    assert timers() == 0
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_deadline_of_no_time_is_met_at_the_first_wait() -> None:
    assert await within(Deadlines(10.0), 0.0, 1.0) == "late"


async def test_many_at_once_each_at_its_own_time() -> None:
    deadlines = Deadlines(10.0)
    rng = random.Random(5)
    began = now()

    async def one() -> tuple[str, bool]:
        await asyncio.sleep(rng.random() * 20)
        mine, seconds, work = now(), rng.choice([10.0, 10.0, 10.0, 4.0]), rng.random() * 20
        outcome = await within(deadlines, seconds, work)
        punctual = abs(now() - mine - min(seconds, work)) < 1e-6
        return outcome, punctual and (outcome == "late") is (work > seconds)

    outcomes = await asyncio.gather(*(one() for _ in range(200)))
    assert all(right for _, right in outcomes)
    assert {outcome for outcome, _ in outcomes} == {"late", "done"}
    assert now() < began + 40
    assert timers() == 0


async def test_the_usual_ones_share_a_timer() -> None:
    deadlines = Deadlines(10.0)
    tasks = [asyncio.create_task(within(deadlines, 10.0, 5.0)) for _ in range(50)]
    await asyncio.sleep(1)
    assert timers() == 50 + 1  # their sleeps, and one for all deadlines
    assert await asyncio.gather(*tasks) == ["done"] * 50
    assert timers() == 0


async def test_no_timer_is_left_when_all_are_over_early() -> None:
    deadlines = Deadlines(10.0)
    first, other = deadlines.guard(10.0), deadlines.guard(5.0)
    assert timers() == 2
    other.stop()
    first.stop()
    await asyncio.sleep(0)
    assert timers() == 0
    assert await within(deadlines, 10.0, 20.0) == "late"
    assert timers() == 0


async def test_one_after_another_keep_one_timer_and_no_queue() -> None:
    deadlines = Deadlines(10.0)
    deadlines.guard(10.0).stop()
    timer = deadlines._timer
    for _ in range(100):
        deadlines.guard(10.0).stop()
    assert timers() == 1
    assert deadlines._timer is timer
    assert not deadlines._queue
    await asyncio.sleep(0)
    assert timers() == 0
    deadlines.guard(10.0).stop()
    await asyncio.sleep(0)
    assert timers() == 0


async def test_of_unusual_length_nothing_is_kept() -> None:
    deadlines = Deadlines(10.0)
    for _ in range(100):
        deadlines.guard(3.0).stop()
    assert timers() == 0
    assert not deadlines._others


async def test_closing_ends_those_that_count_until_then() -> None:
    deadlines = Deadlines(10.0)
    ended: list[tuple[float, bool]] = []

    async def held(seconds: float, until_close: bool) -> None:
        guard = deadlines.guard(seconds, until_close=until_close)
        try:
            await asyncio.sleep(1.0)
        except asyncio.CancelledError:
            assert guard.expired()
            ended.append((seconds, until_close))
        finally:
            guard.stop()

    tasks = [asyncio.create_task(held(seconds, until)) for seconds in (10.0, 3.0) for until in (True, False)]
    await asyncio.sleep(0)
    deadlines.close()
    await asyncio.gather(*tasks)
    assert ended == [(10.0, True), (3.0, True)]


async def test_the_timer_carries_nothing_of_who_came_first() -> None:
    tenant = contextvars.ContextVar[str]("tenant")
    tenant.set("somebody")
    deadlines = Deadlines(10.0)
    guard = deadlines.guard(10.0)
    assert deadlines._timer is not None
    assert tenant not in deadlines._timer._context  # type: ignore[attr-defined]
    guard.stop()
    await asyncio.sleep(0)


@pytest.mark.parametrize("slow", [False, True])
async def test_calls_that_overlap_without_end_leave_no_trail(slow: bool) -> None:
    deadlines = Deadlines(10.0)
    first = deadlines.guard(10.0)
    overlapping = [deadlines.guard(10.0) for _ in range(20)]
    for _ in range(1000):
        overlapping.pop(0).stop()
        overlapping.append(deadlines.guard(10.0))
        if not slow:
            first.stop()
            first = deadlines.guard(10.0)
    assert len(deadlines._queue) <= 100
    for guard in [first, *overlapping]:
        guard.stop()
    await asyncio.sleep(0)
    assert timers() == 0


async def test_those_that_live_among_many_that_are_over_come_due_in_time() -> None:
    deadlines = Deadlines(10.0)
    began = now()
    early = asyncio.create_task(within(deadlines, 10.0, 20.0))
    await asyncio.sleep(1)
    late = asyncio.create_task(within(deadlines, 10.0, 20.0))
    await asyncio.sleep(1)
    for _ in range(100):
        deadlines.guard(10.0).stop()
    assert await early == "late"
    assert now() == pytest.approx(began + 10.0)
    assert await late == "late"
    assert now() == pytest.approx(began + 11.0)


@pytest.mark.parametrize("seconds", [10.0, 3.0])
async def test_a_cancellation_that_comes_out_as_another_error_is_taken_back(seconds: float) -> None:
    """Left standing it would, on 3.13, cancel the task again at the end of its next TaskGroup."""
    with pytest.raises(ConnectionError):
        await _aborted(Deadlines(10.0), seconds)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(_fails())
    await asyncio.sleep(1)


async def _aborted(deadlines: Deadlines, seconds: float) -> None:
    guard = deadlines.guard(seconds)
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        raise ConnectionError from None
    finally:
        guard.stop()


async def _fails() -> None:
    await asyncio.sleep(0)  # one that fails where it is made is too much for 3.12's own TaskGroup
    raise ValueError


@pytest.mark.parametrize("seconds", [10.0, 3.0])
async def test_a_callers_cancellation_is_the_callers(seconds: float) -> None:
    deadlines = Deadlines(10.0)
    task = asyncio.create_task(within(deadlines, seconds, 100.0))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert timers() == 0


@pytest.mark.parametrize("seconds", [10.0, 3.0])
async def test_a_callers_cancellation_in_the_moment_of_the_deadline_is_not_swallowed(seconds: float) -> None:
    deadlines = Deadlines(10.0)
    task = asyncio.create_task(within(deadlines, seconds, 100.0))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(now() + seconds, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert timers() == 0


async def test_a_deadline_within_a_deadline() -> None:
    deadlines = Deadlines(10.0)
    outer = deadlines.guard(4.0)
    try:
        assert await within(deadlines, 10.0, 2.0) == "done"
        assert await within(deadlines, 1.0, 2.0) == "late"
        with pytest.raises(asyncio.CancelledError):
            await within(deadlines, 10.0, 20.0)
        assert outer.expired()
    finally:
        outer.stop()
    assert now() == pytest.approx(4.0)
    await asyncio.sleep(30)
    assert timers() == 0


async def test_within_asyncios_own_timeout() -> None:
    deadlines = Deadlines(10.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await within(deadlines, 10.0, 20.0)
    async with asyncio.timeout(20):
        assert await within(deadlines, 10.0, 15.0) == "late"
    assert timers() == 0


async def test_a_stopped_deadline_cancels_nobody() -> None:
    deadlines = Deadlines(10.0)
    early, keeper = deadlines.guard(10.0), deadlines.guard(10.0)
    early.stop()
    await asyncio.sleep(1)
    later = asyncio.create_task(within(deadlines, 10.0, 5.0))
    assert await later == "done"
    keeper.stop()
    await asyncio.sleep(60)


async def test_a_deadline_needs_a_task() -> None:
    deadlines = Deadlines(10.0)
    failures: list[BaseException] = []

    def outside() -> None:
        try:
            deadlines.guard(1.0)
        except RuntimeError as error:
            failures.append(error)

    asyncio.get_running_loop().call_soon(outside)
    await asyncio.sleep(0.1)
    assert len(failures) == 1
    assert timers() == 0
