"""What the service tells, as frozen classes.

Names are the wire's in snake_case. Everything but the id has a default, for the service leaves fields out. What the
client does not know is kept in ``extra``, and open enums keep values they have never seen.
Source: https://deepnote.com/docs/deepnote-api
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Final, Self

import attrs

from .errors import DeepnoteError, RunFailedError
from .outputs import DataFrameOutput, Output, RunFailure, failure_of, joined_text, read_outputs

__all__ = [
    "AccessLevel",
    "ClientStats",
    "Me",
    "Notebook",
    "NotebookInput",
    "Project",
    "ProjectType",
    "Run",
    "RunStarted",
    "RunStatus",
]


class _Nothing(Mapping[str, Any]):
    """An empty mapping that stays so; unlike a mapping proxy it pickles and copies, as itself."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"

    def __reduce__(self) -> str:
        return "NOTHING_EXTRA"


NOTHING_EXTRA: Final[Mapping[str, Any]] = _Nothing()


class OpenEnum(str):
    """Text with named constants; a value the client has never seen is kept as it is, never an error."""

    __slots__ = ()


class RunStatus(OpenEnum):
    """Where a run stands; an unknown status counts as still going."""

    __slots__ = ()

    PENDING: ClassVar[RunStatus]
    RUNNING: ClassVar[RunStatus]
    SUCCESS: ClassVar[RunStatus]
    ERROR: ClassVar[RunStatus]
    INTERNAL_ERROR: ClassVar[RunStatus]
    STOPPED: ClassVar[RunStatus]

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen to the run."""
        return self in TERMINAL


for _name in ("pending", "running", "success", "error", "internal_error", "stopped"):
    setattr(RunStatus, _name.upper(), RunStatus(_name))
TERMINAL: Final[frozenset[str]] = frozenset({"success", "error", "internal_error", "stopped"})


class ProjectType(OpenEnum):
    """What kind of project it is."""

    __slots__ = ()

    STANDARD: ClassVar[ProjectType]
    NOTEBOOK: ClassVar[ProjectType]
    AGENT: ClassVar[ProjectType]


for _name in ("standard", "notebook", "agent"):
    setattr(ProjectType, _name.upper(), ProjectType(_name))


class AccessLevel(OpenEnum):
    """What the key's creator may do in the workspace."""

    __slots__ = ()

    GUEST: ClassVar[AccessLevel]
    RESTRICTED_USER: ClassVar[AccessLevel]
    VIEWER: ClassVar[AccessLevel]
    EDITOR: ClassVar[AccessLevel]
    ADMIN: ClassVar[AccessLevel]


for _name in ("guest", "restricted_user", "viewer", "editor", "admin"):
    setattr(AccessLevel, _name.upper(), AccessLevel(_name))


def _run_status(value: str) -> RunStatus:
    return value if type(value) is RunStatus else RunStatus(value)


def _project_type(value: str | None) -> ProjectType | None:
    return value if value is None or type(value) is ProjectType else ProjectType(value)


def _access_level(value: str | None) -> AccessLevel | None:
    return value if value is None or type(value) is AccessLevel else AccessLevel(value)


@attrs.frozen(kw_only=True)
class Run:
    """A notebook run as it was last seen.

    Times are aware UTC datetimes, ``finished_at`` None while it goes on. ``error`` is often None even for a failed
    run: the account of the failure is then in its snapshot. ``snapshot_download_url`` is a short-lived secret: it is
    in no repr and does not survive pickling.
    """

    run_id: str
    notebook_id: str | None = None
    status: RunStatus = attrs.field(default=RunStatus.PENDING, converter=_run_status)
    created_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    snapshot_status: str | None = None
    snapshot_content: str | None = attrs.field(default=None, repr=False)
    snapshot_download_url: str | None = attrs.field(default=None, repr=False)
    snapshot_blocks: list[Mapping[str, Any]] | None = attrs.field(default=None, repr=False, hash=False)
    extra: Mapping[str, Any] = attrs.field(default=NOTHING_EXTRA, repr=False, hash=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended; an unknown status has not."""
        return self.status in TERMINAL

    @property
    def succeeded(self) -> bool:
        """Whether the run ended in success."""
        return self.status == "success"

    @property
    def duration(self) -> timedelta | None:
        """From its creation to its end, None while either is unknown."""
        if self.created_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.created_at

    def raise_for_status(self) -> Self:
        """Return the run itself, or raise :class:`RunFailedError` if it ended otherwise than in success."""
        if self.is_terminal and not self.succeeded:
            raise RunFailedError(self)
        return self

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """What its blocks put out, in block order, read from its snapshot once and when first asked for.

        Empty where the run carries no snapshot: ask for one with ``snapshot="blocks"`` or ``"inline"``, which needs
        the extra ``yaml``, or give the downloaded one to :meth:`with_snapshot`. A document takes about half a second
        for each MB, so read a large one in a thread; blocks take none. Raises :class:`DecodeError` for what cannot be
        read and :class:`ConfigurationError` without the extra.
        """
        if self.snapshot_blocks or not self.snapshot_content:
            return read_outputs(self.snapshot_blocks or [])
        from .documents import blocks_of

        return read_outputs(blocks_of(self.snapshot_content, self.notebook_id))

    @property
    def failure(self) -> RunFailure | None:
        """Why the run failed, from its outputs, else from ``error``; None for other runs and where nothing tells.

        Raises as :attr:`outputs` does, unless ``error`` tells at least something.
        """
        if not self.is_terminal or self.succeeded:
            return None
        try:
            return failure_of(self.outputs, self.error)
        except DeepnoteError:
            if not self.error:
                raise
            return failure_of((), self.error)

    def text(self, mime: str = "text/plain") -> str:
        """The text of all :attr:`outputs` in one; what is printed counts as plain text, errors do not."""
        return joined_text(self.outputs, mime)

    def images(self, mime: str = "image/png") -> list[bytes]:
        """The images of that type among the :attr:`outputs`."""
        return [image for output in self.outputs if (image := output.image(mime)) is not None]

    def first_dataframe(self) -> DataFrameOutput | None:
        """The first table among the :attr:`outputs`, None if there is none."""
        return next((frame for output in self.outputs if (frame := output.dataframe) is not None), None)

    def with_snapshot(self, content: str | None) -> Self:
        """The run with a downloaded snapshot document in place of what it carries; itself for None."""
        return self if content is None else attrs.evolve(self, snapshot_content=content, snapshot_blocks=None)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return state | {"snapshot_download_url": None, "extra": dict(self.extra)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)


@attrs.frozen(kw_only=True)
class RunStarted:
    """The service's receipt for a start; ``notebook_id`` is the one asked for, which the service does not repeat."""

    run_id: str
    status: RunStatus = attrs.field(default=RunStatus.PENDING, converter=_run_status)
    created_at: datetime | None = None
    notebook_id: str | None = None
    extra: Mapping[str, Any] = attrs.field(default=NOTHING_EXTRA, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class NotebookInput:
    """One input block of a notebook; ``name`` is what a start's ``inputs`` are keyed by."""

    name: str
    type: str | None = None
    value: Any = attrs.field(default=None, hash=False)
    label: str | None = None
    options: list[Any] | None = attrs.field(default=None, hash=False)
    multiple: bool | None = None
    min: Any = None
    max: Any = None
    step: Any = None
    extra: Mapping[str, Any] = attrs.field(default=NOTHING_EXTRA, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class Notebook:
    """A notebook; ``blocks`` and ``inputs`` are empty where the service leaves them out, as in lists."""

    id: str
    name: str | None = None
    project_id: str | None = None
    blocks: list[Mapping[str, Any]] = attrs.field(factory=list, repr=False, hash=False)
    inputs: list[NotebookInput] = attrs.field(factory=list, hash=False)
    extra: Mapping[str, Any] = attrs.field(default=NOTHING_EXTRA, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class Project:
    """A project; the live service tells its place as ``folder``, the reference definition as ``folder_id``."""

    id: str
    name: str | None = None
    project_type: ProjectType | None = attrs.field(default=None, converter=_project_type)
    folder_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    folder: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    notebooks: list[Notebook] = attrs.field(factory=list, hash=False)
    extra: Mapping[str, Any] = attrs.field(default=NOTHING_EXTRA, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class Me:
    """Who the API key belongs to; the fields within the mappings are the service's own."""

    api_key: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    user: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    workspace: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    access_level: AccessLevel | None = attrs.field(default=None, converter=_access_level)
    extra: Mapping[str, Any] = attrs.field(default=NOTHING_EXTRA, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class ClientStats:
    """What a client holds at this moment, and what it has done so far.

    ``connections`` (in use), ``slots``, ``waiters``, ``watched_runs`` and ``tasks`` are all 0 at rest; ``requests``
    and ``throttled`` (answers of status 429) only grow.
    """

    connections: int
    slots: int
    waiters: int
    watched_runs: int
    tasks: int
    requests: int
    throttled: int
