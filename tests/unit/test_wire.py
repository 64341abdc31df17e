"""JSON to models in both dialects: whatever comes, a model or a DecodeError."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepnote_async import wire
from deepnote_async.errors import DecodeError
from deepnote_async.models import Me, Notebook, Project, Run, RunStarted, RunStatus

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ENDED = datetime(2026, 5, 4, 12, 1, 30, tzinfo=UTC)
RUN = {"runId": "r", "notebookId": "n", "status": "success", "createdAt": "2026-05-04T12:00:00Z"}


@pytest.fixture(params=["json", "orjson"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers a user may have; orjson is an extra."""
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(wire, "_read_json", module.loads)


def read(reader: Callable[[Any], Any], value: Any) -> Any:
    return wire.decode(reader, json.dumps(value).encode(), 200)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"runId": "r", "status": "success"}',
        '{"runId": "r", "status": "success"}'.encode("utf-16"),
        b'{"runId": "r", "status": "success", "more": NaN}',
        b'{"runId": "r", "status": "success", "error": "\xed\xa0\x80"}',
    ],
    ids=["byte order mark", "UTF-16", "NaN", "lone surrogate"],
)
def test_what_a_careless_sender_makes_of_json_is_read_with_either_parser(body: bytes) -> None:
    run = wire.decode(wire.read_run, body, 200)
    assert (run.run_id, run.status) == ("r", RunStatus.SUCCESS)


# Both dialects.


@pytest.mark.parametrize("wrap", [lambda run: run, lambda run: {"run": run}], ids=["bare", "enveloped"])
@pytest.mark.parametrize("end", ["completedAt", "finishedAt"])
@pytest.mark.parametrize("key", ["runId", "id"])
def test_one_run_in_every_dialect(wrap: Callable[[Any], Any], end: str, key: str) -> None:
    data = {key: "r", **RUN, end: "2026-05-04T12:01:30.000Z"}
    if key == "id":
        del data["runId"]
    run = read(wire.read_run, wrap(data))
    assert run == Run(run_id="r", notebook_id="n", status=RunStatus.SUCCESS, created_at=NOON, finished_at=ENDED)
    assert dict(run.extra) == {}


@pytest.mark.parametrize(
    ("ends", "finished"),
    [
        ({"completedAt": None, "finishedAt": "2026-05-04T12:01:30Z"}, ENDED),
        ({"completedAt": "2026-05-04T12:01:30Z", "finishedAt": None}, ENDED),
        ({"completedAt": "2026-05-04T12:01:30Z", "finishedAt": "2030-01-01T00:00:00Z"}, ENDED),
        ({"completedAt": None}, None),
        ({"finishedAt": None}, None),
        ({"completedAt": ""}, None),
        ({}, None),
    ],
)
def test_two_names_of_the_end_are_one_attribute(ends: dict[str, Any], finished: datetime | None) -> None:
    run = read(wire.read_run, RUN | ends)
    assert run.finished_at == finished
    assert dict(run.extra) == {}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-05-04T12:00:00Z", NOON),
        ("2026-05-04T12:00:00.000Z", NOON),
        ("2026-05-04T12:00:00", NOON),
        ("2026-05-04T14:00:00+02:00", NOON),
        (None, None),
        ("", None),
    ],
)
def test_times_are_aware_and_in_utc(text: str | None, time: datetime | None) -> None:
    created = read(wire.read_run, RUN | {"createdAt": text}).created_at
    assert created == time
    assert created is None or created.tzinfo is UTC


@pytest.mark.parametrize("wrap", [lambda run: run, lambda run: {"run": run}], ids=["bare", "enveloped"])
@pytest.mark.parametrize("key", ["runId", "id"])
def test_a_receipt_in_every_dialect(wrap: Callable[[Any], Any], key: str) -> None:
    started = read(wire.read_run_started, wrap({key: "r", "status": "pending", "createdAt": "2026-05-04T12:00:00Z"}))
    assert started == RunStarted(run_id="r", created_at=NOON)
    assert dict(started.extra) == {}


@pytest.mark.parametrize("rest", [{}, {"status": None}, {"status": None, "createdAt": None, "notebookId": None}])
def test_a_receipt_with_an_id_is_a_started_run_whatever_else_it_lacks(rest: dict[str, Any]) -> None:
    assert read(wire.read_run_started, {"runId": "r", **rest}) == RunStarted(run_id="r")


def test_a_project_in_both_dialects() -> None:
    reference = read(wire.read_project, {"id": "p", "name": "N", "folderId": "f", "projectType": "agent"})
    assert reference == Project(id="p", name="N", folder_id="f", project_type="agent")
    folder = {"id": "f", "name": "F"}
    live = read(wire.read_project, {"project": {"id": "p", "folder": folder, "notebooks": [{"id": "n", "name": "x"}]}})
    assert live == Project(id="p", folder=folder, notebooks=[Notebook(id="n", name="x")])


def test_a_notebook_in_both_dialects() -> None:
    data = {
        "id": "n",
        "projectId": "p",
        "blocks": [{"id": "b"}],
        "inputs": [{"name": "region", "type": "input-select", "options": ["EU"], "multiple": True, "odd": 1}],
    }
    for wrapped in (data, {"notebook": data}):
        notebook = read(wire.read_notebook, wrapped)
        assert notebook.project_id == "p"
        assert notebook.blocks == [{"id": "b"}]
        (region,) = notebook.inputs
        assert (region.name, region.options, region.multiple, dict(region.extra)) == (
            "region",
            ["EU"],
            True,
            {"odd": 1},
        )


def test_me() -> None:
    me = read(wire.read_me, {"user": {"id": "u"}, "workspace": {"id": "w"}, "accessLevel": "novel", "plan": "team"})
    assert me == Me(user={"id": "u"}, workspace={"id": "w"}, access_level="novel", extra={"plan": "team"})


def test_what_the_client_does_not_know_is_kept() -> None:
    run = read(wire.read_run, RUN | {"triggeredBy": {"id": "u"}, "status": "queued_up"})
    assert dict(run.extra) == {"triggeredBy": {"id": "u"}}
    assert run.status == "queued_up"
    assert not run.is_terminal


def test_an_object_called_run_within_a_run_is_the_envelope_only_if_it_is_an_object() -> None:
    assert dict(read(wire.read_run, RUN | {"run": "text"}).extra) == {"run": "text"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("boom", "boom"),
        (None, None),
        ({"message": "boom", "code": 3}, "boom"),
        ({"error": "boom"}, "boom"),
        ({"code": 3}, '{"code": 3}'),
    ],
)
def test_a_runs_error_is_text_or_an_object(error: Any, text: str | None) -> None:
    assert read(wire.read_run, RUN | {"error": error}).error == text


# Snapshots.


def test_a_flat_snapshot() -> None:
    run = read(
        wire.read_run,
        RUN
        | {
            "snapshotStatus": "available",
            "snapshotContent": "yaml",
            "snapshotDownloadUrl": "https://x",
            "snapshotBlocks": [{"id": "b"}],
        },
    )
    assert (run.snapshot_status, run.snapshot_content) == ("available", "yaml")
    assert (run.snapshot_download_url, run.snapshot_blocks) == ("https://x", [{"id": "b"}])


@pytest.mark.parametrize("name", ["downloadUrl", "snapshotDownloadUrl"])
def test_a_nested_snapshot_and_its_link_are_no_extra(name: str) -> None:
    run = read(wire.read_run, RUN | {"snapshot": {name: "https://hush", "snapshotStatus": "available"}})
    assert run.snapshot_download_url == "https://hush"
    assert run.snapshot_status == "available"
    assert "hush" not in repr(run)
    assert "hush" not in json.dumps(dict(run.extra))


@pytest.mark.parametrize("snapshot", [None, "text", 7, [], {}])
def test_an_odd_nested_snapshot_is_no_snapshot(snapshot: Any) -> None:
    run = read(wire.read_run, RUN | {"snapshot": snapshot})
    assert run.snapshot_download_url is None
    assert run.snapshot_content is None


# Pages.


@pytest.mark.parametrize(
    ("pagination", "token"),
    [
        ({"nextPageToken": "t"}, "t"),
        ({"nextPageToken": "t", "hasMore": True}, "t"),
        ({"nextPageToken": "t", "hasMore": None}, "t"),
        ({"nextPageToken": "t", "hasMore": False}, None),
        ({"nextPageToken": ""}, None),
        ({"nextPageToken": None, "hasMore": True}, None),
        ({"hasMore": True}, None),
        ({}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize(
    ("reader", "name", "item"), [(wire.read_runs, "runs", RUN), (wire.read_projects, "projects", {"id": "p"})]
)
def test_what_ends_a_list(pagination: Any, token: str | None, reader: Any, name: str, item: Any) -> None:
    items, found = read(reader, {name: [item], "pagination": pagination})
    assert len(items) == 1
    assert found == token


def test_a_list_without_pagination_ends() -> None:
    assert read(wire.read_runs, {"runs": []}) == ([], None)


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"runs": None},
        {"runs": {}},
        {"runs": "r"},
        {"runs": [None]},
        {"runs": [[RUN]]},
        {"runs": [{"status": "success"}]},
        {"runs": [], "pagination": []},
        {"runs": [], "pagination": {"nextPageToken": 7}},
        [],
    ],
)
def test_a_page_that_is_none_raises_and_is_never_cut_short(page: Any) -> None:
    with pytest.raises(DecodeError):
        read(wire.read_runs, page)


# What cannot be read.


@pytest.mark.parametrize("reader", [wire.read_run, wire.read_run_started])
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"status": "success"},
        {"runId": None, "status": "success"},
        {"runId": "", "status": "success"},
        {"runId": 7, "status": "success"},
        {"run": {}},
        {"run": {"status": "success"}},
        {"runId": "..", "status": "success"},
        None,
        [],
        "text",
        7,
    ],
)
def test_no_run_without_an_id(reader: Any, data: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        read(reader, data)
    assert caught.value.status == 200
    assert json.loads(caught.value.body) == data


@pytest.mark.parametrize("odd", [{"status": 7}, {"createdAt": "yesterday"}, {"createdAt": 1_700_000_000}])
def test_a_receipt_with_an_id_is_read_whatever_else_is_wrong_with_it(odd: dict[str, Any]) -> None:
    started = read(wire.read_run_started, {"runId": "r", "status": "pending"} | odd)
    assert (started.run_id, started.status, started.created_at) == ("r", "pending", None)
    with pytest.raises(DecodeError):
        read(wire.read_run, {"runId": "r", "status": "pending"} | odd)


@pytest.mark.parametrize("notebook_id", ["", ".", "..", 7])
def test_a_notebook_id_that_leads_nowhere_says_as_little_as_none(notebook_id: Any) -> None:
    assert read(wire.read_run, {"runId": "r", "status": "running", "notebookId": notebook_id}).notebook_id is None


@pytest.mark.parametrize("status", [None, "", 7, ["success"], ...])
def test_no_run_without_a_status(status: Any) -> None:
    data = {key: value for key, value in (RUN | {"status": status}).items() if value is not ...}
    with pytest.raises(DecodeError):
        read(wire.read_run, data)


READERS = [
    wire.read_run,
    wire.read_run_started,
    wire.read_notebook,
    wire.read_project,
    wire.read_me,
    wire.read_runs,
    wire.read_projects,
]
UNREADABLE = [
    b"",
    b"   ",
    b"<html><body>Bad gateway</body></html>",
    b"{",
    b'{"runId": "r"',
    b"\xff\xfe\x00",
    b"\x00",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b"null",
    b"[]",
    b"3",
    b"1" * 6000,
    b'"text"',
    b"true",
]


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_bodies_that_cannot_be_read_are_kept(body: bytes) -> None:
    for reader in READERS:
        with pytest.raises(DecodeError) as caught:
            wire.decode(reader, body, 200)
        assert caught.value.body == body.decode("utf-8", "replace")
        assert caught.value.__cause__ is None
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("data", [{"id": "x", "runId": "x", "status": "s", "name": "x"}])
def test_nulls_everywhere_are_as_good_as_nothing(reader: Any, data: dict[str, Any]) -> None:
    names = [
        "notebookId",
        "createdAt",
        "completedAt",
        "finishedAt",
        "updatedAt",
        "error",
        "snapshot",
        "snapshotStatus",
        "snapshotContent",
        "folder",
        "snapshotDownloadUrl",
        "snapshotBlocks",
        "projectId",
        "projectType",
        "folderId",
        "notebooks",
        "blocks",
        "inputs",
        "apiKey",
        "user",
        "workspace",
        "accessLevel",
        "pagination",
    ]
    nulls = data | dict.fromkeys(names) | {"runs": [], "projects": []}
    absent = data | {"runs": [], "projects": []}
    first, second = read(reader, nulls), read(reader, absent)
    if isinstance(first, tuple):
        assert first == second
    else:
        known = {key: getattr(first, key) for key in first.__slots__ if key not in {"extra", "__weakref__"}}
        assert known == {key: getattr(second, key) for key in known}


def test_an_empty_body_is_no_matter_where_nothing_is_wanted() -> None:
    assert wire.decode(wire.nothing, b"", 204) is None
    assert wire.decode(wire.nothing, b"<html>", 200) is None
    assert wire.decode(wire.anything, b"", 204) is None
    assert wire.decode(wire.anything, b"[1]", 200) == [1]
    with pytest.raises(DecodeError):
        wire.decode(wire.anything, b"<html>", 200)


# Whatever comes.

NAMES = [
    "run",
    "runs",
    "id",
    "runId",
    "notebookId",
    "status",
    "createdAt",
    "completedAt",
    "finishedAt",
    "error",
    "snapshot",
    "snapshotStatus",
    "snapshotContent",
    "snapshotDownloadUrl",
    "downloadUrl",
    "snapshotBlocks",
    "notebook",
    "project",
    "projects",
    "notebooks",
    "pagination",
    "nextPageToken",
    "hasMore",
    "inputs",
    "name",
    "blocks",
    "options",
    "projectType",
    "folder",
    "folderId",
    "updatedAt",
    "accessLevel",
    "user",
    "workspace",
    "apiKey",
    "message",
]
TEXTS = ["pending", "success", "2026-05-04T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59-12:00"]
keys = st.sampled_from(NAMES) | st.text(max_size=4)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(TEXTS),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6), max_leaves=25
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "run": st.fixed_dictionaries({"runId": st.text(max_size=3)}, optional={"status": values, "error": values}),
        "runs": st.lists(st.fixed_dictionaries({"id": values, "status": leaves}), max_size=3),
        "projects": st.lists(values, max_size=3),
        "pagination": values,
        "runId": leaves,
        "id": leaves,
        "status": leaves,
        "snapshot": values,
        "notebooks": values,
        "inputs": values,
        "createdAt": leaves,
        "finishedAt": leaves,
        "accessLevel": leaves,
        "user": values,
    },
)


def outcome(reader: Callable[[Any], Any], body: bytes) -> Any:
    try:
        return wire.decode(reader, body, 200)
    except DecodeError as error:
        return error


@given(values | likely)
@example({"runId": "r", "status": "success", "error": {"message": ["not text"]}})
@example({"runId": "r", "status": "success", "createdAt": "0001-01-01T00:00:00+14:00"})
@example({"runs": [{"id": "r", "status": "s"}], "pagination": {"nextPageToken": ["t"]}})
def test_any_json_is_a_model_or_a_decode_error(value: Any) -> None:
    body = json.dumps(value).encode()
    for reader in READERS:
        found = outcome(reader, body)
        assert isinstance(found, Run | RunStarted | Notebook | Project | Me | tuple | DecodeError)
        assert repr(found)
        assert getattr(found, "body", body.decode()) == body.decode()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_decode_error(body: bytes) -> None:
    for reader in [*READERS, wire.anything, wire.nothing]:
        found = outcome(reader, body)
        assert not isinstance(found, DecodeError) or found.body == wire.readable(body)


@given(st.text())
def test_links_are_struck_out_of_texts(signature: str) -> None:
    link = f"https://storage.example/{signature}?sig=hush"
    for key in ("snapshotDownloadUrl", "downloadUrl"):
        text = json.dumps({"runId": "r", key: link, "status": "success"})
        assert json.loads(wire.redact(text)) == {"runId": "r", key: "***", "status": "success"}
    assert wire.redact("no link here") == "no link here"
