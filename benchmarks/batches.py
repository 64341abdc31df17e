"""``fanout``, ``untold`` and ``window``: one batch of runs of one notebook under three kinds of limit."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeAlias

import attrs

from deepnote_async import RunRequest
from deepnote_async.testing.pages import Order

from .baselines import BASELINES
from .measure import Measured, Told, average, measure
from .report import Column, Figure, Report
from .settings import OURS, Setting
from .worlds import World, in_memory, in_process

__all__ = ["Case", "cases", "ours", "run_case", "run_ours"]

Way: TypeAlias = Callable[[World, Setting], Awaitable[Told]]

COLUMNS: Final = (
    Column("finished", "finished", ".0f"),
    Column("requests", "requests/run"),
    Column("mean", "mean delay s", ".3f"),
    Column("late", "95th s", ".3f"),
    Column("throttled", "429", ".2%"),
    Column("used", "limit used", ".1%"),
    Column("product", "product s", ".3f"),
    Column("seconds", "took s", ".1f"),
)
HOW: Final = (
    "delay: from a run's end on the service's own clock to its being told, over the runs that were told",
    "requests/run: all requests the service saw, over the runs that were told",
    "limit used: requests let in between the first and the last accepted start, over rate x time (of windows: over the",
    "  quota, in the windows that ended by the last start)",
    "product: (requests/run - 1 - share of failed runs) x mean delay",
)


@attrs.frozen
class Bound:
    """A figure to reach, of one field of what is measured."""

    field: str
    what: str
    bound: float
    at_least: bool = False
    spec: str = ".3f"

    def of(self, measured: Measured) -> Figure:
        """The figure itself."""
        value = getattr(measured, self.field)
        return Figure(what=self.what, value=value, bound=self.bound, at_least=self.at_least, spec=self.spec)


@attrs.frozen
class Case:
    """One batch and what it is to reach."""

    setting: Setting
    bounds: Sequence[Bound] = ()


def cases(name: str, *, order: Order = "newest", foreign: int = 0) -> list[Case]:
    """The cases of a benchmark; the figures of ``fanout`` hold for newest first and a notebook of our own."""
    common = attrs.evolve(Setting(title=""), order=order, earlier=foreign)
    among = (f", {order} first" if order == "oldest" else ", in random order" if order == "random" else "") + (
        f", among {foreign} runs of others" if foreign else ""
    )
    made = list(_CASES[name](common))
    if not among:
        return made
    return [Case(attrs.evolve(case.setting, title=case.setting.title + among)) for case in made]


def _all_told(setting: Setting) -> Bound:
    return Bound("finished", "runs told", setting.runs, at_least=True, spec=".0f")


def _fanout(common: Setting) -> Iterator[Case]:
    title = "fanout: 500 runs of one notebook, 50 requests/s (burst 50), told to the client"
    setting = attrs.evolve(common, title=title, rate=50.0, burst=50.0, told=True)
    yield Case(
        setting,
        (
            _all_told(setting),
            Bound("requests", "requests a run", 1.9),
            Bound("mean", "mean delay, s", 0.25),
            Bound("late", "95th percentile, s", 0.65),
            Bound("throttled", "answers 429", 0.0, spec=".2%"),
            Bound("product", "product, s", 0.20),
        ),
    )


def _untold(common: Setting) -> Iterator[Case]:
    for burst, used in ((20.0, 0.93), (5.0, 0.78)):
        title = f"untold: 500 runs of one notebook, 20 requests/s (burst {burst:g}) that the client is not told"
        setting = attrs.evolve(common, title=title, rate=20.0, burst=burst)
        yield Case(
            setting,
            (
                _all_told(setting),
                Bound("throttled", "answers 429", 0.01, spec=".2%"),
                Bound("used", "limit used", used, at_least=True, spec=".1%"),
                Bound("mean", "mean delay, s", 0.35),
            ),
        )


def _window(common: Setting) -> Iterator[Case]:
    title = "window: 500 runs of one notebook, 150 requests each 7.5 s, which the client is not told"
    setting = attrs.evolve(common, title=title, window=150, window_seconds=7.5)
    yield Case(
        setting,
        (
            _all_told(setting),
            Bound("settled", "answers 429 after two windows", 0.01, spec=".2%"),
            Bound("used", "quota used", 0.90, at_least=True, spec=".1%"),
            Bound("late", "95th percentile, s", 1.5),
        ),
    )


_CASES: Final = {"fanout": _fanout, "untold": _untold, "window": _window}


async def ours(world: World, setting: Setting) -> Told:
    """The batch with our client, all requests in flight at once as with the others."""
    told = Told()
    requests = (RunRequest(world.notebooks[n % len(world.notebooks)]) for n in range(setting.runs))
    async with (
        world.client(setting.limiter()) as client,
        client.run_many(requests, max_in_flight=setting.runs) as batch,
    ):
        async for result in batch:
            if result.run is not None:
                told.note(result.run.run_id, world.now(), succeeded=result.ok)
    return told


async def _measured(setting: Setting, way: Way, world: World) -> Measured:
    return measure(setting, await way(world, setting), await world.account())


def _in_real_time(setting: Setting, way: Way) -> Measured:
    return in_process(setting, functools.partial(_measured, setting, way))


def _in_virtual_time(setting: Setting, way: Way, seeds: Sequence[int]) -> Measured:
    settings = [attrs.evolve(setting, seed=seed) for seed in seeds]
    return average([in_memory(one, functools.partial(_measured, one, way)) for one in settings])


def run_ours(case: Case, seeds: Sequence[int]) -> tuple[Measured, list[Figure]]:
    """Our client's figures in virtual time, over several seeds."""
    measured = _in_virtual_time(case.setting, ours, seeds)
    return measured, [bound.of(measured) for bound in case.bounds]


def run_case(case: Case, *, seeds: Sequence[int] | None, baselines: bool = True) -> Report:
    """One case, each way on a service of its own with the same settings; with ``seeds`` in virtual time."""
    ways: dict[str, Way] = {OURS: ours}
    if baselines:
        ways |= {polling.name: polling for polling in BASELINES}
    found: dict[str, Measured] = {}
    for name, way in ways.items():
        setting = case.setting
        found[name] = _in_real_time(setting, way) if seeds is None else _in_virtual_time(setting, way, seeds)
    when = "in real time" if seeds is None else f"in virtual time, mean of {len(seeds)} seeds"
    return Report(
        title=f"{case.setting.title}; {when}",
        columns=COLUMNS,
        rows={name: attrs.asdict(measured) for name, measured in found.items()},
        figures=[bound.of(found[OURS]) for bound in case.bounds],
        notes=HOW,
    )
