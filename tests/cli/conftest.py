"""The program in a process of its own or in this one, and the service it asks."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable

import pytest
from cli_kit import Done, Piped, Terminal

from deepnote_async.testing import FakeDeepnote


@pytest.fixture
async def fake():
    async with FakeDeepnote(time_scale=20) as fake:
        yield fake


@pytest.fixture
def program(fake) -> Piped:
    return Piped(fake)


@pytest.fixture
def terminal(fake) -> Callable[[], Terminal]:
    return lambda: Terminal(fake)


@pytest.fixture
def here(fake, capsys, monkeypatch):
    """The program without a process of its own, which takes a tenth of the time: its status and what it wrote."""
    from deepnote_async.cli.app import run

    async def call(*arguments: object, stdin: str = "") -> Done:
        monkeypatch.setenv("DEEPNOTE_TOKEN", fake.token)
        monkeypatch.setenv("DEEPNOTE_BASE_URL", fake.url)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        status = await asyncio.to_thread(run, [str(argument) for argument in arguments])
        return Done(status, *capsys.readouterr())

    return call
