"""What a client holds at rest, over what a bare session of aiohttp holds."""

from __future__ import annotations

import pytest

from benchmarks.footprint import measured


@pytest.mark.slow
def test_a_client_at_rest_is_small_and_a_thousand_calls_leave_nothing():
    session, client = measured("session"), measured("client")
    assert 0 < client["rest"] - session["rest"] < 1024
    assert client["left"] < 64
