"""An app asked in memory, and the example as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from fastapi import FastAPI

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_app"


async def until(asks: Callable[[], Awaitable[Any]], good: Callable[[Any], object] = bool, patience: float = 20) -> Any:
    """Ask again and again until the answer is good; it is returned."""
    async with asyncio.timeout(patience):
        while True:
            answer = await asks()
            if good(answer):
                return answer
            await asyncio.sleep(0.05)


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


async def ask(
    app: FastAPI, method: str, path: str, body: Any = None, *, state: Any = None, headers: Any = None
) -> Answer:
    """Ask an app as a server would, in memory; what it raises is raised here."""
    raw = b"" if body is None else json.dumps(body).encode()
    given = {"content-type": "application/json"} | (headers or {})
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
    scope |= {"method": method, "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"root_path": "", "headers": [(key.encode(), value.encode()) for key, value in given.items()]}
    scope |= {"state": dict(state or {})}
    sent: list[Any] = []
    asked = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if asked.is_set():
            await asyncio.get_running_loop().create_future()
        asked.set()
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    return Answer(sent[0]["status"], {key.decode(): value.decode() for key, value in sent[0]["headers"]}, text)


@attrs.define
class Running:
    """The example, served by uvicorn."""

    url: str
    process: asyncio.subprocess.Process

    async def terminate(self) -> int:
        """Tell it to end, as an orchestrator would, and wait."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def served(*arguments: str, **environment: str) -> AsyncIterator[Running]:
    """``python examples/fastapi_app/serve.py`` on a free port; it must leave no word of trouble."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEEPNOTE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(EXAMPLE / "serve.py"), *arguments, "--port", "0"),
        env=inherited | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    trouble = asyncio.create_task(process.stderr.read())
    try:
        line = (await process.stdout.readline()).decode()
        assert "http://" in line, (await trouble).decode()
        yield Running("http://" + line.partition("http://")[2].split("/")[0], process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        said = (await trouble).decode()
    assert "Traceback" not in said, said
    assert "Unclosed" not in said, said
    assert "never retrieved" not in said, said
