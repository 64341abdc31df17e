"""A batch forecast: the client itself, in virtual time, against the model of the service. Nothing real is asked."""

from __future__ import annotations

import asyncio
import heapq
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from ..client import DeepnoteClient
from ..ratelimit import TokenBucket
from ..run_request import RunRequest
from ..settings import PollPolicy
from ..testing.limiter import FixedWindow, SlidingLimit
from ..testing.memory import MemoryTransport, virtual_service
from ..testing.virtual import run_virtual

if TYPE_CHECKING:
    from ..testing.limiter import Limit
    from ..testing.model import Service

__all__ = ["USUAL_ROOM", "WINDOW", "Forecast", "Plan", "Progress", "forecast"]

WINDOW: Final = 60.0  # s, the live service's
USUAL_ROOM: Final = 100  # run_many's own max_in_flight
CROWDED: Final = 0.9  # of the room taken
Progress = Callable[[int, float], None]


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be forecast; times in seconds.

    ``rate`` (requests a second, ``burst`` at once after a rest) or ``window`` (requests each 60 s) is the limit of the
    service, which the client has to find unless it is ``told``. ``max_in_flight`` None binds nothing.
    """

    runs: int
    rate: float = 5.0
    burst: float | None = None
    window: int | None = None
    told: bool = False
    median: float = 60.0
    sigma: float = 0.8
    failures: float = 0.0
    notebooks: int = 1
    max_in_flight: int | None = None
    snapshot: bool = False
    latency: float = 0.2
    seed: int = 1
    poll: PollPolicy = PollPolicy()

    @property
    def pace(self) -> float:
        """Requests a second that the limit allows in the long run."""
        return self.rate if self.window is None else self.window / WINDOW

    @property
    def room(self) -> int:
        """How many runs may be under way at once."""
        return self.runs if self.max_in_flight is None else min(self.max_in_flight, self.runs)

    @property
    def allowed_at_once(self) -> float:
        """Requests that the limit lets in at once after a rest."""
        return self.burst if self.burst is not None else max(1.0, self.rate)

    def limit(self) -> Limit:
        """The limit itself, as the service keeps it."""
        if self.window is not None:
            return FixedWindow(self.window, WINDOW)
        return SlidingLimit(self.rate, self.allowed_at_once)

    def limiter(self) -> TokenBucket | None:
        """What the client is given; None lets it search."""
        return TokenBucket(self.pace) if self.told else None


@attrs.frozen(kw_only=True)
class Forecast:
    """What a batch comes to; times in seconds, of the service's clock.

    ``starting`` is from the first start that was accepted to the last. Delays are from a run's end to its being
    known; a run is in flight from its start until then. ``used`` is the share of the limit used while starting,
    ``full`` the share of that time in which hardly any room was left under ``max_in_flight``. ``with_usual_room`` is
    about what it takes with ``run_many``'s own ``max_in_flight``, None where another was asked for or it binds nothing.
    """

    runs: int
    failed: int
    unaccounted: int
    seconds: float
    starting: float
    starts: int
    pages: int
    single_reads: int
    throttled: int
    delay_mean: float
    delay_median: float
    delay_late: float
    delay_worst: float
    length_mean: float
    length_longest: float
    in_flight_most: int
    used: float
    full: float
    with_usual_room: float | None

    @property
    def requests(self) -> int:
        """All requests, throttled ones included."""
        return self.starts + self.pages + self.single_reads + self.throttled

    @property
    def requests_per_run(self) -> float:
        """Requests spent on each run, its start included."""
        return self.requests / self.runs

    @property
    def looks_per_run(self) -> float:
        """Reads spent on each run."""
        return (self.pages + self.single_reads) / self.runs


def forecast(plan: Plan, progress: Progress | None = None) -> Forecast:
    """Forecast a batch; ``progress(known, seconds)`` hears of every run whose end is known.

    Not for use within a running event loop. Ten thousand runs cost about ten seconds of CPU.
    """
    return run_virtual(_live(plan, progress or (lambda _known, _seconds: None)))


async def _live(plan: Plan, progress: Progress) -> Forecast:
    service = virtual_service(
        median=plan.median, sigma=plan.sigma, failures=plan.failures, seed=plan.seed, limit=plan.limit()
    )
    notebooks = [service.add_notebook().id for _ in range(plan.notebooks)]
    requests = (RunRequest(notebooks[n % plan.notebooks]) for n in range(plan.runs))
    known: dict[str, float] = {}
    failed = 0
    began = service.clock()
    async with (
        DeepnoteClient(
            service.token,
            transport=MemoryTransport(service, latency=plan.latency),
            rate_limiter=plan.limiter(),
            poll=plan.poll,
        ) as client,
        client.run_many(requests, max_in_flight=plan.room, snapshot="inline" if plan.snapshot else None) as batch,
    ):
        # Its jitter, too: the same plan gives the same forecast.
        client._session.core.rng.seed(plan.seed)  # noqa: SLF001 - no user has a use for it
        async for result in batch:
            if result.run is not None:
                known[result.run.run_id] = service.clock()
                failed += not result.ok
            progress(len(known), service.clock() - began)
        seconds = asyncio.get_running_loop().time()
    return account(plan, service, known, seconds=seconds, failed=failed)


def account(plan: Plan, service: Service, known: dict[str, float], *, seconds: float, failed: int) -> Forecast:
    """What the service saw, held against when each run's end was known; ``service`` may have lived in any time."""
    calls = service.calls
    accepted = [call.time for call in calls if call.method == "POST" and call.status == 202]
    first, last = accepted[0], accepted[-1]
    let_in = [call for call in calls if call.status != 429]
    pages = sum(call.method == "GET" and call.path.startswith("/v2/notebooks/") for call in let_in)
    ends = [(service.runs[run_id], when) for run_id, when in known.items()]
    delays = sorted(max(when - run.ends_at, 0.0) for run, when in ends)
    lengths = [run.ends_at - run.created_at for run in service.runs.values()]
    most, full = _in_flight([(run.created_at, when) for run, when in ends], plan.room, last)
    delay = statistics.fmean(delays)
    spacing = (last - first) / plan.runs
    while_starting = sum(first <= call.time < last for call in let_in)
    return Forecast(
        runs=plan.runs,
        failed=failed,
        unaccounted=plan.runs - len(known),
        seconds=seconds,
        starting=last - first,
        starts=len(accepted),
        pages=pages,
        single_reads=len(let_in) - len(accepted) - pages,
        throttled=len(calls) - len(let_in),
        delay_mean=delay,
        delay_median=percentile(delays, 0.5),
        delay_late=percentile(delays, 0.95),
        delay_worst=delays[-1],
        length_mean=statistics.fmean(lengths),
        length_longest=max(lengths),
        in_flight_most=most,
        used=while_starting / (plan.pace * (last - first)) if last > first else 1.0,
        full=full,
        with_usual_room=_with_room(USUAL_ROOM, [length + delay for length in lengths], spacing)
        if plan.max_in_flight is None and most > USUAL_ROOM
        else None,
    )


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value that such a part of an ascending list stays under."""
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def _in_flight(spans: Iterable[tuple[float, float]], room: int, until: float) -> tuple[int, float]:
    """The most runs in flight, and the share of the time up to ``until`` in which the room was crowded."""
    changes = sorted(change for since, known in spans for change in ((since, 1), (known, -1)))
    begun = changes[0][0]
    going = most = 0
    crowded, before = 0.0, begun
    for when, change in changes:
        if going >= math.ceil(CROWDED * room):
            crowded += max(min(when, until) - before, 0.0)
        before = when
        going += change
        most = max(most, going)
    return most, crowded / (until - begun) if until > begun else 0.0


def _with_room(room: int, lengths: Iterable[float], spacing: float) -> float:
    """When the last of some runs ends that follow each other at ``spacing``, at most ``room`` at once."""
    now = 0.0
    going: list[float] = []
    for length in lengths:
        now += spacing
        if len(going) >= room:
            now = max(now, heapq.heappop(going))
        heapq.heappush(going, now + length)
    return max(going)


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain values; of the watching only its price, the rest being the client's own."""
    values = attrs.asdict(plan, recurse=False)
    poll: PollPolicy = values.pop("poll")
    return values | {"price": poll.price, "burst": plan.allowed_at_once if plan.window is None else None}
