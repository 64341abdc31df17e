"""What all tests share: properties that draw the same examples on every machine."""

from __future__ import annotations

import asyncio

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
