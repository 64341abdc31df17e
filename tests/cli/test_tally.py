"""Counting, drawing and the naive way by themselves."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

from deepnote_async.cli.board import Board
from deepnote_async.cli.naive import run_naively
from deepnote_async.cli.tally import Tally
from deepnote_async.testing import FakeDeepnote, Fault


def test_delays_are_measured_for_runs_whose_end_is_known():
    tally = Tally("ours", 3)
    tally.count_end("a", 10.5, succeeded=True)
    tally.count_end("b", 21.5, succeeded=False)
    tally.measure([("a", 0.0, 10.0), ("b", 1.0, 20.0), ("never told", 0.0, 1.0)])
    assert (tally.succeeded, tally.failed, tally.ended) == (1, 1, 2)
    assert tally.slowest == 19.0
    assert tally.mean_delay == 1.0
    assert tally.late_delay == 1.5


def test_a_way_that_learned_nothing_has_no_delays():
    tally = Tally("naive", 1)
    tally.give_up("starting")
    assert (tally.slowest, tally.mean_delay, tally.late_delay) == (None, None, None)
    assert (tally.abandoned, tally.reasons) == (1, {"starting": 1})


def test_runs_abandoned_while_waiting_are_no_longer_under_way():
    tally = Tally("naive", 4, started=3)
    tally.count_end("a", 1.0, succeeded=True)
    tally.give_up("waiting")
    tally.give_up("starting")
    assert tally.going == 1


def test_the_account_of_the_service_goes_before_the_client_s_own():
    tally = Tally("ours", 1, requests=1)
    tally.count_end("a", 3.0, succeeded=True)
    runs = [{"id": "a", "created": 0.0, "ended": 2.0}, {"id": "b", "created": 0.0, "ended": None}]
    tally.take_account({"requests": 7, "by_status": {"429": 2, "200": 5}, "runs": runs})
    assert (tally.requests, tally.throttled, tally.delays) == (7, 2, [1.0])


@pytest.mark.parametrize("ways", [1, 2])
def test_a_terminal_is_drawn_on_in_place_and_keeps_the_result_only(ways):
    out = io.StringIO()
    board = Board(Console(file=out, force_terminal=True, width=100))
    tallies = [Tally(f"way {number}", 10) for number in range(ways)]
    with board.drawing(tallies):
        tallies[0].count_end("a", 1.0, succeeded=True)
        board.draw(tallies)
    assert "1 of 10" in out.getvalue()
    board.results(tallies)
    assert "succeeded" in out.getvalue()


async def test_the_naive_way_gives_up_after_five_attempts():
    async with FakeDeepnote(faults=[Fault("error_before", status=429, headers={"Retry-After": "0"})]) as fake:
        tally = Tally("naive", 2)
        await run_naively(fake.url, fake.token, fake.notebook("Report").id, tally, interval=0.1)
    assert (tally.abandoned, tally.reasons) == (2, {"starting": 2})
    assert tally.requests == 10


async def test_the_naive_way_ends_where_nothing_is_limited():
    async with FakeDeepnote(time_scale=20) as fake:
        tally = Tally("naive", 5)
        await run_naively(fake.url, fake.token, fake.notebook("Report").succeeds(after=5).id, tally, interval=0.05)
    assert (tally.succeeded, tally.abandoned) == (5, 0)
