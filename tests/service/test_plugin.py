"""The pytest plugin, used as its users would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from deepnote_async import DeepnoteClient, NotFoundError, RateLimitError, RetryPolicy, RunFailedError, RunTimeoutError
from deepnote_async.testing import VirtualDeepnote, plugin
from deepnote_async.testing.kit import ThreadedDeepnote


async def test_a_run_succeeds_with_outputs(fake_deepnote, deepnote_client):
    report = fake_deepnote.notebook("report").succeeds(after=3, outputs=["revenue: 4200"])
    run = await deepnote_client.run(report.id, snapshot="blocks", check=True, timeout=30)
    assert "revenue: 4200" in str(run.snapshot_blocks)


async def test_a_run_fails(fake_deepnote, deepnote_client):
    report = fake_deepnote.notebook("report").fails("NameError: x", after=3)
    with pytest.raises(RunFailedError, match="NameError: x"):
        await deepnote_client.run(report.id, check=True, timeout=30)


async def test_a_run_stalls(fake_deepnote, deepnote_client):
    report = fake_deepnote.notebook("report").stalls()
    with pytest.raises(RunTimeoutError):
        await deepnote_client.run(report.id, timeout=0.2)


@pytest.mark.slow
async def test_throttle_refuse_and_outage(fake_deepnote, deepnote_client):
    fake_deepnote.refuse(2, retry_after=0)
    assert (await deepnote_client.me()).access_level == "admin"
    assert [call.status for call in fake_deepnote.calls] == [429, 429, 200]
    fake_deepnote.outage(5)  # half a second here
    assert (await deepnote_client.me()).access_level == "admin"
    assert {call.fault for call in fake_deepnote.calls} >= {"refuse"}
    once = deepnote_client.with_options(retry=RetryPolicy(attempts=1))
    fake_deepnote.throttle(0.001)
    await once.me()
    with pytest.raises(RateLimitError):
        await once.me()
    fake_deepnote.throttle(None)


@pytest.mark.deepnote(time_scale=1, failures=1.0, median=0.1)
async def test_the_marker_sets_options(fake_deepnote, deepnote_client):
    run = await deepnote_client.run(fake_deepnote.notebook("report").id, timeout=30)
    assert run.status == "error"


def test_a_plain_function_enters_the_client_in_its_own_loop(fake_deepnote, deepnote_client):
    async def main():
        async with deepnote_client as client:
            with pytest.raises(NotFoundError):
                await client.runs.get("unknown")

    asyncio.run(main())
    assert [call.status for call in fake_deepnote.calls] == [404]


def test_a_client_can_be_made_by_hand(fake_deepnote):
    async def main():
        async with fake_deepnote.client(max_connections=1) as client:
            return await client.me()

    assert asyncio.run(main()).access_level == "admin"


def test_ten_minutes_pass_in_milliseconds(virtual_deepnote):
    report = virtual_deepnote.notebook("report").succeeds(after=600, outputs=["done"])

    async def main(client: DeepnoteClient):
        return await client.run(report.id, timeout=900, check=True)

    began = time.monotonic()
    run = virtual_deepnote.run(main)
    assert time.monotonic() - began < 1
    assert run.duration.total_seconds() == pytest.approx(600, abs=2)
    assert 600 <= virtual_deepnote.seconds < 640
    assert len(virtual_deepnote.calls) < 60


def test_an_outage_of_an_hour_passes_at_once(virtual_deepnote):
    report = virtual_deepnote.notebook("report").succeeds(after=60)

    async def main(client):
        started = await client.runs.create(report.id)
        virtual_deepnote.outage(3000)
        return await client.await_run(started)

    assert virtual_deepnote.run(main).succeeded
    assert virtual_deepnote.seconds >= 3000


@pytest.mark.deepnote(failures=1.0)
def test_the_marker_is_for_virtual_time_too(virtual_deepnote):
    async def main(client):
        return await client.run(virtual_deepnote.notebook("report").id)

    assert virtual_deepnote.run(main).status == "error"


@pytest.mark.parametrize("kind", [ThreadedDeepnote, VirtualDeepnote])
def test_an_option_there_is_not_is_told_at_the_marker(kind):
    with ExitStack() as stack, pytest.raises(pytest.UsageError, match=r"mark.deepnote: .*'rate'.*help"):
        plugin._entered(stack, kind, {"rate": 5})


def test_loading_the_plugin_loads_nothing_else(tmp_path):
    """Under the name it is installed by, at the top level; tests/service/test_outside_project.py installs it."""
    (tmp_path / "pytest_deepnote_async.py").write_text(Path(plugin.__file__).read_text())
    program = (
        f"import sys, pytest; sys.path.insert(0, {str(tmp_path)!r}); before = set(sys.modules); "
        "import pytest_deepnote_async; print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['pytest_deepnote_async']", done.stderr
