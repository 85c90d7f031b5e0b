"""The parallel segment: plain functions that follow each other, in several processes at once.

The rows that stand at the segment are shared out among the processes of a `Crew`, in stretches; each process walks its
stretch as the Python segment does, and what comes back is put together in the order in which it went out. Each process
grows a path tree of its own, and tells of the places that are new in it; they are looked up in the tree of the batch.
"""

from __future__ import annotations

import itertools
import pickle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Hop, Rows
from streamlab.columns import Column
from streamlab.errors import PipelineError
from streamlab.failures import Failure, text_of
from streamlab.host import Crew, Host
from streamlab.paths import Fate, Node, Paths
from streamlab.policy import Limits, Refusal
from streamlab.segments import Stopped
from streamlab.segments.python import PythonSegment
from streamlab.segments.steps import Step
from streamlab.segments.walk import Walk

#: Rows that are worth a process of their own.
STRETCH = 8
_generations = itertools.count()


@dataclass(slots=True)
class Job:
    """A stretch of rows for one process.

    Attributes:
        generation: a new one makes the process begin a new tree.
        arrivals: names on the way to the places where rows stand, by number of the path node.
        ids: number of the path node of each row.
        values: value of each row.
        observed: rows to observe.
    """

    generation: int
    arrivals: Mapping[int, Sequence[str]]
    ids: Sequence[int]
    values: Sequence[Any]
    observed: Sequence[int]


@dataclass(slots=True)
class Answer:
    """What came of a `Job`. Path nodes have the numbers of the process, rows those of the job.

    Attributes:
        arrived: the numbers of the places in the job, by the numbers that the process has for them.
        places: the places beyond that rows have been at, each with the number of the one before it, which comes first.
        ids: path node of each row.
        values: value of each row.
        parents: the row of the job that each came from, never falling.
        noted: visits that were recorded, by row of the job.
        failures: what failed, with the row of the job as ``line_no``.
        retried: additional attempts by row of the job.
        retries: additional attempts by processor.
        stopped: the failure that ends the run, and what was raised.
    """

    arrived: Mapping[int, int]
    places: Sequence[tuple[int, Node]]
    ids: NDArray[np.integer[Any]]
    values: Sequence[Any]
    parents: NDArray[np.int64]
    noted: Mapping[int, Sequence[Hop]]
    failures: Sequence[Failure]
    retried: Mapping[int, int]
    retries: Mapping[str, int]
    stopped: tuple[Failure, BaseException] | None


class Station:
    """The other end: does the jobs of one process.

    Args:
        setup: what `ParallelSegment` has packed for it.
        host: clock, sleep and threads of the process.
    """

    def __init__(self, setup: bytes, host: Host) -> None:
        processors, self._limits = pickle.loads(setup)
        self._host = host
        self._steps = [Step(processor, host, self._limits) for processor in processors]
        self._begin(-1)

    def _begin(self, generation: int) -> None:
        self._generation = generation
        self._paths = Paths()
        self._segment = PythonSegment(self._steps, self._paths, self._host, self._limits)

    def do(self, packed: bytes) -> bytes:
        """Do a job; takes and returns packed data."""
        job: Job = pickle.loads(packed)
        if job.generation != self._generation:
            self._begin(job.generation)
        arrivals = {id: self._paths.arrival(names, id).id for id, names in job.arrivals.items()}
        ids = np.array([arrivals[id] for id in job.ids], dtype=np.int64)
        rows = Rows([""] * len(ids), ids, job.values, observed=job.observed)
        rows.together = int(ids[0]) if (ids == ids[0]).all() else None
        stopped = None
        try:
            self._segment.advance(rows)
        except Stopped as stop:
            stopped = stop.failure, stop.cause
        parents = np.arange(len(rows.ids), dtype=np.int64) if rows.parents is None else rows.parents
        arrived = {own: id for id, own in arrivals.items()}
        answer = Answer(
            arrived, (), rows.ids, rows.values, parents, rows.noted, rows.failures, rows.retried, rows.retries, stopped
        )
        return pack(self._placed(answer)) or pack(self._placed(self._that_can_be_sent(answer))) or b""

    def _placed(self, answer: Answer) -> Answer:
        """Return an answer that says which places its numbers are."""
        waiting = {*np.unique(answer.ids).tolist(), *(hop.node for hops in answer.noted.values() for hop in hops)}
        known = set(answer.arrived)
        found: dict[int, tuple[int, Node]] = {}
        while waiting:
            node = self._paths.nodes[waiting.pop()]
            if node.id not in known and node.parent is not None:
                known.add(node.id)
                found[node.id] = node.parent.id, bare(node)
                waiting.add(node.parent.id)
        return replace(answer, places=[found[id] for id in sorted(found)])

    def _that_can_be_sent(self, answer: Answer) -> Answer:
        """Return an answer without values that cannot be pickled: those rows have failed."""
        ids, values, failures = answer.ids.astype(np.int64), list(answer.values), list(answer.failures)
        for row, value in enumerate(values):
            if pack(value) is None:
                node = self._paths.nodes[int(ids[row])]
                assert node.parent is not None
                dead = self._paths.end(node.parent, Fate.DEAD_LETTER, "processing")
                ids[row], values[row] = dead.id, None
                message = f"its result, of type {type(value).__name__}, cannot be sent from one process to another"
                name, path = node.parent.processor, self._paths.text(dead.id)
                at = int(answer.parents[row])
                failures.append(Failure(at, self._host.now(), name, "processing", "TypeError", message, "", path=path))
        stopped = answer.stopped
        if stopped is not None and pack(stopped) is None:
            stopped = stopped[0], RuntimeError(text_of(stopped[1]))
        noted = {row: hops for row, hops in answer.noted.items() if pack(hops) is not None}
        return replace(answer, ids=ids, values=values, failures=failures, stopped=stopped, noted=noted)


def bare(node: Node) -> Node:
    """Return a place without its neighbours, to be sent."""
    return Node(node.id, None, node.kind, node.processor, node.fate, node.failure)


def pack(value: object) -> bytes | None:
    """Return a value as bytes; ``None`` when it cannot be pickled."""
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # whatever the value's own code raises
        return None


class _Sent(NamedTuple):
    """Rows of a batch that a process has been given, where they stand, their values, and what waits for the answer."""

    rows: NDArray[np.int64]
    ids: Sequence[int]
    values: Sequence[Any]
    answer: Callable[[], bytes | None]


class ParallelSegment:
    """Shares the rows that stand at its processors out among processes."""

    def __init__(self, steps: Sequence[Step], paths: Paths, host: Host, limits: Limits) -> None:
        self._steps = {step.name: step for step in steps}
        self.names = frozenset(self._steps)
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
        """Walk every row that stands here to where it ends or leaves."""
        places = [id for id in np.unique(rows.ids).tolist() if self._paths.nodes[id].processor in self.names]
        here = np.flatnonzero(np.isin(rows.ids, places))
        if not len(here):
            return
        begun: Any = None if rows.begun is None else rows.begun()
        sent: deque[_Sent] = deque(begun or self._send_all(rows, here))
        merged = _Merged(rows, here)
        while sent:
            stretch, ids, values, answer = sent.popleft()
            packed = answer()
            if packed is not None:
                self._take_in(merged, stretch, pickle.loads(packed))
            elif len(stretch) > 1:  # find the line to blame
                middle = len(stretch) // 2
                for half in (slice(None, middle), slice(middle, None)):
                    sent.append(self._send(rows, stretch[half], ids[half], values[half]))
            else:
                to, out = self._died(merged, rows, stretch, self._paths.nodes[ids[0]], values[0])
                if to.processor in self.names:  # the one that takes what failed
                    sent.append(self._send(rows, stretch, [to.id], [out]))
        merged.write()
        if merged.stopped is not None:
            raise merged.stopped

    def _send_all(self, rows: Rows, here: NDArray[np.int64]) -> list[_Sent]:
        """Share rows out."""
        if self._crew is None:
            self._crew = self._host.crew(self._setup())
        count = min(self._crew.size, max(1, len(here) // STRETCH))
        values = rows.values
        sent = []
        for stretch in np.array_split(here, count):
            own = values.take(stretch).to_list() if isinstance(values, Column) else [values[row] for row in stretch.tolist()]
            sent.append(self._send(rows, stretch, rows.ids[stretch].tolist(), own))
        return sent

    def _send(self, rows: Rows, stretch: NDArray[np.int64], ids: Sequence[int], values: Sequence[Any]) -> _Sent:
        """Give rows to the process whose turn it is."""
        assert self._crew is not None
        self._turn = (self._turn + 1) % self._crew.size
        observed = np.flatnonzero(np.isin(rows.lines_of(stretch), np.asarray(rows.observed, dtype=np.int64))).tolist()
        arrivals = {id: self._paths.names(id) for id in set(ids)}
        job = Job(self._generation, arrivals, ids, values, observed)
        packed = pack(job)
        if packed is None:
            values = [value if pack(value) is not None else Unsendable(type(value).__name__) for value in values]
            packed = pickle.dumps(replace(job, values=values), protocol=5)
        return _Sent(stretch, ids, values, self._crew.work(self._turn, packed))

    def _setup(self) -> bytes:
        """Return what a process needs.

        Raises:
            PipelineError: a processor cannot be sent to another process.
        """
        import cloudpickle  # pickles functions of a notebook, too

        for step in self._steps.values():
            try:
                cloudpickle.dumps(step.processor)
            except Exception as error:
                raise PipelineError(
                    f"processor {step.name!r} cannot be sent to a worker process: {type(error).__name__}: {text_of(error)};"
                    " take what it refers to (a connection, a lock, an open file) out of it, or run without workers="
                ) from error
        return cloudpickle.dumps(([step.processor for step in self._steps.values()], self._limits))  # type: ignore[no-any-return]

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

    def _died(self, merged: _Merged, rows: Rows, stretch: NDArray[np.int64], node: Node, value: Any) -> tuple[Node, Any]:
        """Settle a row whose process died of it; return where it has come to, and with what value."""
        step = self._steps[node.processor or ""]
        walk = Walk(self._steps, self._paths, self._host, self._limits)
        error = Refusal("worker_died", "or a processor behind it ended the process that ran it")
        [(to, out)] = walk.settle(step, node, value, error, 1, 0)
        walk.saw(step, node, value, [(to, out)], 0.0, 1, 0)
        _, failure = walk.failures[0]
        failure.line_no = 0
        [(_, hops)] = walk.hops
        stopped = None if walk.stopped is None else (walk.stopped.failure, walk.stopped.cause)
        ended = to.processor not in self.names
        ids, parents = np.array([to.id] if ended else [], dtype=np.int64), np.zeros(int(ended), dtype=np.int64)
        answer = Answer({}, (), ids, [out] if ended else [], parents, {0: hops}, [failure], {}, {}, stopped)
        merged.add(stretch, ids, answer)
        return to, out


class Unsendable:
    """Stands for a value that cannot be sent to another process; no processor can do anything with it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a {self.kind}, which cannot be sent to another process>"


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
