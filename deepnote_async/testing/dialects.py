"""How answers look: as the live service writes them, or exactly as the reference definition does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from .snapshots import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .state import Input, NotebookState, ProjectState, RunState

__all__ = ["DialectName", "Live", "Reference", "dialect"]

DialectName = Literal["live", "reference"]
Json: TypeAlias = dict[str, Any]


def _times(run: RunState, now: float, key: str) -> Json:
    ended = run.is_final(now)
    if key == "finishedAt":
        return {key: timestamp(run.ends_at)} if ended else {}
    return {key: timestamp(run.ends_at) if ended else None}


def _started(run: RunState, now: float) -> Json:
    return {"runId": run.id, "status": run.status(now), "createdAt": timestamp(run.created_at)}


class Reference:
    """The reference definition to the letter: nothing it does not name, no refusal it does not list."""

    strict = False
    created = 200
    executed = 200

    def started(self, run: RunState, now: float) -> Json:
        """The answer to a start."""
        return _started(run, now)

    def run_row(self, run: RunState, now: float) -> Json:
        """A run in a list."""
        head = {"runId": run.id, "notebookId": run.notebook_id, "status": run.status(now)}
        return head | {"createdAt": timestamp(run.created_at)} | _times(run, now, "finishedAt")

    def run(self, run: RunState, now: float, snapshot: Json) -> Json:
        """A run read by its id; this dialect has no snapshots."""
        del snapshot
        return {"run": self.run_row(run, now)}

    def notebook(self, notebook: NotebookState) -> Json:
        """A notebook."""
        return {"notebook": _notebook_head(notebook)}

    def project_row(self, project: ProjectState, notebooks: Mapping[str, NotebookState]) -> Json:
        """A project in a list."""
        del notebooks
        folder = {} if project.folder_id is None else {"folderId": project.folder_id}
        return {"id": project.id, "name": project.name, "projectType": project.project_type} | folder

    def project(self, project: ProjectState, notebooks: Mapping[str, NotebookState]) -> Json:
        """A project by itself, bare."""
        return self.project_row(project, notebooks)

    def pagination(self, next_token: str | None, size: int) -> Json:
        """The key is absent at the end."""
        del size
        return {} if next_token is None else {"nextPageToken": next_token}


class Live:
    """The live service as its own clients know it: enveloped, with nulls, and strict about what it takes."""

    strict = True
    created = 201
    executed = 202

    def started(self, run: RunState, now: float) -> Json:
        """The answer to a start, without an envelope."""
        return _started(run, now)

    def run_row(self, run: RunState, now: float) -> Json:
        """A run in a list: no error, no snapshot."""
        head = {"runId": run.id, "notebookId": run.notebook_id, "status": run.status(now)}
        return head | {"createdAt": timestamp(run.created_at)} | _times(run, now, "completedAt")

    def run(self, run: RunState, now: float, snapshot: Json) -> Json:
        """A run read by its id."""
        return {"run": self.run_row(run, now) | {"error": run.error if run.is_final(now) else None} | snapshot}

    def notebook(self, notebook: NotebookState) -> Json:
        """A notebook with its blocks; ``inputs`` only when there are input blocks."""
        body = _notebook_head(notebook)
        body["blocks"] = [{"id": block.id, "type": block.type, "content": block.content} for block in notebook.blocks]
        body["blocks"] += [_input_block(item, notebook) for item in notebook.inputs or ()]
        if notebook.inputs:
            body["inputs"] = [_input(item, notebook) for item in notebook.inputs]
        return {"notebook": body}

    def project_row(self, project: ProjectState, notebooks: Mapping[str, NotebookState]) -> Json:
        """A project in a list, with a folder object in place of a folder id."""
        return {
            "id": project.id,
            "name": project.name,
            "projectType": project.project_type,
            "createdAt": timestamp(project.created_at),
            "updatedAt": None,
            "folder": _folder(project.folder_id),
            "notebooks": [_notebook_row(notebooks[key]) for key in project.notebook_ids],
        }

    def project(self, project: ProjectState, notebooks: Mapping[str, NotebookState]) -> Json:
        """A project by itself."""
        return {"project": self.project_row(project, notebooks) | {"files": [], "integrations": []}}

    def pagination(self, next_token: str | None, size: int) -> Json:
        """All keys always there; the token null at the end."""
        return {"pageSize": size, "nextPageToken": next_token, "hasMore": next_token is not None}


def dialect(name: DialectName) -> Live | Reference:
    """The dialect of that name."""
    return Live() if name == "live" else Reference()


def _notebook_head(notebook: NotebookState) -> Json:
    return {"id": notebook.id, "name": notebook.name, "projectId": notebook.project_id}


def _notebook_row(notebook: NotebookState) -> Json:
    last = timestamp(notebook.runs[-1].created_at) if notebook.runs else None
    born = timestamp(notebook.created_at)
    return {
        "id": notebook.id,
        "name": notebook.name,
        "createdAt": born,
        "isInit": False,
        "isScheduled": False,
        "lastRunAt": last,
    }


def _input(item: Input, notebook: NotebookState) -> Json:
    known = attrs.asdict(item, filter=lambda _, value: value is not None)
    return known | {"blockId": _input_id(item, notebook)}


def _input_block(item: Input, notebook: NotebookState) -> Json:
    return {"id": _input_id(item, notebook), "type": item.type, "content": None}


def _input_id(item: Input, notebook: NotebookState) -> str:
    return f"{notebook.id[:8]}-{item.name}"


def _folder(folder_id: str | None) -> Json | None:
    if folder_id is None:
        return None
    here = {"id": folder_id, "name": "Folder"}
    return here | {"path": [here], "isPathComplete": True}
