"""Whether starts may leave.

After a start met a connection error, a server error or an answer that says nothing, the next would most likely meet
the same, and may have to be reported as unknown. So no further start leaves until a read has succeeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ApiError, DecodeError, DeepnoteError, ServerError, TransportError
from ..gate import Lane
from ..outgoing import page_query
from ..resources.notebooks import runs_path
from ..retry import backoff
from ..settings import RetryPolicy
from ..wire import read_runs

if TYPE_CHECKING:
    from ..session import Session

__all__ = ["HalfOpen"]


class HalfOpen:
    """The way of a batch's starts: open, or held since one of them broke."""

    __slots__ = ("_last_read", "_policy", "_session", "cause", "since")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._policy = RetryPolicy(initial=session.retry.initial, maximum=min(session.retry.maximum, 30.0))
        self.cause: DeepnoteError | None = None
        self.since: float = 0.0
        self._last_read = 0

    @property
    def held(self) -> bool:
        """Whether no start may leave."""
        return self.cause is not None

    def hold(self, cause: DeepnoteError) -> None:
        """Let no start leave until a read has succeeded."""
        core = self._session.core
        if self.cause is None:
            self.since = core.now()
        self.cause = cause
        self._last_read = core.reads

    async def wait(self, notebook_id: str, give_up_after: float) -> bool:
        """Wait until a read has succeeded; with none under way, make one. False after so many seconds in vain."""
        core = self._session.core
        failures = 0
        while self.cause is not None:
            failures += 1
            await core.pause(backoff(failures, self._policy, core.rng))
            if core.reads > self._last_read or await self._read(notebook_id):
                self.cause = None
            elif core.now() - self.since >= give_up_after:
                return False
        return True

    async def set_clock(self, notebook_id: str) -> None:
        """Learn the service's time, if nothing has told it yet, before the first start writes it down."""
        if not self._session.core.clock.known:
            await self._read(notebook_id)

    async def _read(self, notebook_id: str) -> bool:
        session = self._session
        await session.gate.enter(Lane.LOOK)
        request = session.request("GET", runs_path(notebook_id), query=page_query(1, None))
        try:
            await session.attempt(request, read_runs, lane=Lane.LOOK)
        except (TransportError, DecodeError, ServerError) as error:
            self.cause = error
            return False
        except ApiError as error:
            # Any other refusal shows that the service is there to refuse; only a throttled one says nothing.
            return error.status != 429
        return True
