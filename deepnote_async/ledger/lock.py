"""A lock that one process holds and that ends with it, however it ends."""

from __future__ import annotations

import os
import sys

__all__ = ["FileLock", "HeldError"]


class HeldError(Exception):
    """Another process, or another batch of this one, holds the lock."""


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    _HELD: tuple[type[OSError], ...] = (PermissionError, OSError)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    _HELD: tuple[type[OSError], ...] = (BlockingIOError,)


class FileLock:
    """The operating system's own lock on a file beside the ledger.

    Not on the ledger itself: closing a second descriptor of a file drops the locks that SQLite holds on it. The lock
    file stays, for removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: str) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(self._descriptor)
        except BaseException as error:
            self.release()
            if isinstance(error, _HELD):
                raise HeldError(path) from None
            raise

    def release(self) -> None:
        """Let it go; the process's end does the same."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
