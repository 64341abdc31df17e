"""What goes wrong on purpose does so exactly as scripted."""

from __future__ import annotations

import json

import pytest

from deepnote_async.testing import Fault, FixedWindow

RUN = "/v2/runs"
AFTER = {"drop_after", "error_after", "delay", "hang_after", "truncated"}
KINDS = {"refuse", "drop_before", "error_before", "hang", "html", *AFTER}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_effect_is_done_or_not(make, kind):
    api = make(faults=[Fault(kind, methods="post")])
    notebook = api.service.add_notebook()
    reply = api("POST", RUN, {"notebookId": notebook.id})
    assert len(notebook.runs) == (kind in AFTER)
    call = api.service.calls[-1]
    assert call.fault == kind
    assert (call.run_id is not None) == (kind in AFTER)
    assert (call.status is None) == (reply.breaks in {"refuse", "drop", "hang"})
    assert api("GET", "/v2/me").status == 200


def test_rate_path_and_count(make):
    api = make(faults=[Fault("error_before", 0.25, path="/v2/me"), Fault("drop_before", path="/v2/projects", count=2)])
    hits = sum(api("GET", "/v2/me").status == 503 for _ in range(400))
    assert 70 < hits < 130
    assert [api("GET", "/v2/projects").breaks for _ in range(3)] == ["drop", "drop", None]


def test_any_status_can_be_scripted(make):
    api = make(faults=[Fault("error_before", status=429, headers={"Retry-After": "2"}, count=1)])
    reply = api("GET", "/v2/me")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "2")
    assert json.loads(reply.body) == {"message": "Too Many Requests"}
    api.service.faults = [Fault("error_after", status=599, html=True)]
    assert api("GET", "/v2/me").body.startswith(b"<!DOCTYPE html>")


def test_a_page_of_a_proxy_and_a_delay(make):
    api = make(faults=[Fault("html", count=1), Fault("delay", seconds=3, count=1)])
    page = api("GET", "/v2/me")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert api("GET", "/v2/me").delay == 3


def test_a_start_comes_into_being_after_the_break(make, clock):
    api = make(faults=[Fault("drop_after", count=1, late_start=5)])
    notebook = api.service.add_notebook()
    assert api("POST", RUN, {"notebookId": notebook.id}).breaks == "drop"
    run_id = api.service.calls[-1].run_id
    assert api("GET", f"{RUN}/{run_id}").status == 404
    clock.turn(5)
    assert api.json("GET", f"{RUN}/{run_id}")["run"]["createdAt"] == "2027-01-15T08:00:05.000Z"


@pytest.mark.parametrize(
    ("kind", "status", "breaks"),
    [("refuse", 200, "refuse"), ("hang", 200, "hang"), ("html", 503, None), ("unauthorized", 401, None)],
)
def test_an_outage_lasts_its_time(live, clock, kind, status, breaks):
    notebook = live.service.add_notebook()
    live.service.outage(10, 20, kind)
    seen = []
    for _ in range(3):
        reply = live("POST", RUN, {"notebookId": notebook.id})
        seen.append((reply.status, reply.breaks))
        clock.turn(10)
    assert seen == [(202, None), (status, breaks), (202, None)]
    assert len(notebook.runs) == 2


def test_an_outage_can_be_lifted_and_goes_before_the_limit(make):
    api = make(limit=FixedWindow(1))
    outage = api.service.outage()
    assert [api("GET", "/v2/me").breaks for _ in range(2)] == ["refuse"] * 2
    outage.lift()
    assert api("GET", "/v2/me").status == 429


def test_faults_follow_from_the_seed(make):
    def hits(seed):
        api = make(seed=seed, faults=[Fault("error_before", 0.5)])
        return [api("GET", "/v2/me").status for _ in range(50)]

    assert hits(1) == hits(1) != hits(2)
