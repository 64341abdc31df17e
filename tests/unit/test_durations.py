"""The hazard of a run's end: positive and finite always, learned from ends, lowered by what goes on."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async.waiting.durations import Durations

ages = st.one_of(
    st.floats(0.0, 1e9), st.sampled_from([0.0, 1e-300, 5e-324, 0.01, 1.0, 1e7, 1e12, 1e300]), st.integers(0, 10**9)
)


def learned(lengths: list[float], parent: Durations | None = None) -> Durations:
    durations = Durations(parent)
    for length in lengths:
        durations.observe(0.0, length, ended=True)
    return durations


@given(st.lists(st.tuples(ages, ages, st.booleans()), max_size=30), ages, st.booleans())
def test_a_hazard_is_positive_and_finite_always(
    seen: list[tuple[float, float, bool]], age: float, with_parent: bool
) -> None:
    durations = Durations(Durations()) if with_parent else Durations()
    for one, other, ended in seen:
        durations.observe(min(one, other), max(one, other), ended=ended)
    hazard = durations.hazard(age)
    assert 0.0 < hazard < math.inf


def test_before_anything_is_known_it_falls_with_age() -> None:
    durations = Durations()
    hazards = [durations.hazard(age) for age in (0.1, 1.0, 10.0, 100.0, 1000.0, 1e5)]
    assert hazards == sorted(hazards, reverse=True)


def test_it_peaks_where_runs_end() -> None:
    rng = random.Random(1)
    durations = learned([rng.uniform(28.0, 32.0) for _ in range(100)])
    assert durations.hazard(30.0) > 10 * durations.hazard(5.0)
    assert durations.hazard(30.0) > 0.05
    assert durations.finished == 100


@pytest.mark.parametrize("mean", [2.0, 20.0, 600.0])
def test_of_memoryless_runs_it_is_the_rate_of_their_ends(mean: float) -> None:
    rng = random.Random(2)
    durations = learned([rng.expovariate(1 / mean) for _ in range(3000)])
    assert durations.hazard(mean / 2) == pytest.approx(1 / mean, rel=0.3)
    assert durations.hazard(mean) == pytest.approx(1 / mean, rel=0.3)


@given(st.floats(0.5, 1e5), st.integers(3, 50))
def test_runs_that_go_on_lower_it(age: float, watched: int) -> None:
    lengths = [age * 1.01] * 5
    plain, censored = learned(lengths), learned(lengths)
    for _ in range(watched):
        censored.observe(0.0, age * 3.0, ended=False)
    # An end makes the next estimate new.
    for durations in (plain, censored):
        durations.observe(0.0, age * 1.01, ended=True)
    assert censored.hazard(age * 1.01) < plain.hazard(age * 1.01)
    assert censored.finished == plain.finished


def test_watching_in_pieces_is_watching_at_once() -> None:
    whole, pieces = Durations(), Durations()
    whole.observe(0.0, 50.0, ended=True)
    for start in range(10):
        pieces.observe(start * 5.0, start * 5.0 + 5.0, ended=start == 9)
    for age in (0.5, 3.0, 12.0, 40.0, 49.0, 80.0):
        assert pieces.hazard(age) == pytest.approx(whole.hazard(age))


def test_a_notebook_leans_on_all_until_it_knows_its_own() -> None:
    pool = Durations()
    learned([10.0] * 50, pool)
    fresh = Durations(pool)
    assert fresh.hazard(10.0) == pytest.approx(pool.hazard(10.0), rel=0.5)
    assert pool.finished == 50
    other = learned([100.0] * 50, pool)
    assert other.hazard(10.0) < pool.hazard(10.0) / 2
    assert other.hazard(100.0) > 3 * other.hazard(10.0)
    assert fresh.finished == 0
