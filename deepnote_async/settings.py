"""How a client behaves: policies and options, checked when they are given. Nothing here does I/O."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import attrs

from .errors import ConfigurationError

__all__ = ["DEFAULT_BASE_URL", "PollPolicy", "RetryPolicy", "Timeouts", "origin_of", "parse_base_url"]

DEFAULT_BASE_URL: Final = "https://api.deepnote.com"


def is_number(value: object) -> bool:
    """Whether it is a number, and not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def positive(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """An attrs validator: a number of seconds (or of requests) over 0."""
    if not is_number(value) or value <= 0:
        raise ConfigurationError(f"{field.name} is a number over 0, not {value!r}")


def not_negative(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """An attrs validator: a number of at least 0."""
    if not is_number(value) or value < 0:
        raise ConfigurationError(f"{field.name} is a number of at least 0, not {value!r}")


def whole(_: Any, field: attrs.Attribute[Any], value: object) -> None:
    """An attrs validator: a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{field.name} is a whole number of at least 1, not {value!r}")


def _share(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not is_number(value) or not 0 <= value < 1:
        raise ConfigurationError(f"{field.name} is a share of at least 0 and under 1, not {value!r}")


def _optional(validator: Callable[[Any, attrs.Attribute[Any], Any], None]) -> Callable[[Any, Any, Any], None]:
    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None:
            validator(instance, field, value)

    return check


def _in_order(policy: RetryPolicy | PollPolicy) -> None:
    if policy.initial > policy.maximum:
        raise ConfigurationError(f"initial ({policy.initial:g} s) is over maximum ({policy.maximum:g} s)")


@attrs.frozen
class RetryPolicy:
    """How often a plain call is tried, and the pauses between: backoff with full jitter, in seconds.

    ``attempts`` counts the first try too; 1 never repeats. A pause the service asks for goes before its own.
    """

    attempts: int = attrs.field(default=5, validator=whole)
    initial: float = attrs.field(default=0.5, validator=positive)
    maximum: float = attrs.field(default=60.0, validator=positive)

    def __attrs_post_init__(self) -> None:
        _in_order(self)


@attrs.frozen
class PollPolicy:
    """How awaited runs are watched; all but ``jitter`` in seconds.

    ``initial`` and ``maximum`` bound the interval between two looks at a run. ``price`` is the lateness, summed over
    the runs it tells, that one request is worth: higher spends fewer requests; None derives it from ``initial``.
    ``snapshot_wait`` is how long a snapshot asked for may come after the end, ``visible_after`` how long a 404 of a
    run just started is borne, ``give_up_after`` how long looks at a run may fail unbroken before its wait ends.
    """

    initial: float = attrs.field(default=1.0, validator=positive)
    maximum: float = attrs.field(default=30.0, validator=positive)
    jitter: float = attrs.field(default=0.2, validator=_share)
    price: float | None = attrs.field(default=None, validator=_optional(positive))
    snapshot_wait: float = attrs.field(default=10.0, validator=not_negative)
    visible_after: float = attrs.field(default=30.0, validator=not_negative)
    give_up_after: float = attrs.field(default=3600.0, validator=positive)

    def __attrs_post_init__(self) -> None:
        _in_order(self)


@attrs.frozen(eq=False)
class Timeouts:
    """Seconds: ``timeout`` for one answer from the slot to its last byte, ``total_timeout`` for a whole call."""

    timeout: float = attrs.field(default=30.0, validator=positive)
    total_timeout: float | None = attrs.field(default=120.0, validator=_optional(positive))


def parse_base_url(base_url: str | None, *, allow_http: bool = False) -> str:
    """The URL that ``/v2/...`` is appended to, from the argument, DEEPNOTE_BASE_URL or the default.

    A trailing slash, ``/v1`` or ``/v2`` is taken off. Raises :class:`ConfigurationError` for anything but https, save
    plain http to loopback or with ``allow_http``, and for credentials, a query or a fragment in the URL.
    """
    given = base_url if base_url is not None else os.environ.get("DEEPNOTE_BASE_URL") or DEFAULT_BASE_URL
    parts = _split(given)
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url holds credentials: pass the API key as token=...")
    if parts.query or parts.fragment:
        raise ConfigurationError("base_url has a query or a fragment: write scheme, host and path only")
    if parts.scheme == "http" and not allow_http and not _is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"base_url would send the API key in the clear to {parts.hostname}: use https, or allow_http=True"
        )
    path = parts.path.rstrip("/")
    for version in ("/v1", "/v2"):
        path = path.removesuffix(version)
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"


def _split(url: object) -> SplitResult:
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError("base_url is a URL in ASCII without spaces or control characters")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise ConfigurationError(f"base_url is no URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError("base_url is a whole URL: https://, a host and, where there is one, a path")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL: what decides whether the API key may go there."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port
