"""The requests of a batch: where they are read from, and each on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import attrs

from ..errors import DeepnoteError, InvalidRequestError, OutcomeUnknownError
from ..models import Run, RunStatus
from ..run_request import RunRequest
from .results import RunResult

if TYPE_CHECKING:
    from ..ledger.records import Row
    from ..transport import HttpRequest

__all__ = ["Entry", "Requests", "reader_of"]

Requests: TypeAlias = Iterable[RunRequest | str] | AsyncIterable[RunRequest | str]


@attrs.define(eq=False)
class Entry:
    """One request on its way: it waits, is on the wire, is of unknown outcome, is started, or has ended."""

    index: int
    request: RunRequest
    http: HttpRequest | None = None
    task: asyncio.Task[None] | None = None
    sent_at: float = 0.0
    unknown: OutcomeUnknownError | None = None
    run_id: str | None = None
    status: RunStatus | None = None
    ended: bool = False
    row: Row | None = None  # in the ledger, if one is kept

    @property
    def leftover(self) -> bool:
        """Whether only the ledger names it."""
        return self.index < 0

    @property
    def notebook_id(self) -> str:
        """The notebook it is for."""
        return self.request.notebook_id

    @property
    def on_wire(self) -> bool:
        """Whether its start may have reached the service and has no answer yet."""
        return self.task is not None and self.unknown is None and self.http is not None and self.http.sent > 0

    def result(self, run: Run | None = None, error: DeepnoteError | None = None) -> RunResult:
        """What became of it."""
        key = self.request.key if self.row is None else self.row.key
        return RunResult(index=self.index, key=key, request=self.request, run_id=self.run_id, run=run, error=error)


def reader_of(requests: Requests) -> AsyncIterator[RunRequest | str]:
    """Any iterable as an async iterator; raises :class:`InvalidRequestError` for what is none."""
    if isinstance(requests, AsyncIterable):
        return aiter(requests)
    if isinstance(requests, str | bytes | Mapping) or not isinstance(requests, Iterable):
        raise InvalidRequestError("run_many takes an iterable of RunRequests: write run_many([request])")
    return _Stepped(iter(requests))


class _Stepped:
    """A plain iterator read as an async one; a generator would not survive being cancelled in between."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        for request in self._iterator:
            return request
        raise StopAsyncIteration
