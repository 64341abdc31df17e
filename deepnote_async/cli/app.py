"""The commands of ``deepnote-async``."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer
from rich.console import Console

from .. import __version__
from ..errors import DeepnoteError
from .board import Board
from .demo import RealService, on_embedded_service, on_real_service
from .doctor import doctor
from .ledger import app as ledger
from .plan import plan
from .tally import Tally

__all__ = ["app"]

# Locals in a traceback could show the API key.
app: typer.Typer = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(ledger, name="ledger")
app.command()(plan)
app.command()(doctor)

LEFT: Final = 130  # the exit status of a program that Ctrl-C has ended


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run Deepnote notebooks by the hundred and await them all."""


@app.command()
def demo(
    runs: Annotated[int, typer.Option(min=1, help="How many runs to start.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the embedded service: the lengths of its runs.")] = 1,
    compare: Annotated[bool, typer.Option("--compare", help="Show the naive way beside ours.")] = False,
    base_url: Annotated[
        str | None, typer.Option(help="The real service [default: DEEPNOTE_BASE_URL or https://api.deepnote.com].")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="DEEPNOTE_TOKEN", help="API key for the real service.", show_default=False)
    ] = None,
    notebook: Annotated[str | None, typer.Option(help="Run this notebook on the real service.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before starting real runs.")] = False,
) -> None:
    """Start many runs of one notebook, await them all and show what came of them.

    Without --notebook the runs go to an embedded service and cost nothing.
    """
    board = Board(Console())
    if notebook is None:
        if base_url is not None:
            raise typer.BadParameter("name the notebook to run there with --notebook", param_hint="--base-url")
        work = on_embedded_service(board, runs=runs, seed=seed, compare=compare)
    else:
        if compare:
            raise typer.BadParameter("the naive way is shown on the embedded service only", param_hint="--compare")
        if not yes:
            typer.confirm(
                f"This starts {runs} real runs of notebook {notebook}, which cost machine time. Go on?", abort=True
            )
        work = on_real_service(board, RealService(notebook, token, base_url), runs=runs)
    try:
        ways = asyncio.run(work)
    except KeyboardInterrupt:
        board.say("Left; runs that were started go on.")
        raise typer.Exit(LEFT) from None
    except DeepnoteError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
    _report(board, ways)
    raise typer.Exit(0 if ways[0].succeeded == runs else 1)


def _report(board: Board, ways: list[Tally]) -> None:
    board.say("")
    board.results(ways)
    for tally in ways:
        if tally.reasons:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons.items()))
            board.say(f"\n{tally.name} gave up {tally.abandoned} of {tally.wanted} runs: {reasons}.")
