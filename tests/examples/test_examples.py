"""The examples run as a reader would run them, on the embedded service and against a base URL."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from deepnote_async.testing import FakeDeepnote

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run_example(name: str, *arguments: str, **environment: str) -> tuple[int | None, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEEPNOTE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *arguments),
        env=inherited | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"quickstart.py", "fan_out.py"}
    # That of fastapi_app has tests/service.
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"} == {"fastapi_app"}


@pytest.mark.slow
async def test_quickstart_shows_the_outputs_of_a_run():
    status, output = await run_example("quickstart.py")
    assert status == 0, output
    assert "success after 0:00:45" in output
    assert "revenue: 4200" in output


@pytest.mark.slow
async def test_fan_out_accounts_for_every_combination():
    status, output = await run_example("fan_out.py")
    assert status == 0, output
    assert output.count("{'region'") == 20
    assert "20 requests: 18 succeeded, 2 failed, 0 without a result" in output


@pytest.mark.slow
async def test_quickstart_takes_a_notebook_and_a_key_from_the_environment():
    async with FakeDeepnote(time_scale=20) as fake:
        notebook = fake.notebook("Report").succeeds(after=5, outputs=["hello from here"])
        status, output = await run_example(
            "quickstart.py", notebook.id, DEEPNOTE_TOKEN=fake.token, DEEPNOTE_BASE_URL=fake.url
        )
    assert status == 0, output
    assert "hello from here" in output


@pytest.mark.slow
async def test_quickstart_says_why_a_notebook_failed():
    async with FakeDeepnote(time_scale=20) as fake:
        notebook = fake.notebook("Report").fails("ZeroDivisionError: division by zero", after=5)
        status, output = await run_example(
            "quickstart.py", notebook.id, DEEPNOTE_TOKEN=fake.token, DEEPNOTE_BASE_URL=fake.url
        )
    assert status == 1
    assert "division by zero" in output
    assert "Traceback" not in output


@pytest.mark.slow
async def test_fan_out_reads_choices_from_its_arguments():
    async with FakeDeepnote(time_scale=20) as fake:
        notebook = fake.notebook("Report").succeeds(after=5)
        status, output = await run_example(
            *("fan_out.py", notebook.id, "region=EU,US", "year=2024"),
            DEEPNOTE_TOKEN=fake.token,
            DEEPNOTE_BASE_URL=fake.url,
        )
        started = [dict(run.inputs) for run in notebook.runs]
    assert status == 0, output
    assert started == [{"region": "EU", "year": "2024"}, {"region": "US", "year": "2024"}]
