"""How the program ends: one line that says what to do, and an exit status that says what it was."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any, Final

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
    "UNREAD",
    "UNWRITTEN",
    "USAGE",
    "hushed",
    "line_of",
    "naming",
    "say",
    "silence",
    "status_of",
    "tell",
]

PROGRAM: Final = "deepnote-async"
OK: Final = 0
FAILED: Final = 1  # a run ended otherwise than in success
USAGE: Final = 2
API: Final = 3
TIMED_OUT: Final = 4
UNWRITTEN: Final = 5  # a file or stdout, or what else the machine could not do
LEFT: Final = 130  # after Ctrl-C
UNREAD: Final = 141  # nobody reads the output any more

# What is wrong with the name of a file, and so with the words typed; anything else is wrong with the machine.
MISNAMED: Final = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EEXIST", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENOENT", "ENOTDIR", "EPERM", "EROFS")
)

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
    cause = getattr(error, "cause", None)
    if isinstance(error, NotStartedError | OutcomeUnknownError) and cause is not None:
        # Whether a start is known not to have happened or unknown: what ended it was the time allowed, or the API.
        return TIMED_OUT if getattr(cause, "out_of_time", False) else status_of(cause)
    kinds: tuple[tuple[Any, int], ...] = (
        (RunTimeoutError | RequestTimeoutError, TIMED_OUT),
        (RunFailedError, FAILED),
        (InvalidRequestError | ConfigurationError, USAGE),
        (DeepnoteError, API),
        (OSError, USAGE if getattr(error, "errno", None) in MISNAMED and _names_a_file(error) else UNWRITTEN),
    )
    return next((status for kind, status in kinds if isinstance(error, kind)), API)


def _names_a_file(error: BaseException) -> bool:
    return getattr(error, "filename", None) is not None


def line_of(error: BaseException) -> str:
    """An error and what to do about it, in one line."""
    advice = next((words for kind, words in ADVICE if isinstance(_at_root(error), kind)), "")
    if isinstance(error, RunTimeoutError) and error.run_id is not None:
        advice = f"take it up again with `{PROGRAM} runs wait {error.run_id}`"
    elif isinstance(error, OutcomeUnknownError) and error.notebook_id is not None:
        advice = f"look for it with `{PROGRAM} notebooks runs {error.notebook_id}` before starting it again"
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, DeepnoteError) and error.strerror is not None:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    parts = [advice, *getattr(error, "__notes__", ())]
    told = "; ".join(part for part in parts if part)
    return f"{text.rstrip('.')}: {told}" if told else text


def _at_root(error: BaseException) -> BaseException:
    cause = getattr(error, "cause", None)
    return cause if isinstance(error, NotStartedError) and cause is not None else error


def tell(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong, and return the exit status."""
    if debug:
        traceback.print_exception(error)
    say(f"{PROGRAM}: error: {line_of(error)}")
    return status_of(error)


@contextlib.contextmanager
def naming(run_id: str) -> Iterator[None]:
    """Let no error that comes after a start be told without the id of what was started."""
    try:
        yield
    except (DeepnoteError, OSError) as error:
        if not isinstance(error, RunTimeoutError | BrokenPipeError):  # the one names it, the other is not told
            error.add_note(f"run {run_id} was started: `{PROGRAM} runs wait {run_id}` tells of it")
        raise


def say(text: str) -> None:
    """A line for people, on stderr."""
    if "\x1b" in text and sys.stderr.isatty():
        from .render import harmless  # not for --help

        text = harmless(text)
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def hushed() -> int:
    """Write nothing more to a reader who has gone, and return the exit status of that."""
    silence()
    return UNREAD


def silence() -> None:
    """Let what is still to be written to stdout go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
