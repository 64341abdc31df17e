"""``deepnote-async me``"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .common import Common, epilog, with_common
from .progress import noticed
from .render import jsonable, print_json, print_record

__all__ = ["me"]


async def _me(common: Common) -> None:
    """Who the API key belongs to, and what they may do."""
    async with common.client() as client, noticed(common, "asking who you are"):
        found = jsonable(await client.me())
    if common.json:
        print_json(found)
        return
    flat = {f"{part} {name}": value for part in ("user", "workspace", "api_key") for name, value in found[part].items()}
    print_record(flat | {"access_level": found["access_level"]})


me: Callable[..., Any] = with_common(_me)
me.__dict__["epilog"] = epilog("deepnote-async me")
