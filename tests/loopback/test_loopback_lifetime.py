"""Entering, closing, and everything in between that ends with the client."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import time

import pytest
from loopback_servers import TOKEN, RawServer, client_of, hangs, own_tasks, says, serve_runs, settled, until

from deepnote_async import ClientClosedError, DeepnoteClient, TokenBucket
from deepnote_async.testing import FakeDeepnote


@pytest.fixture
async def server():
    async with RawServer(serve_runs) as server:
        yield server


@pytest.fixture
async def client(server):
    """Entered in one task; pytest-asyncio may well leave it in another."""
    async with client_of(server.url) as client:
        yield client


async def test_a_client_of_a_fixture_works(client):
    assert (await client.me()).user == {"id": "u"}


async def test_entered_in_one_task_and_closed_in_another(server):
    client = client_of(server.url)
    await asyncio.create_task(client.__aenter__())
    await client.me()
    await asyncio.create_task(client.__aexit__(None, None, None))
    with pytest.raises(ClientClosedError):
        await client.me()


async def test_within_an_async_generator_that_another_task_closes(server):
    async def stream():
        async with client_of(server.url) as client:
            while True:
                yield await client.me()

    events = stream()
    await anext(events)
    await asyncio.create_task(events.aclose())
    assert own_tasks() == []


async def test_an_exception_in_the_body_comes_out_as_it_is(server):
    async def fail():
        async with client_of(server.url) as client:
            await client.me()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


def calls_of(client):
    return {
        "me": client.me,
        "request": lambda: client.request("GET", "/v2/me"),
        "create": lambda: client.runs.create("n1"),
        "list": lambda: client.projects.list().collect(),
        "download": lambda: client.runs.download_snapshot("r1"),
        "await_run": lambda: client.await_run("r1"),
        "await_run of many": lambda: client.await_run(["r1"]),
        "run": lambda: client.run("n1"),
    }


@pytest.mark.parametrize("name", calls_of(DeepnoteClient("x", base_url="http://127.0.0.1:1")))
@pytest.mark.parametrize("state", ["before entering", "after closing"])
async def test_used_before_entering_or_after_closing(server, name, state):
    client = client_of(server.url)
    if state == "after closing":
        async with client:
            pass
    with pytest.raises(ClientClosedError):
        await calls_of(client)[name]()
    view = client.with_options(timeout=1.0)
    with pytest.raises(ClientClosedError):
        await calls_of(view)[name]()
    assert server.requests == []


def test_used_in_another_loop():
    async def enter():
        await client.__aenter__()

    async def use():
        with pytest.raises(ClientClosedError, match="another event loop"):
            await client.me()
        with pytest.raises(ClientClosedError, match="another event loop"):
            await client.aclose()

    client = client_of("http://127.0.0.1:1")
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(enter())
        second.run_until_complete(use())
        first.run_until_complete(client.aclose())
    finally:
        first.close()
        second.close()


async def test_used_in_a_forked_child(client):
    await client.me()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of pytest's may run here. The child is within the parent's loop, and its coroutine can be stepped.
        told = b"nothing"
        try:
            client.me().send(None)
        except BaseException as error:
            told = type(error).__name__.encode()
        os.write(write, told)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = await asyncio.to_thread(pipe.read)
    await asyncio.to_thread(os.waitpid, child, 0)
    assert told == b"ClientClosedError"
    await client.me()


def test_used_in_a_forked_child_by_the_loop_that_came_with_it():
    """A server that forks its workers after it has made a loop: both would write on one connection."""
    client = client_of("http://127.0.0.1:1")
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(client.__aenter__())
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            told = "nothing"
            try:
                loop.run_until_complete(client.me())
            except BaseException as error:
                told = str(error)
            os.write(write, told.encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            told = pipe.read().decode()
        os.waitpid(child, 0)
        loop.run_until_complete(client.aclose())
    finally:
        loop.close()
    assert told == "the client belongs to the parent process: make one after the fork"


def test_a_call_that_its_loop_was_closed_under_is_collected_without_a_word(monkeypatch):
    class Hanging:
        async def send(self, request):
            await asyncio.sleep(100)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio itself tells that a task was destroyed
    client = DeepnoteClient(TOKEN, transport=Hanging())
    loop.run_until_complete(client.__aenter__())
    task = loop.create_task(client.me())
    loop.run_until_complete(asyncio.sleep(0.001))
    assert client.stats().connections == 1
    loop.close()
    words = []
    monkeypatch.setattr(sys, "unraisablehook", words.append)
    del task, client
    gc.collect()
    assert words == []


async def test_a_client_is_entered_once(client):
    with pytest.raises(ClientClosedError, match="entered already"):
        await client.__aenter__()
    await client.me()
    await client.aclose()
    with pytest.raises(ClientClosedError, match="was closed"):
        await client.__aenter__()


async def test_closing_is_idempotent_and_safe_from_any_task(server):
    client = client_of(server.url)
    await client.aclose()
    client = await client_of(server.url).__aenter__()
    await client.me()
    await asyncio.gather(*(client.aclose() for _ in range(3)), asyncio.create_task(client.aclose()))
    await client.aclose()


async def test_a_cancelled_close_closes_all_the_same():
    async with RawServer(hangs) as server:
        client = await client_of(server.url).__aenter__()
        call = asyncio.create_task(client.me())
        await until(lambda: server.requests)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ClientClosedError):
            await call
        await settled(client)


async def test_closing_ends_calls_in_flight_paused_and_queued_at_once():
    async def answer(exchange):
        if exchange.received.path == "/v2/paused":
            await exchange.answer(b"{}", 503, {"Retry-After": "30"})
        else:
            await exchange.hang()

    async with RawServer(answer) as server:
        client = await client_of(server.url, max_connections=4).__aenter__()
        paths = {"/v2/paused": "GET", "/v2/a": "GET", "/v2/b": "DELETE", "/v2/c": "POST", "/v2/d": "PATCH"}
        calls = [asyncio.create_task(client.request(method, path)) for path, method in paths.items()]
        await until(lambda: len(server.requests) == 5)
        calls += [asyncio.create_task(client.request("GET", "/v2/queued")) for _ in range(3)]
        await until(lambda: client.stats().waiters == 3)
        began = time.perf_counter()
        closing = asyncio.create_task(client.aclose(grace=0.05))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 8
        assert not closing.done()
        await closing
        assert time.perf_counter() - began < 1
        assert client.stats().requests == 5
        await settled(client)


async def test_closing_ends_a_call_that_waits_for_the_limiter_or_for_the_key(server):
    async def never():
        await asyncio.get_running_loop().create_future()

    bucket = TokenBucket(0.001, 1, adaptive=False)
    limited = await client_of(server.url, rate_limiter=bucket).__aenter__()
    await limited.me()
    keyless = await client_of(server.url, never).__aenter__()
    calls = [asyncio.create_task(call) for call in (limited.me(), keyless.me(), keyless.runs.create("n1"))]
    await asyncio.sleep(0.01)
    await limited.aclose()
    await keyless.aclose()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 3
    await settled(limited)
    await settled(keyless)
    assert len(server.requests) == 1


async def test_closing_ends_downloads_from_elsewhere_at_once(tmp_path):
    async with FakeDeepnote(notebooks=["n"], time_scale=1000) as fake:
        run = fake.service.add_run(fake.notebook("n"), length=0.0)
        async with client_of(fake.url, fake.token) as client:
            await asyncio.sleep(0.01)
            known = await client.runs.get(run.id)
            fake.latency = 30.0
            call = asyncio.create_task(client.runs.download_snapshot(known, to=tmp_path / "x.deepnote"))
            await until(lambda: fake.service.storage.calls)
            await client.aclose()
            with pytest.raises(ClientClosedError):
                await call
        assert list(tmp_path.iterdir()) == []
        await settled(client)


async def test_a_borrowed_session_does_not_keep_calls_alive_past_the_closing():
    import aiohttp

    async with RawServer(hangs) as server, aiohttp.ClientSession() as session:
        client = await client_of(server.url, session=session).__aenter__()
        call = asyncio.create_task(client.me())
        await until(lambda: server.requests)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await call
        assert not session.closed
        assert not session.connector._acquired


async def test_tasks_of_the_client_carry_no_context_of_a_caller(server):
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen = []

    class Limiter:
        async def acquire(self):
            seen.append(tenant.get())

        def answered(self, status, headers):
            pass

    tenant.set("first caller")
    async with client_of(server.url, rate_limiter=Limiter()) as client:
        await client.me()
    assert seen == ["nobody"]


async def test_nothing_is_left_behind_at_rest(server):
    async with client_of(server.url) as client:
        await asyncio.gather(*(client.me() for _ in range(20)), *(client.runs.create("n1") for _ in range(20)))
        await settled(client)
        assert client.stats().requests == 40
        assert client._session.core.deadlines._timer is None


async def test_no_other_error_than_ours_when_the_caller_forgot_to_close():
    async with RawServer(says(b"{}")) as server:
        client = await client_of(server.url).__aenter__()
        await client.me()
        await client.aclose(grace=0)
