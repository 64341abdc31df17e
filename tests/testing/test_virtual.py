"""The event loop in virtual time: the clock jumps, a deadlock is an error, nothing is left behind."""

from __future__ import annotations

import asyncio
import time

import pytest

from deepnote_async.testing import VirtualTimeLoop, run_virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def test_hours_pass_at_once_and_exactly():
    async def main() -> tuple[float, ...]:
        times = [now()]
        for seconds in (0, 600, 86400 * 30, 0.001, 1e-6):
            await asyncio.sleep(seconds)
            times.append(now())
        return tuple(times)

    began = time.monotonic()
    times = run_virtual(main())
    assert times == pytest.approx((0, 0, 600, 2592600, 2592600.001, 2592600.001001), abs=1e-8)
    assert time.monotonic() - began < 5


def test_timers_fire_in_their_order():
    async def main() -> list[str]:
        heard: list[str] = []

        async def say(text: str, after: float) -> None:
            await asyncio.sleep(after)
            heard.append(f"{text} at {now():g}")

        await asyncio.gather(say("late", 7), say("early", 2), say("between", 5))
        return heard

    assert run_virtual(main()) == ["early at 2", "between at 5", "late at 7"]


def test_timeouts_are_virtual_too():
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await asyncio.Event().wait()
        return now()

    assert run_virtual(main()) == pytest.approx(1000)


def test_work_takes_no_time():
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return now()

    assert run_virtual(main()) == 0


def test_a_deadlock_is_an_error():
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="would never end"):
        run_virtual(main())


def test_a_thread_is_no_deadlock():
    async def main() -> str:
        return await asyncio.to_thread(lambda: time.sleep(0.05) or "done")

    assert run_virtual(main()) == "done"


@pytest.mark.parametrize("error", [None, KeyError("mine")])
def test_tasks_left_behind_are_cancelled(error):
    ended = []

    async def stays() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append(now())

    async def main() -> None:
        main.tasks = [asyncio.create_task(stays()) for _ in range(3)]
        await asyncio.sleep(5)
        if error is not None:
            raise error

    if error is None:
        run_virtual(main())
    else:
        with pytest.raises(KeyError, match="mine"):
            run_virtual(main())
    assert ended == [5, 5, 5]
    assert all(task.cancelled() for task in main.tasks)


def test_the_loop_can_be_used_by_itself():
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(asyncio.sleep(60, "done")) == "done"
        assert runner.get_loop().time() == pytest.approx(60)
