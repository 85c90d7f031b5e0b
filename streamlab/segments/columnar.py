"""The columnar segment: Polars expressions and built-ins, over all rows that stand at them at once.

Values become columns when they enter (see `streamlab.columns`) and stay columns on their way through the segment, and
beyond it, while nobody needs them one by one. When a processor fails on a column it is tried again by halves, until the
rows that are to blame stand alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Rows
from streamlab.columns import Column, columns_of, joined
from streamlab.host import Host
from streamlab.paths import EMIT, Node, Paths, Target
from streamlab.policy import Limits, Refusal
from streamlab.processors.columnar import Kernel, Outcome
from streamlab.segments.steps import Step
from streamlab.segments.walk import Walk

#: Stands for the place of a value that has been through too many processors.
NOWHERE = -1

#: Values of a column that is worth more than one core, and the seconds that one of them takes then.
LARGE, SLOW = 8_192, 4e-7
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


def one_after_the_other(starts: Sequence[int], found: Sequence[Sequence[Result]]) -> list[Result]:
    """Return the results of parts of a column, which begin at ``starts``, as those of the column: one, if they are alike."""
    first = found[0][0][1] if found[0] else None
    outcomes = [came for part in found for _, came in part if isinstance(came, Outcome)]
    if not isinstance(first, Outcome) or len(outcomes) != len(found) or any(len(part) > 1 for part in found):
        return [(_moved(which, start), came) for start, part in zip(starts, found, strict=False) for which, came in part]
    columns = [(np.arange(len(one.column)) + start, one.column) for start, one in zip(starts, outcomes, strict=False)]
    whole = joined(columns)
    if whole is None or any((one.way is None) != (first.way is None) for one in outcomes):
        return [(_moved(slice(0, len(at)), int(at[0])), one) for (at, _), one in zip(columns, outcomes, strict=True)]
    keep = None
    if any(one.keep is not None for one in outcomes):
        keep = np.concatenate([np.ones(len(o.column), dtype=np.bool_) if o.keep is None else o.keep for o in outcomes])
    way = None if first.way is None else np.concatenate([one.way for one in outcomes if one.way is not None])
    problems = {at + start: why for start, one in zip(starts, outcomes, strict=False) for at, why in one.problems.items()}
    return [(slice(0, len(whole[1])), Outcome(whole[1], keep, way, problems))]


def _moved(which: slice | NDArray[np.int64], start: int) -> slice | NDArray[np.int64]:
    return slice(which.start + start, which.stop + start) if isinstance(which, slice) else which + start


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
        passage = self._enter(rows)
        if not passage.waiting:
            return
        for name, step in self._steps.items():
            assert step.kernel is not None
            for piece in united(passage.waiting.pop(name, []), ordered=step.ordered):
                start = self._host.clock()
                results = self._evaluate(step, step.kernel, piece.column)
                seconds = self._host.clock() - start
                step.seconds = (step.seconds or 0.0) + seconds
                for part, came in results:
                    passage.take(step, piece.part(part) if len(results) > 1 else piece, came, seconds / len(piece.rows))
            passage.divert()
        passage.leave()

    def _evaluate(self, step: Step, kernel: Kernel, column: Column) -> list[Result]:
        """Return the results of a column; of a large one that takes long, worked on by all cores."""
        cores = self._host.cores()
        if step.ordered or cores < 2 or len(column) < LARGE or step.pace < SLOW:
            start = self._host.clock()
            results = list(evaluate(kernel, column, halves=not step.ordered))
            step.pace = (self._host.clock() - start) / len(column)
            return results
        cuts = [len(column) * number // cores for number in range(cores + 1)]
        parts = [column[first:end] for first, end in pairwise(cuts)]
        found = self._host.together([partial(lambda part: list(evaluate(kernel, part)), part) for part in parts])
        return one_after_the_other(cuts, found)

    def _enter(self, rows: Rows) -> _Passage:
        """Return the rows that stand here as columns, by processor."""
        places = _present(rows.ids) if rows.together is None else [rows.together]
        standing: dict[str, list[int]] = {}
        for id in places:
            name = self._paths.nodes[id].processor
            if name in self.names:
                standing.setdefault(str(name), []).append(id)
        waiting: dict[str, list[Piece]] = {}
        entered = 0
        for name, ids in standing.items():
            if len(ids) == len(places):
                here, values = np.arange(len(rows.ids), dtype=np.int64), rows.values
            else:
                here = np.flatnonzero(np.isin(rows.ids, ids))
                values = (
                    rows.values.take(here) if isinstance(rows.values, Column) else [rows.values[i] for i in here.tolist()]
                )
            waiting[name] = [Piece(here[at], column) for at, column in columns_of(values)]
            entered += len(here)
        walk = Walk(self._steps, self._paths, self._host, self._limits)
        return _Passage(rows, rows.ids.astype(np.int64), walk, waiting, whole=entered == len(rows.ids))


@dataclass(slots=True)
class _Passage:
    """A batch on its way through the segment.

    Attributes:
        ids: path node of each row.
        waiting: the pieces that wait, by processor.
        whole: whether all rows of the batch came in.
        landed: the pieces that have left the segment.
        diverted: the rows that failed and have a processor to take them, by its name, with their values.
    """

    rows: Rows
    ids: NDArray[np.int64]
    walk: Walk
    waiting: dict[str, list[Piece]]
    whole: bool
    landed: list[Piece] = field(default_factory=list)
    diverted: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    _observed: NDArray[np.bool_] | None = None

    def take(self, step: Step, piece: Piece, came: Outcome | BaseException, seconds: float) -> None:
        """Move the rows of a piece to where their results lead."""
        if isinstance(came, BaseException):
            self._fail(step, piece, dict.fromkeys(range(len(piece.rows)), came), seconds)
            return
        before = self.ids[piece.rows]
        stays = self._settle(step, piece, came, seconds)
        going = Piece(piece.rows, came.column)
        self._observe(step, piece, came, before, stays, seconds)
        going_rows = ~stays if came.keep is None else came.keep & ~stays
        for number, target in enumerate(step.ways):
            mask = going_rows if came.way is None else going_rows & (came.way == number)
            if mask.any():
                part = going if mask.all() else going.part(mask)
                if target in self.walk.steps:
                    self.waiting.setdefault(str(target), []).append(part)
                else:
                    self.landed.append(part)

    def _settle(self, step: Step, piece: Piece, came: Outcome, seconds: float) -> NDArray[np.bool_]:
        """Give the rows of a piece their new path nodes; return which of them failed."""
        before = self.ids[piece.rows]
        after = np.empty_like(before)
        number: NDArray[np.integer[Any]] = np.zeros(len(before), dtype=np.int64) if came.way is None else came.way
        if came.keep is not None:
            number = np.where(came.keep, number, -1)
        problems = dict(came.problems)
        present = _present(before)
        for id in present:
            node = self.walk.paths.nodes[id]
            closed = node.hops >= self.walk.limits.max_hops
            places = [
                NOWHERE if closed and target is not EMIT else self.walk.paths.to(node, target).id for target in step.ways
            ]
            places.append(self.walk.paths.end(node, step.processor.kept).id)  # which number -1 stands for
            here = before == id if len(present) > 1 else slice(None)
            after[here] = np.array(places)[number[here]]
        for position in np.flatnonzero(after == NOWHERE).tolist():
            target = step.ways[number[position]]
            text = f"went through max_hops={self.walk.limits.max_hops} processors and on to {target!r}"
            problems.setdefault(position, Refusal("max_hops", text))
        failed = np.zeros(len(before), dtype=np.bool_)
        if problems:
            failed[list(problems)] = True
            self._fail(step, piece, problems, seconds)
            self.ids[piece.rows[~failed]] = after[~failed]
        else:
            self.ids[piece.rows] = after
        return failed

    def _fail(self, step: Step, piece: Piece, problems: dict[int, BaseException], seconds: float) -> None:
        """Settle rows that failed, by their positions in the piece."""
        positions = np.array(sorted(problems), dtype=np.int64)
        values = piece.column.take(positions).to_list()
        for position, value in zip(positions.tolist(), values, strict=True):
            row = int(piece.rows[position])
            node = self.walk.paths.nodes[int(self.ids[row])]
            placed = self.walk.settle(step, node, value, problems[position], 1, row)
            self.walk.saw(step, node, value, placed, seconds, 1, True, row)
            [(to, out)] = placed
            self.ids[row] = to.id
            if to.kind == "visit":
                self.diverted.setdefault(str(to.processor), []).append((row, out))

    def divert(self) -> None:
        """Let the processors that take failed values have them."""
        for name, failed in self.diverted.items():
            rows = np.array([row for row, _ in failed], dtype=np.int64)
            pieces = [Piece(rows[at], column) for at, column in columns_of([value for _, value in failed])]
            if name in self.walk.steps:
                self.waiting.setdefault(name, []).extend(pieces)
            else:
                self.landed += pieces
        self.diverted.clear()

    def _observe(
        self, step: Step, piece: Piece, came: Outcome, before: NDArray[np.int64], failed: NDArray[np.bool_], seconds: float
    ) -> None:
        """Keep the visits of observed lines; those that failed are kept already."""
        if not self.rows.observed:
            return
        if self._observed is None:
            lines = np.arange(len(self.ids)) if self.rows.origin is None else self.rows.origin
            self._observed = np.isin(lines, np.asarray(self.rows.observed, dtype=np.int64))
        seen = np.flatnonzero(self._observed[piece.rows] & ~failed)
        if not len(seen):
            return
        values, outs = piece.column.take(seen).to_list(), came.column.take(seen).to_list()
        for at, value, out in zip(seen.tolist(), values, outs, strict=True):
            row = int(piece.rows[at])
            to = self.walk.paths.nodes[int(self.ids[row])]
            gone = to.kind == "leaf" and to.fate is step.processor.kept
            placed: list[tuple[Node, Any]] = [(to, None if gone else out)]
            self.walk.saw(step, self.walk.paths.nodes[int(before[at])], value, placed, seconds, 1, True, row)

    def leave(self) -> None:
        """Write what came of it into the batch."""
        self.rows.values = self._values()
        self.rows.ids, self.rows.together = self.ids, None
        self.walk.report(self.rows)
        if self.walk.stopped is not None:
            raise self.walk.stopped

    def _values(self) -> Sequence[Any]:
        """Return the values of the batch: as one column, if they are of one kind, else as a list."""
        whole = joined(self.landed) if self.whole and self.landed else None
        if whole is not None:
            return whole[1] if len(whole[0]) == len(self.ids) else _spread(*whole, len(self.ids))
        values: list[Any] = list(self.rows.values)
        for row in np.flatnonzero(self.ids != self.rows.ids).tolist():
            values[row] = None
        for piece in self.landed:
            for row, value in zip(piece.rows.tolist(), piece.column.to_list(), strict=True):
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
