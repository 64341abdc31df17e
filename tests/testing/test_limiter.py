"""Both limits hold their bound, and waiting as long as told is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async.testing import Access, FixedWindow, SlidingLimit

gaps = st.lists(st.floats(0, 3), min_size=1, max_size=80)


@given(gaps, st.floats(0.1, 50), st.floats(1, 20))
def test_sliding_admits_no_more_than_burst_plus_rate_times_any_span(gaps, rate, burst):
    limit, now, admitted = SlidingLimit(rate, burst), 1000.0, []
    for gap in gaps:
        now += gap
        if limit.admit(now).admitted:
            admitted.append(now)
    for index, start in enumerate(admitted):
        for other in range(index, len(admitted)):
            assert other - index + 1 <= burst + rate * (admitted[other] - start) + 1e-6


@given(gaps, st.integers(1, 5), st.floats(0.5, 60))
def test_waiting_as_long_as_told_lets_the_next_request_in(gaps, limit, seconds):
    for rule in (SlidingLimit(limit / seconds, limit, fractional=True), FixedWindow(limit, seconds), SlidingLimit(0.3)):
        now = 5000.0
        for gap in gaps:
            now += gap
            verdict = rule.admit(now)
            if not verdict.admitted:
                now += float(verdict.headers["Retry-After"]) + 1e-3
                assert rule.admit(now).admitted


def test_a_window_lasts_from_its_first_request():
    limit = FixedWindow(2, 60)
    assert [limit.admit(at).admitted for at in (100.0, 130.0, 159.9, 160.0, 161.0, 162.0)] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]


def test_headers_of_a_window():
    limit = FixedWindow(1, 60)
    assert limit.admit(0.0).headers == {}
    assert limit.admit(9.5).headers == {"Retry-After": "51", "RateLimit-Reset": "51"}
    assert FixedWindow(3, announce=True).admit(0.0).headers == {
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "2",
        "RateLimit-Reset": "60",
    }


def test_headers_of_a_bucket():
    limit = SlidingLimit(0.5, fractional=True)
    limit.admit(0.0)
    assert limit.admit(0.0).headers == {"Retry-After": "2.000"}
    silent = SlidingLimit(0.5, retry_after=False, announce=True)
    silent.admit(0.0)
    assert set(silent.admit(0.0).headers) == {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}


@pytest.mark.parametrize("build", [lambda: SlidingLimit(0), lambda: SlidingLimit(1, 0.5), lambda: FixedWindow(0)])
def test_a_limit_that_lets_nothing_in_is_refused(build):
    with pytest.raises(ValueError):
        build()


def test_the_service_counts_every_request_first(make, clock):
    api = make(limit=FixedWindow(2, 60))
    assert api("GET", "/v2/nowhere").status == 404
    assert api("GET", "/v2/me", token="wrong").status == 401
    reply = api("GET", "/v2/me")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "60")
    clock.turn(60)
    assert api("GET", "/v2/me").status == 200
    api.service.limit = None
    assert all(api("GET", "/v2/me").status == 200 for _ in range(5))


def test_a_token_can_have_a_limit_of_its_own(make):
    api = make(limit=FixedWindow(1))
    api.service.add_token("other", Access(limit=FixedWindow(2)))
    assert [api("GET", "/v2/me").status for _ in range(2)] == [200, 429]
    assert [api("GET", "/v2/me", token="other").status for _ in range(3)] == [200, 200, 429]


def test_the_limit_goes_by_its_own_clock(make, clock):
    real = [0.0]
    api = make(limit=SlidingLimit(1), limit_clock=lambda: real[0])
    assert api("GET", "/v2/me").status == 200
    clock.turn(3600)
    assert api("GET", "/v2/me").status == 429
    real[0] = 1.0
    assert api("GET", "/v2/me").status == 200
