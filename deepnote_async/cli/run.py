"""``deepnote-async run``"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .checks import Check, checked
from .common import Common, epilog, with_common
from .exits import FAILED, PROGRAM, line_of, say
from .inputs import typed_inputs
from .outputs import Save, print_run
from .progress import shown
from .render import seconds
from .runs import Inputs

if TYPE_CHECKING:
    from ..client import DeepnoteClient
    from ..models import Run
    from ..run_request import RunRequest

__all__ = ["run"]


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
    async with common.client(waits=True) as client:
        if check:
            [request] = await checked(common, client, notebook, [("-i", request)])
        ended = await _awaited(common, client, request)
    print_run(common, ended, save)
    if ended.succeeded:
        return 0
    say(f"{PROGRAM}: {line_of(_failure(ended))}")
    return FAILED


async def _awaited(common: Common, client: DeepnoteClient, request: RunRequest) -> Run:
    loop = asyncio.get_running_loop()
    began, status, run_id = loop.time(), "starting", ""

    def hear(run: Run) -> None:
        nonlocal status
        status = str(run.status)

    def told() -> str:
        return f"{f'run {run_id}: ' if run_id else ''}{status}, {seconds(loop.time() - began)}"

    try:
        async with shown(common, told):
            deadline = None if common.timeout is None else began + common.timeout
            started = await client.runs.start(request, deadline)
            run_id, status = started.run_id, str(started.status)
            left = None if deadline is None else max(deadline - loop.time(), 0.0)
            return await client.await_run(started, timeout=left, snapshot="blocks", on_update=hear)
    except asyncio.CancelledError:
        if run_id:
            say(f"Left; run {run_id} goes on. Take it up again with `{PROGRAM} runs wait {run_id}`.")
        raise


def _failure(run: Run) -> Exception:
    from ..errors import RunFailedError

    return RunFailedError(run)


run: Callable[..., Any] = with_common(_run)
run.__dict__["epilog"] = epilog("deepnote-async run NOTEBOOK -i region=EU -i verbose:=true --timeout 600")
