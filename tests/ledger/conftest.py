"""Ledgers in virtual time: the clock waits while their threads write."""

from __future__ import annotations

import threading
import time
import weakref

import pytest

from deepnote_async.ledger.writer import Writer
from deepnote_async.testing import virtual


@pytest.fixture(autouse=True)
def _clock_waits_for_writers(monkeypatch):
    """Let virtual time stand still while a ledger is being read or written; a real clock does not notice."""
    writers: weakref.WeakSet[Writer] = weakref.WeakSet()
    begin, select = Writer.__init__, virtual._JumpingSelector.select

    def noted(writer, path):
        begin(writer, path)
        writers.add(writer)

    def patient(selector, timeout=None):
        ready = []
        until = time.monotonic() + 5.0
        while not ready and timeout != 0 and _are_busy(writers) and time.monotonic() < until:
            ready = super(virtual._JumpingSelector, selector).select(0.01)
        return ready or select(selector, timeout)

    monkeypatch.setattr(Writer, "__init__", noted)
    monkeypatch.setattr(virtual._JumpingSelector, "select", patient)


def _are_busy(writers: weakref.WeakSet[Writer]) -> bool:
    reading = any(thread.name == "deepnote ledger reader" for thread in threading.enumerate())
    return reading or any(writer.busy for writer in writers)
