"""What became of a start that broke after it was sent, read from the notebook's runs.

``POST /runs`` knows no idempotency key, so the only witness is the listing. It is trusted only where nobody else starts
that notebook meanwhile, and where no other start of ours is on the wire.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ..errors import DeepnoteError, OutcomeUnknownError
from ..models import Run
from ..resources.notebooks import Notebooks
from ..retry import backoff
from ..settings import RetryPolicy

if TYPE_CHECKING:
    from datetime import datetime

    from ..session import Session

__all__ = ["SETTLE", "Reconciler"]

SETTLE: Final = 60.0  # s after a break in which its run may still come into being or into the listing
LOOKS: Final = RetryPolicy(initial=1.0, maximum=20.0)


class Reconciler:
    """Finds out what became of starts of unknown outcome."""

    __slots__ = ("_give_up_after", "_session", "_settle")

    def __init__(self, session: Session, *, give_up_after: float, settle: float = SETTLE) -> None:
        self._session = session
        self._give_up_after = give_up_after
        self._settle = settle

    async def resolve(self, error: OutcomeUnknownError, *, alone: bool = True) -> Run | OutcomeUnknownError | None:
        """The run that a broken start became, None if it certainly became none, or the error if it cannot be told.

        It looks until exactly one run has begun since that this client neither started nor claimed, or until a
        complete listing at least ``settle`` seconds after the break shows none. Unless it is ``alone``, another start
        of unknown outcome may have become any run that is found, so none can be told from it.
        """
        core = self._session.core
        if error.notebook_id is None or error.window is None:
            return error
        broke = core.now()
        looks = 0
        while True:
            looks += 1
            asked = core.now()
            with contextlib.suppress(DeepnoteError):
                found = await self._begun_since(error.notebook_id, error.window[0])
                if alone and len(found) == 1:
                    core.started.add(found[0].run_id, min(broke, self._begun(found[0], broke)))
                    return found[0]
                if found:
                    return error
                if asked - broke >= self._settle:
                    return None
            if core.now() - broke >= self._give_up_after:
                return error
            settled = broke + self._settle - core.now()
            pause = backoff(looks, LOOKS, core.rng)
            await core.pause(min(pause, settled) if settled > 0 else pause)

    def _begun(self, run: Run, otherwise: float) -> float:
        """When a run began, on the loop's clock: the start that became it may be of an earlier process."""
        core = self._session.core
        if run.created_at is None:
            return otherwise
        return core.now() - (core.clock.at(core.now()) - run.created_at.timestamp())

    async def _begun_since(self, notebook_id: str, since: datetime) -> list[Run]:
        """Every run of the notebook begun since then that is not known as ours, from a listing read to its end."""
        started = self._session.core.started
        runs = Notebooks(self._session).list_runs(notebook_id, page_size=100)
        return [
            run
            async for run in runs
            if run.run_id not in started and (run.created_at is None or run.created_at >= since)
        ]
