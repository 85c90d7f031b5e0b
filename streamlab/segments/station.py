"""What a process of a parallel segment does: it walks the rows of a job as the Python segment does, and answers.

Each process grows a path tree of its own, and tells of the places that are new in it. While it is at a row, it leaves
marks of where it is, which outlive it: should it die, or hang, they say which row and which call are to blame.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Hop, Rows
from streamlab.errors import PipelineError, RunError
from streamlab.failures import Failure, text_of
from streamlab.host import BETWEEN, CALLED, MARKS, ROW, TIMES, UNTIL, Host, Lost, Marks
from streamlab.paths import Fate, Node, Paths
from streamlab.policy import Limits, Refusal
from streamlab.processors import Processor
from streamlab.segments import Stopped
from streamlab.segments.python import PythonSegment
from streamlab.segments.steps import Step

#: The answer when a processor raised `KeyboardInterrupt`, which is no failure of a line.
INTERRUPTED = b"^C"
#: Processes that may be lost with one line, for one call after the other; then none of its calls is made any more.
MOST_LOST = 16
#: Seconds that a coroutine has, beyond its timeout, to end as it is told to.
LEEWAY = 1.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How to walk the rows of a job.

    Attributes:
        trial: whether every call is noted, and not only those that may take so long and no longer.
        refused: calls that fail without being made, by what they are known to come to (a failure kind); as
            `streamlab.host.Lost` has them, by number of the processor and how manyth call.
        rest: what all calls fail of, when that is enough.
        read: whether what came of each row is read again before it is sent.
    """

    trial: bool = False
    refused: Mapping[tuple[int, int], str] = field(default_factory=dict)
    rest: str | None = None
    read: bool = False

    def after(self, lost: Lost) -> Manner:
        """Return how to walk a row, alone, with which a process was lost that walked it in this manner.

        Raises:
            RunError: it was lost although none of the user's code was run.
        """
        kind = "timeout" if lost.overdue else "worker_died"
        if self.rest is not None:
            raise RunError("a worker process was lost that had no call to make")
        if not self.trial and not lost.overdue:
            return replace(self, trial=True)
        if lost.call is None or lost.call in self.refused or len(self.refused) >= MOST_LOST:
            return replace(self, trial=True, rest=kind)
        return replace(self, trial=True, refused={**self.refused, lost.call: kind})

    def to_be_read(self) -> Manner:
        """Return how to walk rows of whose answer something cannot be read.

        Raises:
            RunError: it could be read by the process itself.
        """
        if self.read:
            raise RunError("what a worker process made of lines can be read there and not here: import its types here, too")
        return replace(self, read=True)


PLAIN = Manner()


@dataclass(slots=True)
class Job:
    """A stretch of rows for one process.

    Attributes:
        generation: a new one makes the process begin a new tree.
        arrivals: names on the way to the places where rows stand, by number of the path node.
        ids: number of the path node of each row.
        values: value of each row.
        observed: rows to observe.
        manner: how to walk them.
    """

    generation: int
    arrivals: Mapping[int, Sequence[str]]
    ids: Sequence[int]
    values: Sequence[Any]
    observed: Sequence[int]
    manner: Manner = PLAIN


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
    """Does the jobs of one process.

    Args:
        setup: what `setup` made of its processors.
        host: clock, sleep and threads of the process.
        marks: where to say where it is, see `streamlab.host.ROW`.
    """

    def __init__(self, setup: bytes, host: Host, marks: Marks | None = None) -> None:
        processors, self._limits = pickle.loads(setup)
        self._host = host
        self._marks = [0] * MARKS if marks is None else marks
        self._calls: list[_Noted] = []
        self._steps = self._bound(processors, all_noted=False)
        self._steps_on_trial = self._bound(processors, all_noted=True)
        self._begin(-1)

    @staticmethod
    def setup(processors: Sequence[Processor], limits: Limits) -> bytes:
        """Return what a process is given at its start.

        Raises:
            PipelineError: a processor cannot be sent to another process.
        """
        import cloudpickle  # pickles functions of a notebook, too

        for processor in processors:
            try:
                cloudpickle.dumps(processor)
            except Exception as error:
                why = f"{type(error).__name__}: {text_of(error)}"
                raise PipelineError(
                    f"processor {processor.name!r} cannot be sent to a worker process: {why}; take what it refers to (a"
                    " connection, a lock, an open file) out of it, or run without workers="
                ) from error
        return cloudpickle.dumps((processors, limits))  # type: ignore[no-any-return]

    def _bound(self, processors: Sequence[Processor], *, all_noted: bool) -> list[Step]:
        """Return processors whose calls are noted, if they may only take so long or all are to be."""
        steps = [Step(processor, self._host, self._limits) for processor in processors]
        for number, step in enumerate(steps):
            if all_noted or step.processor.timeout is not None:
                step.call = noted = _Noted(number, step, self._host, self._marks)
                self._calls.append(noted)
        return steps

    def _begin(self, generation: int) -> None:
        self._generation = generation
        self._paths = Paths()
        self._segment = PythonSegment(self._steps, self._paths, self._host, self._limits)

    def do(self, packed: bytes) -> bytes:
        """Do a job; takes and returns packed data."""
        marks = self._marks
        marks[ROW], marks[CALLED], marks[UNTIL] = BETWEEN, -1, 0
        job: Job = pickle.loads(packed)
        if job.generation != self._generation:
            self._begin(job.generation)
        for call in self._calls:
            call.begin(job.manner)
        arrivals = {id: self._paths.arrival(names, id).id for id, names in job.arrivals.items()}
        ids = np.array([arrivals[id] for id in job.ids], dtype=np.int64)
        rows = Rows([""] * len(ids), ids, _Followed(job.values, marks), observed=job.observed)
        rows.together = int(ids[0]) if (ids == ids[0]).all() else None
        stopped = None
        try:
            self._segment_for(job).advance(rows)
        except Stopped as stop:
            stopped = stop.failure, stop.cause
        except KeyboardInterrupt:
            return INTERRUPTED
        marks[ROW] = BETWEEN
        parents = np.arange(len(rows.ids), dtype=np.int64) if rows.parents is None else rows.parents
        arrived = {own: id for id, own in arrivals.items()}
        answer = Answer(
            arrived, (), rows.ids, rows.values, parents, rows.noted, rows.failures, rows.retried, rows.retries, stopped
        )
        if not job.manner.read and (sent := pack(self._placed(answer))):
            return sent
        return pack(self._placed(self._that_can_be_sent(answer, sound if job.manner.read else pack))) or b""

    def _segment_for(self, job: Job) -> PythonSegment:
        if not job.manner.trial:
            return self._segment
        return PythonSegment(self._steps_on_trial, self._paths, self._host, self._limits)

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

    def _that_can_be_sent(self, answer: Answer, packed: Callable[[object], bytes | None]) -> Answer:
        """Return an answer without values that cannot be ``packed``: those rows have failed."""
        ids, values, failures = answer.ids.astype(np.int64), list(answer.values), list(answer.failures)
        for row, value in enumerate(values):
            if packed(value) is None:
                node = self._paths.nodes[int(ids[row])]
                assert node.parent is not None
                dead = self._paths.end(node.parent, Fate.DEAD_LETTER, "processing")
                ids[row], values[row] = dead.id, None
                message = f"its result, of type {type(value).__name__}, cannot be sent from one process to another"
                name, path = node.parent.processor, self._paths.text(dead.id)
                at = int(answer.parents[row])
                failures.append(Failure(at, self._host.now(), name, "processing", "TypeError", message, "", path=path))
        stopped = answer.stopped
        if stopped is not None and packed(stopped) is None:
            stopped = stopped[0], RuntimeError(text_of(stopped[1]))
        noted = {row: hops for row, hops in answer.noted.items() if packed(hops) is not None}
        return replace(answer, ids=ids, values=values, failures=failures, stopped=stopped, noted=noted)


class _Noted:
    """The function of a processor, which marks each call before it is made, and until when it may take."""

    __slots__ = ("_call", "_clock", "_marks", "_number", "_refused", "_rest", "_row", "_seconds", "_timeout", "_times")

    def __init__(self, number: int, step: Step, host: Host, marks: Marks) -> None:
        self._number = number
        self._call = step.call
        self._clock = host.clock
        self._marks = marks
        self._timeout = step.processor.timeout or 0.0
        self._seconds = self._timeout + LEEWAY if step.processor.kind == "async" and self._timeout else self._timeout
        self.begin(PLAIN)

    def begin(self, manner: Manner) -> None:
        """Forget the rows of the job before."""
        self._row, self._times = BETWEEN, 0
        self._refused, self._rest = manner.refused, manner.rest

    def __call__(self, value: Any) -> Any:
        marks = self._marks
        if marks[ROW] != self._row:
            self._row, self._times = marks[ROW], 0
        self._times += 1
        if self._refused or self._rest is not None:
            self._refuse()
        marks[CALLED], marks[TIMES] = self._number, self._times
        if not self._seconds:
            return self._call(value)
        marks[UNTIL] = int((self._clock() + self._seconds) * 1e9)
        try:
            return self._call(value)
        finally:
            marks[UNTIL] = 0

    def _refuse(self) -> None:
        """Raise what this call is known to come to."""
        if self._rest is not None:
            raise Refusal(self._rest, "was not run: too many processes were lost with this line")
        kind = self._refused.get((self._number, self._times))
        if kind == "timeout":
            raise Refusal(kind, f"took longer than {self._timeout:g} s")
        if kind is not None:
            raise Refusal(kind, "ended the process that ran it")


class _Followed(Sequence[Any]):
    """Values of rows that follow each other; to take one marks its row."""

    def __init__(self, values: Sequence[Any], marks: Marks, first: int = 0) -> None:
        self._values = values
        self._marks = marks
        self._first = first

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> _Followed: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return _Followed(self._values[at], self._marks, self._first + at.indices(len(self._values))[0])
        self._marks[ROW] = self._first + at
        return self._values[at]

    def __iter__(self) -> Iterator[Any]:
        marks = self._marks
        for row, value in enumerate(self._values, self._first):
            marks[ROW] = row
            yield value


def bare(node: Node) -> Node:
    """Return a place without its neighbours, to be sent."""
    return Node(node.id, None, node.kind, node.processor, node.fate, node.failure)


def pack(value: object) -> bytes | None:
    """Return a value as bytes; ``None`` when it cannot be pickled."""
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # whatever the value's own code raises
        return None


def sound(value: object) -> bytes | None:
    """Return a value as bytes; ``None`` when it cannot be pickled, or not be read again."""
    packed = pack(value)
    try:
        if packed is not None:
            pickle.loads(packed)
    except Exception:  # the value's own code again
        return None
    return packed


def unpack(packed: bytes) -> Answer | None:
    """Return an answer; ``None`` when a value in it cannot be read.

    Raises:
        KeyboardInterrupt: a processor raised it.
    """
    if packed == INTERRUPTED:
        raise KeyboardInterrupt("raised by a processor in another process")
    try:
        answer: Answer = pickle.loads(packed)
    except Exception:  # the value's own code
        return None
    return answer


class Unsendable:
    """Stands for a value that cannot be sent to another process; no processor can do anything with it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a {self.kind}, which cannot be sent to another process>"
