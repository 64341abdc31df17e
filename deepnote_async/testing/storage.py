"""The storage origin: pre-signed links to snapshots, which need no token and must get none."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import attrs

from .faults import pick
from .record import StorageCall
from .replies import Reply, distort
from .snapshots import document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import Service

__all__ = ["Storage"]


@attrs.define(eq=False)
class Storage:
    """Serves the snapshots of a service under ``url``, an origin of its own.

    A link expires ``ttl`` seconds (service time) after it was made. ``calls`` keeps the headers of every request, so
    that a test can show that no Authorization came here.
    """

    url: str
    ttl: float
    key: bytes = attrs.field(repr=False)
    calls: list[StorageCall] = attrs.field(factory=list, init=False)

    def link(self, run_id: str, now: float) -> str:
        """A fresh link to the snapshot of a run."""
        expires = f"{now + self.ttl:.3f}"
        return f"{self.url}/snapshots/{run_id}?X-Expires={expires}&X-Signature={self._sign(run_id, expires)}"

    def _sign(self, run_id: str, expires: str) -> str:
        return hmac.new(self.key, f"{run_id}|{expires}".encode(), hashlib.sha256).hexdigest()

    def handle(self, service: Service, method: str, raw_path: str, query: str, headers: Mapping[str, str]) -> Reply:
        """Answer one request; the faults of the service hit here too, its limit does not."""
        now = service.clock()
        fault = pick(service.faults, method, raw_path, service.chance)
        reply = self._serve(service, raw_path, query, now) if fault is None or fault.takes_effect else Reply(200)
        if fault is not None:
            reply = distort(fault, reply)
        self.calls.append(StorageCall(now, raw_path, dict(headers), reply.status))
        return reply

    def _serve(self, service: Service, raw_path: str, query: str, now: float) -> Reply:
        given = dict(parse_qsl(query))
        run = service.runs.get(raw_path.removeprefix("/snapshots/"))
        if run is None or run.snapshot_status(now) != "available":
            return _refused(404, "NoSuchKey", "The key does not exist.")
        expires = given.get("X-Expires", "")
        if not hmac.compare_digest(given.get("X-Signature", "").encode(), self._sign(run.id, expires).encode()):
            return _refused(403, "SignatureDoesNotMatch", "The signature does not match.")
        if now >= float(expires):
            return _refused(403, "AccessDenied", "Request has expired.")
        text = document(service.notebooks.get(run.notebook_id), run)
        return Reply(200, {"Content-Type": "application/x-yaml"}, text.encode())


def _refused(status: int, code: str, message: str) -> Reply:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>\n'
    return Reply(status, {"Content-Type": "application/xml"}, text.encode())
