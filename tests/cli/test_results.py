"""The table of a batch's results, on screens wide and narrow."""

from __future__ import annotations

import sys

import pytest

from deepnote_async import Run, RunRequest
from deepnote_async.cli.results import left_record, print_results, record_of
from deepnote_async.waiting.results import RunResult

WELL = "0b2ff6a4-1111-4111-8111-000000000001"
ILL = "0b2ff6a4-2222-4222-8222-000000000002"


def result(index, run_id, status, *, error=None):
    request = RunRequest("nb", inputs={"region": "Europe", "year": 2024, "team": "all of us"})
    run = Run(run_id=run_id, notebook_id="nb", status=status, error=error)
    return RunResult(index=index, request=request, run_id=run_id, run=run)


@pytest.fixture
def table(monkeypatch, capsys):
    def print_at(width, *results, outputs=False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: width is not None)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "dumb")
        records = [record_of(each, outputs=outputs) for each in results]
        print_results(records)
        return capsys.readouterr().out.rstrip("\n").split("\n")

    return print_at


def test_inputs_are_words(table):
    lines = table(None, result(0, WELL, "success"))
    assert 'region=Europe year=2024 team="all of us"' in lines[-1]
    assert WELL in lines[-1]


def test_at_80_columns_a_run_is_a_line_and_only_one_that_is_not_well_has_its_id(table):
    monstrous = "ValueError: a\nlong [bold] story " + "of many words " * 20
    lines = table(80, result(0, WELL, "success"), result(1, ILL, "error", error=monstrous))
    assert len(lines) == 5
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert "region=Europe" in lines[2]
    assert "ValueError: a long [bold]" in lines[3]
    assert "…" in lines[3]
    assert lines[4] == f"1: run {ILL}"
    assert not any("id" in line for line in table(80, result(0, WELL, "success")))


def test_a_failed_run_without_a_reason_says_where_it_is():
    ill = result(0, ILL, "error")
    assert record_of(ill, outputs=False)["error"] == f"`deepnote-async runs outputs {ILL}` tells why"
    assert record_of(result(0, ILL, "error", error="X: y"), outputs=False)["error"] == "X: y"
    assert record_of(ill, outputs=True)["error"] is None
    assert record_of(result(0, ILL, "stopped"), outputs=False)["error"] is None
    assert record_of(result(0, WELL, "success"), outputs=False)["error"] is None


def test_one_that_was_left_says_how_to_go_on():
    record = left_record(RunResult(index=0, request=RunRequest("nb"), run_id=WELL), outputs=False)
    assert (record["ok"], record["status"]) == (False, None)
    assert f"runs wait {WELL}" in record["error"]
