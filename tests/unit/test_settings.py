"""Options: what is refused, what is understood, and that making a client does nothing yet."""

from __future__ import annotations

import asyncio
import math
import pickle
import socket
from typing import Any

import attrs
import pytest

from deepnote_async import (
    ClientClosedError,
    ConfigurationError,
    DeepnoteClient,
    PollPolicy,
    RetryPolicy,
    TokenBucket,
)
from deepnote_async.settings import DEFAULT_BASE_URL, origin_of, parse_base_url

NO_NUMBERS: list[Any] = ["1", None, True, [1], 1j, math.nan]
NOT_POSITIVE: list[Any] = [*NO_NUMBERS, 0, -1, -0.5, -math.inf]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPNOTE_TOKEN", raising=False)
    monkeypatch.delenv("DEEPNOTE_BASE_URL", raising=False)


def refused(kind: Any, name: str, value: Any, *args: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        kind(*args, **{name: value})


# Policies.


@pytest.mark.parametrize("name", ["initial", "maximum"])
@pytest.mark.parametrize("kind", [RetryPolicy, PollPolicy])
@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_spans_are_over_0(kind: Any, name: str, value: Any) -> None:
    refused(kind, name, value)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None, math.inf, math.nan])
def test_attempts_are_whole(value: Any) -> None:
    refused(RetryPolicy, "attempts", value)


@pytest.mark.parametrize("value", [v for v in NOT_POSITIVE if v is not None])
def test_a_price_is_over_0_or_none(value: Any) -> None:
    refused(PollPolicy, "price", value)
    assert PollPolicy(price=None).price is None


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1, 1, 1.5, math.inf])
def test_jitter_is_a_share(value: Any) -> None:
    refused(PollPolicy, "jitter", value)


@pytest.mark.parametrize("name", ["snapshot_wait", "visible_after"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, -1, -math.inf])
def test_grace_is_at_least_0(name: str, value: Any) -> None:
    refused(PollPolicy, name, value)
    assert getattr(PollPolicy(**{name: 0}), name) == 0


@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_giving_up_takes_a_moment(value: Any) -> None:
    refused(PollPolicy, "give_up_after", value)


@pytest.mark.parametrize("kind", [RetryPolicy, PollPolicy])
def test_the_first_pause_is_no_longer_than_the_last(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="initial"):
        kind(initial=5.0, maximum=4.0)
    assert kind(initial=4, maximum=4.0).initial == 4


def test_defaults_are_those_promised() -> None:
    assert attrs.astuple(RetryPolicy()) == (5, 0.5, 60.0)
    assert attrs.asdict(PollPolicy()) == {
        "initial": 1.0,
        "maximum": 30.0,
        "jitter": 0.2,
        "price": None,
        "snapshot_wait": 10.0,
        "visible_after": 30.0,
        "give_up_after": 3600.0,
    }


@pytest.mark.parametrize("policy", [RetryPolicy(attempts=2), PollPolicy(price=3.0)])
def test_policies_are_values(policy: Any) -> None:
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(attrs.evolve(policy))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.initial = 2.0


@pytest.mark.parametrize("value", [*NOT_POSITIVE, math.inf])
def test_a_rate_is_a_number_over_0(value: Any) -> None:
    if value is not None:
        refused(TokenBucket, "rate", value)


@pytest.mark.parametrize("value", [*NOT_POSITIVE, 0.5, math.inf])
def test_a_capacity_is_at_least_1(value: Any) -> None:
    if value is not None:
        refused(TokenBucket, "capacity", value)


def test_a_bucket_that_may_not_learn_needs_a_rate() -> None:
    with pytest.raises(ConfigurationError, match="rate"):
        TokenBucket(adaptive=False)


# A client's options.


@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_timeout(value: Any) -> None:
    refused(DeepnoteClient, "timeout", value, "key")
    if value is not None:
        refused(DeepnoteClient, "total_timeout", value, "key")


@pytest.mark.parametrize("name", ["max_connections", "max_response_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None, math.nan, math.inf])
def test_bounds_are_whole_numbers(name: str, value: Any) -> None:
    refused(DeepnoteClient, name, value, "key")


class HalfALimiter:
    async def acquire(self) -> None: ...


@pytest.mark.parametrize("limiter", [5, "5/s", HalfALimiter(), object()])
def test_a_limiter_has_both_methods(limiter: Any) -> None:
    refused(DeepnoteClient, "rate_limiter", limiter, "key")


def test_session_and_transport_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="exclude"):
        DeepnoteClient("key", session=object(), transport=object())  # type: ignore[arg-type]


def test_options_of_a_view_are_checked_too() -> None:
    client = DeepnoteClient("key")
    for options in ({"timeout": 0}, {"total_timeout": -1}, {"token": 7}, {"token": ""}, {"token": "a b"}):
        with pytest.raises(ConfigurationError):
            client.with_options(**options)  # type: ignore[arg-type]


# The key.


@pytest.mark.parametrize(
    "token", ["", "a b", "a\nb", "a\r\nX: y", "a\tb", "a\x00b", "a\x7fb", "schlüssel", " key", "key\n"]
)
def test_a_key_fits_into_a_header(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DeepnoteClient(token)
    assert not token or token not in str(caught.value)
    monkeypatch.setattr("os.environ", {"DEEPNOTE_TOKEN": token})
    with pytest.raises(ConfigurationError):
        DeepnoteClient()


@pytest.mark.parametrize("token", [7, b"key", ["key"], object()])
def test_a_key_is_text_or_a_function(token: Any) -> None:
    with pytest.raises(ConfigurationError, match="token"):
        DeepnoteClient(token)


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="DEEPNOTE_TOKEN"):
        DeepnoteClient()
    monkeypatch.setenv("DEEPNOTE_TOKEN", "from-the-environment")
    client = DeepnoteClient()
    assert "from-the-environment" not in repr(client)


# The base URL.


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("https://api.deepnote.com", "https://api.deepnote.com"),
        ("https://api.deepnote.com/", "https://api.deepnote.com"),
        ("https://api.deepnote.com/v2", "https://api.deepnote.com"),
        ("https://api.deepnote.com/v2/", "https://api.deepnote.com"),
        ("https://api.deepnote.com/v1", "https://api.deepnote.com"),
        ("https://host:8443/deepnote/v2", "https://host:8443/deepnote"),
        ("https://host/deepnote/v22", "https://host/deepnote/v22"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000/v2", "http://127.0.0.1:8000"),
        ("http://127.8.8.8", "http://127.8.8.8"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://api.localhost", "http://api.localhost"),
    ],
)
def test_base_urls(given: str, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_base_url(given) == taken
    monkeypatch.setenv("DEEPNOTE_BASE_URL", given)
    assert parse_base_url(None) == taken
    assert taken in repr(DeepnoteClient("key"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.deepnote.com",
        "//api.deepnote.com",
        "ftp://api.deepnote.com",
        "file:///etc/passwd",
        "https://",
        "https:///v2",
        "https://host:port",
        "https://host:99999",
        "https://ho st",
        "https://host/\r\nX: y",
        "https://höst",
        "https://[::1",
        "https://host/v2?key=1",
        "https://host/v2#top",
        "https://user:hush@host",
        "https://hush@host",
        "https://:hush@host",
        "http://api.deepnote.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://notlocalhost",
        "http://0.0.0.0",
        7,
        b"https://host",
    ],
)
def test_base_urls_that_are_refused(url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DeepnoteClient("key", base_url=url)
    assert "hush" not in str(caught.value)
    if isinstance(url, str) and url:
        monkeypatch.setenv("DEEPNOTE_BASE_URL", url)
        with pytest.raises(ConfigurationError):
            parse_base_url(None)


def test_plain_http_is_for_who_asks_for_it() -> None:
    assert parse_base_url("http://10.0.0.1:80/v2", allow_http=True) == "http://10.0.0.1:80"
    with pytest.raises(ConfigurationError):
        parse_base_url("ftp://10.0.0.1", allow_http=True)


def test_an_empty_variable_is_none() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPNOTE_BASE_URL", "")
        assert parse_base_url(None) == DEFAULT_BASE_URL == "https://api.deepnote.com"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://host/a", "https://HOST:443/b", True),
        ("http://host", "http://host:80", True),
        ("https://host", "http://host", False),
        ("https://host", "https://host:8443", False),
        ("https://host", "https://host.example", False),
        ("https://host", "https://other@host", True),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is same


# Making a client.


def test_making_a_client_does_no_io_and_needs_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_io(*_: Any, **__: Any) -> Any:
        raise AssertionError("no I/O here")

    monkeypatch.setattr(socket, "socket", no_io)
    monkeypatch.setattr(socket, "getaddrinfo", no_io)
    monkeypatch.setattr("builtins.open", no_io)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    asked: list[int] = []
    client = DeepnoteClient(lambda: asked.append(1) or "key")  # type: ignore[func-returns-value]
    view = client.with_options(timeout=5.0, token="other")
    assert not asked
    assert attrs.astuple(client.stats()) == (0,) * 7
    assert "DeepnoteClient" in repr(view)


async def test_a_client_that_was_not_entered_says_so() -> None:
    client = DeepnoteClient("key")
    with pytest.raises(ClientClosedError, match="async with"):
        await client.me()
    with pytest.raises(ClientClosedError, match="async with"):
        await client.await_run("r")
    await client.aclose()


@pytest.mark.parametrize(("name", "value"), [("retry", 3), ("poll", 2.0), ("retry", None), ("poll", PollPolicy)])
def test_policies_are_policies(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        DeepnoteClient("key", **{name: value})
    with pytest.raises(ConfigurationError, match=name):
        DeepnoteClient("key").with_options(**{name: value})
