"""How the program ends: one line that says what to do, and an exit status that says what it was."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final

from ..errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DeepnoteError,
    InvalidRequestError,
    NotFoundError,
    NotStartedError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    RunFailedError,
    RunTimeoutError,
    ServerError,
    TransportError,
)

__all__ = [
    "API",
    "FAILED",
    "LEFT",
    "OK",
    "PROGRAM",
    "TIMED_OUT",
    "USAGE",
    "hushed",
    "line_of",
    "say",
    "status_of",
    "tell",
]

PROGRAM: Final = "deepnote-async"
OK: Final = 0
FAILED: Final = 1  # a run ended otherwise than in success
USAGE: Final = 2
API: Final = 3
TIMED_OUT: Final = 4
LEFT: Final = 130  # after Ctrl-C
UNREAD: Final = 141  # nobody reads the output any more

ADVICE: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (AuthenticationError, "check the key in DEEPNOTE_TOKEN or --token"),
    (PermissionDeniedError, "use a key whose owner may do this"),
    (NotFoundError, "check the id, and that the key belongs to its workspace"),
    (BadRequestError, "check the notebook's id and the inputs"),
    (RateLimitError, "wait a minute and try again"),
    (ServerError, "try again later"),
    (RequestTimeoutError, "try again, or allow more time with --timeout"),
    (TransportError, "check the network and --base-url"),
)


def status_of(error: BaseException) -> int:
    """The exit status that tells of an error."""
    if isinstance(error, RunTimeoutError | RequestTimeoutError):
        return TIMED_OUT
    if isinstance(error, NotStartedError) and error.cause is not None:
        return TIMED_OUT if getattr(error.cause, "out_of_time", False) else status_of(error.cause)
    if isinstance(error, RunFailedError):
        return FAILED
    return USAGE if isinstance(error, InvalidRequestError | ConfigurationError | OSError) else API


def line_of(error: BaseException) -> str:
    """An error and what to do about it, in one line."""
    advice = next((words for kind, words in ADVICE if isinstance(_at_root(error), kind)), "")
    if isinstance(error, RunTimeoutError) and error.run_id is not None:
        advice = f"take it up again with `{PROGRAM} runs wait {error.run_id}`"
    elif isinstance(error, OutcomeUnknownError) and error.notebook_id is not None:
        advice = f"look for it with `{PROGRAM} notebooks runs {error.notebook_id}` before starting it again"
    if isinstance(error, OSError) and not isinstance(error, DeepnoteError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text.rstrip('.')}: {advice}" if advice else text


def _at_root(error: BaseException) -> BaseException:
    cause = getattr(error, "cause", None)
    return cause if isinstance(error, NotStartedError) and cause is not None else error


def tell(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong, and return the exit status."""
    if debug:
        traceback.print_exception(error)
    say(f"{PROGRAM}: error: {line_of(error)}")
    return status_of(error)


def say(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def hushed() -> int:
    """Write nothing more to a reader who has gone, and return the exit status of that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD
