"""The one thread that writes a ledger.

A thread of its own, for the default executor may be busy with a caller's work for minutes. What comes while it writes
is one group, one transaction and one sync: the slower the disk, the larger the groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .records import Row

if TYPE_CHECKING:
    from .records import Values
    from .store import Store

__all__ = ["Writer"]


class Writer:
    """Writes rows in the order they are put, and tells when they are on disk; for one event loop.

    After the first failure nothing more is written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._bell = threading.Condition()
        # Shared with the thread, under the bell.
        self._pending: dict[int, Values] = {}
        self._put = 0
        self._closing = False
        # Of the event loop alone.
        self._on_disk = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._opened: asyncio.Future[list[Row]] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.broken: ConfigurationError | None = None
        """Why nothing is written any more."""

    async def open(self) -> list[Row]:
        """Lock and open the file and return what it holds; raises :class:`ConfigurationError`."""
        threading.Thread(target=self._work, name="deepnote ledger", daemon=True).start()
        try:
            return await asyncio.shield(self._opened)
        except BaseException:
            self.shut()
            self._opened.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    @property
    def busy(self) -> bool:
        """Whether the thread has something to do."""
        unwritten = self._on_disk < self._put and self.broken is None
        return not self._closed.done() and (not self._opened.done() or unwritten or self._closing)

    @property
    def on_disk(self) -> int:
        """The last of what was put that is known to be on disk."""
        return self._on_disk

    def put(self, row: Row) -> int:
        """Have a row written as it is now; the number is for :meth:`written`."""
        values = row.values()
        with self._bell:
            if self.broken is None:
                self._pending[row.id] = values
            self._put += 1
            self._bell.notify()
            return self._put

    async def written(self, ticket: int) -> None:
        """Wait until what was put up to then is on disk; raises :class:`ConfigurationError` if it will not be."""
        if self._on_disk < ticket and self.broken is None:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append((ticket, waiter))
            await waiter
        if self._on_disk < ticket and self.broken is not None:
            raise ConfigurationError(*self.broken.args) from self.broken

    def shut(self) -> None:
        """Let the thread write what was put, close the file and end."""
        with self._bell:
            self._closing = True
            self._bell.notify()

    async def close(self) -> None:
        """:meth:`shut`, and wait for it."""
        self.shut()
        await asyncio.shield(self._closed)

    # In the thread.

    def _work(self) -> None:
        store: Store | None = None
        try:
            store = self._open()
            if store is not None:
                self._write_all(store)
        finally:
            if store is not None:
                store.close()
            self._tell(self._has_closed)

    def _open(self) -> Store | None:
        # SQLite is loaded only by those who keep a ledger.
        try:
            from .store import Store

            store = Store.writing(self._path)
            try:
                rows = [row for chunk in store.rows() for row in chunk]
            except BaseException:
                store.close()
                raise
        except Exception as error:  # noqa: BLE001 - told to who waits for it
            self._tell(functools.partial(self._opened.set_exception, error))
            return None
        self._tell(functools.partial(self._opened.set_result, rows))
        return store

    def _write_all(self, store: Store) -> None:
        while True:
            with self._bell:
                while not self._pending and not self._closing:
                    self._bell.wait()
                group, self._pending = self._pending, {}
                ticket = self._put
            if not group:
                return
            try:
                store.put(list(group.values()))
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
                return
            self._tell(functools.partial(self._has_written, ticket))

    def _fail(self, error: Exception) -> None:
        failure = error if isinstance(error, ConfigurationError) else ConfigurationError(f"the ledger failed: {error}")
        self._tell(functools.partial(self._has_failed, failure))

    def _tell(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody is left to hear
            self._loop.call_soon_threadsafe(what)

    # Back in the loop.

    def _has_written(self, ticket: int) -> None:
        self._on_disk = ticket
        while self._waiters and self._waiters[0][0] <= ticket:
            _wake(self._waiters.popleft()[1])

    def _has_failed(self, error: ConfigurationError) -> None:
        self.broken = error
        while self._waiters:
            _wake(self._waiters.popleft()[1])

    def _has_closed(self) -> None:
        if self.broken is None and self._on_disk < self._put:
            self.broken = ConfigurationError("the ledger was closed")
        while self._waiters:
            _wake(self._waiters.popleft()[1])
        _wake(self._closed)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
