"""What flows: a chunk of lines from a source, its rows on their way through the graph, and the batch they came to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column
from streamlab.failures import Failure, text_of, traceback_text
from streamlab.paths import Fate, Paths


class Rejected(NamedTuple):
    """A line that must not enter the pipeline: the source could read it only in part, or not as text.

    Attributes:
        position: position of the line in its chunk.
        kind: ``"oversize"`` or ``"decode"``.
        message: what is wrong with it, for people.
    """

    position: int
    kind: str
    message: str


class Places(NamedTuple):
    """Where consecutive lines are in their source, one after the other.

    Attributes:
        within: what they are places in, as the source has it: a file, a stream. Nobody else looks at it.
        starts: where each line begins: a number of bytes, of an item, or the name of a message. One more than there are
            lines, if the source can say where the next one will begin.
        first: position in ``starts`` of the first line.
    """

    within: Any
    starts: Sequence[Any]
    first: int = 0

    def start(self, index: int) -> Any:
        """Return where a line begins."""
        return self.starts[self.first + index]

    def offsets(self, count: int) -> NDArray[np.int64] | None:
        """Return where the first so many lines begin, shape ``(count,)``; ``None`` where places are no numbers."""
        starts = self.starts[self.first : self.first + count]
        try:
            return np.asarray(starts, dtype=np.int64)
        except (TypeError, ValueError):
            return None

    def beyond(self, count: int) -> Places:
        """Return the places of the lines after the first ``count``."""
        return self._replace(first=self.first + count)


@dataclass(slots=True)
class Chunk:
    """Consecutive lines, as a source hands them over; an empty one says that the source has ended.

    Attributes:
        lines: the lines without their ends, a list or a `Column`; of a rejected one, what could be kept.
        rejected: which of them must not enter the pipeline, by rising ``position``.
        source: where they came from (a path, ``"stdin"``), one for the whole chunk.
        places: where in the source they are; ``None`` when it cannot be read again from there.
        taken: the clock's time when they were taken from the source.
    """

    lines: Sequence[str]
    rejected: Sequence[Rejected] = field(default=())
    source: str = ""
    places: Places | None = field(default=None, repr=False)
    taken: float | None = field(default=None, repr=False)

    @property
    def entering(self) -> int:
        """How many of the lines enter the pipeline."""
        return len(self.lines) - len(self.rejected)

    def split(self, limit: int) -> tuple[Chunk, Chunk]:
        """Return the first ``limit`` lines, and the rest, as chunks of their own."""
        before = [mark for mark in self.rejected if mark.position < limit]
        after = [mark._replace(position=mark.position - limit) for mark in self.rejected if mark.position >= limit]
        return (
            Chunk(self.lines[:limit], before, self.source, self.places, self.taken),
            Chunk(self.lines[limit:], after, self.source, self.places and self.places.beyond(limit), self.taken),
        )


@dataclass(slots=True)
class Hop:
    """One processor's visit, as observed.

    Attributes:
        node: number of the path node of this visit.
        processor: who was visited.
        value: what came in; a copy, when it could be changed later.
        outs: what came out, as ``(where to, value)``; where to is a processor, ``"emitted"``, or another fate.
        duration: seconds; ``None`` when it was not timed.
        attempts: how often it was tried.
        error: what the last attempt raised, if it failed.
    """

    node: int
    processor: str
    value: Any
    outs: list[tuple[str, Any]]
    duration: float | None
    attempts: int = 1
    error: str | None = None


@dataclass(slots=True)
class Rows:
    """A batch under way.

    Attributes:
        lines: the lines of the batch.
        ids: path node of each row, shape ``(rows,)``, any integer type.
        values: value of each row, a list or a `Column`; ``None`` for a branch that ended without being emitted.
        origin: index of the line that each row came from, never falling; ``None`` while row *i* is line *i*.
        parents: of each row the one that it was before the last segment; ``None`` when none became several.
        noted: the visits that the last segment recorded, by the row that it found.
        together: the node at which all rows stand, while they are known to stand at one.
        observed: lines (by index) whose visits are to be observed, rising.
        begun: gives what the first segment has done with the lines before their turn, if it has.
        until: the clock's time after which a segment may leave the rows that it has not begun with, and take them off.
        hops: of observed lines, and of those that failed, the visits by line index.
        failures: what failed, with the line's index still as ``line_no``.
        retried: additional attempts by line index.
        retries: additional attempts by processor.
    """

    lines: Sequence[str]
    ids: NDArray[np.integer[Any]]
    values: Sequence[Any]
    origin: NDArray[np.int64] | None = None
    parents: NDArray[np.int64] | None = None
    noted: dict[int, list[Hop]] = field(default_factory=dict)
    together: int | None = None
    observed: Sequence[int] = ()
    begun: Callable[[], object] | None = None
    until: float = math.inf
    hops: dict[int, list[Hop]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    retried: dict[int, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)

    def lines_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indexes of the lines that rows came from."""
        return rows if self.origin is None else self.origin[rows]

    def line_of(self, row: int) -> int:
        """Return the index of the line that a row came from."""
        return row if self.origin is None else int(self.origin[row])


@dataclass(frozen=True, slots=True)
class Clocked:
    """The time of one segment since the run began.

    Attributes:
        names: its processors.
        seconds: its whole time, exact.
        exact: seconds by processor, where it measures them one by one.
    """

    names: frozenset[str]
    seconds: float
    exact: Mapping[str, float]


@dataclass(slots=True)
class Batch:
    """What came of a chunk.

    Attributes:
        paths: the tree that ``ids`` are numbers of.
        first: line number of the first line; -1 for what a ``flush`` gave, which has no lines.
        lines: the lines: those of the chunk, or the first of them, if the others would have taken too long.
        entered: how many of them entered the pipeline.
        ids: for each row the path node that it came to, shape ``(rows,)``, any integer type.
        values: for each row the output, or ``None`` when it was not emitted; a list or a `Column`.
        origin: for each row the index of its line; ``None`` when row *i* is line *i*.
        hops: visits of observed and of failed lines, by index of the line.
        failures: what failed.
        retried: additional attempts by index of the line.
        retries: additional attempts by processor.
        clocked: time by segment, since the run began.
        stopped: the exception that ends the run, if a processor with ``on_error="stop"`` failed.
        source: where the lines came from.
        places: where they are in it, until they are booked.
        taken: the clock's time when they were taken from there.
    """

    paths: Paths
    first: int
    lines: Sequence[str]
    entered: int
    ids: NDArray[np.integer[Any]]
    values: Sequence[Any]
    origin: NDArray[np.int64] | None
    hops: dict[int, list[Hop]]
    failures: list[Failure]
    retried: dict[int, int]
    retries: dict[str, int]
    clocked: Sequence[Clocked]
    stopped: Exception | None = None
    source: str = ""
    places: Places | None = None
    taken: float | None = None

    def emitted(self) -> tuple[Sequence[Any], NDArray[np.int64]]:
        """Return the outputs in order, a list or a `Column`, and the line number of each (-1 for those of a ``flush``)."""
        mask = self.paths.emitted()[self.ids]
        values = self.values
        if not mask.any():
            return [], np.zeros(0, dtype=np.int64)
        if isinstance(values, Column):
            values = values.take(mask)
        elif not mask.all():
            values = list(compress(values, mask.tolist()))
        if self.first < 0:
            return values, np.full(len(values), -1, dtype=np.int64)
        lines = np.arange(len(self.ids), dtype=np.int64) if self.origin is None else self.origin
        return values, (lines if len(values) == len(lines) else lines[mask]) + self.first

    def refuse(self, position: int, error: BaseException, time: float) -> None:
        """Turn an output (by position among the emitted) that the sink would not take into a dead letter."""
        row = int(np.flatnonzero(self.paths.emitted()[self.ids])[position])
        leaf = self.paths.nodes[int(self.ids[row])]
        assert leaf.parent is not None
        dead = self.paths.end(leaf.parent, Fate.DEAD_LETTER, "sink_rejected")
        index = -1 if self.first < 0 else row if self.origin is None else int(self.origin[row])
        self.failures.append(
            Failure(
                line_no=None if index < 0 else self.first + index,
                time=time,
                processor=self.paths.names(dead.id)[-1],
                kind="sink_rejected",
                error=type(error).__name__,
                message=text_of(error),
                line="" if index < 0 else self.lines[index],
                traceback=traceback_text(error),
                source=self.source,
                place=None if index < 0 or self.places is None else self.places.start(index),
                path=self.paths.text(dead.id),
            )
        )
        self.ids = self.ids.astype(np.int64)
        self.ids[row] = dead.id
