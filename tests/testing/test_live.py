"""What the live service does otherwise than the reference definition says."""

from __future__ import annotations

import pytest

from deepnote_async.testing import Access, Block, Input

RUN = "/v2/runs"


def test_a_new_project_is_enveloped_and_holds_a_notebook(live):
    project = live.json("POST", "/v2/projects", {"name": "Sales", "folderId": "f"}, status=201)["project"]
    assert [row["name"] for row in project["notebooks"]] == ["Notebook 1"]
    assert project["folder"]["id"] == "f"
    assert live.json("GET", f"/v2/projects/{project['id']}")["project"] == project
    body = {"projectId": project["id"], "name": "Notebook 1"}
    assert live.refused("POST", "/v2/notebooks", body)[0] == 409
    unnamed = live.json("POST", "/v2/notebooks", {"projectId": project["id"]}, status=201)["notebook"]
    assert unnamed["name"] == "Notebook 2"
    assert live("DELETE", f"/v2/notebooks/{unnamed['id']}").status == 204
    assert live.refused("DELETE", f"/v2/notebooks/{project['notebooks'][0]['id']}")[0] == 409
    deleted = live("DELETE", f"/v2/projects/{project['id']}")
    assert (deleted.status, deleted.body) == (204, b"")
    assert live.refused("GET", f"/v2/projects/{project['id']}") == (404, "Project not found")
    assert live.refused("GET", f"/v2/notebooks/{project['notebooks'][0]['id']}") == (404, "Notebook not found")


def test_other_kinds_of_project_take_no_further_notebooks(live):
    project = live.json("POST", "/v2/projects", {"name": "x", "projectType": "agent"}, status=201)["project"]
    assert live.refused("POST", "/v2/notebooks", {"projectId": project["id"]})[0] == 409


def test_a_folder_that_is_not_there(make):
    assert make(folders=set()).refused("POST", "/v2/projects", {"name": "x", "folderId": "f"})[0] == 404


def test_a_suspended_project(live):
    project = live.service.add_project(suspended=True)
    notebook = live.service.add_notebook(project_id=project.id)
    assert live.refused("POST", RUN, {"notebookId": notebook.id}) == (409, "Project is suspended")
    assert live.refused("GET", f"/v2/notebooks/{notebook.id}") == (400, "Project is suspended")
    assert live.refused("DELETE", f"/v2/notebooks/{notebook.id}")[0] == 409
    assert live.refused("POST", "/v2/notebooks", {"projectId": project.id})[0] == 409


def test_a_start_answers_flat_and_a_run_with_nulls(live):
    notebook = live.service.add_notebook()
    started = live.json("POST", RUN, {"notebookId": notebook.id}, status=202)
    assert set(started) == {"runId", "status", "createdAt"}
    run = live.json("GET", f"{RUN}/{started['runId']}")["run"]
    assert run["completedAt"] is None
    assert run["error"] is None
    rows = live.json("GET", f"/v2/notebooks/{notebook.id}/runs")["runs"]
    assert [set(row) for row in rows] == [{"runId", "notebookId", "status", "createdAt", "completedAt"}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"notebookId": "none"}, "Notebook not found"),
        ({}, "notebookId is required"),
        ({"notebookId": 1}, "notebookId must be a string"),
        ({"inputs": {"x": "1"}}, 'Input "x" is not defined for this notebook'),
        ({"inputs": {"region": 1}}, 'Invalid input "region"'),
        ({"inputs": {"region": None}}, 'Invalid input "region"'),
        ({"inputs": {"region": {"a": 1}}}, 'Invalid input "region"'),
        ({"inputs": {"region": ["a", 1]}}, 'Invalid input "region"'),
        ({"inputs": []}, "inputs must be an object"),
        ({"blockIds": [], "detached": False}, "blockIds must be unique"),
        ({"blockIds": ["a", "a"], "detached": False}, "blockIds must be unique"),
        ({"blockIds": "a"}, "blockIds must be a list"),
        ({"blockIds": ["a"]}, "blockIds is not supported for detached runs"),
        ({"blockIds": ["z"], "detached": False}, "Block not found in notebook"),
        ({"detached": "no"}, "detached must be a boolean"),
        ({"detachedRunStorageMode": "x"}, "detachedRunStorageMode is not one of"),
    ],
)
def test_starts_it_refuses(live, body, message):
    notebook = live.service.add_notebook(id="n", inputs=["region"], blocks=[Block("a")])
    status, text = live.refused("POST", RUN, body if not body or "notebookId" in body else {"notebookId": "n", **body})
    assert status == 400
    assert text.startswith(message)
    assert notebook.runs == []


@pytest.mark.parametrize("value", ["EU", True, ["a", "b"], []])
def test_inputs_it_takes(live, value):
    live.service.add_notebook(id="n", inputs=["region"])
    assert live("POST", RUN, {"notebookId": "n", "inputs": {"region": value}}).status == 202


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bodies_that_are_no_object(live, body):
    assert live("POST", RUN, body).status == 400


def test_a_notebook_tells_its_inputs_only_when_it_has_some(live):
    live.service.add_notebook(id="plain")
    live.service.add_notebook(id="form", inputs=[Input("n", "input-slider", "3", min=0, max=9, step=1)])
    assert "inputs" not in live.json("GET", "/v2/notebooks/plain")["notebook"]
    (told,) = live.json("GET", "/v2/notebooks/form")["notebook"]["inputs"]
    assert {key: told[key] for key in ("name", "type", "value", "max")} == {
        "name": "n",
        "type": "input-slider",
        "value": "3",
        "max": 9,
    }
    assert "label" not in told


class TestAccess:
    def test_without_a_known_token(self, live):
        assert live.refused("GET", "/v2/me", token="") == (401, "Unauthorized")
        assert live.service.handle("GET", "/v2/me").status == 401
        live.service.add_token("second")
        assert live("GET", "/v2/me", token="second").status == 200
        live.service.revoke_token("second")
        assert live("GET", "/v2/me", token="second").status == 401

    def test_a_role_too_low(self, live):
        live.service.add_token("reader", Access("viewer"))
        assert live("GET", "/v2/projects", token="reader").status == 200
        assert live("POST", "/v2/projects", {"name": "x"}, token="reader").status == 403

    def test_an_app_viewer_starts_detached_runs_and_reads_its_own_as_blocks(self, live, clock):
        live.service.add_token("app", Access(app_viewer=True))
        notebook = live.service.notebook("report").succeeds(after=1)
        assert live("GET", "/v2/projects", token="app").status == 403
        body = {"notebookId": notebook.id}
        assert live("POST", RUN, body | {"detached": False}, token="app").status == 403
        assert live("POST", RUN, body, token="app").status == 202
        foreign = live.service.add_run(notebook)
        assert live("GET", f"{RUN}/{foreign.id}", token="app").status == 404
        clock.turn(1)
        own = live.service.calls[-2].run_id
        reply = live("GET", f"{RUN}/{own}", query="snapshotDelivery=inline", token="app")
        assert b'"snapshotContent":null' in reply.body
        assert b'"snapshotBlocks":[{' in reply.body


def test_me(live):
    me = live.json("GET", "/v2/me")
    assert set(me) == {"apiKey", "user", "workspace", "accessLevel"}


def test_the_old_start_tells_no_id_and_never_doubles(live, clock):
    notebook = live.service.add_notebook(lengths=10)
    path = f"/v1/projects/{notebook.project_id}/notebooks/{notebook.id}/execute"
    assert [live("POST", path).status for _ in range(2)] == [202, 202]
    assert len(notebook.runs) == 1
    clock.turn(10)
    live("POST", path)
    assert len(notebook.runs) == 2
    assert live("POST", f"/v1/projects/other/notebooks/{notebook.id}/execute").status == 404


@pytest.mark.parametrize("odd", ["a/b", "..", "a?b", "%2e", "ü ", "a%2Fruns"])
def test_an_odd_id_is_one_segment(live, odd):
    from urllib.parse import quote

    live.service.add_notebook("it", id=odd)
    assert live.json("GET", f"/v2/notebooks/{quote(odd, safe='')}")["notebook"]["name"] == "it"


@pytest.mark.parametrize("path", ["/v2/notebooks/", "/v2/runs//", "/v2", "/", "", "/v3/me", "/v2/notebooks/a/b"])
def test_other_paths_lead_nowhere(live, path):
    assert live.refused("GET", path) == (404, "Not found")


def test_another_method_names_those_it_takes(live):
    reply = live("PUT", "/v2/projects")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST")


def test_the_record_holds_no_token(live, clock):
    notebook = live.service.add_notebook()
    live("POST", RUN, {"notebookId": notebook.id})
    live("GET", "/v2/me", query="a=%20b")
    first, second = live.service.calls
    assert (first.method, first.path, first.status, first.run_id) == ("POST", RUN, 202, notebook.runs[0].id)
    assert (second.query, second.time) == ("a=%20b", clock.now)
    assert live.service.token not in repr(live.service.calls)
    assert live.service.token not in repr(live.service)
    assert live.service.count(method="POST", path_prefix="/v2/runs", status=202) == 1
    assert live.service.count(since=clock.now + 1) == 0


def test_every_answer_is_dated_by_the_service(live, clock):
    assert live("GET", "/v2/none").headers["Date"] == "Fri, 15 Jan 2027 08:00:00 GMT"
    clock.turn(61)
    assert live("GET", "/v2/me").headers["Date"] == "Fri, 15 Jan 2027 08:01:01 GMT"
