"""The service: POST a batch of reports, GET where it stands, or listen to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import attrs
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from reports_batches import Batch, Batches

from deepnote_async import DeepnoteClient, grid
from deepnote_async.fastapi import DeepnoteDep, add_deepnote_handlers, deepnote_lifespan

PAGE = Path(__file__).parent / "page"
NOTHING_FROM_ELSEWHERE = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"


class BatchOrder(BaseModel):
    """A report for each region and month."""

    regions: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field(min_length=1, max_length=20)
    months: int = Field(ge=1, le=100)
    max_in_flight: int = Field(default=100, ge=1, le=200)


async def batches_of(request: Request) -> Batches:
    batches: Batches = request.app.state.batches
    return batches


async def batch_of(batch_id: str, batches: Annotated[Batches, Depends(batches_of)]) -> Batch:
    batch = batches.get(batch_id)
    if batch is None:
        raise HTTPException(404, "no such batch")
    return batch


BatchesDep = Annotated[Batches, Depends(batches_of)]
BatchDep = Annotated[Batch, Depends(batch_of)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Batches(app.state.deepnote) as app.state.batches:
        yield


def create_app(
    notebook_id: str, *, client: Callable[[], DeepnoteClient] = DeepnoteClient, grace: float = 10.0
) -> FastAPI:
    app = FastAPI(title="Reports", lifespan=deepnote_lifespan(lifespan, client=client, grace=grace))
    add_deepnote_handlers(app)
    _add_batches(app, notebook_id)
    _add_page(app)
    return app


def _add_batches(app: FastAPI, notebook_id: str) -> None:
    @app.post("/batches", status_code=202)
    async def start(order: BatchOrder, batches: BatchesDep, response: Response) -> dict[str, Any]:
        requests = list(grid(notebook_id, region=order.regions, month=range(1, order.months + 1)))
        batch = batches.start(requests, order.max_in_flight)
        response.headers["Location"] = f"/batches/{batch.id}"
        return batch.standing()

    @app.get("/batches/{batch_id}")
    async def standing(batch: BatchDep) -> dict[str, Any]:
        return batch.standing()

    @app.get("/batches/{batch_id}/events")
    async def events(batch: BatchDep, last_event_id: Annotated[int, Header(ge=0)] = 0) -> StreamingResponse:
        # An intermediary that buffers or alters a stream would hold the events back.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(batch.events(last_event_id), media_type="text/event-stream", headers=headers)

    @app.post("/reports/{region}")
    async def report(region: str, client: DeepnoteDep) -> dict[str, Any]:
        run = await client.run(notebook_id, inputs={"region": region}, timeout=900, check=True)
        return {"run_id": run.run_id, "seconds": run.duration.total_seconds() if run.duration else None}

    @app.get("/health")
    async def health(client: DeepnoteDep, batches: BatchesDep) -> dict[str, Any]:
        return attrs.asdict(client.stats()) | batches.counts() | {"loop_tasks": len(asyncio.all_tasks())}


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "board.html", headers={"Content-Security-Policy": NOTHING_FROM_ELSEWHERE})

    app.mount("/page", StaticFiles(directory=PAGE))
