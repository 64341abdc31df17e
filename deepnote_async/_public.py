"""All that is imported from the package itself."""

from ._version import __version__
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
from .waiting.batch import RunBatch
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
