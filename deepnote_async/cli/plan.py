"""``deepnote-async plan``: what a batch will take, before anything is started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Common, epilog, with_common
from .progress import shown
from .render import print_json, seconds

if TYPE_CHECKING:
    from .advice import Advice
    from .forecast import Forecast, Plan

__all__ = ["plan"]


def _plan(
    common: Common,
    runs: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many runs to start.")] = 500,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Requests a second that the service lets in (default: 5).")
    ] = None,
    burst: Annotated[
        float | None, typer.Option(min=1, help="Requests it lets in at once after a rest (default: a second's worth).")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="In place of --rate: requests it lets in each 60 s.")
    ] = None,
    median: Annotated[float, typer.Option(min=0.001, help="Half of the runs take less, in seconds.")] = 60.0,
    sigma: Annotated[float, typer.Option(min=0, max=3, help="Spread of the logarithm of the lengths.")] = 0.8,
    notebooks: Annotated[int, typer.Option(min=1, help="How many notebooks the runs are spread over.")] = 1,
    failures: Annotated[float, typer.Option(min=0, max=1, help="Share of the runs that fail.")] = 0.0,
    max_in_flight: Annotated[
        int | None, typer.Option(min=1, help="As in run_many, whose own is 100 (default: as many as there are runs).")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0.001, help="As in PollPolicy: higher looks less often.")] = None,
    told: Annotated[bool, typer.Option("--told", help="The client is told the limit and need not find it.")] = False,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="The outputs of every run are fetched, too.")] = False,
    latency: Annotated[float, typer.Option(min=0, help="Of an answer, in seconds.")] = 0.2,
    seed: Annotated[int, typer.Option(help="The same gives the same forecast, another draws other lengths.")] = 1,
) -> Coroutine[Any, Any, None]:
    """Forecast how long a batch takes, what it costs in requests and how soon ends are known.

    The client itself runs it, in virtual time and against a model of the service.
    Nothing is started, and neither key nor network is needed. Lengths are lognormal.
    Ten thousand runs take about ten seconds.
    """
    from ..settings import PollPolicy
    from .forecast import Plan

    _check(rate, burst, window, notebooks, runs)
    asked = Plan(
        runs=runs,
        rate=5.0 if rate is None else rate,
        burst=burst,
        window=window,
        told=told,
        median=median,
        sigma=sigma,
        failures=failures,
        notebooks=notebooks,
        max_in_flight=max_in_flight,
        snapshot=snapshot,
        latency=latency,
        seed=seed,
        poll=PollPolicy(price=price),
    )
    return _print_forecast(common, asked)


async def _print_forecast(common: Common, asked: Plan) -> None:
    from .advice import advise

    seen = await _forecast(common, asked)
    advice = advise(asked, seen)
    if common.json:
        print_json(_as_json(asked, seen, advice))
    else:
        typer.echo("\n".join(_lines(asked, seen, advice)))


async def _forecast(common: Common, asked: Plan) -> Forecast:
    """The forecast, made in a thread, for it has an event loop of its own."""
    from .forecast import forecast

    known, at, left = 0, 0.0, False

    def hear(count: int, when: float) -> None:
        nonlocal known, at
        if left:
            raise InterruptedError  # nobody waits for it any more
        known, at = count, when

    def told() -> str:
        return f"{known:,} of {asked.runs:,} runs known after {seconds(at)} of the batch"

    async with shown(common, told, lambda: known / asked.runs):
        try:
            return await asyncio.to_thread(forecast, asked, hear)
        finally:
            left = True


def _check(rate: float | None, burst: float | None, window: int | None, notebooks: int, runs: int) -> None:
    if window is not None and (rate is not None or burst is not None):
        raise typer.BadParameter("a service has one limit: give --window, or --rate and --burst", param_hint="--window")
    if notebooks > runs:
        raise typer.BadParameter(f"there are {runs} runs for {notebooks} notebooks", param_hint="--notebooks")


def _limit(plan: Plan) -> str:
    known = "told" if plan.told else "not told"
    if plan.window is not None:
        return f"{plan.window:g} requests each 60 s, {known}"
    return f"{plan.rate:g} requests/s (burst {plan.allowed_at_once:g}), {known}"


def _lines(plan: Plan, seen: Forecast, advice: Advice) -> list[str]:
    many = f"{plan.notebooks:,} notebooks" if plan.notebooks > 1 else "1 notebook"
    rows = {
        "duration": f"{seconds(seen.seconds)}, of which starting {seconds(seen.starting)}",
        "requests": f"{seen.requests:,}: {seen.starts:,} starts, {seen.pages:,} pages, {seen.single_reads:,} single "
        f"reads, {seen.throttled:,} throttled",
        "requests a run": f"{seen.requests_per_run:.2f}",
        "delay, end to known": f"mean {seconds(seen.delay_mean)}, median {seconds(seen.delay_median)}, "
        f"95th {seconds(seen.delay_late)}, worst {seconds(seen.delay_worst)}",
        "in flight": _room(plan, seen),
        "failed": f"{seen.failed:,}",
        "unaccounted": f"{seen.unaccounted:,}",
        "what binds": advice.why,
        "cheapest change": advice.change,
    }
    if not seen.failed and not plan.failures:
        del rows["failed"]
    if not seen.unaccounted:
        del rows["unaccounted"]
    if advice.options is not None:
        rows["to see it"] = f"the same with {advice.options}"
    median, mean, longest = map(seconds, (plan.median, seen.length_mean, seen.length_longest))
    return [
        f"{plan.runs:,} {'runs' if plan.runs > 1 else 'run'} of {many}, limit: {_limit(plan)}",
        f"lengths: median {median}, mean {mean}, longest {longest}",
        "",
        *(f"{name:<20} {text}" for name, text in rows.items()),
    ]


def _room(plan: Plan, seen: Forecast) -> str:
    from .forecast import USUAL_ROOM

    most = f"{seen.in_flight_most:,} at most"
    if plan.max_in_flight is not None:
        return f"{most}, max_in_flight={plan.max_in_flight}"
    usual = seen.with_usual_room
    if usual is None:
        return f"{most}: run_many's own max_in_flight={USUAL_ROOM} is enough"
    return f"{most}, with max_in_flight={seen.in_flight_most}; run_many's own {USUAL_ROOM} takes about {seconds(usual)}"


def _as_json(plan: Plan, seen: Forecast, advice: Advice) -> dict[str, Any]:
    import attrs

    from .forecast import as_json

    figures: dict[str, Any] = attrs.asdict(seen)
    figures["requests"] = seen.requests
    figures["requests_per_run"] = seen.requests_per_run
    return {"plan": as_json(plan), "forecast": figures, "advice": attrs.asdict(advice)}


plan: Callable[..., Any] = with_common(_plan)
plan.__dict__["epilog"] = epilog("deepnote-async plan --runs 10000 --rate 5 --median 60 --sigma 0.8")
