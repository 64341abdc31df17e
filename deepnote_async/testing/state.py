"""What exists in the model: projects, notebooks, runs. Plain values; the clock is always an argument."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias

import attrs

__all__ = [
    "Block",
    "Input",
    "Length",
    "Lognormal",
    "NotebookState",
    "Outcome",
    "ProjectState",
    "RunEnd",
    "RunState",
]

RunEnd = Literal["success", "error", "internal_error", "stopped"]


@attrs.frozen
class Lognormal:
    """Run lengths in seconds: half of the runs are shorter than ``median``, ``sigma`` spreads the logarithm."""

    median: float
    sigma: float = 0.8

    def __call__(self, chance: random.Random) -> float:
        """One length, drawn from ``chance``."""
        return self.median * math.exp(self.sigma * chance.gauss(0.0, 1.0))


Length: TypeAlias = float | Callable[[random.Random], float]


@attrs.frozen
class Input:
    """One input block as a notebook declares it; what is None is left out of the answer."""

    name: str
    type: str = "input-text"
    value: str | bool | Sequence[str] | None = ""
    label: str | None = None
    options: Sequence[str] | None = None
    multiple: bool | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None


@attrs.frozen
class Block:
    """One block of a notebook; only code and SQL blocks can be executed and have outputs."""

    id: str
    type: str = "code"
    content: str | None = None

    @property
    def executable(self) -> bool:
        """Whether a run leaves outputs on it."""
        return self.type in {"code", "sql"}


@attrs.define(eq=False)
class Outcome:
    """How scripted runs end: ``times`` runs (None: all further ones), ``after`` seconds from their start."""

    status: RunEnd | None
    after: Length | None = None
    error: str | None = None
    outputs: Sequence[str | Mapping[str, Any]] | None = None
    times: int | None = None


@attrs.define(eq=False)
class RunState:
    """One run. Its status is never stored: it follows from its times and the clock, so waiting runs cost nothing.

    All times are service time. ``ends_at`` is infinite for a run that stalls.
    """

    id: str
    notebook_id: str
    created_at: float
    starts_at: float
    ends_at: float
    final: RunEnd = "success"
    order: tuple[float, int] = (0.0, 0)
    error: str | None = None
    inputs: Mapping[str, Any] = attrs.field(factory=dict)
    block_ids: Sequence[str] | None = None
    outputs: Sequence[str | Mapping[str, Any]] | None = None
    snapshot_at: float = math.inf
    has_snapshot: bool = True
    started_by: str = ""

    @property
    def ended_at(self) -> float | None:
        """When the run ends or ended; None for one that stalls."""
        return None if math.isinf(self.ends_at) else self.ends_at

    def status(self, now: float) -> str:
        """The status a client sees at ``now``."""
        if now >= self.ends_at:
            return self.final
        return "running" if now >= self.starts_at else "pending"

    def is_final(self, now: float) -> bool:
        """Whether nothing more happens to the run after ``now``."""
        return now >= self.ends_at

    def snapshot_status(self, now: float) -> Literal["pending", "available", "unavailable"]:
        """Where its snapshot stands; it comes some time after the end."""
        if now < self.ends_at or (self.has_snapshot and now < self.snapshot_at):
            return "pending"
        return "available" if self.has_snapshot else "unavailable"


@attrs.define(eq=False)
class ProjectState:
    """One project with the ids of its notebooks."""

    id: str
    name: str
    created_at: float
    order: tuple[float, int]
    project_type: str = "standard"
    folder_id: str | None = None
    suspended: bool = False
    notebook_ids: list[str] = attrs.field(factory=list)


@attrs.define(eq=False)
class NotebookState:
    """One notebook, and the handle by which a test scripts its runs.

    ``inputs`` None accepts any input name, to keep fan-out tests simple; a list accepts its names only. Scripts apply
    to runs started afterwards, in the order given: those with ``times`` first, then the last one without.
    """

    id: str
    name: str
    project_id: str
    created_at: float
    inputs: Sequence[Input] | None = None
    blocks: Sequence[Block] = ()
    lengths: Length | None = None
    runs: list[RunState] = attrs.field(factory=list, repr=False)
    _scripts: list[Outcome] = attrs.field(factory=list, repr=False)

    def succeeds(
        self,
        *,
        after: Length | None = None,
        outputs: Sequence[str | Mapping[str, Any]] | None = None,
        times: int | None = None,
    ) -> Self:
        """Further runs end in success; ``outputs`` of the last code block are texts (printed) or Jupyter outputs.

        :mod:`.outputs` makes tables, images and more of the latter.
        """
        return self.ends("success", after=after, outputs=outputs, times=times)

    def fails(
        self,
        error: str | None = None,
        *,
        after: Length | None = None,
        status: RunEnd = "error",
        outputs: Sequence[str | Mapping[str, Any]] | None = None,
        times: int | None = None,
    ) -> Self:
        """Further runs fail; without ``error`` the run says nothing and only its snapshot tells the cause.

        ``outputs`` come before the exception; with one of :func:`.outputs.error` among them, there is no other.
        """
        return self.ends(status, after=after, error=error, outputs=outputs, times=times)

    def stalls(self, *, times: int | None = None) -> Self:
        """Further runs never end, unless :meth:`Service.end_run` ends them."""
        return self._script(Outcome(None, times=times))

    def ends(
        self,
        status: RunEnd,
        *,
        after: Length | None = None,
        error: str | None = None,
        outputs: Sequence[str | Mapping[str, Any]] | None = None,
        times: int | None = None,
    ) -> Self:
        """Further runs end in ``status``."""
        return self._script(Outcome(status, after, error, outputs, times))

    def _script(self, outcome: Outcome) -> Self:
        if outcome.times is None:
            self._scripts = [script for script in self._scripts if script.times is not None]
        self._scripts.append(outcome)
        return self

    def next_outcome(self) -> Outcome | None:
        """The script for the run being started, used up by one; None leaves it to chance."""
        limited = next((script for script in self._scripts if script.times is not None), None)
        if limited is None or limited.times is None:
            return self._scripts[0] if self._scripts else None
        limited.times -= 1
        if not limited.times:
            self._scripts.remove(limited)
        return limited
