"""A hand-turned clock and a caller that reads JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from deepnote_async.testing import Reply, Service

# Without this, pytest-asyncio's first look for an old loop makes one (Python 3.11 to 3.13) and never closes it.
asyncio.set_event_loop(None)

EPOCH = 1_800_000_000.0


@attrs.define
class Clock:
    now: float = EPOCH

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


@attrs.define
class Caller:
    """Asks a service as a client would; :meth:`json` for the body, the call itself for the reply."""

    service: Service

    def __call__(self, method: str, path: str, body: Any = None, *, query: str = "", token: str | None = None) -> Reply:
        headers = {"Authorization": f"Bearer {self.service.token if token is None else token}"}
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.service.handle(method, path, query, headers, raw)

    def json(self, method: str, path: str, body: Any = None, *, query: str = "", status: int = 200) -> Any:
        reply = self(method, path, body, query=query)
        assert reply.status == status, reply.body
        return json.loads(reply.body) if reply.body else None

    def refused(self, method: str, path: str, body: Any = None, *, query: str = "", token: str | None = None) -> Any:
        reply = self(method, path, body, query=query, token=token)
        return reply.status, json.loads(reply.body)["message"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Callable[..., Caller]:
    return lambda **options: Caller(Service(clock=clock, **options))


@pytest.fixture
def live(make: Callable[..., Caller]) -> Caller:
    return make(dialect="live")
