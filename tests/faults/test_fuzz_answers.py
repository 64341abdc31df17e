"""Whatever an answer holds, it gives a model or a DecodeError, soon and in little memory."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import time
import tracemalloc

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_servers import RawServer, client_of, freely, says
from virtual_world import world

from deepnote_async import (
    ApiError,
    DecodeError,
    DeepnoteClient,
    DeepnoteError,
    OutcomeUnknownError,
    PaginationError,
    RetryPolicy,
    Run,
    RunTimeoutError,
    wire,
)
from deepnote_async.testing import run_virtual
from deepnote_async.transport import HttpResponse

pytestmark = pytest.mark.slow

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    LEAVES | st.sampled_from(["success", "running", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
RUN = {
    "runId": "r1",
    "notebookId": "n1",
    "status": "success",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "completedAt": "2026-01-01T00:01:00.000Z",
    "error": {"message": "m"},
    "snapshot": {"downloadUrl": "https://x/y?sig=1", "snapshotStatus": "available"},
    "snapshotBlocks": [{"id": "b", "outputs": [{}]}],
}
NOTEBOOK = {"id": "n1", "name": "n", "projectId": "p", "blocks": [{"id": "b"}], "inputs": [{"name": "i", "min": 1}]}
PROJECT = {"id": "p", "name": "p", "projectType": "standard", "folder": {"id": "f"}, "notebooks": [NOTEBOOK]}
PAGES = {"pagination": {"nextPageToken": None, "hasMore": False}}
CALLS = {
    "me": (lambda c: c.me(), {"user": {"id": "u"}, "accessLevel": "admin", "apiKey": {}}),
    "projects.list": (lambda c: c.projects.list().collect(limit=3), {"projects": [PROJECT], **PAGES}),
    "projects.get": (lambda c: c.projects.get("p"), {"project": PROJECT}),
    "projects.create": (lambda c: c.projects.create("p"), {"project": PROJECT}),
    "projects.delete": (lambda c: c.projects.delete("p"), {}),
    "notebooks.get": (lambda c: c.notebooks.get("n1"), {"notebook": NOTEBOOK}),
    "notebooks.create": (lambda c: c.notebooks.create("p"), {"notebook": NOTEBOOK}),
    "notebooks.delete": (lambda c: c.notebooks.delete("n1"), {}),
    "notebooks.list_runs": (lambda c: c.notebooks.list_runs("n1").collect(limit=3), {"runs": [RUN], **PAGES}),
    "notebooks.execute_v1": (lambda c: c.notebooks.execute_v1("p", "n1"), {}),
    "runs.create": (lambda c: c.runs.create("n1"), {"runId": "r1", "status": "pending", "createdAt": None}),
    "runs.get": (lambda c: c.runs.get("r1"), {"run": RUN}),
    "runs.download_snapshot": (lambda c: c.runs.download_snapshot("r1"), {"run": RUN}),
    "request": (lambda c: c.request("GET", "/v2/x"), {}),
}


def places(value, here=()):
    """The paths of all that is within a JSON value, itself included."""
    yield here
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*here, key))


def replaced(value, place, by):
    """The value with something else at one place."""
    if not place:
        return by
    value = copy.copy(value)
    value[place[0]] = replaced(value[place[0]], place[1:], by)
    return value


@attrs.define
class Says:
    """A transport that gives the same answer to everything."""

    body: bytes
    status: int = 200
    headers: dict = attrs.field(factory=dict)

    async def send(self, request, /):
        request.sent += 1
        return HttpResponse(self.status, self.headers, self.body)


def told(transport, call):
    """What a call gives, or raises of ours."""

    async def ask():
        retry = RetryPolicy(attempts=2)
        async with DeepnoteClient("key", transport=transport, rate_limiter=freely(), retry=retry) as client:
            try:
                found = await call(client)
            except DeepnoteError as error:
                return error
            finally:
                assert client.stats().slots == 0
            return found

    return run_virtual(ask())


def judge(found, name):
    """A model, or an error that says that the answer cannot be read."""
    if isinstance(found, OutcomeUnknownError):
        assert name in {"projects.create", "notebooks.create", "runs.create"}
        found = found.cause
    if isinstance(found, Exception):
        assert type(found) in {DecodeError, PaginationError}, repr(found)
    assert repr(found)
    # Text is a snapshot's own, asked for by name.
    assert isinstance(found, str | dict) or "sig=1" not in repr(found)


def check_any_json(name, data, transport=Says):
    call, good = CALLS[name]
    place = data.draw(st.sampled_from(sorted(places(good), key=repr)))
    # NaN and infinities are no JSON, but Python's own reads and writes them.
    body = json.dumps(replaced(good, place, data.draw(JSON))).encode("utf-8", "surrogatepass")
    judge(told(transport(body), call), name)


@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
@settings(max_examples=25)
def test_any_json_as_any_answer_is_a_model_or_a_decode_error(name, data):
    check_any_json(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
@settings(max_examples=1500)
def test_any_json_as_any_answer_at_length(name, data):
    check_any_json(name, data)


@pytest.mark.parametrize("name", CALLS)
@given(body=st.binary(max_size=40))
@settings(max_examples=15)
def test_any_bytes_as_any_answer_are_a_model_or_a_decode_error(name, body):
    judge(told(Says(body), CALLS[name][0]), name)


HEADERS = st.sampled_from(["Date", "Retry-After", "RateLimit-Reset", "RateLimit-Limit", "RateLimit-Remaining"])
VALUES = st.text(max_size=30) | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str)


@given(status=st.integers(300, 599), headers=st.dictionaries(HEADERS, VALUES), body=st.binary(max_size=30))
def test_any_refusal_with_any_headers_is_an_api_error(status, headers, body):
    for name in ("me", "runs.create", "projects.delete"):
        found = told(Says(body, status, headers), CALLS[name][0])
        cause = found.cause if isinstance(found, OutcomeUnknownError) else found
        assert isinstance(cause, ApiError)
        assert (cause.status, bool(str(cause))) == (status, True)


# Waits.


@given(data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_no_answer_to_a_look_breaks_the_watcher(data, seed, caplog_errors):
    changes = data.draw(st.lists(st.none() | st.tuples(st.integers(0, 50), JSON), min_size=5, max_size=20))

    async def wait():
        async with world(seed=seed) as w:
            runs = w.ids(20, 30, 40)

            def change(_, body):
                if changes and (it := changes.pop()) is not None:
                    found = sorted(places(body), key=repr)
                    new = replaced(body, found[it[0] % len(found)], it[1])
                    body.clear()
                    body.update(new if isinstance(new, dict) else {"what": new})

            w.transport.change = change
            return await w.client.await_run(runs, timeout=600, return_exceptions=True)

    ended = run_virtual(wait())
    assert all(isinstance(one, Run | RunTimeoutError) for one in ended), ended
    assert not caplog_errors()


@pytest.fixture(scope="module")
def caplog_errors():
    """The errors logged so far."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())

    handler = Keep(logging.ERROR)
    logging.getLogger("deepnote_async").addHandler(handler)
    yield lambda: records
    logging.getLogger("deepnote_async").removeHandler(handler)


# Time and memory.

SIZE = 2**18
ROW = json.dumps({"run": RUN})[8:-1]


def of(text: str, before: str = "", after: str = "") -> bytes:
    return (before + text * (SIZE // len(text)) + after).encode("utf-8", "surrogatepass")


LARGE = {
    "rows": of(ROW + ",", '{"runs": [', ROW + "]}"),
    "link": of("a", '{"run": {"runId": "r", "snapshotDownloadUrl": "', '"}}'),
    "link cut": of("a", '{"run": {"runId": "r", "snapshotDownloadUrl": "'),
    "link escaped": of("\\n", '{"run": {"runId": "r", "snapshotDownloadUrl": "', '"}}'),
    "link ending in a line": of("a", '{"downloadUrl": "', "\\\n"),
    "names of links": of('"downloadUrl":', "{"),
    "name of a link and spaces": of(" ", '{"downloadUrl"'),
    "deep": of("["),
    "deep objects": of('{"run":'),
    "digits": of("7"),
    "exponent": of("9", "1e"),
    "fraction": of("3", "0."),
    "text": of("a", '{"message": "', '"}'),
    "escapes": of("\\u0000", '"', '"'),
    "astral": of("\U0001f600", '"', '"'),
    "surrogates": of("\udc80", '"', '"'),
    "time": of("1", '{"run": {"runId": "r", "status": "s", "createdAt": "', '"}}'),
    "nothing": bytes(SIZE),
    "no text": b"\xff" * SIZE,
    "same keys": of('"a":0,', "{", '"a":0}'),
    "html": of("<p>", "<html>"),
}
# Of these it is Python's own objects that are large: an empty list takes 56 bytes, and three in JSON.
FINE = {
    "empty lists": of("[],", '{"runs": [', "[]]}"),
    "empty objects": of("{},", '{"runs": [', "{}]}"),
    "small runs": of('{"runId":"a","status":"b"},', '{"runs": [', '{"runId":"a","status":"b"}]}'),
    "keys": ("{" + ",".join(f'"k{n}":0' for n in range(SIZE // 12)) + "}").encode(),
}


@pytest.mark.parametrize(("body", "times"), [(b, 10) for b in LARGE.values()] + [(b, 30) for b in FINE.values()])
def test_no_answer_takes_long_or_much(body, times, monkeypatch):
    # orjson sets aside twelve times the body at first, of which it uses what it needs.
    monkeypatch.setattr(wire, "_read_json", json.loads)
    for name in ("runs.get", "notebooks.list_runs", "runs.create", "request"):
        began = time.process_time()  # other processes do not count
        told(Says(body), CALLS[name][0])
        assert time.process_time() - began < 1.0
    tracemalloc.start()
    try:
        told(Says(body), CALLS["notebooks.list_runs"][0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < times * len(body)


def test_a_link_is_struck_out_whatever_it_ends_in():
    for end in ("", '"', "\\", "\\\n", '\\\n"', '\\"', "\n"):
        assert "hush" not in wire.redact('{"downloadUrl" : "https://x?sig=hush' + end)


async def test_answers_over_a_real_connection_are_told_alike():
    bodies = [b"", b"null", b"[]", b"\xff", b"{" * 100_000, b'{"run": null}', *list(LARGE.values())[:4]]
    for body in bodies:
        async with RawServer(says(body)) as server, client_of(server.url) as client:
            for name in ("runs.get", "notebooks.list_runs", "runs.create"):
                async with asyncio.timeout(2):
                    try:
                        found = await CALLS[name][0](client)
                    except DeepnoteError as error:
                        found = error
                judge(found, name)
