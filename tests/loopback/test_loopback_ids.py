"""Ids are opaque: whatever they are, they reach no other path."""

from __future__ import annotations

import pytest
from loopback_servers import RawServer, client_of, serve_runs

from deepnote_async import InvalidRequestError, NotFoundError
from deepnote_async.testing import FakeDeepnote

ODD = {
    "../me": "..%2Fme",
    "a/b": "a%2Fb",
    "a?x=1": "a%3Fx%3D1",
    "%2e%2e/me": "%252e%252e%2Fme",
    "%2e%2e": "%252e%252e",
    "a#b": "a%23b",
    "a b": "a%20b",
    "\\..\\me": "%5C..%5Cme",
    "žluť": "%C5%BElu%C5%A5",
    "a;b": "a%3Bb",
    "a%": "a%25",
    "...": "...",
}


@pytest.mark.parametrize(("given", "sent"), ODD.items())
async def test_an_id_arrives_as_one_segment_of_the_raw_path(given, sent):
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        await client.runs.get(given)
        await client.runs.get(given, snapshot_delivery="inline")
        await client.projects.delete(given)
        await client.notebooks.delete(given)
        await client.notebooks.execute_v1(given, given)
        assert [request.target for request in server.requests] == [
            f"/v2/runs/{sent}",
            f"/v2/runs/{sent}?snapshotDelivery=inline",
            f"/v2/projects/{sent}",
            f"/v2/notebooks/{sent}",
            f"/v1/projects/{sent}/notebooks/{sent}/execute",
        ]


@pytest.mark.parametrize("given", ["", ".", ".."])
async def test_ids_that_would_lead_elsewhere_send_nothing(given):
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        for call in (client.runs.get, client.projects.delete, client.notebooks.get, client.projects.get):
            with pytest.raises(InvalidRequestError):
                await call(given)
        assert server.requests == []


@pytest.mark.parametrize("dialect", ["live", "reference"])
async def test_an_odd_id_is_simply_not_found(dialect):
    async with FakeDeepnote(dialect=dialect) as fake, client_of(fake.url, fake.token) as client:
        for given in ODD:
            with pytest.raises(NotFoundError):
                await client.notebooks.get(given)
        assert "/v2/me" not in fake.raw_paths


async def test_a_page_token_and_a_filter_stay_within_the_query():
    async with FakeDeepnote(dialect="reference", notebooks=["n"]) as fake, client_of(fake.url, fake.token) as client:
        await client.projects.list(name_contains="a&pageSize=1#/../ž", page_token="t&x=/?").collect()
        assert fake.raw_paths == ["/v2/projects"]
        assert fake.calls[0].query == "nameContains=a%26pageSize%3D1%23%2F..%2F%C5%BE&pageToken=t%26x%3D%2F%3F"


async def test_a_base_url_with_a_path_keeps_it():
    async with RawServer(serve_runs) as server, client_of(f"{server.url}/gateway/v2/") as client:
        await client.runs.get("a/b")
        assert server.paths == ["/gateway/v2/runs/a%2Fb"]
