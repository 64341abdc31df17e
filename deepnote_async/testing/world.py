"""The state of the model: what exists, how it comes to be and how runs end. No requests, no I/O."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
import uuid
from bisect import insort
from typing import TYPE_CHECKING, Any

import attrs

from .state import Block, Input, Length, Lognormal, NotebookState, Outcome, ProjectState, RunEnd, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .pages import Order

__all__ = ["World"]

FAILURE_TEXT = "The run ended before it was done."


@attrs.define(eq=False, kw_only=True)
class World:
    """Projects, notebooks and runs under a clock (service time, seconds since the epoch).

    All chance comes from ``seed``. Run lengths are lognormal (``median``, ``sigma``, in seconds) unless the notebook
    has its own; a share of ``failures`` ends in ``error``. A run is pending for ``startup`` seconds at most.
    """

    clock: Callable[[], float] = time.time
    seed: int = 0
    median: float = 60.0
    sigma: float = 0.8
    failures: float = 0.0
    startup: float = 1.0
    snapshot_delay: float = 0.0
    order: Order = "newest"
    projects: dict[str, ProjectState] = attrs.field(factory=dict, init=False)
    notebooks: dict[str, NotebookState] = attrs.field(factory=dict, init=False)
    runs: dict[str, RunState] = attrs.field(factory=dict, init=False)
    _unborn: list[tuple[float, int, RunState]] = attrs.field(factory=list, init=False, repr=False)
    _count: Iterator[int] = attrs.field(factory=itertools.count, init=False, repr=False)
    _ids: random.Random = attrs.field(init=False, repr=False)
    _chance: random.Random = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Apart, so that the lengths of runs do not depend on how many ids were needed before them.
        self._ids = random.Random(f"{self.seed}-ids")
        self._chance = random.Random(f"{self.seed}-runs")

    def new_uuid(self) -> str:
        """A fresh dashed UUID."""
        return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))

    def add_project(
        self,
        name: str = "Project",
        *,
        id: str | None = None,  # noqa: A002 - the wire's own name
        project_type: str = "standard",
        folder_id: str | None = None,
        suspended: bool = False,
    ) -> ProjectState:
        """Make a project without notebooks."""
        now = self.clock()
        project = ProjectState(
            id=id if id is not None else self.new_uuid(),
            name=name,
            created_at=now,
            order=(now, next(self._count)),
            project_type=project_type,
            folder_id=folder_id,
            suspended=suspended,
        )
        self.projects[project.id] = project
        return project

    def add_notebook(
        self,
        name: str | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the wire's own name
        project_id: str | None = None,
        inputs: Sequence[str | Input] | None = None,
        blocks: int | Sequence[Block] = 2,
        lengths: Length | None = None,
    ) -> NotebookState:
        """Make a notebook, in the first project (made if there is none) unless told otherwise.

        ``inputs`` None accepts any input. ``blocks`` is a number of code blocks or the blocks themselves; with none a
        run has no snapshot. ``lengths`` is what its runs take: seconds, or a function of a ``random.Random``.
        """
        if project_id is None:
            project_id = next(iter(self.projects), None) or self.add_project().id
        project = self.projects.get(project_id)
        notebook = NotebookState(
            id=id if id is not None else uuid.UUID(self.new_uuid()).hex,
            name=name if name is not None else self._free_name(project),
            project_id=project_id,
            created_at=self.clock(),
            inputs=None if inputs is None else [Input(item) if isinstance(item, str) else item for item in inputs],
            blocks=self._code_blocks(blocks) if isinstance(blocks, int) else blocks,
            lengths=lengths,
        )
        self.notebooks[notebook.id] = notebook
        if project is not None:
            project.notebook_ids.append(notebook.id)
        return notebook

    def notebook(self, name: str) -> NotebookState:
        """The notebook of that name, made if there is none: the handle to script its runs."""
        found = next((notebook for notebook in self.notebooks.values() if notebook.name == name), None)
        return found if found is not None else self.add_notebook(name)

    def _code_blocks(self, number: int) -> list[Block]:
        return [Block(uuid.UUID(self.new_uuid()).hex, "code", f"step_{index}()") for index in range(1, number + 1)]

    def _free_name(self, project: ProjectState | None) -> str:
        taken = {self.notebooks[key].name for key in project.notebook_ids} if project else set()
        return next(name for name in (f"Notebook {n}" for n in range(1, len(taken) + 2)) if name not in taken)

    def remove_notebook(self, notebook: NotebookState) -> None:
        """Delete a notebook; its runs can no longer be listed but still be read by id."""
        del self.notebooks[notebook.id]
        project = self.projects.get(notebook.project_id)
        if project is not None:
            project.notebook_ids.remove(notebook.id)

    def remove_project(self, project: ProjectState) -> None:
        """Delete a project with its notebooks."""
        for notebook_id in tuple(project.notebook_ids):
            self.remove_notebook(self.notebooks[notebook_id])
        del self.projects[project.id]

    def add_run(
        self,
        notebook: NotebookState | str,
        *,
        id: str | None = None,  # noqa: A002 - the wire's own name
        created_at: float | None = None,
        length: float | None = None,
        status: RunEnd | None = None,
        error: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        block_ids: Sequence[str] | None = None,
        started_by: str = "",
        late: float = 0.0,
    ) -> RunState:
        """Start a run, as another user, a schedule or a request would.

        ``length`` (seconds, ``math.inf`` never ends) and ``status`` override chance and script. ``created_at`` may
        lie in the past. ``late`` seconds from now the run comes into being; until then nobody sees it.
        """
        if isinstance(notebook, str):
            notebook = self.notebooks[notebook]
        born = (self.clock() if created_at is None else created_at) + late
        outcome = notebook.next_outcome() or self._by_chance()
        if status is not None:
            outcome = Outcome(status, outcome.after, error, outcome.outputs)
        took = self._length(notebook, outcome) if length is None else length
        run = RunState(
            id=id if id is not None else self.new_uuid(),
            notebook_id=notebook.id,
            created_at=born,
            starts_at=born + min(self.startup, took / 2),
            ends_at=born + took,
            final=outcome.status or "stopped",
            error=outcome.error,
            inputs=inputs or {},
            block_ids=block_ids,
            outputs=outcome.outputs,
            snapshot_at=born + took + self.snapshot_delay,
            has_snapshot=any(block.executable for block in notebook.blocks),
            started_by=started_by,
        )
        self._admit(run, late)
        return run

    def add_earlier_runs(self, notebook: NotebookState | str, count: int, span: float = 0.0) -> list[RunState]:
        """Start ``count`` runs at even distances over the last ``span`` seconds, as others did before."""
        now = self.clock()
        return [self.add_run(notebook, created_at=now - span * (count - n) / count) for n in range(1, count + 1)]

    def _admit(self, run: RunState, late: float) -> None:
        number = next(self._count)
        run.order = (self._chance.random() if self.order == "random" else run.created_at, number)
        if late > 0:
            heapq.heappush(self._unborn, (run.created_at, number, run))
        else:
            self._show(run)

    def _show(self, run: RunState) -> None:
        self.runs[run.id] = run
        notebook = self.notebooks.get(run.notebook_id)
        if notebook is not None:
            insort(notebook.runs, run, key=_order)

    def settle(self, now: float) -> None:
        """Bring into being what is due by ``now``; every request does so first."""
        while self._unborn and self._unborn[0][0] <= now:
            self._show(heapq.heappop(self._unborn)[2])

    def _by_chance(self) -> Outcome:
        if self._chance.random() >= self.failures:
            return Outcome("success")
        # A failed run seldom says why: the cause is in its outputs.
        return Outcome("error", error=FAILURE_TEXT if self._chance.random() < 0.2 else None)

    def _length(self, notebook: NotebookState, outcome: Outcome) -> float:
        if outcome.status is None:
            return math.inf
        length = next((item for item in (outcome.after, notebook.lengths) if item is not None), None)
        if length is None:
            length = Lognormal(self.median, self.sigma)
        return length(self._chance) if callable(length) else length

    def end_run(self, run: RunState | str, status: RunEnd = "success", *, error: str | None = None) -> RunState:
        """End a run now, as a stop from the UI would; a run that has ended already is left as it is."""
        if isinstance(run, str):
            run = self.runs[run]
        now = self.clock()
        if not run.is_final(now):
            run.starts_at = min(run.starts_at, now)
            run.ends_at, run.final, run.error = now, status, error
            run.snapshot_at = now + self.snapshot_delay
        return run


def _order(run: RunState) -> tuple[float, int]:
    return run.order
