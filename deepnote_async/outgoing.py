"""What a request says: its path, its query and its body."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from .errors import InvalidRequestError

__all__ = ["dump", "is_segment", "page_query", "query_string", "required_text", "segment"]

_json: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def dump(value: Any) -> bytes:
    """JSON for a request's body; raises :class:`InvalidRequestError` for what JSON cannot say."""
    try:
        return _json.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"this cannot be written as JSON: {error}") from None


def required_text(value: object, name: str) -> str:
    """The text itself; raises :class:`InvalidRequestError` for anything else."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is text, not {value!r}")
    return value


def segment(value: object, name: str) -> str:
    """An opaque id as one segment of a path, percent-encoded; raises :class:`InvalidRequestError` where it cannot be.

    Empty, ``.`` and ``..`` would lead to another path, so they are refused.
    """
    text = value if isinstance(value, str) else str(value) if isinstance(value, uuid.UUID) else ""
    # Nearly all ids are letters, digits and hyphens, and urllib takes five calls to find that these stay as they are.
    if text.isascii() and text.replace("-", "").isalnum():
        return text
    if not is_segment(text):
        raise InvalidRequestError(f"{name} is the id as text, not {value!r}")
    return quote(text, safe="")


def is_segment(text: str) -> bool:
    """Whether a text can be one segment of a path: not empty, ``.`` or ``..``, and without lone surrogates."""
    if text in {"", ".", ".."}:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def query_string(params: Mapping[str, Any] | None) -> str:
    """Parameters as a query, those that are None left out."""
    pairs = [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in (params or {}).items()
        for item in (value if isinstance(value, list | tuple) else [value])
        if item is not None
    ]
    try:
        return urlencode(pairs, quote_via=quote, safe="")
    except UnicodeEncodeError:
        raise InvalidRequestError("a parameter holds a lone surrogate, which no URL can carry") from None


def page_query(page_size: int | None, page_token: str | None, **filters: str | None) -> str:
    """The query of one page; raises :class:`InvalidRequestError` for a page size outside 1 to 100."""
    if page_size is not None and (type(page_size) is not int or not 1 <= page_size <= 100):
        raise InvalidRequestError(f"page_size is a whole number from 1 to 100, not {page_size!r}")
    return query_string({**filters, "pageSize": page_size, "pageToken": page_token})
