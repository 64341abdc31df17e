"""What all commands share: the options that may stand before or after a command's name, the client, and the running."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from .exits import LEFT, hushed

if TYPE_CHECKING:
    from ..client import DeepnoteClient
    from ..ratelimit import TokenBucket

__all__ = ["Common", "command", "root", "with_common"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Common:
    """The options that every command takes; None is what was not typed."""

    token: str | None = field(default=None, repr=False)
    base_url: str | None = None
    as_json: bool | None = None
    timeout: float | None = None
    quiet: bool | None = None
    debug: bool | None = None

    def over(self, other: Common) -> Common:
        """These options, and where one was not typed the other's."""
        typed = {each.name: getattr(self, each.name) for each in fields(self)}
        return Common(**{name: getattr(other, name) if value is None else value for name, value in typed.items()})

    @property
    def json(self) -> bool:
        """Whether to print JSON lines: as asked, else where no person reads them."""
        return self.as_json if self.as_json is not None else not sys.stdout.isatty()

    def client(self, *, waits: bool = False, limiter: TokenBucket | None = None) -> DeepnoteClient:
        """A client of these options; where the command ``waits``, its timeout is the wait's and not the call's."""
        from ..client import DeepnoteClient

        if waits or self.timeout is None:
            return DeepnoteClient(self.token, base_url=self.base_url, rate_limiter=limiter)
        return DeepnoteClient(self.token, base_url=self.base_url, rate_limiter=limiter, total_timeout=self.timeout)


TYPED: Final[dict[str, Any]] = {
    "token": Annotated[str | None, typer.Option("--token", help="API key.  [default: DEEPNOTE_TOKEN]")],
    "base_url": Annotated[
        str | None, typer.Option("--base-url", help="Where the API is.  [default: DEEPNOTE_BASE_URL, or Deepnote's]")
    ],
    "as_json": Annotated[
        bool | None,
        typer.Option("--json/--table", help="JSON lines, or tables for people.  [default: --json when piped]"),
    ],
    "timeout": Annotated[
        float | None,
        typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up after that long; runs go on."),
    ],
    "quiet": Annotated[bool | None, typer.Option("--quiet", "-q", help="No progress.", show_default=False)],
    "debug": Annotated[bool | None, typer.Option("--debug", help="Tracebacks of errors.", show_default=False)],
}


SHOWN: Final = frozenset({"timeout"})  # in the help of each command; the others in the program's own


def root(function: Callable[..., None]) -> Callable[..., None]:
    """Let the program itself take the common options, for whatever command follows."""

    @functools.wraps(function)
    def callback(context: typer.Context, **given: Any) -> None:
        context.obj = _taken(given)
        function(**given)

    return _with_parameters(callback, function, hidden=False)


def with_common(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command of a function, plain or async, that takes a :class:`Common` first and may return an exit status."""

    @functools.wraps(function)
    def run(context: typer.Context, **given: Any) -> None:
        before = context.find_root().obj
        common = _taken(given).over(before if isinstance(before, Common) else Common())
        try:
            status = function(common, **given)
            if inspect.iscoroutine(status):
                import asyncio  # not for --help

                status = asyncio.run(_flushed(status))
        except BrokenPipeError:
            status = hushed()
        except KeyboardInterrupt:
            status = LEFT
        if status:
            raise typer.Exit(status)

    return _with_parameters(run, function, hidden=True)


def command(app: typer.Typer, name: str, example: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Register a function as a command with the common options, and an example under its help."""

    def register(function: Callable[..., T]) -> Callable[..., T]:
        app.command(name, epilog=epilog(example))(with_common(function))
        return function

    return register


def epilog(example: str) -> str:
    """What stands under a command's help."""
    return f"\b\nExample:\n  {example}\n\n\b\nOptions of every command, as --json or --quiet: deepnote-async --help"


async def _flushed(work: Coroutine[Any, Any, T]) -> T:
    result = await work
    sys.stdout.flush()  # here a reader who has gone is still noticed quietly
    return result


def _taken(given: dict[str, Any]) -> Common:
    return Common(**{name: given.pop(name) for name in TYPED})


def _with_parameters(run: Callable[..., None], function: Callable[..., Any], *, hidden: bool) -> Callable[..., None]:
    """Tell typer, which reads signatures, of the function's own parameters and the common ones."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = list(inspect.signature(function, eval_str=True).parameters.values())[hidden:]
    parameters = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    parameters += [each.replace(kind=keyword) for each in own]
    parameters += [
        inspect.Parameter(name, keyword, default=None, annotation=_hidden(name, annotation) if hidden else annotation)
        for name, annotation in TYPED.items()
    ]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__dict__.update(__signature__=inspect.Signature(parameters))
    del run.__dict__["__wrapped__"]
    return run


def _hidden(name: str, annotation: Any) -> Any:
    option = copy.copy(annotation.__metadata__[0])
    option.hidden = name not in SHOWN
    return Annotated[annotation.__origin__, option]
