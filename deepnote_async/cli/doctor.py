"""``deepnote-async doctor``: what a service answers, held against what the client expects."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RequestTimeoutError
from .common import Common, epilog, with_common
from .exits import API, FAILED, OK
from .progress import noticed

if TYPE_CHECKING:
    from .findings import Finding
    from .recording import Exchange

__all__ = ["doctor"]


async def _doctor(
    common: Common,
    notebook: Annotated[
        str | None, typer.Option(help="Look at this notebook and its runs.  [default: one that a project lists]")
    ] = None,
) -> int:
    """Hold a service against what the client and openapi.yaml expect of it; for a bug report.

    Reads only, at most 12 GET requests. The output holds no key, name or address, and no values
    but those of enums and limits; ids are cut to four characters. It is text, in a pipe too, unless --json is given.

    Exit status: 0 all as expected, 1 something differs, 2 usage, 3 the API gave no answer of use, 4 timed out.
    """
    from ..credentials import TokenSource, masked
    from .diagnosis import diagnose, reached

    key = TokenSource(masked(common.token)).fixed
    async with noticed(common, "looking at the service"):
        try:
            exchanges, url = await asyncio.wait_for(_examine(key, common.base_url, notebook), common.timeout)
        except TimeoutError:
            raise RequestTimeoutError(f"the service was not looked at within {common.timeout:g} s", sent=True) from None
    findings = diagnose(exchanges, _host(url))
    report = _report(exchanges, url, findings, as_json=bool(common.as_json))
    sys.stdout.write((report if key is None else key.scrub(report)) + "\n")
    if not reached(exchanges):
        return API
    return FAILED if any(finding.verdict == "differs" for finding in findings) else OK


async def _examine(key: Any, base_url: str | None, notebook: str | None) -> tuple[list[Exchange], str]:
    from ..aiohttp_transport import AiohttpTransport, ConnectionOptions
    from ..settings import parse_base_url
    from .checkup import examine

    url = parse_base_url(base_url)
    transport = AiohttpTransport(ConnectionOptions())
    # The client opens and closes a transport of its own making only.
    transport.open()
    try:
        return await examine(transport, key, base_url=url, notebook_id=notebook), url
    finally:
        await transport.close()


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or ""


def _report(exchanges: list[Exchange], url: str, findings: list[Finding], *, as_json: bool) -> str:
    import attrs

    from .diagnosis import clock_offset, round_trip
    from .dialect import dialect_of, traits_of
    from .findings import as_text

    sent = sum(exchange.began > 0 for exchange in exchanges)
    head = _head(url) | {
        "requests": f"{sent}, all GET",
        "dialect": dialect_of(traits_of(exchanges)),
    }
    if not as_json:
        return as_text(head, findings)
    offset, usual = clock_offset(exchanges), round_trip(exchanges)
    figures = {
        "requests": sent,
        "round_trip": None if usual is None else round(usual, 4),
        "clock_ahead": None if offset is None else {"least": round(offset[0], 2), "most": round(offset[1], 2)},
        "findings": [attrs.asdict(finding) for finding in findings],
    }
    return json.dumps(head | figures)


def _head(url: str) -> dict[str, Any]:
    from importlib.metadata import version
    from urllib.parse import urlsplit

    from .. import __version__
    from .findings import safe_host

    parts = urlsplit(url)
    return {
        "deepnote_async": __version__,
        "python": f"{platform.python_version()} on {sys.platform}",
        "aiohttp": version("aiohttp"),
        "service": f"{parts.scheme}://{safe_host(parts.hostname or '')}{'/...' if parts.path else ''}",
    }


doctor: Callable[..., Any] = with_common(_doctor)
doctor.__dict__["epilog"] = epilog("deepnote-async doctor --notebook NOTEBOOK > report.md")
