"""Ctrl-C, handled by the event loop: nothing is broken off in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

__all__ = ["on_interrupt"]


@contextlib.contextmanager
def on_interrupt(first: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """While the block lasts, call ``first`` at the first Ctrl-C and cancel this task at the second.

    Gives a function that tells whether the second came. A third one breaks off whatever is still being tidied up.
    Where the loop takes no signal handlers (Windows, another thread) the first one is as in any program.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    presses = 0

    def pressed() -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            first()
        elif task is not None:
            loop.remove_signal_handler(signal.SIGINT)
            task.cancel()

    with contextlib.suppress(NotImplementedError, RuntimeError):
        loop.add_signal_handler(signal.SIGINT, pressed)
    try:
        yield lambda: presses > 1
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
