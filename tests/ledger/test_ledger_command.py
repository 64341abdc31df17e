"""``deepnote-async ledger show``, in this process."""

from __future__ import annotations

import json

import pytest

from deepnote_async.ledger.records import Row
from deepnote_async.ledger.store import Store

testing = pytest.importorskip("typer.testing")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "batch.sqlite"
    store = Store.writing(str(path))
    rows = [
        Row(1, "a", 1, "nb", "hash", None, "ended", "run-1", "success", created_at=1.8e9, finished_at=1.8e9 + 60),
        Row(2, "b", 1, "nb", "hash", None, "ended", "run-2", "error", error="bad cell"),
        Row(3, "c", 1, "nb", "hash", None, "ended", "run-3", "error", error="mended"),
        Row(4, "c", 2, "nb", "hash", None, "started", "run-4", "running"),
        Row(5, "d", 1, "nb", "hash", None, "unknown", since=1.8e9, until=1.8e9 + 30, error="broke"),
        Row(6, "e", 1, "nb", "hash", None),
    ]
    store.put([row.values() for row in rows])
    store.close()
    return path


def show(*arguments):
    from deepnote_async.cli.app import app

    return testing.CliRunner().invoke(app, ["ledger", "show", *map(str, arguments)])


def test_it_prints_counts_open_runs_and_failures(path):
    done = show(path, "--table")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "planned         1",
        "starting        0",
        "started         1",
        "unknown         1",
        "succeeded       1",
        "failed          1",
        "earlier         1",
        "",
        "open:",
        "  c  run-4  started/running",
        "  d  unknown/-  broke",
        "",
        "failures:",
        "  b  run-2  ended/error  bad cell",
    ]


def test_as_json(path):
    told = json.loads(show(path, "--json").output)
    assert told["counts"]["unknown"] == 1
    assert [entry["key"] for entry in told["open"]] == ["c", "d"]
    assert told["open"][1]["window"] == ["2027-01-15T08:00:00+00:00", "2027-01-15T08:00:30+00:00"]
    assert [entry["error"] for entry in told["failures"]] == ["bad cell"]


def test_what_is_no_ledger_is_said(tmp_path):
    assert "no such file" in str(show(tmp_path / "none.sqlite").exception)
