"""A borrowed session lends its connections and its traces, and nothing else of it changes anything."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from loopback_servers import ME, TOKEN, RawServer, client_of, hangs, in_turn, says, serve_runs, settled

from deepnote_async import ConfigurationError, NotFoundError, RequestTimeoutError, RetryPolicy
from deepnote_async.testing import FakeDeepnote, Fault


def hostile(**more):
    """A session whose every default would break a call of ours."""
    jar = aiohttp.CookieJar(unsafe=True)
    options = {
        "headers": {"Authorization": "Bearer of-the-session", "X-Tenant": "t", "Accept": "text/html"},
        "cookies": {"session": "cookie"},
        "cookie_jar": jar,
        "raise_for_status": True,
        "timeout": aiohttp.ClientTimeout(total=0.001, sock_read=0.001),
        "trust_env": True,
        "auto_decompress": False,
        "read_bufsize": 1,
        "skip_auto_headers": ["Content-Type"],
        "requote_redirect_url": False,
        "response_class": aiohttp.ClientResponse,
        "base_url": "http://127.0.0.1:9",
    }
    return aiohttp.ClientSession(**(options | more))


async def test_its_defaults_change_nothing():
    async def answer(exchange):
        await asyncio.sleep(0.01)
        await serve_runs(exchange)

    async with RawServer(answer) as server, hostile() as session:
        async with client_of(server.url, session=session) as client:
            assert (await client.me()).user == {"id": "u"}
            await client.runs.create("n1")
            await client.projects.delete("p1")
        for request in server.requests:
            assert request.headers["Authorization"] == f"Bearer {TOKEN}"
            assert request.headers["Accept"] == "application/json"
            assert not {"Cookie", "X-Tenant"} & set(request.headers)
        assert server.requests[1].headers["Content-Type"] == "application/json"
        assert server.paths == ["/v2/me", "/v2/runs", "/v2/projects/p1"]


async def test_its_raise_for_status_does_not_take_our_errors_away():
    async with FakeDeepnote() as fake, hostile() as session, client_of(fake.url, fake.token, session=session) as client:
        with pytest.raises(NotFoundError, match="not found"):
            await client.runs.get("r1")
        fake.service.faults.append(Fault("error_before", status=503, count=1))
        await client.me()


async def test_its_auth_changes_nothing():
    with pytest.warns(DeprecationWarning, match="auth"):
        lent = aiohttp.ClientSession(auth=aiohttp.BasicAuth("user", "word"))
    async with lent, RawServer(serve_runs) as server, client_of(server.url, session=lent) as client:
        await client.me()
        assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


async def test_its_middlewares_change_nothing():
    async def meddle(request, handler):
        request.headers["Authorization"] = "Bearer meddled"
        return await handler(request)

    async with (
        aiohttp.ClientSession(middlewares=[meddle]) as session,
        RawServer(serve_runs) as server,
        client_of(server.url, session=session) as client,
    ):
        await client.me()
        assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


async def test_it_gets_no_cookie_of_the_service():
    async with RawServer(says(ME, Set_Cookie="a=b")) as server, aiohttp.ClientSession() as session:
        async with client_of(server.url, session=session) as client:
            await client.me()
            await client.me()
        assert "Cookie" not in server.requests[1].headers
        assert len(session.cookie_jar) == 0


async def test_it_is_never_closed_and_serves_its_owner_as_before():
    async with RawServer(serve_runs) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with client_of(server.url, session=session) as client:
                await client.me()
        assert not session.closed
        async with session.get(f"{server.url}/v2/me") as answer:
            assert answer.status == 200
        assert server.connections == 1


async def test_its_trace_configs_are_called():
    told = []

    async def begin(session, context, params):
        told.append((params.method, params.url.path))

    config = aiohttp.TraceConfig()
    config.on_request_start.append(begin)
    async with (
        RawServer(serve_runs) as server,
        aiohttp.ClientSession(trace_configs=[config]) as session,
        client_of(server.url, session=session) as client,
    ):
        await client.me()
        await client.runs.create("n1")
    assert told == [("GET", "/v2/me"), ("POST", "/v2/runs")]


async def test_a_closed_one_is_refused():
    session = aiohttp.ClientSession()
    await session.close()
    client = client_of("http://127.0.0.1:1", session=session)
    with pytest.raises(ConfigurationError, match="closed"):
        await client.__aenter__()


@pytest.mark.parametrize("limits", [{"limit": 2}, {"limit": 0, "limit_per_host": 2}])
async def test_its_limits_are_waited_for_at_the_gate_and_not_within_the_timeout(limits):
    async def answer(exchange):
        await asyncio.sleep(0.02)
        await exchange.answer(ME)

    async with (
        RawServer(answer) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as session,
        client_of(server.url, session=session, timeout=0.1, retry=RetryPolicy(attempts=1)) as client,
    ):
        await asyncio.gather(*(client.me() for _ in range(20)))
        assert server.connections == 2
        await settled(client)


async def test_our_timeout_holds_in_place_of_its_own():
    async with (
        RawServer(hangs) as server,
        aiohttp.ClientSession() as session,
        client_of(server.url, session=session, timeout=0.02, retry=RetryPolicy(attempts=1)) as client,
    ):
        with pytest.raises(RequestTimeoutError):
            await client.me()
        await settled(client)


# The environment.


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    place = tmp_path / "netrc"
    place.write_text("machine 127.0.0.1\nlogin user\npassword word\n")
    place.chmod(0o600)
    monkeypatch.setenv("NETRC", str(place))


@pytest.mark.parametrize("borrowed", [False, True])
async def test_a_netrc_entry_for_the_host_does_not_break_calls(netrc, borrowed):
    async with RawServer(serve_runs) as server, aiohttp.ClientSession(trust_env=True) as session:
        async with client_of(server.url, trust_env=True, session=session if borrowed else None) as client:
            await client.me()
            await client.runs.create("n1")
        assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {TOKEN}"}


async def test_proxies_of_the_environment_are_used_only_when_trusted(monkeypatch):
    async with RawServer(serve_runs) as server, RawServer(in_turn(says(ME))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with (
            aiohttp.ClientSession(trust_env=True) as session,
            client_of(server.url) as client,
            client_of(server.url, session=session) as other,
        ):
            await client.me()
            await other.me()
        assert (len(server.requests), len(proxy.requests)) == (2, 0)
        async with client_of(server.url, trust_env=True) as client:
            await client.me()
        assert (len(server.requests), len(proxy.requests)) == (2, 1)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with client_of(server.url, trust_env=True) as client:
            await client.me()
        assert (len(server.requests), len(proxy.requests)) == (3, 1)
