"""Where the key goes: to the API's own origin and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time

import aiohttp
import pytest
from loopback_servers import TOKEN, RawServer, client_of, hangs, in_turn, resets, says, settled, until

from deepnote_async import (
    ApiError,
    ClientClosedError,
    DecodeError,
    NotFoundError,
    PollPolicy,
    RequestTimeoutError,
    RetryPolicy,
    Run,
    TransportError,
)
from deepnote_async.testing import FakeDeepnote

TEXT = "version: 1\ncells: []\n"
AT_ONCE = PollPolicy(snapshot_wait=0.0)


def run_with(link, **more):
    return Run(run_id="r1", status="success", snapshot_download_url=link, **more)


def tells(link, status="success"):
    return says(json.dumps({"run": {"runId": "r1", "status": status, "snapshotDownloadUrl": link}}).encode())


@pytest.fixture
async def api():
    async with RawServer(says(TEXT.encode())) as server:
        yield server


@pytest.fixture
async def storage():
    async with RawServer(says(TEXT.encode())) as server:
        yield server


@pytest.fixture
async def client(api):
    async with client_of(api.url, poll=AT_ONCE) as client:
        yield client


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["elsewhere", "itself"])
async def test_no_redirect_is_followed(storage, status, to):
    async def answer(exchange):
        target = {"elsewhere": storage.url, "itself": api.url}[to]
        await exchange.answer(b"", status, {"Location": f"{target}/secret-place?sig=1"})

    async with RawServer(answer) as api, client_of(api.url) as client:
        calls = (client.me(), client.runs.create("n1"), client.projects.delete("p1"), client.request("GET", "/v2/x"))
        for call in calls:
            with pytest.raises(ApiError) as caught:
                await call
            assert caught.value.status == status
            assert "Location" not in caught.value.headers
        assert storage.requests == []
        assert "/secret-place" not in api.paths


@pytest.mark.parametrize("same_origin", [True, False])
async def test_no_redirect_of_a_download_is_followed(storage, same_origin):
    answer = says(b"", 302, Location="/stolen")
    async with RawServer(answer) as api, RawServer(answer) as other, client_of(api.url) as client:
        link = f"{(api if same_origin else other).url}/snapshot"
        with pytest.raises(ApiError):
            await client.runs.download_snapshot(run_with(link))
        assert "/stolen" not in api.paths + other.paths


# Foreign links.


def nothing_of_ours(request):
    assert TOKEN not in str(request)
    assert not {"Authorization", "Cookie", "X-Tenant", "Proxy-Authorization"} & set(request.headers)
    assert "deepnote" not in str(request.headers).lower()


async def test_a_foreign_link_gets_no_header_of_ours(client, storage, api):
    text = await client.runs.download_snapshot(run_with(f"{storage.url}/a%2Fb?X-Sig=a%2Bb%3D&e=1"))
    assert text == TEXT
    (request,) = storage.requests
    assert request.target == "/a%2Fb?X-Sig=a%2Bb%3D&e=1"
    nothing_of_ours(request)
    assert api.requests == []
    await settled(client)


async def test_a_foreign_link_gets_no_header_of_a_borrowed_session(api, storage):
    headers = {"Authorization": "Bearer of-the-session", "X-Tenant": "t"}
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        aiohttp.ClientSession(headers=headers, cookies={"c": "v"}, cookie_jar=jar) as session,
        client_of(api.url, session=session) as client,
    ):
        await client.runs.download_snapshot(run_with(f"{storage.url}/x"))
    nothing_of_ours(storage.requests[0])


@pytest.mark.parametrize(
    "link",
    [
        "http://localhost:{port}/x",
        "//localhost:{port}/x",
        "http://127.0.0.1:{other}/x",
        "http://127.0.0.1.nip.invalid:{port}/x",
        "http://user@127.0.0.1:{other}/x",
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}@127.0.0.1:{other}/x",
        "http://127.0.0.1:{other}\\@127.0.0.1:{port}/x",
        "http://127.0.0.1:{other}#@127.0.0.1:{port}/x",
    ],
)
async def test_the_key_goes_to_the_same_scheme_host_and_port_only(client, api, storage, link):
    ports = {"port": api.url.rpartition(":")[2], "other": storage.url.rpartition(":")[2]}
    with contextlib.suppress(TransportError):
        await client.with_options(timeout=0.1).runs.download_snapshot(run_with(link.format(**ports)))
    assert not any(TOKEN in str(request) for request in storage.requests)
    for request in api.requests:
        assert request.headers["Host"].startswith("localhost") is ("Authorization" not in request.headers)


@pytest.mark.parametrize(
    "link", ["/v2/snapshots/r1?x=1", "v2/snapshots/r1?x=1", "{url}/v2/snapshots/r1?x=1"], ids=["root", "path", "whole"]
)
async def test_a_relative_or_same_origin_link_carries_the_key(client, api, link):
    assert await client.runs.download_snapshot(run_with(link.format(url=api.url))) == TEXT
    (request,) = api.requests
    assert request.target == "/v2/snapshots/r1?x=1"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "link", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[bad/x", "http://127.0.0.1:nan/", "žx"]
)
async def test_a_link_that_is_no_url_is_refused(client, api, link):
    with pytest.raises(DecodeError, match="no URL") as caught:
        await client.runs.download_snapshot(run_with(link))
    assert link not in repr(caught.value)
    assert api.requests == []


# Expiry, absence, breaks.


async def test_an_expired_link_is_asked_anew_once():
    async with FakeDeepnote(notebooks=["n"], time_scale=1000, link_ttl=5.0) as fake:
        run = fake.service.add_run(fake.notebook("n"), length=0.0)
        async with client_of(fake.url, fake.token) as client:
            await asyncio.sleep(0.005)
            known = await client.runs.get(run.id)
            await asyncio.sleep(0.01)
            fake.service.storage.ttl = 600.0
            assert "snapshotHash" in await client.runs.download_snapshot(known)
            assert [call.status for call in fake.service.storage.calls] == [403, 200]
            assert len(fake.calls) == 2
            fake.service.storage.ttl = 0.0
            with pytest.raises(ApiError) as caught:
                await client.runs.download_snapshot(known)
            assert caught.value.status == 403
            assert len(fake.service.storage.calls) == 4


async def test_a_link_that_comes_again_as_it_was_is_not_fetched_twice(storage, tmp_path):
    async with (
        RawServer(says(b"<Error>sig=1</Error>", 403)) as other,
        RawServer(tells(f"{other.url}/x?sig=1")) as api,
        client_of(api.url) as client,
    ):
        with pytest.raises(ApiError) as caught:
            await client.runs.download_snapshot("r1", to=tmp_path / "s")
        assert "sig" not in caught.value.body + str(caught.value)
        assert len(other.requests) == 1
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", [None, "file"])
async def test_a_missing_snapshot_is_none_and_makes_no_file(tmp_path, to):
    place = None if to is None else tmp_path / to
    async with FakeDeepnote(dialect="reference", notebooks=["n"]) as fake:
        run = fake.service.add_run(fake.notebook("n"), length=0.0)
        async with client_of(fake.url, fake.token, poll=PollPolicy(initial=0.005, snapshot_wait=0.02)) as client:
            assert await client.runs.download_snapshot(run.id, to=place) is None
            assert await client.runs.download_snapshot(await client.runs.get(run.id), to=place) is None
            assert list(tmp_path.iterdir()) == []
            with pytest.raises(NotFoundError):
                await client.runs.download_snapshot("no-such-run", to=place)


async def test_a_snapshot_on_its_way_is_waited_for():
    async with FakeDeepnote(notebooks=["n"], snapshot_delay=0.03) as fake:
        run = fake.service.add_run(fake.notebook("n"), length=0.0)
        poll = PollPolicy(initial=0.01, snapshot_wait=2.0)
        async with client_of(fake.url, fake.token, poll=poll) as client:
            assert "snapshotHash" in await client.runs.download_snapshot(run.id)


@pytest.mark.parametrize("content", [None, TEXT])
async def test_a_download_to_a_file_is_whole(client, storage, tmp_path, content):
    place = tmp_path / "snapshot.deepnote"
    place.write_text("what was there before")
    run = run_with(f"{storage.url}/x", snapshot_content=content)
    assert await client.runs.download_snapshot(run, to=place) is None
    assert place.read_bytes() == TEXT.encode()
    assert list(tmp_path.iterdir()) == [place]


async def cut(exchange):
    await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000)
    await asyncio.sleep(0.005)
    exchange.writer.close()


async def stops(exchange):
    await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000)
    await exchange.hang()


BROKEN = {"cut": (cut, TransportError), "stops": (stops, RequestTimeoutError), "reset": (resets, TransportError)}


@pytest.mark.parametrize(("answer", "kind"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_download_leaves_no_partial_file(tmp_path, answer, kind):
    place = tmp_path / "snapshot.deepnote"
    place.write_text("what was there before")
    async with RawServer(answer) as other, RawServer(hangs) as api, client_of(api.url, timeout=0.05) as client:
        with pytest.raises(kind) as caught:
            await client.runs.download_snapshot(run_with(f"{other.url}/hidden?sig=hidden"), to=place)
        assert "hidden" not in str(caught.value)
        assert place.read_text() == "what was there before"
        assert list(tmp_path.iterdir()) == [place]
        await settled(client)


async def test_a_download_that_breaks_is_made_again_from_the_start(tmp_path):
    place = tmp_path / "snapshot.deepnote"
    quick = RetryPolicy(initial=0.001, maximum=0.002)
    async with (
        RawServer(in_turn(cut, resets, says(TEXT.encode()))) as other,
        RawServer(hangs) as api,
        client_of(api.url, retry=quick) as client,
    ):
        await client.runs.download_snapshot(run_with(f"{other.url}/hidden?sig=hidden"), to=place)
    assert place.read_text() == TEXT
    assert list(tmp_path.iterdir()) == [place]


async def test_a_place_that_cannot_be_written_is_an_os_error(client, storage, tmp_path):
    with pytest.raises(FileNotFoundError):
        await client.runs.download_snapshot(run_with(f"{storage.url}/x"), to=tmp_path / "no" / "such")
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        await client.runs.download_snapshot(run_with(f"{storage.url}/x"), to=tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


async def test_a_file_may_be_larger_than_an_answer(storage, tmp_path):
    big = b"x" * 300_000
    async with RawServer(says(big)) as other, client_of(storage.url, max_response_bytes=1000) as client:
        await client.runs.download_snapshot(run_with(f"{other.url}/x"), to=tmp_path / "big")
        assert (tmp_path / "big").read_bytes() == big
        with pytest.raises(DecodeError, match=re.escape("max_response_bytes")):
            await client.runs.download_snapshot(run_with(f"{other.url}/x"))


async def test_a_same_origin_link_counts_as_a_request_and_a_foreign_one_does_not(api, storage):
    async with client_of(api.url, max_connections=1, retry=RetryPolicy(attempts=1)) as client:
        await client.runs.download_snapshot(run_with(f"{storage.url}/x"))
        assert client.stats().requests == 0
        await client.runs.download_snapshot(run_with("/x"))
        assert client.stats().requests == 1


async def test_a_session_of_ours_keeps_no_cookie():
    async with RawServer(in_turn(says(b"{}", Set_Cookie="a=b"), says(b"{}"))) as api, client_of(api.url) as client:
        await client.me()
        await client.me()
        assert "Cookie" not in api.requests[1].headers


async def test_downloads_from_elsewhere_are_no_more_than_max_connections(api):
    on_wire, most = 0, 0

    async def answer(exchange):
        nonlocal on_wire, most
        on_wire += 1
        most = max(most, on_wire)
        await asyncio.sleep(0.01)
        on_wire -= 1
        await exchange.answer(TEXT.encode())

    async with RawServer(answer) as other, client_of(api.url, max_connections=3) as client:
        texts = await asyncio.gather(
            *(client.runs.download_snapshot(run_with(f"{other.url}/{number}")) for number in range(12))
        )
        assert texts == [TEXT] * 12
        assert most == 3
        await settled(client)


async def test_a_download_waiting_for_its_slot_ends_with_the_client(api):
    async with RawServer(hangs) as other:
        client = await client_of(api.url, max_connections=1).__aenter__()
        loads = [asyncio.create_task(client.runs.download_snapshot(run_with(f"{other.url}/{n}"))) for n in range(3)]
        while not other.requests:  # noqa: ASYNC110 - until the first is on the wire
            await asyncio.sleep(0.001)
        await client.aclose()
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 3


async def test_total_timeout_is_that_of_all_attempts_at_a_download(api):
    patient = RetryPolicy(attempts=50, initial=0.001, maximum=0.001)
    async with (
        RawServer(hangs) as other,
        client_of(api.url, timeout=0.04, total_timeout=0.1, retry=patient) as client,
    ):
        with pytest.raises(RequestTimeoutError) as caught:
            await client.runs.download_snapshot(run_with(f"{other.url}/x"))
        # 0.04 + 0.04 + what is left of 0.1; anew for each attempt it would be fifty.
        assert 2 <= len(other.requests) <= 3
        assert caught.value.attempts in {len(other.requests), len(other.requests) + 1}  # the last found no time left


async def test_the_snapshot_of_a_run_that_ended_long_ago_is_not_waited_for():
    finished = "2020-01-01T00:00:00Z"
    answer = says(json.dumps({"runId": "r1", "status": "success", "completedAt": finished}).encode())
    async with RawServer(answer) as api, client_of(api.url, poll=PollPolicy(snapshot_wait=3600.0)) as client:
        assert await client.runs.download_snapshot("r1") is None
        assert len(api.requests) == 1


async def test_downloads_that_wait_for_their_turn_hold_no_file(api, tmp_path):
    async with RawServer(hangs) as other, client_of(api.url, max_connections=2) as client:
        loads = [
            asyncio.create_task(client.runs.download_snapshot(run_with(f"{other.url}/{n}"), to=tmp_path / str(n)))
            for n in range(20)
        ]
        await until(lambda: len(other.requests) == 2)
        assert list(tmp_path.iterdir()) == []
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        await settled(client)


async def test_calls_go_on_while_many_downloads_wait(storage):
    async def slowly(exchange):
        await asyncio.sleep(0.01)
        await exchange.answer(TEXT.encode())

    async with RawServer(slowly) as other, client_of(storage.url, max_connections=2) as client:
        loads = [asyncio.create_task(client.runs.download_snapshot(run_with(f"{other.url}/{n}"))) for n in range(60)]
        await until(lambda: other.requests)
        await client.runs.download_snapshot(run_with("/x"))
        assert sum(load.done() for load in loads) < 30
        await asyncio.gather(*loads)


async def test_waiting_for_a_snapshot_ends_where_total_timeout_leaves_no_time_for_another_look():
    pending = says(b'{"runId": "r1", "status": "success", "snapshotStatus": "pending"}')
    poll = PollPolicy(initial=5.0, snapshot_wait=60.0)
    async with RawServer(pending) as api, client_of(api.url, total_timeout=4.5, poll=poll) as client:
        began = time.perf_counter()
        assert await client.runs.download_snapshot("r1") is None
        assert time.perf_counter() - began < 3.0


async def test_a_download_refused_for_its_key_is_made_again_with_the_new_one():
    keys = iter(["old", *["new"] * 9])
    link = "/snapshot"

    async def answer(exchange):
        if exchange.received.headers["Authorization"] != "Bearer new":
            await exchange.answer(b"{}", 401)
        elif exchange.received.path == link:
            await exchange.answer(TEXT.encode())
        else:
            await tells(link)(exchange)

    async with RawServer(answer) as api, client_of(api.url, lambda: next(keys)) as client:
        assert await client.runs.download_snapshot(run_with(link)) == TEXT
