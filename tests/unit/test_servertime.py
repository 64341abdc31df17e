"""The service's time, from dates cut to the second."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async.servertime import ServerClock

EPOCH = 1_780_000_000.0


def date(seconds: float) -> str:
    return formatdate(int(seconds), usegmt=True)


def test_before_any_answer_it_is_our_own_time() -> None:
    clock = ServerClock()
    assert clock.at(5.0, wall=77.0) == 77.0
    assert clock.at(5.0) == pytest.approx(datetime.now(UTC).timestamp(), abs=5)


def test_before_any_answer_the_past_lies_in_the_past() -> None:
    """The window of a first start that hung begins where the start was made, not where it broke."""
    clock = ServerClock()
    clock.began(1000.0)
    assert clock.at(1030.0) == pytest.approx(datetime.now(UTC).timestamp() + 30, abs=5)
    assert clock.at(1030.0) - clock.at(1000.0) == pytest.approx(30.0, abs=1e-3)


@given(st.integers(0, 10**6), st.floats(-1e6, 1e6), st.integers(1, 40))
def test_it_lies_within_half_a_second_of_all_it_heard(seed: int, offset: float, answers: int) -> None:
    rng = random.Random(seed)
    clock = ServerClock()
    now = 1000.0
    for _ in range(answers):
        now += rng.random() * 3
        clock.heard(date(EPOCH + offset + now), now)
    assert clock.at(now) == pytest.approx(EPOCH + offset + now, abs=0.5 + 1e-3)
    assert clock.at(now + 100) - clock.at(now) == pytest.approx(100.0, abs=1e-3)


def test_many_answers_make_it_exact() -> None:
    rng = random.Random(3)
    clock = ServerClock()
    now = 1000.0
    for _ in range(300):
        now += rng.random() * 3
        clock.heard(date(EPOCH + now), now)
    assert clock.at(now) == pytest.approx(EPOCH + now, abs=0.05)


@given(st.integers(0, 10**6), st.floats(-1e5, 1e5).filter(lambda jump: abs(jump) > 3))
def test_a_clock_set_anew_is_believed(seed: int, jump: float) -> None:
    rng = random.Random(seed)
    clock = ServerClock()
    now = 1000.0
    for moved in [0.0] * 20 + [jump] * 5:
        now += rng.random() * 3
        clock.heard(date(EPOCH + now + moved), now)
    now += 2.0
    clock.heard(date(EPOCH + now + jump), now)
    assert clock.at(now) == pytest.approx(EPOCH + now + jump, abs=1.0)


@pytest.mark.parametrize("text", [None, "", "yesterday", "Mon, 99 Foo 2026 99:99:99 GMT"])
def test_what_is_no_date_changes_nothing(text: str | None) -> None:
    clock = ServerClock()
    clock.heard(text, 1000.0)
    assert clock.at(1000.0, wall=5.0) == 5.0
    clock.heard(date(EPOCH), 1000.0)
    before = clock.at(1000.0)
    clock.heard(text, 1001.0)
    assert clock.at(1000.0) == before


def test_as_a_datetime_it_is_aware_and_shifted() -> None:
    clock = ServerClock()
    clock.heard(date(EPOCH), 1000.0)
    here = clock.datetime_at(1000.0)
    assert here.tzinfo is UTC
    assert (clock.datetime_at(1000.0, -5.0) - here).total_seconds() == pytest.approx(-5.0)
