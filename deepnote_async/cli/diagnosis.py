"""What recorded exchanges say of a service: plain functions from exchanges to findings."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..errors import DecodeError, RequestTimeoutError, TransportError
from ..retry import server_time
from .dialect import dialect_of, pagination_of, rows_of, traits_of
from .expected import CLIENT, ENUMS, LIVE, NEEDED, Comparison, compare, kind, schema_of
from .findings import Finding, listed, safe_limit, safe_name, safe_value, shortened, without_host
from .recording import NO_JSON, Exchange

__all__ = ["clock_offset", "diagnose", "reached", "round_trip"]

SLOW: Final = 2.0  # s
CLOCK_APART: Final = 5.0  # s
_LIMITS: Final = re.compile(r"retry-after|(x-)?rate-?limit.*", re.IGNORECASE)
_REQUEST_ID: Final = re.compile(r".*(request|trace|correlation)-?id|cf-ray|traceparent", re.IGNORECASE)
MISSING_RUN: Final = "run that does not exist"
HOW_TO_SEE: Final = {
    "Project": "no project was read",
    "Notebook": "none is known: name one with --notebook",
    "Run": "no run was read",
}


def reached(exchanges: Iterable[Exchange]) -> bool:
    """Whether the API answered anything with success."""
    return any(exchange.ok for exchange in exchanges)


def diagnose(exchanges: Sequence[Exchange], host: str) -> list[Finding]:
    """Everything the exchanges say; ``host`` is taken out of what errors say."""
    findings = [*_answers(exchanges, host), *_decoding(exchanges)]
    if reached(exchanges):
        findings += [*_speed(exchanges), *_clock(exchanges), *_me(exchanges), *_dialect(exchanges)]
        findings += [*_fields(exchanges), *_enums(exchanges), *_pages(exchanges), *_order(exchanges)]
    return [*findings, *_missing_run(exchanges), *_limits(exchanges)]


# Whether and how it answers.


def _answers(exchanges: Iterable[Exchange], host: str) -> Iterator[Finding]:
    good: dict[str, None] = {}
    for exchange in exchanges:
        if exchange.label == MISSING_RUN and exchange.ok:
            yield Finding("differs", MISSING_RUN, f"status {exchange.status}", "a wait for a wrong id would not end")
        elif exchange.status == 200 and exchange.ok and _is_json(exchange):
            good[exchange.label] = None
        elif exchange.label != MISSING_RUN or exchange.status != 404:
            yield _bad_answer(exchange, host)
    if good:
        yield Finding("ok", "answers", f"200 and JSON for {', '.join(good)}")


def _is_json(exchange: Exchange) -> bool:
    return _content_type(exchange) == "application/json"


def _content_type(exchange: Exchange) -> str:
    return exchange.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _bad_answer(exchange: Exchange, host: str) -> Finding:
    about, status = exchange.label, exchange.status
    if status is None:
        return _no_answer(exchange, host)
    if status < 300:
        return _bad_content(exchange)
    if status in _UNKNOWN:
        return Finding("unknown", about, f"status {status}", _UNKNOWN[status])
    if status < 400:
        return Finding("differs", about, f"redirects, status {status}", "no redirect is followed, for the key's sake")
    if status >= 500:
        why = "reads are repeated, starts are not, for they may have happened"
        return Finding("differs", about, f"status {status}", why)
    return Finding("differs", about, f"status {status}", _REFUSED.get(status, "none that is documented for a read"))


def _bad_content(exchange: Exchange) -> Finding:
    content = safe_value(_content_type(exchange)) or "no content type"
    if exchange.ok and _is_json(exchange):
        return Finding("differs", exchange.label, f"status {exchange.status}", "any 2xx is success to the client")
    if exchange.body is not NO_JSON:
        return Finding("differs", exchange.label, f"JSON, declared as {content}", "the client reads it all the same")
    found = f"status {exchange.status}, {content}, no JSON"
    return Finding("differs", exchange.label, found, "a proxy's page, or a wrong base URL")


_REFUSED: Final = {
    400: "what the client asks is taken for wrong; a suspended project answers so, too",
    401: "the key is refused: wrong, expired, of another workspace, or the plan has no API",
    404: "no such path, or the key's owner has left the workspace",
}
_UNKNOWN: Final = {
    403: "this key may not, or the workspace lacks the feature",
    409: "the project is suspended",
    429: "over the rate limit: something else spends it, try again in a minute",
}


def _no_answer(exchange: Exchange, host: str) -> Finding:
    error = exchange.error
    if isinstance(error, RequestTimeoutError):
        return Finding("differs", exchange.label, "no answer in time", "waits go on through this, calls fail")
    if isinstance(error, TransportError):
        why = (
            "certificates are never doubted twice"
            if "secure" in str(error)
            else "is the base URL right, is a proxy needed?"
        )
        return Finding("differs", exchange.label, without_host(str(error), host), why)
    return Finding("unknown", exchange.label, type(error).__name__)


def _decoding(exchanges: Iterable[Exchange]) -> Iterator[Finding]:
    for exchange in exchanges:
        if isinstance(exchange.error, DecodeError) and exchange.body is not NO_JSON:
            reason = str(exchange.error).rpartition(": ")[2]
            yield Finding(
                "differs", exchange.label, f"the client cannot read it: {reason}", "such a call raises DecodeError"
            )


# How fast, and when.


def round_trip(exchanges: Iterable[Exchange]) -> float | None:
    """The median of all answers but the first, which pays for the connection."""
    seconds = [exchange.seconds for exchange in exchanges if exchange.status is not None]
    return statistics.median(seconds[1:] or seconds) if seconds else None


def _speed(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    usual, first = round_trip(exchanges), exchanges[0].seconds
    if usual is not None:
        found = f"{usual * 1000:.0f} ms, median; the first, with its connection, {first * 1000:.0f} ms"
        yield Finding("differs" if usual > SLOW else "ok", "round trip", found, "no news comes sooner")


def clock_offset(exchanges: Iterable[Exchange]) -> tuple[float, float] | None:
    """The least and the most seconds by which the service's clock is ahead of ours, from all answers together.

    A ``Date`` is cut to the second, and the answer left at some moment of its round trip. Where two answers
    contradict each other, two clocks speak, and the whole span is given.
    """
    lows, highs = [], []
    for exchange in exchanges:
        date = server_time(exchange.headers.get("Date")) if exchange.status is not None else None
        if date is not None:
            lows.append(date - exchange.ended)
            highs.append(date + 1.0 - exchange.began)
    if not lows:
        return None
    low, high = max(lows), min(highs)
    return (low, high) if low <= high else (min(lows), max(highs))


def _clock(exchanges: Iterable[Exchange]) -> Iterator[Finding]:
    offset = clock_offset(exchanges)
    why = "the client reckons ages by the service's clock; your own reckoning with created_at may not"
    if offset is None:
        yield Finding(
            "differs", "clock", "no Date in any answer", "ages of runs are reckoned by the clock of this machine"
        )
        return
    low, high = offset
    middle = (low + high) / 2
    apart = low > CLOCK_APART or high < -CLOCK_APART
    side = "ahead" if middle >= 0 else "behind"
    found = f"the service's is {abs(middle):.1f} s {side}, give or take {(high - low) / 2:.1f} s"
    yield Finding("differs" if apart else "ok", "clock", found, why)


# What it says.


def _me(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    for me in rows_of(exchanges, "Me")[:1]:
        level, workspace = me.get("accessLevel"), me.get("workspace")
        words = [f"access level {safe_name(level)}" if isinstance(level, str) else "no access level"]
        if isinstance(workspace, dict) and isinstance(workspace.get("id"), str):
            words.append(f"workspace {shortened(workspace['id'])}")
        yield Finding("ok", "the key", ", ".join(words), "what the key may do is what its creator may")
        inner = {name: me[name] for name in ("apiKey", "user", "workspace") if isinstance(me.get(name), dict)}
        shapes = [f"{name} {{{_shape(value)}}}" for name, value in inner.items()]
        if shapes:
            yield Finding("ok", "fields within me", "; ".join(shapes), "openapi.yaml leaves them open")


def _shape(value: Mapping[str, Any]) -> str:
    return listed(f"{safe_name(name)} {kind(inner)}" for name, inner in value.items())


def _dialect(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    traits = traits_of(exchanges)
    name = dialect_of(traits)
    seen = {spoken: [trait.what for trait in traits if trait.dialect == spoken] for spoken in ("live", "reference")}
    if name == "mixed":
        found = f"mixed; live: {', '.join(seen['live'])}; reference: {', '.join(seen['reference'])}"
        yield Finding("differs", "dialect", found, "the client reads either, and a mixture, too")
    elif name == "unknown":
        yield Finding("unknown", "dialect", "nothing to tell it by")
    else:
        other = "unlike" if name == "live" else "as in"
        yield Finding(
            "ok", "dialect", f"{name}, by {', '.join(seen[name])}", f"{other} openapi.yaml; the client reads both"
        )


def _fields(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    dialect = dialect_of(traits_of(exchanges))
    for name in LIVE:
        if name == "Error":
            continue
        rows = rows_of(exchanges, name)
        if rows:
            yield _compared(name, compare(name, rows, dialect), live=dialect == "live")
        elif name in HOW_TO_SEE:
            yield Finding("unknown", f"fields, {name}", "none to look at", HOW_TO_SEE[name])


def _compared(name: str, seen: Comparison, *, live: bool) -> Finding:
    beyond = f"; not in openapi.yaml: {listed(seen.beyond)}" if seen.beyond else ""
    unread = f"; in openapi.yaml but not here: {listed(seen.unread)}" if seen.unread else ""
    about, schema = f"fields, {name}", schema_of(name)
    if seen.as_expected:
        known = "as known of the live service" if live else "as in openapi.yaml" if not seen.beyond else "all known"
        return Finding("ok", about, f"{known}, in {seen.rows} seen{beyond}{unread}")
    parts, why = [], set()
    if seen.new:
        parts.append("new: " + listed(f"{field} {types}" for field, types in seen.new.items()))
        why.add("new fields are kept in `extra`")
    if seen.missing:
        parts.append(f"missing: {listed(seen.missing)}")
        why.update(_why_missing(schema, field) for field in seen.missing)
    if seen.wrong:
        parts.append("of another type: " + listed(f"{field} {what}" for field, what in seen.wrong.items()))
        why.add("the client may not be able to read it" if seen.wrong.keys() & CLIENT[schema] else "nothing reads it")
    return Finding("differs", about, "; ".join(parts) + beyond + unread, "; ".join(sorted(why)))


def _why_missing(schema: str, field: str) -> str:
    if field in NEEDED.get(schema, ()):
        return f"without {field} the client cannot read it"
    return f"{field} reads as absent" if field in CLIENT[schema] else f"nothing reads {field}"


def _enums(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    places = {
        "accessLevel": ["Me"],
        "projectType": ["Project in a list", "Project"],
        "status": ["Run in a list", "Run"],
        "snapshotStatus": ["Run"],
        "type": ["Input"],
    }
    for field, names in places.items():
        values = {row[field] for name in names for row in rows_of(exchanges, name) if isinstance(row.get(field), str)}
        strange = values - ENUMS[field]
        if strange:
            why = "such a run counts as still going" if field == "status" else "it is kept as it is"
            found = f"unknown values: {listed(map(safe_name, strange))}"
            yield Finding("differs", f"values of {field}", found, why)
        elif values:
            yield Finding("ok", f"values of {field}", f"all known: {listed(values)}")


def _pages(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    ends, tokens = set(), []
    for exchange in exchanges:
        pagination = pagination_of(exchange)
        if pagination is None:
            if exchange.ok and exchange.label.startswith(("projects", "runs")):
                yield Finding("differs", f"pages, {exchange.label}", "no pagination", "it reads like a last page")
            continue
        token, more = pagination.get("nextPageToken"), pagination.get("hasMore")
        if token:
            tokens.append(token)
        else:
            ends.add("absent" if "nextPageToken" not in pagination else "null" if token is None else "empty")
        if isinstance(more, bool) and more is not bool(token):
            found = f"hasMore is {str(more).lower()}, the next token {'there' if token else 'not'}"
            yield Finding("differs", f"pages, {exchange.label}", found, "the client ends a list at either")
    if ends:
        yield Finding(
            "ok", "pages, end", f"the next token is {' or '.join(sorted(ends))}", "the client takes any of these"
        )
    yield from _first_pages(exchanges, tokens)


def _first_pages(exchanges: Sequence[Exchange], tokens: list[str]) -> Iterator[Finding]:
    by_label = {exchange.label: exchange for exchange in exchanges}
    one, two = (_ids(by_label.get(label)) for label in ("projects", "projects, next page"))
    if len(one) > 1:
        yield Finding(
            "differs", "pages, size", f"{len(one)} projects for a page of one", "pages may be longer than asked"
        )
    if two:
        same = bool(set(one) & set(two)) or len(set(tokens)) < len(tokens)
        found = "shows the first again" if same else "leads on"
        why = "the client raises PaginationError when a token comes again" if same else "lists can be read to their end"
        yield Finding("differs" if same else "ok", "pages, second", found, why)


def _ids(exchange: Exchange | None) -> list[str]:
    if exchange is None or not exchange.ok:
        return []
    return [str(row.get("id")) for row in rows_of([exchange], "Project in a list")]


def _order(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    born = [row["createdAt"] for row in rows_of(exchanges, "Run in a list") if isinstance(row.get("createdAt"), str)]
    if len(set(born)) < 2:
        return
    why = "none is relied on, but newest first costs the fewest looks"
    if born == sorted(born, reverse=True):
        yield Finding("ok", "order of runs", "newest first", why)
    else:
        yield Finding("differs", "order of runs", "oldest first" if born == sorted(born) else "mixed", why)


# What refusals and headers say.


def _missing_run(exchanges: Iterable[Exchange]) -> Iterator[Finding]:
    for exchange in exchanges:
        if exchange.label != MISSING_RUN or exchange.status != 404:
            continue
        body = exchange.body
        if isinstance(body, dict) and isinstance(body.get("message"), str):
            yield Finding("ok", MISSING_RUN, f"404, body {{{_shape(body)}}}", "the message reaches the error's text")
        else:
            shape = f"{{{_shape(body)}}}" if isinstance(body, dict) else "no JSON" if body is NO_JSON else kind(body)
            yield Finding("differs", MISSING_RUN, f"404 without a message, body {shape}", "errors say less")


def _limits(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    answered = [exchange for exchange in exchanges if exchange.status is not None]
    if not answered:
        return
    values: dict[str, dict[str, None]] = {}
    marks = set()
    for exchange in answered:
        for name, value in exchange.headers.items():
            if _LIMITS.fullmatch(name):
                values.setdefault(safe_name(name), {})[safe_limit(value)] = None
            elif _REQUEST_ID.fullmatch(name):
                marks.add(safe_name(name))
    if values:
        found = "; ".join(f"{name}: {', '.join(list(several)[:3])}" for name, several in sorted(values.items()))
        yield Finding(
            "ok", "headers about limits", found, "the client heeds Retry-After, RateLimit-Remaining and -Reset"
        )
    else:
        yield Finding("ok", "headers about limits", "none", "the limit has to be found")
    if marks:
        yield Finding("ok", "headers that name a request", listed(marks), "worth quoting to the service's support")
