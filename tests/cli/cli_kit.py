"""The real program as a process: its output piped, or on a terminal of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from typing import Any

import attrs

from deepnote_async.testing import FakeDeepnote

PROGRAM = (sys.executable, "-m", "deepnote_async.cli")
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@attrs.frozen
class Done:
    """How the program ended."""

    status: int | None
    out: str
    err: str

    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def environment(fake: FakeDeepnote | None, **more: str) -> dict[str, str]:
    others = ("DEEPNOTE_", "_", "COLUMNS", "LINES", "NO_COLOR")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    known = {} if fake is None else {"DEEPNOTE_TOKEN": fake.token, "DEEPNOTE_BASE_URL": fake.url}
    return inherited | {"TERM": "xterm-256color"} | known | more


class Piped:
    """The program with its output in pipes."""

    def __init__(self, fake: FakeDeepnote | None) -> None:
        self._fake = fake
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: object, **more: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *map(str, arguments),
            env=environment(self._fake, **more),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        return self.process

    async def __call__(self, *arguments: object, stdin: str = "", **more: str) -> Done:
        process = await self.start(*arguments, **more)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        return Done(process.returncode, out.decode(), err.decode())


class Terminal:
    """The program on a terminal: what it shows is in ``shown``, and ``type`` types."""

    def __init__(self, fake: FakeDeepnote | None) -> None:
        self._fake = fake
        self.raw = ""
        self._changed = asyncio.Event()

    @property
    def shown(self) -> str:
        return CONTROLS.sub("", self.raw)

    async def start(self, *arguments: object, **more: str) -> None:
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self._process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *map(str, arguments),
            env=environment(self._fake, **more),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that ^C, typed, is a signal
        )
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other side is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
        self.raw += data.decode(errors="replace")
        self._changed.set()

    async def sees(self, pattern: str) -> str:
        async with asyncio.timeout(30):
            while not (found := re.search(pattern, self.shown)):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    async def ends(self) -> int:
        async with asyncio.timeout(30):
            status = await self._process.wait()
        await asyncio.sleep(0.05)  # the last bytes
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        return status
