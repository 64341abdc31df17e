"""The figures that the client is to reach, in virtual time; and the benchmarks' own arithmetic."""

from __future__ import annotations

import json
import sys
from xml.etree import ElementTree as ET

import attrs
import pytest

from benchmarks import __main__ as command
from benchmarks import batches, chart, day, mixed
from benchmarks.baselines import BASELINES
from benchmarks.measure import Told, measure
from benchmarks.settings import OURS, Setting
from benchmarks.worlds import Account, Seen, in_memory

SEEDS = (1, 2)
# Few seeds scatter: a figure may be missed by so much before it counts as lost.
MARGIN = 0.06


CASES = {
    f"{name}-burst-{case.setting.burst:g}": case
    for name in ("fanout", "untold", "window")
    for case in batches.cases(name)
}


def reached(figure) -> bool:
    if figure.bound == 0 or figure.what == "runs told":
        return figure.reached
    slack = MARGIN * figure.bound
    loosened = figure.bound - slack if figure.at_least else figure.bound + slack
    return attrs.evolve(figure, bound=loosened).reached


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_batch_reaches_its_figures(name):
    _, figures = batches.run_ours(CASES[name], SEEDS)
    assert [figure for figure in figures if not reached(figure)] == []


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"order": "oldest"}, {"order": "random"}, {"foreign": 2000}])
def test_every_order_is_told_to_the_end(options):
    (case,) = batches.cases("fanout", **options)
    measured, _ = batches.run_ours(case, [1])
    assert measured.finished == 500
    assert measured.throttled == 0
    assert measured.requests < 4


@pytest.mark.slow
def test_known_lengths_halve_the_cost_of_looking():
    figures = mixed.figures(mixed.ALIKE, mixed.compare(mixed.ALIKE, [1]))
    assert len(figures) == 2
    assert [figure for figure in figures if not reached(figure)] == []


@pytest.mark.parametrize("rate", [5.0, 50.0])
def test_no_window_admits_more_than_the_bucket_allows(rate):
    setting = Setting(title="", runs=150, rate=rate, burst=rate, told=True)
    capacity = setting.limiter().capacity

    async def times(world):
        await batches.ours(world, setting)
        return [call.time for call in world.service.calls]

    at = in_memory(setting, times)
    for first, since in enumerate(at):
        for last in range(first, len(at)):
            # The service's clock has the epoch in it, so it is true to a microsecond.
            assert last - first + 1 <= capacity + rate * (at[last] - since) + 1e-3


@pytest.mark.parametrize("polling", BASELINES, ids=lambda polling: polling.name)
def test_a_baseline_polls_until_the_end(polling):
    setting = Setting(title="", runs=20, rate=50.0, burst=50.0)

    async def work(world):
        told = await polling(world, setting)
        return measure(setting, told, await world.account())

    found = in_memory(setting, work)
    assert found.finished == 20
    assert found.requests > 3


def test_what_is_measured():
    setting = Setting(title="", rate=2.0)
    calls = [Seen(t / 2, "POST", "/v2/runs", 202) for t in range(5)]
    calls += [Seen(1.0, "GET", "/v2/runs/a", 429), Seen(9.0, "GET", "/v2/notebooks/n/runs", 200)]
    told = Told()
    told.note("a", 6.0, succeeded=True)
    told.note("b", 9.5, succeeded=False)
    found = measure(setting, told, Account(calls, {"a": 5.0, "b": 9.0, "c": None}))
    assert (found.finished, found.requests, found.mean) == (2, 3.5, 0.75)
    assert found.throttled == pytest.approx(1 / 7)
    assert found.used == 1.0  # four requests let in within two seconds
    assert found.product == pytest.approx((3.5 - 1 - 0.5) * 0.75)


def test_of_windows_the_whole_ones_count():
    setting = Setting(title="", window=2, window_seconds=10.0)
    at = [(0, 202), (1, 202), (2, 429), (10, 202), (20, 202), (29, 202), (31, 429)]
    calls = [Seen(float(t), "POST", "/v2/runs", status) for t, status in at]
    found = measure(setting, Told(), Account(calls, {}))
    assert found.used == 0.75  # the third window had not ended by the last start
    assert found.settled == pytest.approx(1 / 3)
    assert (found.finished, found.mean, found.product) == (0, None, None)


@pytest.mark.slow
def test_the_command(monkeypatch, capsys, tmp_path):
    run = ["benchmarks", "fanout", "--virtual", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", [*run, "--ours"])
    command.main()
    assert "requests a run" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*run, "--json"])
    command.main()
    (tmp_path / "found.json").write_text(capsys.readouterr().out)
    (report,) = json.loads((tmp_path / "found.json").read_text())["reports"]
    assert list(report["rows"]) == [OURS, *(polling.name for polling in BASELINES)]
    picture = tmp_path / "fanout.svg"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "chart", str(picture), "--results", str(tmp_path / "found.json")])
    command.main()
    drawn = ET.fromstring(picture.read_text())
    assert len(drawn.findall("{*}circle")) == 4
    assert picture.read_text() == chart.draw(report, 500)


@pytest.mark.slow
@pytest.mark.long
def test_a_day():
    report = day.run()
    assert [figure for figure in report.figures if not figure.reached] == []
