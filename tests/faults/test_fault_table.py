"""What must happen when a connection breaks in this way or that, for each of the twelve operations: one table."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import attrs
import breaking_proxy as faults
import pytest
from breaking_proxy import BreakingProxy
from loopback_servers import client_of, settled

from deepnote_async import (
    DecodeError,
    OutcomeUnknownError,
    RequestTimeoutError,
    TransportError,
)
from deepnote_async.testing import FakeDeepnote

ATTEMPTS = 3  # of the clients here
SHORT = 0.1  # s, the timeout where the fault is that nothing comes
LIMIT = 2**20
READS, DELETES, CREATES, V1 = "read", "delete", "create", "v1"


@attrs.frozen
class Cell:
    """What must happen: success, or an error that is raised by itself or as the cause of an OutcomeUnknownError.

    ``reached`` says how many requests may reach the service.
    """

    error: type[Exception] | None = None
    unknown: bool = False
    reached: frozenset[int] = frozenset({1})


def ok(*reached: int) -> Cell:
    return Cell(reached=frozenset(reached or {1}))


def fails(error: type[Exception], *reached: int) -> Cell:
    return Cell(error, reached=frozenset(reached))


def unknown(cause: type[Exception], reached: int = 1) -> Cell:
    return Cell(cause, unknown=True, reached=frozenset({reached}))


def row(read: Cell, delete: Cell, create: Cell, v1: Cell | None = None) -> dict[str, Cell]:
    return {READS: read, DELETES: delete, CREATES: create, V1: v1 or create}


# aiohttp sends a GET or a DELETE once more by itself where nothing of an answer has come.
_TWICE = range(ATTEMPTS, 2 * ATTEMPTS + 1)
_BREAKS_BEFORE = row(fails(TransportError, *_TWICE), fails(TransportError, *_TWICE), unknown(TransportError))
_BREAKS_WITHIN = row(fails(TransportError, ATTEMPTS), fails(TransportError, *_TWICE), unknown(TransportError))
_BREAKS_EVERY_ANSWER = row(fails(TransportError, ATTEMPTS), fails(TransportError, ATTEMPTS), unknown(TransportError))
_TOO_LARGE = row(fails(DecodeError, 1), fails(DecodeError, 1), unknown(DecodeError))

TABLE = {
    # Whether the start's headers were written before the reset was seen is a matter of microseconds.
    "reset_at_once": row(fails(TransportError, 0), fails(TransportError, 0), Cell(TransportError, reached={0})),
    "reset_after": _BREAKS_BEFORE,
    "cut": _BREAKS_WITHIN,
    "closed": _BREAKS_WITHIN,
    "delay": row(ok(), ok(), ok()),
    "dribble": row(
        fails(RequestTimeoutError, ATTEMPTS), fails(RequestTimeoutError, ATTEMPTS), unknown(RequestTimeoutError)
    ),
    "hang": row(fails(RequestTimeoutError, 0), fails(RequestTimeoutError, 0), unknown(RequestTimeoutError, 0)),
    "bad_chunk": _BREAKS_EVERY_ANSWER,
    # Any 2xx is success where nothing is read from its body.
    "html": row(fails(DecodeError, 0), ok(0), unknown(DecodeError, 0), ok(0)),
    "truncated": row(fails(DecodeError, 1), ok(1), unknown(DecodeError), ok(1)),
    "gzip_bomb": _TOO_LARGE,
    "huge": _TOO_LARGE,
    "header_bomb": _BREAKS_EVERY_ANSWER,
    "endless_headers": _BREAKS_EVERY_ANSWER,
    "dying": row(ok(1), ok(1), unknown(TransportError, 0)),
    "closed_idle": row(ok(1), ok(1), ok(1)),
}
WITHOUT_ANSWER = {"dribble", "hang"}
KEPT = {"dying", "closed_idle"}

OPERATIONS = {
    "me": (READS, lambda c, w: c.me()),
    "projects.list": (READS, lambda c, w: c.projects.list().collect()),
    "projects.get": (READS, lambda c, w: c.projects.get(w.project)),
    "notebooks.get": (READS, lambda c, w: c.notebooks.get(w.notebook.id)),
    "notebooks.list_runs": (READS, lambda c, w: c.notebooks.list_runs(w.notebook.id).collect()),
    "runs.get": (READS, lambda c, w: c.runs.get(w.run.id)),
    "projects.delete": (DELETES, lambda c, w: c.projects.delete(w.project)),
    "notebooks.delete": (DELETES, lambda c, w: c.notebooks.delete(w.notebook.id)),
    "projects.create": (CREATES, lambda c, w: c.projects.create("new")),
    "notebooks.create": (CREATES, lambda c, w: c.notebooks.create(w.project, name="new")),
    "runs.create": (CREATES, lambda c, w: c.runs.create(w.idle.id)),
    "notebooks.execute_v1": (V1, lambda c, w: c.notebooks.execute_v1(w.project, w.idle.id)),
}


class Whole:
    """A service with one of everything."""

    def __init__(self, fake: FakeDeepnote) -> None:
        self.service = fake.service
        self.notebook = fake.notebook("n")
        self.project = self.notebook.project_id
        self.idle = fake.service.add_notebook("idle", project_id=self.project)
        self.run = fake.service.add_run(self.notebook, length=1e6)
        self.before = self.things()

    def things(self) -> int:
        return len(self.service.projects) + len(self.service.notebooks) + len(self.service.runs)

    def reached(self) -> int:
        """How many requests came but for those that warm up."""
        return sum(not call.path.startswith("/v2/warm") for call in self.service.calls)


async def strike(proxy: BreakingProxy, client, name: str) -> None:
    """Let a fault strike from now on."""
    if name in KEPT:
        for method in ("GET", "POST"):
            with pytest.raises(Exception, match="404"):
                await client.request(method, "/v2/warm")
    if name == "closed_idle":
        proxy.close_idle()
        await asyncio.sleep(0.02)
    elif name == "reset_at_once":
        proxy.resets_at_once = True
    else:
        proxy.fault = getattr(faults, name)


async def outcome(call) -> Exception | None:
    try:
        await call
    except Exception as error:
        return error
    return None


def judge(cell: Cell, error: Exception | None, name: str, kind: str) -> None:
    if cell.error is None:
        assert error is None
        return
    posts = kind in {CREATES, V1}
    if posts and name == "reset_at_once":
        cause = error.cause if isinstance(error, OutcomeUnknownError) else error
        assert cause.sent == isinstance(error, OutcomeUnknownError)
    else:
        assert isinstance(error, OutcomeUnknownError) == cell.unknown, repr(error)
        cause = error.cause if isinstance(error, OutcomeUnknownError) else error
        assert getattr(cause, "sent", True)
    assert isinstance(cause, cell.error), repr(cause)
    # No timeout is given as the reason where there was none.
    assert isinstance(cause, RequestTimeoutError) == (cell.error is RequestTimeoutError)
    if isinstance(cause, TransportError) and not isinstance(error, OutcomeUnknownError):
        assert cause.attempts == ATTEMPTS


async def struck(name: str, operation: str, times: int | None = None):
    """What became of a call under a fault, how long it took, and how many requests reached the service."""
    kind, call = OPERATIONS[operation]
    timeout = SHORT if name in WITHOUT_ANSWER else 5.0
    async with FakeDeepnote(notebooks=["n"]) as fake, BreakingProxy(fake.url) as proxy:
        whole = Whole(fake)
        async with client_of(proxy.url, fake.token, timeout=timeout, max_response_bytes=LIMIT) as client:
            await strike(proxy, client, name)
            proxy.times = times or proxy.times
            began = time.perf_counter()
            error = await outcome(call(client, whole))
            took = time.perf_counter() - began
            reached = whole.reached()
            if kind in {CREATES, V1}:
                assert whole.things() - whole.before <= (2 if operation == "projects.create" else 1)
            await settled(client)
            # And the client is as good as before.
            proxy.fault, proxy.resets_at_once = None, False
            await client.me()
            assert proxy.reused_after_a_fault == 0
    return error, took, reached


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", TABLE)
async def test_cell(name, operation):
    kind = OPERATIONS[operation][0]
    error, took, reached = await struck(name, operation)
    judge(TABLE[name][kind], error, name, kind)
    assert reached in TABLE[name][kind].reached
    assert took < (ATTEMPTS * SHORT + 1.0 if name in WITHOUT_ANSWER else 4.0)


@pytest.mark.parametrize("operation", ["runs.get", "projects.delete", "runs.create"])
@pytest.mark.parametrize("name", TABLE)
async def test_a_fault_that_strikes_once(name, operation):
    """A read and a delete get over it, though the delete may have been done by then; a start is not repeated."""
    kind = OPERATIONS[operation][0]
    cell = TABLE[name][kind]
    error, _, reached = await struck(name, operation, times=1)
    if kind in {READS, DELETES} and cell.error in {TransportError, RequestTimeoutError}:
        cell = Cell(None, reached=frozenset({1, 2}))
    if name == "reset_at_once" and error is None:
        cell = ok(1)  # it was seen before the start was written
    judge(cell, error, name, kind)
    assert reached in cell.reached


@pytest.mark.parametrize("name", ["gzip_bomb", "huge", "header_bomb", "endless_headers"])
@pytest.mark.parametrize("operation", ["runs.get", "runs.create", "projects.delete"])
async def test_a_bomb_costs_no_memory(name, operation):
    faults.bomb_of(faults.HUGE)
    async with FakeDeepnote(notebooks=["n"]) as fake, BreakingProxy(fake.url) as proxy:
        whole = Whole(fake)
        async with client_of(proxy.url, fake.token, max_response_bytes=LIMIT) as client:
            await client.me()
            await strike(proxy, client, name)
            tracemalloc.start()
            try:
                await outcome(OPERATIONS[operation][1](client, whole))
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert peak < 8 * LIMIT
