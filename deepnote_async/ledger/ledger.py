"""The ledger as its users see it: named for a batch to keep, or opened to be read."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import InvalidRequestError
from .records import LedgerEntry, LedgerSummary, Row, entry_of

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Ledger"]

T = TypeVar("T")


class Ledger:
    """A file that remembers what became of a batch's requests: ``run_many(requests, ledger=Ledger("n.sqlite"))``.

    A path in place of it does the same; ``inputs=True`` keeps the requests' bodies, inputs and all, where otherwise
    only their hashes are kept. Making one touches no file. The file is its owner's alone to read, belongs on a local
    disk, and serves one batch at a time. :meth:`Ledger.open` reads one, while a batch keeps it, too.
    """

    __slots__ = ("_inputs", "_path")

    def __init__(self, path: str | os.PathLike[str], *, inputs: bool = False) -> None:
        try:
            given: object = os.fspath(path)
        except TypeError:
            given = None
        if not isinstance(given, str) or not given:
            raise InvalidRequestError(f"a ledger is the path of a file, not {path!r}")
        self._path = given
        self._inputs = inputs

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Ledger:
        """A ledger to be read; raises :class:`ConfigurationError` now if there is none that can be.

        ``async for entry in ledger`` gives a :class:`LedgerEntry` for each attempt at each request.
        """
        ledger = cls(path)
        ledger._store().close()
        return ledger

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._path

    @property
    def inputs(self) -> bool:
        """Whether the requests' bodies are kept."""
        return self._inputs

    def __repr__(self) -> str:
        return f"Ledger({self._path!r}, inputs={self._inputs})"

    async def summary(self) -> LedgerSummary:
        """How many requests stand where."""
        return await _in_thread(self._summary)

    def __aiter__(self) -> AsyncIterator[LedgerEntry]:
        return self._entries()

    async def _entries(self) -> AsyncIterator[LedgerEntry]:
        after = 0
        while chunk := await _in_thread(functools.partial(self._chunk, after)):
            for row in chunk:
                yield entry_of(row)
            after = chunk[-1].id

    # In a thread; a connection for each, so that a reader who stops half-way leaves none behind.

    def _store(self) -> Store:
        from .store import Store

        return Store.reading(self._path)

    def _chunk(self, after: int) -> list[Row]:
        with contextlib.closing(self._store()) as store:
            return next(store.rows(after), [])

    def _summary(self) -> LedgerSummary:
        with contextlib.closing(self._store()) as store:
            return store.summary()


async def _in_thread(work: Callable[[], T]) -> T:
    """Do some work in a thread that is nobody else's."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Callable[[], None]) -> None:
        if not done.done():
            result()

    def run() -> None:
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - told to who waits for it
            answer: Callable[[], None] = functools.partial(done.set_exception, error)
        else:
            answer = functools.partial(done.set_result, value)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, answer)

    threading.Thread(target=run, name="deepnote ledger reader", daemon=True).start()
    return await done
