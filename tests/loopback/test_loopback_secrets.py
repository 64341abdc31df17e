"""The key and signed links: in no repr, text, log, pickle, exception or frame of ours."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import sys
import traceback

import pytest
from loopback_servers import (
    STARTED,
    TOKEN,
    RawServer,
    client_of,
    closed_port,
    hangs,
    resets,
    says,
)

import deepnote_async
from deepnote_async import DeepnoteClient, DeepnoteError, PollPolicy, Run
from deepnote_async.credentials import Secret

SIGNED = "/snapshots/r1-hidden-path?X-Signature=hidden-signature"
HIDDEN = (TOKEN, "hidden-path", "hidden-signature")
OURS = deepnote_async.__path__[0]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    yield
    told = [record.getMessage() + repr(record.args) + str(record.exc_text) for record in caplog.records]
    assert not [text for text in told if any(hidden in text for hidden in HIDDEN)]


def all_of(error):
    """An error with every other one that hangs on it, suppressed or not."""
    found, left = [], [error]
    while left:
        one = left.pop()
        if one is None or any(one is other for other in found):
            continue
        found.append(one)
        left += [one.__cause__, one.__context__, getattr(one, "cause", None), *getattr(one, "exceptions", ())]
    return found


def what_it_shows(error):
    """All that a log, a crash report or a pickle would show of an error."""
    for one in all_of(error):
        yield from (str(one), repr(one), repr(one.args), repr(vars(one)))
        yield from (repr(dict(value)) for value in vars(one).values() if hasattr(value, "items"))
        report = traceback.TracebackException.from_exception(one, capture_locals=True, compact=False)
        for frame in report.stack:
            # Arguments of a test's own frame are the user's.
            if frame.filename.startswith(OURS):
                yield repr(frame.locals)
    if isinstance(error, DeepnoteError):
        yield repr(pickle.dumps(error))
        yield repr(vars(copy.copy(error)))


def hides(error):
    shown = list(what_it_shows(error))
    for hidden in HIDDEN:
        assert not [text[:2000] for text in shown if hidden in text]


def echo(status, kind="json"):
    """A service that gives back what it was asked with."""

    async def answer(exchange):
        said = exchange.received.headers["Authorization"]
        body = {"message": f"bad {said}", "snapshotDownloadUrl": f"http://x{SIGNED}"}
        headers = {"Retry-After": "0.001", "WWW-Authenticate": said, "Location": f"http://x{SIGNED}"}
        await exchange.answer(json.dumps(body).encode() if kind == "json" else said.encode(), status, headers)

    return answer


def unreadable(**fields):
    body = {"run": {"runId": "r1", "status": 7, "snapshotDownloadUrl": f"http://x{SIGNED}"} | fields}
    return says(json.dumps(body).encode())


async def garbage(exchange):
    await exchange.raw(b"HTTP/9 nonsense " + exchange.received.headers.get("Authorization", "").encode() + b"\r\n\r\n")
    exchange.writer.close()


FAILURES = {
    **{f"echo {status}": echo(status) for status in (302, 400, 401, 403, 404, 429, 500, 503)},
    **{f"text {status}": echo(status, "text") for status in (200, 400, 500)},
    "reset": resets,
    "garbage": garbage,
    "hang": hangs,
    "unreadable": unreadable(),
    "cut": says(json.dumps({"run": {"snapshotDownloadUrl": "http://x" + SIGNED}}).encode()[:-4]),
    "too large": unreadable(snapshotContent="x" * 100_000),
    "large and cut": unreadable(a="x" * (2**16 - 130)),
}
CALLS = {
    "get": lambda client: client.runs.get("r1"),
    "create": lambda client: client.runs.create("n1"),
    "delete": lambda client: client.projects.delete("p1"),
    "request": lambda client: client.request("POST", "/v2/x", json={}),
    "await_run": lambda client: client.await_run("r1", timeout=0.05),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_no_error_shows_a_secret(failure, call):
    async with (
        RawServer(failure) as server,
        client_of(server.url, timeout=0.03, max_response_bytes=90_000, total_timeout=0.5) as client,
    ):
        try:
            await call(client)
        except DeepnoteError as error:
            hides(error)


@pytest.mark.parametrize("provided", [False, True])
async def test_no_error_shows_the_key_where_nobody_listens(provided):
    async with closed_port() as url, client_of(url, (lambda: TOKEN) if provided else TOKEN) as client:
        for call in (client.me(), client.runs.create("n1")):
            with pytest.raises(DeepnoteError) as caught:
                await call
            hides(caught.value)


LINK_FAILURES = {
    "reset": resets,
    "garbage": garbage,
    "hang": hangs,
    "refused": says(f"<Error>{SIGNED}</Error>".encode(), 403, Location=f"http://x{SIGNED}"),
    "failing": says(f'{{"message": "{SIGNED}"}}'.encode(), 500),
    "too large": says(b"x" * 200_000),
    "cut": says(b"{}", 200, Content_Length="9", close=True),
}


@pytest.mark.parametrize("to", [None, "file"])
@pytest.mark.parametrize("origin", ["own", "foreign", "none", "https", "no url", "bad host"])
@pytest.mark.parametrize("failure", LINK_FAILURES.values(), ids=LINK_FAILURES)
async def test_no_error_of_a_download_shows_its_link(tmp_path, failure, origin, to):
    fresh = says(
        json.dumps({"run": {"runId": "r1", "status": "success", "snapshotDownloadUrl": f"/2{SIGNED}"}}).encode()
    )

    async def answer(exchange):
        await (fresh if exchange.received.path == "/v2/runs/r1" else failure)(exchange)

    async with RawServer(answer) as api, RawServer(failure) as other, closed_port() as nobody:
        links = {
            "own": SIGNED,
            "foreign": other.url + SIGNED,
            "none": nobody + SIGNED,
            "https": other.url.replace("http:", "https:") + SIGNED,
            "no url": f"http://[{SIGNED}",
            "bad host": f"http:///{SIGNED}",
        }
        run = Run(run_id="r1", status="success", snapshot_download_url=links[origin])
        async with client_of(api.url, timeout=0.02, max_response_bytes=90_000) as client:
            try:
                await client.runs.download_snapshot(run, to=None if to is None else tmp_path / to)
            except DeepnoteError as error:
                hides(error)


async def test_a_run_shows_its_link_to_who_asks_by_name_only():
    told = {"runId": "r1", "status": "success", "snapshotDownloadUrl": f"http://x{SIGNED}"}
    nested = {"runId": "r1", "status": "success", "snapshot": {"downloadUrl": f"http://x{SIGNED}"}}
    for body in (told, nested):
        async with RawServer(says(json.dumps({"run": body}).encode())) as server, client_of(server.url) as client:
            run = await client.runs.get("r1")
        assert run.snapshot_download_url == f"http://x{SIGNED}"
        for shown in (repr(run), str(run), f"{run}", repr(pickle.dumps(run)), repr(run.extra)):
            assert "hidden" not in shown
        assert pickle.loads(pickle.dumps(run)).snapshot_download_url is None


async def test_the_client_shows_no_secret():
    seen, left = set(), []
    async with RawServer(says(b"{}")) as server:
        proxy = f"http://user:{TOKEN}@127.0.0.1:1"
        async with client_of(server.url, proxy=proxy) as client, client_of(server.url) as direct:
            await direct.me()
            left += [client, direct, direct.with_options(token=TOKEN)]
            while left:
                one = left.pop()
                if id(one) in seen or isinstance(one, Secret | type | asyncio.AbstractEventLoop):
                    continue
                seen.add(id(one))
                assert TOKEN not in repr(one)
                if type(one).__module__.startswith("deepnote_async"):
                    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
                    left += [getattr(one, name, None) for name in slots if not name.startswith("__")]
                    left += vars(one).values() if hasattr(one, "__dict__") else ()
    assert len(seen) > 30
    with pytest.raises(TypeError):
        pickle.dumps(Secret(TOKEN))


@pytest.mark.parametrize("bad", ["", "two words", "žluť", "line\nbreak"])
def test_a_token_that_cannot_be_is_refused_unseen(bad):
    with pytest.raises(DeepnoteError) as caught:
        DeepnoteClient(bad + TOKEN + bad if bad else "")
    hides(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": f"https://{TOKEN}:{TOKEN}@api.deepnote.com"},
        {"base_url": "https://api.deepnote.com", "max_connections": 0},
        {"base_url": "http://api.deepnote.com"},
        {"timeout": -1},
    ],
)
def test_options_that_cannot_be_are_refused_with_the_token_unseen(options):
    with pytest.raises(DeepnoteError) as caught:
        DeepnoteClient(TOKEN, **options)
    if "@" not in str(options):
        hides(caught.value)
    assert TOKEN not in str(caught.value)


async def failing_late():
    await asyncio.sleep(0)
    raise RuntimeError(f"no key like {TOKEN}")


def failing():
    raise RuntimeError


@pytest.mark.parametrize("provider", [failing, lambda: f"{TOKEN} {TOKEN}", lambda: 7, lambda: ""])
async def test_a_provider_that_fails_shows_no_key(provider):
    async with RawServer(says(b"{}")) as server, client_of(server.url, provider) as client:
        for call in (client.me(), client.runs.create("n1")):
            with pytest.raises(DeepnoteError) as caught:
                await call
            hides(caught.value)
        assert server.requests == []


async def test_a_failing_provider_is_told_without_what_it_said():
    async with RawServer(says(b"{}")) as server, client_of(server.url, failing_late) as client:
        with pytest.raises(DeepnoteError, match="RuntimeError") as caught:
            await client.me()
        assert TOKEN not in str(caught.value)


async def test_a_start_that_breaks_after_its_caller_left_is_logged_without_secrets(caplog):
    for failure in (echo(500), echo(400), resets, says(STARTED, 202)):
        async with RawServer(failure) as server, client_of(server.url) as client:
            start = asyncio.create_task(client.runs.create("n1"))
            while not server.requests:  # noqa: ASYNC110 - the server's, which sets no event
                await asyncio.sleep(0)
            start.cancel()
            await asyncio.wait([start])


def test_the_frames_that_are_looked_into_are_ours():
    assert sys.modules["deepnote_async.session"].__file__.startswith(OURS)


async def test_the_watcher_shows_no_link_either():
    answer = says(json.dumps({"run": {"runId": "r1", "status": "success", "snapshotDownloadUrl": SIGNED}}).encode())
    async with RawServer(answer) as server, client_of(server.url, poll=PollPolicy(initial=0.01)) as client:
        run = await client.await_run("r1", snapshot="downloadUrl", timeout=1)
        assert run.snapshot_download_url == SIGNED
