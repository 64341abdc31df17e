"""What a checkup found, one line each, fit to be shown to anybody.

Nothing gets in here but words of ours, names of fields and headers, numbers, and values of enums and of limits, and of
these only what looks like one. Ids are cut to their first four characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import attrs

__all__ = ["Finding", "Verdict", "as_text", "listed", "safe_host", "safe_limit", "safe_name", "safe_value", "shortened"]

Verdict = Literal["ok", "differs", "unknown"]

_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,40}")
_DATA: Final = re.compile(r"\d{4,}|[0-9a-fA-F]{12,}")
_VALUE: Final = re.compile(r"[\w .,:;=\"/+-]{0,80}", re.ASCII)
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_OF_LIMITS: Final = {"q", "w", "r", "t", "qu", "policy", "window", "quota", "limit", "remaining", "reset", "burst"}
_LONG: Final = re.compile(r"[A-Za-z0-9_-]{12,}")
_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F.]+")
PUBLIC: Final = "api.deepnote.com"
MOST_LISTED: Final = 20


@attrs.frozen
class Finding:
    """One line: what it is about, what was found, and why that matters.

    ``ok`` is as expected, ``differs`` is not, ``unknown`` could not be learned.
    """

    verdict: Verdict
    about: str
    found: str
    why: str = ""

    def __str__(self) -> str:
        reason = f" ({self.why})" if self.why else ""
        return f"- `{self.verdict:<7}` {self.about}: {self.found}{reason}"


def safe_name(name: str) -> str:
    """A field's or a header's name, or the length of what does not look like one: a map may have data for keys."""
    return name if _NAME.fullmatch(name) and not _DATA.search(name) else f"(a name of {len(name)} characters)"


def safe_value(value: str) -> str:
    """A short technical value, long words in it cut, or the length of what does not look like one."""
    if not _VALUE.fullmatch(value):
        return f"(a text of {len(value)} characters)"
    return _LONG.sub(lambda found: shortened(found[0]), value)


def safe_limit(value: str) -> str:
    """The value of a header about limits: numbers, a date, and the words that belong there; others may be a name."""
    if _DATE.fullmatch(value):
        return value
    return _WORD.sub(lambda found: found[0] if found[0] in _OF_LIMITS else "...", safe_value(value))


def shortened(value: object) -> str:
    """An id cut to its first four characters."""
    text = str(value)
    return f"{text[:4]}..." if len(text) > 8 and text[:4].isalnum() else "(an id)"


def safe_host(host: str) -> str:
    """The public API's host or loopback; another one may name a company."""
    return host if host in {PUBLIC, "localhost", "127.0.0.1", "::1"} else "(a host of your own)"


def without_host(text: str, host: str) -> str:
    """What a failed connection says, without where it led."""
    plain = re.sub(re.escape(host), "HOST", text, flags=re.IGNORECASE) if host else text
    return " ".join(_ADDRESS.sub("ADDRESS", plain).split())[:200]


def listed(names: Iterable[str]) -> str:
    """Names in a row, the first of very many."""
    ordered = sorted(names)
    more = f" and {len(ordered) - MOST_LISTED} more" if len(ordered) > MOST_LISTED else ""
    return ", ".join(ordered[:MOST_LISTED]) + more


def as_text(head: dict[str, Any], findings: list[Finding]) -> str:
    """The findings as Markdown, what differs first."""
    counts = {
        verdict: sum(finding.verdict == verdict for finding in findings) for verdict in ("differs", "unknown", "ok")
    }
    order = list(counts)
    return "\n".join(
        [
            "### deepnote-async doctor",
            "",
            *(f"- {name.replace('_', ' ')}: {value}" for name, value in head.items()),
            "",
            f"**{counts['differs']} differ, {counts['unknown']} unknown, {counts['ok']} ok**",
            "",
            *map(str, sorted(findings, key=lambda finding: order.index(finding.verdict))),
        ]
    )
