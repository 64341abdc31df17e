"""The twelve operations: from a request that was let in to a status and a JSON body."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl

import attrs

from .checks import check_inputs, check_start, one_of, text
from .pages import BadTokenError, Page, Row
from .replies import RefusedError
from .snapshots import blocks, document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .model import Access, Service
    from .state import NotebookState, ProjectState, RunState

__all__ = ["OPERATIONS", "Answer", "Ask"]

Answer: TypeAlias = tuple[int, Any]
DELIVERIES = ("downloadUrl", "inline", "blocks")


@attrs.define(eq=False, slots=False)
class Ask:
    """One request that names an operation; ``late`` delays the birth of a run it starts."""

    ids: tuple[str, ...]
    query_string: str
    raw_body: bytes
    now: float
    access: Access
    token: str = ""
    late: float = 0.0
    run_id: str | None = None

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query, decoded; of a repeated name the last value."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True)) if self.query_string else {}

    def body(self) -> dict[str, Any]:
        """The body, a JSON object."""
        try:
            value = json.loads(self.raw_body)
        except (ValueError, RecursionError):
            raise RefusedError(400, "The body is not valid JSON") from None
        if not isinstance(value, dict):
            raise RefusedError(400, "The body must be a JSON object")
        return value


def get_me(service: Service, ask: Ask) -> Answer:
    """Who the key is."""
    me = {
        "apiKey": {"id": service.owner["apiKey"], "name": "Key"},
        "user": {"id": service.owner["user"], "name": "User", "email": "user@example.com"},
        "workspace": {"id": service.owner["workspace"], "slug": "workspace", "name": "Workspace"},
        "accessLevel": ask.access.level,
    }
    return 200, me


def list_projects(service: Service, ask: Ask) -> Answer:
    """Projects, filtered by a part of the name in any case."""
    wanted = ask.query.get("nameContains", "")
    folded = wanted.casefold()
    rows = [project for project in service.projects.values() if folded in project.name.casefold()]
    page, size = _page(service, ask, rows, default=50, scope=f"projects|{wanted}")
    body = [service.speech.project_row(project, service.notebooks) for project in page.rows]
    return 200, {"projects": body, "pagination": service.speech.pagination(page.next_token, size)}


def create_project(service: Service, ask: Ask) -> Answer:
    """A new project; the live one already holds a notebook."""
    body = ask.body()
    name = text(body, "name", required=True)
    folder = text(body, "folderId")
    kinds = ("standard", "notebook", "agent") if service.speech.strict else ("standard", "agent")
    kind = one_of(body, "projectType", kinds) or "standard"
    if service.speech.strict and folder is not None and service.folders is not None and folder not in service.folders:
        raise RefusedError(404, "Folder not found")
    project = service.add_project(name or "", project_type=kind, folder_id=folder)
    if service.speech.strict:
        service.add_notebook(project_id=project.id, blocks=0)
    return service.speech.created, service.speech.project(project, service.notebooks)


def get_project(service: Service, ask: Ask) -> Answer:
    """One project."""
    return 200, service.speech.project(_project(service, ask.ids[0]), service.notebooks)


def delete_project(service: Service, ask: Ask) -> Answer:
    """A project goes, with its notebooks."""
    service.remove_project(_project(service, ask.ids[0]))
    return 204, None


def create_notebook(service: Service, ask: Ask) -> Answer:
    """A new, empty notebook."""
    body = ask.body()
    project_id = text(body, "projectId", required=True) or ""
    name = text(body, "name")
    if service.speech.strict:
        _check_new_notebook(service, _project(service, project_id), name)
    # An empty id passes where nothing is refused, but must not be handed out: no path could hold it.
    notebook = service.add_notebook(name, project_id=project_id or None, blocks=0)
    return service.speech.created, service.speech.notebook(notebook)


def _check_new_notebook(service: Service, project: ProjectState, name: str | None) -> None:
    _check_suspended(project, 409)
    if project.project_type != "standard":
        raise RefusedError(409, f"A project of type {project.project_type} takes no further notebooks")
    if name is not None and any(service.notebooks[key].name == name for key in project.notebook_ids):
        raise RefusedError(409, "A notebook with this name already exists in the project")


def get_notebook(service: Service, ask: Ask) -> Answer:
    """One notebook."""
    notebook = _notebook(service, ask.ids[0])
    _check_suspended(service.projects.get(notebook.project_id), 400)
    return 200, service.speech.notebook(notebook)


def delete_notebook(service: Service, ask: Ask) -> Answer:
    """A notebook goes; the live service keeps the last one of a project."""
    notebook = _notebook(service, ask.ids[0])
    project = service.projects.get(notebook.project_id)
    _check_suspended(project, 409)
    if service.speech.strict and project is not None and len(project.notebook_ids) == 1:
        raise RefusedError(409, "A project must keep at least one notebook")
    service.remove_notebook(notebook)
    return 204, None


def list_runs(service: Service, ask: Ask) -> Answer:
    """The runs of a notebook, whoever started them."""
    notebook = service.notebooks.get(ask.ids[0])
    if notebook is None and service.speech.strict:
        raise RefusedError(404, "Notebook not found")
    rows = notebook.runs if notebook is not None else []
    page, size = _page(service, ask, rows, default=20, scope=f"runs|{ask.ids[0]}", up=service.order != "newest")
    body = [service.speech.run_row(run, ask.now) for run in page.rows]
    return 200, {"runs": body, "pagination": service.speech.pagination(page.next_token, size)}


def create_run(service: Service, ask: Ask) -> Answer:
    """A start: 202 and an id, while the run is still pending."""
    body = ask.body()
    start = check_start(body, strict=service.speech.strict)
    if ask.access.app_viewer and not start.detached:
        raise RefusedError(403, "This token starts detached runs only")
    notebook = service.notebooks.get(start.notebook_id)
    if notebook is None:
        notebook = _unknown_notebook(service, start.notebook_id)
    if service.speech.strict:
        _check_suspended(service.projects.get(notebook.project_id), 409)
        check_inputs(start, notebook)
    run = service.add_run(notebook, inputs=start.inputs, block_ids=start.block_ids, started_by=ask.token, late=ask.late)
    ask.run_id = run.id
    return 202, service.speech.started(run, ask.now)


def _unknown_notebook(service: Service, notebook_id: str) -> NotebookState:
    # The reference definition lists no refusal for a notebook that is not there, so there it comes to be.
    if service.speech.strict:
        raise RefusedError(400, "Notebook not found")
    return service.add_notebook(id=notebook_id or None)


def get_run(service: Service, ask: Ask) -> Answer:
    """One run, with its snapshot where there is one."""
    delivery = ask.query.get("snapshotDelivery", "downloadUrl")
    if delivery not in DELIVERIES:
        raise RefusedError(400, "snapshotDelivery is not one of " + ", ".join(DELIVERIES))
    run = service.runs.get(ask.ids[0])
    if run is None or (ask.access.app_viewer and run.started_by != ask.token):
        raise RefusedError(404, "Run not found")
    snapshot = _snapshot(service, run, "blocks" if ask.access.app_viewer else delivery, ask.now)
    return 200, service.speech.run(run, ask.now, snapshot)


def _snapshot(service: Service, run: RunState, delivery: str, now: float) -> dict[str, Any]:
    status = run.snapshot_status(now)
    fields: dict[str, Any] = {"snapshotContent": None, "snapshotDownloadUrl": None}
    if service.tells_snapshot_status:
        fields["snapshotStatus"] = status
    there = status == "available"
    notebook = service.notebooks.get(run.notebook_id)
    if delivery == "blocks":
        fields["snapshotBlocks"] = blocks(notebook, run) if there else None
    elif there and delivery == "inline":
        fields["snapshotContent"] = document(notebook, run)
    elif there:
        fields["snapshotDownloadUrl"] = service.storage.link(run.id, now)
    return fields


def execute_v1(service: Service, ask: Ask) -> Answer:
    """The old way: starts a run whose id nobody is told, unless the notebook runs already."""
    notebook = service.notebooks.get(ask.ids[1])
    if notebook is None or notebook.project_id != ask.ids[0]:
        if service.speech.strict:
            raise RefusedError(404, "Notebook not found")
        return service.speech.executed, {}
    if all(run.is_final(ask.now) for run in notebook.runs):
        ask.run_id = service.add_run(notebook, started_by=ask.token, late=ask.late).id
    return service.speech.executed, {}


def _project(service: Service, project_id: str) -> ProjectState:
    project = service.projects.get(project_id)
    if project is None:
        raise RefusedError(404, "Project not found")
    return project


def _notebook(service: Service, notebook_id: str) -> NotebookState:
    notebook = service.notebooks.get(notebook_id)
    if notebook is None:
        raise RefusedError(404, "Notebook not found")
    return notebook


def _check_suspended(project: ProjectState | None, status: int) -> None:
    if project is not None and project.suspended:
        raise RefusedError(status, "Project is suspended")


def _page(
    service: Service, ask: Ask, rows: Sequence[Row], *, default: int, scope: str, up: bool = True
) -> tuple[Page[Row], int]:
    size = _page_size(ask.query.get("pageSize"), default, strict=service.speech.strict)
    token = ask.query.get("pageToken")
    try:
        return service.pager.cut(rows, token, size=size, scope=scope, now=ask.now, up=up), size
    except BadTokenError:
        if service.speech.strict:
            raise RefusedError(400, "Invalid page token") from None
        # The reference definition lists no refusal here: a token that leads nowhere names the empty end.
        return Page((), None), size


def _page_size(given: str | None, default: int, *, strict: bool) -> int:
    if given is None:
        return default
    try:
        size = int(given)
    except ValueError:
        raise RefusedError(400, "pageSize must be an integer") from None
    if size > 100 or (strict and size < 1):
        raise RefusedError(400, "pageSize must be between 1 and 100")
    return max(1, size)


OPERATIONS: Mapping[str, Callable[[Service, Ask], Answer]] = {
    operation.__name__: operation
    for operation in (
        get_me,
        list_projects,
        create_project,
        get_project,
        delete_project,
        create_notebook,
        get_notebook,
        delete_notebook,
        list_runs,
        create_run,
        get_run,
        execute_v1,
    )
}
