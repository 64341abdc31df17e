"""``on_update``: who hears of a run's new states, when, and in which context."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from virtual_world import cancelled, now, virtual, world

from deepnote_async import PollPolicy, Run, RunTimeoutError

QUICK = {"poll": PollPolicy(initial=0.5, maximum=1.0)}


@virtual
async def test_a_plain_function_hears_of_every_new_status_once():
    async with world(client=QUICK, startup=5) as w:
        run = w.one(20)
        heard: list[Run] = []
        ended = await w.client.await_run(run.id, on_update=heard.append)
        assert [(update.run_id, update.status) for update in heard] == [
            (run.id, "pending"),
            (run.id, "running"),
            (run.id, "success"),
        ]
        assert heard[-1].status == ended.status


@virtual
async def test_every_run_of_many_is_heard_of():
    async with world() as w:
        runs = w.ids(5, 10, 15)
        heard: list[Run] = []
        async for _ in w.client.as_completed(runs, on_update=heard.append):
            pass
        assert {run.run_id for run in heard if run.is_terminal} == set(runs)
        assert len({(run.run_id, run.status) for run in heard}) == len(heard)


@virtual
async def test_a_coroutine_function_is_called_one_at_a_time_and_hears_the_newest_only():
    async with world(client=QUICK, startup=4) as w:
        running = 0
        heard = []

        async def slowly(run: Run) -> None:
            nonlocal running
            running += 1
            assert running == 1
            heard.append((run.run_id, run.status))
            await asyncio.sleep(30)
            running -= 1

        first, second = w.one(12), w.one(14)
        await w.client.await_run([first.id, second.id], on_update=slowly)
        told = [status for run_id, status in heard if run_id == second.id]
        assert heard[0] == (first.id, "pending")
        # What became of them while the first call ran is told once each, as it then is.
        assert (heard.count((first.id, "success")), told) == (1, ["success"])
        assert running == 0


@virtual
async def test_a_wait_ends_only_after_everything_was_passed_on():
    async with world() as w:
        heard = []

        async def slowly(run: Run) -> None:
            await asyncio.sleep(7)
            heard.append(run.status)

        run = w.one(10)
        await w.client.await_run(run.id, on_update=slowly)
        assert heard[-1] == "success"
        assert now() >= 17


@pytest.mark.parametrize("how", ["one", "many", "completed", "batch"])
@virtual
async def test_a_coroutine_that_goes_on_does_not_hold_up_the_deadline(how):
    async with world() as w:

        async def for_ever(_: Run) -> None:
            await asyncio.sleep(1e6)

        run = w.one(5).id
        if how == "one":
            assert (await w.client.await_run(run, timeout=20, on_update=for_ever)).succeeded
        elif how == "many":
            assert len(await w.client.await_run([run], timeout=20, on_update=for_ever)) == 1
        elif how == "completed":
            assert len([item async for item in w.client.as_completed([run], timeout=20, on_update=for_ever)]) == 1
        else:
            w.notebook.succeeds(after=5)
            async with w.client.run_many([w.notebook.id], timeout=20, on_update=for_ever) as batch:
                assert [result.ok for result in await batch.collect()] == [True]
        assert now() == pytest.approx(20)


@pytest.mark.parametrize("kind", ["plain", "coroutine", "late"])
@virtual
async def test_its_errors_are_logged_once_and_end_nothing(kind, caplog):
    async with world(client=QUICK, startup=3) as w:
        calls = 0

        def plain(_: Run) -> None:
            nonlocal calls
            calls += 1
            raise ValueError("mine")

        async def coroutine(run: Run) -> None:
            await asyncio.sleep(1 if kind == "late" else 0)
            plain(run)

        on_update = plain if kind == "plain" else coroutine
        assert all(run.succeeded for run in await w.client.await_run(w.ids(10, 12, 14), on_update=on_update))
        assert calls >= 6
        (record,) = caplog.records
        assert (record.levelname, record.exc_info[1].args) == ("WARNING", ("mine",))
        await w.client.await_run(w.one(3).id, on_update=on_update)
        assert len(caplog.records) == 2


@virtual
async def test_a_cancellation_it_raises_is_an_error_like_any_other():
    async with world() as w:

        def cancels(_: Run) -> None:
            raise asyncio.CancelledError

        assert (await w.client.await_run(w.one(10).id, on_update=cancels)).succeeded


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@virtual
async def test_it_sees_the_callers_context(kind):
    tenant = contextvars.ContextVar("tenant", default="nobody")
    async with world() as w:
        seen = []

        def plain(run: Run) -> None:
            seen.append((run.run_id, tenant.get()))

        async def coroutine(run: Run) -> None:
            await asyncio.sleep(0.1)
            plain(run)

        async def wait(name: str, run_id: str) -> None:
            tenant.set(name)
            await w.client.await_run(run_id, on_update=plain if kind == "plain" else coroutine)

        first, second = w.ids(10, 20)
        await asyncio.gather(wait("one", first), wait("two", second))
        assert set(seen) == {(first, "one"), (second, "two")}


@virtual
async def test_of_a_wait_that_was_left_it_hears_no_more():
    async with world() as w:
        heard = []
        ended = []

        async def slowly(run: Run) -> None:
            heard.append(run.status)
            try:
                await asyncio.sleep(20)
            finally:
                ended.append(now())

        waiting = asyncio.create_task(w.client.await_run(w.one(30).id, on_update=slowly))
        await asyncio.sleep(10)
        await cancelled(waiting)
        await asyncio.sleep(0)
        assert (heard, ended) == (["running"], [10]) or (heard, ended) == (["pending"], [10])
        await asyncio.sleep(100)
        assert len(heard) == 1


@virtual
async def test_a_coroutine_cancelled_before_its_first_step_warns_of_nothing():
    async with world(latency=0) as w:

        async def never_begun(_: Run) -> None:
            raise AssertionError

        run = w.one(5)
        for steps in range(12):
            waiting = asyncio.create_task(w.client.await_run(run.id, on_update=never_begun if steps < 4 else quick))
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("how", ["wait", "batch"])
@pytest.mark.parametrize("moment", [3, 30])
@virtual
async def test_closing_the_client_does_not_wait_for_it(how, moment):
    async with world() as w:

        async def for_ever(_: Run) -> None:
            await asyncio.sleep(1e6)

        async def batch() -> None:
            w.notebook.succeeds(after=10)
            async with w.client.run_many([w.notebook.id], on_update=for_ever) as batch:
                await batch.collect()

        waiting = asyncio.create_task(
            batch() if how == "batch" else w.client.await_run(w.one(10).id, on_update=for_ever)
        )
        await asyncio.sleep(moment)
        await w.client.aclose()
        await asyncio.wait([waiting])
        assert now() == moment


async def quick(_: Run) -> None:
    await asyncio.sleep(0)


@virtual
async def test_at_a_timeout_it_has_heard_of_what_was_seen():
    async with world() as w:
        heard: list[Run] = []
        with pytest.raises(RunTimeoutError):
            await w.client.await_run(w.ids(5, 1e9), timeout=60, on_update=heard.append)
        assert [run.status for run in heard if run.is_terminal] == ["success"]
