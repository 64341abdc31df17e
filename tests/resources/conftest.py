"""A client whose aiohttp is mocked: what a resource sends, and how it reads an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
import aioresponses.core
import attrs
import pytest
from yarl import URL

from deepnote_async import DeepnoteClient, RetryPolicy, TokenBucket

BASE = "https://api.deepnote.com"


class _ClientResponse(aiohttp.ClientResponse):
    """What aioresponses builds, with the argument that aiohttp 3.14 has added."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **options)


@attrs.frozen
class Sent:
    """One request as it left the client."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.method, self.path, dict(self.query), self.body))


@attrs.define
class Api:
    """The mocked service: :meth:`answers` says what it will answer, ``sent`` what it was asked."""

    client: DeepnoteClient
    mock: aioresponses.aioresponses

    def answers(self, method: str, path: str, payload: Any = None, *, status: int = 200, body: bytes = b"") -> None:
        content = body if payload is None else json.dumps(payload).encode()
        self.mock.add(URL(BASE + path, encoded=True), method, status=status, body=content)

    @property
    def sent(self) -> list[Sent]:
        return [
            Sent(
                method,
                url.raw_path,
                url.query,
                None if call.kwargs["data"] is None else json.loads(call.kwargs["data"]),
                call.kwargs["headers"],
            )
            for (method, url), calls in self.mock.requests.items()
            for call in calls
        ]

    @property
    def only(self) -> Sent:
        (sent,) = self.sent
        return sent


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(aioresponses.core, "ClientResponse", _ClientResponse)
    # A query of ours is encoded already; the mock would encode it again.
    monkeypatch.setattr(aioresponses.core, "normalize_url", URL)
    with aioresponses.aioresponses() as mock:
        async with DeepnoteClient(
            "the-key",
            base_url=BASE,
            retry=RetryPolicy(attempts=1),
            rate_limiter=TokenBucket(1e6, 1e6, adaptive=False),
        ) as client:
            yield Api(client, mock)
