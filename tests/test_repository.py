"""What the repository holds, and what an import costs those who do not use the extras."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "CHANGELOG.md",
    "README.md",
    "benchmarks",
    "deepnote_async",
    "examples",
    "pyproject.toml",
    "tests",
}
# All extras but orjson, which is used wherever it is installed.
EXTRAS = {"click", "fastapi", "opentelemetry", "pandas", "redis", "rich", "typer", "uvloop", "yaml"}


def test_the_top_level_holds_what_its_owner_asked_for():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git repository")
    names = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
    assert {"README.md", "CHANGELOG.md", "pyproject.toml", "deepnote_async", "tests", "examples"} <= names


def test_an_import_loads_no_extra():
    program = "import json, sys; from deepnote_async import *; print(json.dumps(sorted(sys.modules)))"
    # -I: neither this folder nor the environment adds a module of its own.
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert {"deepnote_async.client", "aiohttp"} <= set(loaded)
    assert not {name.partition(".")[0] for name in loaded} & EXTRAS
    assert not {"deepnote_async.testing", "deepnote_async.cli"} & set(loaded)


def test_the_package_is_marked_as_typed():
    assert (ROOT / "deepnote_async" / "py.typed").is_file()


def test_no_room_asks_the_package_itself_for_another():
    # The package would load everything to answer, the room that asks included.
    package = ROOT / "deepnote_async"
    for room in package.rglob("*.py"):
        depth = len(room.relative_to(package).parts)
        for node in ast.walk(ast.parse(room.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is None and node.level == depth:
                assert [name.name for name in node.names] == ["__version__"], room
