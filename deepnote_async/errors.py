"""Every error this package raises.

DeepnoteError
├─ ConfigurationError            no token, a base URL or an option that cannot be
├─ InvalidRequestError           refused before sending (also a ValueError)
├─ ClientClosedError             closed, not yet entered, another event loop, a forked child
├─ NotStartedError               a start that certainly did not happen: cause
├─ TransportError                no answer: sent, attempts
│  └─ RequestTimeoutError        (also a TimeoutError)
├─ ApiError                      status, message, body, headers, method, path, attempts
│  ├─ BadRequestError            400
│  ├─ AuthenticationError        401
│  ├─ PermissionDeniedError      403
│  ├─ NotFoundError              404
│  ├─ ConflictError              409
│  ├─ UnprocessableEntityError   422
│  ├─ RateLimitError             429: retry_after
│  └─ ServerError                5xx
├─ DecodeError                   a success whose body cannot be read: body
│  └─ PaginationError            a list that leads in a circle
├─ OutcomeUnknownError           a start (or create) that may have happened: request, notebook_id, window, cause
├─ RunFailedError                a run ended otherwise than in success: run
└─ RunTimeoutError               a wait's deadline: run_id, status or finished, unfinished (also a TimeoutError)

All of them pickle and copy, and none holds a token or a signed link.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datetime import datetime

    from .models import Run, RunStatus
    from .run_request import RunRequest

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "DecodeError",
    "DeepnoteError",
    "InvalidRequestError",
    "NotFoundError",
    "NotStartedError",
    "OutcomeUnknownError",
    "PaginationError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "RunFailedError",
    "RunTimeoutError",
    "ServerError",
    "TransportError",
    "UnprocessableEntityError",
]


def _rebuild(cls: type[DeepnoteError], args: tuple[Any, ...], state: dict[str, Any]) -> DeepnoteError:
    error = cls.__new__(cls, *args)
    error.args = args  # TimeoutError's own __new__ drops them
    error.__dict__.update(state)
    error.__cause__ = state.get("cause")
    return error


LONGEST_REASON: Final = 500


class DeepnoteError(Exception):
    """The root of all errors of this package."""

    out_of_time: bool = False
    """Whether it was raised because no time was left to try again."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors take keywords, which BaseException's own __reduce__ would lose.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class ConfigurationError(DeepnoteError):
    """The client cannot be built or used as it was configured."""


class InvalidRequestError(DeepnoteError, ValueError):
    """The service would refuse this request, so it was not sent."""


class ClientClosedError(DeepnoteError):
    """The client is closed, not yet entered, or used from another event loop or a forked child."""


class NotStartedError(DeepnoteError):
    """This run was certainly not started, so starting it again is safe; ``cause`` says why."""

    def __init__(self, message: str, *, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.__cause__ = cause


class TransportError(DeepnoteError):
    """No answer came.

    ``sent`` is False only when certainly nothing reached the service. ``attempts`` counts the tries made.
    ``retryable`` is False for what another try cannot mend, such as a refused certificate.
    """

    def __init__(self, message: str, *, sent: bool, attempts: int = 1, retryable: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        self.attempts = attempts
        self.retryable = retryable


class RequestTimeoutError(TransportError, TimeoutError):
    """No answer came within ``timeout`` (one attempt) or ``total_timeout`` (the whole call)."""


class ApiError(DeepnoteError):
    """The service answered with an error status.

    ``message`` is the service's own text when it gave one. ``body`` is the raw text of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        method: str = "",
        path: str = "",
        attempts: int = 1,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.body = body
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.method = method
        self.path = path
        self.attempts = attempts

    def __str__(self) -> str:
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.method} {self.path} answered {self.status}{tries}: {self.message}".strip()


class BadRequestError(ApiError):
    """400: the service refused the request as it stands (an unknown notebook in a start, too)."""


class AuthenticationError(ApiError):
    """401: no key, a wrong or expired one, or a plan without API access."""


class PermissionDeniedError(ApiError):
    """403: the key's role is too low, or the workspace lacks the feature."""


class NotFoundError(ApiError):
    """404: no such thing, or not for this key."""


class ConflictError(ApiError):
    """409: a name already taken, or a suspended project."""


class UnprocessableEntityError(ApiError):
    """422: well-formed but not acceptable."""


class RateLimitError(ApiError):
    """429: over the rate limit; ``retry_after`` is in seconds, None when the service did not say."""

    retry_after: float | None = None


class ServerError(ApiError):
    """5xx: the service failed."""


class DecodeError(DeepnoteError):
    """The service answered with success but its body cannot be read; ``body`` keeps it as text."""

    def __init__(self, message: str, *, body: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.body = body
        self.status = status


class PaginationError(DecodeError):
    """A listing named a page it had named before; following it would never end."""


class OutcomeUnknownError(DeepnoteError):
    """A start or a create broke after it was sent: it may have happened, and was not repeated.

    ``window`` is the span of server time in which it would have happened, ``cause`` what broke. For a start,
    ``await client.runs.candidates(error)`` lists the runs it may have become.
    """

    def __init__(
        self,
        message: str,
        *,
        request: RunRequest | None = None,
        notebook_id: str | None = None,
        window: tuple[datetime, datetime] | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.request = request
        self.notebook_id = notebook_id
        self.window = window
        self.cause = cause
        self.__cause__ = cause


class RunFailedError(DeepnoteError):
    """A run ended otherwise than in success; ``run`` is its last state."""

    def __init__(self, run: Run) -> None:
        # Most failed runs say nothing themselves. Blocks are read already; a document is not read for a message.
        has_blocks = isinstance(run.snapshot_blocks, list) and run.snapshot_blocks
        told = str(run.error or (run.failure if has_blocks else None) or "")
        # A message may be as long as a notebook likes; all of it is in `run.failure`.
        reason = f": {told[:LONGEST_REASON]}" if told else ""
        super().__init__(f"run {run.run_id} ended as {run.status}{reason}")
        self.run = run


class RunTimeoutError(DeepnoteError, TimeoutError):
    """A wait's deadline passed; the remote runs go on and can be awaited again.

    For one run ``run_id`` and its last known ``status``; for many ``finished`` (runs) and ``unfinished`` (run ids).
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        status: RunStatus | None = None,
        finished: Sequence[Run] = (),
        unfinished: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.status = status
        self.finished: list[Run] = list(finished)
        self.unfinished: list[str] = list(unfinished)
