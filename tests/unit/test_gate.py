"""Admission: slot and token together, the right caller first, and nothing lost whoever leaves when."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections import Counter, deque
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async.errors import ClientClosedError, ConfigurationError
from deepnote_async.gate import Gate, Lane, NoLimit, Slots
from deepnote_async.ratelimit import RateLimiter, TokenBucket

INTERACTIVE, START, LOOK = Lane


class Foreign:
    """A limiter of somebody else's: acquire and answered, nothing more. It gives what it is told to."""

    def __init__(self, tokens: int = 0) -> None:
        self.tokens = tokens
        self.taken = 0
        self._wanted: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        while self.tokens == 0:
            wanted = asyncio.get_running_loop().create_future()
            self._wanted.append(wanted)
            await wanted
        self.tokens -= 1
        self.taken += 1

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        pass

    def give(self, tokens: int = 1) -> None:
        self.tokens += tokens
        while self._wanted:
            wanted = self._wanted.popleft()
            if not wanted.done():
                wanted.set_result(None)


class Broken(Foreign):
    async def acquire(self) -> None:
        raise ZeroDivisionError("no such luck")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Line:
    """Callers standing at a gate, and the order in which they got in."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.entered: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def join(self, lane: Lane, count: int = 1, *, stay: bool = False) -> None:
        for _ in range(count):
            name = f"{lane.name[0]}{len(self.tasks)}"
            self.tasks[name] = asyncio.create_task(self._go(name, lane, stay))

    async def _go(self, name: str, lane: Lane, stay: bool) -> None:
        await self.gate.enter(lane)
        self.entered.append(name)
        if not stay:
            self.gate.leave()

    @property
    def lanes(self) -> str:
        return "".join(name[0] for name in self.entered)

    async def gone(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def test_a_foreign_limiter_is_one() -> None:
    assert isinstance(Foreign(), RateLimiter)
    assert isinstance(TokenBucket(), RateLimiter)


async def test_interactive_first_then_starts_and_looks_one_to_one() -> None:
    limiter = Foreign()
    line = Line(Gate(Slots(1), limiter))
    line.join(LOOK, 4)
    line.join(START, 4)
    line.join(INTERACTIVE, 3)
    await settle()
    for _ in range(11):
        limiter.give()
        await settle()
    assert line.lanes[:3] == "III"
    assert line.lanes[3:] in {"SLSLSLSL", "LSLSLSLS"}
    assert [name for name in line.entered if name[0] == "L"] == ["L0", "L1", "L2", "L3"]


async def test_a_late_interactive_call_overtakes_all_who_wait() -> None:
    limiter = Foreign()
    line = Line(Gate(Slots(2), limiter))
    line.join(START, 5)
    line.join(LOOK, 5)
    await settle()
    limiter.give(2)
    await settle()
    line.join(INTERACTIVE)
    await settle()
    limiter.give()
    await settle()
    assert line.lanes[2] == "I"
    await line.gone()


async def test_nothing_starves_behind_interactive_calls() -> None:
    limiter = Foreign()
    line = Line(Gate(Slots(1), limiter))
    line.join(START, 3)
    line.join(LOOK, 3)
    line.join(INTERACTIVE, 200)
    await settle()
    limiter.give(120)
    for _ in range(40):
        await settle()
    seen = Counter(line.lanes)
    assert seen["S"] == seen["L"] == 3
    assert seen["I"] == 114
    await line.gone()


@pytest.mark.looptime
async def test_a_look_waits_for_nine_calls_that_come_one_after_another() -> None:
    """A call that finds no token is not counted before it has one."""
    line = Line(Gate(Slots(10), TokenBucket(10.0, 1.0, adaptive=False)))
    line.join(LOOK, 3)

    async def one_after_another() -> None:
        for _ in range(40):
            await line._go("I", INTERACTIVE, stay=False)

    await asyncio.sleep(0.05)
    line.tasks["calls"] = asyncio.create_task(one_after_another())
    await asyncio.gather(*line.tasks.values())
    between = line.lanes.strip("L").split("L")
    assert [len(calls) for calls in between[:-1]] == [9] * (len(between) - 1)
    assert len(between) > 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before 3.12")
@pytest.mark.parametrize("limiter", [Foreign(1000), TokenBucket(1000.0, 5.0, adaptive=False)])
async def test_eager_tasks_leave_nobody_standing(limiter: RateLimiter) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - mypy looks at 3.11
    line = Line(Gate(Slots(1), limiter))
    line.join(INTERACTIVE, 8, stay=False)
    try:
        async with asyncio.timeout(5):
            await asyncio.gather(*line.tasks.values())
    finally:
        loop.set_task_factory(None)
    assert line.lanes == "I" * 8


async def test_who_is_alone_has_all() -> None:
    for lane in Lane:
        limiter = Foreign(5)
        line = Line(Gate(Slots(1), limiter))
        line.join(lane, 5)
        for _ in range(5):
            await settle()
        assert len(line.entered) == 5


async def test_no_token_is_spent_while_no_slot_is_free() -> None:
    limiter = Foreign(10)
    gate = Gate(Slots(2), limiter)
    line = Line(gate)
    line.join(START, 5, stay=True)
    await settle()
    assert (len(line.entered), limiter.taken) == (2, 2)
    gate.leave()
    await settle()
    assert (len(line.entered), limiter.taken) == (3, 3)
    await line.gone()
    assert limiter.taken == 3


@pytest.mark.looptime
async def test_no_token_of_a_bucket_is_spent_while_no_slot_is_free() -> None:
    bucket = TokenBucket(1.0, 2.0, adaptive=False)
    gate = Gate(Slots(1), bucket)
    await gate.enter(START)
    waiting = asyncio.create_task(gate.enter(START))
    await asyncio.sleep(100)
    assert bucket.take() == 0.0
    assert bucket.take() == 0.0
    assert bucket.take() > 0.0
    gate.leave()
    await waiting


@pytest.mark.looptime
async def test_no_slot_is_held_while_no_token_is_there() -> None:
    slots = Slots(1)
    slow, quick = Gate(slots, TokenBucket(0.01, 1.0, adaptive=False)), Gate(slots, TokenBucket(100.0))
    await slow.enter(START)
    slow.leave()
    waiting = asyncio.create_task(slow.enter(START))
    await asyncio.sleep(1)
    assert slots.free == 1
    assert quick.try_enter(INTERACTIVE)
    quick.leave()
    assert not waiting.done()
    await waiting
    assert slots.free == 0


@pytest.mark.looptime
async def test_two_gates_never_hold_more_slots_than_there_are() -> None:
    slots = Slots(1)
    one, other = Gate(slots, TokenBucket(1.0, 1.0, adaptive=False)), Gate(slots, TokenBucket(100.0))
    await one.enter(START)
    one.leave()
    waiting = asyncio.create_task(one.enter(START))
    await asyncio.sleep(0.5)
    await other.enter(START)
    await asyncio.sleep(5)
    assert slots.free == 0
    assert not waiting.done()
    other.leave()
    await asyncio.wait_for(waiting, 2)
    one.leave()
    assert slots.free == 1


async def test_a_slot_offered_to_a_gate_that_emptied_goes_to_another() -> None:
    slots = Slots(1)
    one, other, third = Gate(slots, Foreign(9)), Gate(slots, Foreign(9)), Gate(slots, Foreign(9))
    await one.enter(START)
    gave_up = asyncio.create_task(other.enter(START))
    await settle()
    patient = asyncio.create_task(third.enter(START))
    await settle()
    gave_up.cancel()
    await settle()
    one.leave()
    await asyncio.wait_for(patient, 1)


@pytest.mark.looptime
async def test_a_slot_offered_to_a_gate_without_a_token_goes_to_another() -> None:
    slots = Slots(1)
    throttled, quick = Gate(slots, TokenBucket()), Gate(slots, TokenBucket())
    throttled.limiter.answered(429, {"Retry-After": "60"})
    await quick.enter(START)
    waiting = asyncio.create_task(throttled.enter(START))
    await asyncio.sleep(0)
    mine = asyncio.create_task(quick.enter(LOOK))
    await asyncio.sleep(0)
    quick.leave()
    await asyncio.wait_for(mine, 1)
    quick.leave()
    await asyncio.wait_for(waiting, 120)


# Leaving.


async def test_a_cancelled_waiter_takes_nothing() -> None:
    limiter = Foreign()
    slots = Slots(1)
    gate = Gate(slots, limiter)
    line = Line(gate)
    line.join(START, 3)
    await settle()
    line.tasks["S0"].cancel()
    line.tasks["S2"].cancel()
    await settle()
    assert gate.waiting == 1
    limiter.give()
    await settle()
    assert line.entered == ["S1"]
    assert (slots.free, gate.waiting, limiter.taken) == (1, 0, 1)


async def test_a_waiter_cancelled_with_the_grant_in_its_hands_passes_it_on() -> None:
    limiter = Foreign()
    slots = Slots(1)
    gate = Gate(slots, limiter)
    line = Line(gate)
    line.join(START, 2, stay=True)
    await settle()
    limiter.give()
    for _ in range(10):
        if slots.free:
            await asyncio.sleep(0)
    assert not slots.free
    line.tasks["S0"].cancel()
    await settle()
    assert line.entered == ["S1"]
    assert (slots.free, gate.waiting, limiter.taken) == (0, 0, 1)


@pytest.mark.looptime
async def test_a_lone_waiter_cancelled_with_the_grant_puts_slot_and_token_back() -> None:
    bucket = TokenBucket(1.0, 1.0, adaptive=False)
    slots = Slots(1)
    gate = Gate(slots, bucket)
    assert bucket.take() == 0.0
    waiting = asyncio.create_task(gate.enter(START))
    for _ in range(10_000):
        if slots.free:
            await asyncio.sleep(0.001)
    assert not slots.free
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (slots.free, gate.waiting) == (1, 0)
    assert gate.try_enter(INTERACTIVE)


async def test_waiters_cancelled_in_the_moment_of_the_grant_break_nothing() -> None:
    limiter = Foreign()
    slots = Slots(1)
    gate = Gate(slots, limiter)
    line = Line(gate)
    line.join(START, 2)
    await settle()
    limiter.give()
    for task in line.tasks.values():
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in line.tasks.values())
    assert (slots.free, gate.waiting) == (1, 0)
    late = Line(gate)
    late.join(LOOK)
    await settle()
    if not late.entered:
        limiter.give()
        await settle()
    assert late.entered == ["L0"]


async def test_an_unused_grant_goes_to_the_next_or_back() -> None:
    limiter = Foreign(1)
    slots = Slots(1)
    gate = Gate(slots, limiter)
    await gate.enter(LOOK)
    line = Line(gate)
    line.join(START, stay=True)
    await settle()
    gate.unused()
    await settle()
    assert (line.entered, limiter.taken, slots.free) == (["S0"], 1, 0)
    gate.unused()
    assert slots.free == 1
    # This limiter takes no token back, so the next caller has it.
    await asyncio.wait_for(gate.enter(START), 1)
    assert limiter.taken == 1


async def storm(seed: int, slots_limit: int, limiter: Foreign) -> None:
    rng = random.Random(seed)
    slots = Slots(slots_limit)
    gates = [Gate(slots, limiter), Gate(slots, limiter)]
    inside = 0

    async def caller() -> None:
        nonlocal inside
        gate = rng.choice(gates)
        await gate.enter(rng.choice(list(Lane)))
        if rng.random() < 0.2:
            gate.unused()
            return
        inside += 1
        try:
            assert 0 < inside <= slots_limit
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
        finally:
            inside -= 1
            gate.leave()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(60):
        tasks += [asyncio.create_task(caller()) for _ in range(rng.randrange(4))]
        limiter.give(rng.randrange(3))
        if tasks and rng.random() < 0.6:
            rng.choice(tasks).cancel()
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        assert 0 <= slots.free <= slots_limit
    limiter.give(len(tasks))
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    await settle()
    assert slots.free == slots_limit
    assert [gate.waiting for gate in gates] == [0, 0]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "deepnote gate"]


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_storm_of_callers_and_cancellations_leaks_nothing(seed: int, slots_limit: int) -> None:
    asyncio.run(storm(seed, slots_limit, Foreign()))


@pytest.mark.looptime
@pytest.mark.parametrize("seed", range(5))
async def test_the_bound_holds_through_a_storm(seed: int) -> None:
    rate, capacity = 10.0, 3.0
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    slots = Slots(4)
    gate = Gate(slots, TokenBucket(rate, capacity, adaptive=False))
    moments: list[float] = []

    async def caller() -> None:
        await asyncio.sleep(rng.random() * 5)
        await gate.enter(rng.choice(list(Lane)))
        moments.append(loop.time())
        try:
            await asyncio.sleep(rng.random() / 5)
        finally:
            gate.leave()

    tasks = [asyncio.create_task(caller()) for _ in range(120)]
    for task in rng.sample(tasks, 40):
        loop.call_later(rng.random() * 6, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    moments.sort()
    assert len(moments) >= 80
    # Of no window from one to another more than the capacity beyond the rate.
    over = [count - rate * moment for count, moment in enumerate(moments)]
    lowest = list(itertools.accumulate(over, min))
    assert max(late + 1 - early for late, early in zip(over, lowest, strict=True)) <= capacity + 1e-6
    assert (slots.free, gate.waiting) == (4, 0)


# Ends.


async def test_a_limiter_that_raises_ends_those_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    slots = Slots(1)
    gate = Gate(slots, Broken())
    line = Line(gate)
    line.join(START, 2)
    line.join(INTERACTIVE)
    outcomes = await asyncio.gather(*line.tasks.values(), return_exceptions=True)
    assert all(isinstance(outcome, ConfigurationError) for outcome in outcomes)
    assert all("ZeroDivisionError" in str(outcome) for outcome in outcomes)
    assert (slots.free, gate.waiting) == (1, 0)
    assert "the rate limiter failed" in caplog.text
    with pytest.raises(ConfigurationError):
        await gate.enter(LOOK)


async def test_closing_refuses_all() -> None:
    slots = Slots(1)
    gate = Gate(slots, Foreign(1))
    await gate.enter(START)
    line = Line(gate)
    for lane in Lane:
        line.join(lane)
    await settle()
    gate.close()
    gate.close()
    outcomes = await asyncio.gather(*line.tasks.values(), return_exceptions=True)
    assert all(isinstance(outcome, ClientClosedError) for outcome in outcomes)
    with pytest.raises(ClientClosedError):
        await gate.enter(INTERACTIVE)
    gate.leave()
    assert (slots.free, gate.waiting) == (1, 0)
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_no_task_is_left_while_nobody_waits() -> None:
    limiter = Foreign(1)
    gate = Gate(Slots(3), limiter)
    await gate.enter(START)
    gate.leave()
    line = Line(gate)
    line.join(START)
    await settle()
    assert any(task.get_name() == "deepnote gate" for task in asyncio.all_tasks())
    await line.gone()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_free_gate_is_entered_at_once() -> None:
    gate = Gate(Slots(2), TokenBucket(10.0, 2.0))
    assert gate.try_enter(INTERACTIVE)
    assert gate.try_enter(INTERACTIVE)
    assert not gate.try_enter(INTERACTIVE)
    foreign = Gate(Slots(2), Foreign(5))
    assert not foreign.try_enter(INTERACTIVE)
    await asyncio.wait_for(foreign.enter(LOOK), 1)


@pytest.mark.looptime
async def test_a_callers_own_call_need_not_wait_for_the_next_token() -> None:
    """Starts and looks leave one token behind, so under a saturated limit it is there at once."""
    gate = Gate(Slots(10), TokenBucket(50.0, adaptive=False))

    async def saturate(lane: Lane) -> None:
        while True:
            await gate.enter(lane)
            gate.leave()

    background = [asyncio.create_task(saturate(lane)) for lane in (START, LOOK)]
    await asyncio.sleep(5)
    waits = []
    for _ in range(50):
        asked = asyncio.get_running_loop().time()
        await gate.enter(INTERACTIVE)
        waits.append(asyncio.get_running_loop().time() - asked)
        gate.leave()
        await asyncio.sleep(0.1)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    assert max(waits) < 1e-6


async def test_a_gate_without_a_limit_does_not_keep_the_others_from_the_slots():
    slots = Slots(2)
    api, downloads = Gate(slots, TokenBucket(1e6, 1e6, adaptive=False)), Gate(slots, NoLimit())
    order = []

    async def work(gate, name):
        await gate.enter(Lane.INTERACTIVE)
        order.append(name)
        await asyncio.sleep(0.001)
        gate.leave()

    tasks = [asyncio.create_task(work(downloads, "download")) for _ in range(60)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(work(api, "call")) for _ in range(3)]
    await asyncio.gather(*tasks)
    assert max(place for place, name in enumerate(order) if name == "call") < 15
    assert (slots.free, api.waiting, downloads.waiting) == (2, 0, 0)


async def test_one_call_after_another_does_not_keep_a_waiting_download_from_the_slot():
    slots = Slots(1)
    api, downloads = Gate(slots, TokenBucket(1e6, 1e6, adaptive=False)), Gate(slots, NoLimit())
    done = 0
    await api.enter(Lane.INTERACTIVE)
    waiting = asyncio.create_task(downloads.enter(Lane.INTERACTIVE))
    await asyncio.sleep(0)
    while not waiting.done():
        api.leave()
        if not api.try_enter(Lane.INTERACTIVE):
            entering = asyncio.create_task(api.enter(Lane.INTERACTIVE))
            await asyncio.wait([waiting, entering], return_when=asyncio.FIRST_COMPLETED)
            entering.cancel()
            break
        done += 1
        assert done < 20
        await asyncio.sleep(0)
    assert waiting.done()
