"""Errors of the client as answers of the service."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from service_kit import ask

import deepnote_async.errors as errors
from deepnote_async import Run, RunStatus
from deepnote_async.fastapi import add_deepnote_handlers


def api(kind, status, **more):
    return kind("what Deepnote wrote", status=status, method="GET", path="/v2/runs/x", **more)


def throttled(after):
    error = api(errors.RateLimitError, 429)
    error.retry_after = after
    return error


async def answer_to(error: Exception, **options):
    app = FastAPI()
    add_deepnote_handlers(app, **options)

    @app.get("/")
    async def fails():
        raise error

    return await ask(app, "GET", "/")


FAILED = Run(run_id="r1", status=RunStatus("error"), error="NameError: x")
TABLE = [
    (api(errors.BadRequestError, 400), 400),
    (api(errors.AuthenticationError, 401), 502),
    (api(errors.PermissionDeniedError, 403), 502),
    (api(errors.NotFoundError, 404), 404),
    (api(errors.ConflictError, 409), 409),
    (api(errors.ApiError, 418), 502),
    (api(errors.UnprocessableEntityError, 422), 422),
    (throttled(None), 429),
    (api(errors.ServerError, 500), 502),
    (api(errors.ServerError, 502), 502),
    (api(errors.ServerError, 503), 503),
    (api(errors.ServerError, 504), 504),
    (errors.TransportError("no answer", sent=False), 502),
    (errors.RequestTimeoutError("late", sent=True), 504),
    (errors.RunTimeoutError("late", run_id="r1"), 504),
    (errors.RunFailedError(FAILED), 502),
    (errors.NotStartedError("deadline"), 503),
    (errors.NotStartedError("refused", cause=api(errors.AuthenticationError, 401)), 502),
    (errors.NotStartedError("refused", cause=throttled(3)), 429),
    (errors.OutcomeUnknownError("broke"), 502),
    (errors.ClientClosedError("closed"), 503),
    (errors.InvalidRequestError("empty id"), 422),
    (errors.DecodeError("no JSON"), 502),
    (errors.PaginationError("circle"), 502),
]


@pytest.mark.parametrize(("error", "status"), TABLE, ids=lambda value: getattr(type(value), "__name__", None))
async def test_each_error_has_its_status(error, status):
    answer = await answer_to(error)
    assert answer.status == status
    assert answer.json["error"] == type(error).__name__
    assert ("retry-after" in answer.headers) == (status in {429, 503})
    assert "what Deepnote wrote" not in answer.text


def test_the_table_misses_none():
    missing = set(errors.__all__) - {type(error).__name__ for error, _ in TABLE}
    assert missing == {"DeepnoteError", "ConfigurationError"}


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (throttled(None), "7"),
        (throttled(2.2), "3"),
        (throttled(0), "1"),
        (api(errors.ServerError, 503), "7"),
        (api(errors.ServerError, 503, headers={"Retry-After": "11"}), "11"),
        (errors.NotStartedError("refused", cause=throttled(9)), "9"),
        (errors.NotStartedError("refused", cause=api(errors.ServerError, 503, headers={"Retry-After": "4"})), "4"),
        (errors.ClientClosedError("closed"), "7"),
    ],
)
async def test_retry_after_is_the_services_own_or_the_one_given(error, pause):
    assert (await answer_to(error, retry_after=7.0)).headers["retry-after"] == pause


async def test_the_run_is_named_where_there_is_one():
    assert (await answer_to(errors.RunFailedError(FAILED))).json["run_id"] == "r1"
    assert (await answer_to(errors.RunTimeoutError("late", run_id="r2"))).json["run_id"] == "r2"
    assert "run_id" not in (await answer_to(errors.RunTimeoutError("late"))).json


async def test_the_operator_reads_what_the_caller_does_not(caplog):
    await answer_to(api(errors.ServerError, 500))
    assert "answered 502 for ServerError" in caplog.text
    assert "what Deepnote wrote" in caplog.text


async def test_a_mistake_in_the_configuration_stays_an_internal_error():
    with pytest.raises(errors.ConfigurationError, match="no token"):
        await answer_to(errors.ConfigurationError("no token"))
