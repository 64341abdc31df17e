"""What holds a batch up, and the cheapest thing to change about it. Arithmetic over a forecast, marked as such."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from .forecast import Forecast, Plan
from .render import seconds

__all__ = ["Advice", "Binding", "advise"]

Binding = Literal["rate", "in flight", "lengths", "search", "connections"]
WELL_USED: Final = 0.8  # of the limit: from there on it is what holds starts back
DEARER: Final = 4.0  # the price proposed, of the present one
LOOKS_THEN: Final = DEARER ** (-2 / 3)  # of the looks: the interval goes with the price to the power of 2/3
USUAL_PRICE: Final = 11.0  # what `PollPolicy(price=None)` comes to at its usual `initial`
FEW_LOOKS: Final = 0.3  # a run, under which dearer looks gain nothing worth having


@attrs.frozen
class Advice:
    """``binds`` is what the duration hangs on; ``options`` are those of ``plan`` that show the change, if any can."""

    binds: Binding
    why: str
    change: str
    options: str | None = None


def advise(plan: Plan, seen: Forecast) -> Advice:
    """What binds, and the cheapest thing to change."""
    if seen.starting < seen.seconds / 2:
        return _lengths(plan, seen)
    if seen.full > 0.5 and plan.room < plan.runs:
        return _in_flight(plan, seen)
    if seen.used >= WELL_USED:
        return _rate(plan, seen)
    if not plan.told:
        why = f"the search for the limit: while runs are started {seen.used:.0%} of it is used"
        return Advice("search", why, f"tell the client: rate_limiter=TokenBucket({plan.pace:g})", "--told")
    why = f"the connections: {seen.used:.0%} of the limit is used, each request takes {plan.latency:g} s"
    return Advice("connections", why, "more of them: DeepnoteClient(max_connections=...)")


def _lengths(plan: Plan, seen: Forecast) -> Advice:
    why = (
        f"the runs' own length: starting takes {seconds(seen.starting)} of {seconds(seen.seconds)}, "
        f"the longest run {seconds(seen.length_longest)}"
    )
    if plan.runs == 1:
        return Advice("lengths", why, "nothing but a quicker notebook")
    return Advice("lengths", why, "put the requests with the longest runs first; no limit or option gains more")


def _in_flight(plan: Plan, seen: Forecast) -> Advice:
    # What the limit could start in a run's length, by Little's law.
    wanted = plan.pace / seen.requests_per_run * (seen.length_mean + seen.delay_mean)
    room = min(_round_up(1.2 * wanted), plan.runs)
    why = f"the room: {seen.full:.0%} of the starting time hardly any of max_in_flight={plan.room} was free"
    if room <= plan.room:
        return Advice("in flight", why, "nothing: the limit lets in no more than that")
    return Advice("in flight", why, f"run_many(..., max_in_flight={room})", f"--max-in-flight {room}")


def _rate(plan: Plan, seen: Forecast) -> Advice:
    why = f"the limit: while runs are started {seen.used:.0%} of it is used"
    least = plan.runs / plan.pace
    looks = seen.looks_per_run
    if looks <= FEW_LOOKS or plan.snapshot:
        change = f"a higher limit, nothing else: the starts by themselves take {seconds(least)}"
        return Advice("rate", why, change)
    price = DEARER * (plan.poll.price or USUAL_PRICE * plan.poll.initial)
    saved = seen.starting * looks * (1 - LOOKS_THEN) / (1 + looks)
    change = (
        f"fewer looks, at the price of later news: poll=PollPolicy(price={price:g}) saves about {seconds(saved)}; "
        f"below {seconds(least)} only a higher limit leads"
    )
    return Advice("rate", why, change, f"--price {price:g}")


def _round_up(value: float) -> int:
    step = 10 if value < 200 else 50
    return int(-(-value // step) * step)
