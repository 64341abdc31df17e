"""The commands of ``deepnote-async``: their table, and the one place where the program ends."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from .. import __version__
from ..errors import DeepnoteError
from .common import root
from .exits import FAILED, LEFT, OK, PROGRAM, USAGE, hushed, say, silence, tell
from .lazy import PLAIN, Place, lazy_group

__all__ = ["PLACES", "app", "run"]


# In the order in which --help lists them.
PLACES: Final[Mapping[str, Place]] = {
    "me": Place("me", "me", "Who the API key belongs to."),
    "projects": Place("projects", "app", "Projects: list, create, get, delete."),
    "notebooks": Place("notebooks", "app", "Notebooks: create, get, delete, runs, inputs."),
    "runs": Place("runs", "app", "Runs: start, get, wait, outputs, download."),
    "run": Place("run", "run", "Run a notebook, wait for it and print its outputs."),
    "run-many": Place("run_many", "run_many", "Run a notebook for every row of a file or a grid."),
    "plan": Place("plan", "plan", "Forecast how long a batch takes, and its requests."),
    "ledger": Place("ledger", "app", "Look into a batch's ledger."),
    "doctor": Place("doctor", "doctor", "Compare a service with what the client expects."),
    "demo": Place("demo", "demo", "Hundreds of runs, on an embedded service."),
    "fake-server": Place("fake_server", "fake_server", "A model of the service on this machine, to try things on."),
}
app: typer.Typer = typer.Typer(cls=lazy_group(PLACES), no_args_is_help=True, **PLAIN | {"add_completion": True})


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(
    epilog=f"\b\nExample:\n  {PROGRAM} run NOTEBOOK -i region=EU --timeout 600\n\n"
    "\b\nExit status: 0 well, 1 a run failed, 2 wrong usage, 3 the API, 4 timed out,\n"
    "  5 a file or the output could not be written, 130 Ctrl-C, 141 nobody read the output"
)
@root
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run Deepnote notebooks, one or hundreds, and await them. The options stand before or after the command."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status; every error ends here, in one line."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    _opened()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # outputs may hold what no encoding has, as half a surrogate
    status = _run(arguments, debug)
    try:
        sys.stdout.flush()  # else the interpreter does it, and tells of what goes wrong in its own words
    except BrokenPipeError:
        return hushed()
    except OSError as error:
        told = status or tell(error, debug=debug)
        silence()
        return told
    return status


def _opened() -> None:
    """Put something in the place of streams that the shell has closed (``>&-``): programs expect the three of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _run(arguments: list[str], debug: bool) -> int:
    try:
        status = typer.main.get_command(app).main(arguments, PROGRAM, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt) as error:
        return _left(error)
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):  # typer's own way with a reader who has gone
            raise
        return hushed()
    except (DeepnoteError, OSError) as error:
        return tell(error, debug=debug)
    except Exception as error:
        if hasattr(error, "format_message"):
            return _misused(error)
        if debug:
            raise
        say(f"{PROGRAM}: error: {type(error).__name__}: {error} (a fault of the program: --debug shows where)")
        return FAILED
    return status if isinstance(status, int) else OK


def _left(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return LEFT
    say("Aborted.")
    return FAILED


def _misused(error: Any) -> int:
    """Say what is wrong with the words typed; they come from typer, whose class for them is its own secret."""
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        say(context.get_help())
        return USAGE
    path = PROGRAM if context is None else context.command_path
    say(f"{PROGRAM}: error: {' '.join(error.format_message().split())} (see {path} --help)")
    return USAGE
