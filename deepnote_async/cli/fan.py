"""One batch on the command line: its results printed, its progress shown, and Ctrl-C answered."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import NotStartedError, OutcomeUnknownError, RunTimeoutError
from ..ratelimit import TokenBucket
from .exits import API, FAILED, LEFT, OK, PROGRAM, TIMED_OUT, USAGE, say, status_of
from .interrupts import on_interrupt
from .progress import shown
from .remaining import Recent, in_words, remaining
from .render import print_json, seconds
from .results import left_record, print_results, record_of

if TYPE_CHECKING:
    from ..client import DeepnoteClient
    from ..models import Run
    from ..waiting.batch import RunBatch
    from ..waiting.results import RunResult
    from .common import Common

__all__ = ["Fan"]

TABLE: Final = 40  # results that fit on a screen; of more only those that are not well, unless outputs are asked for
NAMED: Final = 5  # runs that are named when left, where a ledger names them all
RATE_OVER: Final = 5.0  # s
PACE_OVER: Final = 30.0  # s
SETTLED: Final = 1.0  # s in which a ledger's runs are taken in, many at once: no pace to go on with
GRACE: Final = 2.0  # s for starts on the wire, when left: their outcome belongs in the ledger, or is told
SHORT: Final = 0.5  # s for them after the deadline, where no ledger keeps what they become
# The first of these that any result has is the batch's: more time mends the most, and a failed run tells the least.
GRAVEST: Final = (TIMED_OUT, API, USAGE, FAILED)


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
        self._told: set[int] = set()  # which requests' results came
        self._left_out = 0  # results that a table is not to show
        self._codes: Counter[int] = Counter()
        self._interrupted = False
        self._taken_back = 0  # requests read but not started

    def hear(self, run: Run) -> None:
        """Take in a run's new status."""
        # One that has ended and is still awaited has its outputs to be read.
        self._status[run.run_id] = "outputs to come" if run.is_terminal else str(run.status)
        self._since.setdefault(run.run_id, self._elapsed())
        self._look()

    async def drive(self, client: DeepnoteClient, batch: RunBatch) -> int:
        """See a batch to its end, and return the exit status."""
        self._client, self._batch = client, batch
        self._began = asyncio.get_running_loop().time()
        self._sent.rate(0.0, client.stats().requests)
        with on_interrupt(self._stop) as twice:
            try:
                async with batch, shown(self._common, self.told, self._share):
                    async for result in batch:
                        self._take(result)
            except BrokenPipeError:
                raise  # nobody reads any more
            except (Exception, asyncio.CancelledError) as error:
                cancelled = isinstance(error, asyncio.CancelledError)
                if cancelled or batch.stats.read:
                    await self._leave(client, batch)
                if not (cancelled and twice()):
                    raise
                return LEFT
        self._print_table()
        self._sum_up(batch)
        # Starts that the deadline caught on the wire. A service that does not answer is not to keep anybody long.
        await client.aclose(SHORT if self._ledger is None else GRACE)
        return LEFT if self._interrupted and self._not_started(batch) else self._exit_status()

    async def _leave(self, client: DeepnoteClient, batch: RunBatch) -> None:
        """Whatever ended the batch before its time: tell of what had ended till then, and of what goes on."""
        with contextlib.suppress(Exception):  # the one that ended the batch is on its way already
            async for result in batch:  # ended, but not taken yet
                self._take(result)
        self._print_table()
        self._sum_up(batch)
        await client.aclose(GRACE)
        if self._common.json:
            for result in batch.unfinished:
                if result.index not in self._told:
                    print_json(left_record(result, outputs=self._outputs))
        self._say_left(batch)

    # Results.

    def _take(self, result: RunResult) -> None:
        if result.run_id is not None:
            self._learn(result.run_id, result.run)
        self._told.add(result.index)
        self._look()
        if self._interrupted and isinstance(result.error, NotStartedError) and result.error.cause is None:
            self._taken_back += 1
            return
        self._codes[self._code(result)] += 1
        if self._common.json:
            print_json(record_of(result, outputs=self._outputs))
        elif self._outputs or self._total <= TABLE or not result.ok:
            self._shown.append(record_of(result, outputs=self._outputs) | {"key": result.request.key})
        else:
            self._left_out += 1

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
            return TIMED_OUT if result.error.out_of_time else FAILED
        if isinstance(result.error, OutcomeUnknownError) and isinstance(result.error.cause, RunTimeoutError):
            return TIMED_OUT  # it was on the wire at the deadline
        return status_of(result.error)

    def _exit_status(self) -> int:
        return next((code for code in GRAVEST if self._codes[code]), OK)

    def _not_started(self, batch: RunBatch) -> int:
        return self._total - batch.stats.read + self._taken_back

    def _print_table(self) -> None:
        """The results, where they were not printed as they came."""
        records, self._shown = sorted(self._shown, key=itemgetter("index")), []
        shown = records if self._outputs else records[:TABLE]
        if shown:
            print_results(shown)
        if len(records) > len(shown):
            say(f"... and {len(records) - len(shown)} more that are not well; --json tells of all.")
        if self._left_out and not self._common.quiet:
            say(f"Not listed: {self._left_out} that are well; --outputs or --json lists them.")

    def _sum_up(self, batch: RunBatch) -> None:
        stats = batch.stats
        words = [f"{stats.succeeded} of {self._total} succeeded", f"{stats.failed} failed"]
        errors, unread = stats.errors - self._taken_back, self._not_started(batch)
        words += [f"{errors} without a result"] if errors else []
        words += [f"{unread} not started"] if unread else []
        words += [f"{len(batch.leftover)} of the ledger's are no longer named"] if batch.leftover else []
        if not self._common.quiet:
            say(f"{', '.join(words)}, in {seconds(self._elapsed())}.")
        if self._interrupted and unread and not stats.in_flight:
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
        if not waiting:
            stand = f"All are started. Still awaited: {_runs(going)}{on_wire}."
        else:
            stand = f"Nothing more is started. Still awaited: {_runs(going)}{on_wire}; not started: {waiting}."
            stand += f" {self._again()}"
        say(f"{behind_it}{stand} Ctrl-C again leaves at once; the runs go on.")

    def _again(self) -> str:
        if self._ledger is not None:
            return f"The same command, with --ledger {self._ledger}, goes on from here."
        return "Another time give --ledger FILE, and the same command goes on; without one it begins anew."

    def _say_left(self, batch: RunBatch) -> None:
        unfinished = batch.unfinished
        going = [result.run_id for result in unfinished if result.run_id is not None]
        unknown = [result for result in unfinished if result.run_id is None]
        words = [f"Left. Still going: {_runs(going)}."] if going or not unknown else ["Left."]
        if unknown:
            what = "1 start" if len(unknown) == 1 else f"{len(unknown)} starts"
            notebook = unknown[0].request.notebook_id
            words.append(f"{what} may have happened: look with `{PROGRAM} notebooks runs {notebook}`.")
        words.append(self._again())
        if going and self._ledger is None:
            words.append(f"`{PROGRAM} runs wait {' '.join(going)}` waits for them.")  # no other place names them
        say(" ".join(words))

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
        starts, ends = self._look()
        for run_id in going:
            self._since.setdefault(run_id, now)
        waiting = 0 if self._interrupted else self._total - stats.started - stats.errors
        return remaining(
            lengths=self._lengths,
            ages=[now - self._since[run_id] for run_id in going],
            waiting=max(waiting, 0),
            at_once=self._at_once,
            starts_a_second=starts,
            ends_a_second=ends,
        )

    def _look(self) -> tuple[float, float]:
        """How many runs are started and end a second, of late; progress in a pipe asks too seldom to begin with it."""
        now = self._elapsed()
        if self._batch is None or now < SETTLED:
            return 0.0, 0.0
        return self._starts.rate(now, self._batch.stats.started), self._ends.rate(now, self._batch.stats.ended)


def _runs(ids: list[str]) -> str:
    """How many runs, and some of them by name."""
    count = "1 run" if len(ids) == 1 else f"{len(ids)} runs"
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"{count} ({', '.join(ids[:NAMED])}{more})" if ids else count


def _counts(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in sorted(counts.items()))})" if counts else ""
