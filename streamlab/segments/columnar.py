"""The columnar segment: Polars expressions and built-ins, over all rows that stand at them at once.

Values become columns when they enter (see `streamlab.columns`) and stay columns on their way through the segment, and
beyond it, while nobody needs them one by one. When a processor fails on a column it is tried again by halves, until the
rows that are to blame stand alone.

There are two parts to it. A `Passage` takes columns through the processors; it knows no paths and changes nothing but
itself, so that the passages of several batches can be under way at the same time, each in a thread. `ColumnarSegment` then
books, batch by batch, what the passage noted: path nodes, failures, observed visits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Rows
from streamlab.columns import Column, columns_of, joined
from streamlab.host import Host
from streamlab.paths import Node, Paths, Target
from streamlab.policy import Limits
from streamlab.processors.columnar import Kernel, Outcome
from streamlab.segments import Stopped
from streamlab.segments.python import PythonSegment
from streamlab.segments.steps import Step
from streamlab.segments.walk import Walk

#: Which values of a column, and what became of them.
Result = tuple[slice | NDArray[np.int64], Outcome | BaseException]


class Piece(NamedTuple):
    """Values of one kind that stand at the same processor, and their rows in the batch, rising, shape ``(n,)``."""

    rows: NDArray[np.int64]
    column: Column

    def part(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Piece:
        """Return some of it."""
        if isinstance(which, slice):
            return Piece(self.rows[which], self.column[which])
        return Piece(self.rows[which], self.column.take(which))


class Visit(NamedTuple):
    """What a processor made of a piece, and the seconds that each of its values took."""

    step: Step
    piece: Piece
    came: Outcome | BaseException
    seconds: float

    def problems(self) -> dict[int, BaseException]:
        """Return what the values that failed were refused for, by position in the piece."""
        if isinstance(self.came, BaseException):
            return dict.fromkeys(range(len(self.piece.rows)), self.came)
        return dict(sorted(self.came.problems.items()))


@dataclass(slots=True)
class Passage:
    """Columns on their way through the processors of a segment.

    Attributes:
        steps: the processors that are yet to be come to, in order.
        waiting: the pieces that wait, by processor.
        host: whose clock times the visits.
        visits: what happened, in order.
        landed: the pieces that have left the segment.
    """

    steps: Sequence[Step]
    waiting: dict[str, list[Piece]]
    host: Host
    visits: list[Visit] = field(default_factory=list)
    landed: list[Piece] = field(default_factory=list)

    def go(self, *, ordered: bool) -> None:
        """Go on to the end, or unless ``ordered`` to the first processor that keeps state: it must see all in order."""
        while self.steps and (ordered or not self.steps[0].ordered):
            step, *self.steps = self.steps
            for piece in united(self.waiting.pop(step.name, []), ordered=step.ordered):
                assert step.kernel is not None
                start = self.host.clock()
                results = list(evaluate(step.kernel, piece.column, halves=not step.ordered))
                seconds = (self.host.clock() - start) / len(piece.rows)
                for part, came in results:
                    self._visit(Visit(step, piece.part(part) if len(results) > 1 else piece, came, seconds))

    def _visit(self, visit: Visit) -> None:
        """Note a visit, and send its values on."""
        self.visits.append(visit)
        step, piece, came, _ = visit
        problems = np.fromiter(visit.problems(), np.int64)
        if step.handler is not None and len(problems):
            self._send(step.handler, piece.part(problems))
        if isinstance(came, BaseException):
            return
        going = came.keep
        if len(problems):
            going = np.ones(len(piece.rows), dtype=np.bool_) if going is None else going.copy()
            going[problems] = False
        made = Piece(piece.rows, came.column)
        for number, target in enumerate(step.ways):
            mask = going if came.way is None else came.way == number if going is None else going & (came.way == number)
            if mask is None or mask.all():
                self._send(target, made)
            elif mask.any():
                self._send(target, made.part(mask))

    def _send(self, target: Target, piece: Piece) -> None:
        """Let a piece wait at its next processor, or leave."""
        here = any(step.name == target for step in self.steps)
        (self.waiting.setdefault(str(target), []) if here else self.landed).append(piece)


def evaluate(kernel: Kernel, column: Column, *, halves: bool = True) -> Iterator[Result]:
    """Yield the results of a kernel, with the rows that each is of; with ``halves``, an exception stands for one row."""
    waiting = [(0, len(column))]
    while waiting:
        first, end = waiting.pop()
        try:
            outcome = kernel(column if end - first == len(column) else column[first:end])
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # Polars panics are no Exceptions
            if halves and end - first > 1:
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]
            else:
                yield slice(first, end), error
            continue
        if isinstance(outcome, Outcome):
            yield slice(first, end), outcome
        else:
            yield from ((first + positions, part) for positions, part in outcome)


def evaluate_one(kernel: Kernel, ways: Sequence[Target], value: Any) -> tuple[Target, Any] | None:
    """Return a kernel's result for one value as a route; for processors in a loop of the graph, walked value by value."""
    [(_, column)] = columns_of([value])
    [(_, came)] = evaluate(kernel, column)
    if isinstance(came, BaseException):
        raise came
    for problem in came.problems.values():
        raise problem
    if (came.keep is not None and not came.keep[0]) or (came.way is not None and came.way[0] < 0):
        return None
    return ways[0 if came.way is None else int(came.way[0])], came.column[0]


def united(pieces: Sequence[Piece], *, ordered: bool) -> Iterable[Piece]:
    """Return pieces as one, if their values fit together; else, if ``ordered``, so that rows follow each other."""
    if len(pieces) < 2:
        return pieces
    whole = joined(pieces)
    if whole is not None:
        return [Piece(*whole)]
    return _runs(pieces) if ordered else pieces


def _runs(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Yield the stretches of each piece that no row of another one interrupts."""
    owner = np.concatenate([np.full(len(piece.rows), number) for number, piece in enumerate(pieces)])
    place = np.concatenate([np.arange(len(piece.rows)) for piece in pieces])
    order = np.argsort(np.concatenate([piece.rows for piece in pieces]))
    owner, place = owner[order], place[order]
    for stretch in np.split(np.arange(len(owner)), np.flatnonzero(np.diff(owner)) + 1):
        yield pieces[owner[stretch[0]]].part(slice(int(place[stretch[0]]), int(place[stretch[-1]]) + 1))


class ColumnarSegment:
    """Takes the rows that stand at its processors through them as columns. No row becomes several: all stay in place."""

    def __init__(self, steps: Sequence[Step], paths: Paths, host: Host, limits: Limits) -> None:
        self._steps = {step.name: step for step in steps}
        self.names = frozenset(self._steps)
        self._paths = paths
        self._host = host
        self._limits = limits

    def advance(self, rows: Rows) -> None:
        """Take every row through the segment."""
        if self._deep(rows):
            PythonSegment(list(self._steps.values()), self._paths, self._host, self._limits).advance(rows)
            return
        passage = self._begun(rows) or self._entered(rows)
        passage.go(ordered=True)
        if not passage.visits:
            return
        walk = Walk(self._steps, self._paths, self._host, self._limits)
        booking = _Booking(rows, walk)
        for visit in passage.visits:
            booking.book(visit)
            visit.step.seconds = (visit.step.seconds or 0.0) + visit.seconds * len(visit.piece.rows)
        stopped = booking.take_back_after_stop()
        rows.values = _values(rows, booking.ids, passage.landed)
        rows.ids, rows.together = booking.ids, None
        walk.failures.sort(key=lambda failed: failed[0])  # of all processors, in order of the lines
        walk.report(rows)
        if stopped is not None:
            raise stopped

    def begin(self, rows: Rows) -> Callable[[], object]:
        """Return what takes rows as far as they may go before their turn, in any thread; `Rows.begun` is for it."""

        def go() -> Passage:
            passage = self._entered(rows)
            passage.go(ordered=False)
            return passage

        return go

    @staticmethod
    def _begun(rows: Rows) -> Passage | None:
        try:
            passage: Any = None if rows.begun is None else rows.begun()
        except KeyboardInterrupt:  # Polars raises it in any thread, whomever it is meant for: this one goes there once more
            return None
        return passage  # type: ignore[no-any-return]

    def _deep(self, rows: Rows) -> bool:
        """Tell whether a row may come to the limit of its hops here: only the walk, value by value, counts them."""
        nodes = [self._paths.nodes[id] for id in _present(rows.ids)]
        return any(n.processor in self.names and n.hops + len(self._steps) > self._limits.max_hops for n in nodes)

    def _entered(self, rows: Rows) -> Passage:
        """Return the rows that stand here as columns, by processor."""
        places = _present(rows.ids) if rows.together is None else [rows.together]
        standing: dict[str, list[int]] = {}
        for id in places:
            name = self._paths.nodes[id].processor
            if name in self.names:
                standing.setdefault(str(name), []).append(id)
        waiting: dict[str, list[Piece]] = {}
        for name, ids in standing.items():
            if len(ids) == len(places):
                waiting[name] = pieces_of(rows.values)
            else:
                here = np.flatnonzero(np.isin(rows.ids, ids))
                values = rows.values
                taken = values.take(here) if isinstance(values, Column) else [values[i] for i in here.tolist()]
                waiting[name] = [Piece(here[piece.rows], piece.column) for piece in pieces_of(taken)]
        return Passage(list(self._steps.values()), waiting, self._host)


def pieces_of(values: Sequence[Any]) -> list[Piece]:
    """Return values as columns, with their positions."""
    return [Piece(*part) for part in columns_of(values)]


class _Booking:
    """The path nodes of a batch, moved on visit by visit."""

    def __init__(self, rows: Rows, walk: Walk) -> None:
        self.ids = rows.ids.astype(np.int64)
        self._rows = rows
        self._walk = walk
        self._observed: NDArray[np.bool_] | None = None
        self._stops: list[tuple[int, Stopped]] = []

    def book(self, visit: Visit) -> None:
        """Move the rows of a piece to where their results lead."""
        problems = visit.problems()
        failed = np.zeros(len(visit.piece.rows), dtype=np.bool_)
        failed[list(problems)] = True
        before = self.ids[visit.piece.rows]
        if isinstance(visit.came, Outcome):
            self._move(visit, visit.came, before)
        self._fail(visit, problems, before)
        if isinstance(visit.came, Outcome) and self._rows.observed:
            self._observe(visit, visit.came, before, failed)

    def _move(self, visit: Visit, came: Outcome, before: NDArray[np.int64]) -> None:
        """Give rows their new path nodes, as if none had failed."""
        step, rows, paths = visit.step, visit.piece.rows, self._walk.paths
        number = came.way
        if came.keep is not None:
            number = np.where(came.keep, 0 if number is None else number, -1)
        present = _present(before)
        for id in present:
            node = paths.nodes[id]
            places = [paths.to(node, target).id for target in step.ways]
            places.append(paths.end(node, step.processor.kept).id)  # which number -1 stands for
            here = slice(None) if len(present) == 1 else before == id
            self.ids[rows[here]] = places[0] if number is None else np.array(places)[number[here]]

    def _fail(self, visit: Visit, problems: dict[int, BaseException], before: NDArray[np.int64]) -> None:
        """Settle rows that failed, by their positions in the piece."""
        if not problems:
            return
        step, piece, _, seconds = visit
        values = piece.column.take(np.fromiter(problems, np.int64)).to_list()
        for (position, problem), value in zip(problems.items(), values, strict=True):
            row, node = int(piece.rows[position]), self._walk.paths.nodes[int(before[position])]
            placed = self._walk.fail(step, node, value, problem, 1, row)
            self._walk.saw(step, node, value, placed, seconds, 1, row)
            [(to, _)] = placed
            self.ids[row] = to.id
            if self._walk.stopped is not None:
                self._stops.append((row, self._walk.stopped))
                self._walk.stopped = None

    def take_back_after_stop(self) -> Stopped | None:
        """Let the rows after the first failure that ends the run stand where they stood; return it, if there is one."""
        if not self._stops:
            return None
        last, stopped = min(self._stops, key=lambda stop: stop[0])
        self.ids[last + 1 :] = self._rows.ids[last + 1 :]
        self._walk.failures = [(row, failure) for row, failure in self._walk.failures if row <= last]
        self._walk.hops = [(row, hops) for row, hops in self._walk.hops if row <= last]
        return stopped

    def _observe(self, visit: Visit, came: Outcome, before: NDArray[np.int64], failed: NDArray[np.bool_]) -> None:
        """Keep the visits of observed lines; those that failed are kept already."""
        if self._observed is None:
            lines = np.arange(len(self.ids)) if self._rows.origin is None else self._rows.origin
            self._observed = np.isin(lines, np.asarray(self._rows.observed, dtype=np.int64))
        step, piece, _, seconds = visit
        seen = np.flatnonzero(self._observed[piece.rows] & ~failed)
        if not len(seen):
            return
        values, outs = piece.column.take(seen).to_list(), came.column.take(seen).to_list()
        for at, value, out in zip(seen.tolist(), values, outs, strict=True):
            row = int(piece.rows[at])
            to = self._walk.paths.nodes[int(self.ids[row])]
            gone = to.kind == "leaf" and to.fate is step.processor.kept
            placed: list[tuple[Node, Any]] = [(to, None if gone else out)]
            self._walk.saw(step, self._walk.paths.nodes[int(before[at])], value, placed, seconds, 1, row)


def _values(rows: Rows, ids: NDArray[np.int64], landed: Sequence[Piece]) -> Sequence[Any]:
    """Return the values of a batch whose rows have come to ``ids``: one column, if they are of one kind, else a list."""
    moved = ids != rows.ids
    if moved.all():
        if not landed:
            return [None] * len(ids)
        whole = joined(landed)
        if whole is not None:
            return whole[1] if len(whole[0]) == len(ids) else _spread(*whole, len(ids))
    values: list[Any] = list(rows.values)
    for row in np.flatnonzero(moved).tolist():
        values[row] = None
    for piece in landed:
        for row, value in zip(piece.rows.tolist(), piece.column.to_list(), strict=True):
            if moved[row]:
                values[row] = value
    return values


def _present(ids: NDArray[np.integer[Any]]) -> list[int]:
    """Return the numbers that occur, rising; they are small, so that counting is faster than sorting."""
    return np.flatnonzero(np.bincount(ids)).tolist()


def _spread(rows: NDArray[np.int64], column: Column, count: int) -> Column:
    """Return a column of ``count`` values that has these at their rows, and nothing at the others."""
    import polars as pl

    positions = np.full(count, -1, dtype=np.int64)
    positions[rows] = np.arange(len(rows))
    at = pl.Series(positions).replace(-1, None)
    return replace(column, frame=column.frame.select(pl.all().gather(at)))
