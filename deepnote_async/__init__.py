"""An asyncio client for the Deepnote API: projects, notebooks, runs, and hundreds of runs awaited at once."""

from typing import TYPE_CHECKING

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._public import *  # noqa: F403 - all of it, as `__getattr__` gives it
else:

    def __getattr__(name: str) -> object:
        # Loaded when something of it is first asked for: the command line answers --help without aiohttp and the rest.
        if name == "__all__" or not name.startswith("__"):
            from importlib import import_module

            public = import_module("._public", __name__)
            globals().update({"__all__": public.__all__} | {each: getattr(public, each) for each in public.__all__})
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from importlib import import_module

        return sorted({*globals(), *import_module("._public", __name__).__all__})
