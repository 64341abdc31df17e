"""Which look is worth the next request, and when. No I/O; every method is told the time.

A look is a request: one run read by itself, or one page of a notebook's runs, which tells of many at once. One rule
says when either is due: when the lateness to be expected since its runs were last seen, summed over them, reaches the
price of a request. Each moment of lateness is weighed by how long it has lasted, for the late ones hurt most: runs
that end with hazard h and were not seen for t seconds count h t^3 / 3. Unweighed, h t^2 / 2, the mean delay is the
same for as many requests, but one run in twenty is told half as late again.

A run lies where it was last met: on a page, or on none. Runs whose place is not known wait together at their
notebook's frontier, from where a sweep follows the pages until it has met them; what a sweep does not meet is read by
itself. Where a run lies is only ever a guess about cost. Any sighting anywhere counts, and a run that a page no
longer shows is looked for elsewhere, so no order, depth or kind of page token has to be true.

Pages and single runs wait in one heap. Each has at most one live key there; one that is on the wire has none.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable
from typing import Final

from ..settings import PollPolicy
from .durations import Durations
from .places import Frontier, Item, Look, Node, Notebook, Page
from .strays import Strays

__all__ = ["Schedule"]

PRICE: Final = 11.0  # s of lateness that a request is worth, per second of `initial`
WEIGHT: Final = 0.12  # of the price squared: lateness is weighed by its length, for the late ones hurt most
KNOWN_LENGTHS: Final = 5  # finished runs before a notebook's hazards are trusted to stretch an interval
FRUITLESS: Final = 3  # pages in a row that met nobody end a sweep
LISTING_REFUSED: Final = 600.0  # s before refused listings are tried again
NOTEBOOKS_KEPT: Final = 1024  # of which anything is remembered while none of their runs is watched
RECKONED: Final = 512  # members up to which a page that falls due is reckoned anew first


class Schedule:
    """All watched runs of one client, and what to look at next."""

    def __init__(self, policy: PollPolicy, rng: random.Random | None = None) -> None:
        self._policy = policy
        price = policy.price if policy.price is not None else PRICE * policy.initial
        self._weighted = WEIGHT * price * price
        self._rng = rng or random.Random()
        self._pool = Durations()
        self._notebooks: dict[str, Notebook] = {}
        self._heap: list[tuple[float, int, Node]] = []
        self._seq = 0
        self._strays = Strays()

    # Coming and going.

    def notebook(self, notebook_id: str) -> Notebook:
        """What is known of a notebook, made at its first mention."""
        known = self._notebooks.get(notebook_id)
        if known is None:
            if len(self._notebooks) >= NOTEBOOKS_KEPT:
                self._forget_oldest()
            known = self._notebooks[notebook_id] = Notebook(notebook_id, self._pool)
        return known

    def _forget_oldest(self) -> None:
        idle = (name for name, known in self._notebooks.items() if not known.pages and not known.frontier.members)
        oldest = next(idle, None)
        if oldest is not None:
            del self._notebooks[oldest]

    def add(self, item: Item, now: float) -> None:
        """Watch a run from now on."""
        if item.born is not None:
            item.hazard = self._hazard(item, now)
            self._settle_unplaced(item, now)
        elif item.notebook is None:
            self._strays.add(item, now)
        else:
            self._set_due(item, now)

    def remove(self, item: Item) -> None:
        """Watch a run no longer."""
        item.seq = 0
        self._strays.discard(item)
        self._leave(item)

    def _leave(self, item: Item) -> None:
        page = item.place
        if page is None:
            return
        page.take_out(item)
        if not page.members:
            page.seq = 0
            self._drop(page)

    def _drop(self, page: Page) -> None:
        if page.notebook.pages.get(page.token) is page:
            del page.notebook.pages[page.token]

    # Choosing.

    def next_due(self) -> float | None:
        """When the next look is due, in the past if it is overdue; None if there is nothing to look at."""
        heap = self._heap
        while heap and heap[0][2].seq != heap[0][1]:
            heapq.heappop(heap)
        first = heap[0][0] if heap else None
        stray = self._strays.next_due()
        if stray is None:
            return first
        return stray if first is None else min(first, stray)

    def choose(self, now: float) -> Look | None:
        """The most urgent look that is due; it is on the wire until one of the methods below ends it."""
        while (due := self.next_due()) is not None and due <= now:
            stray = self._strays.next_due()
            if stray is not None and stray <= due:
                return self._strays.look(now)
            node = heapq.heappop(self._heap)[2]
            node.seq = 0
            look = self._look_at(node, now)
            if look is not None:
                return look
        return None

    def _look_at(self, node: Node, now: float) -> Look | None:
        if isinstance(node, Item):
            return self._alone(node, now)
        assert isinstance(node, Page)  # noqa: S101 - the heap holds nothing else
        if isinstance(node, Frontier) and node.began is None:
            node.begin(now)
        if len(node.members) == 1:
            # A page with one run of ours costs what the run costs, and tells less.
            (item,) = node.members.values()
            self._leave(item)
            return None if item.busy else self._alone(item, now)
        if len(node.members) <= RECKONED:
            node.reckon(now)
        due = self._page_due(node)
        if due > now:
            self._set_due(node, due)
            return None
        node.busy = True
        return Look(now, page=node)

    def _alone(self, item: Item, now: float) -> Look:
        item.busy = True
        return Look(now, item=item)

    def over(self, look: Look) -> None:
        """The look is off the wire, however it went."""
        self._strays.over(look)

    def clear(self) -> None:
        """Watch nothing any more; what was learned of lengths is kept."""
        self._heap.clear()
        self._strays.clear()
        for notebook in self._notebooks.values():
            notebook.clear()

    def _set_due(self, node: Node, due: float) -> None:
        if node.busy or due == math.inf:
            return  # what ends its look sets it, or nothing is to be seen there
        self._seq += 1
        node.seq = self._seq
        node.due = due
        heapq.heappush(self._heap, (due, self._seq, node))

    def _jittered(self, interval: float) -> float:
        return interval * (1.0 + self._policy.jitter * (self._rng.random() - 0.5))

    def _page_due(self, page: Page) -> float:
        longest = self._longest(page.notebook, page.young)
        due = page.worth_reading(self._weighted)
        return min(max(due, page.oldest + self._policy.initial), page.oldest + longest)

    def _longest(self, notebook: Notebook | None, age: float) -> float:
        """The longest interval between two looks at a run that was last seen at an age."""
        policy = self._policy
        known = notebook.durations.finished if notebook is not None else 0
        if known >= KNOWN_LENGTHS or age == math.inf:
            return policy.maximum
        return min(max(policy.initial, age / 2), policy.maximum)

    def _hazard(self, item: Item, now: float) -> float:
        durations = item.notebook.durations if item.notebook is not None else self._pool
        age = max(now - item.born, 0.0) if item.born is not None else 0.0
        return durations.hazard(max(age, self._policy.initial / 2))

    def _single_due(self, item: Item) -> float:
        age = item.seen - item.born if item.born is not None else math.inf
        interval = max(math.cbrt(3.0 * self._weighted / item.hazard), self._policy.initial)
        return item.seen + self._jittered(min(interval, self._longest(item.notebook, age)))

    # What a look showed.

    def met(self, item: Item, page: Page | None, born: float | None, now: float) -> None:
        """Take in that a run was seen still going: on a page, or somewhere."""
        item.born = born if born is not None else item.born if item.born is not None else now
        age = max(now - item.born, 0.0)
        if age > item.watched_to:
            durations = item.notebook.durations if item.notebook is not None else self._pool
            durations.observe(item.watched_to, age, ended=False)
            item.watched_to = age
        self._strays.discard(item)
        if item.place is page and page is not None:
            page.take_out(item)
        else:
            self._leave(item)
        item.seq = 0
        item.seen = now
        item.failures = 0
        item.hazard = self._hazard(item, now)
        if page is not None:
            item.unlisted = False
            page.put(item)
            if item.born >= page.notebook.newest:
                page.notebook.newest, page.notebook.entry = item.born, page.token

    def met_alone(self, look: Look, born: float | None, now: float) -> None:
        """End a look at one run that still goes on."""
        item = look.item
        assert item is not None  # noqa: S101 - looks of one run only
        item.busy = False
        if item.place is not None:
            # A page showed it while it was being read.
            self.met(item, item.place, born, now)
            return
        first = item.seen == -math.inf
        self.met(item, None, born, now)
        self._settle_unplaced(item, now)
        if first and item.notebook is not None:
            self._strays.found(item.notebook)

    def read_at(self, item: Item, due: float) -> None:
        """Read one run by itself at a given time: it has ended, and something of it is still to come."""
        item.busy = False
        self._set_due(item, due)

    def ended(self, item: Item, length: float | None) -> None:
        """Take in a run's end, and its length in seconds where it is known."""
        if length is not None:
            durations = item.notebook.durations if item.notebook is not None else self._pool
            durations.observe(min(item.watched_to, length), length, ended=True)

    def page_of(self, look: Look) -> Page:
        """The page that a look has read, on which the runs it shows are :meth:`met`."""
        assert look.notebook is not None  # noqa: S101 - looks of pages only
        return look.notebook.page(look.token)

    def page_read(self, look: Look, here: Page, next_token: str | None, now: float) -> None:
        """End a look of a page, after everything on it was taken in."""
        notebook = here.notebook
        assert look.page is not None  # noqa: S101 - looks of pages only
        look.page.busy = False
        look.page.failures = 0
        if here.token == notebook.entry:
            notebook.entry_read, notebook.beyond = look.at, next_token
        self._seek_missing(here, now)
        if not here.members:
            self._drop(here)
        else:
            notebook.pages[here.token] = here
            here.reckon(now)
            self._set_due(here, self._page_due(here))
        if look.scouting:
            self._strays.scouted(look, notebook, next_token)
        elif look.page is notebook.frontier:
            self._sweep_on(look, notebook.frontier, next_token, now)

    def _seek_missing(self, page: Page, now: float) -> None:
        for item in [item for item in page.members.values() if item.seen < now]:
            page.take_out(item)
            self._settle_unplaced(item, now)

    def _sweep_on(self, look: Look, frontier: Frontier, next_token: str | None, now: float) -> None:
        frontier.fruitless = 0 if look.found else frontier.fruitless + 1
        # Until any was ever met, a search among the runs of others may go on for what it can still save.
        patience = FRUITLESS if frontier.notebook.newest > -math.inf else max(FRUITLESS, len(frontier.members) // 2)
        given_up = frontier.fruitless >= patience
        if frontier.members and next_token is not None and not given_up:
            frontier.token = next_token
        elif frontier.members and next_token is None and not frontier.wrapped:
            # The sweep began in the middle: the rest may lie before.
            frontier.token, frontier.wrapped = None, True
        else:
            self._read_singly(frontier.unmet(), now, unlisted=next_token is None)
            if frontier.notebook.newest == -math.inf:
                frontier.notebook.beyond = next_token
            frontier.restart()
        if frontier.members:
            self._set_due(frontier, self._page_due(frontier))

    def _settle_unplaced(self, item: Item, now: float) -> None:
        """Let a run of unknown place wait at its notebook's frontier, or by itself where nothing is listed."""
        notebook = item.notebook
        if notebook is None or item.unlisted or notebook.unlisted_until > now:
            self._set_due(item, self._single_due(item))
            return
        frontier = notebook.frontier
        frontier.put(item)
        if frontier.busy:
            return
        due = self._page_due(frontier)
        if not frontier.seq or due < frontier.due - self._policy.initial / 20:
            self._set_due(frontier, due)

    def _read_singly(self, items: list[Item], now: float, *, unlisted: bool = True) -> None:
        """Let runs be read by themselves: from now on if no listing shows them, else once."""
        for item in items:
            self._leave(item)
            item.unlisted = unlisted
            self._set_due(item, max(self._single_due(item), now))

    # What a look failed to show.

    def throttled(self, look: Look, now: float) -> None:
        """End a look that was refused by the rate limit: it says nothing of the run and stays as urgent as it was."""
        node: Node | None = look.item if look.item is not None else look.page
        if node is None or look.scouting:
            self._strays.again(look)
            return
        node.busy = False
        if not self._lies_on_page(node):
            self._set_due(node, now)

    def _lies_on_page(self, node: Node) -> bool:
        """Whether a page showed a run while it was being read: then the page sees to it."""
        return isinstance(node, Item) and node.place is not None

    def failed(self, look: Look, now: float) -> None:
        """End a look that got no answer, or none that helps: it is made again, later and later."""
        node: Node | None = look.item if look.item is not None else look.page
        if node is None or look.scouting:
            return
        node.busy = False
        node.failures += 1
        if self._lies_on_page(node) or (isinstance(node, Page) and not node.members):
            return
        policy = self._policy
        wait = min(policy.initial * 2.0 ** min(node.failures - 1, 30), policy.maximum)
        self._set_due(node, now + self._jittered(wait))

    def page_refused(self, look: Look, now: float) -> None:
        """End a look of a page that the service refused: an old token, or listings altogether."""
        page, notebook = look.page, look.notebook
        if page is None or notebook is None:
            return
        page.busy = False
        frontier = notebook.frontier
        if look.token is None:
            notebook.unlisted_until = now + LISTING_REFUSED
            for known in [*notebook.pages.values(), frontier]:
                self._read_singly(list(known.members.values()), now)
            return
        notebook.entry = notebook.beyond = None
        if page is frontier:
            self._sweep_refused(frontier, now)
            return
        for item in list(page.members.values()):
            self._leave(item)
            self._settle_unplaced(item, now)

    def _sweep_refused(self, frontier: Frontier, now: float) -> None:
        """An old token may be refused, so the sweep begins at the front again, but not a second time."""
        if frontier.wrapped:
            self._read_singly(frontier.unmet(), now)
            frontier.restart()
        else:
            frontier.token, frontier.wrapped = None, True
        if frontier.members:
            self._set_due(frontier, self._page_due(frontier))

    def hasten(self, items: Iterable[Item], now: float) -> None:
        """Let the given runs be due now, for a wait is about to end: pages before single runs, as they tell more."""
        pages: dict[Page, None] = {}
        for item in items:
            if item.place is not None:
                pages[item.place] = None
            elif not item.busy and item not in self._strays:
                self._set_due(item, now)
        for page in sorted(pages, key=lambda page: -len(page.members)):
            if not page.busy:
                for item in page.members.values():
                    item.seen = min(item.seen, now - self._policy.maximum)
                self._set_due(page, now - 1.0)
