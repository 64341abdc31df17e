"""Lists in pages: a slice of an ordered list for a token, in time that grows with the page, not with the list."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BadTokenError", "Order", "Page", "Pager", "TokenKind"]

Order = Literal["newest", "oldest", "random"]
TokenKind = Literal["cursor", "offset"]
Place = tuple[float, int]


class Ordered(Protocol):
    """Something with a place in an ascending list."""

    @property
    def order(self) -> Place:
        """The place; no two are equal."""
        ...


Row = TypeVar("Row", bound=Ordered)


class BadTokenError(ValueError):
    """A page token that is unknown, expired, or bound to another listing."""


@attrs.frozen
class Page(Generic[Row]):
    """Some rows and the token of the next ones, None at the end."""

    rows: Sequence[Row]
    next_token: str | None


@attrs.define(eq=False)
class Pager:
    """Cuts lists into pages and makes the tokens.

    A ``cursor`` is opaque, names the last row seen and is bound to the listing and its page size; it expires after
    ``ttl`` seconds. An ``offset`` is an index: rows that come meanwhile shift the pages, so a row can be seen twice.
    """

    kind: TokenKind = "cursor"
    ttl: float | None = None
    key: bytes = b"pages"

    def cut(self, rows: Sequence[Row], token: str | None, *, size: int, scope: str, now: float, up: bool) -> Page[Row]:
        """The page that ``token`` names (None: the first) of ``rows``, which ascend; ``up`` lists them so."""
        if self.kind == "offset":
            return self._by_offset(rows, token, size, up=up)
        scope = f"{scope}|{size}"
        place = None if token is None else self._read(token, scope, now)
        chunk = _after(rows, place, size, up=up)
        more = _after(rows, chunk[-1].order, 1, up=up) if chunk else ()
        return Page(chunk, self._write(chunk[-1].order, scope, now) if more else None)

    def _by_offset(self, rows: Sequence[Row], token: str | None, size: int, *, up: bool) -> Page[Row]:
        if token is not None and not (token.isascii() and token.isdigit() and len(token) < 16):
            raise BadTokenError
        start = int(token or 0)
        end = start + size
        total = len(rows)
        chunk = rows[start:end] if up else rows[max(0, total - end) : max(0, total - start)][::-1]
        return Page(chunk, str(end) if end < total else None)

    def _write(self, place: Place, scope: str, now: float) -> str:
        body = json.dumps([*place, now]).encode()
        return base64.urlsafe_b64encode(self._seal(body, scope) + body).decode().rstrip("=")

    def _read(self, token: str, scope: str, now: float) -> Place:
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadTokenError from error
        seal, body = raw[:8], raw[8:]
        if seal != self._seal(body, scope):
            raise BadTokenError
        first, second, made = json.loads(body)
        if self.ttl is not None and now >= made + self.ttl:
            raise BadTokenError
        return first, second

    def _seal(self, body: bytes, scope: str) -> bytes:
        return hashlib.blake2b(body + scope.encode(), key=self.key, digest_size=8).digest()


def _after(rows: Sequence[Row], place: Place | None, size: int, *, up: bool) -> Sequence[Row]:
    if up:
        start = 0 if place is None else bisect_right(rows, place, key=_place)
        return rows[start : start + size]
    end = len(rows) if place is None else bisect_left(rows, place, key=_place)
    return rows[max(0, end - size) : end][::-1]


def _place(row: Ordered) -> Place:
    return row.order
