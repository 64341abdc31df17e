"""An independent tool asks the reference dialect whatever the reference definition allows."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from deepnote_async.testing import FakeProcess

SPEC = Path(__file__).parents[1] / "openapi.yaml"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("phases", ["examples,coverage,fuzzing", "stateful"])
async def test_every_answer_conforms(phases, tmp_path):
    async with FakeProcess(dialect="reference", median=1, time_scale=100, token="key") as fake:
        # One definition, two bases: the version is part of the path the tool is given.
        spec = SPEC.read_text().replace("\n  /projects/{projectId}/notebooks", "\n  /v1/projects/{projectId}/notebooks")
        path = tmp_path / "openapi.yaml"
        path.write_text(re.sub(r"^  /(?!v1)", "  /v2/", spec, flags=re.MULTILINE))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", str(path), "--url", fake.url),
            *("-H", "Authorization: Bearer key", "-m", "positive", "-n", "30", "--phases", phases),
            # The definition lists no 404 for the runs of a notebook, so a deleted one has an empty list.
            *("--exclude-checks", "use_after_free", "--seed", "1", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
