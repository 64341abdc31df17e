"""The example over real HTTP, served by uvicorn; and its endpoints in virtual time, as its owner would test them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from reports_app import create_app
from service_kit import ask, served, until

from deepnote_async.testing import VirtualDeepnote

pytestmark = pytest.mark.slow

BUSY = ("listeners", "watched_runs", "tasks", "connections")


@asynccontextmanager
async def on_fake(fake, *arguments: str) -> AsyncIterator[tuple]:
    notebook = fake.notebook("report")
    environment = {"DEEPNOTE_TOKEN": fake.token, "DEEPNOTE_BASE_URL": fake.url}
    async with served(notebook.id, *arguments, **environment) as app, aiohttp.ClientSession(app.url) as session:
        yield app, session


async def start(session, **order) -> dict:
    body = {"regions": ["EU", "US"], "months": 3} | order
    async with session.post("/batches", json=body) as answer:
        assert answer.status == 202, await answer.text()
        standing = await answer.json()
        assert answer.headers["Location"] == f"/batches/{standing['id']}"
        return standing


async def read(session, path):
    async with session.get(path) as answer:
        return answer.status, await answer.json()


async def events(session, batch_id, after=0) -> list[tuple[str, dict]]:
    headers = {"Last-Event-ID": str(after)} if after else {}
    async with session.get(f"/batches/{batch_id}/events", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        text = (await answer.read()).decode()
    fields = [dict(line.split(": ", 1) for line in event.splitlines()) for event in text.split("\n\n") if event]
    return [(field["event"], json.loads(field["data"])) for field in fields if "event" in field]


async def health(session) -> dict:
    return (await read(session, "/health"))[1]


async def idle(session) -> dict:
    """The app's own figures, once nothing is left of what went before."""
    return await until(lambda: health(session), lambda now: not any(now[key] for key in BUSY))


async def test_a_batch_from_its_start_to_its_end(fake_deepnote):
    fake_deepnote.notebook("report").fails("NameError: x", after=5, times=1).succeeds(after=5)
    async with on_fake(fake_deepnote) as (_, session):
        standing = await start(session)
        assert (standing["total"], standing["over"]) == (6, False)
        heard = await events(session, standing["id"])
        assert heard[0] == ("plan", [{"region": r, "month": m} for r in ("EU", "US") for m in ("1", "2", "3")])
        runs = [data for kind, data in heard if kind == "run"]
        assert sorted(run["index"] for run in runs) == list(range(6))
        assert [run["error"] for run in runs if not run["ok"]] == ["NameError: x"]
        kind, last = heard[-1]
        assert kind == "standing"
        assert (last["over"], last["succeeded"], last["failed"]) == (True, 5, 1)
        assert await read(session, f"/batches/{standing['id']}") == (200, last)


async def test_a_listener_that_returns_misses_and_repeats_nothing(fake_deepnote):
    fake_deepnote.notebook("report").succeeds(after=5)
    async with on_fake(fake_deepnote) as (_, session):
        batch_id = (await start(session))["id"]
        whole = [event for event in await events(session, batch_id) if event[0] != "standing"]
        rest = [event for event in await events(session, batch_id, after=3) if event[0] != "standing"]
        assert rest == whole[3:]


async def test_what_is_not_there_or_makes_no_sense_is_refused(fake_deepnote):
    async with on_fake(fake_deepnote) as (_, session):
        assert (await read(session, "/batches/none"))[0] == 404
        assert (await read(session, "/batches/none/events"))[0] == 404
        for order in ({"months": 0}, {"regions": []}, {"regions": [""]}, {"months": "x"}):
            async with session.post("/batches", json={"regions": ["EU"], "months": 1} | order) as answer:
                assert answer.status == 422


async def test_the_page_takes_nothing_from_elsewhere(fake_deepnote):
    async with on_fake(fake_deepnote) as (_, session):
        async with session.get("/") as answer:
            page = await answer.text()
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "//" not in page
        for name in ("board.css", "board.js"):
            async with session.get(f"/page/{name}") as answer:
                assert answer.status == 200
                assert "http" not in await answer.text()


async def test_listeners_that_hang_up_leave_nothing_behind(fake_deepnote):
    fake_deepnote.notebook("report").succeeds(after=30)
    async with on_fake(fake_deepnote) as (app, session):
        before = await idle(session)
        batch_id = (await start(session))["id"]
        async with aiohttp.ClientSession(app.url) as others:
            answers = [await others.get(f"/batches/{batch_id}/events") for _ in range(20)]
            for answer in answers:
                await answer.content.readline()
            assert (await read(session, "/health"))[1]["listeners"] == 20
            for answer in answers:
                answer.close()
        await until(lambda: health(session), lambda now: not now["listeners"], patience=3)
        await events(session, batch_id)
        assert (await idle(session))["loop_tasks"] <= before["loop_tasks"] + 1


@pytest.mark.parametrize("endpoint", ["events", "report"])
async def test_sigterm_ends_streams_and_waits_within_the_grace_period(fake_deepnote, endpoint):
    fake_deepnote.notebook("report").stalls()
    loop = asyncio.get_running_loop()
    async with on_fake(fake_deepnote, "--grace", "1.5") as (app, session):
        if endpoint == "events":
            waiting = asyncio.create_task(events(session, (await start(session))["id"]))
        else:
            waiting = asyncio.create_task(session.post("/reports/EU"))
        await until(lambda: health(session), lambda now: now["watched_runs"])
        began = loop.time()
        await app.terminate()
        assert loop.time() - began < 1.5
        answer = await waiting
        if endpoint == "events":
            assert answer[-1][1]["stopped"]
        else:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


def in_the_app(fake: VirtualDeepnote, main, **options):
    """Run ``main(app)`` in virtual time, with the app entered; the client is made by the app itself."""

    async def entered(_):
        app = create_app(fake.notebook("report").id, client=fake.client, **options)
        async with app.router.lifespan_context(app):
            return await main(app)

    return fake.run(entered)


def test_a_report_of_ten_minutes(virtual_deepnote):
    virtual_deepnote.notebook("report").succeeds(after=600)
    answer = in_the_app(virtual_deepnote, lambda app: ask(app, "POST", "/reports/EU"))
    assert (answer.status, answer.json["seconds"]) == (200, 600)


def test_a_report_that_fails_or_is_late(virtual_deepnote):
    virtual_deepnote.notebook("report").fails("NameError: x", after=5, times=1).stalls()

    async def main(app):
        return await ask(app, "POST", "/reports/EU"), await ask(app, "POST", "/reports/EU")

    failed, late = in_the_app(virtual_deepnote, main)
    assert (failed.status, failed.json["error"]) == (502, "RunFailedError")
    assert (late.status, late.json["error"]) == (504, "RunTimeoutError")
    assert late.json["run_id"] in virtual_deepnote.service.runs


def test_a_report_while_deepnote_is_busy(virtual_deepnote):
    virtual_deepnote.refuse(100, retry_after=30)
    answer = in_the_app(virtual_deepnote, lambda app: ask(app, "POST", "/reports/EU"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")


def test_a_batch_through_an_outage_of_half_an_hour(virtual_deepnote):
    virtual_deepnote.notebook("report").succeeds(after=60)

    async def main(app):
        batch_id = (await ask(app, "POST", "/batches", {"regions": ["EU"], "months": 12})).json["id"]
        await asyncio.sleep(30)
        virtual_deepnote.outage(1800)
        await ask(app, "GET", f"/batches/{batch_id}/events")
        return (await ask(app, "GET", f"/batches/{batch_id}")).json

    standing = in_the_app(virtual_deepnote, main)
    assert (standing["succeeded"], standing["over"]) == (12, True)
    assert len(virtual_deepnote.service.runs) == 12
