"""Walking a list gives every row once, in time that does not grow with the list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st


def walk(api, path, size=7, between=lambda: None, extra=""):
    seen, query = [], f"pageSize={size}{extra}"
    while True:
        answer = api.json("GET", path, query=query)
        seen += answer["runs"] if "runs" in answer else answer["projects"]
        token = answer["pagination"].get("nextPageToken")
        if not token:
            return seen
        query = f"pageSize={size}{extra}&pageToken={token}"
        between()


@pytest.mark.parametrize("tokens", ["cursor", "offset"])
@pytest.mark.parametrize("order", ["newest", "oldest", "random"])
@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 50])
def test_every_run_once(make, clock, tokens, order, count):
    api = make(page_tokens=tokens, order=order)
    notebook = api.service.add_notebook()
    made = []
    for _ in range(count):
        made.append(api.service.add_run(notebook).id)
        clock.turn(1)
    seen = [row["runId"] for row in walk(api, f"/v2/notebooks/{notebook.id}/runs")]
    assert sorted(seen) == sorted(made)
    if order != "random":
        assert seen == (made if order == "oldest" else made[::-1])


def test_runs_that_come_meanwhile_shift_offsets_but_not_cursors(make):
    for tokens, repeated in (("cursor", False), ("offset", True)):
        api = make(page_tokens=tokens)
        notebook = api.service.add_notebook()
        for _ in range(20):
            api.service.add_run(notebook)
        path = f"/v2/notebooks/{notebook.id}/runs"
        seen = [row["runId"] for row in walk(api, path, between=lambda a=api, n=notebook: a.service.add_run(n))]
        assert (len(seen) > len(set(seen))) is repeated


def test_a_run_from_the_past_lies_at_its_own_time(make, clock):
    api = make()
    notebook = api.service.add_notebook()
    young = api.service.add_run(notebook)
    old = api.service.add_run(notebook, created_at=clock.now - 3600)
    assert [row["runId"] for row in walk(api, f"/v2/notebooks/{notebook.id}/runs")] == [young.id, old.id]


def test_a_cursor_is_bound_to_its_listing_and_its_page_size(make):
    api = make()
    first, second = api.service.add_notebook(), api.service.add_notebook()
    for notebook in (first, second):
        for _ in range(5):
            api.service.add_run(notebook)
    path = f"/v2/notebooks/{first.id}/runs"
    token = api.json("GET", path, query="pageSize=2")["pagination"]["nextPageToken"]
    assert api("GET", path, query=f"pageSize=2&pageToken={token}").status == 200
    for other, query in ((path, "pageSize=3"), (f"/v2/notebooks/{second.id}/runs", "pageSize=2")):
        assert api.refused("GET", other, query=f"{query}&pageToken={token}") == (400, "Invalid page token")


def test_a_cursor_expires(make, clock):
    api = make(token_ttl=30)
    notebook = api.service.add_notebook()
    for _ in range(3):
        api.service.add_run(notebook)
    path = f"/v2/notebooks/{notebook.id}/runs"
    token = api.json("GET", path, query="pageSize=2")["pagination"]["nextPageToken"]
    clock.turn(29.9)
    assert api("GET", path, query=f"pageSize=2&pageToken={token}").status == 200
    clock.turn(0.1)
    assert api("GET", path, query=f"pageSize=2&pageToken={token}").status == 400


@given(st.text(max_size=40), st.sampled_from(["cursor", "offset"]))
def test_no_token_breaks_the_service(token, kind):
    from urllib.parse import quote

    from deepnote_async.testing import Service

    service = Service(page_tokens=kind)
    reply = service.handle(
        "GET", "/v2/projects", f"pageToken={quote(token)}", {"Authorization": f"Bearer {service.token}"}
    )
    assert reply.status in ({200, 400} if kind == "offset" else {400})


@pytest.mark.parametrize("size", ["0", "-1", "101", "x", ""])
def test_page_sizes_out_of_range(live, size):
    assert live("GET", "/v2/projects", query=f"pageSize={size}").status == 400


def test_default_sizes(live):
    notebook = live.service.add_notebook()
    for _ in range(60):
        live.service.add_run(notebook)
        live.service.add_project()
    runs = live.json("GET", f"/v2/notebooks/{notebook.id}/runs")
    assert (len(runs["runs"]), runs["pagination"]["pageSize"], runs["pagination"]["hasMore"]) == (20, 20, True)
    assert len(live.json("GET", "/v2/projects")["projects"]) == 50
    last = live.json("GET", "/v2/projects", query="pageSize=100")["pagination"]
    assert last == {"pageSize": 100, "nextPageToken": None, "hasMore": False}


def test_projects_by_a_part_of_the_name_in_any_case(live):
    for name in ("Sales EU", "sales us", "Other"):
        live.service.add_project(name)
    rows = walk(live, "/v2/projects", size=1, extra="&nameContains=SALES")
    assert [row["name"] for row in rows] == ["Sales EU", "sales us"]
