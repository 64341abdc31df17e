"""A batch as its user sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .results import BatchStats, RunResult

if TYPE_CHECKING:
    from .fanout import Fanout

__all__ = ["RunBatch"]


class RunBatch:
    """The runs of ``run_many``: iterate it for one :class:`RunResult` for every request, as it ends.

    Requests are read as there is room: at most ``max_in_flight`` are started or waiting to be, results not yet taken
    included. Left early, by ``break``, an exception or a cancellation, it starts nothing more; the remote runs go on
    and are listed in :attr:`unfinished`. One task reads it at a time.
    """

    __slots__ = ("__weakref__", "_fanout")

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout

    async def __aenter__(self) -> Self:
        await self._fanout.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._fanout.leave(well=kind is None)

    def __aiter__(self) -> AsyncIterator[RunResult]:
        return self

    async def __anext__(self) -> RunResult:
        result = await self._fanout.next_result()
        if result is None:
            raise StopAsyncIteration
        return result

    async def collect(self) -> list[RunResult]:
        """All results, in the order of the requests."""
        return sorted([result async for result in self], key=lambda result: result.index)

    def stop(self, reason: str = "the batch was stopped") -> None:
        """Start nothing more: what was read and not started ends with :class:`NotStartedError`, runs are awaited."""
        self._fanout.stop(None, reason)

    @property
    def stats(self) -> BatchStats:
        """Where the batch stands; it goes on changing."""
        return self._fanout.stats

    @property
    def running(self) -> list[str]:
        """The ids of the runs that are awaited at this moment."""
        return self._fanout.running

    @property
    def unfinished(self) -> list[RunResult]:
        """Starts whose runs had not ended when the batch was over: their ``run_id``, or an error if it is not known.

        A start that was on the wire then is added when its answer comes.
        """
        return list(self._fanout.unfinished)

    @property
    def leftover(self) -> list[RunResult]:
        """Entries of the ledger that the requests, once read to their end, no longer name.

        Those with a run that goes on are awaited and listed when it has ended. Their ``index`` is negative, and their
        ``request`` has its inputs only where the ledger keeps them. Empty without a ledger.
        """
        return list(self._fanout.leftover)
