"""What an answer means and when to try again, over the whole table of methods and outcomes."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from deepnote_async import errors
from deepnote_async.errors import ApiError, RateLimitError, RequestTimeoutError, ServerError, TransportError
from deepnote_async.retry import (
    api_error,
    backoff,
    is_repeatable,
    pause_asked,
    pause_before_retry,
    retry_after,
    server_time,
)
from deepnote_async.settings import RetryPolicy
from deepnote_async.transport import HttpResponse

POLICY = RetryPolicy(attempts=5, initial=0.5, maximum=60.0)
READS = ["GET", "DELETE", "HEAD", "OPTIONS"]
WRITES = ["POST", "PUT", "PATCH"]
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


def answer(status: int, body: str | bytes = "", **headers: str) -> HttpResponse:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return HttpResponse(status, named, body.encode() if isinstance(body, str) else body)


def error_of(status: int, *, attempts: int = 1, **headers: str) -> ApiError:
    return api_error(answer(status, **headers), "GET", "/v2/me", attempts)


def pause(error: ApiError | TransportError, method: str, policy: RetryPolicy = POLICY) -> float | None:
    return pause_before_retry(error, method, policy, random.Random(1))


# Whether.


@pytest.mark.parametrize("method", READS + WRITES)
def test_what_is_repeatable(method: str) -> None:
    assert is_repeatable(method) is (method in READS)


@pytest.mark.parametrize("method", READS + WRITES)
@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 404, 408, 409, 410, 413, 418, 422])
def test_refusals_are_final(method: str, status: int) -> None:
    assert pause(error_of(status), method) is None


@pytest.mark.parametrize("method", READS + WRITES)
def test_429_is_tried_again_whatever_the_method(method: str) -> None:
    assert 0.25 <= (pause(error_of(429), method) or 0) <= 0.5


@pytest.mark.parametrize("method", READS + WRITES)
@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_5xx_is_tried_again_for_reads_only(method: str, status: int) -> None:
    assert (pause(error_of(status), method) is not None) is (method in READS)


@pytest.mark.parametrize("method", READS + WRITES)
@pytest.mark.parametrize("kind", [TransportError, RequestTimeoutError])
@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("retryable", [True, False])
def test_what_broke_is_tried_again_unless_it_may_have_been_done(
    method: str, kind: type[TransportError], sent: bool, retryable: bool
) -> None:
    again = pause(kind("broke", sent=sent, retryable=retryable), method) is not None
    assert again is (retryable and (method in READS or not sent))


@pytest.mark.parametrize("attempts", range(1, 8))
def test_attempts_are_bounded(attempts: int) -> None:
    assert (pause(error_of(429, attempts=attempts), "GET") is not None) is (attempts < 5)
    broken = TransportError("broke", sent=False, attempts=attempts)
    assert (pause(broken, "POST") is not None) is (attempts < 5)
    assert pause(error_of(503, attempts=attempts), "GET", RetryPolicy(attempts=1)) is None


# When.


@given(st.integers(1, 10_000), st.floats(0.001, 10.0), st.floats(0, 1000), st.integers())
def test_backoff_grows_to_its_ceiling_and_never_over_it(failures: int, initial: float, more: float, seed: int) -> None:
    policy = RetryPolicy(initial=initial, maximum=initial + more)
    ceiling = min(policy.maximum, initial * 2.0 ** min(failures - 1, 60))
    assert ceiling / 2 <= backoff(failures, policy, random.Random(seed)) <= ceiling


def test_backoff_is_spread() -> None:
    rng = random.Random(1)
    assert len({backoff(3, POLICY, rng) for _ in range(20)}) == 20


SECONDS: list[tuple[str, float | None]] = [
    ("0", 0.0),
    ("7", 7.0),
    (" 7 ", 7.0),
    ("1.5", 1.5),
    ("60", 60.0),
    ("61", 60.0),
    ("86400", 60.0),
    ("1e300", 60.0),
    ("inf", 60.0),
    ("-5", 0.0),
    ("-inf", 0.0),
    ("nan", None),
    ("", None),
    ("soon", None),
    ("7 seconds", None),
    ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ("\x00", None),
]


@pytest.mark.parametrize(("text", "seconds"), SECONDS)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": text}) == seconds
    assert pause_asked({"Retry-After": text}) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(9, 9.0), (0, 0.0), (-100, 0.0), (60, 60.0), (86400, 60.0)])
def test_retry_after_as_a_date_is_reckoned_on_the_services_clock(ahead: float, seconds: float) -> None:
    assert retry_after({"Retry-After": http_date(ahead), "Date": http_date(0)}) == seconds


def test_retry_after_as_a_date_without_another_is_reckoned_on_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", NOW.timestamp)
    assert retry_after({"Retry-After": http_date(12)}) == 12.0
    assert retry_after({"Retry-After": http_date(12), "Date": "no date"}) == 12.0


@pytest.mark.parametrize(("text", "seconds"), SECONDS)
def test_rate_limit_reset_is_the_second_choice(text: str, seconds: float | None) -> None:
    assert pause_asked({"RateLimit-Reset": text}) == seconds
    assert pause_asked({"RateLimit-Reset": text, "Retry-After": "3"}) == 3.0
    assert pause_asked({"RateLimit-Reset": text, "Retry-After": "garbage"}) == seconds
    assert retry_after({"RateLimit-Reset": text}) is None


def test_headers_are_read_whatever_their_case() -> None:
    assert error_of(429, retry_after="4").headers["RETRY-AFTER"] == "4"
    assert pause(error_of(429, retry_after="4"), "GET") == 4.0
    assert pause(error_of(429, ratelimit_reset="4"), "POST") == 4.0


def test_what_the_service_asks_for_goes_before_our_own_pause() -> None:
    assert pause(error_of(503, Retry_After="9"), "GET") == 9.0
    assert pause(error_of(429, Retry_After="100000"), "POST") == 60.0
    assert pause(error_of(429, Retry_After="0"), "GET") == 0.0
    assert (pause(error_of(503, RateLimit_Reset="9"), "GET") or 0) <= 0.5


@given(st.dictionaries(st.sampled_from(["Retry-After", "RateLimit-Reset", "Date"]), st.text(max_size=30)))
def test_no_header_is_ever_an_error(headers: dict[str, str]) -> None:
    asked = pause_asked(headers)
    assert asked is None or 0.0 <= asked <= 60.0


@pytest.mark.parametrize("text", [None, "", "yesterday", "Thu, 01 Jan 99999 00:00:00 GMT", "0", "Mon"])
def test_no_date_is_no_time(text: str | None) -> None:
    assert server_time(text) is None


def test_a_date_is_a_time() -> None:
    assert server_time(http_date(0)) == NOW.timestamp()


# What it says.


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "ServerError"),
        (503, "ServerError"),
        (599, "ServerError"),
        (413, "ApiError"),
        (418, "ApiError"),
        (302, "ApiError"),
    ],
)
def test_every_status_has_its_class(status: int, kind: str) -> None:
    error = api_error(answer(status, "oh"), "POST", "/v2/runs", 3)
    assert type(error) is getattr(errors, kind)
    assert (error.status, error.method, error.path, error.attempts) == (status, "POST", "/v2/runs", 3)
    assert (error.message, error.body) == ("oh", "oh")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "no such notebook"}, "no such notebook"),
        ({"error": "no such notebook"}, "no such notebook"),
        ({"message": "first", "error": "second"}, "first"),
        ({"message": "", "error": "second"}, "second"),
        ({"message": None, "error": "second"}, "second"),
        ({"message": {"text": "x"}}, "not found"),
        ({"error": {"message": "inner"}}, "not found"),
        ({}, "not found"),
        ([], "not found"),
        (None, "not found"),
        ("text in JSON", "not found"),
        ({"message": "  two\n lines\t"}, "two lines"),
        ({"message": "   "}, "not found"),
    ],
)
def test_the_services_own_words(body: Any, message: str) -> None:
    assert api_error(answer(404, json.dumps(body)), "GET", "/", 1).message == message


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, "", "not found"),
        (404, "plain text", "plain text"),
        (502, "<html><h1>Bad gateway</h1></html>", "the service failed"),
        (502, "\n <!DOCTYPE html>", "the service failed"),
        (503, "", "the service failed"),
        (418, "", "status 418"),
        (401, "", "not authenticated"),
        (429, "", "over the rate limit"),
        (400, b"\xff\xfe", "\ufffd\ufffd"),
        (400, "{broken", "{broken"),
    ],
)
def test_words_for_what_says_nothing(status: int, body: str | bytes, message: str) -> None:
    assert api_error(answer(status, body), "GET", "/", 1).message == message


def test_a_message_is_short_and_its_body_whole() -> None:
    error = api_error(answer(500, "x" * 10_000), "GET", "/", 1)
    assert len(error.message) == 500
    assert len(error.body) == 10_000
    assert api_error(answer(500, "[" * 100_000), "GET", "/", 1).message


@given(st.integers(300, 599), st.binary(max_size=200))
def test_any_body_gives_an_error_with_a_message(status: int, body: bytes) -> None:
    error = api_error(answer(status, body), "GET", "/", 1)
    assert error.message
    assert "\n" not in error.message
    assert isinstance(error, ServerError) is (status >= 500)


def test_a_throttled_answer_tells_how_long() -> None:
    error = api_error(answer(429, Retry_After="7"), "GET", "/", 1)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 7.0
    silent = api_error(answer(429), "GET", "/", 1)
    assert isinstance(silent, RateLimitError)
    assert silent.retry_after is None
    assert not math.isnan(pause(silent, "GET") or 0.0)
