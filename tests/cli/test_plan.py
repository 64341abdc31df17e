"""Forecasts: what they say, and that a real fan-out bears them out."""

from __future__ import annotations

import asyncio
import json
import re
import time

import attrs
import pytest

pytest.importorskip("typer")

from test_command import run_command
from typer.testing import CliRunner

from deepnote_async import DeepnoteClient, PollPolicy, RunRequest
from deepnote_async.cli.advice import advise
from deepnote_async.cli.app import app
from deepnote_async.cli.forecast import Forecast, Plan, _in_flight, _with_room, account, forecast
from deepnote_async.testing import FakeDeepnote

SEEN = Forecast(
    runs=1000,
    failed=0,
    unaccounted=0,
    seconds=1000.0,
    starting=900.0,
    starts=1000,
    pages=500,
    single_reads=100,
    throttled=3,
    delay_mean=2.0,
    delay_median=1.5,
    delay_late=6.0,
    delay_worst=20.0,
    length_mean=80.0,
    length_longest=900.0,
    in_flight_most=150,
    used=0.95,
    full=0.0,
    with_usual_room=None,
)


async def test_a_plan_needs_no_key_and_prints_json_where_nobody_reads_it():
    # No name of a host can be found, so that a request to any would fail.
    program = "import socket; socket.getaddrinfo = None; from deepnote_async.cli import main; main()"
    status, output = await run_command(
        *("plan", "--runs", "40", "--rate", "5", "--median", "20", "--notebooks", "2", "--failures", "0.2"),
        program=("-c", program),
    )
    assert status == 0, output
    told = json.loads(output)
    seen = told["forecast"]
    assert (seen["runs"], seen["starts"], seen["unaccounted"]) == (40, 40, 0)
    assert 2 <= seen["failed"] <= 16
    assert seen["single_reads"] >= seen["failed"], "a failed run is read by itself, for its error"
    assert seen["requests"] == sum(seen[kind] for kind in ("starts", "pages", "single_reads", "throttled"))
    assert seen["starting"] >= (40 - 5) / 5, "the limit holds"
    assert seen["seconds"] >= seen["length_longest"]
    assert told["plan"]["notebooks"] == 2
    assert told["advice"]["binds"] == "lengths"


async def test_the_text_says_what_binds_and_which_options_show_a_change():
    status, output = await run_command("plan", "--runs", "60", "--max-in-flight", "5", "--median", "5", "--table")
    assert status == 0, output
    assert re.search(r"^duration +\d min \d\d s, of which starting ", output, re.MULTILINE)
    assert re.search(r"^delay, end to known  mean \d.*, median \d.*, 95th \d.*, worst \d", output, re.MULTILINE)
    assert re.search(r"^in flight +5 at most, max_in_flight=5$", output, re.MULTILINE)
    assert re.search(r"^what binds +the room: ", output, re.MULTILINE)
    assert re.search(r"^to see it +the same with --max-in-flight \d+$", output, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--window", "100", "--rate", "5"), "one limit"),
        (("--window", "100", "--burst", "5"), "one limit"),
        (("--runs", "3", "--notebooks", "4"), "3 runs for 4"),
        (("--rate", "0"), "--rate"),
        (("--sigma", "40"), "--sigma"),
    ],
)
def test_what_cannot_be_is_a_usage_error(arguments, message):
    result = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert message in result.output


def test_the_common_options_stand_before_or_after_it():
    for arguments in (("--table", "plan", "--runs", "5"), ("plan", "--runs", "5", "--table", "-q", "--timeout", "5")):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert result.output.startswith("5 runs of 1 notebook")


@pytest.mark.slow
async def test_a_plan_that_takes_long_is_shown_and_left_with_ctrl_c(terminal):
    screen = terminal()
    await screen.start("plan", "--runs", "200000")
    await screen.sees(r"\d of 200,000 runs known after")
    screen.type("\x03")
    assert await screen.ends() == 130
    assert "Traceback" not in screen.shown


def test_the_same_plan_gives_the_same_forecast():
    plan = Plan(runs=60, median=5.0, notebooks=3, failures=0.1)
    assert forecast(plan) == forecast(plan) != forecast(attrs.evolve(plan, seed=2))


def test_progress_hears_of_every_run():
    heard = []
    seen = forecast(Plan(runs=7, median=5.0), lambda known, seconds: heard.append((known, seconds)))
    assert [known for known, _ in heard] == [1, 2, 3, 4, 5, 6, 7]
    assert heard[-1][1] == pytest.approx(seen.seconds)


def test_every_snapshot_is_a_request_more():
    plan = Plan(runs=20, median=5.0)
    with_outputs = forecast(attrs.evolve(plan, snapshot=True))
    assert with_outputs.single_reads >= 20 > forecast(plan).single_reads


def test_a_window_is_kept():
    seen = forecast(Plan(runs=50, window=30, median=5.0))
    assert seen.starting > 60.0, "50 starts and the looks between them do not fit into one window of 30"
    assert 1 <= seen.throttled <= 20


def test_the_search_for_the_limit_is_counted_and_being_told_saves_it():
    plan = Plan(runs=60, median=5.0)
    assert forecast(plan).throttled >= 1
    assert forecast(attrs.evolve(plan, told=True)).throttled == 0


@pytest.mark.parametrize(
    ("spans", "room", "most", "full"),
    [
        ([(0.0, 4.0), (1.0, 2.0), (3.0, 9.0)], 2, 2, 0.2),
        ([(0.0, 4.0), (4.0, 8.0)], 1, 1, 0.8),
        ([(0.0, 4.0), (2.0, 8.0)], 5, 2, 0.0),
        ([(0.0, 99.0)], 1, 1, 1.0),
    ],
)
def test_in_flight_is_counted_from_start_to_known(spans, room, most, full):
    assert _in_flight(spans, room, until=10.0) == (most, pytest.approx(full))


@pytest.mark.parametrize(
    ("seen", "plan", "binds", "options"),
    [
        ({"starting": 100.0}, {}, "lengths", None),
        ({}, {}, "rate", "--price 44"),
        ({}, {"poll": PollPolicy(price=2.0)}, "rate", "--price 8"),
        ({"pages": 50, "single_reads": 20}, {}, "rate", None),
        ({}, {"snapshot": True}, "rate", None),
        ({"full": 0.9, "in_flight_most": 100}, {"max_in_flight": 100}, "in flight", "--max-in-flight 350"),
        ({"used": 0.5}, {}, "search", "--told"),
        ({"used": 0.5}, {"told": True}, "connections", None),
    ],
)
def test_what_binds_is_named_with_the_cheapest_change(seen, plan, binds, options):
    advice = advise(Plan(**{"runs": 1000, "rate": 5.0} | plan), attrs.evolve(SEEN, **seen))
    assert (advice.binds, advice.options) == (binds, options)
    assert advice.why
    assert advice.change


def test_a_smaller_room_is_reckoned_run_by_run():
    assert _with_room(2, [3.0, 5.0, 1.0], spacing=0.0) == 5.0
    assert _with_room(1, [3.0, 5.0, 1.0], spacing=0.0) == 9.0
    assert _with_room(9, [3.0, 5.0, 1.0], spacing=2.0) == 9.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"rate": 40.0},
        {"rate": 40.0, "told": True, "notebooks": 5, "failures": 0.1},
        {"rate": 60.0, "max_in_flight": 40},
        {"rate": 60.0, "snapshot": True},
    ],
    ids=["untold", "told, five notebooks", "forty in flight", "with outputs"],
)
async def test_a_forecast_is_what_a_fan_out_on_loopback_then_does(options):
    """Time and requests within 10 %, mean delay within a quarter or 0.05 s: the lengths are the same, jitter is not."""
    plan = Plan(runs=200, median=2.0, sigma=0.5, latency=0.003, poll=PollPolicy(initial=0.1, maximum=3.0), **options)
    foreseen = await asyncio.to_thread(forecast, plan)
    seen = await _on_loopback(plan)
    assert seen.unaccounted == foreseen.unaccounted == 0
    assert seen.length_longest == pytest.approx(foreseen.length_longest), "the same seed draws the same lengths"
    assert seen.failed == foreseen.failed
    assert seen.seconds == pytest.approx(foreseen.seconds, rel=0.1)
    assert seen.starting == pytest.approx(foreseen.starting, rel=0.15)
    assert seen.requests == pytest.approx(foreseen.requests, rel=0.1)
    assert seen.delay_mean == pytest.approx(foreseen.delay_mean, rel=0.25, abs=0.05)
    assert seen.delay_late == pytest.approx(foreseen.delay_late, rel=0.35, abs=0.1)


async def _on_loopback(plan: Plan) -> Forecast:
    options = {"median": plan.median, "sigma": plan.sigma, "failures": plan.failures, "seed": plan.seed}
    async with FakeDeepnote(limit=plan.limit(), **options) as fake:
        notebooks = [fake.notebook(f"Report {n}").id for n in range(plan.notebooks)]
        client = DeepnoteClient(fake.token, base_url=fake.url, rate_limiter=plan.limiter(), poll=plan.poll)
        requests = (RunRequest(notebooks[n % plan.notebooks]) for n in range(plan.runs))
        known, failed = {}, 0
        began = time.monotonic()
        delivery = "inline" if plan.snapshot else None
        async with client, client.run_many(requests, max_in_flight=plan.room, snapshot=delivery) as batch:
            async for result in batch:
                known[result.run.run_id] = fake.service.clock()
                failed += not result.ok
        return account(plan, fake.service, known, seconds=time.monotonic() - began, failed=failed)


@pytest.mark.slow
def test_the_advice_of_more_room_is_good():
    plan = Plan(runs=1000, max_in_flight=50, median=20.0, sigma=0.5)
    cramped = forecast(plan)
    advice = advise(plan, cramped)
    assert advice.binds == "in flight"
    better = forecast(attrs.evolve(plan, max_in_flight=int(advice.options.split()[1])))
    assert better.seconds < 0.8 * cramped.seconds
    assert better.in_flight_most < int(advice.options.split()[1]), "it binds no more"


@pytest.mark.slow
def test_the_advice_of_fewer_looks_saves_about_what_it_says():
    plan = Plan(runs=2000, median=20.0, sigma=0.5)
    often = forecast(plan)
    advice = advise(plan, often)
    assert advice.binds == "rate"
    minutes, seconds = map(int, re.search(r"about (\d+) min (\d+) s", advice.change).groups())
    seldom = forecast(attrs.evolve(plan, poll=PollPolicy(price=float(advice.options.split()[1]))))
    assert often.starting - seldom.starting == pytest.approx(60 * minutes + seconds, rel=0.4)


@pytest.mark.slow
def test_what_run_many_s_own_room_would_take_is_about_right():
    plan = Plan(runs=1000)
    bound = forecast(attrs.evolve(plan, max_in_flight=100))
    assert bound.with_usual_room is None
    assert forecast(plan).with_usual_room == pytest.approx(bound.seconds, rel=0.1)


@pytest.mark.slow
def test_ten_thousand_runs_are_forecast_in_half_a_minute_of_processor_time():
    began = time.process_time()
    seen = forecast(Plan(runs=10_000))
    assert time.process_time() - began < 30.0
    assert (seen.starts, seen.unaccounted) == (10_000, 0)
    assert seen.requests_per_run < 2.0
