"""An asyncio client for the Deepnote API: projects, notebooks, runs, and hundreds of runs awaited at once."""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .client import DeepnoteClient, RunRefs
    from .credentials import TokenProvider
    from .dataframes import DataFrameOutput
    from .errors import (
        ApiError,
        AuthenticationError,
        BadRequestError,
        ClientClosedError,
        ConfigurationError,
        ConflictError,
        DecodeError,
        DeepnoteError,
        InvalidRequestError,
        NotFoundError,
        NotStartedError,
        OutcomeUnknownError,
        PaginationError,
        PermissionDeniedError,
        RateLimitError,
        RequestTimeoutError,
        RunFailedError,
        RunTimeoutError,
        ServerError,
        TransportError,
        UnprocessableEntityError,
    )
    from .ledger import Ledger, LedgerEntry, LedgerSummary
    from .models import (
        AccessLevel,
        ClientStats,
        Me,
        Notebook,
        NotebookInput,
        Project,
        ProjectType,
        Run,
        RunStarted,
        RunStatus,
    )
    from .outputs import Output, RunFailure
    from .pagination import AsyncPaginator, Page
    from .ratelimit import RateLimiter, TokenBucket
    from .resources.runs import RunRef
    from .run_request import RunRequest, grid
    from .settings import PollPolicy, RetryPolicy
    from .snapshots import Snapshot
    from .transport import HttpRequest, HttpResponse, Transport
    from .waiting.fanout import RunBatch
    from .waiting.results import BatchStats, RunResult

__all__ = [
    "AccessLevel",
    "ApiError",
    "AsyncPaginator",
    "AuthenticationError",
    "BadRequestError",
    "BatchStats",
    "ClientClosedError",
    "ClientStats",
    "ConfigurationError",
    "ConflictError",
    "DataFrameOutput",
    "DecodeError",
    "DeepnoteClient",
    "DeepnoteError",
    "HttpRequest",
    "HttpResponse",
    "InvalidRequestError",
    "Ledger",
    "LedgerEntry",
    "LedgerSummary",
    "Me",
    "NotFoundError",
    "NotStartedError",
    "Notebook",
    "NotebookInput",
    "OutcomeUnknownError",
    "Output",
    "Page",
    "PaginationError",
    "PermissionDeniedError",
    "PollPolicy",
    "Project",
    "ProjectType",
    "RateLimitError",
    "RateLimiter",
    "RequestTimeoutError",
    "RetryPolicy",
    "Run",
    "RunBatch",
    "RunFailedError",
    "RunFailure",
    "RunRef",
    "RunRefs",
    "RunRequest",
    "RunResult",
    "RunStarted",
    "RunStatus",
    "RunTimeoutError",
    "ServerError",
    "Snapshot",
    "TokenBucket",
    "TokenProvider",
    "Transport",
    "TransportError",
    "UnprocessableEntityError",
    "__version__",
    "grid",
]

# Names are loaded when they are first asked for, so that the command line answers --help without aiohttp and the rest.
# Type checkers see the imports above; a test holds the two together.
_HOMES = {
    "client": ("DeepnoteClient", "RunRefs"),
    "credentials": ("TokenProvider",),
    "dataframes": ("DataFrameOutput",),
    "errors": (
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
    ),
    "ledger": ("Ledger", "LedgerEntry", "LedgerSummary"),
    "models": (
        "AccessLevel",
        "ClientStats",
        "Me",
        "Notebook",
        "NotebookInput",
        "Project",
        "ProjectType",
        "Run",
        "RunStarted",
        "RunStatus",
    ),
    "outputs": ("Output", "RunFailure"),
    "pagination": ("AsyncPaginator", "Page"),
    "ratelimit": ("RateLimiter", "TokenBucket"),
    "resources.runs": ("RunRef",),
    "run_request": ("RunRequest", "grid"),
    "settings": ("PollPolicy", "RetryPolicy"),
    "snapshots": ("Snapshot",),
    "transport": ("HttpRequest", "HttpResponse", "Transport"),
    "waiting.fanout": ("RunBatch",),
    "waiting.results": ("BatchStats", "RunResult"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # for type checkers a name that is not above does not exist

    def __getattr__(name: str) -> object:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value

    def __dir__() -> list[str]:
        return __all__
