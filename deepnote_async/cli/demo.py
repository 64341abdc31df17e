"""``deepnote-async demo``: many runs of one notebook, fanned out and awaited, on an embedded or the real service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import attrs
import typer

from ..client import DeepnoteClient
from ..run_request import RunRequest, grid
from ..settings import PollPolicy
from ..testing import FakeProcess
from .board import Board
from .common import Common, epilog, with_common
from .exits import API, FAILED, OK, say
from .listing import ask
from .naive import run_naively
from .render import console
from .tally import Tally

if TYPE_CHECKING:
    from ..models import Run

__all__ = ["RealService", "demo", "on_embedded_service", "on_real_service"]

OURS: Final = "deepnote-async"
LIMIT: Final = 50  # requests a second, of real time
BURST: Final = 5
SPEED: Final = 20
MEDIAN: Final = 60.0  # s at real speed, of one run
SPREAD: Final = 0.6  # of the logarithm of the lengths
NAIVE_INTERVAL: Final = 2.0  # s at real speed
FRAME: Final = 0.2  # s between two drawings
POLL: Final = PollPolicy(initial=1.0 / SPEED, maximum=30.0 / SPEED)

SETTING: Final = (
    f"An embedded service at {SPEED} times real speed: half of the runs take less than {MEDIAN / SPEED:g} s.\n"
    f"It lets in {LIMIT} requests a second and tells no client so: the limit has to be found."
)


@attrs.frozen
class RealService:
    """Where real runs go; they cost machine time. None takes token and URL from the environment."""

    notebook_id: str
    token: str | None = attrs.field(default=None, repr=False)
    base_url: str | None = None


async def on_embedded_service(board: Board, *, runs: int, seed: int, compare: bool) -> list[Tally]:
    """Run the demo on a service in a process of its own; with ``compare`` the naive way beside it.

    Each way has its own copy of the service, with the same seed and settings, so neither spends the other's limit.
    """
    board.say(SETTING)
    if compare:
        board.say("Each way has a copy of it to itself, so neither spends the other's limit.")
    ways = [Tally(OURS, runs)] + ([Tally("naive polling", runs)] if compare else [])
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(_service(seed)) for _ in ways]
        works = [_ours(services[0], ways[0]), *(_naive(services[1], tally) for tally in ways[1:])]
        async with _drawn(board, ways):
            await asyncio.gather(*works)
        for service, tally in zip(services, ways, strict=True):
            tally.take_account(await service.stats())
    return ways


async def on_real_service(board: Board, service: RealService, *, runs: int) -> list[Tally]:
    """Run the demo on a real notebook, every run with the notebook's own inputs."""
    tally = Tally(OURS, runs)
    async with DeepnoteClient(service.token, base_url=service.base_url) as client, _drawn(board, [tally]):
        ended = await _fan_out(client, (RunRequest(service.notebook_id) for _ in range(runs)), tally)
    tally.measure(_spans(ended))
    return [tally]


def _service(seed: int) -> FakeProcess:
    # Its runs are shorter instead of its clock faster: a client reckons ages by the clock it finds in the answers.
    return FakeProcess(seed=seed, median=MEDIAN / SPEED, sigma=SPREAD, limit_rate=LIMIT, limit_burst=BURST)


async def _ours(service: FakeProcess, tally: Tally) -> None:
    async with DeepnoteClient(service.token, base_url=service.url, poll=POLL) as client:
        await _fan_out(client, grid(service.notebooks[0], case=range(tally.wanted)), tally)


def _naive(service: FakeProcess, tally: Tally) -> Coroutine[Any, Any, None]:
    interval = NAIVE_INTERVAL / SPEED
    return run_naively(service.url, service.token, service.notebooks[0], tally, interval=interval)


async def _fan_out(client: DeepnoteClient, requests: Iterable[RunRequest], tally: Tally) -> list[Run]:
    began = time.monotonic()
    ended: list[Run] = []
    async with client.run_many(requests, max_in_flight=tally.wanted) as batch:

        def refresh() -> None:
            stats = client.stats()
            tally.started, tally.requests, tally.throttled = batch.stats.started, stats.requests, stats.throttled

        tally.refresh = refresh
        async for result in batch:
            if result.run is None:
                tally.give_up(type(result.error).__name__)
                continue
            tally.count_end(result.run.run_id, time.time(), succeeded=result.ok)
            ended.append(result.run)
        refresh()
    tally.refresh = None
    tally.seconds = time.monotonic() - began
    return ended


def _spans(runs: Iterable[Run]) -> Iterator[tuple[str, float, float]]:
    for run in runs:
        if run.created_at is not None and run.finished_at is not None:
            yield run.run_id, run.created_at.timestamp(), run.finished_at.timestamp()


@asynccontextmanager
async def _drawn(board: Board, ways: Sequence[Tally]) -> AsyncIterator[None]:
    async def frames() -> None:
        while True:
            board.draw(ways)
            await asyncio.sleep(FRAME)

    with board.drawing(ways):
        drawing = asyncio.create_task(frames())
        try:
            yield
        finally:
            drawing.cancel()


async def _demo(
    common: Common,
    runs: Annotated[int, typer.Option(min=1, help="How many runs to start.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the embedded service: the lengths of its runs.")] = 1,
    compare: Annotated[bool, typer.Option("--compare", help="Show the naive way beside ours.")] = False,
    notebook: Annotated[str | None, typer.Option(help="Run this notebook on the real service.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before starting real runs.")] = False,
) -> int:
    """Start many runs of one notebook, await them all and show what came of them.

    Without --notebook the runs go to an embedded service and cost nothing.
    """
    _refuse(common)
    board = Board(console(), quiet=bool(common.quiet))
    if notebook is None:
        if common.base_url is not None:
            raise typer.BadParameter("name the notebook to run there with --notebook", param_hint="--base-url")
        work = on_embedded_service(board, runs=runs, seed=seed, compare=compare)
    else:
        if compare:
            raise typer.BadParameter("the naive way is shown on the embedded service only", param_hint="--compare")
        real = f"{runs} real runs of notebook {notebook}"
        ask(f"This starts {real}, which cost machine time. Go on?", f"to start {real}", yes=yes)
        work = on_real_service(board, RealService(notebook, common.token, common.base_url), runs=runs)
    try:
        ways = await work
    except asyncio.CancelledError:
        say("Left; runs that were started go on.")
        raise
    return _report(board, ways)


def _refuse(common: Common) -> None:
    """Refuse what other commands take and a show has no use for: silence about it would be taken for a yes."""
    for option, typed in (("--timeout", common.timeout), ("--json", common.as_json or None)):
        if typed is not None:
            raise typer.BadParameter("the demo does not take it, run-many does", param_hint=option)


def _report(board: Board, ways: list[Tally]) -> int:
    board.say("")
    board.results(ways)
    for tally in ways:
        if tally.reasons:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons.items()))
            board.say(f"\n{tally.name} gave up {tally.abandoned} of {tally.wanted} runs: {reasons}.")
    ours = ways[0]
    if ours.abandoned:
        return API
    return OK if ours.succeeded == ours.wanted else FAILED


demo: Callable[..., Any] = with_common(_demo)
demo.__dict__["epilog"] = epilog("deepnote-async demo --compare")
