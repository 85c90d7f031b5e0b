"""The engine: a chunk of lines goes in; outputs, failures, visits and the path of every branch come out.

It does no I/O, starts no thread and reads no clock but the one of its host. What it returns is complete: nothing that a
line did is known anywhere else.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch, Chunk, Clocked, Rows
from streamlab.errors import CheckpointError, PipelineError
from streamlab.failures import Failure
from streamlab.host import Host
from streamlab.paths import Fate, Paths
from streamlab.pipeline import Pipeline
from streamlab.segments import Cut, Segment, Stopped, cut
from streamlab.segments.recall import Stage, recall
from streamlab.segments.steps import Step
from streamlab.segments.walk import Walk, compact

#: Places in the path tree after which a new tree is begun, so that it cannot grow without end.
MAX_PATHS = 50_000
#: Values that a flush hands on at a time.
FLUSH_BATCH = 4_096


class Engine:
    """Runs chunks through a pipeline, one after the other.

    Args:
        pipeline: the graph; checked here.
        host: clock, sleep and concurrency.
        observe_all: whether every line is observed, not only a sample.
        parallel: whether plain functions run in the host's processes.
        kept: the state of processors, by name, as `kept` gives it.
        only: the processors that run here; values that come to others stay there. By default all.
        tracked: whether it is to know which keys were seen, see `changed`.

    Raises:
        PipelineError: the graph does not hold together, or a class cannot be instantiated.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        host: Host,
        *,
        observe_all: bool = False,
        parallel: bool = False,
        kept: Mapping[str, Any] | None = None,
        only: Collection[str] | None = None,
        tracked: bool = False,
    ) -> None:
        pipeline.check()
        self.pipeline = pipeline
        self._host = host
        self._cuts = cut(pipeline, parallel=parallel, only=only)
        names = [[processor.name for processor in part.processors] for part in self._cuts]
        self._first = next((number for number, inside in enumerate(names) if pipeline.entry.name in inside), None)
        # In the same order however many processes there are.
        self._flushing = [processor.name for part in cut(pipeline, only=only) for processor in part.processors]
        self._sampler = None if observe_all else Sampler(columns=self.takes_columns)
        kept = kept or {}
        self._steps = {p.name: self._step(p.name, kept.get(p.name), tracked) for part in self._cuts for p in part.processors}
        self._seconds = [0.0] * len(self._cuts)
        self._early = 0  # chunks that have begun and whose turn has not come: they belong to this tree
        self._begin_tree()

    def _step(self, name: str, kept: Mapping[str, Any] | None, tracked: bool) -> Step:
        try:
            return Step(self.pipeline.processors[name], self._host, self.pipeline.limits, kept, tracked=tracked)
        except CheckpointError as error:  # it does not take back what it kept
            raise CheckpointError(f"pipeline {self.pipeline.name!r}, processor {name!r}: {error}") from error.__cause__
        except (Exception, SystemExit) as error:  # the class's own code
            raise PipelineError(
                f"pipeline {self.pipeline.name!r}, processor {name!r}: its class cannot be instantiated without"
                f" arguments: {type(error).__name__}: {error}"
            ) from error

    def _begin_tree(self) -> None:
        self._paths = Paths()
        self._entry = self._paths.to(self._paths.root, self.pipeline.entry.name)
        self._segments = [self._segment(part) for part in self._cuts]

    def _segment(self, part: Cut) -> Segment:
        steps = [self._steps[processor.name] for processor in part.processors]
        world = (self._paths, self._host, self.pipeline.limits)
        if part.kind == "columnar":
            from streamlab.segments.columnar import ColumnarSegment

            return ColumnarSegment(steps, *world)
        if part.kind == "concurrent":
            from streamlab.segments.concurrent import ConcurrentSegment

            return ConcurrentSegment(steps[0], *world)
        if part.kind == "parallel":
            from streamlab.segments.parallel import ParallelSegment

            return ParallelSegment(steps, *world)
        from streamlab.segments.python import PythonSegment

        return PythonSegment(steps, *world)

    @property
    def takes_columns(self) -> bool:
        """Whether lines had better come as columns: its first processor is columnar."""
        return self._first is not None and self._cuts[self._first].kind == "columnar"

    @property
    def parallel(self) -> bool:
        """Whether a part of it runs in several processes."""
        return any(part.kind == "parallel" for part in self._cuts)

    @property
    def concurrency(self) -> int:
        """How many values at a time an async processor would like to have; 1 without any."""
        return max((p.concurrency for p in self.pipeline.processors.values() if p.kind == "async"), default=1)

    def kept(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return how to get the state of each processor that keeps any, by name; asked for between two batches."""
        return {name: step.kept for name, step in self._steps.items() if step.processor.keeps is not None}

    def changed(self, name: str) -> dict[str, Any]:
        """Return the state of a processor, of one with keys only what has changed since this was asked for before."""
        return self._steps[name].changed()

    def reset_clock(self) -> None:
        """Forget what time was spent so far."""
        self._seconds = [0.0] * len(self._cuts)
        for step in self._steps.values():
            step.seconds = None if step.seconds is None else 0.0

    def begin(self, chunk: Chunk) -> Rows | None:
        """Let a chunk enter before its turn: what its rows have ``begun`` is to be called, in any thread, and replaced by
        what waits for the result. Returns ``None`` when it has to wait for its turn.
        """
        begin = None if self._first is None else getattr(self._segments[self._first], "begin", None)
        if begin is None or chunk.rejected or len(self._paths) > MAX_PATHS:
            return None
        rows = self._enter(chunk)
        rows.begun = begin(rows)
        self._early += 1
        return rows

    def _enter(self, chunk: Chunk) -> Rows:
        lines = chunk.lines
        rows = Rows(lines, np.full(len(lines), self._entry.id), lines, together=self._entry.id)
        rows.observed = range(len(lines)) if self._sampler is None else self._sampler.pick(len(lines), self._host.clock())
        self._turn_away(chunk, rows)
        return rows

    def process(self, chunk: Chunk, first: int, until: float = math.inf, rows: Rows | None = None) -> Batch:
        """Run a chunk whose first line has the number ``first`` to its end.

        When the clock has passed ``until``, lines that no processor has seen yet may be left out of the batch. ``rows`` are
        those of the chunk, if it has begun already; chunks are processed in the order in which they came.
        """
        if rows is None:
            rows = self._enter(chunk)
        else:
            self._early -= 1
        rows.until = until
        batch = self._advance(rows, first)
        batch.entered = len(batch.lines) - sum(mark.position < len(batch.lines) for mark in chunk.rejected)
        batch.source, batch.places, batch.taken = chunk.source, chunk.places, chunk.taken
        for failure in batch.failures:
            failure.source = chunk.source
            if failure.line_no is not None:
                failure.place = None if chunk.places is None else chunk.places.start(failure.line_no)
                failure.line_no += first
        self._begin_tree_in_time()
        return batch

    def go_on(self, rows: Rows) -> Batch:
        """Run rows that stand anywhere in `paths` to where they end, or come to what runs elsewhere; each is as a line."""
        batch = self._advance(rows, 0)
        self._begin_tree_in_time()
        return batch

    def _begin_tree_in_time(self) -> None:
        """Begin a new tree when this one has grown large, and nothing that has begun stands in it."""
        if len(self._paths) > MAX_PATHS and not self._early:
            self._begin_tree()

    @property
    def paths(self) -> Paths:
        """The tree that rows are to stand in."""
        return self._paths

    def _turn_away(self, chunk: Chunk, rows: Rows) -> None:
        """End the rows of lines that must not enter."""
        if not chunk.rejected:
            return
        values = list(rows.values)
        rows.values, rows.together = values, None
        for index, kind, message in chunk.rejected:
            rows.ids[index] = self._paths.end(self._paths.root, Fate.DEAD_LETTER, kind).id
            values[index] = None
            rows.failures.append(Failure(index, self._host.now(), None, kind, kind, message, chunk.lines[index]))

    def _advance(self, rows: Rows, first: int) -> Batch:
        stopped: Stopped | None = None
        held = Held()
        stages: list[Stage] = []
        begun = rows.begun
        for number, segment in enumerate(self._segments):
            rows.begun = begun if number == self._first else None
            before, count = (rows.ids, rows.values, rows.origin), len(rows.lines)
            rows.parents, rows.noted = None, {}
            start = self._host.clock()
            try:
                segment.advance(rows)
            except Stopped as stop:
                stopped = stopped or stop
            self._seconds[number] += self._host.clock() - start
            rows.until = math.inf  # what one segment has seen, all do
            if len(rows.lines) < count:
                self._leave_out(rows)
            stages.append(Stage(segment.names, *before, rows.parents, rows.noted))
            if stopped is not None:
                held.hold(rows, stopped.failure.line_no)
        held.release(rows)
        failed = {failure.line_no for failure in rows.failures if failure.line_no is not None and failure.line_no >= 0}
        if failed:
            recall(failed.difference(rows.observed), stages, rows, self._paths)
        if self._sampler is not None:
            self._sampler.learn(rows)
        for failure in rows.failures:
            failure.line = rows.lines[failure.line_no] if failure.line_no is not None and failure.line_no >= 0 else ""
        return Batch(
            paths=self._paths,
            first=first,
            lines=rows.lines,
            entered=len(rows.lines),
            ids=rows.ids if len(self._paths) > 256 else rows.ids.astype(np.uint8, copy=False),
            values=rows.values,
            origin=rows.origin,
            hops=rows.hops,
            failures=rows.failures,
            retried=rows.retried,
            retries=rows.retries,
            clocked=self._clocked(),
            stopped=stopped,
        )

    @staticmethod
    def _leave_out(rows: Rows) -> None:
        """Forget what is known of lines that the first segment has left."""
        count = len(rows.lines)
        rows.failures = [failure for failure in rows.failures if failure.line_no is None or failure.line_no < count]
        rows.observed = [line for line in rows.observed if line < count]

    def _clocked(self) -> Sequence[Clocked]:
        """Return what is known of the time that each segment took."""
        clocked = []
        for segment, seconds in zip(self._segments, self._seconds, strict=True):
            steps = [self._steps[name] for name in segment.names]
            exact = {step.name: step.seconds for step in steps if step.seconds is not None}
            clocked.append(Clocked(segment.names, seconds, exact))
        return clocked

    def flush(self, only: Collection[str] | None = None) -> Iterator[Batch]:
        """Yield what stateful processors have left, upstream ones first; each batch goes through the rest of the graph.

        With ``only``, what these have left.
        """
        for name in self._flushing:
            if only is not None and name not in only:
                continue
            step = self._steps[name]
            for flusher in step.flushers():
                yield from self._flush(step, flusher)

    def _flush(self, step: Step, flusher: Any) -> Iterator[Batch]:
        """Yield the batches that one instance's flush makes."""
        node = self._paths.flush(step.name)
        values = flusher()
        ended = False
        while not ended:
            walk = Walk({}, self._paths, self._host, self.pipeline.limits)
            taken, start = 0, self._host.clock()
            try:
                for value in islice(values, FLUSH_BATCH):
                    taken += 1
                    try:
                        placed = walk.place(step, node, value)
                    except BaseException as error:
                        placed = walk.fail(step, node, value, error, 1, len(walk.ids))
                    walk.land(step, node, value, placed, 0.0, 1, observed=False)
                ended = taken < FLUSH_BATCH
            except BaseException as error:
                placed = walk.fail(step, node, None, error, 1, len(walk.ids))
                walk.land(step, node, None, placed, 0.0, 1, observed=False)
                ended = True
            self._spent(step, self._host.clock() - start)
            if walk.ids:
                yield self._flushed(walk)

    def _spent(self, step: Step, seconds: float) -> None:
        """Book time of a processor outside of its segment."""
        [number] = [n for n, segment in enumerate(self._segments) if step.name in segment.names]
        self._seconds[number] += seconds
        if step.seconds is not None:
            step.seconds += seconds

    def _flushed(self, walk: Walk) -> Batch:
        rows = Rows((), compact(walk.ids), walk.values, origin=np.full(len(walk.ids), -1, dtype=np.int64))
        walk.splits = []
        walk.report(rows)
        batch = self._advance(rows, -1)
        for failure in batch.failures:
            failure.line_no = None
        batch.hops = {}
        batch.stopped = batch.stopped or walk.stopped
        return batch


class Held:
    """The rows of a batch that a stop holds back: those from the failed line on. The lines before it go on to their ends."""

    def __init__(self) -> None:
        self._rows: list[tuple[NDArray[np.integer[Any]], Sequence[Any], NDArray[np.int64]]] = []

    def hold(self, rows: Rows, line: int | None) -> None:
        """Take the rows from a line on out of the batch."""
        origin = np.arange(len(rows.ids), dtype=np.int64) if rows.origin is None else rows.origin
        first = int(np.searchsorted(origin, line)) if line is not None and line >= 0 else len(origin)
        if first < len(origin):
            self._rows.append((rows.ids[first:], rows.values[first:], origin[first:]))
            rows.ids, rows.values, rows.origin = rows.ids[:first], rows.values[:first], origin[:first]

    def release(self, rows: Rows) -> None:
        """Put them back, the first lines first."""
        for ids, values, origin in reversed(self._rows):
            before = np.arange(len(rows.ids), dtype=np.int64) if rows.origin is None else rows.origin
            rows.ids, rows.values = np.concatenate([rows.ids, ids]), [*rows.values, *values]
            rows.origin = np.concatenate([before, origin])


class Sampler:
    """Chooses the lines to observe: all of them while the stream is slow, so many that it costs 2% when it is fast.

    A bucket of up to 1000 lines fills with the time that goes by, at the rate at which observing takes 2% of it.

    Args:
        columns: whether batches are columns: to look into one costs as much as some lines.
    """

    #: Seconds that observing adds to a line, and to each of its visits; measured on CPython 3.11.
    LINE, VISIT = 2.0e-6, 2.5e-6
    SHARE = 0.02
    FULL = 1000.0
    #: Lines' worth of time that it takes to look into a column at all.
    COLUMN = 100

    def __init__(self, *, columns: bool = False) -> None:
        self._overhead = self.COLUMN if columns else 0
        self._tokens = self.FULL
        self._visits = 3.0
        self._last: float | None = None
        self._random = random.Random(0)

    def pick(self, lines: int, clock: float) -> Sequence[int]:
        """Return the indexes of the lines to observe, rising and evenly spread."""
        if self._last is not None:
            rate = self.SHARE / (self.LINE + self.VISIT * self._visits)
            self._tokens = min(self._tokens + (clock - self._last) * rate, self.FULL)
        self._last = clock
        overhead = min(self._overhead, lines)
        count = max(min(int(self._tokens) - overhead, lines), 0)
        if count < overhead:  # it is not worth it yet
            return ()
        self._tokens -= count + overhead
        if count == lines:
            return range(lines)
        stride = lines / count if count else 0.0
        return list(dict.fromkeys(int(stride * (i + self._random.random())) for i in range(count)))

    def learn(self, rows: Rows) -> None:
        """Take note of how many visits a line makes."""
        observed = [len(rows.hops.get(line, ())) for line in rows.observed]
        if observed:
            self._visits += 0.1 * (sum(observed) / len(observed) - self._visits)
