"""The models: open enums, frozen and slotted, and no secret in a repr or a pickle."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from deepnote_async import (
    AccessLevel,
    ClientStats,
    Me,
    Notebook,
    NotebookInput,
    Project,
    ProjectType,
    Run,
    RunFailedError,
    RunStarted,
    RunStatus,
)

LINK = "https://storage.example/snapshot?signature=hush"
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ONLY_ID: dict[type, dict[str, Any]] = {
    Run: {"run_id": "r"},
    RunStarted: {"run_id": "r"},
    NotebookInput: {"name": "n"},
    Notebook: {"id": "n"},
    Project: {"id": "p"},
    Me: {},
}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (RunStatus, "pending running success error internal_error stopped"),
        (ProjectType, "standard notebook agent"),
        (AccessLevel, "guest restricted_user viewer editor admin"),
    ],
)
def test_enums_are_open_text(kind: type[str], names: str) -> None:
    for name in names.split():
        constant = getattr(kind, name.upper())
        assert constant == name
        assert type(constant) is kind
        assert kind(name) == constant
    assert kind("brand_new") == "brand_new"
    assert type(pickle.loads(pickle.dumps(kind("brand_new")))) is kind
    assert issubclass(kind, str)


def test_only_four_statuses_are_final() -> None:
    final = {"success", "error", "internal_error", "stopped"}
    for status in [*final, "pending", "running", "brand_new", "SUCCESS", ""]:
        assert RunStatus(status).is_terminal == (status in final)
        assert Run(run_id="r", status=RunStatus(status)).is_terminal == (status in final)


def test_succeeded_is_success_alone() -> None:
    assert [s for s in ("success", "error", "stopped", "new") if Run(run_id="r", status=s).succeeded] == ["success"]


def test_plain_text_becomes_an_open_enum() -> None:
    assert type(Run(run_id="r", status="odd").status) is RunStatus
    assert type(RunStarted(run_id="r", status="odd").status) is RunStatus
    assert type(Project(id="p", project_type="odd").project_type) is ProjectType
    assert type(Me(access_level="odd").access_level) is AccessLevel
    assert Project(id="p").project_type is None
    assert Me().access_level is None


@pytest.mark.parametrize("kind", ONLY_ID)
def test_models_need_their_id_only_and_by_keyword(kind: type) -> None:
    model = kind(**ONLY_ID[kind])
    if ONLY_ID[kind]:
        with pytest.raises(TypeError):
            kind("positional")
        with pytest.raises(TypeError):
            kind()
    assert dict(model.extra) == {}
    assert hash(model) == hash(kind(**ONLY_ID[kind]))
    assert model == kind(**ONLY_ID[kind])


@pytest.mark.parametrize("kind", ONLY_ID)
def test_models_are_frozen_and_slotted(kind: type) -> None:
    model = kind(**ONLY_ID[kind])
    assert not hasattr(model, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        model.extra = {}
    with pytest.raises((AttributeError, attrs.exceptions.FrozenInstanceError)):
        model.no_such_field = 1
    with pytest.raises(TypeError):
        kind(**ONLY_ID[kind]).extra["a"] = 1


@pytest.mark.parametrize("kind", ONLY_ID)
@pytest.mark.parametrize("extra", [None, {"newField": [1, {"a": 2}]}])
def test_models_pickle_and_copy(kind: type, extra: dict[str, Any] | None) -> None:
    model = kind(**ONLY_ID[kind]) if extra is None else kind(**ONLY_ID[kind], extra=extra)
    for twin in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)):
        assert twin == model
        assert dict(twin.extra) == (extra or {})
        assert type(twin) is kind


def test_lists_are_not_shared_between_models() -> None:
    assert Notebook(id="a").blocks is not Notebook(id="b").blocks
    assert Project(id="a").notebooks is not Project(id="b").notebooks


def test_models_with_lists_within_can_stand_in_sets() -> None:
    book = Notebook(id="n", blocks=[{"id": "b"}], inputs=[NotebookInput(name="i", value=[1], options=["a"])])
    assert (
        len({Project(id="p", notebooks=[book], folder={"id": "f"}), book, Run(run_id="r", snapshot_blocks=[{}])}) == 3
    )


def test_duration_needs_both_ends() -> None:
    assert Run(run_id="r").duration is None
    assert Run(run_id="r", created_at=NOON).duration is None
    assert Run(run_id="r", finished_at=NOON).duration is None
    ended = Run(run_id="r", created_at=NOON, finished_at=NOON + timedelta(seconds=90))
    assert ended.duration == timedelta(seconds=90)


@pytest.mark.parametrize("status", ["success", "pending", "running", "brand_new"])
def test_raise_for_status_gives_the_run_itself(status: str) -> None:
    run = Run(run_id="r", status=RunStatus(status))
    assert run.raise_for_status() is run


@pytest.mark.parametrize("status", ["error", "internal_error", "stopped"])
def test_raise_for_status_raises_for_what_failed(status: str) -> None:
    run = Run(run_id="r", status=RunStatus(status))
    with pytest.raises(RunFailedError) as caught:
        run.raise_for_status()
    assert caught.value.run is run


def test_the_link_is_in_no_repr_and_no_pickle() -> None:
    run = Run(run_id="r", snapshot_download_url=LINK, snapshot_content="secret yaml", status=RunStatus.SUCCESS)
    assert "hush" not in repr(run) + str(run) + f"{run}"
    assert "secret yaml" not in repr(run)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert b"hush" not in pickle.dumps(run, protocol)
    twin = pickle.loads(pickle.dumps(run))
    assert twin.snapshot_download_url is None
    assert twin == attrs.evolve(run, snapshot_download_url=None)
    assert copy.deepcopy(run).snapshot_download_url == LINK


def test_unknown_fields_are_in_no_repr() -> None:
    assert "hush" not in repr(Run(run_id="r", extra={"signedUrl": LINK}))


def test_stats_are_all_numbers() -> None:
    stats = ClientStats(connections=1, slots=2, waiters=3, watched_runs=4, tasks=5, requests=6, throttled=7)
    assert attrs.astuple(stats) == (1, 2, 3, 4, 5, 6, 7)
