"""An independent server of the reference definition accepts every request the client makes.

Prism validates each request against openapi.yaml and answers 401, 404 or 422 to what does not fit. It is found by the
variable PRISM_BIN or among the commands of npm's; ``npm install @stoplight/prism-cli`` has it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import yaml
from yarl import URL

from deepnote_async import DeepnoteClient, HttpRequest, HttpResponse, Run
from deepnote_async.aiohttp_transport import AiohttpTransport, ConnectionOptions

SPEC = Path(__file__).parents[1] / "openapi.yaml"
RUN = "6e3f7d3e-70ab-4a1d-9a5e-0c6d2d0f1b11"
pytestmark = pytest.mark.slow


def with_prefixes(definition: str) -> str:
    """Each path under its server's prefix, for Prism serves all of them from one root."""
    paths, marker, components = definition.partition("\ncomponents:\n")
    paths = re.sub(r"^ *servers:\n(?: *- url: .*\n)+", "", paths, flags=re.MULTILINE)
    paths = re.sub(r"^  (?=/)", "  /v2", paths, flags=re.MULTILINE)
    execute = "/projects/{projectId}/notebooks/{notebookId}/execute"
    return paths.replace(f"/v2{execute}", f"/v1{execute}") + marker + components


def prism_command() -> list[str]:
    """How to start Prism; skips where there is none, but for CI."""
    found = os.environ.get("PRISM_BIN") or shutil.which("prism")
    if found is not None and Path(found).exists():
        return [found]
    message = "no Prism: npm install @stoplight/prism-cli and set PRISM_BIN to node_modules/.bin/prism"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def until_it_answers(url: str, process: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while process.returncode is None:
            with suppress(aiohttp.ClientError):
                async with session.get(url + "/v2/me"):
                    return
            await asyncio.sleep(0.2)
    pytest.fail("Prism did not start")


@pytest.fixture
async def prism(tmp_path: Path) -> AsyncIterator[str]:
    definition = tmp_path / "openapi.yaml"
    definition.write_text(with_prefixes(SPEC.read_text()))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(*prism_command(), "mock", "--errors", "--host", "127.0.0.1", "--port", str(port), str(definition)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await until_it_answers(url, process)
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class Recording(AiohttpTransport):
    """Notes what leaves."""

    def __init__(self) -> None:
        super().__init__(ConnectionOptions())
        self.sent: list[tuple[str, str]] = []

    async def send(self, request: HttpRequest, /) -> HttpResponse:
        self.sent.append((request.method, URL(request.url, encoded=True).raw_path))
        return await super().send(request)


def operation_of(method: str, path: str) -> str:
    """The operation of the definition that a request is for."""
    definition = yaml.safe_load(with_prefixes(SPEC.read_text()))
    for template, operations in definition["paths"].items():
        if method.lower() in operations and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return operations[method.lower()]["operationId"]
    return f"{method} {path}"


async def call_all(client: DeepnoteClient) -> None:
    """Every operation, in every shape the client gives it."""
    await client.me()
    await client.projects.create("Sales", folder_id="folder-1", project_type="standard")
    await client.projects.create("Sales again")
    await client.projects.get("project-1")
    await client.projects.list(name_contains="a b&c", page_size=7).collect(limit=1)
    await client.projects.delete("project-1")
    await client.notebooks.create("project-1", name="Report")
    await client.notebooks.create("project-1")
    await client.notebooks.get("notebook-1")
    await client.notebooks.list_runs("notebook-1", page_size=100, page_token="token").collect(limit=1)
    await client.notebooks.delete("notebook-1")
    await client.notebooks.execute_v1("project-1", "notebook-1")
    inputs = {"region": "EU", "year": 2024, "flag": True, "many": ["a", "b"]}
    await client.runs.create("notebook-1")
    await client.runs.create("notebook-1", inputs=inputs, detached=True, detached_run_storage_mode="readonly")
    await client.runs.create("notebook-1", block_ids=["block-1", "block-2"], run_dependent_blocks=True)
    for delivery in (None, "downloadUrl", "inline"):
        assert isinstance(await client.runs.get(RUN, snapshot_delivery=delivery), Run)


async def test_prism_accepts_every_request_of_the_twelve_operations(prism: str):
    transport = Recording()
    async with DeepnoteClient("key", base_url=prism, transport=transport) as client:
        await call_all(client)
    called = {operation_of(method, path) for method, path in transport.sent}
    assert called == {
        *("createRun", "getRun", "createNotebook", "getNotebook", "deleteNotebook", "listNotebookRuns"),
        *("listProjects", "createProject", "getProject", "deleteProject", "getMe", "executeNotebookV1"),
    }


async def test_prism_refuses_what_the_definition_does_not_allow(prism: str):
    """Or its acceptance would mean nothing."""
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer key"}) as session:
        async with session.post(prism + "/v2/runs", json={"inputs": {}}) as answer:
            assert answer.status == 422
        async with session.get(prism + "/v2/projects?pageSize=500") as answer:
            assert answer.status == 422
        async with session.get(prism + "/v1/me") as answer:
            assert answer.status == 404
    async with aiohttp.ClientSession() as session, session.get(prism + "/v2/me") as answer:
        assert answer.status == 401
