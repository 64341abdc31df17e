"""The key of a request: fixed, or asked of a provider."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from loopback_servers import ME, STARTED, RawServer, client_of, in_turn, says, serve_runs, settled

from deepnote_async import AuthenticationError, DeepnoteError, TransportError

REFUSED = says(b'{"message": "Unauthorized"}', 401)


def keys_of(server):
    return [request.headers["Authorization"].removeprefix("Bearer ") for request in server.requests]


def counting(*, late=False):
    """A provider that gives key-1, key-2 and so on."""
    numbers = itertools.count(1)

    def plain():
        return f"key-{next(numbers)}"

    async def slow():
        await asyncio.sleep(0)
        return plain()

    return slow if late else plain


@pytest.mark.parametrize("late", [False, True])
async def test_a_provider_is_asked_for_every_request(late):
    async with RawServer(serve_runs) as server, client_of(server.url, counting(late=late)) as client:
        await client.me()
        await client.runs.create("n1")
        await client.projects.delete("p1")
        assert keys_of(server) == ["key-1", "key-2", "key-3"]


async def test_a_provider_is_asked_for_every_attempt():
    broken = says(b"{}", 503)
    async with RawServer(in_turn(broken, says(ME))) as server, client_of(server.url, counting()) as client:
        await client.me()
        assert keys_of(server) == ["key-1", "key-2"]


async def test_a_provider_is_asked_one_question_at_a_time():
    open_now, most, asked = 0, 0, 0

    async def provider():
        nonlocal open_now, most, asked
        open_now, asked = open_now + 1, asked + 1
        most = max(most, open_now)
        await asyncio.sleep(0.005)
        open_now -= 1
        return f"key-{asked}"

    async with RawServer(serve_runs) as server, client_of(server.url, provider) as client:
        await asyncio.gather(*(client.me() for _ in range(20)))
        assert most == 1
        assert asked == 2
        assert len(server.requests) == 20


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_after_401_a_provider_is_asked_once_more_and_the_call_made_once_more(method, late):
    good = says(STARTED, 202)
    async with RawServer(in_turn(REFUSED, good)) as server, client_of(server.url, counting(late=late)) as client:
        await client.request(method, "/v2/x")
        assert keys_of(server) == ["key-1", "key-2"]
        await settled(client)
    async with RawServer(REFUSED) as server, client_of(server.url, counting(late=late)) as client:
        with pytest.raises(AuthenticationError, match="Unauthorized"):
            await client.request(method, "/v2/x")
        assert keys_of(server) == ["key-1", "key-2"]
        await settled(client)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_fixed_key_that_is_refused_is_an_error_after_one_request(method):
    async with RawServer(REFUSED) as server, client_of(server.url) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.request(method, "/v2/x")
        assert (len(server.requests), caught.value.attempts) == (1, 1)


async def test_a_second_key_meets_a_pool_of_one():
    async with (
        RawServer(in_turn(REFUSED, says(ME))) as server,
        client_of(server.url, counting(late=True), max_connections=1) as client,
    ):
        await asyncio.gather(client.me(), client.me())
        await settled(client)


def fails():
    raise RuntimeError("the vault is sealed")


@pytest.mark.parametrize("call", ["me", "create"])
async def test_a_provider_that_fails_sends_nothing_and_is_not_asked_again(call):
    asked = []

    def provider():
        asked.append(1)
        fails()

    async with RawServer(serve_runs) as server, client_of(server.url, provider) as client:
        with pytest.raises(TransportError) as caught:
            await (client.me() if call == "me" else client.runs.create("n1"))
        assert not caught.value.sent
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert (len(asked), server.requests) == (1, [])
        await settled(client)


async def test_one_whose_question_fails_does_not_break_the_next():
    answers = iter([None, "key"])

    async def provider():
        await asyncio.sleep(0)
        return next(answers) or fails()

    async with RawServer(serve_runs) as server, client_of(server.url, provider) as client:
        first, second = await asyncio.gather(client.me(), client.me(), return_exceptions=True)
        assert isinstance(first, DeepnoteError)
        assert second.user == {"id": "u"}


async def test_one_who_is_cancelled_while_asking_does_not_take_the_others_along():
    async def provider():
        await asyncio.sleep(0.005)
        return "key"

    async with RawServer(serve_runs) as server, client_of(server.url, provider) as client:
        calls = [asyncio.create_task(client.me()) for _ in range(3)]
        await asyncio.sleep(0.002)
        calls[0].cancel()
        await asyncio.wait(calls)
        assert [call.cancelled() for call in calls] == [True, False, False]
        assert len(server.requests) == 2


async def test_the_timeout_covers_the_question():
    async def never():
        await asyncio.get_running_loop().create_future()

    async with RawServer(serve_runs) as server, client_of(server.url, never, timeout=0.02) as client:
        for call in (client.me(), client.runs.create("n1")):
            with pytest.raises(DeepnoteError):
                await call
        assert server.requests == []
        await settled(client)
