"""Each of the twelve operations: what is sent, and how both dialects' answers are read."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from deepnote_async import (
    BadRequestError,
    ConflictError,
    DecodeError,
    NotFoundError,
    OutcomeUnknownError,
    PaginationError,
    PermissionDeniedError,
    RunRequest,
    RunStatus,
    ServerError,
    UnprocessableEntityError,
)

CREATED = "2026-03-01T10:00:00.000Z"
ENDED = "2026-03-01T10:01:30.000Z"
WHEN = datetime(2026, 3, 1, 10, tzinfo=UTC)
LIVE_PROJECT = {
    "id": "p1",
    "name": "Sales",
    "projectType": "notebook",
    "createdAt": CREATED,
    "updatedAt": None,
    "folder": {"id": "f1", "name": "All"},
    "notebooks": [{"id": "n1", "name": "Init", "isInit": True}],
    "files": [],
}
BARE_PROJECT = {"id": "p1", "name": "Sales", "projectType": "standard", "folderId": "f1"}
LIVE_RUN = {
    "runId": "r1",
    "notebookId": "n1",
    "status": "success",
    "createdAt": CREATED,
    "completedAt": ENDED,
    "error": None,
    "snapshotStatus": "available",
    "snapshotContent": None,
    "snapshotDownloadUrl": "https://storage.example/x?sig=1",
}
BARE_RUN = {"runId": "r1", "notebookId": "n1", "status": "success", "createdAt": CREATED, "finishedAt": ENDED}
NOTEBOOK = {"id": "n1", "name": "Report", "projectId": "p1"}


async def test_every_request_carries_the_key_and_who_asks(api):
    api.answers("GET", "/v2/me", {})
    await api.client.me()
    assert api.only.headers["Authorization"] == "Bearer the-key"
    assert api.only.headers["User-Agent"].startswith("deepnote-async/")
    assert api.only.headers["Accept"] == "application/json"


async def test_me(api):
    told = {"apiKey": {"id": "k"}, "user": {"id": "u"}, "workspace": {"id": "w"}, "accessLevel": "editor", "plan": "x"}
    api.answers("GET", "/v2/me", told)
    me = await api.client.me()
    assert tuple(api.only) == ("GET", "/v2/me", {}, None)
    assert (me.api_key, me.user, me.workspace) == ({"id": "k"}, {"id": "u"}, {"id": "w"})
    assert me.access_level == "editor"
    assert me.extra == {"plan": "x"}


async def test_me_of_an_access_level_nobody_has_seen(api):
    api.answers("GET", "/v2/me", {"accessLevel": "owner", "user": None})
    me = await api.client.me()
    assert (me.access_level, dict(me.user)) == ("owner", {})


# Projects.


@pytest.mark.parametrize("pagination", [{}, {"nextPageToken": None}, {"nextPageToken": ""}, {"hasMore": False}, None])
async def test_a_list_ends_with_a_token_null_absent_or_empty(api, pagination):
    api.answers("GET", "/v2/projects", {"projects": [BARE_PROJECT], "pagination": pagination})
    assert [project.id for project in await api.client.projects.list().collect()] == ["p1"]
    assert tuple(api.only) == ("GET", "/v2/projects", {}, None)


async def test_projects_list_sends_what_was_set_and_follows_the_pages(api):
    api.answers(
        "GET",
        "/v2/projects?nameContains=a%26b&pageSize=2",
        {"projects": [BARE_PROJECT, LIVE_PROJECT], "pagination": {"nextPageToken": "t/1", "hasMore": True}},
    )
    api.answers(
        "GET",
        "/v2/projects?nameContains=a%26b&pageSize=2&pageToken=t%2F1",
        {"projects": [], "pagination": {"nextPageToken": None}},
    )
    pages = [page async for page in api.client.projects.list(name_contains="a&b", page_size=2).pages()]
    assert [(len(page.items), page.next_page_token) for page in pages] == [(2, "t/1"), (0, None)]
    assert [sent.query.get("pageToken") for sent in api.sent] == [None, "t/1"]
    bare, live = pages[0].items
    assert (bare.folder_id, bare.folder, bare.notebooks) == ("f1", None, [])
    assert (live.folder_id, live.folder["id"], live.notebooks[0].id) == (None, "f1", "n1")


async def test_a_list_resumes_at_a_page_token(api):
    api.answers("GET", "/v2/projects?pageToken=t1", {"projects": []})
    assert await api.client.projects.list(page_token="t1").collect() == []
    assert api.only.query == {"pageToken": "t1"}


async def test_a_page_token_that_comes_again_raises_and_never_loops(api):
    api.answers("GET", "/v2/projects", {"projects": [], "pagination": {"nextPageToken": "t1"}})
    api.answers("GET", "/v2/projects?pageToken=t1", {"projects": [], "pagination": {"nextPageToken": "t1"}})
    with pytest.raises(PaginationError):
        await api.client.projects.list().collect()
    assert len(api.sent) == 2


async def test_collect_reads_no_page_beyond_its_limit(api):
    api.answers("GET", "/v2/projects", {"projects": [BARE_PROJECT] * 3, "pagination": {"nextPageToken": "t1"}})
    assert len(await api.client.projects.list().collect(limit=2)) == 2
    assert len(api.sent) == 1


@pytest.mark.parametrize(("status", "answer"), [(200, BARE_PROJECT), (201, {"project": LIVE_PROJECT})])
async def test_projects_create(api, status, answer):
    api.answers("POST", "/v2/projects", answer, status=status)
    project = await api.client.projects.create("Sales")
    assert tuple(api.only) == ("POST", "/v2/projects", {}, {"name": "Sales"})
    assert api.only.headers["Content-Type"] == "application/json"
    assert (project.id, project.name) == ("p1", "Sales")


async def test_projects_create_with_all_it_takes(api):
    api.answers("POST", "/v2/projects", BARE_PROJECT)
    await api.client.projects.create("Sales", folder_id="f1", project_type="agent")
    assert api.only.body == {"name": "Sales", "folderId": "f1", "projectType": "agent"}


@pytest.mark.parametrize(
    ("answer", "kind", "folder"), [(BARE_PROJECT, "standard", None), ({"project": LIVE_PROJECT}, "notebook", "f1")]
)
async def test_projects_get(api, answer, kind, folder):
    api.answers("GET", "/v2/projects/p1", answer)
    project = await api.client.projects.get("p1")
    assert tuple(api.only) == ("GET", "/v2/projects/p1", {}, None)
    assert project.project_type == kind
    assert (project.folder or {}).get("id") == folder


async def test_what_the_client_does_not_know_is_kept(api):
    api.answers("GET", "/v2/projects/p1", {"project": LIVE_PROJECT})
    project = await api.client.projects.get("p1")
    assert project.extra == {"files": []}
    assert (project.created_at, project.updated_at) == (WHEN, None)


@pytest.mark.parametrize(("status", "body"), [(204, b""), (200, b""), (200, b"{}"), (202, b"no JSON")])
async def test_a_delete_reads_no_body(api, status, body):
    api.answers("DELETE", "/v2/projects/p1", status=status, body=body)
    api.answers("DELETE", "/v2/notebooks/n1", status=status, body=body)
    assert await api.client.projects.delete("p1") is None
    assert await api.client.notebooks.delete("n1") is None
    assert [tuple(sent) for sent in api.sent] == [
        ("DELETE", "/v2/projects/p1", {}, None),
        ("DELETE", "/v2/notebooks/n1", {}, None),
    ]


# Notebooks.


@pytest.mark.parametrize("answer", [{"notebook": NOTEBOOK}, NOTEBOOK])
async def test_notebooks_create(api, answer):
    api.answers("POST", "/v2/notebooks", answer, status=201)
    notebook = await api.client.notebooks.create("p1")
    assert tuple(api.only) == ("POST", "/v2/notebooks", {}, {"projectId": "p1"})
    assert (notebook.id, notebook.name, notebook.project_id) == ("n1", "Report", "p1")


async def test_notebooks_create_with_a_name(api):
    api.answers("POST", "/v2/notebooks", {"notebook": NOTEBOOK})
    await api.client.notebooks.create("p1", name="")
    assert api.only.body == {"projectId": "p1", "name": ""}


async def test_notebooks_get_in_both_dialects(api):
    block = {"id": "b1", "type": "code", "content": "1"}
    given = {"name": "region", "type": "select", "value": "EU", "options": ["EU", "US"], "multiple": False, "new": 1}
    api.answers("GET", "/v2/notebooks/n1", {"notebook": NOTEBOOK | {"blocks": [block], "inputs": [given]}})
    api.answers("GET", "/v2/notebooks/n1", {"notebook": NOTEBOOK})
    live, bare = await api.client.notebooks.get("n1"), await api.client.notebooks.get("n1")
    assert live.blocks == [block]
    assert (live.inputs[0].name, live.inputs[0].options, live.inputs[0].extra) == ("region", ["EU", "US"], {"new": 1})
    assert (bare.blocks, bare.inputs) == ([], [])
    assert [tuple(sent) for sent in api.sent] == [("GET", "/v2/notebooks/n1", {}, None)] * 2


async def test_list_runs_in_both_dialects(api):
    api.answers("GET", "/v2/notebooks/n1/runs?pageSize=100", {"runs": [LIVE_RUN, BARE_RUN], "pagination": {}})
    live, bare = await api.client.notebooks.list_runs("n1", page_size=100).collect()
    assert tuple(api.only) == ("GET", "/v2/notebooks/n1/runs", {"pageSize": "100"}, None)
    assert live.finished_at == bare.finished_at == WHEN + timedelta(seconds=90)
    assert live.duration == bare.duration == timedelta(seconds=90)


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (202, b"{}"), (202, b""), (200, b"ok")])
async def test_execute_v1_goes_to_the_host_and_gives_nothing(api, status, body):
    api.answers("POST", "/v1/projects/p1/notebooks/n1/execute", status=status, body=body)
    assert await api.client.notebooks.execute_v1("p1", "n1") is None
    assert tuple(api.only) == ("POST", "/v1/projects/p1/notebooks/n1/execute", {}, None)


# Runs.


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_runs_create_sends_only_what_was_set(api, status):
    api.answers("POST", "/v2/runs", {"runId": "r1", "status": "pending", "createdAt": CREATED}, status=status)
    started = await api.client.runs.create("n1")
    assert tuple(api.only) == ("POST", "/v2/runs", {}, {"notebookId": "n1"})
    assert (started.run_id, started.status, started.created_at, started.notebook_id) == ("r1", "pending", WHEN, "n1")


async def test_runs_create_with_all_it_takes(api):
    api.answers("POST", "/v2/runs", {"run": {"id": "r1", "status": "queued"}})
    started = await api.client.runs.create(
        "n1",
        inputs={"year": 2026, "flag": True, "many": ("a", 1)},
        block_ids=["b2", "b1"],
        run_dependent_blocks=False,
        extra_body={"new": [1]},
    )
    assert api.only.body == {
        "notebookId": "n1",
        "inputs": {"year": "2026", "flag": True, "many": ["a", "1"]},
        "blockIds": ["b2", "b1"],
        "detached": False,
        "runDependentBlocks": False,
        "new": [1],
    }
    assert (started.run_id, started.status, started.status.is_terminal) == ("r1", "queued", False)


async def test_runs_create_takes_a_ready_request(api):
    api.answers("POST", "/v2/runs", {"runId": "r1", "status": "pending"})
    await api.client.runs.create(RunRequest("n1", detached=True, detached_run_storage_mode="readonly"))
    assert api.only.body == {"notebookId": "n1", "detached": True, "detachedRunStorageMode": "readonly"}


@pytest.mark.parametrize("answer", [{"run": LIVE_RUN}, {"run": BARE_RUN}, LIVE_RUN])
async def test_runs_get(api, answer):
    api.answers("GET", "/v2/runs/r1", answer)
    run = await api.client.runs.get("r1")
    assert tuple(api.only) == ("GET", "/v2/runs/r1", {}, None)
    assert (run.run_id, run.notebook_id, run.status) == ("r1", "n1", RunStatus.SUCCESS)
    assert run.finished_at == WHEN + timedelta(seconds=90)
    assert (run.succeeded, run.is_terminal) == (True, True)


@pytest.mark.parametrize("delivery", ["downloadUrl", "inline", "blocks"])
async def test_runs_get_asks_for_a_snapshot(api, delivery):
    blocks = [{"id": "b1", "outputs": []}]
    api.answers("GET", f"/v2/runs/r1?snapshotDelivery={delivery}", {"run": LIVE_RUN | {"snapshotBlocks": blocks}})
    run = await api.client.runs.get("r1", snapshot_delivery=delivery)
    assert api.only.query == {"snapshotDelivery": delivery}
    assert (run.snapshot_status, run.snapshot_blocks) == ("available", blocks)
    assert run.snapshot_download_url == LIVE_RUN["snapshotDownloadUrl"]


async def test_runs_get_takes_a_uuid(api):
    run_id = uuid.uuid4()
    api.answers("GET", f"/v2/runs/{run_id}", {"run": BARE_RUN})
    await api.client.runs.get(run_id)
    assert api.only.path == f"/v2/runs/{run_id}"


async def test_download_snapshot_reads_the_run_then_its_link_without_the_key(api):
    api.answers("GET", "/v2/runs/r1?snapshotDelivery=downloadUrl", {"run": LIVE_RUN})
    api.mock.get(LIVE_RUN["snapshotDownloadUrl"], body="cells: []")
    assert await api.client.runs.download_snapshot("r1") == "cells: []"
    read, fetched = api.sent
    assert tuple(read) == ("GET", "/v2/runs/r1", {"snapshotDelivery": "downloadUrl"}, None)
    assert fetched.path == "/x"
    assert fetched.headers is None or "Authorization" not in fetched.headers


async def test_download_snapshot_of_a_run_that_holds_it_sends_nothing(api):
    api.answers("GET", "/v2/runs/r1?snapshotDelivery=inline", {"run": BARE_RUN | {"snapshotContent": "cells: []"}})
    run = await api.client.runs.get("r1", snapshot_delivery="inline")
    assert await api.client.runs.download_snapshot(run) == "cells: []"
    assert len(api.sent) == 1


async def test_candidates_are_the_runs_of_the_window_that_are_not_ours(api):
    created = {"runId": "ours", "status": "pending"}
    api.answers("POST", "/v2/runs", created, status=202)
    await api.client.runs.create("n1")
    inside, outside = WHEN, WHEN - timedelta(hours=1)
    rows = [
        {"runId": name, "status": "pending", "createdAt": None if at is None else at.isoformat()}
        for name, at in [("a", inside), ("ours", inside), ("early", outside), ("undated", None)]
    ]
    api.answers("GET", "/v2/notebooks/n1/runs?pageSize=100", {"runs": rows})
    error = OutcomeUnknownError(
        "?", notebook_id="n1", window=(WHEN - timedelta(seconds=5), WHEN + timedelta(seconds=5))
    )
    assert [run.run_id for run in await api.client.runs.candidates(error)] == ["a"]


# Refusals of the service's.


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, UnprocessableEntityError),
        (503, ServerError),
    ],
)
@pytest.mark.parametrize("key", ["message", "error"])
async def test_an_error_carries_what_the_service_said(api, status, kind, key):
    api.answers("GET", "/v2/runs/r1", {key: "so it is"}, status=status)
    with pytest.raises(kind) as caught:
        await api.client.runs.get("r1")
    error = caught.value
    assert (error.status, error.message, error.method, error.path) == (status, "so it is", "GET", "/v2/runs/r1")
    assert error.body == f'{{"{key}": "so it is"}}'
    assert error.headers["content-type"] == "application/json"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"null", b'{"run": {"status": "success"}}', b"\xff"])
async def test_an_answer_that_cannot_be_read_is_a_decode_error(api, body):
    api.answers("GET", "/v2/runs/r1", body=body)
    with pytest.raises(DecodeError) as caught:
        await api.client.runs.get("r1")
    assert caught.value.body == body.decode("utf-8", "replace")


@pytest.mark.parametrize("body", [b"<html>", b"{}"])
async def test_a_create_whose_answer_cannot_be_read_may_have_happened(api, body):
    api.answers("POST", "/v2/projects", body=body)
    with pytest.raises(OutcomeUnknownError) as caught:
        await api.client.projects.create("Sales")
    assert isinstance(caught.value.cause, DecodeError)
    assert len(api.sent) == 1
