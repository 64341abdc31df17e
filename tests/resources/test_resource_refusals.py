"""Arguments that cannot be are refused before anything is sent."""

from __future__ import annotations

import inspect

import pytest

from deepnote_async import InvalidRequestError, NotFoundError, OutcomeUnknownError, RunRequest

BAD_IDS = ["", ".", "..", None, 7, b"n1", "\ud800"]
REFUSED = {
    **{
        f"{name}({bad!r})": (call, bad)
        for bad in BAD_IDS
        for name, call in {
            "projects.get": lambda client, bad: client.projects.get(bad),
            "projects.delete": lambda client, bad: client.projects.delete(bad),
            "notebooks.create": lambda client, bad: client.notebooks.create(bad),
            "notebooks.get": lambda client, bad: client.notebooks.get(bad),
            "notebooks.delete": lambda client, bad: client.notebooks.delete(bad),
            "notebooks.list_runs": lambda client, bad: client.notebooks.list_runs(bad),
            "execute_v1 project": lambda client, bad: client.notebooks.execute_v1(bad, "n1"),
            "execute_v1 notebook": lambda client, bad: client.notebooks.execute_v1("p1", bad),
            "runs.get": lambda client, bad: client.runs.get(bad),
            "download_snapshot": lambda client, bad: client.runs.download_snapshot(bad),
        }.items()
    },
    **{
        f"{name}(page_size={size!r})": (call, size)
        for size in [0, 101, -1, 1.0, "10", True]
        for name, call in {
            "projects.list": lambda client, size: client.projects.list(page_size=size),
            "notebooks.list_runs": lambda client, size: client.notebooks.list_runs("n1", page_size=size),
        }.items()
    },
    **{
        f"runs.create({options!r})": (lambda client, options: client.runs.create(**options), options)
        for options in [
            {"notebook_id_or_request": ""},
            {"notebook_id_or_request": 7},
            {"notebook_id_or_request": RunRequest("n1"), "detached": True},
            {"notebook_id_or_request": "n1", "inputs": {"a": None}},
            {"notebook_id_or_request": "n1", "inputs": {"a": {}}},
            {"notebook_id_or_request": "n1", "inputs": {"a": {1}}},
            {"notebook_id_or_request": "n1", "inputs": {"a": b""}},
            {"notebook_id_or_request": "n1", "block_ids": []},
            {"notebook_id_or_request": "n1", "block_ids": ["b", "b"]},
            {"notebook_id_or_request": "n1", "block_ids": ["b"], "detached": True},
            {"notebook_id_or_request": "n1", "block_ids": ["b"], "detached_run_storage_mode": "readonly"},
            {"notebook_id_or_request": "n1", "run_dependent_blocks": True},
            {"notebook_id_or_request": "n1", "extra_body": {"a": {1}}},
        ]
    },
    **{f"projects.create({name!r})": (lambda client, name: client.projects.create(name), name) for name in ["", None]},
    "projects.create(project_type)": (
        lambda client, kind: client.projects.create("n", project_type=kind),
        object(),
    ),
    "snapshot_delivery": (lambda client, how: client.runs.get("r1", snapshot_delivery=how), "pdf"),
    "candidates": (lambda client, error: client.runs.candidates(error), OutcomeUnknownError("a create")),
}


async def outcome(call, client, bad):
    result = call(client, bad)
    return await result if inspect.isawaitable(result) else result


@pytest.mark.parametrize(("call", "bad"), REFUSED.values(), ids=REFUSED)
async def test_refused_arguments_send_nothing(api, call, bad):
    with pytest.raises(InvalidRequestError):
        await outcome(call, api.client, bad)
    assert api.sent == []


@pytest.mark.parametrize("limit", [-1, 1.5, True])
async def test_collect_refuses_a_limit_that_is_none(api, limit):
    with pytest.raises(InvalidRequestError):
        await api.client.projects.list().collect(limit)
    assert await api.client.projects.list().collect(0) == []
    assert api.sent == []


@pytest.mark.parametrize("size", [1, 100])
async def test_page_sizes_at_the_bounds_are_sent(api, size):
    api.answers("GET", f"/v2/projects?pageSize={size}", {"projects": []})
    assert await api.client.projects.list(page_size=size).collect() == []


@pytest.mark.parametrize("text", ["../me", "a/b", "a?x=1", "%2e%2e/me", "žluťoučký", "a b", "#", "..%2f"])
async def test_an_id_is_one_segment_of_the_path(api, text):
    with pytest.raises(Exception, match=r"Connection refused|no connection|broke") as caught:
        await api.client.runs.get(text)
    assert not isinstance(caught.value, NotFoundError)
    (sent,) = api.sent
    assert sent.path.startswith("/v2/runs/")
    assert sent.path.count("/") == 3
    assert sent.query == {}
