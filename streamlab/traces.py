"""What happened to a line. The engine hands over columns; rows are built when somebody looks."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch, Hop
from streamlab.columns import text_size
from streamlab.errors import TraceError
from streamlab.paths import Fate, Node, Paths
from streamlab.tables import frame_of, table

if TYPE_CHECKING:
    import pandas as pd

TRACE_COLUMNS = ("line_no", "branch", "line", "path", "fate", "output", "duration_us", "attempts", "kept")

TraceMode = bool | Literal["all", "hops"]
TRACE_MODES: tuple[TraceMode, ...] = (False, True, "all", "hops")

#: The modes as words, for the command line and notebooks.
TRACE_WORDS: Mapping[str, TraceMode] = {"on": True, "all": "all", "hops": "hops"}

#: Failed lines, and slow lines, that are kept beyond the recent ones.
KEPT_ERRORS, KEPT_SLOW = 1_000, 20
#: Characters of recent lines, and of failed ones, beyond which the oldest are let go, however few they are.
KEPT_TEXT = 64 * 1024 * 1024
#: Lines of a part of ``trace="all"`` beyond which it is left as it is.
MERGED = 8_192


@dataclass(slots=True)
class Line:
    """One line as it was kept.

    Attributes:
        number: its line number.
        text: the line.
        paths: the tree that ``ids`` are numbers of.
        ids: path node of each of its branches.
        outputs: output of each, ``None`` where it was not emitted.
        hops: its visits, in order; empty when they were not recorded.
        attempts: 1 and the additional attempts of all its visits.
        kept: why: ``recent``, ``error`` or ``slow``.
        source: on a cluster, where the line came from.
        place: on a cluster, where in the source it is.
        worker: on a cluster, who read it.
    """

    number: int
    text: str
    paths: Paths
    ids: list[int]
    outputs: list[Any]
    hops: Sequence[Hop]
    attempts: int
    kept: str
    source: str = ""
    place: Any = None
    worker: str = ""

    def matches(self, text: str) -> bool:
        """Tell whether it has a text, in whatever case, in the line, a path or a fate, or is the line of that number."""
        text = text.casefold()
        if text in self.text.casefold() or text == str(self.number):
            return True
        return any(text in self.paths.text(id).casefold() or text in self.paths.nodes[id].fate.value for id in self.ids)

    def went(self, processor: str | None, fate: str | None) -> bool:
        """Tell whether one of its branches was at a processor and met a fate; ``None`` is any."""
        return any(
            (processor is None or processor in self.paths.names(id)) and fate in (None, self.paths.nodes[id].fate.value)
            for id in self.ids
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row of the traces table for each branch."""
        visits: dict[int, list[Hop]] = {}
        for hop in self.hops:
            visits.setdefault(hop.node, []).append(hop)
        seconds = {id: _sum(hops) / len(hops) for id, hops in visits.items()}
        where = {"source": self.source, "place": self.place, "worker": self.worker} if self.worker else {}
        for branch, (id, output) in enumerate(zip(self.ids, self.outputs, strict=True)):
            node = self.paths.nodes[id]
            yield {
                "line_no": self.number,
                "branch": branch,
                "line": self.text,
                "path": self.paths.text(id),
                "fate": node.fate.value,
                "output": output if node.fate is Fate.EMITTED else None,
                "duration_us": _seconds_on(node, seconds) * 1e6,
                "attempts": self.attempts,
                "kept": self.kept,
            } | where


def _seconds_on(node: Node | None, seconds: Mapping[int, float]) -> float:
    """Return the time of the visits on the way to a node; where branches went the same way, of one among them."""
    on_the_way = []
    while node is not None:
        if node.id in seconds:
            on_the_way.append(seconds[node.id])
        node = node.parent
    return sum(on_the_way) if on_the_way else math.nan


def _sum(hops: Sequence[Hop]) -> float:
    total = 0.0 if hops else math.nan
    for hop in hops:
        if hop.duration is None:
            return math.nan
        total += hop.duration
    return total


@dataclass(slots=True)
class _Record:
    """The columns of the last lines of a batch."""

    batch: Batch
    skip: int  # lines of the batch that are not kept
    text: int  # how much text the others are

    @property
    def first(self) -> int:
        return self.batch.first + self.skip

    def __len__(self) -> int:
        return len(self.batch.lines) - self.skip

    def line(self, number: int) -> Line:
        """Return one line, by its number."""
        failed = any(failure.line_no == number for failure in self.batch.failures)
        return line_of(self.batch, number - self.batch.first, "error" if failed else "recent")

    def recorded(self) -> Iterator[int]:
        """Yield the numbers of lines whose visits were recorded."""
        return (self.batch.first + index for index in self.batch.hops if index >= self.skip)


@dataclass(slots=True)
class _Lines:
    """Lines that follow each other, as they came from workers."""

    lines: Sequence[Line]
    text: int

    @property
    def first(self) -> int:
        return self.lines[0].number

    def __len__(self) -> int:
        return len(self.lines)

    def line(self, number: int) -> Line:
        return self.lines[number - self.first]

    def recorded(self) -> Iterator[int]:
        return (line.number for line in self.lines if line.hops)


def line_of(batch: Batch, index: int, kept: str) -> Line:
    """Return one line of a batch."""
    first, end = index, index + 1
    if batch.origin is not None:
        first, end = (int(i) for i in np.searchsorted(batch.origin, (index, index + 1)))
    return Line(
        number=batch.first + index,
        text=batch.lines[index],
        paths=batch.paths,
        ids=batch.ids[first:end].tolist(),
        outputs=list(batch.values[first:end]),
        hops=batch.hops.get(index, ()),
        attempts=1 + batch.retried.get(index, 0),
        kept=kept,
    )


@dataclass(slots=True)
class Fates:
    """Path numbers of a whole batch: what ``trace="all"`` keeps of a line, one to four bytes."""

    paths: Paths
    first: int
    ids: NDArray[np.integer[Any]]
    origin: NDArray[np.int64] | None

    def joins(self, later: Fates) -> bool:
        """Tell whether the next part belongs to this one: it is as large, and both are of one tree, a branch a line."""
        alike = self.paths is later.paths and self.origin is None and later.origin is None
        return alike and len(self.ids) <= len(later.ids) < MERGED

    def joined(self, later: Fates) -> Fates:
        """Return both as one part."""
        return Fates(self.paths, self.first, np.concatenate([self.ids, later.ids]), None)


@dataclass(slots=True)
class Traces:
    """The traces of a run.

    Attributes:
        mode: ``False``, ``True``, ``"all"`` or ``"hops"``, see the user's guide.
        limit: recent lines to keep; fewer, where they are very long.
    """

    mode: TraceMode
    limit: int
    _recent: deque[_Record | _Lines] = field(default_factory=deque)
    _held: int = 0
    _text: int = 0
    _errors: deque[Line] = field(default_factory=deque)
    _errors_text: int = 0
    _slow: list[tuple[float, int, Line]] = field(default_factory=list)
    _all: list[Fates] = field(default_factory=list)

    def copy(self) -> Traces:
        """Return one that stays as this is now; what is kept of lines never changes."""
        return replace(
            self, _recent=self._recent.copy(), _errors=self._errors.copy(), _slow=[*self._slow], _all=[*self._all]
        )

    def book(self, batch: Batch) -> None:
        """Take in a batch; what a flush gave has no line, and no trace."""
        if self.mode is False or batch.first < 0:
            return
        self._keep_recent(batch)
        for index in sorted({f.line_no - batch.first for f in batch.failures if f.line_no is not None}):
            self._keep_error(line_of(batch, index, "error"))
        self._keep_slow(batch)
        if self.mode == "all":
            self._keep_fates(Fates(batch.paths, batch.first, batch.ids, batch.origin))

    def merge(self, recent: Sequence[Line], others: Iterable[Line], fates: Fates | None) -> None:
        """Take in what came of an epoch: its last lines, those of the others that failed or were observed, and all fates."""
        if self.mode is False:
            return
        if recent:
            self._keep(_Lines(recent, sum(len(line.text) for line in recent)))
        for line in (*others, *recent):
            if line.kept == "error":
                self._keep_error(line)
            self._keep_if_slow(line.number, line.hops, lambda line=line: replace(line, kept="slow"))  # type: ignore[misc]
        if fates is not None:
            self._keep_fates(fates)

    def _keep_recent(self, batch: Batch) -> None:
        skip = max(0, len(batch.lines) - self.limit)
        self._keep(_Record(batch, skip, text_size(batch.lines[skip:])))

    def _keep(self, newest: _Record | _Lines) -> None:
        self._recent.append(newest)
        self._held += len(newest)
        self._text += newest.text
        while len(self._recent) > 1 and (self._held - len(self._recent[0]) >= self.limit or self._text > KEPT_TEXT):
            oldest = self._recent.popleft()
            self._held -= len(oldest)
            self._text -= oldest.text

    def _keep_error(self, line: Line) -> None:
        self._errors.append(line)
        self._errors_text += len(line.text)
        while len(self._errors) > KEPT_ERRORS or (len(self._errors) > 1 and self._errors_text > KEPT_TEXT):
            self._errors_text -= len(self._errors.popleft().text)

    def _keep_slow(self, batch: Batch) -> None:
        for index, hops in batch.hops.items():
            self._keep_if_slow(batch.first + index, hops, partial(line_of, batch, index, "slow"))

    def _keep_if_slow(self, number: int, hops: Sequence[Hop], line: Callable[[], Line]) -> None:
        seconds = _sum(hops)
        if seconds > (self._slow[0][0] if len(self._slow) >= KEPT_SLOW else -1.0):  # not what is NaN
            bisect.insort(self._slow, (seconds, number, line()))
            del self._slow[:-KEPT_SLOW]

    def _keep_fates(self, fates: Fates) -> None:
        """Keep the path numbers of a batch; small ones are put together, as in a game of 2048: few parts, few copies."""
        self._all.append(fates)
        while len(self._all) > 1 and self._all[-2].joins(self._all[-1]):
            self._all.append(self._all.pop(-2).joined(self._all.pop()))

    def lines(self) -> list[Line]:
        """Return the lines that are kept whole, by number; each once: as failed, else as recent, else as slow."""
        kept: dict[int, Line] = {line.number: line for _, _, line in self._slow}
        kept.update((line.number, line) for line in self.recent())
        kept.update((line.number, line) for line in self._errors)
        return [kept[number] for number in sorted(kept)]

    def recent(self, limit: int | None = None) -> Iterator[Line]:
        """Yield the last lines, newest first."""
        left = self.limit if limit is None else min(limit, self.limit)
        for record in reversed(self._recent):
            for number in reversed(range(record.first, record.first + len(record))):
                if left == 0:
                    return
                left -= 1
                yield record.line(number)

    def newest(self) -> Iterator[Line]:
        """Yield all lines that are kept whole, newest first, each once."""
        oldest = self._recent[0].first if self._recent else math.inf
        yield from self.recent()
        older = {line.number: line for line in (*(line for _, _, line in self._slow), *self._errors)}
        for number in sorted(older, reverse=True):
            if number < oldest:
                yield older[number]

    def recorded(self, since: int, most: int) -> tuple[list[Line], int, int]:
        """Return lines whose visits were recorded, from number ``since`` on, by number: those that failed, then the last.

        Returns:
            The lines, each once, ``most`` at most; how many more there are; and the number to ask from the next time.
        """
        kept: dict[int, Line | _Record | _Lines] = {line.number: line for _, _, line in self._slow}
        for record in self._recent:
            if record.first + len(record) > since:
                kept.update((number, record) for number in record.recorded())
        failed = {line.number: line for line in self._errors if line.hops}
        kept.update(failed)
        numbers = sorted((number for number in kept if number >= since), key=lambda number: (number in failed, number))
        chosen = [(number, kept[number]) for number in sorted(numbers[-most:])]
        lines = [of if isinstance(of, Line) else of.line(number) for number, of in chosen]
        return lines, len(numbers) - len(lines), max(numbers, default=since - 1) + 1

    def find(self, number: int) -> Line | None:
        """Return the line of this number, if it is kept whole."""
        for record in self._recent:
            if record.first <= number < record.first + len(record):
                return record.line(number)
        others = (*self._errors, *(line for _, _, line in self._slow))
        return next((line for line in others if line.number == number), None)

    def table(self, more: Sequence[str] = ()) -> pd.DataFrame:
        """Return the traces table, by line number, with more columns of what lines know."""
        rows = [row for line in self.lines() for row in line.rows()]
        whole = table(rows, (*TRACE_COLUMNS, *more))
        if self.mode != "all":
            return whole
        import pandas as pd

        known = {row["line_no"] for row in rows}
        parts = [part for fates in self._all if (part := _fates_table(fates, known)) is not None]
        if not parts:
            return whole
        merged = pd.concat([*parts, whole] if len(whole) else parts, ignore_index=True)
        return merged.sort_values(["line_no", "branch"], ignore_index=True)


def _fates_table(fates: Fates, known: set[int]) -> pd.DataFrame | None:
    """Return the rows of lines of which only path and fate were kept."""
    lines = np.arange(len(fates.ids), dtype=np.int64) if fates.origin is None else fates.origin
    numbers = lines + fates.first
    branch = np.arange(len(lines)) - np.searchsorted(lines, lines)
    others = ~np.isin(numbers, list(known))
    if not others.any():
        return None
    nodes, which = np.unique(fates.ids[others], return_inverse=True)
    count = len(which)
    texts = np.array([fates.paths.text(id) for id in nodes.tolist()], dtype=object)
    ends = np.array([fates.paths.nodes[id].fate.value for id in nodes.tolist()], dtype=object)
    return frame_of(
        {
            "line_no": numbers[others],
            "branch": branch[others],
            "line": [None] * count,
            "path": texts[which],
            "fate": ends[which],
            "output": [None] * count,
            "duration_us": np.full(count, np.nan),
            "attempts": [None] * count,
            "kept": ["all"] * count,
        }
    )


def missing(number: int, received: int, traces: Traces) -> TraceError:
    """Return the error that says why a line is not kept, and what to do."""
    if traces.mode is False:
        return TraceError("this run keeps no traces; run with trace=True")
    if not 0 <= number < received:
        return TraceError(f"there is no line {number}: this run has received {received} lines, numbered from 0")
    return TraceError(
        f"line {number} is not kept any more: the last {traces.limit} lines are, and failed and slow ones;"
        ' raise trace_limit=, or use trace="all" for path and fate of every line'
    )
