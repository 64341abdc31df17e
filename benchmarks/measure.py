"""What was told, held against the service's own account. Plain values, no I/O."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from .settings import Setting
from .worlds import Account, Seen

__all__ = ["Measured", "Told", "average", "measure", "percentile"]


@attrs.define
class Told:
    """When each run's end was told, on the service's clock, and how many had failed."""

    when: dict[str, float] = attrs.field(factory=dict)
    failed: int = 0
    repeated: int = 0

    def note(self, run_id: str, now: float, *, succeeded: bool) -> None:
        """Take in that a run's end was told."""
        self.repeated += run_id in self.when
        self.when[run_id] = now
        self.failed += not succeeded


@attrs.frozen(kw_only=True)
class Measured:
    """One way's figures; delays in seconds, shares from 0 to 1, None where there is nothing to measure.

    ``requests`` is a run, over the runs that were told. ``throttled`` is the share of all answers, ``settled`` that
    after the first two windows. ``product`` is (requests - 1 - share of failed runs) x mean delay: what is spent on
    looks beyond the one read that a failed run needs, against what it buys.
    """

    finished: float
    requests: float | None
    mean: float | None
    late: float | None
    throttled: float
    settled: float | None
    used: float | None
    product: float | None
    seconds: float


def measure(setting: Setting, told: Told, account: Account) -> Measured:
    """The figures of one way on one service."""
    calls = sorted(account.calls, key=lambda call: call.time)
    delays = sorted(_delays(told, account))
    count = len(delays)
    requests = len(calls) / count if count else None
    mean = statistics.fmean(delays) if delays else None
    product = None
    if requests is not None and mean is not None:
        product = (requests - 1.0 - told.failed / count) * mean
    after = _after_two_windows(setting, calls)
    return Measured(
        finished=count,
        requests=requests,
        mean=mean,
        late=percentile(delays, 0.95),
        throttled=share(calls, lambda call: call.status == 429) or 0.0,
        settled=share(after, lambda call: call.status == 429),
        used=_used(setting, calls),
        product=product,
        seconds=calls[-1].time - calls[0].time if calls else 0.0,
    )


def _delays(told: Told, account: Account) -> list[float]:
    ends = account.ends
    return [max(now - end, 0.0) for run_id, now in told.when.items() if (end := ends.get(run_id)) is not None]


def percentile(ordered: Sequence[float], part: float) -> float | None:
    """The value that such a part of an ascending list stays under."""
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else None


def share(calls: Sequence[Seen], fits: Callable[[Seen], bool]) -> float | None:
    """The part of the calls that fit."""
    return sum(map(fits, calls)) / len(calls) if calls else None


def _used(setting: Setting, calls: Sequence[Seen]) -> float | None:
    """The share of the limit used while it is the bottleneck: between the first accepted start and the last.

    Of a sliding limit: the requests let in then, over rate x time (the burst is not counted in what it allows). Of a
    window: the requests let in, over the quota, in all windows that ended by the last start.
    """
    starts = [call.time for call in calls if call.kind == "start" and call.status is not None and call.status < 300]
    if setting.pace is None or not starts:
        return None
    first, last = starts[0], starts[-1]
    if setting.window is not None:
        full = [window for window in _windows(setting, calls) if window[0].time + setting.window_seconds <= last]
        let_in = sum(call.status != 429 for window in full for call in window)
        return let_in / (len(full) * setting.window) if full else None
    let_in = sum(call.status != 429 for call in calls if first <= call.time < last)
    return let_in / (setting.pace * (last - first)) if last > first else None


def _windows(setting: Setting, calls: Sequence[Seen]) -> list[list[Seen]]:
    """The calls by window; one opens with the first request after the last has ended."""
    windows: list[list[Seen]] = []
    for call in calls:
        if not windows or call.time >= windows[-1][0].time + setting.window_seconds:
            windows.append([])
        windows[-1].append(call)
    return windows


def _after_two_windows(setting: Setting, calls: Sequence[Seen]) -> list[Seen]:
    if setting.window is None:
        return []
    return [call for window in _windows(setting, calls)[2:] for call in window]


def average(several: Sequence[Measured]) -> Measured:
    """The mean of several seeds; of ``finished`` the least, for one lost run is one too many."""
    values: dict[str, Any] = {}
    for name in attrs.fields_dict(Measured):
        known = [value for one in several if (value := getattr(one, name)) is not None]
        values[name] = statistics.fmean(known) if known else None
    return Measured(**values | {"finished": min(one.finished for one in several)})
