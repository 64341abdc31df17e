"""Where watched runs lie: on pages of their notebooks' listings, at a frontier, or nowhere known."""

from __future__ import annotations

import math

from .durations import Durations

__all__ = ["Frontier", "Item", "Look", "Node", "Notebook", "Page"]

NO_SUMS = (0.0, 0.0, 0.0, 0.0)
NEWTON_STEPS = 5
COUNTED = 1024  # foreign runs whose length is remembered as taken in, per notebook


class Node:
    """What waits in the schedule's heap; ``seq`` is its one live key there, 0 for none."""

    __slots__ = ("busy", "due", "failures", "seq")

    def __init__(self) -> None:
        self.seq: int = 0
        self.due: float = math.inf
        self.busy: bool = False
        self.failures: int = 0


class Item(Node):
    """One watched run; ``born`` and ``seen`` are moments of the loop's clock, None and -inf while unknown."""

    __slots__ = ("born", "hazard", "notebook", "place", "run_id", "seen", "unlisted", "watched_to")

    def __init__(self, run_id: str, notebook: Notebook | None, born: float | None, now: float) -> None:
        super().__init__()
        self.run_id: str = run_id
        self.notebook: Notebook | None = notebook
        self.born: float | None = born
        self.seen: float = now if born is not None else -math.inf
        self.hazard: float = 0.0
        self.place: Page | None = None
        self.unlisted: bool = False  # a sweep through the listing did not meet it
        self.watched_to: float = 0.0  # age up to which the lengths know of it


class Page(Node):
    """Runs that one request may tell of: a page by its token, or a notebook's frontier."""

    __slots__ = ("_base", "_sums", "members", "notebook", "oldest", "token", "young")

    def __init__(self, notebook: Notebook, token: str | None) -> None:
        super().__init__()
        self.notebook: Notebook = notebook
        self.token: str | None = token
        self.members: dict[str, Item] = {}
        self.oldest: float = math.inf  # the moment the member longest unseen was seen
        self.young: float = math.inf  # the least age at which a member was last seen
        self._base = 0.0
        # Sums over the members of h, h s, h s^2 and h s^3, s the moment each was last seen, reckoned from the base.
        self._sums = NO_SUMS

    def put(self, item: Item) -> None:
        """Take in a run."""
        if not self.members:
            self._base = item.seen
        item.place = self
        self.members[item.run_id] = item
        self._count(item, 1.0)
        self._mark(item)

    def _mark(self, item: Item) -> None:
        self.oldest = min(self.oldest, item.seen)
        if item.born is not None:
            self.young = min(self.young, item.seen - item.born)

    def take_out(self, item: Item) -> None:
        """Let a run go."""
        item.place = None
        del self.members[item.run_id]
        if self.members:
            self._count(item, -1.0)
        else:
            self._forget()

    def _forget(self) -> None:
        self._sums, self.oldest, self.young = NO_SUMS, math.inf, math.inf

    def _count(self, item: Item, sign: float) -> None:
        h, s = sign * item.hazard, item.seen - self._base
        a, b, c, d = self._sums
        self._sums = (a + h, b + h * s, c + h * s * s, d + h * s * s * s)

    def reckon(self, now: float) -> None:
        """Reckon the sums anew, for rounding adds up and the oldest may be gone."""
        self._base = now
        self._forget()
        for item in self.members.values():
            self._count(item, 1.0)
            self._mark(item)

    def worth_reading(self, price: float) -> float:
        """When the members' weighted lateness, the sum of h t^3 / 3, reaches the price in square seconds."""
        a, b, c, d = self._sums
        if a <= 0.0:
            return math.inf
        # Newton's steps on (a u^3 - 3 b u^2 + 3 c u - d) / 3 = price, from beyond its only root that matters.
        u = b / a + 2.0 * math.cbrt(3.0 * price / a)
        for _ in range(NEWTON_STEPS):
            value = ((a * u - 3.0 * b) * u + 3.0 * c) * u - d - 3.0 * price
            slope = 3.0 * ((a * u - 2.0 * b) * u + c)
            if slope <= 0.0:
                break
            u -= value / slope
        return self._base + u


class Frontier(Page):
    """Where a notebook's runs of unknown place wait while a sweep follows the pages; ``token`` is the sweep's next."""

    __slots__ = ("began", "fruitless", "late", "wrapped")

    def __init__(self, notebook: Notebook) -> None:
        super().__init__(notebook, None)
        self.late: set[str] = set()  # runs that came when the sweep may have passed them already
        self.restart()

    def restart(self) -> None:
        """Let the next page read be the first of a new sweep."""
        self.began: float | None = None
        self.fruitless: int = 0
        self.wrapped: bool = False
        self.late.clear()

    def put(self, item: Item) -> None:
        """Take in a run of unknown place."""
        super().put(item)
        if self.began is not None:
            self.late.add(item.run_id)

    def unmet(self) -> list[Item]:
        """The members that the sweep, now at its end, should have met."""
        return [item for item in self.members.values() if item.run_id not in self.late]

    def begin(self, now: float) -> None:
        """Begin a sweep where most members are to be expected.

        Runs younger than the last read of the page where new ones appear are on that page; older ones were not on it
        then, so they are beyond.
        """
        self.began = now
        notebook = self.notebook
        if notebook.newest == -math.inf:
            # None of ours was ever met: go on where the last sweep gave up.
            self.token, self.wrapped = notebook.beyond, notebook.beyond is None
            return
        young = sum(item.born is not None and item.born >= notebook.entry_read for item in self.members.values())
        at_entry = 2 * young >= len(self.members) or notebook.beyond is None
        self.token: str | None = notebook.entry if at_entry else notebook.beyond
        self.wrapped = self.token is None


class Notebook:
    """What is known of one notebook: its lengths, its pages, and where its new runs appear."""

    __slots__ = (
        "_counted",
        "beyond",
        "durations",
        "entry",
        "entry_read",
        "frontier",
        "id",
        "newest",
        "pages",
        "unlisted_until",
    )

    def __init__(self, notebook_id: str, pool: Durations) -> None:
        self.id: str = notebook_id
        self.durations: Durations = Durations(pool)
        self.clear()
        # The page where new runs appear, when it was last read, and the page after it.
        self.entry: str | None = None
        self.entry_read: float = -math.inf
        self.beyond: str | None = None
        self.newest: float = -math.inf
        self.unlisted_until: float = -math.inf
        self._counted: set[str] = set()

    def clear(self) -> None:
        """Let go of all runs; a later watch finds its own way through the pages."""
        self.pages: dict[str | None, Page] = {}
        self.frontier: Frontier = Frontier(self)

    def page(self, token: str | None) -> Page:
        """The page of a token."""
        known = self.pages.get(token)
        if known is None:
            known = self.pages[token] = Page(self, token)
        return known

    def foreign_ended(self, run_id: str, length: float) -> None:
        """Take in the length of a run nobody watches, which a page showed for nothing."""
        if len(self._counted) < COUNTED and run_id not in self._counted:
            self._counted.add(run_id)
            self.durations.observe(0.0, length, ended=True)


class Look:
    """A request worth making: of ``item`` by itself, or of the page with ``token`` for the sake of ``page``."""

    __slots__ = ("at", "begun", "found", "item", "notebook", "page", "scouting", "stray", "token")

    def __init__(
        self,
        at: float,
        *,
        item: Item | None = None,
        page: Page | None = None,
        scouting: bool = False,
        stray: bool = False,
    ) -> None:
        self.at: float = at
        self.begun: bool = False
        self.item: Item | None = item
        self.page: Page | None = page
        self.notebook: Notebook | None = page.notebook if page is not None else None
        self.token: str | None = page.token if page is not None else None
        self.scouting: bool = scouting
        self.stray: bool = stray
        self.found: int = 0  # runs it met whose place had not been known
