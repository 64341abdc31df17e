"""Lists that come in pages, as async generators."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

import attrs

from .errors import InvalidRequestError, PaginationError

__all__ = ["AsyncPaginator", "Page"]

T = TypeVar("T")


@attrs.frozen
class Page(Generic[T]):
    """One page of a list; ``next_page_token`` is opaque and None on the last."""

    items: list[T]
    next_page_token: str | None = None


class AsyncPaginator(Generic[T]):
    """A list of the service's, fetched page by page as it is read.

    ``async for item in paginator`` gives the items, ``paginator.pages()`` the pages, ``await paginator.collect()``
    everything. Each of them begins anew. Pages are read one after another, and what the service adds or deletes
    meanwhile may be missed or met twice. Raises :class:`PaginationError` when a page token comes again.
    """

    __slots__ = ("_fetch", "_page_token")

    def __init__(self, fetch: Callable[[str | None], Awaitable[Page[T]]], page_token: str | None = None) -> None:
        self._fetch = fetch
        self._page_token = page_token

    async def pages(self) -> AsyncGenerator[Page[T]]:
        """Give the pages in turn; ``page.next_page_token`` can be kept to resume the list there."""
        token = self._page_token
        seen = {token}
        while True:
            page = await self._fetch(token)
            yield page
            token = page.next_page_token
            if token is None:
                return
            if token in seen:
                raise PaginationError("the service named a page token for the second time: the list would never end")
            seen.add(token)

    async def __aiter__(self) -> AsyncGenerator[T]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for item in page.items:
                    yield item

    async def collect(self, limit: int | None = None) -> list[T]:
        """Everything as a list, or the first ``limit`` items, reading no page beyond them."""
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidRequestError(f"limit is a whole number of at least 0, or None, not {limit!r}")
        items: list[T] = []
        if limit == 0:
            return items
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                items += page.items
                if limit is not None and len(items) >= limit:
                    return items[:limit]
        return items
