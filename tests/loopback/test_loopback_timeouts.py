"""Time and size: what an attempt may take, from the moment it has its slot."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib

import pytest
from loopback_servers import ME, STARTED, RawServer, client_of, hangs, head_of, in_turn, says, settled

from deepnote_async import DecodeError, OutcomeUnknownError, RequestTimeoutError, RetryPolicy, TransportError
from deepnote_async.testing import FakeDeepnote

ONCE = RetryPolicy(attempts=1)


@pytest.mark.slow
async def test_a_thousand_calls_at_once_end_without_one_timeout():
    """`timeout` counts from the slot: the last of them waits longer than it may take, even on a busy machine."""
    async with (
        FakeDeepnote(latency=0.4) as fake,
        client_of(fake.url, fake.token, max_connections=100, timeout=3.0, retry=ONCE) as client,
    ):
        began = time.perf_counter()
        answers = await asyncio.gather(*(client.me() for _ in range(1000)))
        assert time.perf_counter() - began > 3.9
        assert len(answers) == len(fake.calls) == 1000
        await settled(client)


async def test_the_timeout_counts_from_the_slot_not_from_the_queue():
    async def answer(exchange):
        await asyncio.sleep(0.03)
        await exchange.answer(ME)

    async with (
        RawServer(answer) as server,
        client_of(server.url, max_connections=1, timeout=0.08, retry=ONCE) as client,
    ):
        await asyncio.gather(*(client.me() for _ in range(5)))
        assert len(server.requests) == 5


async def test_no_more_are_on_the_wire_than_there_are_slots():
    out, most = 0, 0

    async def answer(exchange):
        nonlocal out, most
        out += 1
        most = max(most, out)
        await asyncio.sleep(0.005)
        out -= 1
        await exchange.answer(STARTED if exchange.received.method == "POST" else ME)

    async with RawServer(answer) as server, client_of(server.url, max_connections=3) as client:
        view = client.with_options(token="another", timeout=2.0)
        calls = [client.me() for _ in range(6)] + [client.runs.create("n1") for _ in range(6)]
        await asyncio.gather(*calls, *(view.me() for _ in range(4)))
        assert most == 3
        await settled(client)


async def dribbles(exchange):
    await exchange.raw(head_of(200, {"Content-Length": "1000"}))
    while True:
        await exchange.raw(b" ")
        await asyncio.sleep(0.005)


async def breaks_a_chunk(exchange):
    await exchange.raw(head_of(200, {"Transfer-Encoding": "chunked"}))
    await asyncio.sleep(0.005)
    await exchange.raw(b"zz\r\nno chunk\r\n")
    await exchange.hang()


STUCK = {"hang": hangs, "dribble": dribbles, "chunk": breaks_a_chunk}


@pytest.mark.parametrize("stuck", STUCK.values(), ids=STUCK)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_what_is_stuck_ends_by_the_timeout(stuck, method):
    async with RawServer(stuck) as server, client_of(server.url, timeout=0.05, retry=ONCE, max_connections=1) as client:
        began = time.perf_counter()
        with pytest.raises((TransportError, OutcomeUnknownError)) as caught:
            await client.request(method, "/v2/x")
        assert time.perf_counter() - began < 1
        if stuck is not breaks_a_chunk:
            error = caught.value if method != "POST" else caught.value.cause
            assert isinstance(error, RequestTimeoutError)
            assert isinstance(error, TimeoutError)
            assert error.sent
        await settled(client)


async def test_many_deadlines_of_different_lengths_come_due_each_in_its_time():
    async with RawServer(hangs) as server, client_of(server.url, timeout=0.06, retry=ONCE) as client:
        ended = []

        async def one(view, name):
            with pytest.raises(RequestTimeoutError):
                await view.me()
            ended.append(name)

        views = {name: client.with_options(timeout=name) for name in (0.09, 0.03)}
        await asyncio.gather(*(one(view, name) for name, view in views.items()), one(client, 0.06), one(client, 0.06))
        assert ended == [0.03, 0.06, 0.06, 0.09]
        await settled(client)


async def test_connecting_counts_too():
    async with RawServer(hangs) as server:
        url = server.url.replace("http://", "https://")
        async with client_of(url, timeout=0.05, retry=ONCE) as client:
            with pytest.raises(TransportError):
                await client.me()
            await settled(client)


# Sizes and encodings.


async def test_an_answer_over_the_limit_is_kept_in_part_and_its_connection_is_not_used_again():
    big = b'{"user": "' + b"x" * 5_000_000 + b'"}'
    async with (
        RawServer(in_turn(says(big), says(ME))) as server,
        client_of(server.url, max_response_bytes=1000) as client,
    ):
        with pytest.raises(DecodeError, match="max_response_bytes") as caught:
            await client.me()
        assert caught.value.body.startswith('{"user": "xxx')
        assert caught.value.status == 200
        await settled(client)
        await client.me()
        assert [request.connection for request in server.requests] == [0, 1]


async def test_an_endless_answer_ends_at_the_limit():
    async def endless(exchange):
        await exchange.raw(head_of(200, {"Transfer-Encoding": "chunked"}))
        while True:
            await exchange.raw(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    async with RawServer(endless) as server, client_of(server.url, max_response_bytes=50_000) as client:
        with pytest.raises(DecodeError) as caught:
            await client.me()
        assert len(caught.value.body) <= 2**16
        assert len(server.requests) == 1


async def test_a_start_whose_answer_is_over_the_limit_may_have_happened():
    async with RawServer(says(b"x" * 2000, 202)) as server, client_of(server.url, max_response_bytes=1000) as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.runs.create("n1")
        assert isinstance(caught.value.cause, DecodeError)
        assert server.count("POST") == 1


@pytest.mark.parametrize("packed", [gzip.compress(ME), zlib.compress(ME)], ids=["gzip", "deflate"])
async def test_packed_answers_are_unpacked(packed):
    name = "gzip" if packed.startswith(b"\x1f\x8b") else "deflate"
    async with RawServer(says(packed, Content_Encoding=name)) as server, client_of(server.url) as client:
        assert (await client.me()).user == {"id": "u"}
        assert "gzip" in server.requests[0].headers["Accept-Encoding"]


async def test_the_limit_counts_what_was_unpacked():
    bomb = gzip.compress(b"x" * 10_000_000)
    async with (
        RawServer(says(bomb, Content_Encoding="gzip")) as server,
        client_of(server.url, max_response_bytes=100_000) as client,
    ):
        with pytest.raises(DecodeError, match="max_response_bytes"):
            await client.me()


async def test_answers_packed_wrongly_are_errors():
    async with RawServer(says(b"not gzip at all", Content_Encoding="gzip")) as server, client_of(server.url) as client:
        with pytest.raises(TransportError):
            await client.me()
        await settled(client)


async def test_an_error_page_of_any_size_is_cut():
    async with RawServer(says(b"<html>" + b"x" * 500_000, 400)) as server, client_of(server.url) as client:
        with pytest.raises(Exception, match="bad request") as caught:
            await client.me()
        assert len(caught.value.body) == 2**16


async def test_connections_are_kept_and_used_again():
    async with RawServer(in_turn(says(ME))) as server, client_of(server.url) as client:
        for _ in range(10):
            await client.me()
        assert server.connections == 1
