"""Results over the wire: outputs of awaited runs, in every delivery, from the fake service."""

from __future__ import annotations

import asyncio

import pytest

from deepnote_async import DeepnoteClient, Run, RunFailure
from deepnote_async.testing import Access, FakeDeepnote, VirtualDeepnote, outputs

ROWS = [{"region": "EU", "sales": 12.5, "seen": None}, {"region": "US", "sales": None, "seen": True}]
LEFT = ["starting\n", outputs.table(ROWS), outputs.image(b"a plot"), outputs.result("42")]


def looks_right(run: Run) -> None:
    assert [output.output_type for output in run.outputs] == [
        *("stream", "execute_result", "display_data", "execute_result")
    ]
    assert run.text().startswith("starting\n")
    assert run.text().endswith("\n42")
    assert run.images() == [b"a plot"]
    table = run.first_dataframe()
    assert table is not None
    assert table.records() == [
        {"region": "EU", "sales": 12.5, "seen": "None"},
        {"region": "US", "sales": "nan", "seen": "True"},
    ]
    assert run.failure is None


@pytest.mark.slow
async def test_outputs_of_a_run_by_every_way_there_is() -> None:
    async with FakeDeepnote(time_scale=60) as fake:
        notebook = fake.notebook("report").succeeds(after=1, outputs=LEFT)
        async with DeepnoteClient(fake.token, base_url=fake.url) as client:
            by_blocks, inline, by_link = await asyncio.gather(
                client.run(notebook.id, snapshot="blocks"),
                client.run(notebook.id, snapshot="inline"),
                client.run(notebook.id, snapshot="downloadUrl"),
            )
            assert by_link.outputs == ()
            by_link = by_link.with_snapshot(await client.runs.download_snapshot(by_link))
    for run in (by_blocks, inline, by_link):
        looks_right(run)
    assert by_blocks.outputs == inline.outputs == by_link.outputs


def test_a_failure_is_told_whether_the_run_itself_tells_or_not() -> None:
    with VirtualDeepnote() as fake:
        told = fake.notebook("told").fails("NameError: x", after=1)
        silent = fake.notebook("silent").fails(outputs=["so far\n", outputs.error(KeyError("EU"))], after=1)

        async def main(client: DeepnoteClient) -> None:
            for snapshot in ("blocks", "inline", None):
                run = await client.run(told.id, snapshot=snapshot)
                assert (run.error, str(run.failure)) == ("NameError: x", "NameError: x")
            run = await client.run(silent.id, snapshot="blocks")
            assert run.error is None
            assert isinstance(run.failure, RunFailure)
            assert (run.failure.name, run.failure.message) == ("KeyError", "'EU'")
            assert "Traceback (most recent call last)" in run.failure.traceback
            assert run.text() == "so far"
            assert (await client.run(silent.id)).failure is None

        fake.run(main)


def test_an_app_s_viewer_gets_outputs_whatever_was_asked_for() -> None:
    with VirtualDeepnote() as fake:
        fake.service.add_token("viewer", Access(app_viewer=True))
        notebook = fake.notebook("report").succeeds(after=1, outputs=LEFT)

        async def main(client: DeepnoteClient) -> None:
            looks_right(await client.with_options(token="viewer").run(notebook.id, snapshot="inline"))

        fake.run(main)


def test_tables_are_written_as_the_service_writes_them() -> None:
    rows = [{"n": 2**60, "gap": 1, "long": "x" * 2000}, {"n": 1, "gap": None, "long": ""}]
    output = outputs.table(rows, dtypes={"gap": "Int64"}, page_size=5)
    shown = output["data"]["application/vnd.deepnote.dataframe.v3+json"]
    assert [row["n"] for row in shown["rows"]] == [str(2**60), "1"]
    assert [row["gap"] for row in shown["rows"]] == ["1.0", "<NA>"]
    assert len(shown["rows"][0]["long"]) == 1000
    assert (shown["column_count"], len(shown["columns"])) == (3, 4)
    assert [column.get("stats", {}).get("nan_count") for column in shown["columns"]] == [0, 1, 0, None]
