"""What is printed, for programs and for people."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime

import pytest

pytest.importorskip("rich")

from deepnote_async import Me, Notebook, Run, errors
from deepnote_async.cli import exits
from deepnote_async.cli.render import cell, harmless, jsonable, print_json, print_table, run_record, seconds

RUN = Run(
    run_id="r",
    status="error",
    created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    finished_at=datetime(2026, 1, 2, 3, 4, 15, 500_000, tzinfo=UTC),
    snapshot_download_url="https://storage/secret",
    snapshot_content="content",
    extra={"queuePosition": 3},
)


def test_a_run_is_told_in_plain_names_and_without_its_secret_link():
    record = run_record(RUN)
    assert record["created_at"] == "2026-01-02T03:04:05+00:00"
    assert (record["status"], record["duration"], record["extra"]) == ("error", 10.5, {"queuePosition": 3})
    assert "secret" not in json.dumps(record)


def test_models_within_models_are_told_too():
    record = jsonable(Me(user={"id": "u", "tags": ("a", {"b": None})}))
    assert record["user"] == {"id": "u", "tags": ["a", {"b": None}]}
    assert jsonable([Notebook(id="n")])[0]["id"] == "n"


@pytest.mark.parametrize(("encoding", "written"), [("utf-8", "é\\ud800"), ("ascii", "\\u00e9\\ud800")])
def test_a_line_of_json_can_be_written_in_any_encoding(monkeypatch, encoding, written):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace"))
    print_json({"text": "é\ud800"})
    line = raw.getvalue().decode(encoding)
    assert written in line
    assert json.loads(line) == {"text": "é\ud800"}


def test_a_table_cuts_no_id_and_reads_no_markup(capsys):
    print_table(["run_id", "name", "created_at"], [{"run_id": "r" * 200, "name": "[red]x[/]", "created_at": None}])
    out = capsys.readouterr().out
    assert "r" * 200 in out
    assert "[red]x[/]" in out
    assert "created at" in out


@pytest.mark.parametrize(
    ("value", "words"),
    [(8.26, "8.3 s"), (59.97, "1 min 00 s"), (245, "4 min 05 s"), (3599.6, "1 h 00 min"), (7830, "2 h 10 min")],
)
def test_lengths_of_time_for_people(value, words):
    assert seconds(value) == words


@pytest.mark.parametrize(
    ("text", "coloured", "plain"),
    [
        ("a\tb\r\n\u00e9", "a\tb\r\n\u00e9", "a\tb\r\n\u00e9"),
        ("\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m\x1b[0m", "red"),
        ("\x1b]52;c;c2VjcmV0\x07x\x1b]0;title\x1b\\y", "xy", "xy"),
        ("\x1b[2J\x1b[Hx\x1b[?1049h\x1bc\x1b(0y", "xy", "xy"),
        ("\x1bP+q\x1b\\x\x9b2Jy\x07\x08", "x2Jy", "x2Jy"),
        ("\x1b]52;c;cut off", "]52;c;cut off", "]52;c;cut off"),
        ("\x1b\x1b[2J[2J", "[2J", "[2J"),
        ("\x1b[3", "[3", "[3"),
    ],
)
def test_a_notebook_may_colour_its_words_and_do_nothing_else_to_a_terminal(text, coloured, plain):
    assert harmless(text) == coloured
    assert harmless(text, colours=False) == plain


def test_a_cell_obeys_nothing_and_only_a_status_is_coloured(capsys):
    assert cell("\x1b[2Jx", "name").plain == "x"
    assert (str(cell("error", "status").style), str(cell("error", "name").style)) == ("red", "")
    print_table(["\x1b[2Jname"], [{"\x1b[2Jname": "\x1b]0;t\x07v"}], verbatim=True)
    assert "\x1b" not in capsys.readouterr().out


def api_error(kind, status):
    return kind("no", status=status, method="GET", path="/v2/me")


TIMEOUT = errors.RequestTimeoutError("late", sent=True)


@pytest.mark.parametrize(
    ("error", "status", "advice"),
    [
        (api_error(errors.AuthenticationError, 401), 3, "check the key"),
        (api_error(errors.RateLimitError, 429), 3, "wait a minute"),
        (errors.ConfigurationError("no"), 2, "no"),
        (errors.InvalidRequestError("no"), 2, "no"),
        (TIMEOUT, 4, "--timeout"),
        (errors.RunTimeoutError("late", run_id="r"), 4, "runs wait r"),
        (errors.RunFailedError(RUN), 1, "ended as error"),
        (errors.NotStartedError("no", cause=api_error(errors.AuthenticationError, 401)), 3, "check the key"),
        (errors.NotStartedError("no", cause=TIMEOUT), 4, "--timeout"),
        (errors.OutcomeUnknownError("broke", notebook_id="n"), 3, "notebooks runs n"),
        (FileNotFoundError(2, "No such file or directory", "rows.csv"), 2, "rows.csv: No such file"),
        (OSError(28, "No space left on device"), 5, "No space left"),
        (OSError(28, "No space left on device", "report.yaml"), 5, "report.yaml: No space left"),
    ],
)
def test_an_error_is_one_line_with_advice_and_a_status(capsys, error, status, advice):
    assert exits.tell(error, debug=False) == status
    line = capsys.readouterr().err
    assert line.startswith("deepnote-async: error: ")
    assert line.count("\n") == 1
    assert advice in line
