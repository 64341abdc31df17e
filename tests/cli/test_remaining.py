"""The time a batch will still take, against batches that are played to their end."""

from __future__ import annotations

import heapq
import random

import pytest

from deepnote_async.cli.remaining import Recent, in_words, remaining


def play(seed: int, *, total: int, at_once: int, starts: float, share: float):
    """The estimate when a share of the runs has ended, and the time it then took."""
    chance = random.Random(seed)
    lengths = [60 * chance.lognormvariate(0, 0.6) for _ in range(total)]
    going: list[float] = []
    spans = []
    now = 0.0
    for number, length in enumerate(lengths):
        now = max(now, number / starts)
        if len(going) == at_once:
            now = max(now, heapq.heappop(going))
        heapq.heappush(going, now + length)
        spans.append((now, now + length))
    ends = sorted(end for _, end in spans)
    at = ends[int(total * share)]
    ended = [end - start for start, end in spans if end <= at]
    recent = sum(at - 30 < end <= at for end in ends) / 30
    started = sum(at - 30 < start <= at for start, _ in spans) / 30
    span = remaining(
        lengths=ended,
        ages=[at - start for start, end in spans if start <= at < end],
        waiting=sum(start > at for start, _ in spans),
        at_once=at_once,
        starts_a_second=started,
        ends_a_second=recent,
    )
    assert span is not None
    return span, ends[-1] - at


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize(("at_once", "starts"), [(50, 5.0), (500, 2.0)])
def test_the_span_is_true_for_most_batches(at_once, starts, share):
    played = [play(seed, total=500, at_once=at_once, starts=starts, share=share) for seed in range(40)]
    held = [low * 0.8 <= took <= high * 1.2 for (low, high), took in played]
    assert sum(held) >= 32, [(round(low), round(high), round(took)) for (low, high), took in played]


def estimate(**known):
    nothing = {"lengths": (), "ages": (), "waiting": 0, "at_once": 10, "starts_a_second": 0.0, "ends_a_second": 0.0}
    return remaining(**nothing | known)


def test_nothing_is_said_before_enough_has_ended():
    assert estimate(lengths=[10.0] * 4, ages=[1.0], waiting=90) is None
    assert estimate(lengths=[10.0] * 5, ages=[1.0], waiting=90) is not None


def test_where_nothing_is_left_no_time_is():
    assert estimate() == (0.0, 0.0)


def test_runs_that_go_on_and_on_make_the_estimate_longer():
    # Only the quick ones have ended so far.
    quick = estimate(lengths=[1.0] * 5, ages=[1.0] * 10, waiting=100)
    slow = estimate(lengths=[1.0] * 5, ages=[100.0] * 10, waiting=100)
    assert slow[0] > 50 * quick[0]


def test_results_that_come_slowly_make_it_longer():
    known = {"lengths": [1.0] * 50, "ages": [0.5] * 10, "waiting": 90, "starts_a_second": 10.0}
    assert estimate(**known, ends_a_second=1.0)[1] >= 100.0


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (None, ""),
        ((0.0, 3.0), "seconds left"),
        ((12.0, 31.0), "10 to 40 s left"),
        ((2.0, 31.0), "up to 40 s left"),
        ((130.0, 290.0), "2 to 5 min left"),
        ((30.0, 290.0), "up to 5 min left"),
        ((119.9, 120.0), "1 to 2 min left"),
        ((120.0, 120.0), "about 2 min left"),
        ((7300.0, 14000.0), "2 to 4 h left"),
    ],
)
def test_it_is_told_in_rough_figures(span, words):
    assert in_words(span) == words


def test_the_pace_is_that_of_the_last_seconds():
    recent = Recent(10.0)
    assert recent.rate(0.0, 0) == 0.0
    assert recent.rate(2.0, 20) == 10.0
    for second in range(3, 31):
        pace = recent.rate(float(second), 20)
    assert pace == 0.0
    assert recent.rate(31.0, 30) == pytest.approx(1.0, rel=0.1)


def test_what_was_there_before_is_no_pace():
    recent = Recent(30.0)
    assert recent.rate(1.0, 300) == 0.0
    assert recent.rate(2.0, 302) == pytest.approx(2.0)
