"""The command line, ``deepnote-async``; needs the extra ``cli``."""

from __future__ import annotations

import sys

__all__ = ["main"]

_NEEDED = {"typer", "rich", "click"}


def main() -> None:
    """The entry point."""
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write("The command line needs two more packages: pip install 'deepnote-async[cli]'\n")
        sys.exit(2)
    sys.exit(run())
