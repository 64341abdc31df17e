"""The pytest plugin: fixtures for programs that use the client.

It is installed as the module ``pytest_deepnote_async``, beside the package and not within, so that it can be loaded
without it and costs nothing to tests that do not use it. pytest finds it by itself; where plugins are not loaded by
themselves, ``-p pytest_deepnote_async`` does it.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from deepnote_async import DeepnoteClient
    from deepnote_async.testing.kit import ThreadedDeepnote, VirtualDeepnote

__all__ = [
    "deepnote_client",
    "fake_deepnote",
    "pytest_configure",
    "virtual_deepnote",
]

T = TypeVar("T")
TIME_SCALE = 10.0  # faster still, and what a client does in real time would outlast the runs
MARKER = "deepnote(**options): options of the service behind fake_deepnote and virtual_deepnote (seed, failures, ...)"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and the async fixture where pytest-asyncio is there to run it."""
    config.addinivalue_line("markers", MARKER)
    name = "deepnote_async fixtures for pytest-asyncio"
    if config.pluginmanager.hasplugin("asyncio") and not config.pluginmanager.hasplugin(name):
        config.pluginmanager.register(_asyncio_fixtures(), name)


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    marker = request.node.get_closest_marker("deepnote")
    return dict(marker.kwargs) if marker is not None else {}


def _entered(stack: ExitStack, kind: Callable[..., AbstractContextManager[T]], options: dict[str, Any]) -> T:
    try:
        return stack.enter_context(kind(**options))
    except TypeError as error:
        raise pytest.UsageError(f"@pytest.mark.deepnote: {error}; help(FakeDeepnote) lists the options") from None


@pytest.fixture
def fake_deepnote(request: pytest.FixtureRequest) -> Iterator[ThreadedDeepnote]:
    """A Deepnote of its own for this test, on loopback: ``fake_deepnote.url``, ``.token``, ``.calls``.

    ``fake_deepnote.notebook("report").succeeds(after=3, outputs=["done"])``, ``.fails("NameError: x")``, ``.stalls()``
    script its runs, ``.throttle(5)`` and ``.outage(30)`` the service. Its clock goes ten times faster than real time;
    ``@pytest.mark.deepnote(time_scale=1)`` sets that and every other option of ``FakeDeepnote``. A client with
    the usual ``PollPolicy`` looks after a second: give yours a shorter ``initial``, and try long waits in virtual time.
    """
    from deepnote_async.testing.kit import ThreadedDeepnote

    with ExitStack() as stack:
        yield _entered(stack, ThreadedDeepnote, {"time_scale": TIME_SCALE} | _options(request))


@pytest.fixture
def virtual_deepnote(request: pytest.FixtureRequest) -> Iterator[VirtualDeepnote]:
    """A Deepnote in memory and in virtual time: ``virtual_deepnote.run(main)`` runs ``main(client)`` there.

    Ten minutes of waiting take milliseconds. For tests that are plain functions; scripted like ``fake_deepnote``.
    """
    from deepnote_async.testing.kit import VirtualDeepnote

    with ExitStack() as stack:
        yield _entered(stack, VirtualDeepnote, _options(request))


@pytest.fixture
def deepnote_client(request: pytest.FixtureRequest) -> DeepnoteClient:
    """A client of ``fake_deepnote`` that looks often.

    In an async test (of pytest-asyncio, or of anyio's plugin) it is entered, and closed afterwards. In a plain
    function, which has no loop, it is not: write ``async with deepnote_client as client`` where yours runs.
    """
    if "anyio_backend" in request.fixturenames:
        name = "_deepnote_client_in_anyio"
    elif inspect.iscoroutinefunction(request.function):
        name = "_deepnote_client_in_asyncio"
    else:
        name = "_deepnote_client_not_entered"
    client: DeepnoteClient = request.getfixturevalue(name)
    return client


@pytest.fixture
def _deepnote_client_not_entered(fake_deepnote: ThreadedDeepnote) -> DeepnoteClient:
    from deepnote_async import PollPolicy

    return fake_deepnote.client(poll=PollPolicy(initial=0.02, maximum=0.25))


@pytest.fixture
async def _deepnote_client_in_anyio(_deepnote_client_not_entered: DeepnoteClient) -> AsyncIterator[DeepnoteClient]:
    async with _deepnote_client_not_entered as client:
        yield client


def _asyncio_fixtures() -> ModuleType:
    # Decorated by pytest-asyncio itself, for in its strict mode it leaves all others alone.
    import pytest_asyncio

    async def entered(_deepnote_client_not_entered: DeepnoteClient) -> AsyncIterator[DeepnoteClient]:
        async with _deepnote_client_not_entered as client:
            yield client

    holder = ModuleType("deepnote_async_asyncio_fixtures")
    vars(holder)["in_asyncio"] = pytest_asyncio.fixture(entered, name="_deepnote_client_in_asyncio")
    return holder
