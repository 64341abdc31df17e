"""``deepnote-async fake-server``"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from .common import Common, epilog, with_common
from .exits import say
from .render import print_json, print_record

__all__ = ["fake_server"]


async def _fake_server(
    common: Common,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes any that is free.")] = 0,
    notebooks: Annotated[int, typer.Option(min=0, help="How many to begin with.")] = 1,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Requests a second let in.  [default: any]")] = None,
    burst: Annotated[float, typer.Option(min=1, help="Requests let in at once after a pause.")] = 5.0,
    time_scale: Annotated[float, typer.Option(min=0.01, help="How many times faster than real time.")] = 1.0,
    median: Annotated[float, typer.Option(min=0, help="Length of half of the runs, s of its time.")] = 60.0,
    failures: Annotated[float, typer.Option(min=0, max=1, help="Share of runs that fail.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 0,
    dialect: Annotated[Literal["live", "reference"], typer.Option(help="Which form of the API.")] = "live",
    api_key: Annotated[str | None, typer.Option(help="The key to let in.  [default: one made from the seed]")] = None,
) -> None:
    """Serve a model of the Deepnote API on this machine until Ctrl-C: nothing leaves it, nothing costs anything."""
    from ..testing import FakeDeepnote, Input, SlidingLimit

    fake = FakeDeepnote(
        port=port,
        notebooks=[f"notebook-{number}" for number in range(1, notebooks + 1)],
        limit=None if rate is None else SlidingLimit(rate, burst),
        time_scale=time_scale,
        failures=failures,
        seed=seed,
        dialect=dialect,
        token=api_key,
        median=median,
    )
    if notebooks:
        # Of the others any input is taken.
        fake.notebook("notebook-1").inputs = [
            Input("region", "input-select", "EU", options=["EU", "US", "APAC"]),
            Input("year", value="2026"),
            Input("verbose", "input-checkbox", value=False),
        ]
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows has no handlers in the loop
            loop.add_signal_handler(name, told.set)
    async with fake:
        _say_ready(common, fake.url, fake.token, list(fake.service.notebooks))
        await told.wait()
        for name in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_IGN)  # it is ending already
    if not common.quiet:
        say(f"Ended after {len(fake.calls)} requests.")


def _say_ready(common: Common, url: str, token: str, notebooks: list[str]) -> None:
    record = {"url": url, "token": token, "notebooks": notebooks}
    if common.json:
        print_json(record)
        return
    print_record({"url": url, "token": token} | {f"notebook {n}": name for n, name in enumerate(notebooks, 1)})
    typer.echo(f"\nexport DEEPNOTE_BASE_URL={url} DEEPNOTE_TOKEN={token}")


fake_server: Callable[..., Any] = with_common(_fake_server)
fake_server.__dict__["epilog"] = epilog("deepnote-async fake-server --rate 50 --time-scale 10 --notebooks 2")
