"""An epoch's reports put together: outputs in order, what failed, and what the books have of it."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.failures import Failure, text_of, traceback_text
from streamlab.journal import Journal
from streamlab.metrics import Counted, Ledger
from streamlab.paths import Fate, Node, Paths, Totals
from streamlab.runners.cluster.exchange import chosen, stacked
from streamlab.runners.cluster.report import FLUSH, Done, Piece, Report, Spot
from streamlab.runners.cluster.shipping import Shipped
from streamlab.sinks.text import Encoded
from streamlab.sources import Part
from streamlab.traces import Fates, Line

#: Outputs that the sink is given at a time.
OUTPUTS = 65_536


class Merged:
    """What came of an epoch, in terms of the whole run.

    Args:
        reports: those of the first stage first.
        parts: what was read, by number of the range.
        first: number of the first line.
        paths: the run's tree, which grows.

    Attributes:
        lines: how many lines it has.
    """

    def __init__(self, reports: Sequence[Report], parts: Mapping[int, Part], first: int, paths: Paths) -> None:
        self._reports = reports
        self._parts = parts
        self._paths = paths
        self._done = {done.number: done for report in reports for done in report.ranges}
        self._first: dict[int, int] = {}
        self.lines = 0
        for number, done in sorted(self._done.items()):
            self._first[number] = first + self.lines
            self.lines += done.lines
        self._begin = first
        self._readers = {done.number: report.worker for report in reports for done in report.ranges}
        self._grafted: list[list[Mapping[int, Node]]] = [
            [paths.graft(portion.delta.twigs) for portion in report.portions] for report in reports
        ]
        self._gather_outputs()
        self._refused: list[Failure] = []
        self._moved: dict[tuple[int, ...], int] = {}  # places of outputs that were refused, and the path nodes they came to
        self._from: Counter[int] = Counter()

    def _gather_outputs(self) -> None:
        parts = [
            (portion.outputs, nodes)
            for report, grafted in zip(self._reports, self._grafted, strict=True)
            for portion, nodes in zip(report.portions, grafted, strict=True)
            if len(portion.outputs.values)
        ]
        self._encoded = [outputs.values for outputs, _ in parts if isinstance(outputs.values, Encoded)]
        if self._encoded:
            return
        readers = sum(bool(report.ranges) for report in self._reports)
        self._values: list[Any] = [value for outputs, _ in parts for value in outputs.values]
        self._ids = [nodes[id].id for outputs, nodes in parts for id in outputs.ids]
        self._lines = [line for outputs, _ in parts for line in outputs.lines]
        self._places = stacked([o.places for o, _ in parts]) if parts else np.zeros((0, 3), dtype=np.int64)
        if len(self._reports) > readers:  # those of readers are in order, as the ranges are
            order = np.lexsort(self._places.T[::-1])
            self._values, self._places = chosen(self._values, order), self._places[order]
            if self._ids:
                self._ids, self._lines = chosen(self._ids, order), chosen(self._lines, order)

    def outputs(self) -> Iterator[tuple[int, Sequence[Any], NDArray[np.int64]]]:
        """Yield the outputs in order, some at a time: the position of the first, the values, and their lines' numbers.

        Of what was left at the end the number is -1; of what is bytes already it is -1 too: nobody asks.
        """
        for values in self._encoded:
            yield 0, values, np.full(len(values), -1, dtype=np.int64)
        if not self._encoded:
            line_no = self._numbers(self._places)
            for start in range(0, len(self._values), OUTPUTS):
                stop = start + OUTPUTS
                yield start, self._values[start:stop], line_no[start:stop]

    def _numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the lines that rows come from."""
        numbers = np.full(len(places), -1, dtype=np.int64)
        for number, first in self._first.items():
            own = places[:, 0] == number
            numbers[own] = places[own, 1] + first
        return numbers

    def number_of(self, spot: Spot | None) -> int | None:
        """Return the number of a line; ``None`` for what failed at the end, or when ranges before it are not known."""
        if spot is None or spot[0] not in self._first:
            return None
        return self._first[spot[0]] + spot[1]

    def refuse(self, position: int, error: BaseException, time: float) -> None:
        """Turn an output that the sink would not take into a dead letter."""
        leaf = self._paths.nodes[self._ids[position]]
        assert leaf.parent is not None
        dead = self._paths.end(leaf.parent, Fate.DEAD_LETTER, "sink_rejected")
        place = tuple(self._places[position].tolist())
        spot = None if place[0] >= FLUSH else (place[0], place[1])
        self._moved[place] = dead.id
        self._from.update({leaf.id: -1, dead.id: 1})
        failure = Failure(
            line_no=None,
            time=time,
            processor=self._paths.names(dead.id)[-1],
            kind="sink_rejected",
            error=type(error).__name__,
            message=text_of(error),
            line=self._lines[position],
            traceback=traceback_text(error),
            path=self._paths.text(dead.id),
        )
        self._refused.append(self._located(spot, failure, ""))

    def _located(self, spot: Spot | None, failure: Failure, worker: str) -> Failure:
        """Say where a failure was."""
        failure.line_no = self.number_of(spot)
        failure.worker = worker
        if spot is not None:
            failure.source = failure.source or self._source(spot)
            failure.place = self._place(spot) if failure.place is None else failure.place
        return failure

    def _source(self, spot: Spot) -> str:
        done = self._done.get(spot[0])
        if done is None or not done.sources:
            return ""
        return done.sources[bisect.bisect_right([line for line, _ in done.sources], spot[1]) - 1][1]

    def _place(self, spot: Spot) -> Any:
        part = self._parts.get(spot[0])
        return part.place(spot[1]) if isinstance(part, Shipped) else None

    def failures(self) -> list[Failure]:
        """Return what failed, by number of the line."""
        found = [
            self._located(spot, failure, report.worker)
            for report in self._reports
            for portion in report.portions
            for spot, failure in portion.failures
        ]
        return sorted((*found, *self._refused), key=lambda f: (f.line_no is None, f.line_no))

    def stopped(self) -> Failure | None:
        """Return what ends the run, if something does: the first that came."""
        found = [
            self._located(report.stopped[0], report.stopped[1], report.worker)
            for report in self._reports
            if report.stopped is not None
        ]
        return min(found, key=lambda f: (f.line_no is None, f.line_no), default=None)

    def ranges(self) -> list[Done]:
        """Return the ranges that were read, in order."""
        return [done for _, done in sorted(self._done.items())]

    def book(self, journal: Journal, by_worker: dict[str, Ledger]) -> list[Failure]:
        """Write it into the books, and return the dead letters."""
        for report, grafted in zip(self._reports, self._grafted, strict=True):
            own = by_worker.setdefault(report.worker, Ledger(""))
            for portion, nodes in zip(report.portions, grafted, strict=True):
                portion.delta.add_to(journal.ledger, self._paths, nodes)
                own.merge_totals(Totals.restored(portion.done), portion.delta.counted)
        if self._from:
            journal.ledger.merge(self._paths, Counted(self._from, {}, {}, {}))
        if journal.traces.mode is not False:
            self._book_traces(journal)
        if journal.redactor is not None:  # workers have covered what they tell
            self._refused = [journal.redactor.failure(failure) for failure in self._refused]
        dead = journal.failures.extend(self.failures())
        journal.received += self.lines
        journal.flushed = journal.flushed and not self.lines
        return dead

    def _book_traces(self, journal: Journal) -> None:
        lines = sorted(self._traced(), key=lambda line: line.number)
        end = self._begin + self.lines
        first = max(end - journal.traces.limit, self._begin)
        recent = [line for line in lines if line.number >= first]
        fates = self._fates() if journal.traces.mode == "all" else None
        journal.traces.merge(recent, (line for line in lines if line.number < first), fates)

    def _traced(self) -> Iterable[Line]:
        """Yield the lines that are kept, put together from what each stage knows."""
        pieces: dict[Spot, list[tuple[Piece, Mapping[int, Node]]]] = defaultdict(list)
        for report, grafted in zip(self._reports, self._grafted, strict=True):
            for portion, nodes in zip(report.portions, grafted, strict=True):
                for piece in portion.pieces:
                    pieces[piece.spot].append((piece, nodes))
        for spot, own in pieces.items():
            rows = sorted(
                ((place, nodes[id].id, value) for piece, nodes in own for place, id, value in piece.rows),
                key=lambda row: row[0],
            )
            hops = [self._hop(hop, nodes) for piece, nodes in own for hop in piece.hops]
            known = [piece.place for piece, _ in own if piece.place is not None]
            yield Line(
                number=self._first[spot[0]] + spot[1],
                text=own[0][0].text,
                paths=self._paths,
                ids=[self._moved.get(place, id) for place, id, _ in rows],
                outputs=[value for _, _, value in rows],
                hops=hops,
                attempts=1 + sum(piece.retried for piece, _ in own),
                kept="error" if any(piece.failed for piece, _ in own) or self._refuses(rows) else "recent",
                source=self._source(spot),
                place=known[0] if known else self._place(spot),
                worker=self._readers[spot[0]],
            )

    def _refuses(self, rows: Sequence[tuple[tuple[int, ...], int, Any]]) -> bool:
        return bool(self._moved) and any(place in self._moved for place, _, _ in rows)

    @staticmethod
    def _hop(hop: Any, nodes: Mapping[int, Node]) -> Any:
        hop.node = nodes[hop.node].id
        return hop

    def _fates(self) -> Fates | None:
        """Return where each branch ended, in order."""
        parts = [
            (np.array([nodes[id].id for id in ids.tolist()], dtype=np.int64), places)
            for report, grafted in zip(self._reports, self._grafted, strict=True)
            for portion, nodes in zip(report.portions, grafted, strict=True)
            if portion.fates is not None
            for ids, places in (portion.fates,)
        ]
        if not parts:
            return None
        ids, places = np.concatenate([ids for ids, _ in parts]), stacked([places for _, places in parts])
        order = np.lexsort(places.T[::-1])
        order = order[places[order, 0] < FLUSH]
        numbers = self._numbers(places[order])
        return Fates(self._paths, self._begin, ids[order], numbers - self._begin)
