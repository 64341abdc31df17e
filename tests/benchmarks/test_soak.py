"""What the soak takes for a leak."""

from __future__ import annotations

import random

import pytest

from benchmarks.soak import slope


def rounds(drift, *, seed=1, count=100):
    """What a process holds after each round: it wanders, as allocators do, and may drift."""
    chance = random.Random(seed)
    held, points = 60.0, []
    for number in range(count):
        held += drift + chance.choice([0.0, 0.0, 0.0, 0.004, -0.004])
        points.append((number / 20, held))
    return points


@pytest.mark.parametrize("seed", range(10))
def test_what_only_wanders_is_no_leak(seed):
    found, noise = slope(rounds(0.0, seed=seed))
    assert found < 2 * noise


def test_a_leak_is_seen():
    found, noise = slope(rounds(0.005))
    assert found == pytest.approx(0.1, rel=0.3)
    assert found > noise


def test_too_few_rounds_show_nothing():
    assert slope(rounds(1.0, count=10))[1] == float("inf")
