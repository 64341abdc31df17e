"""What tells one request of a batch from another, across processes: its key."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..run_request import RunRequest

__all__ = ["Keys", "canonical", "digest_of"]


def canonical(request: RunRequest) -> str:
    """The request as text that is the same for equal requests, in whatever order their inputs were given.

    The key is no part of it.
    """
    # Once there and back: keys of `extra_body` that are no text cannot be sorted, and become text on the wire anyway.
    plain = json.loads(json.dumps(request.body()))
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def digest_of(text: str) -> str:
    """The hash that stands for a canonical request in the ledger."""
    return hashlib.sha256(text.encode()).hexdigest()


class Keys:
    """Gives requests without a key of their own one made of their hash and their ordinal among equal ones.

    Where a request stands among different ones does not matter, so rows may be reordered, inserted and deleted.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def derive(self, digest: str) -> str:
        """The key of the next request with this hash."""
        self._seen[digest] += 1
        return f"{digest[:32]}.{self._seen[digest]}"
