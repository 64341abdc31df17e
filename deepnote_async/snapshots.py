"""When a snapshot is there: the final status comes first, the snapshot a little later, and sometimes never."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from .errors import InvalidRequestError
from .models import Run

__all__ = ["Snapshot", "checked_delivery", "has_snapshot", "may_still_come"]

Snapshot: TypeAlias = Literal["downloadUrl", "inline", "blocks"]


def checked_delivery(value: Snapshot | None) -> Snapshot | None:
    """The delivery itself; raises :class:`InvalidRequestError` for one the service does not know."""
    if value is not None and value not in get_args(Snapshot):
        raise InvalidRequestError(f"a snapshot is delivered as 'downloadUrl', 'inline' or 'blocks', not {value!r}")
    return value


def has_snapshot(run: Run) -> bool:
    """Whether the run carries its snapshot in any delivery; empty text is not a snapshot."""
    return bool(run.snapshot_content or run.snapshot_download_url or run.snapshot_blocks)


def may_still_come(run: Run) -> bool:
    """Whether a run read at its end should be read again for its snapshot."""
    if has_snapshot(run):
        return False
    return run.snapshot_status in {None, "", "pending"}
