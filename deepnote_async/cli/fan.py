"""One batch on the command line: its results printed, its progress shown, and Ctrl-C answered."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import NotStartedError
from ..ratelimit import TokenBucket
from .exits import API, FAILED, LEFT, OK, PROGRAM, TIMED_OUT, line_of, say, status_of
from .interrupts import on_interrupt
from .outputs import reason_of, text_of
from .progress import shown
from .remaining import Recent, in_words, remaining
from .render import columns_of, jsonable, print_json, print_table, seconds

if TYPE_CHECKING:
    from ..client import DeepnoteClient
    from ..models import Run
    from ..waiting.batch import RunBatch
    from ..waiting.results import RunResult
    from .common import Common

__all__ = ["Fan"]

COLUMNS: Final = ("index", "key", "inputs", "run_id", "status", "duration", "text", "error")
TABLE: Final = 40  # results that fit on a screen; of more only those that are not well are shown
NAMED: Final = 5  # runs that are named when left
RATE_OVER: Final = 5.0  # s
PACE_OVER: Final = 30.0  # s
GRACE: Final = 2.0  # s for starts on the wire, when left: their outcome belongs in the ledger


class Fan:
    """Takes in what a batch tells."""

    def __init__(self, common: Common, *, total: int, outputs: bool, at_once: int, ledger: Path | None) -> None:
        self._common = common
        self._total = total
        self._outputs = outputs
        self._at_once = at_once
        self._ledger = ledger
        self.limiter: TokenBucket = TokenBucket()
        self._client: DeepnoteClient | None = None
        self._batch: RunBatch | None = None
        self._began = 0.0
        self._since: dict[str, float] = {}  # when each run that goes on was first heard of
        self._status: dict[str, str] = {}
        self._lengths: list[float] = []
        self._sent = Recent(RATE_OVER)
        self._starts = Recent(PACE_OVER)
        self._ends = Recent(PACE_OVER)
        self._shown: list[dict[str, Any]] = []
        self._codes: Counter[int] = Counter()
        self._interrupted = False
        self._taken_back = 0  # requests read but not started

    def hear(self, run: Run) -> None:
        """Take in a run's new status."""
        # One that has ended and is still awaited has its outputs to be read.
        self._status[run.run_id] = "outputs to come" if run.is_terminal else str(run.status)
        self._since.setdefault(run.run_id, self._elapsed())

    async def drive(self, client: DeepnoteClient, batch: RunBatch) -> int:
        """See a batch to its end, and return the exit status."""
        self._client, self._batch = client, batch
        self._began = asyncio.get_running_loop().time()
        with on_interrupt(self._stop) as twice:
            try:
                async with batch, shown(self._common, self.told, self._share):
                    async for result in batch:
                        self._take(result)
            except asyncio.CancelledError:
                if not twice():
                    raise
                await client.aclose(GRACE)
                self._say_left(batch)
                return LEFT
        self._sum_up(batch)
        return LEFT if self._interrupted else self._exit_status()

    # Results.

    def _take(self, result: RunResult) -> None:
        if result.run_id is not None:
            self._learn(result.run_id, result.run)
        if self._interrupted and isinstance(result.error, NotStartedError):
            self._taken_back += 1
            return
        self._codes[self._code(result)] += 1
        record = self._record(result)
        if self._common.json:
            print_json(record)
        elif self._total <= TABLE or not result.ok:
            self._shown.append(record | {"key": result.request.key})

    def _learn(self, run_id: str, run: Run | None) -> None:
        self._status.pop(run_id, None)
        # Lengths as they are lived through here; a service under test may have a faster clock.
        since = self._since.pop(run_id, None)
        if run is not None and since is not None:
            self._lengths.append(self._elapsed() - since)
        elif run is not None and run.duration is not None:
            self._lengths.append(run.duration.total_seconds())

    def _code(self, result: RunResult) -> int:
        if result.error is None:
            return OK if result.ok else FAILED
        if isinstance(result.error, NotStartedError) and result.error.cause is None:
            # For want of time, or after --max-failures, whose failures tell by themselves.
            timeout = self._common.timeout
            return TIMED_OUT if timeout is not None and self._elapsed() >= timeout else FAILED
        return status_of(result.error)

    def _record(self, result: RunResult) -> dict[str, Any]:
        run = result.run
        record = {
            "index": result.index,
            "key": result.key,
            "inputs": jsonable(result.request.inputs or {}),
            "run_id": result.run_id,
            "status": None if run is None else str(run.status),
            "ok": result.ok,
            "created_at": None if run is None else jsonable(run.created_at),
            "finished_at": None if run is None else jsonable(run.finished_at),
            "duration": None if run is None else jsonable(run.duration),
            "error": line_of(result.error) if result.error is not None else None if run is None else reason_of(run),
        }
        return record | ({"text": None if run is None else text_of(run)} if self._outputs else {})

    def _exit_status(self) -> int:
        return next((code for code in (TIMED_OUT, API, 2, FAILED) if self._codes[code]), OK)

    def _sum_up(self, batch: RunBatch) -> None:
        if self._shown:
            records = sorted(self._shown, key=itemgetter("index"))
            print_table(columns_of(records, COLUMNS), records[:TABLE])
            if len(records) > TABLE:
                say(f"... and {len(records) - TABLE} more that are not well; --json tells of all.")
        stats = batch.stats
        words = [f"{stats.succeeded} of {self._total} succeeded", f"{stats.failed} failed"]
        errors, unread = stats.errors - self._taken_back, self._total - stats.read + self._taken_back
        words += [f"{errors} without a result"] if errors else []
        words += [f"{unread} not started"] if unread else []
        words += [f"{len(batch.leftover)} of the ledger's are no longer named"] if batch.leftover else []
        if not self._common.quiet:
            say(f"{', '.join(words)}, in {seconds(self._elapsed())}.")
        if self._interrupted:
            say(self._again())

    # Ctrl-C.

    def _stop(self) -> None:
        self._interrupted = True
        batch = self._batch
        if batch is None:
            return
        ended = batch.stats.ended
        batch.stop("Ctrl-C")
        going, in_flight = batch.running, batch.stats.in_flight
        waiting = self._total - ended - in_flight
        on_wire = f" and {in_flight - len(going)} being started" if in_flight > len(going) else ""
        behind_it = "\n" if sys.stderr.isatty() else ""  # the terminal's own ^C
        say(
            f"{behind_it}Nothing more is started. Still awaited: {_runs(going)}{on_wire}; not started: {waiting}."
            f" {self._again()} Ctrl-C again leaves at once; the runs go on."
        )

    def _again(self) -> str:
        if self._ledger is not None:
            return f"The same command, with --ledger {self._ledger}, goes on from here."
        return "Another time give --ledger FILE, and the same command goes on; without one it begins anew."

    def _say_left(self, batch: RunBatch) -> None:
        going = [result.run_id for result in batch.unfinished if result.run_id is not None]
        advice = "" if self._ledger is not None or not going else f" `{PROGRAM} runs wait ID...` waits for them."
        say(f"Left. Still going: {_runs(going)}. {self._again()}{advice}")

    # Progress.

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    def _share(self) -> float:
        return 0.0 if self._batch is None else self._batch.stats.ended / self._total

    def told(self) -> str:
        """Where the batch stands, in one line."""
        if self._batch is None or self._client is None:
            return ""
        stats, did = self._batch.stats, self._client.stats()
        going = self._batch.running
        by_status = Counter(self._status.get(run_id, "pending") for run_id in going)
        errors = stats.errors - self._taken_back
        results = f"{stats.succeeded} succeeded, {stats.failed} failed" + f", {errors} without a result" * (errors > 0)
        parts = [
            f"{stats.ended - self._taken_back} of {self._total} ended ({results})",
            f"{stats.in_flight} in flight{_counts(by_status)}",
            f"{self._sent.rate(self._elapsed(), did.requests):.1f} of {self.limiter.rate:.1f} requests/s",
            f"{did.throttled} throttled",
            seconds(self._elapsed()),
            in_words(self._remaining(going)),
        ]
        return " · ".join(part for part in parts if part)

    def _remaining(self, going: list[str]) -> tuple[float, float] | None:
        if self._batch is None:
            return None
        now, stats = self._elapsed(), self._batch.stats
        for run_id in going:
            self._since.setdefault(run_id, now)
        waiting = 0 if self._interrupted else self._total - stats.started - stats.errors
        return remaining(
            lengths=self._lengths,
            ages=[now - self._since[run_id] for run_id in going],
            waiting=max(waiting, 0),
            at_once=self._at_once,
            starts_a_second=self._starts.rate(now, stats.started),
            ends_a_second=self._ends.rate(now, stats.ended),
        )


def _runs(ids: list[str]) -> str:
    """How many runs, and some of them by name."""
    count = "1 run" if len(ids) == 1 else f"{len(ids)} runs"
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"{count} ({', '.join(ids[:NAMED])}{more})" if ids else count


def _counts(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in sorted(counts.items()))})" if counts else ""
