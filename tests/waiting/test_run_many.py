"""A batch: every request read has one result, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from virtual_world import World, cancelled, now, only, taken, virtual, world

from deepnote_async import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    NotStartedError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PollPolicy,
    Run,
    RunFailedError,
    RunRequest,
    TokenBucket,
    grid,
)

QUICK = {"poll": PollPolicy(initial=0.5, maximum=1.0)}


class Pulled:
    """An endless iterable that counts what was taken of it."""

    def __init__(self, notebook_id: str, number: int | None = None) -> None:
        self.notebook_id = notebook_id
        self.number = number
        self.taken = 0

    def __iter__(self) -> Iterator[RunRequest]:
        for _ in itertools.count() if self.number is None else range(self.number):
            self.taken += 1
            yield RunRequest(self.notebook_id, key=str(self.taken - 1))

    async def slowly(self) -> AsyncIterator[RunRequest]:
        for request in self:
            await asyncio.sleep(0.1)
            yield request


def started_of(w: World) -> list[str]:
    return [call.run_id for call in w.service.calls if call.method == "POST" and call.run_id is not None]


# Results.


@pytest.mark.parametrize("dialect", ["live", "reference"])
@virtual
async def test_there_is_one_result_for_every_request(dialect):
    async with world(dialect=dialect, failures=0.2, median=20) as w:
        requests = list(grid(w.notebook.id, region=["EU", "US"], year=range(25)))
        async with w.client.run_many(requests) as batch:
            results = [result async for result in batch]
        assert sorted(result.index for result in results) == list(range(50))
        assert all(result.request is requests[result.index] for result in results)
        assert sorted(result.run_id for result in results) == sorted(run.id for run in w.notebook.runs)
        for result in results:
            state = w.service.runs[result.run_id]
            assert (result.run.status, result.ok, result.error) == (state.final, state.final == "success", None)
            assert dict(state.inputs) == result.request.inputs
        failed = sum(not result.ok for result in results)
        assert failed > 0
        assert (batch.stats.read, batch.stats.started, batch.stats.ended, batch.stats.in_flight) == (50, 50, 50, 0)
        assert (batch.stats.failed, batch.stats.succeeded, batch.stats.errors) == (failed, 50 - failed, 0)
        assert (batch.unfinished, batch.leftover) == ([], [])


@virtual
async def test_results_come_as_the_runs_end():
    async with world(client=QUICK) as w:
        for length in (50, 10, 30):
            w.notebook.succeeds(after=length, times=1)
        async with w.client.run_many([w.notebook.id] * 3) as batch:
            assert [result.index async for result in batch] == [1, 2, 0]


@virtual
async def test_collect_is_in_the_order_of_the_requests():
    async with world(client=QUICK) as w:
        for length in (50, 10, 30):
            w.notebook.succeeds(after=length, times=1)
        keys = ["a", None, "c"]
        async with w.client.run_many([RunRequest(w.notebook.id, key=key) for key in keys]) as batch:
            results = await batch.collect()
        assert [(result.index, result.key) for result in results] == list(enumerate(keys))


@virtual
async def test_unwrap_gives_the_run_or_raises_what_came_of_it():
    async with world() as w:
        w.notebook.succeeds(after=5, times=1)
        w.notebook.fails("it broke", after=5, times=1)
        async with w.client.run_many([w.notebook.id, w.notebook.id, "nobody"], max_in_flight=1) as batch:
            good, failed, refused = await batch.collect()
        assert isinstance(good.unwrap(), Run)
        with pytest.raises(RunFailedError, match="it broke"):
            failed.unwrap()
        with pytest.raises(BadRequestError):
            refused.unwrap()


@virtual
async def test_a_batch_of_nothing_is_over_at_once():
    async def nothing() -> AsyncIterator[RunRequest]:
        return
        yield

    async with world() as w:
        for empty in ([], iter(()), nothing()):
            async with w.client.run_many(empty) as batch:
                assert await batch.collect() == []
        assert (w.requests, now()) == (0, 0)


@virtual
async def test_on_update_hears_of_every_run():
    async with world() as w:
        heard = []
        async with w.client.run_many([w.notebook.id] * 5, on_update=heard.append) as batch:
            results = await batch.collect()
        assert {run.run_id for run in heard if run.is_terminal} == {result.run_id for result in results}


# Reading.


@pytest.mark.parametrize("kind", ["plain", "async"])
@virtual
async def test_requests_are_read_only_as_there_is_room(kind):
    async with world() as w:
        w.notebook.succeeds(after=20)
        source = Pulled(w.notebook.id)
        async with w.client.run_many(source if kind == "plain" else source.slowly(), max_in_flight=7) as batch:
            taken = 0
            async for _ in batch:
                taken += 1
                assert source.taken <= taken + 7 + (kind == "async")
                if taken == 40:
                    break
        assert source.taken <= 48
        await asyncio.sleep(200)
        assert w.starts <= source.taken <= 48


@virtual
async def test_max_in_flight_bounds_the_runs_that_go_on_together():
    async with world() as w:
        most = 0

        def count(*_) -> None:
            nonlocal most
            at = w.service.clock()
            most = max(most, sum(not run.is_final(at) for run in w.notebook.runs))

        w.transport.change = count
        async with w.client.run_many([w.notebook.id] * 60, max_in_flight=10) as batch:
            assert len(await batch.collect()) == 60
        assert most == 10


@virtual
async def test_results_unread_by_a_slow_consumer_count_against_max_in_flight():
    async with world() as w:
        w.notebook.succeeds(after=5)
        source = Pulled(w.notebook.id, 50)
        async with w.client.run_many(source, max_in_flight=8) as batch:
            await asyncio.sleep(1000)
            assert (source.taken, w.starts) == (8, 8)
            for number in range(1, 4):
                await anext(batch)
                await asyncio.sleep(100)
                assert w.starts == 8 + number
            assert len(await batch.collect()) == 47


@virtual
async def test_an_async_iterable_that_comes_slowly_is_followed():
    async with world(client=QUICK) as w:
        w.notebook.succeeds(after=5)

        async def requests() -> AsyncIterator[str]:
            for _ in range(3):
                await asyncio.sleep(100)
                yield w.notebook.id

        async with w.client.run_many(requests()) as batch:
            times = [now() async for _ in batch]
        assert [round(time / 10) for time in times] == [11, 21, 31] or [int(t // 100) for t in times] == [1, 2, 3]


@virtual
async def test_the_iterable_runs_in_the_callers_context():
    tenant = contextvars.ContextVar("tenant", default="nobody")
    async with world() as w:
        seen = []

        def requests() -> Iterator[str]:
            seen.append(tenant.get())
            yield w.notebook.id

        tenant.set("mine")
        async with w.client.run_many(requests()) as batch:
            await batch.collect()
        assert seen == ["mine"]


@pytest.mark.parametrize("kind", ["plain", "async"])
@virtual
async def test_of_an_iterable_that_raises_the_others_are_told_first(kind):
    async with world() as w:
        w.notebook.succeeds(after=30)

        def plain() -> Iterator[str]:
            yield from [w.notebook.id] * 5
            raise KeyError("mine")

        async def slowly() -> AsyncIterator[str]:
            for request in plain():
                await asyncio.sleep(1)
                yield request

        results = []
        async with w.client.run_many(plain() if kind == "plain" else slowly()) as batch:
            with pytest.raises(KeyError, match="mine"):
                await taken(batch, results)
            assert [result.ok for result in results] == [True] * 5
            with pytest.raises(StopAsyncIteration):
                await anext(batch)
        assert w.starts == 5


@virtual
async def test_a_cancellation_that_the_iterable_raises_is_raised_too():
    async with world() as w:
        w.notebook.succeeds(after=30)

        async def requests() -> AsyncIterator[str]:
            yield w.notebook.id
            raise asyncio.CancelledError

        async with w.client.run_many(requests()) as batch:
            assert (await anext(batch)).ok
            with pytest.raises(asyncio.CancelledError):
                await anext(batch)


@virtual
async def test_a_closed_client_of_the_iterables_own_does_not_end_it_silently():
    async with world() as w:

        async def requests() -> AsyncIterator[str]:
            yield w.notebook.id
            raise ClientClosedError("another client")

        async with w.client.run_many(requests()) as batch:
            assert (await anext(batch)).ok
            with pytest.raises(ClientClosedError, match="another client"):
                await anext(batch)


@virtual
async def test_what_is_no_request_is_raised_like_an_error_of_the_iterable():
    async with world() as w:
        async with w.client.run_many([w.notebook.id, 5, w.notebook.id]) as batch:
            assert (await anext(batch)).ok
            with pytest.raises(InvalidRequestError):
                await anext(batch)
        assert w.starts == 1


@pytest.mark.parametrize("wrong", ["notebook", b"notebook", 5, None, RunRequest("notebook")])
@virtual
async def test_what_is_no_iterable_is_refused_at_the_call(wrong):
    async with world() as w:
        with pytest.raises(InvalidRequestError, match=r"run_many\(\[request\]\)"):
            w.client.run_many(wrong)


@pytest.mark.parametrize("option", ["max_in_flight", "max_failures"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "5"])
@virtual
async def test_bounds_that_cannot_be_are_refused_at_the_call(option, wrong):
    async with world() as w:
        with pytest.raises(InvalidRequestError, match=option):
            w.client.run_many([], **{option: wrong})


@virtual
async def test_an_on_unknown_that_is_not_known_is_refused():
    async with world() as w:
        with pytest.raises(InvalidRequestError, match="on_unknown"):
            w.client.run_many([], on_unknown="repeat")


# Entering.


@virtual
async def test_a_batch_is_entered_once():
    async with world() as w:
        batch = w.client.run_many([w.notebook.id])
        async with batch:
            await batch.collect()
            with pytest.raises(InvalidRequestError, match="entered once"):
                await batch.__aenter__()
        with pytest.raises(InvalidRequestError, match="entered once"):
            async with batch:
                pass
        assert w.starts == 1


@virtual
async def test_a_batch_that_is_not_entered_reads_nothing_and_says_so():
    async with world() as w:
        source = Pulled(w.notebook.id)
        batch = w.client.run_many(source)
        with pytest.raises(InvalidRequestError, match="enter the batch first"):
            await anext(batch)
        with pytest.raises(InvalidRequestError, match="enter the batch first"):
            await batch.collect()
        assert (source.taken, w.requests) == (0, 0)


# Ending early.


@virtual
async def test_max_failures_stops_starting():
    async with world() as w:
        w.notebook.fails(after=10, times=3)
        w.notebook.succeeds(after=50)
        source = Pulled(w.notebook.id)
        async with w.client.run_many(source, max_in_flight=6, max_failures=3) as batch:
            results = await batch.collect()
        assert sum(isinstance(result.run, Run) and not result.ok for result in results) == 3
        assert len(results) == source.taken
        assert all(result.ok or result.run is not None or result.run_id is None for result in results)
        for result in results:
            if result.error is not None:
                only(result.error, NotStartedError)
        # Those that had been started before go on to their end.
        assert {result.run_id for result in results if result.run_id} == {run.id for run in w.notebook.runs}
        assert source.taken < 20


@virtual
async def test_errors_count_as_failures_too():
    async with world() as w:
        requests = itertools.chain(["nobody"] * 2, itertools.repeat(w.notebook.id))
        async with w.client.run_many(requests, max_in_flight=1, max_failures=2) as batch:
            results = await batch.collect()
        assert [type(result.error) for result in results] == [BadRequestError, BadRequestError]


@pytest.mark.parametrize("how", ["break", "exception", "cancellation", "generator"])
@virtual
async def test_left_early_the_runs_go_on_and_are_listed(how, caplog):
    async with world() as w:
        w.notebook.succeeds(after=10, times=3)
        w.notebook.succeeds(after=500)
        source = Pulled(w.notebook.id)
        told = []
        batch = w.client.run_many(source, max_in_flight=10)

        async def work() -> None:
            async with batch:
                async for result in batch:
                    told.append(result.run_id)
                    if len(told) == 3 and how == "break":
                        break
                    if len(told) == 3 and how == "exception":
                        raise KeyError("mine")

        async def events():
            async with batch:
                async for result in batch:
                    told.append(result.run_id)
                    yield result

        if how == "generator":
            stream = events()
            for _ in range(3):
                await anext(stream)
            await asyncio.create_task(stream.aclose())
        elif how == "cancellation":
            working = asyncio.create_task(work())
            await asyncio.sleep(100)
            await cancelled(working)
        elif how == "exception":
            with pytest.raises(KeyError, match="mine"):
                await work()
        else:
            await work()
        assert w.client.stats().watched_runs == 0
        starts, taken = w.starts, source.taken
        await asyncio.sleep(600)
        assert (w.starts, source.taken) == (starts, taken)
        assert sorted([*told, *(result.run_id for result in batch.unfinished)]) == sorted(started_of(w))
        assert all(result.error is None and result.run is None for result in batch.unfinished)
        assert all(run.is_final(w.service.clock()) for run in w.notebook.runs)
        ended = await w.client.await_run([result.run_id for result in batch.unfinished])
        assert all(run.succeeded for run in ended)


@virtual
async def test_left_with_starts_on_the_wire_their_runs_are_listed_when_their_answers_come(caplog):
    async with world(latency=2) as w:
        async with w.client.run_many([w.notebook.id] * 20, max_in_flight=4) as batch:
            await asyncio.sleep(1)
        assert batch.unfinished == []
        await asyncio.sleep(5)
        assert sorted(result.run_id for result in batch.unfinished) == sorted(started_of(w))
        assert len(batch.unfinished) == len(caplog.records) == w.starts == 4
        for record in caplog.records:
            assert record.levelname == "WARNING"
            assert sum(result.run_id in record.message for result in batch.unfinished) == 1


@virtual
async def test_left_before_anything_was_sent_nothing_is_started():
    async with world(client={"rate_limiter": TokenBucket(0.01, 1, adaptive=False)}) as w:
        await w.client.me()
        async with w.client.run_many([w.notebook.id] * 20) as batch:
            await asyncio.sleep(1)
        assert (batch.unfinished, w.starts) == ([], 0)
        async with w.client.run_many([w.notebook.id] * 20) as batch:
            pass
        assert (batch.unfinished, w.starts) == ([], 0)


@virtual
async def test_results_that_were_not_read_can_be_read_after_it_was_left():
    async with world() as w:
        w.notebook.succeeds(after=5, times=2)
        w.notebook.stalls()
        async with w.client.run_many([w.notebook.id] * 4) as batch:
            await asyncio.sleep(60)
        assert [result.ok for result in await batch.collect()] == [True, True]
        assert len(batch.unfinished) == 2


# Refusals.


@pytest.mark.parametrize(("status", "kind"), [(400, BadRequestError), (404, NotFoundError), (409, ConflictError)])
@virtual
async def test_a_refusal_of_one_request_is_that_requests_error(status, kind):
    async with world() as w:
        w.refuse("/v2/runs", status, methods="POST", count=1)
        async with w.client.run_many([w.notebook.id] * 5) as batch:
            results = await batch.collect()
        errors = [result.error for result in results if result.error is not None]
        assert [type(error) for error in errors] == [kind]
        assert sum(result.ok for result in results) == 4


@virtual
async def test_an_unknown_notebook_is_that_requests_error():
    async with world() as w:
        async with w.client.run_many([w.notebook.id, "nobody", w.notebook.id]) as batch:
            results = await batch.collect()
        assert [type(result.error) for result in results] == [type(None), BadRequestError, type(None)]
        assert results[1].run_id is None


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)])
@virtual
async def test_a_refused_key_ends_starting_and_the_rest_are_not_started(status, kind):
    async with world() as w:
        w.notebook.succeeds(after=60)

        async def requests() -> AsyncIterator[str]:
            for number in range(30):
                if number == 10:
                    await asyncio.sleep(5)
                    w.refuse("/v2/runs", status, methods="POST")
                yield w.notebook.id

        async with w.client.run_many(requests(), max_in_flight=12) as batch:
            results = await batch.collect()
        assert [result.ok for result in results] == [True] * 10 + [False] * 20
        for result in results[10:]:
            only(result.error, NotStartedError)
            only(result.error.cause, kind)
            assert result.run_id is None
        assert w.starts <= 12


@virtual
async def test_429_on_starts_never_counts_against_attempts():
    async with world(client={"rate_limiter": None}) as w:
        fault = w.refuse("/v2/runs", 429, methods="POST", headers={"Retry-After": "30"})
        async with w.client.run_many([w.notebook.id] * 10) as batch:
            collecting = asyncio.create_task(batch.collect())
            await asyncio.sleep(3600)
            assert w.starts > 50
            w.service.faults.remove(fault)
            results = await collecting
        assert all(result.ok for result in results)
        assert len(w.notebook.runs) == 10


@virtual
async def test_a_sudden_limit_costs_time_and_nothing_else():
    async with world(client={"rate_limiter": None}, median=10) as w:
        async with w.client.run_many([w.notebook.id] * 200) as batch:
            collecting = asyncio.create_task(batch.collect())
            await asyncio.sleep(8)
            w.refuse("", 429, rate=0.3, headers={"Retry-After": "1"})
            results = await collecting
        assert all(result.ok for result in results)
        assert len(w.notebook.runs) == 200


# Closing.


@virtual
async def test_closing_the_client_ends_it_at_once():
    async with world(client={"rate_limiter": TokenBucket(0.1, 6, adaptive=False)}) as w:
        w.notebook.stalls()
        async with w.client.run_many([w.notebook.id] * 6) as batch:
            collecting = asyncio.create_task(collected(batch))
            await asyncio.sleep(5)
            await w.client.aclose()
            results = await collecting
            assert now() == 5
        only(results.pop(), ClientClosedError)  # it had not yet come to the end of the requests
        assert len(results) == 6
        for result in results:
            error = only(result.error, NotStartedError if result.run_id is None else ClientClosedError)
            if result.run_id is None:
                only(error.cause, ClientClosedError)
        assert {result.run_id for result in batch.unfinished} == {run.id for run in w.notebook.runs}


async def collected(batch) -> list:
    results = []
    try:
        await taken(batch, results)
    except ClientClosedError as error:
        results.append(error)
    return results


@virtual
async def test_closing_the_client_with_requests_unread_is_raised_after_the_results():
    async with world() as w:
        w.notebook.stalls()
        async with w.client.run_many(Pulled(w.notebook.id), max_in_flight=5) as batch:
            collecting = asyncio.create_task(collected(batch))
            await asyncio.sleep(5)
            await w.client.aclose()
            results = await collecting
        assert [type(item) for item in results].count(ClientClosedError) == 1
        assert len(results) == 6


@virtual
async def test_closing_the_client_with_starts_on_the_wire_ends_it_at_once_and_keeps_their_runs(caplog):
    async with world(latency=2) as w:
        async with w.client.run_many([w.notebook.id] * 4) as batch:
            collecting = asyncio.create_task(batch.collect())
            await asyncio.sleep(1)
            closing = asyncio.create_task(w.client.aclose())
            results = await collecting
            assert now() == 1
            for result in results:
                only(only(result.error, OutcomeUnknownError).cause, ClientClosedError)
            await closing
            assert now() == 2
        assert sorted(result.run_id for result in batch.unfinished) == sorted(started_of(w))
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 4


@virtual
async def test_closing_waits_for_starts_on_the_wire_only_so_long(caplog):
    async with world(latency=25) as w:
        async with w.client.run_many([w.notebook.id] * 2) as batch:
            await asyncio.sleep(1)
            await w.client.aclose(grace=3)
            assert now() == 4
        assert [type(result.error) for result in batch.unfinished] == [OutcomeUnknownError] * 2
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


@virtual
async def test_a_batch_that_is_stopped_starts_nothing_more_and_awaits_what_runs():
    async with world() as w:
        w.notebook.succeeds(after=10)
        async with w.client.run_many([w.notebook.id] * 10, max_in_flight=3) as batch:
            while len(batch.running) < 3:  # noqa: ASYNC110 - in virtual time it costs nothing
                await asyncio.sleep(0.1)
            batch.stop("enough")
            results = await batch.collect()
        assert sum(result.ok for result in results) == len(w.service.runs) == 3
        assert all(isinstance(result.error, NotStartedError) for result in results if not result.ok)
        assert [str(result.error) for result in results if not result.ok] == ["enough"] * (len(results) - 3)
