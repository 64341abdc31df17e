"""What type checkers must make of the interface. Checked by mypy and pyright, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

from deepnote_async import (
    AsyncPaginator,
    DataFrameOutput,
    DeepnoteClient,
    DeepnoteError,
    Ledger,
    LedgerEntry,
    LedgerSummary,
    Me,
    Notebook,
    Output,
    Project,
    Run,
    RunBatch,
    RunFailure,
    RunRequest,
    RunResult,
    RunStarted,
    grid,
)


async def a_ledger(client: DeepnoteClient, path: Path) -> None:
    assert_type(client.run_many(["id"], ledger="n.sqlite", rerun=("error", "internal_error")), RunBatch)
    assert_type(client.run_many(["id"], ledger=path, rerun={"error"}), RunBatch)
    assert_type(client.run_many(["id"], ledger=Ledger(path, inputs=True)), RunBatch)
    assert_type(await Ledger.open(path).summary(), LedgerSummary)
    async for entry in Ledger.open("n.sqlite"):
        assert_type(entry, LedgerEntry)


async def one_run(client: DeepnoteClient, started: RunStarted, run: Run, run_id: uuid.UUID) -> None:
    assert_type(await client.await_run("id"), Run)
    assert_type(await client.await_run(run_id, timeout=60), Run)
    assert_type(await client.await_run(started, check=True, snapshot="inline"), Run)
    assert_type(await client.await_run(run, on_update=print), Run)


async def many_runs(client: DeepnoteClient, started: list[RunStarted], names: set[str], lazily: Iterator[Run]) -> None:
    assert_type(await client.await_run(["id", "id"]), list[Run])
    assert_type(await client.await_run(("id",), check=True), list[Run])
    assert_type(await client.await_run(names, return_exceptions=False), list[Run])
    assert_type(await client.await_run(started, timeout=60), list[Run])
    assert_type(await client.await_run(lazily), list[Run])
    assert_type(await client.await_run(started, return_exceptions=True), list[Run | DeepnoteError])


async def either(client: DeepnoteClient, started: list[RunStarted], wanted: bool) -> None:
    assert_type(await client.await_run(started, return_exceptions=wanted), list[Run | DeepnoteError])
    assert_type(client.as_completed(started, return_exceptions=wanted), AsyncIterator[Run | DeepnoteError])


async def as_they_end(client: DeepnoteClient, started: list[RunStarted]) -> None:
    assert_type(client.as_completed(started), AsyncIterator[Run])
    assert_type(client.as_completed(["id"], return_exceptions=False), AsyncIterator[Run])
    assert_type(client.as_completed(started, return_exceptions=True), AsyncIterator[Run | DeepnoteError])
    async for run in client.as_completed(started, timeout=60):
        assert_type(run, Run)


async def a_bare_text_is_no_list_of_runs(client: DeepnoteClient) -> None:
    client.as_completed("id")  # type: ignore[arg-type]
    await client.await_run("id", return_exceptions=True)  # type: ignore[arg-type]


async def a_batch(client: DeepnoteClient) -> None:
    assert_type(grid("id", region=["EU", "US"]), Iterator[RunRequest])
    assert_type(client.run_many(["id", RunRequest("id")]), RunBatch)
    async with client.run_many(grid("id", year=range(3)), max_in_flight=5, timeout=60) as batch:
        assert_type(batch, RunBatch)
        async for result in batch:
            assert_type(result, RunResult)
            assert_type(result.run, Run | None)
            assert_type(result.error, DeepnoteError | None)
            assert_type(result.unwrap(), Run)
        assert_type(await batch.collect(), list[RunResult])
        assert_type(batch.unfinished, list[RunResult])


async def calls(client: DeepnoteClient) -> None:
    assert_type(await client.me(), Me)
    assert_type(await client.run("id", inputs={"year": 2024}, timeout=60), Run)
    assert_type(await client.runs.create(RunRequest("id")), RunStarted)
    assert_type(await client.runs.get("id"), Run)
    assert_type(await client.runs.download_snapshot("id"), str | None)
    assert_type(client.projects.list(), AsyncPaginator[Project])
    assert_type(await client.projects.list().collect(), list[Project])
    assert_type(await client.notebooks.get("id"), Notebook)
    assert_type(client.notebooks.list_runs("id"), AsyncPaginator[Run])
    assert_type(await client.request("GET", "/v2/machine-types"), Any)
    assert_type(client.with_options(timeout=5), DeepnoteClient)
    async with client as entered:
        assert_type(entered, DeepnoteClient)


def results(run: Run, notebook: Notebook) -> None:
    assert_type(run.outputs, tuple[Output, ...])
    assert_type(run.text(), str)
    assert_type(run.images("image/jpeg"), list[bytes])
    assert_type(run.first_dataframe(), DataFrameOutput | None)
    assert_type(run.failure, RunFailure | None)
    assert_type(run.with_snapshot("text"), Run)
    for output in run.outputs:
        assert_type(output.image(), bytes | None)
        assert_type(output.dataframe, DataFrameOutput | None)
    assert_type(RunRequest("id").checked(notebook), RunRequest)
