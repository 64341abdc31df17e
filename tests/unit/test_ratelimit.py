"""The bucket: its bound, its pauses, its search, whatever the constants of the search are."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async import TokenBucket
from deepnote_async.ratelimit import Bucket

OK: dict[str, str] = {}


def bucket(rate: float | None = None, capacity: float | None = None, *, adaptive: bool = True) -> Bucket:
    return Bucket(rate, capacity, adaptive=adaptive, rng=random.Random(1))


def drain(pool: Bucket, start: float, end: float) -> list[float]:
    """Take whatever can be had from one moment to another, asking again when the bucket says."""
    moments: list[float] = []
    now = start
    while now < end:
        delay = pool.take(now)
        assert 0.0 <= delay < math.inf
        if delay == 0.0:
            moments.append(now)
        now += delay
    return moments


def most_over(moments: list[float], rate: float) -> float:
    """The most, over all windows from one admission to another, that was admitted beyond rate x their length."""
    over, ahead = 0.0, math.inf
    for count, moment in enumerate(moments):
        ahead = min(ahead, count - rate * moment)
        over = max(over, count + 1 - rate * moment - ahead)
    return over


class Sliding:
    """A service that allows so many requests a second and refuses the rest."""

    def __init__(self, rate: float, burst: float, asks: str | None = None) -> None:
        self.rate, self.burst, self.asks = rate, burst, asks
        self.tokens, self.stamp = burst, 0.0
        self.accepted: list[float] = []
        self.refused = 0

    def __call__(self, now: float) -> tuple[int, Mapping[str, str]]:
        self.tokens = min(self.burst, self.tokens + (now - self.stamp) * self.rate)
        self.stamp = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            self.accepted.append(now)
            return 200, OK
        self.refused += 1
        wait = self.asks if self.asks is not None else str(math.ceil((1.0 - self.tokens) / self.rate))
        return 429, {"Retry-After": wait}


def press(
    pool: Bucket,
    service: Callable[[float], tuple[int, Mapping[str, str]]],
    start: float,
    end: float,
    flight: float = 0.1,
) -> None:
    """Ask for all that can be had for a while; answers come a moment after their requests."""
    now = start
    pending: deque[tuple[float, int, Mapping[str, str]]] = deque()
    while now < end:
        while pending and pending[0][0] <= now:
            due, status, headers = pending.popleft()
            pool.answered(status, headers, due)
        delay = pool.take(now)
        if delay == 0.0:
            pending.append((now + flight, *service(now)))
            continue
        now += min(delay, pending[0][0] - now) if pending and pending[0][0] > now else delay
    for due, status, headers in pending:
        pool.answered(status, headers, due)


# The bound.


@given(
    st.floats(0.1, 200.0),
    st.floats(1.0, 50.0),
    st.booleans(),
    st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 60)), max_size=40),
)
def test_in_every_window_at_most_the_capacity_and_the_rate(
    rate: float, capacity: float, adaptive: bool, arrivals: list[tuple[float, int]]
) -> None:
    pool = bucket(rate, capacity, adaptive=adaptive)
    now, moments = 1000.0, list[float]()
    for pause, wanted in arrivals:
        now += pause
        for _ in range(wanted):
            if pool.take(now) == 0.0:
                moments.append(now)
                pool.answered(200, OK, now)
    assert most_over(moments, rate) <= capacity + 1e-6


@given(st.floats(0.1, 200.0), st.floats(1.0, 50.0))
def test_what_the_rate_allows_can_be_had(rate: float, capacity: float) -> None:
    pool = bucket(rate, capacity, adaptive=False)
    seconds = 200 / rate
    got = len(drain(pool, 0.0, seconds))
    assert int(capacity) + 199 - 1 <= got <= capacity + 200 + 1


def test_a_rest_saves_up_the_capacity_and_no_more() -> None:
    pool = bucket(10.0, 4.0, adaptive=False)
    drain(pool, 0.0, 5.0)
    assert len(drain(pool, 1000.0, 1000.0 + 1e-9)) == 4


def test_a_token_given_back_can_be_taken_again_and_none_beyond_the_capacity() -> None:
    pool = bucket(0.001, 2.0, adaptive=False)
    assert [pool.take(0.0), pool.take(0.0)] == [0.0, 0.0]
    assert pool.take(0.0) > 0.0
    pool.give_back()
    assert pool.take(0.0) == 0.0
    for _ in range(10):
        pool.give_back()
    assert len(drain(pool, 0.0, 1e-9)) == 2


@pytest.mark.parametrize(("rate", "capacity"), [(5.0, 1.0), (10.0, 1.0), (50.0, 5.0), (200.0, 20.0)])
def test_the_capacity_of_a_given_rate_is_a_tenth_of_a_second(rate: float, capacity: float) -> None:
    assert TokenBucket(rate).capacity == capacity
    assert TokenBucket(rate, 7).capacity == 7


# Pauses.


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"RateLimit-Reset": "9"}, 9.0),
        ({"Retry-After": "7", "RateLimit-Reset": "9"}, 7.0),
        ({"Retry-After": "60"}, 60.0),
        ({"Retry-After": "86400"}, 60.0),
        ({"RateLimit-Reset": "1e12"}, 60.0),
    ],
)
def test_a_429_pauses_as_long_as_it_asks_but_60_s_at_most(
    headers: dict[str, str], pause: float, adaptive: bool
) -> None:
    pool = bucket(100.0, 10.0, adaptive=adaptive)
    assert pool.take(0.0) == 0.0
    pool.answered(429, headers, 1.0)
    (first, *_) = drain(pool, 1.0, 1.0 + pause + 5.0)
    assert first == pytest.approx(1.0 + pause, abs=0.05)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": "nan"}, {"RateLimit-Reset": ""}])
def test_a_429_that_asks_for_nothing_pauses_longer_and_longer(headers: dict[str, str]) -> None:
    pool = bucket(1000.0, adaptive=False)
    now, pauses = 0.0, []
    for _ in range(12):
        now += 0.001
        pool.answered(429, headers, now)
        pauses.append(pool.paused_until - now)
        now = pool.paused_until
    assert all(0.0 < pause <= 60.0 for pause in pauses)
    assert max(pauses[:2]) < 2.0
    assert min(pauses[-3:]) >= 10.0


def test_many_refusals_of_one_burst_are_one_pause() -> None:
    pool = bucket(100.0, 50.0)
    for _ in range(50):
        pool.take(0.0)
    pool.answered(200, OK, 0.1)
    pool.answered(429, {"Retry-After": "2"}, 0.1)
    after_one = pool.rate
    for k in range(49):
        pool.answered(429, {"Retry-After": "2"}, 0.1 + k / 1000)
    assert pool.rate == after_one
    assert pool.paused_until == pytest.approx(2.15, abs=0.01)


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    pool = bucket(10.0, adaptive=False)
    pool.answered(429, {"Retry-After": "30"}, 0.0)
    pool.answered(429, {"Retry-After": "1"}, 0.5)
    assert pool.take(20.0) == pytest.approx(10.0)


def test_nothing_saved_up_outlives_a_pause() -> None:
    pool = bucket(10.0, 8.0, adaptive=False)
    pool.answered(429, {"Retry-After": "30"}, 0.0)
    assert len(drain(pool, 30.0, 30.0 + 1e-6)) <= 1


# Adapting.


def test_without_adapting_the_rate_stays() -> None:
    pool = bucket(8.0, 2.0, adaptive=False)
    press(pool, Sliding(2.0, 2.0), 0.0, 100.0)
    assert pool.rate == 8.0
    assert pool.capacity == 2.0


answers = st.lists(
    st.tuples(
        st.floats(0.0, 20.0),
        st.sampled_from([200, 200, 200, 404, 429, 500]),
        st.dictionaries(
            st.sampled_from(["Retry-After", "RateLimit-Reset", "RateLimit-Remaining"]),
            st.sampled_from(["0", "1", "5", "0.5", "60", "1e9", "-1", "nan", "inf", "", "soon"]),
        ),
        st.integers(0, 20),
    ),
    max_size=60,
)


@given(st.one_of(st.none(), st.floats(0.1, 100.0)), answers)
def test_whatever_is_answered_the_bucket_stays_sound_and_under_its_ceiling(
    rate: float | None, events: list[tuple[float, int, dict[str, str], int]]
) -> None:
    pool = bucket(rate)
    now = 0.0
    for pause, status, headers, wanted in events:
        now += pause
        for _ in range(wanted):
            delay = pool.take(now)
            assert 0.0 <= delay < 1e6
        pool.answered(status, headers, now)
        assert 0.0 < pool.rate <= (rate if rate is not None else math.inf)
        assert pool.capacity >= 1.0
        assert pool.paused_until <= now + 60.0
    assert any(pool.take(now + second) == 0.0 for second in range(300))


def test_the_search_begins_gently_and_doubles_each_second_at_most() -> None:
    pool = bucket()
    moments: list[float] = []
    now = 0.0
    while now < 8.0:
        delay = pool.take(now)
        if delay == 0.0:
            moments.append(now)
            pool.answered(200, OK, now)
        now += delay
        assert pool.rate <= 5.0 * 2.0 ** math.floor(now + 0.01)
    assert sum(moment < 1.0 for moment in moments) <= 5 + 5 + 1
    assert pool.rate >= 40.0


@pytest.mark.parametrize("ceiling", [3.0, 17.0, 80.0])
def test_a_given_rate_is_used_from_the_start_and_never_exceeded(ceiling: float) -> None:
    pool = bucket(ceiling)
    assert pool.rate == ceiling
    service = Sliding(ceiling / 2, 5.0)
    press(pool, service, 0.0, 60.0)
    assert pool.rate <= ceiling
    press(pool, lambda _: (200, OK), 60.0, 600.0)
    assert pool.rate == pytest.approx(ceiling, rel=0.01)


@pytest.mark.parametrize("limit", [4.0, 20.0, 100.0])
def test_an_unknown_limit_is_found_and_mostly_used(limit: float) -> None:
    service = Sliding(limit, max(limit / 2, 2.0))
    press(bucket(), service, 0.0, 240.0)
    late = [moment for moment in service.accepted if moment >= 120.0]
    assert len(late) >= 0.6 * limit * 120
    assert service.refused <= 0.1 * len(service.accepted)


def rate_after_a_rest(seconds: float) -> float:
    """The rate after 20 successes a second for four seconds, a rest, three successes more and a refusal."""
    pool = bucket(20.0)
    for moment in [step * 0.05 for step in range(81)] + [4.0 + seconds] * 2:
        assert pool.take(moment) == 0.0
        pool.answered(200, OK, moment)
    pool.answered(429, {"Retry-After": "0.5"}, 4.0 + seconds)
    return pool.rate


def test_a_long_rest_and_no_short_one_makes_what_went_before_tell_nothing() -> None:
    assert rate_after_a_rest(0.5) > 15.0
    assert rate_after_a_rest(3.0) == pytest.approx(9.5)


@pytest.mark.parametrize("asks", ["1", "0.2", "60", ""])
@pytest.mark.parametrize("rate", [None, 10.0])
def test_an_hour_of_refusals_is_survived_and_got_over(asks: str, rate: float | None) -> None:
    pool = bucket(rate)
    headers = {"Retry-After": asks}
    asked = 0

    def shut(_: float) -> tuple[int, Mapping[str, str]]:
        nonlocal asked
        asked += 1
        return 429, headers

    press(pool, shut, 0.0, 3600.0)
    assert 1 <= asked <= 3600 * 6
    assert 0.0 < pool.rate < math.inf
    assert pool.paused_until <= 3660.0 + 1.0
    service = Sliding(10.0, 10.0)
    press(pool, service, 3600.0, 4800.0)
    late = [moment for moment in service.accepted if moment >= 4500.0]
    assert len(late) >= 0.5 * 10.0 * 300


# What headers tell before it comes to a refusal.


def test_no_quota_left_pauses_before_it_hurts() -> None:
    pool = bucket(100.0, 10.0)
    pool.answered(200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 1.0)
    assert pool.take(1.5) == pytest.approx(11.5)
    assert drain(pool, 1.5, 20.0)[0] == pytest.approx(13.0, abs=0.05)


def test_a_quota_nearly_used_up_is_spread() -> None:
    pool = bucket(100.0, 1.0)
    pool.answered(200, {"RateLimit-Remaining": "10", "RateLimit-Reset": "20"}, 0.0)
    assert len(drain(pool, 0.0, 19.9)) <= 12


@pytest.mark.parametrize(
    "headers",
    [
        {"RateLimit-Remaining": "0"},
        {"RateLimit-Remaining": "x", "RateLimit-Reset": "5"},
        {"RateLimit-Remaining": "0", "RateLimit-Reset": "x"},
        {"RateLimit-Remaining": "-1", "RateLimit-Reset": "5"},
        {"RateLimit-Remaining": "0", "RateLimit-Reset": "-5"},
        {"RateLimit-Remaining": "0", "RateLimit-Reset": "1e9"},
        {"RateLimit-Remaining": "nan", "RateLimit-Reset": "nan"},
        {"RateLimit-Reset": "30"},
    ],
)
def test_headers_without_sense_change_nothing(headers: dict[str, str]) -> None:
    pool = bucket(10.0, 1.0)
    pool.answered(200, headers, 0.0)
    assert pool.paused_until <= 0.0
    assert len(drain(pool, 0.0, 5.0)) >= 49


# On an event loop.


@pytest.mark.looptime
async def test_a_pause_is_shared_by_all_callers() -> None:
    pool = TokenBucket(100.0, 5)
    loop = asyncio.get_running_loop()
    await pool.acquire()
    pool.answered(429, {"Retry-After": "7"})
    paused = loop.time()

    async def caller() -> float:
        await pool.acquire()
        return loop.time() - paused

    waits = await asyncio.gather(*(caller() for _ in range(10)))
    assert min(waits) == pytest.approx(7.0, abs=0.02)
    assert not any(wait < 6.99 for wait in waits)


@pytest.mark.looptime
async def test_a_cancelled_acquire_takes_nothing() -> None:
    pool = TokenBucket(1.0, 1.0, adaptive=False)
    loop = asyncio.get_running_loop()
    await pool.acquire()
    began = loop.time()
    for moment in (0.25, 0.25, 0.25):
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(moment)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await pool.acquire()
    assert loop.time() - began == pytest.approx(1.0, abs=0.01)


@pytest.mark.looptime
async def test_an_acquire_cancelled_as_its_time_comes_takes_nothing() -> None:
    pool = TokenBucket(1.0, 1.0, adaptive=False)
    loop = asyncio.get_running_loop()
    await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    loop.call_at(loop.time() + 1.0, waiting.cancel)
    await asyncio.gather(waiting, return_exceptions=True)
    if waiting.cancelled():
        await asyncio.sleep(0.001)
        assert pool.take() == 0.0
    assert pool.take() > 0.0


@pytest.mark.looptime
async def test_callers_of_a_bucket_share_its_bound() -> None:
    pool = TokenBucket(20.0, 4.0, adaptive=False)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def caller() -> None:
        for _ in range(10):
            await pool.acquire()

    await asyncio.gather(*(caller() for _ in range(10)))
    assert loop.time() - began == pytest.approx((100 - 4) / 20.0, abs=0.1)


def test_a_bucket_shows_its_rate() -> None:
    assert "rate=5" in repr(TokenBucket(5.0))
    assert TokenBucket().rate > 0
