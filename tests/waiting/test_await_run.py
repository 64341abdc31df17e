"""Awaiting one run and many: what comes back, when, and what is raised."""

from __future__ import annotations

import asyncio
import contextvars
import uuid

import pytest
from virtual_world import cancelled, now, only, virtual, world

from deepnote_async import (
    ClientClosedError,
    InvalidRequestError,
    NotFoundError,
    PollPolicy,
    Run,
    RunFailedError,
    RunStarted,
    RunTimeoutError,
)
from deepnote_async.errors import DeepnoteError

NOBODY = "00000000-0000-4000-8000-000000000000"
MIXED = [
    lambda run: run.id,
    lambda run: uuid.UUID(run.id),
    lambda run: RunStarted(run_id=run.id),
    lambda run: Run(run_id=run.id),
]


@pytest.mark.parametrize("ref", MIXED, ids=["text", "uuid", "receipt", "run"])
@pytest.mark.parametrize("dialect", ["live", "reference"])
@virtual
async def test_one_run_is_awaited_whatever_stands_for_it(ref, dialect):
    async with world(dialect=dialect) as w:
        run = w.one(20)
        ended = await w.client.await_run(ref(run))
        assert (ended.run_id, ended.status, ended.duration.total_seconds()) == (run.id, "success", 20)
        assert 20 <= now() < 40


@virtual
async def test_many_come_in_the_order_asked_whatever_stands_for_them():
    async with world() as w:
        runs = w.add(40, 5, 20, 10)
        ended = await w.client.await_run([ref(run) for ref, run in zip(MIXED, runs, strict=True)])
        assert [run.run_id for run in ended] == [run.id for run in runs]


@virtual
async def test_duplicates_come_back_in_place_and_cost_nothing():
    async with world() as w:
        first, second = w.add(5, 9)
        asked = [first.id, second.id, uuid.UUID(first.id), RunStarted(run_id=first.id), second.id]
        ended = await w.client.await_run(asked)
        assert [run.run_id for run in ended] == [first.id, second.id, first.id, first.id, second.id]
        once = w.requests
        await w.client.await_run([first.id, second.id])
        assert w.requests - once <= 2 <= once


@virtual
async def test_none_at_all_is_an_empty_list():
    async with world() as w:
        assert await w.client.await_run([]) == []
        assert await w.client.await_run((), return_exceptions=True, timeout=0) == []
        assert w.requests == 0


@virtual
async def test_many_may_be_any_iterable_but_a_text_is_one_run():
    async with world() as w:
        runs = w.ids(1, 2)
        assert len(await w.client.await_run({*runs})) == 2
        assert len(await w.client.await_run(tuple(runs))) == 2
        assert len(await w.client.await_run(RunStarted(run_id=run) for run in runs)) == 2
        assert isinstance(await w.client.await_run(runs[0]), Run)


@virtual
async def test_a_final_run_asked_for_no_snapshot_costs_no_request():
    async with world() as w:
        ended = [Run(run_id=f"r{n}", status=status) for n, status in enumerate(["success", "error", "stopped"])]
        assert await w.client.await_run(ended[0]) is ended[0]
        assert await w.client.await_run([*ended, ended[1]]) == [*ended, ended[1]]
        assert await w.client.await_run(ended, timeout=0) == ended
        assert w.requests == 0


@pytest.mark.parametrize("final", ["error", "internal_error", "stopped"])
@virtual
async def test_a_failed_run_is_a_result_unless_checked(final):
    async with world() as w:
        run = w.one(5, status=final, error="it broke")
        ended = await w.client.await_run(run.id)
        assert (ended.status, ended.error, ended.succeeded) == (final, "it broke", False)
        with pytest.raises(RunFailedError, match="it broke") as caught:
            await w.client.await_run(run.id, check=True)
        assert caught.value.run.run_id == run.id
        assert caught.value.run.status == final


@virtual
async def test_with_check_the_others_are_told_first_and_then_the_first_failure_is_raised():
    async with world() as w:
        slow, early, late = w.one(60), w.one(5, status="error"), w.one(30, status="stopped")
        heard = []
        with pytest.raises(RunFailedError) as caught:
            await w.client.await_run([slow.id, late.id, early.id], check=True, on_update=heard.append)
        assert caught.value.run.run_id == early.id
        assert now() >= 60
        assert {run.run_id for run in heard if run.is_terminal} == {slow.id, early.id, late.id}


@virtual
async def test_an_error_of_one_of_many_is_raised_after_the_others_were_told():
    async with world() as w:
        heard = []
        with pytest.raises(NotFoundError):
            await w.client.await_run([NOBODY, w.one(25).id], on_update=heard.append)
        assert now() >= 25
        assert heard[-1].succeeded


@virtual
async def test_return_exceptions_puts_errors_in_their_places():
    async with world() as w:
        good, failed, stuck = w.one(5), w.one(6, status="error"), w.one(1e9)
        told = await w.client.await_run(
            [stuck.id, NOBODY, failed.id, good.id], timeout=20, check=True, return_exceptions=True
        )
        assert [type(item) for item in told] == [RunTimeoutError, NotFoundError, RunFailedError, Run]
        assert (told[0].run_id, told[0].status) == (stuck.id, "running")
        told = await w.client.await_run([failed.id], return_exceptions=True)
        assert isinstance(told[0], Run)
        with pytest.raises(InvalidRequestError, match="pass a list"):
            await w.client.await_run(good.id, return_exceptions=True)


@pytest.mark.parametrize("wrong", [None, 5, b"id", "", [""], [None], [["id"]], object()])
@virtual
async def test_what_stands_for_no_run_is_refused_before_anything_is_watched(wrong):
    async with world() as w:
        run = w.one(5)
        with pytest.raises((InvalidRequestError, TypeError)):
            await w.client.await_run(wrong)
        with pytest.raises(InvalidRequestError):
            await w.client.await_run([run.id, 5])
        assert w.requests == 0


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
@virtual
async def test_a_timeout_that_cannot_be_is_refused(timeout):
    async with world() as w:
        for call in (w.client.await_run, w.client.run):
            with pytest.raises(InvalidRequestError, match="timeout"):
                await call(w.notebook.id, timeout=timeout)
        with pytest.raises(InvalidRequestError, match="timeout"):
            w.client.as_completed([], timeout=timeout)
        with pytest.raises(InvalidRequestError, match="timeout"):
            w.client.run_many([], timeout=timeout)
        with pytest.raises(InvalidRequestError, match="snapshot"):
            await w.client.await_run(w.notebook.id, snapshot="yaml")
        assert w.requests == 0


# Deadlines.


@virtual
async def test_a_timeout_of_one_tells_its_id_and_last_status():
    async with world() as w:
        run = w.one(1e9)
        with pytest.raises(RunTimeoutError, match=f"{run.id} had not ended.*last seen as running.*goes on") as caught:
            await w.client.await_run(run.id, timeout=90)
        assert (caught.value.run_id, caught.value.status) == (run.id, "running")
        assert isinstance(caught.value, TimeoutError)
        assert now() == pytest.approx(90)


@virtual
async def test_a_timeout_of_many_tells_what_had_ended_and_what_had_not():
    async with world() as w:
        runs = w.ids(5, 1e9, 8, 1e9)
        with pytest.raises(RunTimeoutError, match="2 of 4") as caught:
            await w.client.await_run(runs, timeout=60)
        error = caught.value
        assert ({run.run_id for run in error.finished}, error.unfinished) == ({runs[0], runs[2]}, [runs[1], runs[3]])
        assert now() == pytest.approx(60)


@virtual
async def test_the_runs_go_on_after_a_timeout_and_can_be_awaited_again():
    async with world() as w:
        run = w.one(50)
        with pytest.raises(RunTimeoutError):
            await w.client.await_run(run.id, timeout=20)
        assert w.client.stats().watched_runs == 0
        assert (await w.client.await_run(run.id)).succeeded


@virtual
async def test_a_timeout_of_nothing_is_over_at_once():
    async with world() as w:
        run = w.one(5)
        with pytest.raises(RunTimeoutError, match="never seen") as caught:
            await w.client.await_run(run.id, timeout=0)
        assert (caught.value.run_id, caught.value.status, now()) == (run.id, None, 0)
        told = await w.client.await_run([run.id, Run(run_id="r", status="success")], timeout=0, return_exceptions=True)
        assert [type(item) for item in told] == [RunTimeoutError, Run]


@virtual
async def test_an_infinite_timeout_is_none():
    async with world() as w:
        assert (await w.client.await_run(w.one(5000).id, timeout=float("inf"))).succeeded


@pytest.mark.parametrize("number", [1, 3, 250])
@virtual
async def test_last_looks_catch_runs_that_ended_just_before_the_deadline(number):
    async with world(client={"poll": PollPolicy(initial=25, maximum=30)}) as w:
        runs = w.ids(*[59.7] * number)
        ended = await w.client.await_run(runs, timeout=60)
        assert all(run.succeeded for run in ended)
        assert 59.75 <= now() <= 60


@pytest.mark.parametrize(("timeout", "since"), [(60, 59.75), (1, 0.9)])
@virtual
async def test_the_last_looks_come_in_the_last_tenth_and_at_most_a_quarter_of_a_second_before(timeout, since):
    async with world(latency=0.001, client={"poll": PollPolicy(initial=25, maximum=30, jitter=0)}) as w:
        run = w.one(1e9)
        with pytest.raises(RunTimeoutError):
            await w.client.await_run(run.id, timeout=timeout)
        last = w.service.calls[-1].time - w.service.runs[run.id].created_at
        assert last == pytest.approx(since, abs=1e-5)
        assert now() == pytest.approx(timeout)


@virtual
async def test_the_last_looks_are_at_pages_first():
    async with world(latency=0.001, client={"poll": PollPolicy(initial=25, maximum=30)}) as w:
        started = await w.start(*[1e9] * 60)
        other = w.service.add_notebook()
        w.refuse(other.id, 403)  # so that its runs are read by themselves
        alone = [w.service.add_run(other, length=1e9).id for _ in range(3)]
        with pytest.raises(RunTimeoutError):
            await w.client.await_run([*alone, *started], timeout=200)
        last = [call.path for call in w.service.calls if call.time >= w.service.clock() - 0.26]
        assert last[0] == f"/v2/notebooks/{w.notebook.id}/runs"
        assert sorted(last[1:]) == sorted(f"/v2/runs/{run}" for run in alone)


@virtual
async def test_a_look_that_hangs_does_not_hold_up_the_deadline():
    async with world() as w:
        w.break_down("hang")
        with pytest.raises(RunTimeoutError):
            await w.client.await_run(w.one(5).id, timeout=12)
        assert now() == pytest.approx(12)


@virtual
async def test_a_pause_of_the_rate_limit_does_not_hold_up_the_deadline():
    async with world(client={"rate_limiter": None}) as w:
        w.break_down("error_before", status=429, headers={"Retry-After": "60"})
        with pytest.raises(RunTimeoutError):
            await w.client.await_run(w.one(5).id, timeout=12)
        assert now() == pytest.approx(12)


# What a wait does not do.


@virtual
async def test_a_run_status_that_is_unknown_to_us_is_not_terminal():
    async with world() as w:
        run = w.one(30)

        def change(_, body):
            if w.service.clock() < run.ends_at + 60:
                body["run"]["status"] = "hibernating"

        w.transport.change = change
        heard = []
        ended = await w.client.await_run(run.id, on_update=heard.append)
        assert ended.succeeded
        assert now() >= 90
        assert [update.status for update in heard] == ["hibernating", "success"]
        w.transport.change = lambda _, body: body["run"].update(status="hibernating")
        with pytest.raises(RunTimeoutError) as caught:
            await w.client.await_run(run.id, timeout=30)
        assert caught.value.status == "hibernating"


@virtual
async def test_two_waits_on_one_run_share_its_looks():
    async def alone() -> int:
        async with world() as w:
            await w.client.await_run(w.one(300).id)
            return w.requests

    expected = await alone()
    async with world() as w:
        run = w.one(300)
        waits = [w.client.await_run(run.id) for _ in range(5)]
        ended = await asyncio.gather(*waits, w.client.await_run([run.id]))
        assert {item.run_id for item in ended[:5]} == {run.id}
        assert w.requests <= expected + 5, "seven waits cost what one does, but for chance in the intervals"


@virtual
async def test_a_wait_that_leaves_takes_nothing_from_another_on_the_same_run():
    async with world() as w:
        run = w.one(60)
        leaving = asyncio.create_task(w.client.await_run([run.id, w.one(1e9).id]))
        staying = asyncio.create_task(w.client.await_run(run.id))
        await asyncio.sleep(30)
        assert w.client.stats().watched_runs == 2
        await cancelled(leaving)
        assert w.client.stats().watched_runs == 1
        assert (await staying).succeeded


@virtual
async def test_a_cancelled_wait_ends_nothing_but_the_waiting():
    async with world() as w:
        run = w.one(60)
        waiting = asyncio.create_task(w.client.await_run(run.id))
        await asyncio.sleep(10)
        await cancelled(waiting)
        assert w.client.stats().watched_runs == 0
        asked = w.requests
        await asyncio.sleep(200)
        assert w.requests == asked
        assert (await w.client.runs.get(run.id)).succeeded


@virtual
async def test_no_task_and_no_timer_exist_while_nothing_is_watched():
    async with world() as w:
        await w.client.await_run(w.ids(5, 10, 15))
        await asyncio.sleep(40)
        loop = asyncio.get_running_loop()
        mine = [timer for timer in loop._scheduled if not timer.cancelled() and timer.when() < 1e6]
        assert mine == []
        assert len(asyncio.all_tasks()) == 1
        assert w.client.stats().tasks == 0


@virtual
async def test_the_watcher_carries_no_context_of_who_came_first():
    tenant = contextvars.ContextVar("tenant", default="nobody")
    async with world() as w:
        seen = set()
        w.transport.change = lambda *_: seen.add(tenant.get())
        tenant.set("the first")
        await w.client.await_run(w.ids(5, 10))
        assert seen == {"nobody"}


@virtual
async def test_every_wait_ends_if_the_watcher_dies_of_a_bug(monkeypatch, caplog):
    async with world() as w:
        waiting = [asyncio.create_task(w.client.await_run(w.one(60).id)) for _ in range(3)]
        await asyncio.sleep(5)

        def broken(*_):
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(type(w.client._watcher._schedule), "choose", broken)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert "ZeroDivisionError: a bug" in str(only(outcome, DeepnoteError))
        monkeypatch.undo()
        assert (await w.client.await_run(w.one(5).id)).succeeded
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@virtual
async def test_every_wait_ends_if_a_look_dies_of_a_bug(monkeypatch, caplog):
    async with world() as w:

        def broken(*_):
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(type(w.client._watcher), "_seen_alone", broken)
        with pytest.raises(DeepnoteError, match="ZeroDivisionError"):
            await w.client.await_run(w.one(60).id)
        monkeypatch.undo()
        assert (await w.client.await_run(w.one(5).id)).succeeded


@virtual
async def test_closing_the_client_ends_waits_at_once():
    async with world() as w:
        waiting = [
            asyncio.create_task(w.client.await_run(w.one(60).id)),
            asyncio.create_task(w.client.await_run(w.ids(60, 1e9), timeout=500)),
            asyncio.create_task(w.client.await_run(w.one(60).id, snapshot="inline")),
        ]
        await asyncio.sleep(30)
        await w.client.aclose()
        assert now() == 30
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            only(outcome, ClientClosedError)
        assert now() == 30


@virtual
async def test_closing_in_the_midst_of_registering_ends_the_wait_too():
    async with world() as w:
        started = [RunStarted(run_id=run.id, notebook_id=w.notebook.id) for run in w.add(*[1e9] * 1200)]
        waiting = asyncio.create_task(w.client.await_run(started))
        await asyncio.sleep(0)
        assert 0 < w.client.stats().watched_runs < 1200
        await w.client.aclose()
        with pytest.raises(ClientClosedError):
            await waiting
        assert now() < 1


@virtual
async def test_registering_many_lets_others_have_their_turn():
    async with world() as w:
        runs = [Run(run_id=f"r{number}", status="success") for number in range(5000)]
        waiting = asyncio.create_task(w.client.await_run(runs))
        rounds = 0
        while not waiting.done():
            rounds += 1
            await asyncio.sleep(0)
        assert rounds >= 10
        assert await waiting == runs
