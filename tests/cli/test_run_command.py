"""``run``: inputs, outputs and exit statuses."""

from __future__ import annotations

import pytest

from deepnote_async.testing import Input, outputs

pytestmark = pytest.mark.slow


async def test_it_prints_what_the_notebook_put_out(here, fake):
    notebook = fake.notebook("report").succeeds(after=5)
    done = await here("run", notebook.id, "-i", "region=EU", "-i", "flag:=true", "--table")
    assert done.status == 0, done.err
    assert done.out == 'inputs: {"flag": true, "region": "EU"}\n'
    (record,) = (await here("run", notebook.id, "-i", "region=EU")).json()
    assert (record["status"], record["text"]) == ("success", 'inputs: {"region": "EU"}')
    assert record["failure"] is None


async def test_tables_are_drawn_and_images_are_saved(here, fake, tmp_path):
    frame = outputs.table([{"city": f"city {number}", "n": number} for number in range(12)])
    notebook = fake.notebook("report").succeeds(after=1, outputs=["first\n", frame, outputs.image()])
    done = await here("run", notebook.id, "--table", "--save", tmp_path / "images")
    assert done.status == 0, done.err
    assert done.out.startswith("first\n")
    assert "city 9" in done.out
    assert "(10 of 12 rows)" in done.out
    (image,) = (tmp_path / "images").iterdir()
    assert image.read_bytes() == outputs.PIXEL
    assert f"[image/png, 0.1 kB, in {image}]" in done.out
    (record,) = (await here("runs", "outputs", next(iter(fake.service.runs)))).json()
    assert record["outputs"][1]["dataframe"]["rows"][3] == {"city": "city 3", "n": 3}
    assert record["outputs"][2]["images"] == [{"mime": "image/png", "bytes": len(outputs.PIXEL)}]


async def test_what_is_neither_text_nor_table_nor_image_is_named(here, fake):
    bundle = {"text/html": "<b>bold</b>" * 200, "application/json": {"a": 1}}
    odd = {"output_type": "display_data", "data": bundle, "metadata": {}}
    webp = outputs.image(mime="image/webp")
    notebook = fake.notebook("report").succeeds(after=1, outputs=[odd, webp, outputs.table([])])
    done = await here("run", notebook.id, "--table")
    assert done.out.splitlines() == [
        "[text/html, 2.2 kB; --json tells]",
        "[application/json, 0.0 kB; --json tells]",
        "[image/webp, 0.1 kB; --save DIR keeps it]",
        "(no rows; columns: none)",
    ]
    (record,) = (await here("runs", "outputs", next(iter(fake.service.runs)))).json()
    first, second, third = record["outputs"]
    assert (first["mimes"], first["data"]) == (["text/html", "application/json"], bundle)
    assert second["mimes"] == ["text/plain", "image/webp"]
    assert "data" not in second
    assert third["dataframe"]["columns"] == [{"name": "_deepnote_index_column", "dtype": "int64"}]


async def test_without_outputs_a_person_is_told_how_it_ended(here, fake):
    notebook = fake.notebook("report").succeeds(after=12.5, outputs=[])
    done = await here("run", notebook.id, "--table")
    assert (done.status, done.out) == (0, "")
    (run_id,) = fake.service.runs
    assert done.err == f"run {run_id} succeeded in 12.5 s\n"
    assert (await here("run", notebook.id, "--table", "-q")).err == ""


async def test_an_image_that_cannot_be_saved_is_named_and_the_rest_is_printed(here, fake, tmp_path):
    notebook = fake.notebook("report").succeeds(after=1, outputs=["first\n", outputs.image()])
    (run_id,) = [run["run_id"] for run in (await here("run", notebook.id, "--save", tmp_path)).json()]
    (image,) = tmp_path.iterdir()
    image.unlink()
    image.mkdir()
    done = await here("runs", "outputs", run_id, "--save", tmp_path, "--table")
    assert done.status == 5
    assert done.out == "first\n[image/png, 0.1 kB; --save DIR keeps it]\n"
    assert f"{image} was not written: Is a directory" in done.err


async def test_a_failed_run_shows_its_traceback(here, fake):
    notebook = fake.notebook("report").fails("KeyError: 'region'", after=5)
    done = await here("run", notebook.id, "--table")
    assert done.status == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-1].endswith("ended as error: KeyError: 'region'")


async def test_a_run_that_takes_too_long_is_left(here, fake):
    notebook = fake.notebook("report").stalls()
    done = await here("run", notebook.id, "--timeout", "1")
    assert (done.status, done.out) == (4, "")
    run_id = next(iter(fake.service.runs))
    assert f"deepnote-async runs wait {run_id}" in done.err
    assert (await here("runs", "wait", run_id, "--timeout", "0.5")).status == 4


async def test_waiting_for_several_tells_of_failures(here, fake):
    notebook = fake.notebook("report").fails("X: y", after=5, times=1).succeeds(after=5)
    ids = [(await here("runs", "start", notebook.id)).json()[0]["run_id"] for _ in range(2)]
    done = await here("runs", "wait", *ids)
    assert done.status == 1
    assert {run["run_id"]: run["status"] for run in done.json()} == {ids[0]: "error", ids[1]: "success"}


@pytest.fixture
def declared(fake):
    notebook = fake.notebook("report").succeeds(after=1)
    notebook.inputs = [
        Input("region", "input-select", "EU", options=["EU", "US"]),
        Input("flag", "input-checkbox", value=False),
    ]
    return notebook


@pytest.mark.parametrize(
    ("given", "words"),
    [("regoin=EU", "did you mean 'region'?"), ("region=XX", "no option 'XX'"), ("flag=perhaps", "checkbox")],
)
async def test_an_input_the_notebook_does_not_take_starts_nothing(here, fake, declared, given, words):
    done = await here("run", declared.id, "-i", given)
    assert done.status == 2
    assert words in done.err
    assert "--no-check" in done.err
    assert not fake.service.runs


async def test_text_becomes_what_the_notebook_takes(here, declared):
    (record,) = (await here("run", declared.id, "-i", "flag=true", "-i", "region=US")).json()
    assert record["text"] == 'inputs: {"flag": true, "region": "US"}'


async def test_without_the_check_the_service_judges(here, fake, declared):
    done = await here("run", declared.id, "-i", "regoin=EU", "--no-check")
    assert done.status == 3
    assert "400" in done.err
    assert not [call for call in fake.calls if "/notebooks/" in call.path]
