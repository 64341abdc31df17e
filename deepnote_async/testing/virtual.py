"""An event loop whose clock jumps to whatever comes next: ten minutes of waiting pass in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

__all__ = ["VirtualTimeLoop", "run_virtual"]

T = TypeVar("T")
RESOLUTION: Final = 1e-9
PATIENCE: Final = 0.5  # real seconds for a thread to finish before nothing more is expected


class _JumpingSelector(selectors.DefaultSelector):
    """Where a real selector would sleep, lets the clock jump instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Report what is ready now; if nothing is, time has passed."""
        ready = super().select(PATIENCE if timeout is None else 0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits and nothing is due: this would never end")
            self.now += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop in virtual time, which begins at 0, for code that does no real I/O.

    Where every task waits and nothing is due, running it raises RuntimeError: a deadlock is an error, not a hang.
    Time does not wait for threads.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = RESOLUTION

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._jumping.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the executor's threads, however short the ``timeout``: in virtual time it would be over at once."""
        del timeout  # from Python 3.12 on
        await super().shutdown_default_executor()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like ``asyncio.run``, in virtual time; tasks it leaves behind are cancelled.

    ::

        async def ten_minutes() -> float:
            await asyncio.sleep(600)
            return asyncio.get_running_loop().time()


        assert run_virtual(ten_minutes()) == 600  # at once
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
