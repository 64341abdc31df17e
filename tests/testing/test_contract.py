"""The reference dialect is held against the reference definition: every status, every key, every type."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import aiohttp
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnote_async.testing import FakeDeepnote, Service

SPEC = yaml.safe_load((Path(__file__).parents[1] / "openapi.yaml").read_text())
OPERATIONS = {
    operation["operationId"]: (method.upper(), "/v1" if path.endswith("/execute") else "/v2", path, operation)
    for path, item in SPEC["paths"].items()
    for method, operation in item.items()
    if method in {"get", "post", "delete"}
}
TYPES = {"string": str, "object": dict, "array": list, "boolean": bool, "integer": int}
FORMATS = {"uuid": UUID, "date-time": datetime.fromisoformat}


def resolve(node):
    while "$ref" in node:
        name = node["$ref"].removeprefix("#/").split("/")
        node = SPEC
        for part in name:
            node = node[part]
    return node


def check(value, schema, at="body"):
    """Stricter than the definition: a key it does not name is an error too."""
    schema = resolve(schema)
    assert isinstance(value, TYPES[schema["type"]]), f"{at} is {value!r}"
    if "enum" in schema:
        assert value in schema["enum"], at
    if "format" in schema:
        FORMATS[schema["format"]](value)
    if schema["type"] == "array":
        for index, item in enumerate(value):
            check(item, schema["items"], f"{at}[{index}]")
    if schema["type"] == "object" and not schema.get("additionalProperties"):
        for key, item in value.items():
            assert key in schema["properties"], f"{at}.{key} is not defined"
            check(item, schema["properties"][key], f"{at}.{key}")


def check_answer(name, status, content_type, body):
    answers = OPERATIONS[name][3]["responses"]
    assert str(status) in answers, f"{name} answered {status}"
    content = resolve(answers[str(status)]).get("content")
    if content:
        assert content_type.startswith("application/json")
        check(body(), content["application/json"]["schema"])


async def test_all_twelve_operations_over_a_socket():
    asked = set()
    async with FakeDeepnote(dialect="reference", median=1, time_scale=1000) as fake, aiohttp.ClientSession() as session:

        async def ask(name, body=None, query="", token=fake.token, **ids):
            method, base, path, _ = OPERATIONS[name]
            url = fake.url + base + re.sub(r"{(\w+)}", lambda match: quote(ids[match[1]], safe=""), path) + query
            headers = {"Authorization": f"Bearer {token}"}
            async with session.request(method, url, json=body, headers=headers) as answer:
                text = await answer.read()
                got = await answer.json() if text else None
                check_answer(name, answer.status, answer.content_type, lambda: got)
                asked.add((name, answer.status))
                return got

        project = await ask("createProject", {"name": "Sales", "folderId": "f", "projectType": "agent"})
        notebook = (await ask("createNotebook", {"projectId": project["id"], "name": "n"}))["notebook"]
        for name in ("getProject", "getNotebook"):
            await ask(name, projectId=project["id"], notebookId=notebook["id"])
        for value in (1, None, {"a": [1]}):
            run = await ask("createRun", {"notebookId": notebook["id"], "inputs": {"x": value}, "blockIds": []})
        for query in ("", "?snapshotDelivery=inline"):
            await ask("getRun", runId=run["runId"], query=query)
        page = await ask("listNotebookRuns", notebookId=notebook["id"], query="?pageSize=2")
        token = page["pagination"]["nextPageToken"]
        page = await ask("listNotebookRuns", notebookId=notebook["id"], query=f"?pageSize=2&pageToken={token}")
        assert (len(page["runs"]), page["pagination"]) == (1, {})
        await ask("listProjects", query="?nameContains=SALES&pageSize=1")
        await ask("getMe")
        await ask("executeNotebookV1", projectId=project["id"], notebookId=notebook["id"])
        await ask("deleteNotebook", notebookId=notebook["id"])
        await ask("deleteProject", projectId=project["id"])
        for name in ("getProject", "deleteProject", "getNotebook", "deleteNotebook", "getRun"):
            await ask(name, projectId="none", notebookId="none", runId="none")
        for name in ("getMe", "createRun", "createNotebook", "executeNotebookV1"):
            await ask(name, token="wrong", projectId="p", notebookId="n")
        fake.service.outage(kind="unauthorized")
        await ask("getRun", runId="none")
    assert {name for name, status in asked if status < 300} == set(OPERATIONS)


texts = st.text(max_size=12)
values = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=2))
BODIES = {
    "createRun": {
        "notebookId": texts | st.just("n"),
        "detached": st.booleans(),
        "detachedRunStorageMode": st.sampled_from(["read_write", "readonly"]),
        "blockIds": st.lists(texts, max_size=2),
        "runDependentBlocks": st.booleans(),
        "inputs": st.dictionaries(texts, values, max_size=2),
    },
    "createNotebook": {"projectId": texts | st.just("p"), "name": texts},
    "createProject": {"name": texts, "folderId": texts, "projectType": st.sampled_from(["standard", "agent"])},
}
QUERIES = {
    "pageSize": st.integers(max_value=100).map(str),
    "pageToken": texts,
    "nameContains": texts,
    "snapshotDelivery": st.sampled_from(["inline", "downloadUrl"]),
}


@st.composite
def requests(draw):
    name = draw(st.sampled_from(sorted(OPERATIONS)))
    method, base, path, operation = OPERATIONS[name]
    known = {"projectId": "p", "notebookId": "n", "runId": "r"}
    ids = {key: draw(st.just(value) | st.text(min_size=1, max_size=9)) for key, value in known.items()}
    raw = base + re.sub(r"{(\w+)}", lambda match: quote(ids[match[1]].encode(errors="replace"), safe=""), path)
    wanted = [item["name"] for item in operation.get("parameters", ()) if item["in"] == "query"]
    query = "&".join(f"{key}={quote(draw(QUERIES[key]).encode(errors='replace'))}" for key in wanted)
    fields = BODIES.get(name, {})
    required = {"notebookId"} if name == "createRun" else {"projectId"} if name == "createNotebook" else {"name"}
    kept = [key for key in fields if key in required or draw(st.booleans())]
    return name, method, raw, query if draw(st.booleans()) else "", {key: draw(fields[key]) for key in kept}


@settings(max_examples=150, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=12), st.sampled_from(["cursor", "offset"]))
def test_well_formed_requests_meet_documented_answers_only(asked, tokens):
    import json

    now = 1_800_000_000.0
    service = Service(clock=lambda: now, dialect="reference", page_tokens=tokens, failures=0.5, median=3)
    service.add_project(id="p")
    service.add_run(service.add_notebook(id="n"), id="r")
    for name, method, path, query, body in asked:
        headers = {"Authorization": f"Bearer {service.token}"}
        reply = service.handle(method, path, query, headers, json.dumps(body).encode())
        if name == "getRun" and "/r" not in path and reply.status == 200:
            pytest.fail("another id led to a run")
        if path.endswith("/r"):  # an id of the test's own, not a UUID
            continue
        check_runs = {"listNotebookRuns": "runs"}.get(name)
        parsed = json.loads(reply.body) if reply.body else None
        if check_runs and parsed:
            parsed[check_runs] = [row for row in parsed[check_runs] if row["runId"] != "r"]
        check_answer(name, reply.status, reply.headers.get("Content-Type", ""), lambda got=parsed: got)
        now += 1
