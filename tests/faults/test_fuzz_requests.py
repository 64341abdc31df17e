"""Whatever text is given, the service receives exactly it, or nothing is sent."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from loopback_servers import TOKEN, RawServer, client_of, says

from deepnote_async import ConfigurationError, InvalidRequestError, RunRequest, TransportError

pytestmark = pytest.mark.slow

# Everything, with what could end a header, a segment, a query or a text more often than by chance.
ODD = st.sampled_from(
    ["\r\nX-Evil: 1", "\r\n\r\n", "/..", "..", ".", "?a=b", "#", "&x=", "%2e", "%", "\x00", '"', "\\"]
)
TEXT = st.text(st.characters(), max_size=20) | st.lists(ODD | st.text(max_size=4), max_size=4).map("".join)
ANSWERS = {
    "/v2/projects": b'{"projects": [], "project": {"id": "p"}}',
    "/v2/notebooks": b'{"notebook": {"id": "n"}, "runs": []}',
    "/v2/runs": b'{"runId": "r", "status": "success"}',
}
evil = example(text="x\r\nX-Evil: 1\r\n\r\nGET /v2/evil HTTP/1.1\r\n\r\n")
surrogate = example(text="\ud800")


def answer(exchange):
    path = exchange.received.path
    body = b'{"runs": []}' if path.endswith("/runs") and path != "/v2/runs" else b"{}"
    body = next((say for start, say in ANSWERS.items() if path.startswith(start) and body == b"{}"), body)
    return says(body)(exchange)


async def received(call):
    """The one request that a call sends; None if it is refused, and then nothing may have been sent."""
    async with RawServer(answer) as server, client_of(server.url) as client:
        try:
            await call(client)
        except InvalidRequestError:
            assert server.requests == []
            assert server.connections == 0
            return None
        (request,) = server.requests
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert not {name for name in request.headers if "Evil" in name}
        assert set(request.headers) <= {
            "Host",
            "Accept",
            "User-Agent",
            "Accept-Encoding",
            "Authorization",
            "Content-Type",
            "Content-Length",
        }
        return request


def cannot_be_in_a_url(text):
    return any("\ud800" <= character <= "\udfff" for character in text)


@given(text=TEXT)
@evil
@surrogate
@example(text="..")
async def test_any_text_as_an_id_is_one_segment_or_refused(text):
    calls = {
        2: [lambda c: c.runs.get(text), lambda c: c.projects.get(text), lambda c: c.notebooks.delete(text)],
        3: [lambda c: c.notebooks.execute_v1("p", text), lambda c: c.notebooks.list_runs(text).collect()],
    }
    for call in [one for some in calls.values() for one in some]:
        request = await received(call)
        if request is None:
            assert text in {"", ".", ".."} or cannot_be_in_a_url(text)
            continue
        parts = request.target.split("/")
        assert [unquote(part) for part in parts].count(text) == 1 or text in {"v1", "v2", "p", "runs"}
        assert len(parts) in {4, 5, 7}
        assert request.target.isascii()
        assert request.target.isprintable()


@given(text=TEXT)
@evil
@surrogate
async def test_any_text_in_a_query_arrives_as_it_is_or_is_refused(text):
    calls = {
        "nameContains": lambda c: c.projects.list(name_contains=text).collect(),
        "pageToken": lambda c: c.notebooks.list_runs("n", page_token=text).collect(),
        "x": lambda c: c.request("GET", "/v2/x", params={"x": text}),
    }
    for name, call in calls.items():
        request = await received(call)
        if request is None:
            assert cannot_be_in_a_url(text)
        else:
            query = request.target.partition("?")[2]
            assert parse_qsl(query, keep_blank_values=True, errors="strict") == [(name, text)]


@given(text=TEXT)
@evil
@surrogate
async def test_any_text_as_the_name_of_a_parameter_and_any_path_stay_where_they_belong(text):
    request = await received(lambda c: c.request("GET", "/v2/x", params={text: "y"}))
    if request is not None:
        assert request.path == "/v2/x"
        assert parse_qsl(request.target.partition("?")[2], keep_blank_values=True) == [(text, "y")]
    request = await received(lambda c: c.request("GET", f"/v2/{text}"))
    if request is not None:
        assert unquote(request.target) == unquote(f"/v2/{text}")
        assert request.target.isascii()


@given(text=TEXT)
@evil
@surrogate
async def test_any_text_in_a_body_arrives_as_it_is_or_is_refused(text):
    run = {"notebookId": "n", "inputs": {"a": text, "b": [text, "x"]}}
    bodies = [
        ({"name": text}, lambda c: c.projects.create(text)),
        ({"name": "n", "folderId": text}, lambda c: c.projects.create("n", folder_id=text)),
        ({"projectId": "p", "name": text}, lambda c: c.notebooks.create("p", name=text)),
        ({"projectId": text}, lambda c: c.notebooks.create(text)),
        ({"notebookId": text}, lambda c: c.runs.create(text)),
        (run, lambda c: c.runs.create("n", inputs=run["inputs"])),
        ({"notebookId": "n", "inputs": {text: True}}, lambda c: c.runs.create("n", inputs={text: True})),
        ({"notebookId": "n", "blockIds": [text], "detached": False}, lambda c: c.runs.create("n", block_ids=[text])),
        ({"notebookId": "n", "x": {text: [text]}}, lambda c: c.runs.create("n", extra_body={"x": {text: [text]}})),
        ([text], lambda c: c.request("POST", "/v2/x", json=[text])),
    ]
    for expected, call in bodies:
        request = await received(call)
        if request is None:
            assert text in {"", ".", ".."} or cannot_be_in_a_url(text)
        else:
            assert json.loads(request.body) == expected
            assert int(request.headers["Content-Length"]) == len(request.body)


@given(text=TEXT)
@evil
@surrogate
@example(text="plain")
async def test_any_text_as_a_token_arrives_as_it_is_or_is_refused(text):
    async with RawServer(answer) as server:
        for token in (text, lambda: text):
            sent = len(server.requests)
            try:
                async with client_of(server.url, token) as client:
                    await client.me()
                    await client.runs.create("n")
            except (ConfigurationError, TransportError):
                assert not text or not text.isascii() or not text.isprintable() or " " in text
                assert len(server.requests) == sent
            else:
                assert {one.headers["Authorization"] for one in server.requests[sent:]} == {f"Bearer {text}"}
                assert len(server.requests) == sent + 2


@given(text=TEXT)
@evil
def test_any_text_as_a_base_url_is_an_origin_of_its_own_or_refused(text):
    for url in (text, f"https://{text}", f"https://api.deepnote.com{text}", f"https://api.deepnote.com/{text}"):
        try:
            client = client_of(url)
        except ConfigurationError:
            continue
        base = client._session.base_url
        assert base.startswith("https://") or "127." in base or "localhost" in base
        assert base.isascii()
        assert base.isprintable()
        assert " " not in base


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(value=VALUES)
@settings(max_examples=200)
def test_any_value_of_an_input_is_sent_as_the_service_takes_it_or_refused(value):
    try:
        body = RunRequest("n", inputs={"a": value}).body()
    except InvalidRequestError:
        return
    sent = json.loads(json.dumps(body))["inputs"]["a"]
    # Text, a boolean or a list of text; numbers as text.
    assert isinstance(sent, str | bool) or all(isinstance(item, str) for item in sent)
    if isinstance(value, str | bool):
        assert sent == value
    elif isinstance(value, int | float):
        assert (int if isinstance(value, int) else float)(sent) == value


@pytest.mark.slow
@given(text=TEXT)
@settings(max_examples=2000)
async def test_any_text_anywhere_at_length(text):
    for call, place in (
        (lambda c: c.runs.get(text), lambda request: unquote(request.path.split("/")[3])),
        (lambda c: c.projects.create(text), lambda request: json.loads(request.body)["name"]),
        (
            lambda c: c.projects.list(page_token=text).collect(),
            lambda request: dict(parse_qsl(request.target.partition("?")[2], keep_blank_values=True))["pageToken"],
        ),
    ):
        request = await received(call)
        assert request is None or place(request) == text
