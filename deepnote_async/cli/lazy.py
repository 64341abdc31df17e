"""A group that lists its commands from a table and loads the module of the one that is named."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LazyGroup", "Place", "loaded"]

# rich's help takes twice as long to load as the rest, and locals in a pretty traceback could show the API key.
PLAIN: Final[Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}


class Place(NamedTuple):
    """Where a command is: a module of this package, the name in it, and the line that lists it."""

    module: str
    name: str
    help: str


class LazyGroup(TyperGroup):
    """Commands of :attr:`places`; subclass it to say which."""

    places: ClassVar[Mapping[str, Place]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands.update(
            {name: TyperCommand(name, help=place.help, rich_markup_mode=None) for name, place in self.places.items()}
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is to be run, or to complete its words, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        place = self.places.get(name or "")
        return name, command if place is None else loaded(name or "", place), rest


def loaded(name: str, place: Place) -> Any:
    """The command at a place: a ``typer.Typer`` there, or a function."""
    found: typer.Typer | Callable[..., Any] = getattr(import_module(f".{place.module}", __package__), place.name)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(**PLAIN)
        found.command(name, epilog=getattr(function, "epilog", None))(function)
    command: Any = typer.main.get_command(found)
    command.name = name
    return command
