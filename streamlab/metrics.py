"""Counts become tables here: metrics, ledger, history. Everything exact comes from the histogram of paths."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch, Clocked
from streamlab.paths import Counts, Fate, Paths, Totals, Way
from streamlab.tables import frame_of, table

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
#: What `History` keeps of a moment: what the table has, and what a chart needs beside it.
MOMENT_COLUMNS = (*HISTORY_COLUMNS, "p50_us", "p95_us")

#: Ways through the graph that are told of.
MOST_WAYS = 200


def _edges() -> NDArray[np.float64]:
    """Return upper edges from 10 ns to 100,000 s: 1, 2 and 5 times each power of ten, and those that part what lies between.

    So the bounds that others ask for (1 ms, 0.5 s) are edges too, and how many durations they are not exceeded by is exact.
    """
    edges = [1e-8]
    for exponent in range(-8, 5):
        for low, high, parts in ((1, 2, 14), (2, 5, 19), (5, 10, 14)):
            between = [low * (high / low) ** (part / parts) for part in range(1, parts)]
            edges += [float(f"{factor}e{exponent}") for factor in (*between, high)]
    return np.array(edges)


class Histogram:
    """Durations in buckets whose width grows by 5%, from 10 ns to a day; a quantile is off by 2.6% at most.

    The idea is that of DDSketch (Masson, Rim, Lee: *DDSketch*, VLDB 2019): relative error, fixed size, and two can be added.

    Attributes:
        EDGES: upper edges of the buckets, seconds; the last bucket has what is longer.
        count: how many durations there are.
        total: what they add up to, seconds.
    """

    EDGES: ClassVar[NDArray[np.float64]] = _edges()

    __slots__ = ("_buckets", "count", "total")

    def __init__(self) -> None:
        self._buckets = np.zeros(len(self.EDGES) + 1, dtype=np.int64)
        self.count = 0
        self.total = 0.0

    def add(self, seconds: Sequence[float], times: int = 1) -> None:
        """Take in durations, each ``times`` times."""
        np.add.at(self._buckets, np.searchsorted(self.EDGES, np.asarray(seconds)), times)
        self.count += len(seconds) * times
        self.total += sum(seconds) * times

    def copy(self) -> Histogram:
        """Return one that stays as this is now."""
        return self.since(None)

    def since(self, before: Histogram | None) -> Histogram:
        """Return what has come after ``before``, a copy of this one."""
        other = Histogram()
        other._buckets = self._buckets.copy() if before is None else self._buckets - before._buckets
        other.count = self.count - (before.count if before else 0)
        other.total = self.total - (before.total if before else 0.0)
        return other

    def merge(self, other: Histogram) -> None:
        """Take in what another one has."""
        self._buckets += other._buckets
        self.count += other.count
        self.total += other.total

    def saved(self) -> dict[str, Any]:
        """Return what it has as plain data, for `restored`."""
        used = np.flatnonzero(self._buckets)
        return {"at": used.tolist(), "counts": self._buckets[used].tolist(), "total": self.total}

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Histogram:
        """Return one that has what another one had when it was `saved`."""
        histogram = cls()
        histogram._buckets[saved["at"]] = saved["counts"]
        histogram.count, histogram.total = sum(saved["counts"]), saved["total"]
        return histogram

    def within(self, seconds: Sequence[float]) -> list[int]:
        """Return how many durations do not exceed each of ``seconds``; exact where that is an edge."""
        edges = np.searchsorted(self.EDGES, np.asarray(seconds))
        counts: list[int] = np.cumsum(self._buckets)[edges].tolist()
        return counts

    def quantile(self, share: float) -> float:
        """Return the duration, in seconds, that ``share`` of them do not exceed; NaN when there are none."""
        if not self.count:
            return math.nan
        index = int(np.searchsorted(np.cumsum(self._buckets), max(share * self.count, 1)))
        low, high = self.EDGES[max(index - 1, 0)], self.EDGES[min(index, len(self.EDGES) - 1)]
        return math.sqrt(low * high)


@dataclass(slots=True)
class Snapshot:
    """All counters at one moment. It balances: see `streamlab.paths.Counts.balances`.

    Attributes:
        totals: exact counts.
        retries: additional attempts by processor.
        seconds: time by processor; within a Python segment split by the timed sample.
        timed: durations of the timed sample, by processor.
        uptime: seconds that the run has been running.
        ways: the ways that most branches went, with counts, falling.
        end_to_end: how long lines took, from when they were taken from the source until the sink had what came of them.
        lost_lines: lines that are known to be lost before they were read.
    """

    totals: Totals
    retries: Mapping[str, int]
    seconds: Mapping[str, float]
    timed: Mapping[str, Histogram]
    uptime: float
    ways: Mapping[Way, int]
    end_to_end: Histogram
    lost_lines: int = 0

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
        frame.index = pd.Index(frame_of({"processor": list(processors)})["processor"])
        frame.attrs["timed"] = {name: timed.count for name, timed in self.timed.items()}
        return frame


@dataclass(frozen=True, slots=True)
class Counted:
    """What a ledger has of one tree of paths, to be added to another one: all of it adds up, in any order.

    Attributes:
        branches: how many came to each node, by its number.
        retries: additional attempts by processor.
        seconds: time by processor.
        timed: durations of the timed sample, by processor.
    """

    branches: Mapping[int, int]
    retries: Mapping[str, int]
    seconds: Mapping[str, float]
    timed: Mapping[str, Histogram]


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
        self._left_ways: Counter[Way] = Counter()
        self._end_to_end = Histogram()
        self._retries: dict[str, int] = {}
        self._timed: dict[str, Histogram] = {}
        self._segments: Sequence[Clocked] = ()
        self._earlier: dict[str, float] = {}  # seconds by processor of the runs that this one goes on with

    def saved(self) -> dict[str, Any]:
        """Return all that it has as plain data, for `restore`; nothing may be pending."""
        return {
            "totals": self.totals().saved(),
            "ways": [[list(names), fate.value, count] for (names, fate), count in self.ways().items()],
            "retries": dict(self._retries),
            "seconds": self._spent(self.totals()),
            "timed": {name: histogram.saved() for name, histogram in self._timed.items()},
            "end_to_end": self._end_to_end.saved(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on where another one was when it was `saved`."""
        self._closed = Totals.restored(saved["totals"])
        self._left_ways = Counter({(tuple(names), Fate(fate)): count for names, fate, count in saved["ways"]})
        self._retries = dict(saved["retries"])
        self._earlier = dict(saved["seconds"])
        self._timed = {name: Histogram.restored(histogram) for name, histogram in saved["timed"].items()}
        self._end_to_end = Histogram.restored(saved["end_to_end"])

    def book(self, batch: Batch, seconds: float | None = None) -> None:
        """Book where the branches of a batch came to, and how long it took in all; its lines are no longer pending."""
        if batch.paths is not self._paths:
            self._close()
            self._paths = batch.paths
        counted = np.bincount(batch.ids, minlength=len(self._histogram))
        counted[: len(self._histogram)] += self._histogram
        self._histogram = counted
        self.pending -= batch.entered
        self._segments = batch.clocked
        if seconds is not None:
            self.took(seconds, len(batch.lines))
        durations: dict[str, list[float]] = {}
        for hops in batch.hops.values():
            for hop in hops:
                if hop.duration is not None:
                    durations.setdefault(hop.processor, []).append(hop.duration)
        for name, measured in durations.items():
            self._timed.setdefault(name, Histogram()).add(measured)
        for name, more in batch.retries.items():
            self._retries[name] = self._retries.get(name, 0) + more

    def took(self, seconds: float, lines: int) -> None:
        """Book how long lines took in all."""
        self._end_to_end.add([seconds], lines)

    def counted(self, done: Totals | None = None) -> Counted:
        """Return what it has of the tree that it is at, for `merge`.

        Args:
            done: what was done in the time that it has; by default all that was done for the branches that it has.
        """
        nodes = np.flatnonzero(self._histogram).tolist()
        branches = {node: int(self._histogram[node]) for node in nodes}
        return Counted(branches, self._retries, self._spent(done or self.totals()), self._timed)

    def merge(self, paths: Paths, counted: Counted) -> None:
        """Book what another one has counted, by numbers of nodes of a tree."""
        if paths is not self._paths:
            self._close()
            self._paths = paths
        histogram = np.zeros(len(paths), dtype=np.int64)
        histogram[: len(self._histogram)] = self._histogram
        for node, count in counted.branches.items():
            histogram[node] += count
        self._histogram = histogram
        self._take(counted)

    def merge_totals(self, totals: Totals, counted: Counted) -> None:
        """Book what another one has counted, added up; of ``counted`` only what it took."""
        self._closed.add(totals)
        self._take(counted)

    def _take(self, counted: Counted) -> None:
        for name, more in counted.retries.items():
            self._retries[name] = self._retries.get(name, 0) + more
        for name, spent in counted.seconds.items():
            self._earlier[name] = self._earlier.get(name, 0.0) + spent
        for name, durations in counted.timed.items():
            self._timed.setdefault(name, Histogram()).merge(durations)

    def _close(self) -> None:
        """Add up a tree that is left for a new one."""
        if self._paths is not None:
            self._closed.add(self._paths.totals(self._histogram))
            self._left_ways.update(self._paths.ways(self._histogram, MOST_WAYS))
            self._left_ways = Counter(dict(self._left_ways.most_common(MOST_WAYS)))
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

    def ways(self) -> dict[Way, int]:
        """Return the ways that most branches went, with counts, falling; at most `MOST_WAYS`."""
        ways = self._left_ways.copy()
        if self._paths is not None:
            ways.update(self._paths.ways(self._histogram, MOST_WAYS))
        if self.pending:
            ways[(self._entry,), Fate.IN_FLIGHT] += self.pending
        return dict(ways.most_common(MOST_WAYS))

    def snapshot(self, uptime: float) -> Snapshot:
        """Return all counters as they are now."""
        totals = self.totals()
        seconds = self._spent(totals)
        timed = {name: histogram.copy() for name, histogram in self._timed.items()}
        return Snapshot(totals, dict(self._retries), seconds, timed, uptime, self.ways(), self._end_to_end.copy())

    def _spent(self, totals: Totals) -> dict[str, float]:
        """Return the seconds of each processor."""
        seconds = dict(self._earlier)
        for segment in self._segments:
            for name, spent in (segment.exact or self._split(segment, totals)).items():
                seconds[name] = seconds.get(name, 0.0) + spent
        return seconds

    def _split(self, segment: Clocked, totals: Totals) -> dict[str, float]:
        """Share a segment's time among its processors: timed mean times visits, scaled to the whole."""
        means = {n: self._timed[n].total / self._timed[n].count for n in segment.names if n in self._timed}
        usual = sum(means.values()) / len(means) if means else 1.0
        weight = {n: totals.of(n).received * means.get(n, usual) for n in segment.names}
        whole = sum(weight.values())
        return {n: segment.seconds * w / whole if whole else 0.0 for n, w in weight.items()}


class History:
    """Metrics over time: what each processor did in each second, for the last hour.

    Attributes:
        ticks: how many moments it has taken in, which is the number of the next one.
    """

    def __init__(self, processors: Iterable[str], seconds: int = 3600) -> None:
        self._processors = tuple(processors)
        self._moments: deque[list[dict[str, Any]]] = deque(maxlen=seconds)
        self._before: Snapshot | None = None
        self.ticks = 0

    def restore(self, moments: Iterable[tuple[int, list[dict[str, Any]]]], snapshot: Snapshot) -> None:
        """Go on after moments of another one, with the numbers of their ticks; the last of them was like ``snapshot``."""
        for tick, rows in moments:
            self._moments.append(rows)
            self.ticks = tick + 1
        self._before = snapshot

    def tick(self, time: float, snapshot: Snapshot) -> None:
        """Take in a snapshot, at ``time`` seconds since the epoch."""
        self._moments.append([{"time": time} | self._row(name, snapshot) for name in self._processors])
        self._before = snapshot
        self.ticks += 1

    def _row(self, name: str, now: Snapshot) -> dict[str, Any]:
        """Return one processor's row: counters so far; rate, mean and quantiles since the tick before."""
        before = self._before
        then = before.totals.processors.get(name, Counts()) if before else Counts()
        counts = now.totals.processors.get(name, Counts())
        count, span = counts.received - then.received, now.uptime - (before.uptime if before else 0.0)
        seconds = now.seconds.get(name, 0.0) - (before.seconds.get(name, 0.0) if before else 0.0)
        timed = now.timed.get(name, Histogram()).since(before.timed.get(name) if before else None)
        row = {"processor": name, "received": counts.received, "emitted": counts.emitted, "errors": counts.errors}
        row["retries"] = now.retries.get(name, 0)
        row["lines_per_s"] = count / span if span > 0 else 0.0
        row["mean_us"] = max(seconds, 0.0) / count * 1e6 if count > 0 else math.nan
        return row | {f"p{percent}_us": timed.quantile(percent / 100) * 1e6 for percent in (50, 95, 99)}

    def since(self, tick: int) -> list[list[dict[str, Any]]]:
        """Return the moments from a tick on (negative: the last ones) that are kept; of each a row by processor.

        Rows have `MOMENT_COLUMNS`.
        """
        gone = self.ticks - len(self._moments)
        return list(islice(self._moments, max((tick if tick >= 0 else self.ticks + tick) - gone, 0), None))

    def table(self) -> pd.DataFrame:
        """Return the history table; ``time`` in UTC."""
        return table((row for moment in self._moments for row in moment), HISTORY_COLUMNS)
