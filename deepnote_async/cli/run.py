"""``deepnote-async run``"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import ApiError, NotStartedError, RequestTimeoutError, TransportError
from .checks import Check, checked
from .common import Common, epilog, with_common
from .exits import FAILED, LEFT, PROGRAM, line_of, naming, say
from .inputs import typed_inputs
from .interrupts import on_interrupt
from .outputs import Save, made_ready, print_run
from .progress import shown
from .render import seconds
from .runs import Inputs

if TYPE_CHECKING:
    from ..client import DeepnoteClient
    from ..models import Run
    from ..run_request import RunRequest

__all__ = ["run"]

GRACE: Final = 2.0  # s for a start on the wire, when left: its outcome is said
LEAST: Final = 0.001  # s, for a client takes no timeout of nothing


async def _run(
    common: Common,
    notebook: Annotated[str, typer.Argument(help="The notebook's id.", show_default=False, metavar="NOTEBOOK")],
    given: Inputs = None,
    save: Save = None,
    check: Check = True,
) -> int:
    """Start a run of a notebook, wait for it and print its outputs; Ctrl-C leaves it running."""
    from ..run_request import RunRequest

    request = RunRequest(notebook, inputs=typed_inputs(given or []) or None)
    made_ready(save)  # while nothing is paid for
    one = _One(common, request)
    ended = await one.left_with_ctrl_c(check)
    if ended is None:
        return LEFT
    with naming(ended.run_id):
        status = print_run(common, ended, save)
    if not ended.succeeded:
        say(f"{PROGRAM}: {line_of(_failure(ended))}")
        return FAILED
    if not (common.json or common.quiet):
        took = "" if ended.duration is None else f" in {seconds(ended.duration.total_seconds())}"
        say(f"run {ended.run_id} succeeded{took}")
    return status


class _One:
    """One run, from the reading of the notebook's inputs to its end, under one deadline."""

    def __init__(self, common: Common, request: RunRequest) -> None:
        self._common = common
        self._request = request
        self._began = asyncio.get_running_loop().time()
        self._deadline = None if common.timeout is None else self._began + common.timeout
        self._run_id = self._status = ""

    async def left_with_ctrl_c(self, check: bool) -> Run | None:
        """The run as it ended; None where Ctrl-C came before, and where that leaves it has been said."""
        task = asyncio.current_task()
        async with self._common.client(waits=True) as client:
            with on_interrupt(lambda: None if task is None else _cancel(task)):
                try:
                    return await self._awaited(client, check)
                except asyncio.CancelledError:
                    with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C again: no grace
                        await client.aclose(GRACE)
                    say(self._where_it_is())
                    return None

    async def _awaited(self, client: DeepnoteClient, check: bool) -> Run:
        request = await self._fitted(client) if check else self._request
        self._status = "starting"
        async with shown(self._common, self._told):
            started = await client.runs.start(request, self._deadline)
            self._run_id, self._status = started.run_id, str(started.status)
            with naming(started.run_id):
                return await client.await_run(started, timeout=self._left(), snapshot="blocks", on_update=self._hear)

    async def _fitted(self, client: DeepnoteClient) -> RunRequest:
        left = self._left()
        view = client if left is None else client.with_options(total_timeout=max(left, LEAST))
        try:
            [request] = await checked(self._common, view, self._request.notebook_id, [("-i", self._request)])
        except (ApiError, TransportError) as error:
            if left is None or not (error.out_of_time or isinstance(error, RequestTimeoutError)):
                raise
            raise NotStartedError(f"not started in time: {error}", cause=error) from error
        return request

    def _left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - asyncio.get_running_loop().time(), 0.0)

    def _hear(self, run: Run) -> None:
        self._status = str(run.status)

    def _told(self) -> str:
        elapsed = seconds(asyncio.get_running_loop().time() - self._began)
        return f"{f'run {self._run_id}: ' if self._run_id else ''}{self._status}, {elapsed}"

    def _where_it_is(self) -> str:
        if self._run_id:
            run_id = self._run_id
            return f"Left; run {run_id} goes on. Take it up again with `{PROGRAM} runs wait {run_id}`."
        if self._status:
            return f"Left while starting; look with `{PROGRAM} notebooks runs {self._request.notebook_id}`."
        return "Left; nothing was started."


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


def _failure(run: Run) -> Exception:
    from ..errors import RunFailedError

    return RunFailedError(run)


run: Callable[..., Any] = with_common(_run)
run.__dict__["epilog"] = epilog("deepnote-async run NOTEBOOK -i region=EU -i verbose:=true --timeout 600")
