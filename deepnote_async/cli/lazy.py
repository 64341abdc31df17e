"""A group that lists its commands from a table and loads the module of the one that is named."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PLAIN", "Place", "lazy_group", "loaded"]

# rich's help takes twice as long to load as the rest, and locals in a pretty traceback could show the API key.
PLAIN: Final[Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}


class Place(NamedTuple):
    """Where a command is: a module of this package, the name in it, and the line that lists it."""

    module: str
    name: str
    help: str


def lazy_group(places: Mapping[str, Place]) -> type[Any]:
    """The class of a group with these commands: a ``typer.Typer(cls=...)``."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for name, place in places.items():
                self.commands[name] = TyperCommand(name, help=place.help, rich_markup_mode=None)

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            """Find the command that is to be run, or whose words are to be completed, and load it."""
            name, command, rest = super().resolve_command(ctx, args)
            return name, command if name is None else loaded(name, places[name]), rest

    return LazyGroup


def loaded(name: str, place: Place) -> Any:
    """The command at a place: a ``typer.Typer`` there, or a function."""
    found: typer.Typer | Callable[..., Any] = getattr(import_module(f".{place.module}", __package__), place.name)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(**PLAIN)
        found.command(name, epilog=getattr(function, "epilog", None))(function)
    command: Any = typer.main.get_command(found)
    command.name = name
    return command
