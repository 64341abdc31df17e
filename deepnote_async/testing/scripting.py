"""The words in which a test tells the model what is to happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .faults import Fault, Outage, OutageKind
from .limiter import SlidingLimit

if TYPE_CHECKING:
    from collections.abc import Collection

    from .model import Service
    from .record import Call
    from .state import NotebookState

__all__ = ["Scripting"]


class Scripting:
    """What every face of the model offers a test."""

    service: Service

    @property
    def token(self) -> str:
        """The token that is let in."""
        return self.service.token or ""

    @property
    def calls(self) -> list[Call]:
        """Every request so far."""
        return self.service.calls

    def notebook(self, name: str) -> NotebookState:
        """The notebook of that name, made if there is none: the handle to script its runs."""
        return self.service.notebook(name)

    def throttle(self, rate: float | None = None, *, burst: float = 1.0) -> None:
        """From now on let in ``rate`` requests a second, ``burst`` at once; None takes the limit away."""
        self.service.limit = None if rate is None else SlidingLimit(rate, burst)

    def refuse(self, times: int, *, retry_after: float = 1.0, methods: Collection[str] | str | None = None) -> Fault:
        """Answer the next ``times`` requests (of ``methods``) with 429, and a Retry-After in seconds."""
        headers = {"Retry-After": f"{retry_after:g}"}
        fault = Fault("error_before", status=429, count=times, headers=headers, methods=methods)
        self.service.faults.append(fault)
        return fault

    def outage(self, seconds: float, *, kind: OutageKind = "refuse") -> Outage:
        """Serve nothing for so many seconds of service time from now; ``lift()`` on the result ends it early."""
        return self.service.outage(0.0, seconds, kind)
