"""Runs under a clock: their lives, their lengths, what a test can script, what they leave behind."""

from __future__ import annotations

import math
import statistics
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnote_async.testing import Block, Service
from deepnote_async.testing.snapshots import document

RUN = "/v2/runs"


def start(api, notebook, **body):
    return api.json("POST", RUN, {"notebookId": notebook.id, **body}, status=202)["runId"]


def status(api, run_id, **query):
    return api.json("GET", f"{RUN}/{run_id}", **query)["run"]["status"]


def test_a_run_goes_from_pending_over_running_to_its_end(live, clock):
    notebook = live.service.notebook("report").succeeds(after=10)
    run_id = start(live, notebook)
    seen = [status(live, run_id)]
    for _ in range(4):
        clock.turn(2.5)
        seen.append(status(live, run_id))
    assert seen == ["pending", "running", "running", "running", "success"]
    run = live.service.runs[run_id]
    assert run.ended_at == run.created_at + 10 == clock.now


def test_scripts_apply_in_order_and_the_last_one_stays(live, clock):
    notebook = live.service.notebook("report").fails("NameError: x", times=2).stalls(times=1).succeeds(after=1)
    ids = [start(live, notebook) for _ in range(5)]
    clock.turn(10_000)
    assert [status(live, item) for item in ids] == ["error", "error", "running", "success", "success"]
    assert live.json("GET", f"{RUN}/{ids[0]}")["run"]["error"] == "NameError: x"
    live.service.end_run(ids[2], "stopped")
    assert status(live, ids[2]) == "stopped"
    assert live.service.end_run(ids[2], "success").final == "stopped"


@pytest.mark.parametrize("end", ["internal_error", "stopped", "error"])
def test_other_ends(live, clock, end):
    run_id = start(live, live.service.notebook("report").fails(status=end, after=1))
    clock.turn(1)
    assert status(live, run_id) == end


def test_the_same_notebook_by_the_same_name(live):
    assert live.service.notebook("report") is live.service.notebook("report")
    assert live.service.notebook("other") is not live.service.notebook("report")


def test_lengths_are_lognormal_and_come_from_the_seed():
    def lengths(seed):
        service = Service(seed=seed, median=100, sigma=0.5)
        notebook = service.add_notebook()
        runs = [service.add_run(notebook) for _ in range(2000)]
        return [run.ends_at - run.created_at for run in runs]

    # Times since the epoch keep a fraction of a microsecond.
    assert lengths(1) == pytest.approx(lengths(1), abs=1e-5)
    assert lengths(1)[:5] != pytest.approx(lengths(2)[:5])
    logs = [math.log(length / 100) for length in lengths(1)]
    assert abs(statistics.fmean(logs)) < 0.05
    assert 0.45 < statistics.pstdev(logs) < 0.55


def test_lengths_of_one_notebook(make, clock):
    api = make(median=1e6)
    quick = api.service.add_notebook(lengths=3)
    drawn = api.service.add_notebook(lengths=lambda chance: chance.uniform(5, 6))
    assert api.service.add_run(quick).ends_at == clock.now + 3
    assert 5 <= api.service.add_run(drawn).ends_at - clock.now <= 6
    assert api.service.add_run(quick, length=9).ends_at == clock.now + 9


def test_a_share_fails_mostly_without_a_word():
    service = Service(failures=0.3)
    notebook = service.add_notebook()
    runs = [service.add_run(notebook) for _ in range(2000)]
    failed = [run for run in runs if run.final == "error"]
    assert 500 < len(failed) < 700
    assert 0.7 < sum(run.error is None for run in failed) / len(failed) < 0.9


def test_a_late_birth_is_seen_by_nobody_before(live, clock):
    notebook = live.service.add_notebook(lengths=100)
    run = live.service.add_run(notebook, late=5)
    path = f"/v2/notebooks/{notebook.id}/runs"
    assert live("GET", f"{RUN}/{run.id}").status == 404
    assert live.json("GET", path)["runs"] == []
    clock.turn(5)
    assert status(live, run.id) == "pending"
    assert [row["createdAt"] for row in live.json("GET", path)["runs"]] == ["2027-01-15T08:00:05.000Z"]


def test_twenty_thousand_runs_cost_nothing_while_nobody_asks(make):
    api = make()
    notebook = api.service.add_notebook()
    for _ in range(20_000):
        api.service.add_run(notebook)
    path = f"/v2/notebooks/{notebook.id}/runs"
    began = time.perf_counter()
    for _ in range(100):
        api("GET", path)
    # About 0.1 ms a page; walking all runs would take a hundred times as long.
    assert time.perf_counter() - began < 0.5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["on", "n"]), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.text() | st.dictionaries(st.text(min_size=1), json_values, min_size=1, max_size=3), max_size=3))
def test_any_outputs_survive_the_document(outputs):
    service = Service(clock=lambda: 1_800_000_000.0)
    notebook = service.notebook("report").succeeds(outputs=outputs)
    page = yaml.safe_load(document(notebook, service.add_run(notebook)))["project"]["notebooks"][0]
    rows = page["blocks"][-1]["outputs"]
    assert [row["text"] if isinstance(asked, str) else row for row, asked in zip(rows, outputs, strict=True)] == outputs


class TestSnapshots:
    def test_it_comes_late_and_by_a_link_unless_asked_otherwise(self, make, clock):
        api = make(snapshot_delay=4)
        run_id = start(api, api.service.notebook("report").succeeds(after=1))
        clock.turn(1)
        run = api.json("GET", f"{RUN}/{run_id}")["run"]
        assert (run["status"], run["snapshotStatus"]) == ("success", "pending")
        assert run["snapshotContent"] is run["snapshotDownloadUrl"] is None
        clock.turn(4)
        run = api.json("GET", f"{RUN}/{run_id}")["run"]
        assert run["snapshotStatus"] == "available"
        assert run["snapshotContent"] is None
        assert run["snapshotDownloadUrl"].startswith(api.service.storage.url)

    def test_inline_is_the_document(self, live, clock):
        outputs = ["a: 1\n- 'x'\n", {"output_type": "display_data", "data": {"text/plain": "42"}, "metadata": {}}]
        notebook = live.service.notebook("report").succeeds(after=1, outputs=outputs)
        run_id = start(live, notebook)
        clock.turn(1)
        run = live.json("GET", f"{RUN}/{run_id}", query="snapshotDelivery=inline")["run"]
        page = yaml.safe_load(run["snapshotContent"])["project"]["notebooks"][0]
        assert (page["id"], page["name"]) == (notebook.id, "report")
        first, second = page["blocks"][-1]["outputs"]
        assert (first["output_type"], first["text"]) == ("stream", outputs[0])
        assert second == outputs[1]

    def test_blocks_have_outputs_and_no_source(self, live, clock):
        run_id = start(live, live.service.notebook("report").fails("NameError: x", after=1), inputs={"a": "b"})
        clock.turn(1)
        rows = live.json("GET", f"{RUN}/{run_id}", query="snapshotDelivery=blocks")["run"]["snapshotBlocks"]
        assert all(set(row) == {"id", "type", "outputs", "metadata"} for row in rows)
        (told,) = rows[-1]["outputs"]
        assert (told["output_type"], told["ename"], told["evalue"]) == ("error", "NameError", "x")
        assert told["traceback"][-1] == "\x1b[0;31mNameError\x1b[0m: x"

    def test_only_the_blocks_asked_for_were_executed(self, live, clock):
        notebook = live.service.add_notebook(blocks=[Block("a"), Block("b"), Block("t", "markdown")], lengths=1)
        run_id = start(live, notebook, blockIds=["b"], detached=False)
        clock.turn(1)
        rows = live.json("GET", f"{RUN}/{run_id}", query="snapshotDelivery=blocks")["run"]["snapshotBlocks"]
        assert [row["id"] for row in rows] == ["b"]
        assert "inputs: {}" in rows[0]["outputs"][0]["text"]

    def test_nothing_executable_leaves_none(self, live, clock):
        run_id = start(live, live.service.add_notebook(blocks=[Block("t", "markdown")], lengths=1))
        assert live.json("GET", f"{RUN}/{run_id}")["run"]["snapshotStatus"] == "pending"
        clock.turn(1)
        run = live.json("GET", f"{RUN}/{run_id}", query="snapshotDelivery=inline")["run"]
        assert (run["status"], run["snapshotStatus"], run["snapshotContent"]) == ("success", "unavailable", None)

    def test_older_servers_do_not_tell_where_it_stands(self, make):
        api = make(tells_snapshot_status=False)
        assert "snapshotStatus" not in api.json("GET", f"{RUN}/{start(api, api.service.add_notebook())}")["run"]

    def test_the_link_needs_its_signature_and_no_token_and_expires(self, make, clock):
        api = make(link_ttl=30)
        run_id = start(api, api.service.notebook("report").succeeds(after=1))
        clock.turn(1)
        link = api.json("GET", f"{RUN}/{run_id}")["run"]["snapshotDownloadUrl"]
        path, _, query = link.removeprefix(api.service.storage.url).partition("?")

        def fetch(path, query):
            return api.service.storage.handle(api.service, "GET", path, query, {"X": "y"})

        inline = api.json("GET", f"{RUN}/{run_id}", query="snapshotDelivery=inline")["run"]["snapshotContent"]
        assert fetch(path, query).body.decode() == inline
        assert fetch(path, query.replace("30", "31", 1) + "0").status == 403
        assert fetch(path, "").status == 403
        assert fetch("/snapshots/none", query).status == 404
        clock.turn(30)
        expired = fetch(path, query)
        assert expired.status == 403
        assert b"expired" in expired.body
        assert [call.status for call in api.service.storage.calls] == [200, 403, 403, 404, 403]
        assert api.service.storage.calls[0].headers == {"X": "y"}
