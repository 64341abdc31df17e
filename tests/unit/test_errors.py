"""The errors: their tree, their bases, and that all of them survive pickling and copying."""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import deepnote_async
from deepnote_async import _public, errors
from deepnote_async.errors import (
    ApiError,
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    DeepnoteError,
    InvalidRequestError,
    NotStartedError,
    OutcomeUnknownError,
    PaginationError,
    RateLimitError,
    RequestTimeoutError,
    RunFailedError,
    RunTimeoutError,
    TransportError,
)
from deepnote_async.models import Run, RunStatus
from deepnote_async.run_request import RunRequest

TREE = {
    "ConfigurationError": "DeepnoteError",
    "InvalidRequestError": "DeepnoteError",
    "ClientClosedError": "DeepnoteError",
    "NotStartedError": "DeepnoteError",
    "TransportError": "DeepnoteError",
    "RequestTimeoutError": "TransportError",
    "ApiError": "DeepnoteError",
    "BadRequestError": "ApiError",
    "AuthenticationError": "ApiError",
    "PermissionDeniedError": "ApiError",
    "NotFoundError": "ApiError",
    "ConflictError": "ApiError",
    "UnprocessableEntityError": "ApiError",
    "RateLimitError": "ApiError",
    "ServerError": "ApiError",
    "DecodeError": "DeepnoteError",
    "PaginationError": "DecodeError",
    "OutcomeUnknownError": "DeepnoteError",
    "RunFailedError": "DeepnoteError",
    "RunTimeoutError": "DeepnoteError",
}
BUILTIN_BASES = {
    "InvalidRequestError": ValueError,
    "RequestTimeoutError": TimeoutError,
    "RunTimeoutError": TimeoutError,
}
API_ERRORS = [name for name, parent in TREE.items() if name == "ApiError" or parent == "ApiError"]


def real_tree() -> dict[str, str]:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DeepnoteError)]
    return {kind.__name__: kind.__bases__[0].__name__ for kind in classes if kind is not DeepnoteError}


def drawn_tree(text: str) -> dict[str, str]:
    above = ["DeepnoteError"]
    tree: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"([│ ├└─]*[├└]─ )(\w+)", line)
        if match:
            depth = len(match[1]) // 3
            tree[match[2]] = above[depth - 1]
            above[depth:] = [match[2]]
    return tree


def request() -> RunRequest:
    return RunRequest("nb", inputs={"region": "EU"}, key="one")


def transport_error() -> TransportError:
    return TransportError("connection reset", sent=True, attempts=3, retryable=False)


MAKERS: dict[str, Callable[[], DeepnoteError]] = {
    "DeepnoteError": lambda: DeepnoteError("something"),
    "ConfigurationError": lambda: ConfigurationError("no key"),
    "InvalidRequestError": lambda: InvalidRequestError("no"),
    "ClientClosedError": lambda: ClientClosedError("closed"),
    "NotStartedError": lambda: NotStartedError("not started", cause=transport_error()),
    "TransportError": transport_error,
    "RequestTimeoutError": lambda: RequestTimeoutError("too late", sent=False, attempts=2),
    "DecodeError": lambda: DecodeError("no JSON", body="<html>", status=200),
    "PaginationError": lambda: PaginationError("a circle", body="{}", status=200),
    "OutcomeUnknownError": lambda: OutcomeUnknownError(
        "may have happened",
        request=request(),
        notebook_id="nb",
        window=(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        cause=transport_error(),
    ),
    "RunFailedError": lambda: RunFailedError(Run(run_id="r1", status=RunStatus.ERROR, error="boom")),
    "RunTimeoutError": lambda: RunTimeoutError(
        "the deadline passed", run_id="r1", status=RunStatus.RUNNING, finished=[Run(run_id="r2")], unfinished=["r1"]
    ),
}


def api_error(name: str) -> ApiError:
    kind: type[ApiError] = getattr(errors, name)
    error = kind(
        "no such thing",
        status=418,
        body='{"message": "no such thing"}',
        headers={"X-Request-Id": "7"},
        method="GET",
        path="/v2/runs/1",
        attempts=2,
    )
    if isinstance(error, RateLimitError):
        error.retry_after = 3.5
    return error


def make(name: str) -> DeepnoteError:
    return api_error(name) if name in API_ERRORS else MAKERS[name]()


ALL = ["DeepnoteError", *TREE]


def test_the_tree_is_the_one_promised() -> None:
    assert real_tree() == TREE


def test_the_tree_drawn_in_the_module_is_the_real_one() -> None:
    assert drawn_tree(errors.__doc__ or "") == TREE


def test_statuses_drawn_in_the_module_are_those_of_the_answers() -> None:
    drawn = dict(re.findall(r"─ (\w+Error) +(4\d\d)\b", errors.__doc__ or ""))
    assert drawn == {
        "BadRequestError": "400",
        "AuthenticationError": "401",
        "PermissionDeniedError": "403",
        "NotFoundError": "404",
        "ConflictError": "409",
        "UnprocessableEntityError": "422",
        "RateLimitError": "429",
    }


@pytest.mark.parametrize("name", ALL)
def test_every_error_is_a_deepnote_error_and_public(name: str) -> None:
    kind = getattr(deepnote_async, name)
    assert issubclass(kind, DeepnoteError)
    assert name in deepnote_async.__all__
    assert name in errors.__all__
    builtin = [base for base in kind.__mro__ if hasattr(builtins, base.__name__) and base is not object]
    expected = BUILTIN_BASES.get(name)
    assert (expected is None) or expected in builtin
    if expected is None:
        assert {base.__name__ for base in builtin} == {"Exception", "BaseException"}


def test_no_error_is_a_group() -> None:
    assert not any(issubclass(getattr(errors, name), BaseExceptionGroup) for name in ALL)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "duplicate",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_errors_survive_with_all_they_hold(name: str, duplicate: Callable[[DeepnoteError], DeepnoteError]) -> None:
    error = make(name)
    error.add_note("seen at noon")
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert twin is not error
    assert str(twin) == str(error)
    assert twin.args == error.args
    held = dict(error.__dict__)
    cause = held.pop("cause", None)
    assert {key: twin.__dict__[key] for key in held} == held
    assert twin.__dict__.keys() == error.__dict__.keys()
    assert repr(getattr(twin, "cause", None)) == repr(cause)
    if cause is not None:
        assert twin.__cause__ is twin.cause  # type: ignore[attr-defined]
        assert twin.cause.__dict__ == cause.__dict__  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ALL)
def test_every_pickle_protocol(name: str) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert str(pickle.loads(pickle.dumps(make(name), protocol))) == str(make(name))


@pytest.mark.parametrize("name", ALL)
def test_errors_say_something(name: str) -> None:
    text = str(make(name))
    assert text
    assert text == text.strip()
    assert text in "".join(repr(make(name)).split("\\")) or name in API_ERRORS or name == "RunFailedError"


def test_an_api_error_says_what_was_asked_and_answered() -> None:
    assert str(api_error("NotFoundError")) == "GET /v2/runs/1 answered 418 after 2 attempts: no such thing"
    once = ApiError("gone", status=410, method="GET", path="/v2/me")
    assert str(once) == "GET /v2/me answered 410: gone"
    assert str(ApiError("gone", status=410)) == "answered 410: gone"


def test_a_failed_run_is_named_with_its_reason() -> None:
    assert str(MAKERS["RunFailedError"]()) == "run r1 ended as error: boom"
    assert str(RunFailedError(Run(run_id="r1", status=RunStatus.STOPPED))) == "run r1 ended as stopped"


def test_the_signed_link_of_a_failed_run_is_not_pickled() -> None:
    link = "https://storage.example/x?signature=hush"
    error = RunFailedError(Run(run_id="r", status=RunStatus.ERROR, snapshot_download_url=link))
    assert b"hush" not in pickle.dumps(error)
    assert "hush" not in repr(error) + str(error)


def test_retry_after_is_none_unless_told() -> None:
    assert RateLimitError("slow down", status=429).retry_after is None


def test_lists_given_to_a_timeout_are_its_own() -> None:
    unfinished = ["a"]
    error = RunTimeoutError("late", unfinished=unfinished)
    unfinished.append("b")
    assert error.unfinished == ["a"]
    assert error.finished == []


def test_all_names_of_the_package_are_importable() -> None:
    assert len(set(deepnote_async.__all__)) == len(deepnote_async.__all__)
    for name in deepnote_async.__all__:
        assert getattr(deepnote_async, name) is not None


def test_nothing_public_is_missing_from_all() -> None:
    source = ast.parse(Path(_public.__file__).read_text())
    imported = {name.name for node in source.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert imported == set(deepnote_async.__all__)
    assert imported | {"__doc__", "__file__"} <= set(dir(deepnote_async))


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nope"):
        _ = deepnote_async.nope


def test_an_import_loads_what_is_asked_of_it() -> None:
    program = """
import sys, deepnote_async
assert deepnote_async.__version__ and "aiohttp" not in sys.modules
deepnote_async.errors.ApiError, deepnote_async.DeepnoteClient
assert "aiohttp" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_name_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        _ = deepnote_async.Klient
