"""A start whose caller has left: on the wire it goes on, before that it never happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import anyio
import pytest
from loopback_servers import ME, STARTED, RawServer, client_of, hangs, says, settled, until
from starlette.responses import StreamingResponse

from deepnote_async import ClientClosedError, TokenBucket
from deepnote_async.testing import FakeDeepnote


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.DEBUG, "deepnote_async")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "deepnote_async"]


class Held:
    """Answers starts with ``answer`` once it is let go, everything else at once."""

    def __init__(self, answer=None):
        self.answer = answer or says(STARTED, 202)
        self.let_go = asyncio.Event()

    async def __call__(self, exchange):
        if exchange.received.method == "POST":
            await self.let_go.wait()
            await self.answer(exchange)
        else:
            await exchange.answer(ME)


async def left_on_the_wire(client, server, call=None):
    """A start that was sent and cancelled."""
    before = server.count("POST")
    start = asyncio.create_task(call or client.runs.create("n1"))
    await until(lambda: server.count("POST") > before)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start


async def test_a_start_cancelled_after_it_was_sent_goes_on_and_one_warning_names_its_run(warnings):
    held = Held()
    async with RawServer(held) as server, client_of(server.url) as client:
        await left_on_the_wire(client, server)
        assert (client.stats().tasks, client.stats().slots) == (1, 1)
        assert warnings() == []
        held.let_go.set()
        await settled(client)
        (warning,) = warnings()
        assert "r1" in warning
        assert "n1" in warning
        assert "r1" in client._session.core.started
        assert server.count("POST") == 1


async def by_asyncio_timeout(start, is_sent):
    async with asyncio.timeout(10) as scope:
        call = asyncio.create_task(is_sent())
        call.add_done_callback(lambda _: scope.reschedule(0))
        await start()


async def by_anyio_scope(start, is_sent):
    async with anyio.create_task_group() as group:
        group.start_soon(start)
        await is_sent()
        group.cancel_scope.cancel()


async def by_a_sibling(start, is_sent):
    async with asyncio.TaskGroup() as group:
        group.create_task(start())
        await is_sent()
        raise LookupError


async def by_a_client_that_hangs_up(start, is_sent):
    async def stream():
        yield b"begun"
        await start()

    async def receive():
        await is_sent()
        return {"type": "http.disconnect"}

    async def send(_):
        pass

    await StreamingResponse(stream())({"type": "http", "asgi": {"spec_version": "2.0"}}, receive, send)


WAYS_TO_LEAVE = {
    by_asyncio_timeout: TimeoutError,
    by_anyio_scope: None,
    by_a_sibling: ExceptionGroup,
    by_a_client_that_hangs_up: None,
}


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE, ids=lambda leave: leave.__name__)
async def test_however_its_caller_leaves_a_start_on_the_wire_is_told_of(warnings, leave):
    held = Held()
    async with RawServer(held) as server, client_of(server.url) as client:
        raised = WAYS_TO_LEAVE[leave]
        with contextlib.nullcontext() if raised is None else pytest.raises(raised):
            await leave(lambda: client.runs.create("n1"), lambda: until(lambda: server.count("POST")))
        held.let_go.set()
        await settled(client)
        (warning,) = warnings()
        assert "r1" in warning
        assert server.count("POST") == 1


OUTCOMES = {
    "refused": (says(b'{"message": "no"}', 400), 0),
    "throttled": (says(b"{}", 429, Retry_After="0"), 0),
    "failed": (says(b"{}", 500), 1),
    "unreadable": (says(b"<html>", 202), 1),
    "reset": (lambda exchange: asyncio.sleep(0, exchange.reset()), 1),
}


@pytest.mark.parametrize(("answer", "told"), OUTCOMES.values(), ids=OUTCOMES)
async def test_a_warning_comes_only_where_a_run_may_have_been_started(warnings, answer, told):
    held = Held(answer)
    async with RawServer(held) as server, client_of(server.url) as client:
        await left_on_the_wire(client, server)
        held.let_go.set()
        await settled(client)
        assert len(warnings()) == told
        assert server.count("POST") == 1


async def test_other_creations_go_on_too(warnings):
    for call in (
        lambda c: c.projects.create("p"),
        lambda c: c.request("POST", "/v2/x"),
        lambda c: c.notebooks.create("p"),
    ):
        held = Held()
        async with RawServer(held) as server, client_of(server.url) as client:
            await left_on_the_wire(client, server, call(client))
            held.let_go.set()
            await settled(client)
    assert len(warnings()) == 3


async def test_a_start_cancelled_before_it_was_sent_starts_nothing(warnings):
    bucket = TokenBucket(0.001, 1, adaptive=False)
    async with FakeDeepnote(notebooks=["n"]) as fake:
        notebook = fake.notebook("n").id

        async def never():
            await asyncio.get_running_loop().create_future()

        for options in ({"rate_limiter": bucket}, {"token": never}):
            async with client_of(fake.url, **({"token": fake.token} | options)) as client:
                if "token" not in options:
                    await client.me()
                start = asyncio.create_task(client.runs.create(notebook))
                await asyncio.sleep(0.005)
                start.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await start
                await settled(client)
        assert fake.notebook("n").runs == []
        assert warnings() == []


async def test_at_whatever_moment_a_start_is_cancelled_it_is_accounted_for(warnings):
    async with FakeDeepnote(notebooks=["n"]) as fake, client_of(fake.url, fake.token) as client:
        notebook = fake.notebook("n")
        told = steps = 0
        # At each step once, and again if none of them met a start on the wire: where it is then is the loop's affair.
        while steps < 61 or (not warnings() and steps < 1200):
            start = asyncio.create_task(client.runs.create(notebook.id))
            for _ in range(steps % 61):
                await asyncio.sleep(0)
            start.cancel()
            await asyncio.wait([start])
            await settled(client)
            told += not start.cancelled()
            steps += 1
        assert len(notebook.runs) == told + len(warnings())
        named = " ".join(warnings())
        assert sum(run.id in named for run in notebook.runs) == len(warnings())
        assert warnings()


async def test_closing_waits_for_such_starts(warnings):
    held = Held()
    async with RawServer(held) as server:
        client = await client_of(server.url).__aenter__()
        await left_on_the_wire(client, server)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0.02)
        assert not closing.done()
        with pytest.raises(ClientClosedError):
            await client.me()
        held.let_go.set()
        await closing
        assert "r1" in warnings()[0]
        await settled(client)


async def test_closing_waits_for_them_no_longer_than_its_grace(warnings):
    async with RawServer(hangs) as server:
        client = await client_of(server.url).__aenter__()
        await left_on_the_wire(client, server)
        began = time.perf_counter()
        await client.aclose(grace=0.03)
        assert 0.028 <= time.perf_counter() - began < 0.5  # uvloop counts whole milliseconds
        (warning,) = warnings()
        assert "may have happened" in warning
        await settled(client)


async def test_closing_waits_for_nothing_else(warnings):
    async with RawServer(hangs) as server:
        client = await client_of(server.url).__aenter__()
        calls = [
            asyncio.create_task(call) for call in (client.me(), client.projects.delete("p1"), client.await_run("r1"))
        ]
        await until(lambda: len(server.requests) == 3)
        began = time.perf_counter()
        await client.aclose()
        assert time.perf_counter() - began < 0.5
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 3
        assert warnings() == []


async def test_a_start_whose_client_is_closed_is_left_by_its_caller_at_once_and_told_of(warnings):
    held = Held()
    async with RawServer(held) as server:
        client = await client_of(server.url).__aenter__()
        start = asyncio.create_task(client.runs.create("n1"))
        await until(lambda: server.requests)
        closing = asyncio.create_task(client.aclose())
        with pytest.raises(ClientClosedError):
            await start
        assert not closing.done()
        held.let_go.set()
        await closing
        assert "r1" in warnings()[0]
        await settled(client)


async def test_a_run_cancelled_while_it_is_awaited_goes_on_and_is_named(warnings):
    async with FakeDeepnote(notebooks=["n"]) as fake, client_of(fake.url, fake.token) as client:
        fake.notebook("n").succeeds(after=60)
        waiting = asyncio.create_task(client.run(fake.notebook("n").id))
        await until(lambda: client.stats().watched_runs)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (run,) = fake.notebook("n").runs
        assert [run.id in warning for warning in warnings()] == [True]
        assert not run.is_final(fake.service.clock())
        await settled(client)
