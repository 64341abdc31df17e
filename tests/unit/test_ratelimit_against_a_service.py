"""The bucket against a service with a limit: growth under pressure only, the bound, one refusal heard once."""

import random
from collections import deque
from collections.abc import Callable, Mapping

import pytest

from deepnote_async.ratelimit import Bucket

OK: dict[str, str] = {}


def bucket(rate=None, capacity=None, *, adaptive=True):
    return Bucket(rate, capacity, adaptive=adaptive, rng=random.Random(1))


def test_the_search_rests_while_nothing_presses() -> None:
    pool = bucket()
    for k in range(360):
        assert pool.take(k * 10.0) == 0.0
        pool.answered(200, OK, k * 10.0 + 0.1)
    assert pool.rate == 5.0


def test_refusals_that_ask_for_no_pause_do_not_break_the_bound() -> None:
    pool = bucket(1.0, 1.0, adaptive=False)
    moments = []
    for k in range(100):
        now = k * 0.01
        if pool.take(now) == 0.0:
            moments.append(now)
            pool.answered(429, {"Retry-After": "0"}, now + 0.005)
    assert len(moments) <= 1.0 + 1.0 * (moments[-1] - moments[0])


def test_a_pause_shorter_than_a_tokens_time_does_not_break_the_bound() -> None:
    pool = bucket(0.1, 1.0, adaptive=False)
    assert pool.take(0.0) == 0.0
    pool.answered(429, {"Retry-After": "1"}, 0.1)
    assert pool.take(1.2) > 0.0, "two tokens within 1.2 s at 0.1/s with a capacity of 1"


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
        wait = self.asks if self.asks is not None else f"{(1.0 - self.tokens) / self.rate:.3f}"
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


@pytest.mark.parametrize("limit", [20.0, 100.0])
def test_pauses_shorter_than_the_answers_take_do_not_starve(limit: float) -> None:
    # Retry-After here is some 0.01 s, answers take 0.1 s: what was in flight is refused after the pause has ended.
    service = Sliding(limit, limit / 2)
    press(bucket(), service, 0.0, 240.0)
    late = [moment for moment in service.accepted if moment >= 120.0]
    assert len(late) >= 0.6 * limit * 120


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 5.0), (1.0, 1.0), (0.5, 5.0)])
def test_a_limit_of_a_request_a_second_is_learned_too(rate: float, burst: float) -> None:
    """Fewer successes between refusals than tell of a rate are added up, or the search would begin again for ever."""
    pool, service = bucket(), Sliding(rate, burst)
    press(pool, service, 0.0, 3600.0)
    assert service.refused / (service.refused + len(service.accepted)) < 0.12
    assert len(service.accepted) > 0.8 * rate * 3600.0
