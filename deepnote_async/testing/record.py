"""What was asked and answered: the record that tests and benchmarks read."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Call", "StorageCall", "matching", "token_hint"]


@attrs.define(eq=False)
class Call:
    """One request as received. ``path`` is raw, ``status`` None if no answer was given; the token is only hinted at.

    ``time`` is service time; ``run_id`` names the run it started, even when the answer never left.
    """

    time: float
    method: str
    path: str
    query: str
    token: str = ""
    status: int | None = None
    run_id: str | None = None
    fault: str | None = None


@attrs.define(eq=False)
class StorageCall:
    """One request to the storage origin, with the headers it came with."""

    time: float
    path: str
    headers: Mapping[str, str]
    status: int


def token_hint(token: str) -> str:
    """A short name for a token that does not give it away."""
    return hashlib.blake2b(token.encode(), digest_size=4).hexdigest() if token else ""


def matching(
    calls: Sequence[Call], *, method: str | None, path_prefix: str, status: int | None, since: float | None
) -> Iterator[Call]:
    """The calls that fit all that is given."""
    for call in calls:
        if (
            (method is None or call.method == method)
            and call.path.startswith(path_prefix)
            and (status is None or call.status == status)
            and (since is None or call.time >= since)
        ):
            yield call
