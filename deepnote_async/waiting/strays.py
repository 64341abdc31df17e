"""Runs of which only the id is known.

Each has to be read by itself to learn its notebook, unless one of them has been, and a page of that notebook's runs
shows the others: twenty thousand ids of one notebook cost two hundred pages, not twenty thousand reads. So a few are
read at first, more as answers come, and none while such a scouting page is on the wire.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from .places import Item, Look, Notebook, Page

__all__ = ["Strays"]

AT_FIRST: Final = 4  # strays read at a time, and one more for each that was answered
BETWEEN_SCOUTS: Final = 4  # strays read by themselves after a scout in vain, doubling with each


class Strays:
    """The strays in the order they came, and the page that may tell of many of them."""

    __slots__ = ("_answered", "_in_vain", "_lead", "_read", "_runs", "_scouting", "_underway")

    def __init__(self) -> None:
        # Ordered, for taking the first out of a plain dict costs more with each one taken.
        self._runs: OrderedDict[str, Item] = OrderedDict()
        self._lead: Page | None = None
        self._scouting = False
        self._underway = 0
        self._answered = 0
        self._in_vain = 0
        self._read = 0

    def __contains__(self, item: Item) -> bool:
        return item.run_id in self._runs

    def add(self, item: Item, now: float) -> None:
        """Take in a run that is due at once."""
        item.due = now
        self._runs[item.run_id] = item

    def discard(self, item: Item) -> None:
        """Let a run go, if it is here."""
        self._runs.pop(item.run_id, None)

    def clear(self) -> None:
        """Let all go."""
        self._runs.clear()
        self._lead = None
        self._answered = 0

    def next_due(self) -> float | None:
        """When the next was due; None while what is on the wire may tell of all of them for less."""
        if not self._runs or self._scouting or self._underway >= AT_FIRST + self._answered:
            return None
        return next(iter(self._runs.values())).due

    def look(self, now: float) -> Look:
        """A page that may show several, or the next one by itself."""
        page, self._lead = self._lead, None
        if page is not None and len(self._runs) > 1 and page.notebook.unlisted_until <= now:
            self._scouting = True
            return Look(now, page=page, scouting=True)
        _, stray = self._runs.popitem(last=False)
        stray.busy = True
        self._read += 1
        self._underway += 1
        return Look(now, item=stray, stray=True)

    def found(self, notebook: Notebook) -> None:
        """One belongs to this notebook: its runs are worth a look for others, unless such looks were in vain."""
        if self._lead is not None or self._scouting or not self._runs:
            return
        if not self._in_vain or self._read >= BETWEEN_SCOUTS * 2**self._in_vain:
            self._read = 0
            self._lead = Page(notebook, None)

    def scouted(self, look: Look, notebook: Notebook, next_token: str | None) -> None:
        """A page was read for their sake: the next one is worth it if this one was."""
        if look.found < 2:
            self._in_vain += not look.found
            return
        self._in_vain = 0
        if next_token is not None:
            self._lead = Page(notebook, next_token)

    def again(self, look: Look) -> None:
        """A scouting look is to be made again."""
        self._lead = look.page

    def over(self, look: Look) -> None:
        """The look is off the wire, however it went."""
        if look.stray:
            self._underway -= 1
            self._answered += 1
        if look.scouting:
            self._scouting = False
