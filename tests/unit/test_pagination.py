"""Lists that come in pages: order, resuming, circles, limits, and generators that are closed."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest

from deepnote_async import AsyncPaginator, InvalidRequestError, Page, PaginationError


class Pages:
    """A list in pages of two; counts what was fetched."""

    def __init__(self, tokens: dict[str | None, str | None] | None = None, items: int = 7) -> None:
        self.tokens = tokens
        self.items = list(range(items))
        self.fetched: list[str | None] = []

    async def __call__(self, token: str | None) -> Page[int]:
        self.fetched.append(token)
        await asyncio.sleep(0)
        if self.tokens is not None:
            return Page([len(self.fetched)], self.tokens[token])
        start = int(token or 0)
        more = start + 2 < len(self.items)
        return Page(self.items[start : start + 2], str(start + 2) if more else None)


async def read_into(items: list[int], paginator: AsyncPaginator[int]) -> None:
    async for item in paginator:
        items.append(item)


async def test_items_come_in_order() -> None:
    assert [item async for item in AsyncPaginator(Pages())] == list(range(7))


async def test_pages_come_with_the_token_of_the_next() -> None:
    pages = [page async for page in AsyncPaginator(Pages()).pages()]
    assert [page.items for page in pages] == [[0, 1], [2, 3], [4, 5], [6]]
    assert [page.next_page_token for page in pages] == ["2", "4", "6", None]


async def test_a_token_resumes_a_list() -> None:
    assert await AsyncPaginator(Pages(), "4").collect() == [4, 5, 6]


async def test_every_reading_begins_anew() -> None:
    paginator = AsyncPaginator(Pages())
    assert await paginator.collect() == await paginator.collect() == list(range(7))


async def test_nothing_is_fetched_before_it_is_read_nor_ahead() -> None:
    fetch = Pages()
    paginator = AsyncPaginator(fetch)
    assert fetch.fetched == []
    async for item in paginator:
        if item == 2:
            break
    assert fetch.fetched == [None, "2"]


@pytest.mark.parametrize(
    "tokens",
    [
        {None: "a", "a": "a"},
        {None: "a", "a": "b", "b": "a"},
        {None: "a", "a": "b", "b": "c", "c": "b"},
    ],
)
async def test_a_repeated_token_raises_and_never_loops(tokens: dict[str | None, str | None]) -> None:
    fetch = Pages(tokens)
    items: list[int] = []
    with pytest.raises(PaginationError):
        await read_into(items, AsyncPaginator(fetch))
    assert len(items) == len(fetch.fetched) == len(tokens)
    with pytest.raises(PaginationError):
        await AsyncPaginator(Pages(tokens)).collect()


async def test_a_resumed_list_may_not_lead_back_to_where_it_began() -> None:
    with pytest.raises(PaginationError):
        await AsyncPaginator(Pages({"a": "b", "b": "a"}), "a").collect()


@pytest.mark.parametrize(("limit", "fetches"), [(0, 0), (1, 1), (2, 1), (3, 2), (6, 3), (7, 4), (100, 4), (None, 4)])
async def test_a_limit_reads_no_page_beyond_it(limit: int | None, fetches: int) -> None:
    fetch = Pages()
    assert await AsyncPaginator(fetch).collect(limit) == list(range(7))[:limit]
    assert len(fetch.fetched) == fetches


async def test_a_limit_met_before_a_circle_is_enough() -> None:
    assert await AsyncPaginator(Pages({None: "a", "a": "a"})).collect(2) == [1, 2]


@pytest.mark.parametrize("limit", [-1, 1.5, "3", True])
async def test_a_limit_is_a_whole_number(limit: Any) -> None:
    with pytest.raises(InvalidRequestError, match="limit"):
        await AsyncPaginator(Pages()).collect(limit)


async def test_empty_pages_in_the_middle_end_nothing() -> None:
    answers = {None: Page([], "a"), "a": Page([1], "b"), "b": Page([], "c"), "c": Page([2])}

    async def fetch(token: str | None) -> Page[int]:
        return answers[token]

    assert await AsyncPaginator(fetch).collect() == [1, 2]
    assert await AsyncPaginator(fetch).collect(1) == [1]


async def test_an_error_comes_through_after_what_was_read() -> None:
    async def fetch(token: str | None) -> Page[int]:
        if token is not None:
            raise OSError("gone")
        return Page([1, 2], "more")

    items: list[int] = []
    with pytest.raises(OSError, match="gone"):
        await read_into(items, AsyncPaginator(fetch))
    assert items == [1, 2]


async def test_generators_are_closed_where_they_are_left() -> None:
    left: list[object] = []
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=hooks.firstiter, finalizer=left.append)
    try:
        items = aiter(AsyncPaginator(Pages()))
        await anext(items)
        await items.aclose()  # type: ignore[attr-defined]
        await AsyncPaginator(Pages()).collect(1)
        with pytest.raises(PaginationError):
            await AsyncPaginator(Pages({None: "a", "a": "a"})).collect()
        gc.collect()
    finally:
        sys.set_asyncgen_hooks(*hooks)
    assert left == []


async def test_a_cancelled_reading_ends() -> None:
    fetched = asyncio.Event()

    async def fetch(_: str | None) -> Page[int]:
        fetched.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(AsyncPaginator(fetch).collect())
    await fetched.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_pages_are_values() -> None:
    assert Page([1]) == Page([1], None)
    with pytest.raises(AttributeError):
        Page([1]).items = []  # type: ignore[misc]
