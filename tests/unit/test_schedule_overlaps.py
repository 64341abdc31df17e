"""A run that a page shows while it is being read by itself: neither read twice at a time nor given two keys."""

import random

from deepnote_async.settings import PollPolicy
from deepnote_async.waiting.places import Item
from deepnote_async.waiting.schedule import Schedule


def being_read_and_met(others: int = 0):
    """A run that a page shows while it is being read by itself."""
    schedule = Schedule(PollPolicy(), random.Random(1))
    notebook = schedule.notebook("nb")
    item = Item("r", notebook, None, 0.0)
    schedule.add(item, 0.0)
    look = schedule.choose(0.0)
    assert look.item is item
    page = notebook.page(None)
    schedule.met(item, page, 0.0, 1.0)
    for k in range(others):
        other = Item(f"o{k}", notebook, 0.0, 1.0)
        schedule.met(other, page, 0.0, 1.0)
    schedule._set_due(page, schedule._page_due(page))
    return schedule, look, item


def test_a_page_of_one_run_is_no_reason_to_read_it_twice_at_a_time() -> None:
    schedule, _, item = being_read_and_met()
    again = schedule.choose(1000.0)
    assert again is None or again.item is not item


def test_a_failed_look_at_a_run_on_a_page_gives_it_no_second_key() -> None:
    schedule, look, item = being_read_and_met(others=3)
    schedule.failed(look, 2.0)
    assert item.place is not None
    assert item.seq == 0


def test_a_throttled_look_at_a_run_on_a_page_gives_it_no_second_key() -> None:
    schedule, look, item = being_read_and_met(others=3)
    schedule.throttled(look, 2.0)
    assert item.seq == 0


def test_nothing_is_due_where_nothing_is_watched() -> None:
    """An emptied page has no key that would make the next moment due infinite."""
    schedule, _look, item = being_read_and_met()
    schedule.remove(item)
    frontier = schedule.notebook("nb").frontier
    schedule._set_due(frontier, schedule._page_due(frontier))
    assert schedule.next_due() is None
