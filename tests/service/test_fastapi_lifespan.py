"""One client for the process: its life, its dependency, tenants, and shutdown within the grace period."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Header
from service_kit import ask

from deepnote_async import ClientClosedError, ConfigurationError, DeepnoteClient
from deepnote_async.fastapi import DeepnoteDep, deepnote_for, deepnote_lifespan, get_deepnote
from deepnote_async.testing import VirtualDeepnote


def app_with(lifespan) -> FastAPI:
    app = FastAPI(lifespan=lifespan)

    @app.get("/me")
    async def me(client: DeepnoteDep):
        return {"level": (await client.me()).access_level}

    return app


def in_virtual_time(fake: VirtualDeepnote, main):
    async def without_client(_):
        return await main()

    return fake.run(without_client)


def test_the_client_lives_as_long_as_the_app(virtual_deepnote):
    app = app_with(deepnote_lifespan(client=virtual_deepnote.client))

    async def main():
        async with app.router.lifespan_context(app):
            client = app.state.deepnote
            assert (await ask(app, "GET", "/me")).json == {"level": "admin"}
        with pytest.raises(ClientClosedError):
            await client.me()
        assert not hasattr(app.state, "deepnote")

    in_virtual_time(virtual_deepnote, main)


def test_the_apps_own_lifespan_runs_within_and_its_state_is_kept(virtual_deepnote):
    heard = []

    @asynccontextmanager
    async def own(app):
        heard.append((await app.state.deepnote.me()).access_level)
        yield {"mine": 1}
        heard.append((await app.state.deepnote.me()).access_level)

    app = app_with(deepnote_lifespan(own, client=virtual_deepnote.client))

    async def main():
        async with app.router.lifespan_context(app) as state:
            assert state["mine"] == 1
            assert state["deepnote"] is app.state.deepnote

    in_virtual_time(virtual_deepnote, main)
    assert heard == ["admin", "admin"]


def test_it_can_be_called_from_the_apps_own_lifespan(virtual_deepnote):
    @asynccontextmanager
    async def own(app):
        async with deepnote_lifespan(client=virtual_deepnote.client)(app):
            yield

    app = app_with(own)

    async def main():
        async with app.router.lifespan_context(app):
            assert (await ask(app, "GET", "/me")).status == 200

    in_virtual_time(virtual_deepnote, main)


def test_a_mounted_app_finds_the_client_too(virtual_deepnote):
    outer = FastAPI(lifespan=deepnote_lifespan(client=virtual_deepnote.client))
    outer.mount("/inner", app_with(None))

    async def main():
        async with outer.router.lifespan_context(outer) as state:
            assert (await ask(outer, "GET", "/inner/me", state=state)).status == 200

    in_virtual_time(virtual_deepnote, main)


async def test_without_the_lifespan_the_error_says_what_to_write():
    with pytest.raises(ConfigurationError, match=r"lifespan=deepnote_lifespan\(\)"):
        await ask(app_with(None), "GET", "/me")


async def test_a_test_puts_its_own_client_in(fake_deepnote, deepnote_client):
    app = app_with(None)
    app.dependency_overrides[get_deepnote] = lambda: deepnote_client
    assert (await ask(app, "GET", "/me")).status == 200
    assert [call.path for call in fake_deepnote.calls] == ["/v2/me"]


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf")])
async def test_a_grace_that_cannot_be_is_refused(grace, fake_deepnote):
    app = app_with(deepnote_lifespan(client=fake_deepnote.client, grace=grace))
    with pytest.raises(ConfigurationError, match="grace"):
        async with app.router.lifespan_context(app):
            pass


def tenants_app() -> FastAPI:
    async def key(x_key: Annotated[str, Header()]) -> str:
        return x_key

    tenant = Annotated[DeepnoteClient, Depends(deepnote_for(key))]
    app = FastAPI()

    async def seen(client: tenant):
        await client.me()
        return {"view": id(client)}

    seen.__annotations__["client"] = tenant  # a local name, which a text could not name
    app.get("/")(seen)
    return app


async def test_each_tenant_has_a_view_of_its_own_for_all_requests(fake_deepnote, deepnote_client):
    fake_deepnote.service.add_token("a")
    fake_deepnote.service.add_token("b")
    app = tenants_app()
    app.dependency_overrides[get_deepnote] = lambda: deepnote_client
    views = [(await ask(app, "GET", "/", headers={"x-key": key})).json["view"] for key in "abab"]
    assert views[:2] == views[2:]
    assert len({*views, id(deepnote_client)}) == 3
    hints = [call.token for call in fake_deepnote.calls]
    assert hints[:2] == hints[2:]
    assert len(set(hints)) == 2


async def test_views_of_tenants_are_bounded(fake_deepnote, deepnote_client, monkeypatch):
    monkeypatch.setattr("deepnote_async.fastapi.VIEWS", 2)
    view_for = deepnote_for(lambda: "")
    first = await view_for(deepnote_client, "a")
    assert await view_for(deepnote_client, "a") is first
    for key in "bc":
        await view_for(deepnote_client, key)
    assert await view_for(deepnote_client, "a") is not first


async def test_the_grace_period_begins_when_the_app_fails_too(fake_deepnote):
    """The app's own lifespan waits for a run that only the closing ends."""
    fake_deepnote.notebook("report").stalls()

    @asynccontextmanager
    async def own(app):
        run_id = run_of(fake_deepnote, 1e6)
        waiting = asyncio.create_task(app.state.deepnote.await_run(run_id))
        try:
            yield
        finally:
            await asyncio.wait([waiting])
            assert isinstance(waiting.exception(), ClientClosedError)

    app = app_with(deepnote_lifespan(own, client=fake_deepnote.client, grace=0.2))
    with pytest.raises(KeyError, match="mine"):
        async with app.router.lifespan_context(app):
            raise KeyError("mine")


def run_of(fake: VirtualDeepnote, after: float) -> str:
    return fake.service.add_run(fake.notebook("report"), length=after).id


async def shut_down_with_a_wait(fake, after, grace, trigger):
    """Await a run in the background of an app that is shut down; how long that took, and what the wait got."""
    app = app_with(deepnote_lifespan(client=fake.client, grace=grace))
    loop = asyncio.get_running_loop()
    async with app.router.lifespan_context(app):
        waiting = asyncio.create_task(app.state.deepnote.await_run(run_of(fake, after)))
        await asyncio.sleep(1)
        began = loop.time()
        await trigger(waiting)
    took = loop.time() - began
    return took, (await asyncio.gather(waiting, return_exceptions=True))[0]


async def leave(waiting):
    pass


def test_a_wait_that_ends_within_the_grace_period_is_let_end(virtual_deepnote):
    async def main():
        return await shut_down_with_a_wait(virtual_deepnote, 5, 60, leave)

    took, run = in_virtual_time(virtual_deepnote, main)
    assert run.succeeded
    assert took < 10


def test_a_longer_wait_is_ended_within_it(virtual_deepnote):
    async def main():
        return await shut_down_with_a_wait(virtual_deepnote, 3600, 20, leave)

    took, error = in_virtual_time(virtual_deepnote, main)
    assert isinstance(error, ClientClosedError)
    assert took <= 20


def test_without_a_wait_nothing_is_waited_for(virtual_deepnote):
    async def main():
        app = app_with(deepnote_lifespan(client=virtual_deepnote.client, grace=60))
        async with app.router.lifespan_context(app):
            pass

    in_virtual_time(virtual_deepnote, main)
    assert virtual_deepnote.seconds < 0.1


def test_the_grace_period_begins_with_the_servers_signal(virtual_deepnote):
    """A server tells the lifespan only after its last request, which here waits for what only the closing ends."""
    heard = []
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    mine = signal.getsignal(signal.SIGTERM)

    async def requests_end_first(waiting):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait([waiting])

    async def main():
        return await shut_down_with_a_wait(virtual_deepnote, 3600, 20, requests_end_first)

    try:
        took, error = in_virtual_time(virtual_deepnote, main)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, earlier)
    assert isinstance(error, ClientClosedError)
    assert took <= 20
    assert heard == [signal.SIGTERM]
