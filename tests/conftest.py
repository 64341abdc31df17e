"""What all tests share: the event loop they run on, and properties that draw the same examples on every machine."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# Where the package is installed pytest has found it already; here it is the one of this tree, whatever is installed.
pytest_plugins = ["deepnote_async.testing.plugin"]

# Without this, pytest-asyncio's first look for an old loop makes one (Python 3.11 to 3.13) and never closes it.
asyncio.set_event_loop(None)

settings.register_profile(
    "steady",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")


if os.environ.get("DEEPNOTE_TEST_LOOP") == "uvloop":

    @pytest.hookimpl(optionalhook=True)
    def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Every test on uvloop but those that only asyncio's own loop can run: in virtual time, and on a terminal.

        uvloop calls ``preexec_fn`` before the terminal is the child's.
        """
        if item.get_closest_marker("looptime") is not None or "terminal" in getattr(item, "fixturenames", ()):
            return {"asyncio": asyncio.new_event_loop}
        return {"uvloop": importlib.import_module("uvloop").new_event_loop}

elif os.environ.get("DEEPNOTE_TEST_LOOP") == "eager":

    def _eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - mypy looks at 3.11
        return loop

    @pytest.hookimpl(optionalhook=True)
    def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Every test with tasks that run to their first wait where they are made (Python 3.12)."""
        return {"eager": _eager_loop}
