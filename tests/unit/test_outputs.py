"""What a run tells of its blocks: outputs from blocks and from the document, text, images, failures, and bad input."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import sys
from typing import Any

import attrs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deepnote_async import ConfigurationError, DecodeError, Output, Run, RunFailedError, RunFailure
from deepnote_async.testing import outputs as made

PNG = b"\x89PNG\r\n\x1a\nnot much of a picture"
BOOK = "f05a7c0d-6bd5-4a24-8b2a-4c9d6f2f7f5b"


def blocks(*outputs: Any, **block: Any) -> list[Any]:
    return [{"id": "b1", "type": "code", "outputs": [*outputs], "metadata": {}} | block]


def run_of(*outputs: Any, **fields: Any) -> Run:
    return Run(run_id="r", **({"status": "success", "snapshot_blocks": blocks(*outputs)} | fields))


def document(notebooks: Any) -> str:
    return yaml.safe_dump({"version": "1.0.0", "project": {"id": "p", "notebooks": notebooks}}, sort_keys=False)


def run_of_document(content: str, **fields: Any) -> Run:
    return Run(run_id="r", status="success", notebook_id=BOOK, snapshot_content=content, **fields)


def test_outputs_come_in_block_order_and_typed() -> None:
    first = blocks(made.printed("one\n"), made.image(PNG), id="b1")
    second = blocks(made.result("42", execution_count=7), id="b2", type="sql")
    outputs = Run(run_id="r", snapshot_blocks=first + blocks(id="empty") + second).outputs
    assert [(o.block_id, o.block_type, o.output_type) for o in outputs] == [
        ("b1", "code", "stream"),
        ("b1", "code", "display_data"),
        ("b2", "sql", "execute_result"),
    ]
    assert outputs[2].data == {"text/plain": "42"}
    assert outputs[2].metadata == {"execution_count": 7}
    assert {type(output) for output in outputs} == {Output}


def test_outputs_are_read_once_and_survive_copies() -> None:
    run = run_of(made.printed("x"))
    assert run.outputs is run.outputs
    assert pickle.loads(pickle.dumps(run)).outputs == copy.deepcopy(run).outputs == run.outputs
    assert pickle.loads(pickle.dumps(run.outputs[0])) == run.outputs[0]


def test_a_run_without_a_snapshot_has_none() -> None:
    for run in (Run(run_id="r"), Run(run_id="r", snapshot_content="", snapshot_download_url="https://x")):
        assert (run.outputs, run.text(), run.images(), run.first_dataframe()) == ((), "", [], None)


def test_the_text_of_a_run_keeps_lines_apart_and_streams_together() -> None:
    run = run_of(
        made.printed("a"),
        made.printed("b", stream="stderr"),
        made.result("42"),
        made.error("ValueError: no"),
        {"output_type": "display_data", "data": {"text/plain": ["two\n", "lines"], "text/html": "<b>"}},
        made.printed("end\n"),
    )
    assert run.text() == "ab\n42\ntwo\nlines\nend"
    assert run.text("text/html") == "<b>"


def test_json_is_text_too() -> None:
    (output,) = run_of({"output_type": "display_data", "data": {"application/json": [{"a": "é"}, 2]}}).outputs
    assert json.loads(output.text("application/json")) == [{"a": "é"}, 2]
    assert "é" in output.text("application/json")
    assert output.text() == ""


@pytest.mark.parametrize(
    "written",
    [
        base64.b64encode(PNG).decode(),
        base64.encodebytes(PNG * 9).decode(),
        [base64.b64encode(PNG).decode()[:8], base64.b64encode(PNG).decode()[8:]],
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
    ],
)
def test_images_are_bytes(written: Any) -> None:
    run = run_of({"output_type": "display_data", "data": {"image/png": written}}, made.printed("x"))
    assert run.outputs[0].image() in {PNG, PNG * 9}
    assert run.images() == [run.outputs[0].image()]
    assert run.outputs[1].image() is None
    assert run.images("image/jpeg") == []


def test_pictures_as_text_and_what_is_no_picture() -> None:
    run = run_of({"output_type": "display_data", "data": {"image/svg+xml": ["<svg>", "é</svg>"], "image/png": "?"}})
    assert run.outputs[0].image("image/svg+xml") == "<svg>é</svg>".encode()
    assert run.outputs[0].image() is None


def test_a_repr_names_what_there_is_and_not_what_it_says() -> None:
    text = repr(run_of(made.result("secret", data={"image/png": "x" * 1000})).outputs)
    assert "image/png" in text
    assert "secret" not in text


def test_outputs_are_values_that_do_not_change() -> None:
    one, two = run_of(made.printed("x"), made.printed("x")).outputs
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.block_id = "other"  # type: ignore[misc]


class TestFailure:
    def test_it_is_that_of_the_outputs_without_colours(self) -> None:
        failure = run_of(made.printed("x"), made.error("KeyError: 'region'"), status="error").failure
        assert failure is not None
        assert (failure.name, failure.message, failure.block_id) == ("KeyError", "'region'", "b1")
        assert str(failure) == "KeyError: 'region'"
        assert failure.traceback.endswith("KeyError: 'region'")
        assert "\x1b" not in failure.traceback
        assert "line 1\n----> 1 step()" in failure.traceback

    def test_the_last_error_is_what_ended_it(self) -> None:
        failure = run_of(made.error("ValueError: first"), made.error("TypeError: last"), status="error").failure
        assert str(failure) == "TypeError: last"

    def test_without_outputs_the_run_itself_tells(self) -> None:
        assert Run(run_id="r", status="error", error="NameError: x").failure == RunFailure(
            name="NameError", message="x"
        )
        lost = Run(run_id="r", status="internal_error", error="Machine lost: no heartbeat").failure
        assert lost == RunFailure(message="Machine lost: no heartbeat")
        assert str(lost) == "Machine lost: no heartbeat"

    @pytest.mark.parametrize("status", ["success", "running", "brand_new"])
    def test_other_runs_have_none(self, status: str) -> None:
        assert run_of(made.error(), status=status, error="x").failure is None

    def test_where_nothing_tells_there_is_none(self) -> None:
        for output in (made.printed("x"), {"output_type": "error"}, {"output_type": "error", "traceback": [" ", None]}):
            assert run_of(output, status="stopped").failure is None

    def test_a_traceback_alone_tells_by_its_last_line(self) -> None:
        told = {"output_type": "error", "traceback": "Traceback:\n  step()\nOSError: x\n"}
        assert str(run_of(told, status="error").failure) == "OSError: x"

    def test_an_unreadable_document_does_not_hide_what_the_run_says(self) -> None:
        run = run_of_document("[", error="ValueError: x")
        assert str(attrs.evolve(run, status="error").failure) == "ValueError: x"
        with pytest.raises(DecodeError):
            _ = attrs.evolve(run, status="error", error=None).failure

    def test_the_error_of_a_failed_run_says_why_if_blocks_are_there(self) -> None:
        with pytest.raises(RunFailedError, match="ended as error: NameError: x"):
            run_of(made.error("NameError: x"), status="error").raise_for_status()
        # A document is not read for a message, and a bad one breaks no error.
        assert str(RunFailedError(Run(run_id="r", status="error", snapshot_content="["))) == "run r ended as error"
        assert "ended as error" in str(RunFailedError(Run(run_id="r", status="error", snapshot_blocks={"a": 1})))


class TestDocument:
    def test_it_gives_the_same_as_blocks(self) -> None:
        outputs = [made.printed("a: no\n"), made.image(PNG), made.table([{"a": 1, "b": "x"}]), made.error("E: x")]
        content = document([{"id": BOOK, "name": "n", "blocks": blocks(*outputs, content="x = 1")}])
        assert run_of_document(content).outputs == run_of(*outputs).outputs

    def test_scalars_are_those_of_yaml_1_2(self) -> None:
        content = f"""
project:
  notebooks:
    - id: {BOOK}
      blocks:
        - id: 0123
          type: code
          outputs:
            - output_type: execute_result
              data:
                application/json: {{a: no, b: 12:30, c: 2026-08-17, d: 1_000, e: on, f: True, g: ~, h: -1.5e3,
                  i: '7', j: 0x1f, k: .inf, 5: five, null: n, l: !!int '3', m: !!python/name:os.system x, n: =}}
"""
        (output,) = run_of_document(content).outputs
        assert output.data["application/json"] == {
            "a": "no",
            "b": "12:30",
            "c": "2026-08-17",
            "d": "1_000",
            "e": "on",
            "f": True,
            "g": None,
            "h": -1500.0,
            "i": "7",
            "j": 31,
            "k": float("inf"),
            "5": "five",
            "null": "n",
            "l": "3",
            "m": "x",
            "n": "=",
        }

    def test_a_number_of_too_many_digits_is_text(self) -> None:
        content = f"project: {{notebooks: [{{blocks: [{{id: b, outputs: [{{data: {{n: {'1' * 5000}}}}}]}}]}}]}}"
        assert run_of_document(content).outputs[0].data == {"n": "1" * 5000}

    def test_of_a_project_only_the_run_s_notebook_counts(self) -> None:
        pages = [{"id": key, "blocks": blocks(made.printed(key), id=key)} for key in ("other", BOOK.replace("-", ""))]
        assert run_of_document(document(pages)).text() == BOOK.replace("-", "")
        assert attrs.evolve(run_of_document(document(pages)), notebook_id=None).text().startswith("other\n")
        assert attrs.evolve(run_of_document(document(pages)), notebook_id="third").text().startswith("other\n")

    def test_aliases_stand_for_what_they_name(self) -> None:
        content = document("X").replace("X", "[{id: n, blocks: [{id: b, outputs: [&o {data: {a: 1}}, *o]}]}]")
        assert [output.data for output in run_of_document(content).outputs] == [{"a": 1}, {"a": 1}]

    def test_it_is_not_read_until_asked_for(self) -> None:
        run = run_of_document("[")
        assert run.succeeded
        assert run == run_of_document("[")
        with pytest.raises(DecodeError):
            _ = run.outputs

    def test_a_downloaded_one_can_be_given(self) -> None:
        run = Run(run_id="r", notebook_id=BOOK, snapshot_blocks=blocks(made.printed("old")))
        content = document([{"id": BOOK, "blocks": blocks(made.printed("new"))}])
        assert run.with_snapshot(content).text() == "new"
        assert run.with_snapshot(None) is run

    def test_without_the_extra_the_error_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'deepnote-async\[yaml\]'"):
            _ = run_of_document("project: {}").outputs
        assert run_of(made.printed("x")).text() == "x"

    @pytest.mark.parametrize(
        "content",
        [
            *("[", "a: b: c", "text", "[1]", "project: 1", "project: {}", "project: {notebooks: 3}", " ", "\x00"),
            *("\ud800", "a: *b", "a: &a [*a]", "? [a]\n: b", "? {a: b}\n: c", "a: &a [1]\n*a : x", '"\\q"', "\x1b"),
            *("{" * 100_000, "[" * 100_000, "- " * 50_000, "a:" * 9 + "\t", "%YAML 9.9\n---\na", "--- !<x> {"),
        ],
    )
    def test_what_is_no_document_is_a_decode_error(self, content: str) -> None:
        with pytest.raises(DecodeError, match="cannot be read"):
            _ = run_of_document(content).outputs

    @pytest.mark.parametrize("content", ['"\\UFFFFFFFF"', f"%YAML {'9' * 5000}.1\n---\na", "\ud800", "[" * 400])
    def test_without_libyaml_it_is_no_other(self, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
        with pytest.raises(DecodeError, match="cannot be read"):
            _ = run_of_document(content).outputs
        assert run_of_document(document([{"blocks": blocks(made.printed("x"))}])).text() == "x"

    def test_empty_blocks_do_not_hide_it(self) -> None:
        content = document([{"id": BOOK, "blocks": blocks(made.printed("x"))}])
        assert run_of_document(content, snapshot_blocks=[]).text() == "x"

    @pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
    def test_a_bomb_does_not_go_off(self, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if loader == "SafeLoader":
            monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
        lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
        with pytest.raises(DecodeError, match="expand past reason"):
            _ = run_of_document("\n".join(lines)).outputs
        assert run_of_document("project: {notebooks: []}\n" + "\n".join(lines[:4])).outputs == ()

    def test_half_an_answer_gives_half_the_outputs(self) -> None:
        content = document([1, {"id": BOOK, "blocks": [None, {"id": "b", "outputs": [3, made.printed("x")]}]}, {}])
        assert run_of_document(content).text() == "x"


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ({}, Output(block_id="b1", block_type="code")),
        (
            {"output_type": 3, "data": "x", "metadata": [1]},
            Output(block_id="b1", block_type="code", data={"data": "x"}, metadata={"metadata": [1]}),
        ),
        (
            {"output_type": "new", "more": {"a": 1}},
            Output(block_id="b1", block_type="code", output_type="new", data={"more": {"a": 1}}),
        ),
        (
            {"output_type": "display_data", "data": {}, "transient": 1, "metadata": {"m": 2}},
            Output(block_id="b1", block_type="code", output_type="display_data", metadata={"transient": 1, "m": 2}),
        ),
    ],
)
def test_what_is_unknown_is_kept(raw: dict[str, Any], seen: Output) -> None:
    assert run_of(raw).outputs == (seen,)


names = st.text(max_size=4) | st.sampled_from(
    [
        "id",
        "type",
        "outputs",
        "data",
        "text",
        "metadata",
        "output_type",
        "ename",
        "traceback",
        "columns",
        "rows",
        "name",
        "row_count",
        "image/png",
        "text/plain",
        "application/vnd.deepnote.dataframe.v3+json",
        "error",
    ]
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["error", "stream"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)


def use_everything(run: Run) -> None:
    """All that a caller may ask, of a snapshot of any shape."""
    try:
        outputs = run.outputs
    except DecodeError:
        return
    run.text(), run.images(), run.first_dataframe()
    failure = attrs.evolve(run, status="error").failure
    assert failure is None or str(failure)
    for output in outputs:
        assert isinstance(output.text(), str)
        assert isinstance(output.text("application/json"), str)
        frame = output.dataframe
        if frame is not None:
            assert len(frame.records()) == len(frame.rows)
            assert frame.row_count >= 0
            assert len(frame.column_names) <= len(frame.columns)
    repr(outputs)


@given(anything)
def test_any_json_as_blocks_gives_outputs_or_a_decode_error(value: Any) -> None:
    use_everything(Run(run_id="r", snapshot_blocks=value))
    use_everything(Run(run_id="r", snapshot_blocks=blocks(value, {"output_type": "error", "traceback": value})))


@given(st.text(max_size=40) | st.text("{}[]&*a!:-, \n'\"|>?%", max_size=40))
def test_any_text_as_document_gives_outputs_or_a_decode_error(text: str) -> None:
    use_everything(Run(run_id="r", snapshot_content=text))


def test_a_failure_has_a_message_of_bearable_length_and_reads_no_document_for_it() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "x" * 10_000, "traceback": []}
    run = Run(run_id="r", status="error", snapshot_blocks=[{"id": "b", "outputs": [error]}])
    assert len(str(RunFailedError(run))) < 600
    assert run.failure is not None
    assert len(run.failure.message) == 10_000
    unread = Run(run_id="r", status="error", snapshot_blocks=[], snapshot_content="{: nope")
    assert str(RunFailedError(unread)) == "run r ended as error"
