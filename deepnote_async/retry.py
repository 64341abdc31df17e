"""What an answer means, whether and when to try again: plain functions over values, with no clock of their own."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict

from .errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnprocessableEntityError,
)
from .wire import readable

if TYPE_CHECKING:
    from .settings import RetryPolicy
    from .transport import HttpResponse

__all__ = [
    "LONGEST_PAUSE",
    "api_error",
    "backoff",
    "is_repeatable",
    "pause_asked",
    "pause_before_retry",
    "retry_after",
    "server_time",
]

# The live limit is a window of 60 s, so no pause the service can mean is longer.
LONGEST_PAUSE: Final = 60.0

_REPEATABLE: Final = frozenset({"GET", "DELETE", "HEAD", "OPTIONS"})
_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}
_REASONS: Final = {
    400: "bad request",
    401: "not authenticated",
    403: "not permitted",
    404: "not found",
    409: "conflict",
    413: "too large",
    422: "not acceptable",
    429: "over the rate limit",
}
_LONGEST_MESSAGE: Final = 500
_MARKUP: Final = re.compile(r"\s*<")


def api_error(response: HttpResponse, method: str, path: str, attempts: int) -> ApiError:
    """The error class for an answer's status, with the service's own message where it has one."""
    body = readable(response.body)
    kind = ServerError if response.status >= 500 else _BY_STATUS.get(response.status, ApiError)
    error = kind(
        _message(body, response.status),
        status=response.status,
        body=body,
        headers=CIMultiDict(response.headers),
        method=method,
        path=path,
        attempts=attempts,
    )
    if isinstance(error, RateLimitError):
        error.retry_after = pause_asked(response.headers)
    return error


def _message(body: str, status: int) -> str:
    """``message``, else ``error``, else the raw text unless it is a page, else words for the status."""
    fallback = _REASONS.get(status) or ("the service failed" if status >= 500 else f"status {status}")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        text = "" if _MARKUP.match(body) else body
    else:
        text = next((value for key in ("message", "error") if (value := _entry(data, key))), "")
    return " ".join(text.split())[:_LONGEST_MESSAGE] or fallback


def _entry(data: object, key: str) -> str:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


def is_repeatable(method: str) -> bool:
    """Whether a call can be made twice without doing anything twice."""
    return method in _REPEATABLE


def pause_before_retry(
    error: ApiError | TransportError, method: str, policy: RetryPolicy, rng: random.Random
) -> float | None:
    """Seconds to wait before the next attempt, or None when there must be none.

    A 429 is tried again whatever the method, as is what never reached the service. The rest may have taken effect,
    so only GET and DELETE repeat it.
    """
    if error.attempts >= policy.attempts:
        return None
    if isinstance(error, TransportError):
        again = error.retryable and (is_repeatable(method) or not error.sent)
        return backoff(error.attempts, policy, rng) if again else None
    if error.status == 429 or (error.status >= 500 and is_repeatable(method)):
        asked = pause_asked(error.headers) if error.status == 429 else retry_after(error.headers)
        return asked if asked is not None else backoff(error.attempts, policy, rng)
    return None


def backoff(failures: int, policy: RetryPolicy, rng: random.Random) -> float:
    """Exponential backoff in seconds after so many failures, the upper half of it at random.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("equal jitter").
    """
    ceiling = min(policy.maximum, policy.initial * 2.0 ** min(failures - 1, 60))
    return rng.uniform(ceiling / 2, ceiling)


def pause_asked(headers: Mapping[str, str]) -> float | None:
    """The pause a 429 asks for, 0 to 60 s: ``Retry-After``, else ``RateLimit-Reset`` in seconds."""
    after = retry_after(headers)
    return after if after is not None else _seconds(headers.get("RateLimit-Reset") or "")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """``Retry-After`` in seconds, 0 to 60, whether given so or as a date."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    seconds = _seconds(text)
    return seconds if seconds is not None else _until(text, headers.get("Date"))


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return None if math.isnan(seconds) else _bounded(seconds)


def _until(date: str, now: str | None) -> float | None:
    then, base = server_time(date), server_time(now)
    if then is None:
        return None
    # Where both dates are the service's, a wrong clock of ours does no harm.
    return _bounded(then - (base if base is not None else time.time()))


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def server_time(date: str | None) -> float | None:
    """An HTTP date as seconds since the epoch."""
    if not date:
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
