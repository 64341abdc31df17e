"""What is tried again over real connections, what never is, and what the caller is told."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from datetime import UTC, datetime, timedelta

import pytest
from loopback_servers import (
    ME,
    STARTED,
    RawServer,
    client_of,
    closed_port,
    hangs,
    in_turn,
    resets,
    says,
    settled,
    until,
)

from deepnote_async import (
    ApiError,
    ConflictError,
    DecodeError,
    DeepnoteError,
    NotFoundError,
    NotStartedError,
    OutcomeUnknownError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    RunRequest,
    ServerError,
    TokenBucket,
    TransportError,
)
from deepnote_async.testing import FakeDeepnote, Fault

BREAKS = {
    "429": says(b"{}", 429, Retry_After="0.01"),
    "500": says(b"{}", 500),
    "503": says(b"<html>", 503, Retry_After="0.01"),
    "reset": resets,
    "garbage": lambda exchange: exchange.raw(b"this is not HTTP\r\n\r\n"),
    "cut head": lambda exchange: closing(exchange, b"HTTP/1.1 200 O"),
    "cut body": lambda exchange: closing(exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "timeout": hangs,
}
SENT = {name: answer for name, answer in BREAKS.items() if name != "429"}


async def closing(exchange, data):
    await exchange.raw(data)
    exchange.writer.close()


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_get_and_delete_are_tried_again(method, broken):
    good = says(ME) if method == "GET" else says(b"", 204)
    async with (
        RawServer(in_turn(BREAKS[broken], good)) as server,
        client_of(server.url, timeout=0.05 if broken == "timeout" else 5.0) as client,
    ):
        await (client.me() if method == "GET" else client.projects.delete("p1"))
        assert server.count(method) in ({2, 3} if broken in {"reset", "cut head"} else {2})
        await settled(client)


@pytest.mark.parametrize("broken", BREAKS)
async def test_errors_count_the_attempts(broken):
    timeout = 0.02 if broken == "timeout" else 5.0
    async with RawServer(BREAKS[broken]) as server, client_of(server.url, timeout=timeout) as client:
        with pytest.raises((ApiError, TransportError)) as caught:
            await client.me()
        assert caught.value.attempts == 3
        assert len(server.requests) >= 3
        await settled(client)


@pytest.mark.parametrize("call", ["runs.create", "projects.create", "notebooks.create", "execute_v1", "request"])
@pytest.mark.parametrize("broken", SENT)
async def test_a_post_that_broke_after_it_was_sent_is_never_replayed(broken, call):
    timeout = 0.02 if broken == "timeout" else 5.0
    async with RawServer(BREAKS[broken]) as server, client_of(server.url, timeout=timeout) as client:
        calls = {
            "runs.create": lambda: client.runs.create("n1"),
            "projects.create": lambda: client.projects.create("p"),
            "notebooks.create": lambda: client.notebooks.create("p"),
            "execute_v1": lambda: client.notebooks.execute_v1("p", "n"),
            "request": lambda: client.request("POST", "/v2/other", json={}),
        }
        with pytest.raises(OutcomeUnknownError) as caught:
            await calls[call]()
        assert server.count("POST") == 1
        error = caught.value
        assert isinstance(error.cause, RequestTimeoutError if broken == "timeout" else DeepnoteError)
        assert error.__cause__ is error.cause
        await settled(client)


@pytest.mark.parametrize("body", [b"garbage", b"", b"{}", b'{"runId": ""}'])
async def test_a_start_whose_receipt_cannot_be_read_may_have_happened(body):
    async with RawServer(says(body, 202)) as server, client_of(server.url) as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.runs.create("n1")
        assert isinstance(caught.value.cause, DecodeError)
        assert server.count("POST") == 1


async def test_an_unknown_outcome_names_the_request_and_the_window():
    request = RunRequest("n1", inputs={"a": "b"})
    async with RawServer(resets) as server, client_of(server.url) as client:
        before = datetime.now(UTC)
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.runs.create(request)
        after = datetime.now(UTC)
        error = caught.value
        assert (error.request, error.notebook_id) == (request, "n1")
        since, until = error.window
        assert before - timedelta(seconds=6) < since < before
        assert after < until < after + timedelta(seconds=6)
        assert isinstance(error.cause, TransportError)
        assert error.cause.sent
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (str(twin), twin.request, twin.window) == (str(error), request, error.window)
        assert len(server.requests) == 1


async def test_the_window_is_of_the_servers_time():
    late = says(STARTED, 500, Date="Sun, 01 Mar 2026 10:00:00 GMT")
    async with RawServer(late) as server, client_of(server.url) as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.runs.create("n1")
        since, until = caught.value.window
        assert since < datetime(2026, 3, 1, 10, tzinfo=UTC) < until
        assert until - since < timedelta(seconds=12)


async def test_a_start_that_broke_can_be_found_again():
    async with (
        FakeDeepnote(notebooks=["n"], faults=[Fault("drop_after", methods="POST", count=1)]) as fake,
        client_of(fake.url, fake.token) as client,
    ):
        notebook = fake.notebook("n")
        known = await client.projects.list().collect()
        assert known
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.runs.create(notebook.id)
        (run,) = notebook.runs
        assert [found.run_id for found in await client.runs.candidates(caught.value)] == [run.id]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 302])
async def test_a_refusal_is_not_tried_again(status):
    async with RawServer(says(b'{"message": "no"}', status)) as server, client_of(server.url) as client:
        for call in (client.me, lambda: client.runs.create("n1"), lambda: client.projects.delete("p1")):
            with pytest.raises(ApiError) as caught:
                await call()
            assert (caught.value.status, caught.value.attempts) == (status, 1)
        assert len(server.requests) == 3


async def test_a_start_is_tried_again_on_429_and_then_refused():
    async with (
        RawServer(in_turn(BREAKS["429"], BREAKS["429"], says(STARTED, 202))) as server,
        client_of(server.url) as client,
    ):
        assert (await client.runs.create("n1")).run_id == "r1"
        assert server.count("POST") == 3
    async with RawServer(BREAKS["429"]) as server, client_of(server.url) as client:
        with pytest.raises(RateLimitError) as caught:
            await client.runs.create("n1")
        assert (caught.value.attempts, caught.value.retry_after) == (3, 0.01)
        assert client.stats().throttled == 3


async def test_a_start_refused_a_connection_is_tried_again_and_was_not_sent():
    async with closed_port() as url, client_of(url) as client:
        for call in (client.runs.create("n1"), client.me()):
            with pytest.raises(TransportError) as caught:
                await call
            assert (caught.value.sent, caught.value.attempts) == (False, 3)
            assert not isinstance(caught.value, RequestTimeoutError)
        await settled(client)


async def test_a_start_gets_through_once_the_service_is_back():
    async with FakeDeepnote(notebooks=["n"]) as fake:
        retry = RetryPolicy(attempts=20, initial=0.01, maximum=0.01)
        async with client_of(fake.url, fake.token, retry=retry) as client:
            async with fake.down():
                start = asyncio.create_task(client.runs.create(fake.notebook("n").id))
                await asyncio.sleep(0.03)
                assert not start.done()
            await start
            assert len(fake.notebook("n").runs) == 1


async def test_a_start_whose_time_passes_before_it_is_sent_was_not_started():
    bucket = TokenBucket(0.001, 1, adaptive=False)
    async with (
        FakeDeepnote(notebooks=["n"]) as fake,
        client_of(fake.url, fake.token, rate_limiter=bucket, total_timeout=0.03) as client,
    ):
        await client.me()
        with pytest.raises(NotStartedError, match="total_timeout") as caught:
            await client.runs.create(fake.notebook("n").id)
        assert isinstance(caught.value.cause, RequestTimeoutError)
        assert not caught.value.cause.sent
        assert fake.notebook("n").runs == []
        await settled(client)


async def test_a_start_whose_time_passes_after_it_was_sent_is_of_unknown_outcome():
    async with RawServer(hangs) as server, client_of(server.url, total_timeout=0.03) as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.runs.create("n1")
        assert isinstance(caught.value.cause, RequestTimeoutError)
        assert server.count("POST") == 1


async def test_a_total_timeout_gives_the_reason():
    async with RawServer(says(b'{"message": "out of order"}', 503)) as server:
        retry = RetryPolicy(attempts=50, initial=0.02, maximum=0.02)
        async with client_of(server.url, retry=retry, total_timeout=0.05) as client:
            began = time.perf_counter()
            with pytest.raises((ServerError, RequestTimeoutError)) as caught:
                await client.me()
            assert time.perf_counter() - began < 0.5
            # The time may also run out within an attempt, whose error then has the one before as its cause.
            reason = caught.value if isinstance(caught.value, ServerError) else caught.value.__cause__
            assert "out of order" in str(reason)
            assert caught.value.attempts > 1


async def test_a_pause_longer_than_the_time_left_is_not_begun():
    async with (
        RawServer(says(b"{}", 429, Retry_After="30")) as server,
        client_of(server.url, total_timeout=5) as client,
    ):
        began = time.perf_counter()
        with pytest.raises(RateLimitError) as caught:
            await client.me()
        assert caught.value.retry_after == 30
        with pytest.raises(RequestTimeoutError):
            await client.with_options(total_timeout=0.02).me()
        assert time.perf_counter() - began < 1
        assert len(server.requests) == 1


async def test_one_whose_turn_does_not_come_again_gives_the_refusal_as_the_cause():
    bucket = TokenBucket(0.001, 1, adaptive=False)
    async with (
        RawServer(says(b"{}", 503)) as server,
        client_of(server.url, rate_limiter=bucket, total_timeout=0.05) as client,
    ):
        with pytest.raises(RequestTimeoutError) as caught:
            await client.me()
        assert isinstance(caught.value.__cause__, ServerError)


# Deleting twice.


@pytest.mark.parametrize("broken", ["500", "reset", "timeout", "cut body"])
async def test_404_to_a_delete_that_was_sent_before_is_success(broken):
    gone = says(b'{"message": "Not found"}', 404)
    timeout = 0.05 if broken == "timeout" else 5.0
    async with RawServer(in_turn(BREAKS[broken], gone)) as server, client_of(server.url, timeout=timeout) as client:
        assert await client.notebooks.delete("n1") is None
        assert server.count("DELETE") == 2


async def test_404_to_a_delete_that_aiohttp_sent_twice_by_itself_is_success():
    async def answer(exchange):
        if len(server.requests) == 1:
            await exchange.answer(STARTED, 202)
        elif exchange.received.connection == 0:
            exchange.reset()
        else:
            await exchange.answer(b"{}", 404)

    async with RawServer(answer) as server, client_of(server.url, retry=RetryPolicy(attempts=1)) as client:
        await client.runs.create("n1")
        assert await client.projects.delete("p1") is None
        assert client.stats().requests == 2
        assert [request.method for request in server.requests] == ["POST", "DELETE", "DELETE"]


async def test_404_to_a_delete_sent_once_is_an_error():
    async with RawServer(says(b"{}", 404)) as server, client_of(server.url) as client:
        with pytest.raises(NotFoundError):
            await client.projects.delete("p1")
        assert len(server.requests) == 1


# Pauses.


async def test_a_pause_asked_for_is_kept():
    async with (
        RawServer(in_turn(says(b"{}", 503, Retry_After="0.05"), says(ME))) as server,
        client_of(server.url) as client,
    ):
        began = time.perf_counter()
        await client.me()
        assert 0.05 <= time.perf_counter() - began < 0.5


@pytest.mark.parametrize("headers", [{"Retry_After": "0.05"}, {"RateLimit_Reset": "0.05"}])
async def test_429_pauses_all_callers_not_only_the_one(headers):
    when = []

    async def answer(exchange):
        when.append(time.perf_counter())
        await (says(b"{}", 429, **headers) if len(when) == 1 else says(ME))(exchange)

    async with RawServer(answer) as server, client_of(server.url) as client:
        first = asyncio.create_task(client.me())
        await asyncio.sleep(0.02)
        assert len(server.requests) == 1
        await asyncio.gather(first, *(client.me() for _ in range(5)))
        assert when[1] - when[0] >= 0.045
        assert len(when) == 7


async def test_a_date_to_retry_after_is_reckoned_on_the_servers_clock():
    past = {"Retry_After": "Sun, 01 Mar 2026 10:00:00 GMT", "Date": "Sun, 01 Mar 2026 10:00:00 GMT"}
    async with RawServer(in_turn(says(b"{}", 429, **past), says(ME))) as server, client_of(server.url) as client:
        began = time.perf_counter()
        await client.me()
        assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("broken", ["429", "503", "500", "reset"])
async def test_the_connection_and_the_slot_are_free_during_a_pause(broken):
    slow = RetryPolicy(attempts=3, initial=0.1, maximum=0.1)

    async def answer(exchange):
        if exchange.received.path == "/v2/me":
            await exchange.answer(ME)
        elif server.paths.count("/v2/slow") <= (2 if broken == "reset" else 1):  # aiohttp resends once by itself
            await BREAKS[broken](exchange)
        else:
            await exchange.answer(b"{}")

    async with (
        RawServer(answer) as server,
        client_of(server.url, retry=slow, max_connections=1, total_timeout=2.0) as client,
    ):
        paused = asyncio.create_task(client.request("GET", "/v2/slow"))
        await until(lambda: client._session.core._sleepers)
        assert (client.stats().slots, client.stats().connections) == (0, 0)
        await client.me()
        assert broken in {"429", "503"} or not paused.done()
        await paused


async def test_a_conflict_is_told_as_it_is():
    async with FakeDeepnote(projects=["p"]) as fake, client_of(fake.url, fake.token) as client:
        project = next(iter(fake.service.projects))
        await client.notebooks.create(project, name="twice")
        with pytest.raises(ConflictError, match="already exists"):
            await client.notebooks.create(project, name="twice")


# A kept connection that dies.


async def test_a_get_survives_a_kept_connection_that_the_server_closed():
    async with RawServer(says(ME)) as server, client_of(server.url) as client:
        await client.me()
        for _ in range(5):
            for task in list(server._tasks):
                task.cancel()
            await client.me()
        assert server.connections >= 2


@pytest.mark.parametrize("rounds", range(4))
async def test_a_start_on_a_kept_connection_that_the_server_closed_is_not_lost(rounds):
    runs = []

    async def answer(exchange):
        runs.append(exchange.received.body)
        await exchange.answer(STARTED, 202)
        exchange.writer.close()

    async with RawServer(answer) as server, client_of(server.url) as client:
        for expected in range(1, 8):
            try:
                await client.runs.create("n1")
            except OutcomeUnknownError:
                # The server may have taken it or not, and nobody sent it twice.
                assert len(runs) in {expected - 1, expected}
                runs[:] = [b""] * expected
            else:
                assert len(runs) == expected
            for _ in range(rounds):
                await asyncio.sleep(0)
        await settled(client)


async def test_a_start_does_not_take_a_connection_that_has_idled_for_long(monkeypatch):
    monkeypatch.setattr("deepnote_async.aiohttp_transport.IDLE_START", 0.02)
    async with RawServer(says(STARTED, 202)) as server, client_of(server.url) as client:
        await client.runs.create("n1")
        await client.runs.create("n1")
        await asyncio.sleep(0.04)
        await client.runs.create("n1")
        assert [request.connection for request in server.requests] == [0, 0, 1]


class Closing:
    """A transport that says it is closing; uvloop's own takes no attribute."""

    def __init__(self, transport):
        self._transport = transport

    def is_closing(self):
        return True

    def __getattr__(self, name):
        return getattr(self._transport, name)


async def test_a_first_write_on_a_closing_connection_counts_as_not_sent():
    """The hook has fired by then, but no byte can have left."""
    async with RawServer(says(STARTED, 202)) as server, client_of(server.url) as client:
        await client.runs.create("n1")
        starts = client._session.core.transport._starts.connector
        ((_, (connection, *_)),) = starts._conns.items()
        connection[0].transport = Closing(connection[0].transport)
        assert (await client.runs.create("n1")).run_id == "r1"
        assert len(server.requests) in {2, 3}
