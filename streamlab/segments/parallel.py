"""The parallel segment: plain functions that follow each other, in several processes at once.

The rows that stand at the segment are shared out among the processes of a `Crew`, in stretches (`streamlab.segments.station`
has the other end), and what comes back is put together in the order in which it went out.

When a process is lost, because it died or a call in it took too long, its stretch is given out again: the rows before the
one it was at, those after it, and that row alone, on trial. If a process is lost on trial, or by a call that was overdue,
the row is given out once more with that call refused: so what is done about it (retry, ``on_error``) is done where
it is for all other failures, in the walk.
"""

from __future__ import annotations

import itertools
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Rows
from streamlab.columns import Column
from streamlab.host import Crew, Host, Lost
from streamlab.paths import Paths
from streamlab.policy import Limits
from streamlab.segments import Stopped
from streamlab.segments.station import PLAIN, Answer, Job, Manner, Station, Unsendable, pack, unpack
from streamlab.segments.steps import Step

#: Rows that are worth a process of their own.
STRETCH = 8
_generations = itertools.count()


class _Sent(NamedTuple):
    """Rows of a batch that a process has been given, where they stand, their values, and what waits for the answer."""

    rows: NDArray[np.int64]
    ids: Sequence[int]
    values: Sequence[Any]
    answer: Callable[[], bytes | Lost]
    manner: Manner = PLAIN


class ParallelSegment:
    """Shares the rows that stand at its processors out among processes.

    Attributes:
        processors: its processors, as the processes number them.
    """

    def __init__(self, steps: Sequence[Step], paths: Paths, host: Host, limits: Limits) -> None:
        self.processors = [step.processor for step in steps]
        self.names = frozenset(step.name for step in steps)
        self._paths = paths
        self._host = host
        self._limits = limits
        self._generation = next(_generations)
        self._crew: Crew | None = None
        self._turn = 0  # the process that is next to be given a stretch

    def begin(self, rows: Rows) -> Callable[[], object]:
        """Send rows of which all stand here out before their turn; what is returned gives what `Rows.begun` is for."""
        sent = self._send_all(rows, np.arange(len(rows.ids), dtype=np.int64))
        return lambda: sent

    def advance(self, rows: Rows) -> None:
        """Walk every row that stands here to where it ends or leaves.

        Raises:
            PipelineError: a processor cannot be sent to another process.
            RunError: no process can be had, or the run was stopped and one does not come to an end.
            KeyboardInterrupt: a processor raised it.
        """
        places = [id for id in np.unique(rows.ids).tolist() if self._paths.nodes[id].processor in self.names]
        here = np.flatnonzero(np.isin(rows.ids, places))
        if not len(here):
            return
        begun: Any = None if rows.begun is None else rows.begun()
        waiting: deque[_Sent] = deque(begun or self._send_all(rows, here))
        merged = _Merged(rows, here)
        while waiting:
            sent = waiting.popleft()
            came = sent.answer()
            answer = came if isinstance(came, Lost) else unpack(came)
            if isinstance(answer, Answer):
                self._take_in(merged, sent.rows, answer)
            elif answer is None:  # what cannot be read must be found where it was made
                waiting.append(self._resend(rows, sent, slice(None), sent.manner.to_be_read()))
            else:
                waiting += self._send_again(rows, sent, answer)
        merged.write()
        if merged.stopped is not None:
            raise merged.stopped

    def _send_all(self, rows: Rows, here: NDArray[np.int64]) -> list[_Sent]:
        """Share rows out."""
        if self._crew is None:
            self._crew = self._host.crew(Station.setup(self.processors, self._limits))
        count = min(self._crew.size, max(1, len(here) // STRETCH))
        values = rows.values
        sent = []
        for stretch in np.array_split(here, count):
            own = values.take(stretch).to_list() if isinstance(values, Column) else [values[row] for row in stretch.tolist()]
            sent.append(self._send(rows, stretch, rows.ids[stretch].tolist(), own))
        return sent

    def _send(
        self, rows: Rows, stretch: NDArray[np.int64], ids: Sequence[int], values: Sequence[Any], manner: Manner = PLAIN
    ) -> _Sent:
        """Give rows to the process whose turn it is."""
        assert self._crew is not None
        self._turn = (self._turn + 1) % self._crew.size
        observed = np.flatnonzero(np.isin(rows.lines_of(stretch), np.asarray(rows.observed, dtype=np.int64))).tolist()
        arrivals = {id: self._paths.names(id) for id in set(ids)}
        job = Job(self._generation, arrivals, ids, values, observed, manner)
        packed = pack(job)
        if packed is None or manner.rest:
            job.values = [
                Unsendable(type(value).__name__) if manner.rest or pack(value) is None else value for value in values
            ]
            packed = pickle.dumps(job, protocol=5)
        return _Sent(stretch, ids, values, self._crew.work(self._turn, packed), manner)

    def _resend(self, rows: Rows, sent: _Sent, part: slice, manner: Manner = PLAIN) -> _Sent:
        """Give some of the rows that were sent out again."""
        return self._send(rows, sent.rows[part], sent.ids[part], sent.values[part], manner)

    def _send_again(self, rows: Rows, sent: _Sent, lost: Lost) -> Iterator[_Sent]:
        """Give rows out again whose process was lost."""
        count, at = len(sent.rows), lost.row
        if count == 1:
            yield self._resend(rows, sent, slice(None), sent.manner.after(lost))
        elif at is None:
            yield self._resend(rows, sent, slice(None, count // 2), sent.manner)
            yield self._resend(rows, sent, slice(count // 2, None), sent.manner)
        else:
            if at > 0:
                yield self._resend(rows, sent, slice(None, at), sent.manner)
            yield self._resend(rows, sent, slice(at, at + 1), sent.manner.after(lost))
            if at + 1 < count:
                yield self._resend(rows, sent, slice(at + 1, None), sent.manner)

    def _take_in(self, merged: _Merged, stretch: NDArray[np.int64], answer: Answer) -> None:
        """Take in the answer of a process: its places become those of the batch's tree, its rows those of the batch."""
        known = {own: self._paths.nodes[id] for own, id in answer.arrived.items()}
        for parent, node in answer.places:
            if parent in known:  # others are on the way to an arrival
                known[node.id] = self._paths.like(known[parent], node)
        table = {id: known[id].id for id in np.unique(answer.ids).tolist()}
        ids = np.array([table[id] for id in answer.ids.tolist()], dtype=np.int64)
        for hops in answer.noted.values():
            for hop in hops:
                hop.node = known[hop.node].id
        merged.add(stretch, ids, answer)


class _Merged:
    """Rows of a batch and what came of some of them, to be put together in order.

    Attributes:
        stopped: the first failure, by row, that ends the run; known once all has been put together.
    """

    def __init__(self, rows: Rows, here: NDArray[np.int64]) -> None:
        self._rows = rows
        others = np.setdiff1d(np.arange(len(rows.ids)), here, assume_unique=True)
        self._ids = [np.asarray(rows.ids[others], dtype=np.int64)]
        self._values: list[Any] = [rows.values[row] for row in others.tolist()]
        self._parents = [others]
        self._answers: list[tuple[NDArray[np.int64], Answer]] = []
        self._stops: list[tuple[int, Stopped]] = []
        self.stopped: Stopped | None = None

    def add(self, stretch: NDArray[np.int64], ids: NDArray[np.int64], answer: Answer) -> None:
        """Take in what came of a stretch."""
        self._ids.append(ids)
        self._values += answer.values
        self._parents.append(stretch[answer.parents])
        self._answers.append((stretch, answer))
        if answer.stopped is not None:  # its failure is one of those of the answer
            at = answer.stopped[0].line_no
            assert at is not None
            self._stops.append((int(stretch[at]), Stopped(*answer.stopped)))

    def write(self) -> None:
        """Write the rows back, branches in place of the row that they came from; those after a stop as they were."""
        rows, count = self._rows, len(self._rows.ids)
        last = count
        if self._stops:
            last, self.stopped = min(self._stops, key=lambda stop: stop[0])
            self._take_back(last)
        for stretch, answer in self._answers:
            self._report(stretch, answer, last)
        parents = np.concatenate(self._parents)
        order = np.argsort(parents, kind="stable")
        parents, values = parents[order], self._values
        rows.values = [values[at] for at in order.tolist()]
        rows.ids, rows.together = np.concatenate(self._ids)[order], None
        rows.failures.sort(key=lambda failure: -1 if failure.line_no is None else failure.line_no)
        if len(parents) != count or (np.diff(parents) != 1).any():
            rows.parents = parents
            rows.origin = parents if rows.origin is None else rows.origin[parents]

    def _take_back(self, last: int) -> None:
        """Let the rows after one stand where they stood."""
        parents = np.concatenate(self._parents)
        kept, after = np.flatnonzero(parents <= last), np.arange(last + 1, len(self._rows.ids))
        self._ids = [np.concatenate(self._ids)[kept], np.asarray(self._rows.ids[after], dtype=np.int64)]
        self._values = [self._values[at] for at in kept.tolist()] + [self._rows.values[row] for row in after.tolist()]
        self._parents = [parents[kept], after]

    def _report(self, stretch: NDArray[np.int64], answer: Answer, last: int) -> None:
        """Write what happened to the rows of a stretch, up to the last one, into the batch, for its lines."""
        rows = self._rows
        for at, hops in answer.noted.items():
            if (row := int(stretch[at])) <= last:
                rows.noted.setdefault(row, []).extend(hops)
                rows.hops.setdefault(rows.line_of(row), []).extend(hops)
        for failure in answer.failures:
            assert failure.line_no is not None
            if (row := int(stretch[failure.line_no])) <= last:
                failure.line_no = rows.line_of(row)
                rows.failures.append(failure)
        for at, more in answer.retried.items():
            line = rows.line_of(int(stretch[at]))
            rows.retried[line] = rows.retried.get(line, 0) + more
        for name, more in answer.retries.items():
            rows.retries[name] = rows.retries.get(name, 0) + more
