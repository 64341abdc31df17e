"""Progress on stderr, of what takes longer than a second: drawn in place on a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final

from .exits import say
from .render import seconds

if TYPE_CHECKING:
    from .common import Common

__all__ = ["noticed", "shown"]

UNNOTICED: Final = 1.0  # s without a word
FRAME: Final = 0.2  # s between two drawings
LINE: Final = 10.0  # s between two lines, where nothing can be drawn in place


@asynccontextmanager
async def shown(
    common: Common, told: Callable[[], str], share: Callable[[], float] | None = None
) -> AsyncIterator[None]:
    """While the block lasts, show what ``told`` says, and a bar if the ``share`` done is known."""
    if common.quiet or (common.as_json and sys.stdout.isatty()):  # lines on the same terminal would break the drawing
        yield
        return
    showing = asyncio.create_task(_show(told, share))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


def noticed(common: Common, doing: str | Callable[[], str]) -> AbstractAsyncContextManager[None]:
    """While the block lasts, say what it does and for how long."""
    began = time.monotonic()
    words = doing if callable(doing) else lambda: doing
    return shown(common, lambda: f"{words()}, {seconds(time.monotonic() - began)}")


async def _show(told: Callable[[], str], share: Callable[[], float] | None) -> None:
    await asyncio.sleep(UNNOTICED)
    if not sys.stderr.isatty():
        while True:
            await asyncio.sleep(LINE - UNNOTICED)
            say(told())
            await asyncio.sleep(UNNOTICED)
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    console = Console(stderr=True)
    # Lines said meanwhile appear above the drawing; stdout is not to be touched.
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            bar = [] if share is None else [ProgressBar(1.0, share(), width=40, finished_style="green")]
            live.update(Group(*bar, Text(told(), overflow="fold")), refresh=True)
            await asyncio.sleep(FRAME)
