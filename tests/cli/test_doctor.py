"""The checkup: what it says of a service as it should be, of one that is not, and what it never says."""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("typer")

from cli_kit import Piped

from deepnote_async import HttpResponse, TransportError
from deepnote_async.cli.app import run
from deepnote_async.cli.checkup import MOST_REQUESTS, examine
from deepnote_async.cli.diagnosis import clock_offset, diagnose, reached
from deepnote_async.cli.dialect import dialect_of, traits_of
from deepnote_async.cli.expected import CLIENT, LIVE, REFERENCE, compare
from deepnote_async.cli.findings import as_text, safe_limit, safe_name, safe_value, without_host
from deepnote_async.cli.recording import Exchange, Recording
from deepnote_async.testing import (
    Block,
    FakeDeepnote,
    Fault,
    Input,
    MemoryTransport,
    Service,
    SlidingLimit,
    run_virtual,
    virtual_service,
)
from deepnote_async.testing.kit import ThreadedDeepnote
from deepnote_async.transport import HttpRequest
from deepnote_async.wire import read_me, read_notebook, read_project, read_run

SPEC = Path(__file__).parents[1] / "openapi.yaml"
TOKEN = "dn_0123456789abcdefTOKEN"


def fill(service: Service) -> None:
    """Two projects, a notebook with everything in it, and runs that have ended and that go on."""
    project = service.add_project("Payroll of Jane")
    inputs = [
        Input("region", "input-select", "EU", options=["EU", "US"]),
        Input("limit", "input-slider", "5", step=1.0),
    ]
    notebook = service.add_notebook(
        "Salaries of Jane", project_id=project.id, inputs=inputs, blocks=[Block("b-1", content="jane@example.com")]
    )
    service.add_earlier_runs(notebook, 20, 600)
    service.add_run(
        notebook, status="error", error="Jane is not in the table", created_at=service.clock() - 5, length=1
    )
    service.add_notebook(project_id=service.add_project("Second of Jane").id)


def checked(script: Callable[[Service], None] = lambda _: None, token: str | None = None, **options: Any) -> Checked:
    """A checkup of a service in memory, in virtual time."""
    notebook = options.pop("notebook", None)

    async def main() -> Checked:
        service = virtual_service(token=TOKEN, **options)
        fill(service)
        script(service)
        recording = Recording(MemoryTransport(service, latency=0.02), most=MOST_REQUESTS, clock=service.clock)
        notebook_id = next(iter(service.notebooks)) if notebook else None
        exchanges = await examine(recording, token or TOKEN, notebook_id=notebook_id, recording=recording)
        return Checked(service, exchanges)

    return run_virtual(main())


class Checked:
    def __init__(self, service: Service, exchanges: list[Exchange]) -> None:
        self.service = service
        self.exchanges = exchanges
        self.findings = diagnose(exchanges, "api.deepnote.com")
        self.text = as_text({}, self.findings)

    def of(self, about: str) -> Any:
        (found,) = [finding for finding in self.findings if finding.about == about]
        return found

    @property
    def differing(self) -> list[str]:
        return [str(finding) for finding in self.findings if finding.verdict == "differs"]


@pytest.mark.parametrize(("dialect", "notebook"), [("live", False), ("reference", True)])
def test_either_dialect_is_known_and_all_as_expected(dialect, notebook):
    seen = checked(dialect=dialect, notebook=notebook)
    assert seen.differing == []
    assert [finding.about for finding in seen.findings if finding.verdict == "unknown"] == []
    assert dialect_of(traits_of(seen.exchanges)) == dialect
    assert seen.of("dialect").found.startswith(f"{dialect}, by ")
    assert seen.of("pages, end").found == f"the next token is {'null' if dialect == 'live' else 'absent'}"
    assert ("completedAt" in seen.of("fields, Run").found) == (dialect == "live")
    assert reached(seen.exchanges)
    assert {call.method for call in seen.service.calls} == {"GET"}
    assert len(seen.service.calls) <= MOST_REQUESTS


def test_a_reference_service_lists_no_notebook_and_the_text_says_how_to_name_one():
    seen = checked(dialect="reference")
    assert seen.differing == []
    assert "--notebook" in seen.of("fields, Notebook").why


# Data that cannot be read at run time, held against what it describes.


def test_the_reference_fields_are_those_of_openapi_yaml():
    schemas = yaml.safe_load(SPEC.read_text())["components"]["schemas"]
    named = {"string": "text", "object": "object"}
    for name, fields in REFERENCE.items():
        properties = schemas[name]["properties"]
        resolved = {
            field: schemas[value["$ref"].rpartition("/")[2]] if "$ref" in value else value
            for field, value in properties.items()
        }
        assert {field: named[value["type"]] for field, value in resolved.items()} == dict(fields), name


@pytest.mark.parametrize(
    ("schema", "read"), [("Run", read_run), ("Notebook", read_notebook), ("Project", read_project), ("Me", read_me)]
)
def test_the_client_s_fields_are_those_its_readers_know(schema, read):
    alone: dict[str, Any] = {"runId": "r", "status": "success"} if schema == "Run" else {"id": "i"}
    if schema == "Me":
        alone = {}
    for name in CLIENT[schema]:
        value = {"snapshot": {}, "folder": {}, "apiKey": {}, "user": {}, "workspace": {}}.get(name)
        given = {name: "r", "status": "success"} if name == "id" else {**alone, name: alone.get(name, value)}
        assert name not in read(given).extra, name
    every = {field for name in LIVE if name.partition(" ")[0] == schema for field in LIVE[name]} | {"anew"}
    for name in (every | REFERENCE[schema].keys()) - CLIENT[schema]:
        assert name in read({**alone, name: None}).extra, name


# Services that are not as they should be.


class Altered:
    """Passes requests to the model, and changes what comes back."""

    def __init__(self, service: Service, change: Callable[[str, Any], Any], headers: dict[str, str]) -> None:
        self._inner = MemoryTransport(service, latency=0.02)
        self._change = change
        self._headers = headers

    async def send(self, request: HttpRequest, /) -> HttpResponse:
        response = await self._inner.send(request)
        body = self._change(request.url, json.loads(response.body))
        response.headers.update(self._headers)
        return HttpResponse(response.status, response.headers, json.dumps(body).encode())


def altered(
    change: Callable[[str, Any], Any] = lambda _, body: body, *, page_tokens: Any = "cursor", **headers: str
) -> Checked:
    async def main() -> Checked:
        service = virtual_service(token=TOKEN, page_tokens=page_tokens)
        fill(service)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        recording = Recording(Altered(service, change, named), most=MOST_REQUESTS, clock=service.clock)
        return Checked(service, await examine(recording, TOKEN, recording=recording))

    return run_virtual(main())


def in_runs(change: Callable[[dict[str, Any]], None]) -> Callable[[str, Any], Any]:
    def changed(url: str, body: Any) -> Any:
        for row in body.get("runs", []) + [body[key] for key in ("run",) if key in body]:
            change(row)
        return body

    return changed


def in_pagination(**values: Any) -> Callable[[str, Any], Any]:
    def changed(_: str, body: Any) -> Any:
        if "pagination" in body:
            body["pagination"] = body["pagination"] | values
        return body

    return changed


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (in_runs(lambda row: row.update(machine={"gpu": 1})), r"fields, Run in a list: new: machine object.*`extra`"),
        (in_runs(lambda row: row.pop("createdAt")), r"fields, Run: missing: createdAt.*createdAt reads as absent"),
        (in_runs(lambda row: row.pop("status")), r"run.?: the client cannot read it: no 'status'"),
        (
            in_runs(lambda row: row.update(createdAt=17)),
            r"fields, Run in a list: of another type: createdAt number where",
        ),
        (in_runs(lambda row: row.update(status="queued")), r"values of status: unknown values: queued.*still going"),
        (
            in_runs(lambda row: row.update(finishedAt=row.pop("completedAt"))),
            r"dialect: mixed; live: .*; reference: fin",
        ),
        (in_pagination(hasMore=True), r"pages, runs: hasMore is true, the next token not"),
        (lambda _, body: {k: v for k, v in body.items() if k != "pagination"}, r"pages, projects: no pagination"),
        (lambda _, body: {"error": "no"} if "message" in body else body, r"404 without a message, body \{error text\}"),
    ],
)
def test_what_differs_is_named(change, line):
    seen = altered(change)
    assert any(re.search(line, found) for found in seen.differing), seen.text


def test_a_list_that_leads_in_a_circle_is_named():
    seen = altered(in_pagination(nextPageToken="0", hasMore=True), page_tokens="offset")
    assert seen.of("pages, second").found == "shows the first again"
    assert seen.of("pages, second").verdict == "differs"


def test_an_upside_down_listing_is_named():
    assert "oldest first" in checked(order="oldest").of("order of runs").found


def test_an_empty_token_ends_a_list_too():
    seen = altered(in_pagination(nextPageToken="", hasMore=False))
    assert seen.of("pages, end").found == "the next token is empty"


def test_headers_about_limits_are_shown_and_those_that_name_a_request_are_not():
    seen = altered(X_RateLimit_Limit="100, 100;w=60", X_Request_Id="0123-jane", RateLimit_Policy='"jane";q=9')
    assert seen.of("headers about limits").found == 'RateLimit-Policy: "...";q=9; X-RateLimit-Limit: 100, 100;w=60'
    assert seen.of("headers that name a request").found == "X-Request-Id"
    assert "no limit" not in seen.text
    assert checked().of("headers about limits").found == "none"
    announced = checked(limit=SlidingLimit(10.0, 10.0, announce=True))
    assert re.search(r"RateLimit-Limit: 10; RateLimit-Remaining: \d", announced.of("headers about limits").found)


def test_a_run_that_cannot_exist_and_does_is_named():
    async def main() -> list[str]:
        class Eager:
            async def send(self, request: HttpRequest, /) -> HttpResponse:
                return HttpResponse(206, {"Content-Type": "application/json"}, b'{"runId": "r", "status": "success"}')

        return [str(finding) for finding in diagnose(await examine(Eager(), TOKEN), "api.deepnote.com")]

    findings = run_virtual(main())
    assert any(re.search(r"differs. run that does not exist: status 206", found) for found in findings)
    assert any(re.search(r"differs. me: status 206", found) for found in findings)


def test_content_that_is_declared_otherwise_is_named():
    seen = altered(Content_Type="text/plain")
    assert seen.of("run").found == "JSON, declared as text/plain"


# Broken services.


def broken(fault: Fault) -> Callable[[Service], None]:
    return lambda service: service.faults.append(fault)


@pytest.mark.parametrize(
    ("script", "about", "found"),
    [
        (broken(Fault("html")), "me", r"status 200, text/html, no JSON"),
        (broken(Fault("error_before", status=500)), "projects", r"status 500"),
        (broken(Fault("error_before", status=503, html=True)), "me", r"status 503"),
        (
            broken(Fault("error_before", status=302, headers={"Location": "https://jane.example"})),
            "me",
            r"redirects, .*302",
        ),
        (broken(Fault("error_before", status=403)), "me", r"status 403"),
        (broken(Fault("error_before", status=429, headers={"Retry-After": "60"})), "me", r"status 429"),
        (broken(Fault("refuse")), "me", r"connection broken"),
        (broken(Fault("hang")), "me", r"no answer in time"),
    ],
)
def test_a_broken_service_is_described_with_few_requests(script, about, found):
    seen = checked(script)
    assert re.search(found, seen.of(about).found), seen.text
    assert not reached(seen.exchanges)
    assert len(seen.service.calls) <= 5
    assert "jane" not in seen.text.lower()


def test_a_refused_key_ends_it_after_one_request():
    seen = checked(token="another-token-altogether")
    assert len(seen.service.calls) == 1
    assert seen.differing == [str(seen.of("me"))]
    assert "the key is refused" in seen.of("me").why
    assert "another-token" not in seen.text


def test_a_service_that_falls_silent_is_left_alone_after_two_calls():
    seen = checked(broken(Fault("hang", path="/v2/projects")), notebook=True)
    assert [exchange.label for exchange in seen.exchanges[-2:]] == ["projects", "projects, 100 a page"]
    assert reached(seen.exchanges)


def test_one_that_breaks_off_half_way_is_still_read_where_it_answers():
    seen = checked(broken(Fault("error_before", status=500, path="/v2/projects/")))
    assert reached(seen.exchanges)
    assert seen.of("project").found == "status 500"
    assert seen.of("fields, Run").verdict == "ok"


def test_what_is_not_a_read_never_leaves():
    async def main() -> None:
        service = virtual_service(token=TOKEN)
        recording = Recording(MemoryTransport(service), most=2)
        with pytest.raises(TransportError):
            await recording.send(HttpRequest("POST", "https://api.deepnote.com/v2/runs"))
        for _ in range(2):
            await recording.send(HttpRequest("GET", "https://api.deepnote.com/v2/me"))
        with pytest.raises(TransportError):
            await recording.send(HttpRequest("GET", "https://api.deepnote.com/v2/me"))
        assert len(service.calls) == 2

    run_virtual(main())


# What is never shown.

SECRET = "JaneDoe"


def secrets() -> st.SearchStrategy[Any]:
    text = st.sampled_from(
        [f"{SECRET} x", f"{SECRET}@example.com", f"x/{SECRET}", f"{SECRET} 2026-01-01T00:00:00Z", ""]
    )
    leaf = st.none() | st.booleans() | st.integers(-3, 3) | text
    known = {field for fields in LIVE.values() for field in fields} | {
        "run",
        "runs",
        "projects",
        "project",
        "pagination",
    }
    names = st.sampled_from([*sorted(known), "notebook", "snapshot", f"{SECRET} key"])
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6))


@given(st.lists(secrets(), min_size=1, max_size=6), st.sampled_from([200, 200, 200, 404, 500]))
def test_whatever_json_comes_it_neither_raises_nor_shows_a_value(bodies, status):
    class Odd:
        calls = 0

        async def send(self, request: HttpRequest, /) -> HttpResponse:
            self.calls += 1
            headers = {"Content-Type": f"text/{SECRET} {SECRET}", "Retry-After": SECRET, f"X-{SECRET}-Id": SECRET}
            return HttpResponse(status, headers, json.dumps(bodies[self.calls % len(bodies)]).encode())

    exchanges = run_virtual(examine(Odd(), TOKEN))
    assert len(exchanges) <= MOST_REQUESTS
    shown = as_text({}, diagnose(exchanges, "api.deepnote.com"))
    assert SECRET not in shown


@pytest.mark.parametrize(("dialect", "how"), [("live", ()), ("reference", ("--json",))])
def test_the_command_shows_neither_key_nor_id_nor_name(dialect, how):
    with ThreadedDeepnote(dialect=dialect, token=TOKEN) as fake:
        fill(fake.service)
        notebook = next(iter(fake.service.notebooks))
        result = run_doctor("--base-url", fake.url, "--notebook", notebook, *how)
        service = fake.service
    assert result.exit_code == 0, result.output
    shown = result.output.lower()
    ids = {*service.projects, *service.notebooks, *service.runs, *service.owner.values()}
    for hidden in (TOKEN, "jane", "user@example", "storage", *ids, *(str(uuid.UUID(one)) for one in ids)):
        assert hidden.lower() not in shown
    assert not re.search(r"[0-9a-f]{8}", shown)
    if how:
        told = json.loads(result.output)
        assert (told["dialect"], told["requests"]) == (dialect, len(service.calls))
        assert told["clock_ahead"]["least"] <= 0.0 <= told["clock_ahead"]["most"]
    else:
        assert result.output.startswith("### deepnote-async doctor\n")


class Ended(NamedTuple):
    exit_code: int
    output: str


def run_doctor(*arguments: str, token: str = TOKEN) -> Ended:
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(output):
        patch.setenv("DEEPNOTE_TOKEN", token)
        return Ended(run(["doctor", *arguments]), output.getvalue())


def test_the_exit_status_tells_what_came_of_it():
    with ThreadedDeepnote(token=TOKEN, order="oldest") as fake:
        fill(fake.service)
        assert run_doctor("--base-url", fake.url).exit_code == 1
        refused = run_doctor("--base-url", fake.url, token="wrong-key-wrong-key")
        assert refused.exit_code == 3
        assert "wrong-key" not in refused.output
        fake.service.outage(kind="html")
        assert run_doctor("--base-url", fake.url).exit_code == 3
    gone = run_doctor("--base-url", fake.url)
    assert gone.exit_code == 3
    assert "Traceback" not in gone.output
    nowhere = run_doctor("--base-url", "ftp://nowhere")
    assert nowhere.exit_code == 2
    assert nowhere.output.startswith("deepnote-async: error: ")
    assert run_doctor(token="").exit_code == 2


@pytest.mark.slow
async def test_the_common_options_are_heeded():
    async with FakeDeepnote(latency=1.0) as fake:
        late = await Piped(fake)("doctor", "-q", "--timeout", "0.5")
    assert (late.status, late.out) == (4, "")
    assert late.err.startswith("deepnote-async: error: the service was not looked at within 0.5 s")


# The small parts.


@pytest.mark.parametrize(
    ("dates", "least", "most"),
    [
        ([(100.0, 100.2, 100)], -0.2, 1.0),
        ([(100.0, 100.2, 100), (100.9, 101.0, 100)], -0.2, 0.1),
        ([(100.0, 100.2, 160)], 59.8, 61.0),
        ([(100.0, 100.2, 100), (101.0, 101.2, 160)], -0.2, 60.0),
    ],
)
def test_the_clock_is_known_as_far_as_all_answers_agree(dates, least, most):
    exchanges = [
        Exchange(
            began=began,
            ended=ended,
            status=200,
            headers={"Date": f"Thu, 01 Jan 1970 00:{at // 60:02}:{at % 60:02} GMT"},
        )
        for began, ended, at in dates
    ]
    assert clock_offset(exchanges) == (pytest.approx(least), pytest.approx(most))
    assert clock_offset([Exchange(status=200)]) is None


def test_a_clock_far_ahead_differs():
    seen = altered(Date="Fri, 15 Jan 2100 08:00:00 GMT")
    assert "ahead" in seen.of("clock").found
    assert seen.of("clock").verdict == "differs"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (safe_name("completedAt"), "completedAt"),
        (safe_name("jane@example.com"), "(a name of 16 characters)"),
        (safe_name("6e3f7d3e70ab4a1d9a5e0c6d2d0f1b11"), "(a name of 32 characters)"),
        (safe_name("user4711"), "(a name of 8 characters)"),
        (safe_value("text/html"), "text/html"),
        (safe_value("abcdefghijklmnop"), "abcd..."),
        (safe_value("jane@example.com"), "(a text of 16 characters)"),
        (safe_limit("100;w=60"), "100;w=60"),
        (safe_limit("Thu, 01 Jan 2026 00:00:00 GMT"), "Thu, 01 Jan 2026 00:00:00 GMT"),
        (safe_limit('"Acme";q=5'), '"...";q=5'),
        (
            without_host("no connection to API.acme.com:443 (10.0.0.7)", "api.acme.com"),
            "no connection to HOST:443 (ADDRESS)",
        ),
    ],
)
def test_what_may_be_shown(shown, expected):
    assert shown == expected


def test_rows_are_compared_together():
    rows = [
        {"runId": "a", "status": "success", "createdAt": "t"},
        {"runId": "b", "status": "success", "finishedAt": "t"},
    ]
    seen = compare("Run in a list", rows, "reference")
    assert seen.as_expected
    assert seen.unread == {"notebookId"}
    assert compare("Run in a list", rows, "live").missing == {"notebookId", "createdAt", "completedAt"}
    assert compare("Run in a list", [{"id": "a", "status": "success"}], "reference").as_expected is False
    assert compare("Run in a list", [{"status": "success"}], "reference").missing == {"runId"}
    assert compare("Pagination", [{"nextPageToken": None}], "reference").wrong.keys() == {"nextPageToken"}
    assert compare("Pagination", [{"nextPageToken": None}], "mixed").as_expected
