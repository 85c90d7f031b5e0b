"""Gathers what comes of the batches of a task: blocks for later stages, and the report."""

from __future__ import annotations

import copy
import pickle
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch
from streamlab.columns import Column
from streamlab.metrics import Ledger
from streamlab.paths import Paths, Totals
from streamlab.runners.cluster.delta import Delta, ended
from streamlab.runners.cluster.exchange import Block, chosen, places_after, shared_out, stacked, standing
from streamlab.runners.cluster.job import Site
from streamlab.runners.cluster.report import FLUSH, Done, Outputs, Piece, Portion, Report, Spot, dumps
from streamlab.segments import Stopped
from streamlab.sinks.text import Encoded, encoded
from streamlab.texts import as_text
from streamlab.traces import KEPT_SLOW

NOWHERE = np.zeros((0, 3), dtype=np.int64)


class Cuttings(NamedTuple):
    """A batch, to cut lines out of; what it has is as of `Collector.take`."""

    batch: Batch
    places: NDArray[np.int64]
    origins: NDArray[np.int64]
    offsets: NDArray[np.int64] | None

    def spot(self, line: int) -> Spot:
        """Return which line of the run one of the batch is."""
        number, index = self.origins[line, :2].tolist()
        return number, index


class Collector:
    """What comes of one task.

    Args:
        site: what the worker keeps of the job.
        number: of the stage.
    """

    def __init__(self, site: Site, number: int) -> None:
        self._job = job = site.job
        self._redactor = site.redactor
        self._stages = job.stages
        self._number = number
        self._elsewhere = frozenset(name for stage in job.stages[number + 1 :] for name in stage.placed)
        self._blocks: dict[tuple[int, int], list[Block]] = defaultdict(list)
        self._writer = None if job.writer is None else copy.copy(job.writer)  # each task has its own
        self.report = Report(secrets.token_hex(8))
        self._paths: Paths | None = None
        self._tail: deque[Cuttings] = deque()
        self._tail_lines = 0
        self._begin_portion()

    def _begin_portion(self) -> None:
        self._ledger = Ledger("")
        self._found: list[NDArray[np.integer[Any]]] = []  # path nodes where rows stood that came from another stage
        self._left: list[NDArray[np.integer[Any]]] = []  # where rows ended, or stand for another stage
        self._failures: list[tuple[Spot | None, Any]] = []
        self._pieces: dict[Spot, Piece] = {}
        self._outputs: list[Outputs] = []
        self._fates: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def take(
        self,
        batch: Batch,
        origins: NDArray[np.int64],
        offsets: NDArray[np.int64] | None = None,
        kept: NDArray[np.bool_] | None = None,
        found: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        """Take in a batch.

        Args:
            batch: the batch; what a flush gave has a line for each value by now.
            origins: places of its lines.
            offsets: where its lines are in their source, if that is a number.
            kept: of its lines, whether they are kept for traces; by default the last ones of a range are.
            found: of its lines, the path nodes where they stood, if they came from another stage.
        """
        if batch.paths is not self._paths:
            self._end_portion()
            self._paths = batch.paths
        values = self._handed_out(batch)
        places = places_after(batch, origins)
        elsewhere = standing(batch, self._elsewhere)
        self._ledger.book(ended(batch, elsewhere))
        self._left.append(batch.ids)
        if found is not None:
            self._found.append(found)
        covered = self._covered(batch)
        for failure in covered.failures:
            spot = self._spot(failure.line_no, batch.first, origins)
            if spot is not None and failure.place is None and offsets is not None:
                failure.place = int(offsets[(failure.line_no or 0) - batch.first])
            self._failures.append((spot, failure))
        self._share_out(batch, places, offsets, kept)
        if len(values):
            self._keep_outputs(batch, places, values)
        if self._job.trace is not False:
            self._keep_lines(Cuttings(covered, places, origins, offsets), kept)
            if self._job.trace == "all":
                rows = np.setdiff1d(np.arange(len(batch.ids)), elsewhere)
                self._fates.append((batch.ids[rows].astype(np.int64), places[rows]))
        if isinstance(batch.stopped, Stopped):
            failure = batch.stopped.failure
            told = failure if self._redactor is None else self._redactor.failure(failure)
            self.report.stopped = self._spot(failure.line_no, batch.first, origins), told

    def _covered(self, batch: Batch) -> Batch:
        traced = self._job.trace is not False
        return batch if self._redactor is None else self._redactor.batch(batch, traced=traced)

    @staticmethod
    def _spot(line_no: int | None, first: int, origins: NDArray[np.int64]) -> Spot | None:
        """Return the line that a failure is of."""
        if line_no is None:
            return None
        number, line = origins[line_no - first, :2].tolist()
        return None if number >= FLUSH else (number, line)

    def _handed_out(self, batch: Batch) -> Sequence[Any]:
        """Return the outputs that go to the driver, and make dead letters of those that cannot be written."""
        values, _ = batch.emitted()
        refused: Sequence[tuple[int, BaseException]] = ()
        if not len(values):
            return ()
        if self._writer is not None:
            refused = self._writer.write(values, np.full(len(values), -1, dtype=np.int64))
            values = ()
        elif self._job.returned == "encoded":
            data, refused = encoded(values)
            values = Encoded(bytes(data), len(values) - len(refused))
        elif self._job.returned == "text":
            values, refused = _texts(values)
        for position, error in sorted(refused, key=lambda refusal: -refusal[0]):
            batch.refuse(position, error, time.time())
        return values.to_list() if isinstance(values, Column) else values

    def _share_out(
        self,
        batch: Batch,
        places: NDArray[np.int64],
        offsets: NDArray[np.int64] | None,
        kept: NDArray[np.bool_] | None,
    ) -> None:
        job = self._job
        for number in range(self._number + 1, len(self._stages)):
            stage = self._stages[number]
            blocks = shared_out(batch, stage, places, job.pipeline.processors, job.partitions, offsets, kept)
            for partition, block in blocks.items():
                self._blocks[number, partition].append(block)

    def _keep_outputs(self, batch: Batch, places: NDArray[np.int64], values: Sequence[Any]) -> None:
        if isinstance(values, Encoded):
            self._outputs.append(Outputs(NOWHERE, values))
            return
        rows = np.flatnonzero(batch.paths.emitted()[batch.ids])
        outputs = Outputs(places[rows], values)
        if self._job.returned == "lines":
            outputs.ids = batch.ids[rows].tolist()
            outputs.lines = chosen(batch.lines, rows if batch.origin is None else batch.origin[rows])
        self._outputs.append(outputs)

    def _keep_lines(self, of: Cuttings, kept: NDArray[np.bool_] | None) -> None:
        """Keep what traces want of a batch: of lines that failed or were slow, and of those that may be the last ones."""
        batch = of.batch
        lines = {f.line_no - batch.first for f in batch.failures if f.line_no is not None}
        if self._job.trace != "hops":
            lines |= batch.hops.keys()
        else:  # every line is observed: the slowest do
            seconds = {line: sum(hop.duration or 0.0 for hop in hops) for line, hops in batch.hops.items()}
            lines.update(sorted(seconds, key=seconds.__getitem__)[-KEPT_SLOW:])
        if kept is not None:
            lines.update(np.flatnonzero(kept).tolist())
        else:
            self._tail.append(of)
            self._tail_lines += len(batch.lines)
            while self._tail_lines - len(self._tail[0].batch.lines) >= self._job.trace_limit:
                self._tail_lines -= len(self._tail.popleft().batch.lines)
        self._cut_out(of, sorted(lines))

    def _cut_out(self, of: Cuttings, lines: Sequence[int]) -> None:
        """Keep what is known of some lines of a batch."""
        batch, places = of.batch, of.places
        failed = {failure.line_no - batch.first for failure in batch.failures if failure.line_no is not None}
        elsewhere = set(standing(batch, self._elsewhere).tolist())
        for line in lines:
            spot = of.spot(line)
            if spot[0] >= FLUSH:
                continue
            start, stop = line, line + 1
            if batch.origin is not None:
                start, stop = (int(row) for row in np.searchsorted(batch.origin, (line, line + 1)))
            piece = self._pieces.setdefault(spot, Piece(spot, batch.lines[line], [], [], 0, False))
            piece.place = None if of.offsets is None else int(of.offsets[line])
            piece.rows += [
                (tuple(places[row].tolist()), int(batch.ids[row]), batch.values[row])
                for row in range(start, stop)
                if row not in elsewhere
            ]
            piece.hops = [*piece.hops, *batch.hops.get(line, ())]
            piece.retried += batch.retried.get(line, 0)
            piece.failed |= line in failed

    def _cut_out_tail(self, first: int) -> None:
        """Keep the last lines of a range, from one on."""
        for of in self._tail:
            lines = range(max(first - of.batch.first, 0), len(of.batch.lines))
            self._cut_out(of, [line for line in lines if of.spot(line) not in self._pieces])
        self._tail.clear()
        self._tail_lines = 0

    def end_range(self, done: Done) -> None:
        """Take note that a range has been read."""
        self.report.ranges.append(done)
        if self._job.trace is False:
            return
        first = max(done.lines - self._job.trace_limit, 0)
        self._cut_out_tail(first)
        for key, blocks in self._blocks.items():
            self._blocks[key] = [
                replace(b, kept=b.kept | ((b.places[:, 0] == done.number) & (b.places[:, 1] >= first))) for b in blocks
            ]

    def _end_portion(self) -> None:
        if self._paths is None:
            return
        self._cut_out_tail(0)  # its path nodes are of this tree
        pieces = list(self._pieces.values())
        nodes = {id for piece in pieces for _, id, _ in piece.rows} | {hop.node for piece in pieces for hop in piece.hops}
        nodes.update(id for outputs in self._outputs for id in outputs.ids)
        fates = None
        if self._fates:
            fates = np.concatenate([ids for ids, _ in self._fates]), stacked([places for _, places in self._fates])
        done = self._done(self._paths)
        delta = Delta.of(self._ledger, self._paths, nodes, done)
        self.report.portions.append(Portion(delta, done.saved(), self._failures, pieces, _joined(self._outputs), fates))
        self._begin_portion()

    def _done(self, paths: Paths) -> Totals:
        """Return what was done here, and not before or in other stages."""
        left = np.bincount(np.concatenate(self._left), minlength=len(paths)).astype(np.int64)
        stand = [n.kind == "visit" and n.processor in self._elsewhere for n in paths.nodes]
        waiting = np.where(stand, left, 0)
        totals = paths.totals(left - waiting)
        totals.add(paths.on_the_way(waiting))
        if self._found:
            found = np.bincount(np.concatenate(self._found), minlength=len(paths)).astype(np.int64)
            totals.add(paths.on_the_way(found), times=-1)
        return totals

    def finished(self, worker: str, seconds: float) -> dict[Any, bytes]:
        """Return the report, the task's token, and a block for each partition of a later stage, packed, by what they are."""
        self._end_portion()
        if self._writer is not None:
            self.report.parts = self._writer.close()
        self.report.worker, self.report.seconds = worker, seconds
        made: dict[Any, bytes] = {"report": self.report.packed()}
        for number in range(self._number + 1, len(self._stages)):
            for partition in self._job.used(number):
                made[number, partition] = dumps((self.report.token, self._blocks.get((number, partition), ())))
        return made


def _joined(parts: Sequence[Outputs]) -> Outputs:
    if not parts:
        return Outputs(NOWHERE, [])
    if isinstance(parts[0].values, Encoded):
        data = b"".join(part.values.data for part in parts if isinstance(part.values, Encoded))
        return Outputs(NOWHERE, Encoded(data, sum(len(part.values) for part in parts)))
    return Outputs(
        stacked([part.places for part in parts]),
        [value for part in parts for value in part.values],
        [id for part in parts for id in part.ids],
        [line for part in parts for line in part.lines],
    )


def _texts(values: Sequence[Any]) -> tuple[list[Any], list[tuple[int, BaseException]]]:
    """Return values as text, and those that have none: their positions, with the reason."""
    texts: list[Any] = []
    refused: list[tuple[int, BaseException]] = []
    for position, value in enumerate(values.to_list() if isinstance(values, Column) else values):
        try:
            texts.append(value if type(value) is str else as_text(value))
        except Exception as error:  # the value's own code
            refused.append((position, error))
    return texts, refused


def received(packed: Sequence[bytes]) -> tuple[list[str], list[Block]]:
    """Return what tasks of earlier stages have sent to a partition: their tokens, and the blocks."""
    tokens, blocks = [], []
    for data in packed:
        token, own = pickle.loads(data)
        tokens.append(token)
        blocks += own
    return tokens, blocks
