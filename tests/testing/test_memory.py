"""The model as a transport, in virtual time."""

from __future__ import annotations

import asyncio
import json

import pytest

from deepnote_async.credentials import Secret
from deepnote_async.errors import DecodeError, TransportError
from deepnote_async.testing import Fault, MemoryTransport, virtual_service
from deepnote_async.transport import HttpRequest, SinkError

BASE = "https://api.deepnote.com"


def request(service, path, method="GET", body=None, **more):
    raw = None if body is None else json.dumps(body).encode()
    return HttpRequest(method, BASE + path, body=raw, token=Secret(service.token), **more)


@pytest.mark.looptime
async def test_a_run_of_hours_ends_in_virtual_time(looptime):
    service = virtual_service(snapshot_delay=10)
    transport = MemoryTransport(service, latency=0.05)
    notebook = service.notebook("report").succeeds(after=7200)
    asked = request(service, "/v2/runs", "POST", {"notebookId": notebook.id})
    answer = await transport.send(asked)
    assert (answer.status, asked.sent, looptime) == (202, 1, 0.05)
    run_id = json.loads(answer.body)["runId"]
    await asyncio.sleep(7210)
    answer = await transport.send(request(service, f"/v2/runs/{run_id}"))
    assert answer.headers["content-type"].startswith("application/json")
    run = json.loads(answer.body)["run"]
    assert (run["status"], run["snapshotStatus"]) == ("success", "available")
    link = await transport.send(HttpRequest("GET", run["snapshotDownloadUrl"]))
    assert b"snapshotHash" in link.body
    assert "Authorization" not in service.storage.calls[0].headers


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("kind", "sent", "done"),
    [("refuse", False, 0), ("drop_before", True, 0), ("drop_after", True, 1), ("truncated", True, 1)],
)
async def test_breaks_tell_whether_something_was_sent(kind, sent, done):
    service = virtual_service(faults=[Fault(kind)])
    notebook = service.add_notebook()
    asked = request(service, "/v2/runs", "POST", {"notebookId": notebook.id})
    with pytest.raises(TransportError) as caught:
        await MemoryTransport(service).send(asked)
    assert (caught.value.sent, asked.sent, len(notebook.runs)) == (sent, int(sent), done)


@pytest.mark.looptime
@pytest.mark.parametrize("kind", ["hang", "hang_after"])
async def test_a_hang_lasts_until_the_caller_gives_up(kind, looptime):
    service = virtual_service(faults=[Fault(kind)])
    asked = request(service, "/v2/me")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300):
            await MemoryTransport(service).send(asked)
    assert (asked.sent, looptime) == (1, 300)


@pytest.mark.looptime
async def test_a_delay_comes_on_top_of_the_latency(looptime):
    service = virtual_service(faults=[Fault("delay", seconds=4)])
    assert (await MemoryTransport(service, latency=1).send(request(service, "/v2/me"))).status == 200
    assert looptime == 5


@pytest.mark.looptime
async def test_bodies_go_to_the_sink_and_no_further_than_allowed():
    service = virtual_service()
    transport, chunks = MemoryTransport(service), []

    async def keep(chunk):
        chunks.append(chunk)

    async def full(chunk):
        raise OSError("disk full")

    answer = await transport.send(request(service, "/v2/me", sink=keep))
    assert (answer.body, json.loads(b"".join(chunks))["accessLevel"]) == (b"", "admin")
    refused = await transport.send(request(service, "/v2/none", sink=full))
    assert json.loads(refused.body) == {"message": "Not found"}
    with pytest.raises(SinkError):
        await transport.send(request(service, "/v2/me", sink=full))
    with pytest.raises(DecodeError):
        await transport.send(request(service, "/v2/me", max_bytes=10))


@pytest.mark.looptime
async def test_raw_paths_arrive_as_they_are():
    service = virtual_service()
    await MemoryTransport(service).send(request(service, "/v2/runs/a%2Fb?x=%20"))
    assert (service.calls[0].path, service.calls[0].query) == ("/v2/runs/a%2Fb", "x=%20")
