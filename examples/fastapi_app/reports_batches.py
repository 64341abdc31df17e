"""The batches of the service: each is a task that fans out runs, and a log of events for any number of listeners."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

from deepnote_async import BatchStats, ClientClosedError, DeepnoteClient, RunRequest, RunResult

FRAME = 0.4  # s between two chunks to one listener: what happens in between goes out together
HEARTBEAT = 10.0  # s of silence after which a comment shows that the stream lives
KEPT = 100  # batches; the oldest that are over make room


class Batch:
    """One batch: where it stands, and everything that has happened in it, as server-sent events."""

    def __init__(self, requests: Sequence[RunRequest]) -> None:
        self.id = secrets.token_urlsafe(9)
        self.requests = requests
        self.over = False
        self.stopped = False
        self.listeners = 0
        self._stats = BatchStats()
        self._log: list[str] = []
        self._news = asyncio.Event()
        self._add("plan", [request.inputs for request in requests])

    def standing(self) -> dict[str, Any]:
        stats = self._stats
        return {
            "id": self.id,
            "total": len(self.requests),
            "started": stats.started,
            "succeeded": stats.succeeded,
            "failed": stats.failed,
            "errors": stats.errors,
            "over": self.over,
            "stopped": self.stopped,
        }

    async def run(self, client: DeepnoteClient, max_in_flight: int) -> None:
        try:
            batch = client.run_many(self.requests, max_in_flight=max_in_flight, on_update=lambda _: self._wake())
            async with batch:
                self._stats = batch.stats
                async for result in batch:
                    self._ended(result)
        except ClientClosedError:
            self.stopped = True
        finally:
            self.over = True
            self._wake()

    def _ended(self, result: RunResult) -> None:
        run, error = result.run, result.error
        self.stopped |= isinstance(error, ClientClosedError)
        self._add(
            "run",
            {
                "index": result.index,
                "run_id": result.run_id,
                "status": "unknown" if run is None else run.status,
                "ok": result.ok,
                "seconds": None if run is None or run.duration is None else run.duration.total_seconds(),
                "error": str(error) if error is not None else None if run is None else run.error,
            },
        )

    def _add(self, kind: str, data: Any) -> None:
        # Written once, however many listen. The id is what a browser sends back when it reconnects.
        self._log.append(f"id: {len(self._log) + 1}\nevent: {kind}\ndata: {json.dumps(data)}\n\n")
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def events(self, after: int = 0) -> AsyncIterator[str]:
        """Everything from event ``after`` on, and where the batch stands, until it is over."""
        self.listeners += 1
        try:
            while True:
                news, over = self._news, self.over
                new = self._log[after:]
                after += len(new)
                yield "".join(new) + f"event: standing\ndata: {json.dumps(self.standing())}\n\n"
                if over:
                    return
                async for heartbeat in _until(news):
                    yield heartbeat
                await asyncio.sleep(FRAME)
        finally:
            self.listeners -= 1


async def _until(news: asyncio.Event) -> AsyncIterator[str]:
    while not news.is_set():
        try:
            async with asyncio.timeout(HEARTBEAT):
                await news.wait()
        except TimeoutError:
            yield ": still here\n\n"


class Batches:
    """The batches of one process, with the tasks that run them."""

    def __init__(self, client: DeepnoteClient) -> None:
        self._client = client
        self._batches: dict[str, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # They end by themselves: at the end of the grace period the client closes under them.
        await asyncio.gather(*self._tasks)

    def start(self, requests: Sequence[RunRequest], max_in_flight: int, client: DeepnoteClient | None = None) -> Batch:
        """Start a batch, with the tenant's ``client`` if there is one."""
        batch = Batch(requests)
        self._batches[batch.id] = batch
        task = asyncio.create_task(batch.run(client or self._client, max_in_flight), name=f"batch {batch.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._forget_old_ones()
        return batch

    def _forget_old_ones(self) -> None:
        over = [key for key, batch in self._batches.items() if batch.over]
        for key in over[: max(len(self._batches) - KEPT, 0)]:
            del self._batches[key]

    def get(self, batch_id: str) -> Batch | None:
        return self._batches.get(batch_id)

    def counts(self) -> dict[str, int]:
        return {
            "batches": len(self._batches),
            "batches_running": len(self._tasks),
            "listeners": sum(batch.listeners for batch in self._batches.values()),
        }
