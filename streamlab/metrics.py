"""Counts become tables here: metrics, ledger, history. Everything exact comes from the histogram of paths."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch, Clocked
from streamlab.paths import Counts, Paths, Totals
from streamlab.tables import table

if TYPE_CHECKING:
    import pandas as pd

METRIC_COLUMNS = (
    "received",
    "forked",
    "emitted",
    "filtered",
    "absorbed",
    "dead_lettered",
    "in_flight",
    "errors",
    "retries",
    "time_s",
    "mean_us",
    "p50_us",
    "p95_us",
    "p99_us",
    "lines_per_s",
    "utilization",
)
HISTORY_COLUMNS = ("time", "processor", "received", "emitted", "errors", "retries", "lines_per_s", "mean_us", "p99_us")
LEDGER = METRIC_COLUMNS[:7]

#: Buckets of a `Histogram` are this much wider than the one before.
_GROWTH = 1.05
_SMALLEST = 1e-8
_PER_LOG = 1 / math.log(_GROWTH)
_BUCKETS = math.ceil(math.log(1e5 / _SMALLEST, _GROWTH))


class Histogram:
    """Durations in buckets whose width grows by 5%, from 10 ns to a day; a quantile is off by 2.5% at most.

    The idea is that of DDSketch (Masson, Rim, Lee: *DDSketch*, VLDB 2019): relative error, fixed size, and two can be added.
    """

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.buckets = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0

    def add(self, seconds: Sequence[float]) -> None:
        """Take in durations."""
        scaled = np.maximum(np.asarray(seconds) / _SMALLEST, 1.0)
        indexes = np.minimum((np.log(scaled) * _PER_LOG).astype(np.int64), _BUCKETS - 1)
        for index in indexes.tolist():
            self.buckets[index] += 1
        self.count += len(indexes)
        self.total += sum(seconds)

    def copy(self) -> Histogram:
        """Return one that stays as this is now."""
        other = Histogram()
        other.buckets, other.count, other.total = self.buckets.copy(), self.count, self.total
        return other

    def quantile(self, share: float) -> float:
        """Return the duration, in seconds, that ``share`` of them do not exceed; NaN when there are none."""
        if not self.count:
            return math.nan
        index = int(np.searchsorted(np.cumsum(self.buckets), share * self.count))
        return float(_SMALLEST * _GROWTH ** (index + 0.5))


@dataclass(slots=True)
class Snapshot:
    """All counters at one moment. It balances: see `streamlab.paths.Counts.balances`.

    Attributes:
        totals: exact counts.
        retries: additional attempts by processor.
        seconds: time by processor; within a Python segment split by the timed sample.
        timed: durations of the timed sample, by processor.
        uptime: seconds that the run has been running.
    """

    totals: Totals
    retries: Mapping[str, int]
    seconds: Mapping[str, float]
    timed: Mapping[str, Histogram]
    uptime: float

    def row(self, name: str) -> dict[str, Any]:
        """Return one processor's metrics, by column; quantiles are NaN when nothing was timed."""
        counts = self.totals.processors.get(name, Counts())
        seconds, timed = self.seconds.get(name, 0.0), self.timed.get(name, Histogram())
        row: dict[str, Any] = {column: getattr(counts, column) for column in LEDGER}
        row["errors"] = counts.errors
        row["retries"] = self.retries.get(name, 0)
        row["time_s"] = seconds
        row["mean_us"] = seconds / counts.received * 1e6 if counts.received else math.nan
        for column, share in (("p50_us", 0.5), ("p95_us", 0.95), ("p99_us", 0.99)):
            row[column] = timed.quantile(share) * 1e6
        row["lines_per_s"] = counts.received / self.uptime if self.uptime else 0.0
        row["utilization"] = min(seconds / self.uptime, 1.0) if self.uptime else 0.0
        return row

    def lines(self) -> dict[str, int]:
        """Return the run's ledger, by column."""
        return {column: getattr(self.totals.run, column) for column in LEDGER}

    def table(self, processors: Sequence[str]) -> pd.DataFrame:
        """Return the metrics table; ``attrs["timed"]`` says how many visits of each processor were timed."""
        import pandas as pd

        frame = pd.DataFrame([self.row(name) for name in processors], columns=list(METRIC_COLUMNS))
        frame.index = pd.Index(list(processors), name="processor")
        frame.attrs["timed"] = {name: timed.count for name, timed in self.timed.items()}
        return frame


class Ledger:
    """The books of a run: how many branches came to each path, and the time that it took.

    Attributes:
        pending: lines that the engine has and whose batch is not booked: they are in flight at the entry.
    """

    def __init__(self, entry: str) -> None:
        self._entry = entry
        self._closed = Totals()
        self._paths: Paths | None = None
        self._histogram: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.pending = 0
        self._retries: dict[str, int] = {}
        self._timed: dict[str, Histogram] = {}
        self._segments: Sequence[Clocked] = ()

    def book(self, batch: Batch) -> None:
        """Book where the branches of a batch came to; its lines are no longer pending."""
        if batch.paths is not self._paths:
            self._close()
            self._paths = batch.paths
        counted = np.bincount(batch.ids, minlength=len(self._histogram))
        counted[: len(self._histogram)] += self._histogram
        self._histogram = counted
        self.pending -= batch.entered
        self._segments = batch.clocked
        durations: dict[str, list[float]] = {}
        for hops in batch.hops.values():
            for hop in hops:
                if hop.duration is not None:
                    durations.setdefault(hop.processor, []).append(hop.duration)
        for name, seconds in durations.items():
            self._timed.setdefault(name, Histogram()).add(seconds)
        for name, more in batch.retries.items():
            self._retries[name] = self._retries.get(name, 0) + more

    def _close(self) -> None:
        """Add up a tree that is left for a new one."""
        if self._paths is not None:
            self._closed.add(self._paths.totals(self._histogram))
        self._histogram = np.zeros(0, dtype=np.int64)

    def totals(self) -> Totals:
        """Return the exact counts so far."""
        totals = Totals()
        totals.add(self._closed)
        if self._paths is not None:
            totals.add(self._paths.totals(self._histogram))
        if self.pending:
            entry = totals.of(self._entry)
            for counts in (totals.run, entry):
                counts.received += self.pending
                counts.in_flight += self.pending
            totals.carried(None, self._entry, self.pending)
        return totals

    def snapshot(self, uptime: float) -> Snapshot:
        """Return all counters as they are now."""
        totals = self.totals()
        seconds: dict[str, float] = {}
        for segment in self._segments:
            seconds.update(segment.exact or self._split(segment, totals))
        return Snapshot(totals, dict(self._retries), seconds, {n: h.copy() for n, h in self._timed.items()}, uptime)

    def _split(self, segment: Clocked, totals: Totals) -> dict[str, float]:
        """Share a segment's time among its processors: timed mean times visits, scaled to the whole."""
        means = {n: self._timed[n].total / self._timed[n].count for n in segment.names if n in self._timed}
        usual = sum(means.values()) / len(means) if means else 1.0
        weight = {n: totals.of(n).received * means.get(n, usual) for n in segment.names}
        whole = sum(weight.values())
        return {n: segment.seconds * w / whole if whole else 0.0 for n, w in weight.items()}


class History:
    """Metrics over time: what each processor did in each second, for the last hour."""

    def __init__(self, processors: Iterable[str], seconds: int = 3600) -> None:
        self._processors = tuple(processors)
        self._ticks: deque[tuple[float, float, dict[str, dict[str, Any]]]] = deque(maxlen=seconds)
        self._left: tuple[float, float, dict[str, dict[str, Any]]] = (0.0, 0.0, {})  # the tick before the first one kept

    def tick(self, time: float, snapshot: Snapshot) -> None:
        """Take in a snapshot, at ``time`` seconds since the epoch."""
        if len(self._ticks) == self._ticks.maxlen:
            self._left = self._ticks[0]
        self._ticks.append((time, snapshot.uptime, {name: snapshot.row(name) for name in self._processors}))

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a tick and processor; counters so far, rate and mean since the tick before."""
        rows: list[dict[str, Any]] = []
        _, previous, before = self._left
        for time, uptime, metrics in self._ticks:
            for name, now in metrics.items():
                then = before.get(name, {"received": 0, "time_s": 0.0})
                count, busy = now["received"] - then["received"], now["time_s"] - then["time_s"]
                row = {column: now.get(column) for column in HISTORY_COLUMNS}
                row.update(time=time, processor=name, mean_us=max(busy, 0.0) / count * 1e6 if count else math.nan)
                row["lines_per_s"] = count / (uptime - previous) if uptime > previous else 0.0
                rows.append(row)
            before, previous = metrics, uptime
        return rows

    def table(self) -> pd.DataFrame:
        """Return the history table; ``time`` in UTC."""
        return table(self.rows(), HISTORY_COLUMNS)
