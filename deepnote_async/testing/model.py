"""The service as a state machine over a passed clock: one request in, one answer out, no I/O."""

from __future__ import annotations

import math
import random
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal, TypedDict

import attrs

from .dialects import DialectName, Live, Reference, dialect
from .faults import Fault, Outage, OutageKind, pick
from .limiter import Limit, Verdict
from .operations import OPERATIONS, Ask
from .pages import Order, Pager, TokenKind
from .record import Call, matching, token_hint
from .replies import RefusedError, Reply, distort, json_reply, refusal
from .routes import Route, find
from .storage import Storage
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Access", "AccessLevel", "Service", "ServiceOptions"]

AccessLevel = Literal["guest", "restricted_user", "viewer", "editor", "admin"]
_EDITS = {"create_project", "delete_project", "create_notebook", "delete_notebook", "create_run", "execute_v1"}
_APP_VIEWER = {"get_notebook", "create_run", "get_run"}
_NOTHING: Mapping[str, str] = {}


@attrs.define(eq=False)
class Access:
    """What a token may do. ``app_viewer`` is the short-lived token of an app: detached starts and its own runs only.

    ``limit`` counts this token's requests by themselves, in place of the service's own limit.
    """

    level: AccessLevel = "admin"
    app_viewer: bool = False
    limit: Limit | None = None

    def allows(self, operation: str) -> bool:
        """Whether the token may call an operation."""
        if self.app_viewer:
            return operation in _APP_VIEWER
        return operation not in _EDITS or self.level in {"editor", "admin"}


class ServiceOptions(TypedDict, total=False):
    """The keyword arguments of :class:`Service` apart from its clocks; its servers take the same."""

    seed: int
    median: float
    sigma: float
    failures: float
    startup: float
    snapshot_delay: float
    order: Order
    dialect: DialectName
    token: str | None
    limit: Limit | None
    faults: list[Fault]
    page_tokens: TokenKind
    token_ttl: float | None
    link_ttl: float
    tells_snapshot_status: bool
    folders: set[str] | None


@attrs.define(eq=False, kw_only=True)
class Service(World):
    """The Deepnote API as a model, to be driven by a clock and asked by :meth:`handle`.

    ``clock`` gives service time, seconds since the epoch; ``limit_clock`` what the rate limit goes by (None: the same).
    ``limit``, ``faults`` and all other options may be changed while it runs. ``token`` None makes one from the seed.
    ``page_tokens`` and ``token_ttl`` (seconds; cursors only) are the kind and the life of page tokens, ``link_ttl``
    the life of a download link. ``folders`` None takes any folder id.
    """

    limit_clock: Callable[[], float] | None = None
    dialect: DialectName = "live"
    token: str | None = attrs.field(default=None, repr=False)
    limit: Limit | None = None
    faults: list[Fault] = attrs.field(factory=list)
    page_tokens: TokenKind = "cursor"
    token_ttl: float | None = None
    link_ttl: float = 60.0
    tells_snapshot_status: bool = True
    folders: set[str] | None = None
    outages: list[Outage] = attrs.field(factory=list, init=False)
    calls: list[Call] = attrs.field(factory=list, init=False, repr=False)
    chance: random.Random = attrs.field(init=False, repr=False)
    storage: Storage = attrs.field(init=False, repr=False)
    owner: Mapping[str, str] = attrs.field(init=False, repr=False)
    tokens: dict[str, Access] = attrs.field(factory=dict, init=False, repr=False)
    _hints: dict[str, str] = attrs.field(factory=dict, init=False, repr=False)
    _date: tuple[int, str] = attrs.field(default=(-1, ""), init=False, repr=False)
    _pager: Pager = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        World.__attrs_post_init__(self)
        self.chance = random.Random(f"{self.seed}-faults")
        secrets = random.Random(f"{self.seed}-secrets")
        self._pager = Pager(key=secrets.randbytes(16))
        self.storage = Storage("https://storage.invalid", self.link_ttl, secrets.randbytes(16))
        self.owner = {name: self.new_uuid() for name in ("apiKey", "user", "workspace")}
        self.token = self.token or secrets.randbytes(20).hex()
        self.tokens[self.token] = Access()

    @property
    def speech(self) -> Live | Reference:
        """The dialect it answers in."""
        return dialect(self.dialect)

    @property
    def pager(self) -> Pager:
        """What cuts its lists into pages."""
        self._pager.kind, self._pager.ttl = self.page_tokens, self.token_ttl
        return self._pager

    def add_token(self, token: str, access: Access | None = None) -> None:
        """Let another token in."""
        self.tokens[token] = access or Access()

    def revoke_token(self, token: str) -> None:
        """Refuse a token from now on."""
        del self.tokens[token]

    def outage(self, start: float = 0.0, end: float = math.inf, kind: OutageKind = "refuse") -> Outage:
        """Serve nothing from ``start`` to ``end``, in seconds of service time from now."""
        now = self.clock()
        outage = Outage(now + start, now + end, kind)
        self.outages.append(outage)
        return outage

    def count(
        self,
        *,
        method: str | None = None,
        path_prefix: str = "",
        status: int | None = None,
        since: float | None = None,
    ) -> int:
        """How many requests came that fit all that is given."""
        return sum(1 for _ in matching(self.calls, method=method, path_prefix=path_prefix, status=status, since=since))

    def handle(
        self, method: str, raw_path: str, query: str = "", headers: Mapping[str, str] = _NOTHING, body: bytes = b""
    ) -> Reply:
        """Answer one request. ``raw_path`` and ``query`` are as received, still percent-encoded.

        ``headers`` must find ``Authorization`` under that spelling.
        """
        now = self.clock()
        self.settle(now)
        token = _bearer(headers)
        call = Call(now, method, raw_path, query, self._hint(token))
        self.calls.append(call)
        # Counted before anything else happens, so that no fault and no refusal comes for free.
        verdict = self._admit_request(token)
        reply = self._serve(call, token, body, verdict)
        reply.headers |= verdict.headers
        reply.headers["Date"] = self._date_header(now)
        call.status = reply.status if reply.breaks in {None, "truncated"} else None
        return reply

    def _admit_request(self, token: str) -> Verdict:
        access = self.tokens.get(token)
        limit = access.limit if access is not None and access.limit is not None else self.limit
        if limit is None:
            return Verdict(admitted=True)
        return limit.admit((self.limit_clock or self.clock)())

    def _serve(self, call: Call, token: str, body: bytes, verdict: Verdict) -> Reply:
        fault = next((outage.as_fault() for outage in self.outages if outage.covers(call.time)), None)
        if fault is None and not verdict.admitted:
            return refusal(429, "Too many requests")
        if fault is None and self.faults:
            fault = pick(self.faults, call.method, call.path, self.chance)
        if fault is None:
            return self._perform(call, token, body)
        call.fault = fault.kind
        effect = self._perform(call, token, body, fault.late_start) if fault.takes_effect else Reply(200)
        return distort(fault, effect)

    def _perform(self, call: Call, token: str, body: bytes, late: float = 0.0) -> Reply:
        try:
            access = self._authenticate(token)
            route = self._route(call)
            operation = route.methods[call.method]
            if not access.allows(operation):
                raise RefusedError(403, "Your role does not allow this")
            ask = Ask(route.ids, call.query, body, call.time, access, token=call.token, late=late)
            status, answer = OPERATIONS[operation](self, ask)
        except RefusedError as error:
            return refusal(error.status, error.message, error.headers)
        call.run_id = ask.run_id
        return json_reply(status, answer)

    def _authenticate(self, token: str) -> Access:
        access = self.tokens.get(token)
        if access is None:
            raise RefusedError(401, "Unauthorized", {"WWW-Authenticate": "Bearer"})
        return access

    def _route(self, call: Call) -> Route:
        route = find(call.path)
        if route is None:
            raise RefusedError(404, "Not found")
        if call.method not in route.methods:
            raise RefusedError(405, "Method not allowed", {"Allow": ", ".join(route.methods)})
        return route

    def _hint(self, token: str) -> str:
        hint = self._hints.get(token)
        if hint is None:
            hint = self._hints[token] = token_hint(token)
        return hint

    def _date_header(self, now: float) -> str:
        second = int(now)
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
