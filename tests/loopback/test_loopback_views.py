"""Views of a client, and calls of any other endpoint."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time

import pytest
from loopback_servers import ME, RawServer, client_of, hangs, says, serve_runs, settled, until

from deepnote_async import (
    ApiError,
    ClientClosedError,
    InvalidRequestError,
    PollPolicy,
    RequestTimeoutError,
    RetryPolicy,
    TokenBucket,
)
from deepnote_async.testing import FakeDeepnote


async def test_a_view_shares_the_connections():
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        await client.me()
        await client.with_options(timeout=1.0).me()
        await client.with_options(token="another").me()
        assert server.connections == 1
        assert client.stats().requests == 3
        keys = [request.headers["Authorization"] for request in server.requests]
        assert keys[2] == "Bearer another" != keys[0] == keys[1]


async def test_a_view_with_another_token_has_a_limiter_of_its_own():
    async with RawServer(serve_runs) as server:
        bucket = TokenBucket(0.001, 1, adaptive=False)
        async with client_of(server.url, rate_limiter=bucket, total_timeout=0.02) as client:
            await client.me()
            with pytest.raises(RequestTimeoutError):
                await client.with_options(timeout=1.0).me()
            await client.with_options(token="another").me()
            assert len(server.requests) == 2


async def test_a_429_of_one_token_does_not_pause_another():
    async def answer(exchange):
        mine = exchange.received.headers["Authorization"].endswith("another")
        await (says(ME) if mine else says(b"{}", 429, Retry_After="30"))(exchange)

    async with RawServer(answer) as server, client_of(server.url, retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(ApiError):
            await client.me()
        began = time.perf_counter()
        await client.with_options(token="another").me()
        assert time.perf_counter() - began < 0.5


async def test_closing_a_view_closes_nothing():
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        async with client.with_options(timeout=1.0) as view:
            await view.me()
        await view.aclose()
        await view.me()
        await client.me()
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await view.me()
        with pytest.raises(ClientClosedError):
            await client.with_options(timeout=2.0).__aenter__()


async def test_closing_the_client_ends_the_calls_of_its_views():
    async with RawServer(hangs) as server:
        client = await client_of(server.url).__aenter__()
        view = client.with_options(token="another", poll=PollPolicy(initial=0.01))
        calls = [asyncio.create_task(view.me()), asyncio.create_task(view.await_run("r1"))]
        await until(lambda: len(server.requests) == 2)
        await client.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 2
        await settled(client)


async def test_the_options_of_a_view_are_its_own():
    async with RawServer(hangs) as server, client_of(server.url) as client:
        began = time.perf_counter()
        view = client.with_options(timeout=0.01, retry=RetryPolicy(attempts=1), total_timeout=None)
        with pytest.raises(RequestTimeoutError):
            await view.me()
        with pytest.raises(RequestTimeoutError):
            await client.with_options(total_timeout=0.02).me()
        assert time.perf_counter() - began < 1


async def test_views_of_views_keep_what_was_set():
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        view = client.with_options(token="another").with_options(timeout=1.0).with_options(total_timeout=None)
        await view.me()
        assert server.requests[0].headers["Authorization"] == "Bearer another"
        assert (view._session.timeouts.timeout, view._session.timeouts.total_timeout) == (1.0, None)


@pytest.mark.parametrize("options", [{"token": "another"}, {"timeout": 1.0}, {"poll": PollPolicy(initial=0.5)}])
async def test_many_views_leak_nothing(options):
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        core = client._session.core

        async def once():
            view = client.with_options(**options)
            await view.me()

        await once()
        gc.collect()
        before = len(core._gates), len(core._watchers), len(core._at_close), len(core._tasks)
        for _ in range(50):
            await once()
        gc.collect()
        assert (len(core._gates), len(core._watchers), len(core._at_close), len(core._tasks)) == before
        await settled(client)
        assert server.connections == 1


async def test_a_view_is_kept_alive_by_what_waits_in_it():
    async with FakeDeepnote(notebooks=["n"]) as fake, client_of(fake.url, fake.token) as client:
        run = fake.service.add_run(fake.notebook("n"), length=0.03)
        poll = PollPolicy(initial=0.01)
        waiting = asyncio.create_task(client.with_options(token=fake.token, poll=poll).await_run(run.id))
        await asyncio.sleep(0)
        gc.collect()
        assert (await waiting).succeeded


# client.request


async def test_request_reaches_any_endpoint():
    async with RawServer(says(b'{"machines": [1, null]}')) as server, client_of(server.url) as client:
        params = {"a": "x y&z", "b": 1, "c": True, "d": None, "e": ["1", "2"]}
        assert await client.request("get", "/v2/machine types", params=params) == {"machines": [1, None]}
        await client.request("POST", "/v2/x", json={"ž": [1, None, 0.5]})
        await client.request("PUT", "/v2/x", json=[])
        first, second, third = server.requests
        assert first.target == "/v2/machine%20types?a=x%20y%26z&b=1&c=true&e=1&e=2"
        assert (first.method, first.body) == ("GET", b"")
        assert (second.headers["Content-Type"], second.body) == ("application/json", b'{"\\u017e":[1,null,0.5]}')
        assert (third.method, third.body) == ("PUT", b"[]")


@pytest.mark.parametrize(
    ("status", "body", "value"), [(204, b"", None), (200, b"", None), (201, b"[1]", [1]), (200, b"null", None)]
)
async def test_request_gives_the_decoded_json(status, body, value):
    async with RawServer(says(body, status)) as server, client_of(server.url) as client:
        assert await client.request("PATCH", "/v2/x") == value


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_request_without_a_body_claims_no_type_of_one(method):
    async with RawServer(says(b"", 204)) as server, client_of(server.url) as client:
        await client.request(method, "/v2/x")
        received = server.requests[0]
        assert "Content-Type" not in received.headers
        assert received.headers.get("Content-Length", "0") == "0"
        assert "Transfer-Encoding" not in received.headers


async def test_request_takes_a_head():
    async with RawServer(says(b"", 200)) as server, client_of(server.url) as client:
        assert await client.request("HEAD", "/v2/x") is None
        assert server.requests[0].method == "HEAD"


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "https://elsewhere.example/v2/me", {}),
        ("GET", "http://127.0.0.1/v2/me", {}),
        ("GET", "v2/me", {}),
        ("GET", "", {}),
        ("GET", "@elsewhere.example/", {}),
        ("GET", "/v2/me?x=1", {}),
        ("GET", "/v2/me#x", {}),
        ("GET", "/v2/\ud800", {}),
        ("TRACE", "/v2/me", {}),
        ("GET\r\nX: y", "/v2/me", {}),
        ("POST", "/v2/x", {"json": object()}),
        ("POST", "/v2/x", {"json": float("nan")}),
        ("GET", "/v2/x", {"params": {"a": "\ud800"}}),
    ],
)
async def test_request_refuses_what_leads_elsewhere_or_cannot_be_sent(method, path, options):
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        with pytest.raises(InvalidRequestError):
            await client.request(method, path, **options)
        assert server.requests == []


@pytest.mark.parametrize(
    "path", ["//elsewhere.example/x", "/\\elsewhere.example", "/@elsewhere.example", "/%0d%0aX:y", "/\r\nX: y"]
)
async def test_request_stays_at_its_own_origin(path):
    async with RawServer(serve_runs) as server, client_of(server.url) as client:
        await client.request("GET", path)
        (request,) = server.requests
        assert request.headers["Host"] == server.url.removeprefix("http://")
        assert "X" not in request.headers


async def test_request_raises_and_retries_as_every_call_does():
    counter = itertools.count()

    async def answer(exchange):
        await (says(b"{}", 503) if next(counter) == 0 else says(b'{"error": "gone"}', 410))(exchange)

    async with RawServer(answer) as server, client_of(server.url) as client:
        with pytest.raises(ApiError, match="gone") as caught:
            await client.request("GET", "/v2/x", params={"secret": "1"})
        assert (caught.value.status, caught.value.attempts, caught.value.path) == (410, 2, "/v2/x")
        assert len(server.requests) == 2
