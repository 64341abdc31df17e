"""``python -m deepnote_async.testing``: the fake service as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
from typing import get_args

from .faults import Fault, FaultKind
from .limiter import FixedWindow, Limit, SlidingLimit
from .process import serve_until_told
from .server import FakeDeepnote


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    result = argparse.ArgumentParser(prog="python -m deepnote_async.testing", description="A fake Deepnote API.")
    add = result.add_argument
    add("--port", type=int, default=0, help="port to listen on (default: any free one)")
    add("--seed", type=int, default=0, help="of all chance")
    add("--median", type=float, default=60.0, help="median run length, s of service time")
    add("--sigma", type=float, default=0.8, help="spread of the logarithm of run lengths")
    add("--failures", type=float, default=0.0, help="share of runs that end in error")
    add("--startup", type=float, default=1.0, help="how long a run is pending, s of service time")
    add("--limit-rate", type=float, help="requests per real second")
    add("--limit-burst", type=float, default=1.0, help="requests at once after a pause")
    add("--window", type=int, help="requests per window, in place of a rate")
    add("--window-seconds", type=float, default=60.0, help="length of the window, real s")
    add("--time-scale", type=float, default=1.0, help="how many times faster than real time")
    add("--snapshot-delay", type=float, default=0.0, help="from a run's end to its snapshot, s of service time")
    add("--latency", type=float, default=0.0, help="of every answer, real s")
    add("--dialect", choices=("live", "reference"), default="live")
    add("--page-tokens", choices=("cursor", "offset"), default="cursor")
    add("--order", choices=("newest", "oldest", "random"), default="newest", help="of the runs in a listing")
    add("--listing-status", type=int, help="refuse every listing of runs with this status")
    add("--faults", type=float, default=0.0, help="share of requests that go wrong, in one way or another")
    add("--token", help="the API key to let in (default: one made from the seed)")
    add("--notebooks", type=int, default=1, help="how many notebooks to begin with")
    add("--runs", type=int, default=0, help="how many runs somebody has started in each notebook before")
    add("--runs-span", type=float, default=0.0, help="over how long before now they were started, s of service time")
    return result


def limit(options: argparse.Namespace) -> Limit | None:
    """The rate limit that the options ask for."""
    if options.window is not None:
        return FixedWindow(options.window, options.window_seconds)
    return SlidingLimit(options.limit_rate, options.limit_burst) if options.limit_rate is not None else None


def faults(options: argparse.Namespace) -> list[Fault]:
    """The faults that the options ask for."""
    kinds = get_args(FaultKind) if options.faults else ()
    found = [Fault(kind, rate=options.faults / len(kinds)) for kind in kinds]
    if options.listing_status is not None:
        found.append(Fault("error_before", methods={"GET"}, path="/v2/notebooks/", status=options.listing_status))
    return found


def server(options: argparse.Namespace) -> FakeDeepnote:
    """The server that the options ask for, with its notebooks and their runs."""
    fake = FakeDeepnote(
        port=options.port,
        seed=options.seed,
        median=options.median,
        sigma=options.sigma,
        failures=options.failures,
        startup=options.startup,
        limit=limit(options),
        faults=faults(options),
        time_scale=options.time_scale,
        snapshot_delay=options.snapshot_delay,
        latency=options.latency,
        dialect=options.dialect,
        page_tokens=options.page_tokens,
        order=options.order,
        token=options.token,
        notebooks=[f"notebook-{number}" for number in range(1, options.notebooks + 1)],
    )
    for notebook in fake.service.notebooks.values():
        fake.service.add_earlier_runs(notebook, options.runs, options.runs_span)
    return fake


def main() -> None:
    """Serve until told to end."""
    asyncio.run(serve_until_told(server(parser().parse_args())))


if __name__ == "__main__":
    main()
