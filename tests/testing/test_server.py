"""The model behind real sockets."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import aiohttp
import attrs
import pytest
from yarl import URL

from deepnote_async import DeepnoteClient, PollPolicy
from deepnote_async.testing import FakeDeepnote, FakeProcess, Fault, Service, ServiceOptions, SlidingLimit


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


def auth(fake):
    return {"Authorization": f"Bearer {fake.token}"}


async def get(session, fake, path, **more):
    async with session.get(URL(fake.url + path, encoded=True), headers=auth(fake), **more) as answer:
        return answer.status, await answer.json(content_type=None)


async def start(session, fake, notebook_id):
    async with session.post(f"{fake.url}/v2/runs", json={"notebookId": notebook_id}, headers=auth(fake)) as answer:
        return (await answer.json())["runId"]


async def test_a_run_from_its_start_to_its_snapshot(session):
    async with FakeDeepnote(time_scale=1000, notebooks=["report"], projects=["Sales"]) as fake:
        notebook = fake.notebook("report").succeeds(after=20)
        assert fake.service.projects[notebook.project_id].name == "Sales"
        run_id = await start(session, fake, notebook.id)
        assert (await get(session, fake, f"/v2/runs/{run_id}"))[1]["run"]["status"] != "success"
        await asyncio.sleep(0.03)
        run = (await get(session, fake, f"/v2/runs/{run_id}"))[1]["run"]
        assert run["status"] == "success"
        link = run["snapshotDownloadUrl"]
        assert urlsplit(link).port != urlsplit(fake.url).port
        async with session.get(link) as answer:
            assert "snapshotHash" in await answer.text()
        (call,) = fake.service.storage.calls
        assert "Authorization" not in call.headers
        (told,) = fake.stats()["runs"]
        assert told["ended"] - told["created"] == pytest.approx(0.02, abs=1e-4)
        assert abs(told["created"] - time.time()) < 5


async def test_raw_paths_are_kept(session):
    async with FakeDeepnote() as fake:
        await get(session, fake, "/v2/notebooks/a%2F..%2Fb%3F/runs?pageToken=%20")
        assert fake.raw_paths == ["/v2/notebooks/a%2F..%2Fb%3F/runs"]
        assert fake.calls[0].query == "pageToken=%20"


async def test_limits_are_in_real_seconds(session):
    async with FakeDeepnote(time_scale=1e6, limit=SlidingLimit(0.5)) as fake:
        assert (await get(session, fake, "/v2/me"))[0] == 200
        async with session.get(f"{fake.url}/v2/me", headers=auth(fake)) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "2")


@pytest.mark.parametrize(("kind", "done"), [("refuse", 0), ("drop_before", 0), ("drop_after", 1), ("truncated", 1)])
async def test_broken_connections(session, kind, done):
    async with FakeDeepnote(faults=[Fault(kind, methods={"POST"})], notebooks=["n"]) as fake:
        with pytest.raises(aiohttp.ClientError):
            await start(session, fake, fake.notebook("n").id)
        assert len(fake.notebook("n").runs) == done
        assert (await get(session, fake, "/v2/me"))[0] == 200


async def test_a_hang_ends_with_the_client_or_the_server(session):
    async with FakeDeepnote(faults=[Fault("hang")]) as fake:
        with pytest.raises(TimeoutError):
            await get(session, fake, "/v2/me", timeout=aiohttp.ClientTimeout(total=0.05))
        hanging = asyncio.create_task(get(session, fake, "/v2/me"))
        await asyncio.sleep(0.05)
    with pytest.raises(aiohttp.ClientError):
        await hanging


async def test_delay_and_latency(session):
    async with FakeDeepnote(faults=[Fault("delay", seconds=0.05)], latency=0.03) as fake:
        began = time.perf_counter()
        assert (await get(session, fake, "/v2/me"))[0] == 200
        assert time.perf_counter() - began > 0.079


async def test_while_it_is_down_connections_are_refused(session):
    async with FakeDeepnote() as fake:
        url = fake.url
        assert (await get(session, fake, "/v2/me"))[0] == 200
        async with fake.down(), aiohttp.ClientSession() as fresh:
            with pytest.raises(aiohttp.ClientConnectorError):
                await get(fresh, fake, "/v2/me")
        assert fake.url == url
        async with aiohttp.ClientSession() as fresh:
            assert (await get(fresh, fake, "/v2/me"))[0] == 200


async def test_hundreds_of_requests_a_second(session):
    async with FakeDeepnote(notebooks=["n"]) as fake:
        notebook = fake.notebook("n")
        began = time.perf_counter()
        ids = await asyncio.gather(*(start(session, fake, notebook.id) for _ in range(300)))
        assert time.perf_counter() - began < 10  # about 0.15 s when nothing else runs
        assert len(set(ids)) == 300 == len(notebook.runs) == fake.service.count(status=202)


async def test_an_unused_one_needs_no_loop_and_ends_twice():
    fake = FakeDeepnote()
    fake.notebook("n").succeeds(after=1)
    await fake.__aexit__(None, None, None)
    with pytest.raises(RuntimeError):
        async with fake.down():
            pass


def test_its_options_are_those_of_the_service():
    hidden = {"clock", "limit_clock"}
    fields = {field.name for field in attrs.fields(Service) if field.init}
    assert fields - hidden == set(ServiceOptions.__annotations__)


async def test_a_process_of_its_own(session):
    async with FakeProcess(notebooks=2, median=5, sigma=0, time_scale=1000, limit_rate=0.01, limit_burst=3) as fake:
        assert len(fake.notebooks) == 2
        await start(session, fake, fake.notebooks[0])
        statuses = [(await get(session, fake, "/v2/me"))[0] for _ in range(3)]
        stats = await fake.stats(calls=True)
        await fake.outage(0, 1e9, kind="html")
        assert (await get_status(session, fake)) == 503
    assert statuses == [200, 200, 429]
    assert stats["by_status"] == {"202": 1, "200": 2, "429": 1}
    assert stats["calls"][0]["run_id"] == stats["runs"][0]["id"]
    assert stats["runs"][0]["ended"] - stats["runs"][0]["created"] == pytest.approx(0.005, abs=1e-4)
    with pytest.raises(aiohttp.ClientConnectorError):
        await get_status(session, fake)


async def test_a_process_with_runs_of_others(session):
    options = {"runs": 3, "runs_span": 30, "median": 1e6, "sigma": 0, "order": "oldest", "startup": 0}
    async with FakeProcess(notebooks=2, **options) as fake:
        runs = (await fake.stats())["runs"]
        mine = [run["id"] for run in runs if run["notebook_id"] == fake.notebooks[0]]
        listed = (await get(session, fake, f"/v2/notebooks/{fake.notebooks[0]}/runs"))[1]["runs"]
    assert (len(runs), [row["runId"] for row in listed]) == (6, mine)
    assert {row["status"] for row in listed} == {"running"}
    assert runs[2]["created"] - runs[0]["created"] == pytest.approx(20, abs=0.01)


async def test_a_process_that_refuses_listings(session):
    async with FakeProcess(listing_status=403) as fake:
        assert (await get(session, fake, f"/v2/notebooks/{fake.notebooks[0]}/runs"))[0] == 403
        assert (await get(session, fake, "/v2/me"))[0] == 200


async def get_status(session, fake):
    async with session.get(f"{fake.url}/v2/me", headers=auth(fake)) as answer:
        return answer.status


async def test_a_process_that_cannot_start():
    with pytest.raises(RuntimeError):
        async with FakeProcess(dialect="none"):
            pass


async def test_a_service_whose_clock_runs_fast_is_awaited_at_the_callers_pace():
    poll = PollPolicy(initial=0.05, jitter=0.0)
    async with (
        FakeDeepnote(time_scale=50, snapshot_delay=0.0) as fake,
        DeepnoteClient(fake.token, base_url=fake.url, poll=poll) as client,
    ):
        notebook = fake.notebook("n").succeeds(after=10)  # a fifth of a second
        began = time.monotonic()
        run = await client.run(notebook.id)
        # Going by the service's clock, ten seconds old, it would be left alone for seconds.
        assert time.monotonic() - began < 0.6
        assert run.duration.total_seconds() == pytest.approx(10, abs=0.1)
