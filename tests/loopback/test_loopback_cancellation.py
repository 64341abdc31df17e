"""Any await can be cancelled, and nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from loopback_servers import RawServer, client_of, serve_runs, settled, until

from deepnote_async import TokenBucket
from deepnote_async.testing import FakeDeepnote

STEPS = range(61)


async def cancelled_after(steps, call):
    """Cancel a call after so many rounds of the loop; True if it had not ended by then."""
    task = asyncio.create_task(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    open_still = task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return open_still


CALLS = {
    "me": lambda client: client.me(),
    "create": lambda client: client.runs.create("n1"),
    "delete": lambda client: client.projects.delete("p1"),
    "list": lambda client: client.request("GET", "/v2/projects"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_call_cancelled_at_any_await_leaves_nothing(call, caplog):
    async with RawServer(serve_runs) as server, client_of(server.url, max_connections=2) as client:
        cut = 0
        for steps in STEPS:
            cut += await cancelled_after(steps, call(client))
            await settled(client)
        assert cut > 5
        await asyncio.gather(*(call(client) for _ in range(4)))
        await settled(client)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_fresh_client_cancelled_at_any_await_leaves_nothing(call, caplog):
    async with RawServer(serve_runs) as server:
        for steps in STEPS:
            async with client_of(server.url) as client:
                await cancelled_after(steps, call(client))
            await settled(client)


async def test_a_call_with_an_asking_of_the_key_cancelled_at_any_await():
    async def provider():
        for _ in range(5):
            await asyncio.sleep(0)
        return "key"

    async with RawServer(serve_runs) as server, client_of(server.url, provider, max_connections=1) as client:
        for steps in STEPS:
            beside = asyncio.create_task(client.me())
            await cancelled_after(steps, client.runs.create("n1"))
            await beside
            await settled(client)
        await client.me()


async def test_a_queued_call_cancelled_at_any_await_passes_its_turn_on():
    async with RawServer(serve_runs) as server:
        bucket = TokenBucket(2000.0, 1, adaptive=False)
        async with client_of(server.url, max_connections=1, rate_limiter=bucket) as client:
            for steps in STEPS:
                beside = [asyncio.create_task(client.me()) for _ in range(2)]
                await cancelled_after(steps, client.me())
                await asyncio.gather(*beside)
                await settled(client)


async def test_many_cancelled_in_one_round_with_one_that_stays():
    async with RawServer(serve_runs) as server, client_of(server.url, max_connections=1) as client:
        for steps in range(15):
            calls = [asyncio.create_task(client.me()) for _ in range(5)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls[:-1]:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert not calls[-1].cancelled()
            calls[-1].result()
            await settled(client)


class OneByOne:
    """A limiter of the user's, which cannot take a token back."""

    async def acquire(self):
        await asyncio.sleep(0)

    def answered(self, status, headers):
        pass


async def test_all_who_wait_may_be_cancelled_as_the_limiter_grants():
    async with RawServer(serve_runs) as server, client_of(server.url, rate_limiter=OneByOne()) as client:
        for steps in range(12):
            calls = [asyncio.create_task(client.me()) for _ in range(3)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await settled(client)
        assert (await client.me()).user == {"id": "u"}


async def test_cancelled_and_closed_in_one_round():
    async with RawServer(serve_runs) as server:
        client = await client_of(server.url, rate_limiter=TokenBucket(0.001, 1, adaptive=False)).__aenter__()
        await client.me()
        calls = [asyncio.create_task(client.me()) for _ in range(3)]
        await asyncio.sleep(0)
        calls[0].cancel()
        await client.aclose()
        await asyncio.gather(*calls, return_exceptions=True)
        assert client.stats().waiters == 0


async def test_a_download_cancelled_at_any_await_leaves_no_file(tmp_path):
    async with FakeDeepnote(notebooks=["n"], time_scale=1000) as fake, client_of(fake.url, fake.token) as client:
        run = fake.service.add_run(fake.notebook("n"), length=0.0)
        await asyncio.sleep(0.01)
        known = await client.runs.get(run.id)
        whole = await client.runs.download_snapshot(known)
        place = tmp_path / "x.deepnote"
        for steps in range(0, 61, 2):
            await cancelled_after(steps, client.runs.download_snapshot(known, to=place))
            await settled(client)
            # What a thread had opened by then is removed a round later.
            await until(lambda: not list(tmp_path.glob("*.part")))
            assert [path.read_text() for path in tmp_path.iterdir()] in ([], [whole])
            place.unlink(missing_ok=True)


async def test_the_deadline_of_a_caller_is_not_taken_for_ours():
    async with RawServer(lambda exchange: exchange.hang()) as server, client_of(server.url) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.02):
                await client.me()
        assert type(caught.value) is TimeoutError
        await settled(client)
