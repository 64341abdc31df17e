"""The clients that generators write from openapi.yaml, made at bench time where the generators are installed."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import subprocess
import sysconfig
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from .calls import TOKEN, Call, Way

__all__ = ["GENERATORS", "Generator"]

DEFINITION: Final = Path(__file__).parents[1] / "tests" / "openapi.yaml"
LONGEST: Final = 120.0  # s that a generator may take


@contextlib.asynccontextmanager
async def _with_pydantic(url: str) -> AsyncIterator[Call]:
    package = importlib.import_module("made_with_pydantic")
    configuration = package.Configuration(host=f"{url}/v2", access_token=TOKEN)
    async with package.ApiClient(configuration) as client:
        runs = package.RunsApi(client)
        yield lambda: runs.get_run(uuid.uuid4())


@contextlib.asynccontextmanager
async def _with_httpx(url: str) -> AsyncIterator[Call]:
    package = importlib.import_module("made_with_httpx")
    get_run = importlib.import_module("made_with_httpx.api.runs.get_run")
    async with package.AuthenticatedClient(base_url=f"{url}/v2", token=TOKEN) as client:
        yield lambda: get_run.asyncio(uuid.uuid4(), client=client)


@attrs.frozen
class Generator:
    """A generator: its command, the options that put a package into a folder, and the read of a run made with it."""

    command: str
    options: Callable[[Path], Sequence[str | Path]]
    way: Way

    def make(self, folder: Path) -> str | None:
        """Generate a client into ``folder``; returns why it could not be, None if all went well."""
        # Beside the interpreter that runs this, for its folder need not be on the PATH.
        command = shutil.which(self.command, path=sysconfig.get_path("scripts")) or shutil.which(self.command)
        if command is None:
            return f"{self.command} is not installed (extra `benchmarks`)"
        line = [command, "generate", *self.options(folder)]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=LONGEST, check=False)
        if done.returncode:
            return f"{self.command} failed: {' '.join((done.stderr or done.stdout).split())[-200:]}"
        return None


def _openapi_generator(folder: Path) -> Sequence[str | Path]:
    names: list[str | Path] = ["--package-name", "made_with_pydantic", "--output", folder]
    return ["--input-spec", DEFINITION, "--generator-name", "python", "--library", "asyncio", *names]


def _openapi_python_client(folder: Path) -> Sequence[str | Path]:
    return ["--path", DEFINITION, "--meta", "none", "--output-path", folder / "made_with_httpx"]


GENERATORS: Final = {
    "openapi-generator": Generator("openapi-generator-cli", _openapi_generator, _with_pydantic),
    "openapi-python-client": Generator("openapi-python-client", _openapi_python_client, _with_httpx),
}
