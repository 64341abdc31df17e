"""Answers of the model, and what faults make of them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .faults import Break, Fault

__all__ = ["RefusedError", "Reply", "distort", "json_reply", "refusal"]


@attrs.define(eq=False)
class Reply:
    """An answer, or what happens in its place: ``breaks`` says how the connection ends, ``delay`` is real seconds."""

    status: int
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    breaks: Break | None = None
    delay: float = 0.0


class RefusedError(Exception):
    """An error status with its message, raised anywhere within an operation."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers: Mapping[str, str] = headers or {}


def json_reply(status: int, body: Any) -> Reply:
    """An answer with a JSON body; None is no body at all."""
    if body is None:
        return Reply(status)
    text = json.dumps(body, separators=(",", ":")).encode()
    return Reply(status, {"Content-Type": "application/json; charset=utf-8"}, text)


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error answer."""
    reply = json_reply(status, {"message": message})
    reply.headers |= headers or {}
    return reply


def distort(fault: Fault, reply: Reply) -> Reply:
    """What a client meets in place of ``reply`` under ``fault``."""
    if fault.kind == "html":
        return _page(200)
    if fault.kind in {"error_before", "error_after"}:
        reply = _page(fault.status) if fault.html else refusal(fault.status, _phrase(fault.status))
        reply.headers |= fault.headers
        return reply
    reply.breaks = fault.breaks
    reply.delay = fault.seconds if fault.kind == "delay" else 0.0
    return reply


def _page(status: int) -> Reply:
    text = (
        f"<!DOCTYPE html>\n<html><head><title>{status}</title></head><body><h1>{_phrase(status)}</h1></body></html>\n"
    )
    return Reply(status, {"Content-Type": "text/html; charset=utf-8"}, text.encode())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
