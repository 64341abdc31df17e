"""One watched run, as the watcher knows it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ..errors import (
    AuthenticationError,
    BadRequestError,
    DeepnoteError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)
from .places import Item

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..models import Run, RunStatus
    from ..snapshots import Snapshot
    from .wait import Wait

__all__ = ["Watched"]

NOBODY: Final[dict[Wait, None]] = {}


class Watched(Item):
    """One watched run: what is known of it and who waits."""

    __slots__ = (
        "added",
        "earliest",
        "end",
        "failing_since",
        "ours_since",
        "read_until",
        "seen_before",
        "status",
        "waits",
    )

    def __init__(self, run_id: str, born: float | None, now: float) -> None:
        super().__init__(run_id, None, born, now)
        self.added: float = now
        self.status: RunStatus | None = None
        self.seen_before: bool = False
        self.waits: dict[Wait, None] = NOBODY  # in the order they came; not to be changed but by the methods below
        self.end: Run | None = None
        self.read_until: float = math.inf  # once it has ended: until when it is read again for what is still to come
        self.failing_since: float | None = None
        self.ours_since: float | None = None  # when our start of it was answered
        self.earliest: float = -math.inf  # when our start of it can have happened

    def join(self, wait: Wait) -> None:
        """Let one more wait for it."""
        if not self.waits:
            self.waits = wait.alone
            return
        if len(self.waits) == 1:
            self.waits = dict(self.waits)  # what other runs may share stays as it is
        self.waits[wait] = None

    def part(self, waits: Collection[Wait]) -> None:
        """Let some of those who wait go."""
        if len(self.waits) == len(waits):
            self.waits = NOBODY
            return
        for wait in waits:
            del self.waits[wait]

    def is_ended_by(self, error: DeepnoteError, now: float, visible_after: float) -> bool:
        """Whether after this failure of a look no later one will find the run."""
        if isinstance(error, NotFoundError):
            # The service may show a run a moment after it has accepted its start.
            return self.ours_since is None or now - self.ours_since >= visible_after
        if isinstance(error, BadRequestError | UnprocessableEntityError):
            # The service refuses the id; one of a run that was seen is good.
            return not self.seen_before
        return isinstance(error, AuthenticationError | PermissionDeniedError)

    def delivery(self) -> Snapshot | None:
        """The snapshot to ask for next: the first that somebody still waits for."""
        return next((wait.snapshot for wait in self.waits if wait.snapshot is not None), None)
