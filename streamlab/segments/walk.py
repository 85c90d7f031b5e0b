"""The general walk: one value after the other, any result, error, retry, fan-out and loop, observed or not.

All kinds of segment place their results here, so that what a result or a failure means is said once.
"""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Hop, Rows
from streamlab.failures import Failure, text_of, traceback_text
from streamlab.host import Host
from streamlab.paths import EMIT, Fate, Node, Paths, Target
from streamlab.policy import Exhausted, Limits, Refusal, kind_of
from streamlab.segments import Stopped
from streamlab.segments.steps import Step, consume, copied

#: Branches and where they stand, in order.
Placed = list[tuple[Node, Any]]


class Walk:
    """One batch through one segment: rows go in one after the other, ``ids`` and ``values`` hold where they came to.

    Args:
        steps: the processors of the segment; branches that go elsewhere are left standing there.
    """

    def __init__(self, steps: dict[str, Step], paths: Paths, host: Host, limits: Limits) -> None:
        self.steps = steps
        self.paths = paths
        self.host = host
        self.limits = limits
        self.ids: list[int] = []
        self.values: list[Any] = []
        # These name the output row at which something happened; `finish` turns rows into lines.
        self.splits: list[tuple[int, int]] = []
        self.failures: list[tuple[int, Failure]] = []
        self.hops: list[tuple[int, list[Hop]]] = []
        self.retries: list[tuple[int, int, str]] = []  # and how many more, by whom
        self.unusual = 0
        self.stopped: Stopped | None = None
        self._problem: tuple[int, str] | None = None  # attempts and error of the visit that has just failed

    def row(self, stack: Placed, trail: Placed | None = None, hops: list[Hop] | None = None) -> None:
        """Walk one row to its end, depth first.

        Args:
            stack: where its branches stand, the next one last.
            trail: the visits that it has behind it in this segment.
            hops: where to note every visit, with its time; by default only what is needed should one fail is kept.

        Raises:
            Stopped: a processor that must not fail did; the row's other branches stay where they stand.
        """
        first = len(self.ids)
        trail = [] if trail is None else trail
        problems: dict[int, tuple[int, str]] = {}
        if self._problem is not None:
            problems[len(trail) - 1], self._problem = self._problem, None
        steps, clock = self.steps, self.host.clock
        while stack:
            placed = [stack.pop()]
            while len(placed) == 1:
                [(node, value)] = placed
                trail.append((node, value))
                step = steps.get(node.processor) if self.stopped is None else None  # type: ignore[arg-type]
                if step is None:
                    self.ids.append(node.id)
                    self.values.append(value)
                    break
                if hops is not None:
                    before, retries, start = copied(value), len(self.retries), clock()
                try:
                    result = step.call(value)
                    way = self._known_way(step, node, result)
                    placed = [way] if way is not None else self.place(step, node, result)
                except BaseException as error:
                    placed = self.failed(step, node, value, error)
                if hops is not None:
                    hops.append(self._hop(node, step, before, placed, clock() - start, retries))
                if self._problem is not None:
                    problems[len(trail) - 1], self._problem = self._problem, None
            else:
                stack += placed[::-1]
        if len(self.ids) != first + 1:
            self.splits.append((first, len(self.ids) - first))
        if problems and hops is None:
            self.hops.append((first, self._reconstructed(trail, problems)))
        if self.stopped is not None:
            raise self.stopped

    @staticmethod
    def _known_way(step: Step, node: Node, result: Any) -> tuple[Node, Any] | None:
        """Return where a usual result goes, if one has gone there before: then it is known that it may."""
        if type(result) is tuple:
            try:
                way = node.ways.get(result[0]) if len(result) == 2 else None
            except Exception:  # the tag is an object that cannot be hashed or compared
                return None
            return None if way is None else (way, result[1])
        if type(result) in step.bare:
            way = node.ways.get(step.default)  # type: ignore[arg-type]  # None is no way
            return None if way is None else (way, result)
        return None

    def observe(self, node: Node, value: Any) -> None:
        """Walk a row with a clock in hand, and keep every visit."""
        hops: list[Hop] = []
        self.hops.append((len(self.ids), hops))
        self.row([(node, value)], hops=hops)

    def _hop(self, node: Node, step: Step, value: Any, placed: Placed, seconds: float, retries: int) -> Hop:
        """Return a visit as it was observed."""
        outs = [(to.processor or to.fate.value, out if type(out) is str else copied(out)) for to, out in placed]
        attempts = 1 if retries == len(self.retries) else 1 + sum(more for _, more, _ in self.retries[retries:])
        error = None if self._problem is None else self._problem[1]
        return Hop(node.id, step.name, value, outs, seconds, attempts, error)

    def place(self, step: Step, node: Node, result: Any) -> Placed:
        """Return where a result goes: branches in order, the first on the value's own way, the others below a fork.

        Raises:
            Refusal: it may not go there.
        """
        if isinstance(result, (list, GeneratorType)):
            first, *others = consume(result, self.limits.max_emits) or [None]
            placed = [self._known_way(step, node, first) or self._branch(step, node, first)]
            if others:
                fork = self.paths.fork(node)
                placed += [self._known_way(step, fork, item) or self._branch(step, fork, item) for item in others]
            return placed
        if isinstance(result, (CoroutineType, AsyncGeneratorType)):
            if isinstance(result, CoroutineType):
                result.close()  # it will never be awaited, and should not complain
            raise TypeError("it returned a coroutine, which nothing would await: write the processor as an async def")
        if isinstance(result, tuple):
            step.shapes.add("tuple")
        elif result is not None:
            step.shapes.add("bare")
            step.bare.add(type(result))
        return [self._branch(step, node, result)]

    def _branch(self, step: Step, node: Node, result: Any) -> tuple[Node, Any]:
        """Return where one value goes."""
        if result is None:
            return self.paths.end(node, step.processor.kept), None
        tag, value = self._route(step, result)
        if tag is not EMIT and node.hops >= self.limits.max_hops:
            raise Refusal("max_hops", f"went through max_hops={self.limits.max_hops} processors and on to {tag!r}")
        return self.paths.to(node, tag), value

    @staticmethod
    def _route(step: Step, result: Any) -> tuple[Target, Any]:
        """Return tag and value of a result that is neither ``None`` nor several."""
        allowed = f"it may route to {', '.join(map(str, step.processor.to)) or 'nowhere: to= names no processor'}"
        if not isinstance(result, tuple):
            if step.default is None:
                raise Refusal("unknown_tag", f"returned a value without a tag; {allowed}: return (tag, value)")
            return step.default, result
        if len(result) != 2:
            raise Refusal("unknown_tag", f"returned a tuple of {len(result)}, where (tag, value) was expected")
        tag, value = result
        try:
            known = step.targets.get(tag)
        except Exception:  # whatever comparing such an object raises
            known = None
        if known is None:
            raise Refusal("unknown_tag", f"returned the tag {tag!r}; {allowed}")
        if known is not tag:
            step.shapes.add("computed")
        return known, value

    def failed(self, step: Step, node: Node, value: Any, error: BaseException) -> Placed:
        """Return where a value goes on whose first attempt ``error`` was raised: retry, then ``on_error``."""
        retry = step.processor.retry
        attempts = 1
        if retry is not None and retry.maximum_attempts > 1 and retry.retryable(error):
            whole = self._whole(step)
            result, last, attempts = retry.again(whole, value, error, self.host.sleep)
            self.retries.append((len(self.ids), attempts - 1, step.name))
            if last is None:
                try:
                    return self.place(step, node, result)
                except Refusal as refusal:
                    last = refusal
            error = last
        return self.fail(step, node, value, error, attempts, len(self.ids))

    def _whole(self, step: Step) -> Callable[[Any], Any]:
        return lambda value: consume(step.call(value), self.limits.max_emits)

    def fail(
        self, step: Step, node: Node, value: Any, error: BaseException, attempts: int, row: int
    ) -> list[tuple[Node, Any]]:
        """Return where a value goes that has failed for good, and record it with the output row that tells of it."""
        if isinstance(error, KeyboardInterrupt):
            raise error
        kind = kind_of(error)
        rule, handler = step.processor.on_error, step.handler
        if handler is not None and (node.hops >= self.limits.max_hops or node.kind == "flush"):
            rule, handler = "dead_letter", None
        failure = Failure(
            line_no=None,
            time=self.host.now(),
            processor=step.name,
            kind=kind,
            error=kind if isinstance(error, Refusal) else type(error).__name__,
            message=f"processor {step.name!r} {error}" if isinstance(error, Refusal) else text_of(error),
            line="",
            attempts=attempts,
            traceback=traceback_text(error),
            path=self.paths.text(node.id),
            dead=handler is None and rule != "skip",
        )
        self.failures.append((row, failure))
        self._problem = attempts, f"{failure.error}: {failure.message}"
        if handler is not None:
            return [(self.paths.divert(node, handler, kind), value)]
        if rule == "stop" or isinstance(error, Exhausted):
            self.stopped = self.stopped or Stopped(failure, error)
        fate = Fate.FILTERED if rule == "skip" else Fate.DEAD_LETTER
        return [(self.paths.end(node, fate, kind), None)]

    def land(
        self, step: Step, node: Node, value: Any, placed: Placed, seconds: float, attempts: int, observed: bool
    ) -> None:
        """Take in what a processor made of a value that was not walked: its branches stay where they were placed."""
        if attempts > 1:
            self.retries.append((len(self.ids), attempts - 1, step.name))
        if observed or self._problem is not None:
            self.saw(step, node, copied(value), placed, seconds, attempts, len(self.ids))
        if len(placed) != 1:
            self.splits.append((len(self.ids), len(placed)))
        for to, out in placed:
            self.ids.append(to.id)
            self.values.append(out)

    def saw(
        self,
        step: Step,
        node: Node,
        value: Any,
        placed: Placed,
        seconds: float,
        attempts: int,
        row: int,
    ) -> None:
        """Keep a visit that was not walked; ``value`` must not change any more."""
        problem, self._problem = self._problem, None
        outs = [(to.processor or to.fate.value, out) for to, out in placed]
        error = problem[1] if problem is not None else None
        self.hops.append((row, [Hop(node.id, step.name, value, outs, seconds, attempts, error)]))

    # What the generated loop hands over

    def loop_failed(self, node: Node, values: tuple[Any, ...], error: BaseException) -> None:
        """Go on where the processor at ``node`` raised; ``values`` are those of the visits up to it."""
        step = self.steps[node.processor or ""]
        self.row(self.failed(step, node, values[-1], error)[::-1], _visits(node, values))

    def loop_unusual(self, node: Node, values: tuple[Any, ...], result: Any) -> None:
        """Go on where the processor at ``node`` returned what the loop has no place for."""
        step = self.steps[node.processor or ""]
        self.unusual += 1
        try:
            placed = self.place(step, node, result)
        except BaseException as error:
            placed = self.failed(step, node, values[-1], error)
        self.row(placed[::-1], _visits(node, values))

    def _reconstructed(self, trail: Placed, problems: dict[int, tuple[int, str]]) -> list[Hop]:
        """Return the visits of a row that was not observed: without times.

        The trail is in depth-first order, so that a branch came from the last visit before it to the place it hangs below.
        """
        hops: list[Hop] = []
        last: dict[int, Hop] = {}
        for index, (node, value) in enumerate(trail):
            sender = last.get(_sender(node))
            if sender is not None:
                sender.outs.append((node.processor or node.fate.value, value))
            if node.kind == "visit" and node.processor in self.steps:
                attempts, error = problems.get(index, (1, None))
                last[node.id] = Hop(node.id, node.processor, value, [], None, attempts, error)
                hops.append(last[node.id])
        return hops

    def finish(self, rows: Rows) -> None:
        """Write what the walk came to into the batch."""
        rows.parents = self._parents(len(rows.ids)) if self.splits else None
        if rows.parents is not None:
            rows.origin = rows.parents if rows.origin is None else rows.origin[rows.parents]
        rows.ids, rows.values, rows.together = compact(self.ids), self.values, None
        self.report(rows)

    def report(self, rows: Rows) -> None:
        """Write what happened on the way into the batch, for its lines."""
        for row, hops in self.hops:
            found = row if rows.parents is None else int(rows.parents[row])
            rows.noted.setdefault(found, []).extend(hops)
            rows.hops.setdefault(rows.line_of(row), []).extend(hops)
        for row, more, name in self.retries:
            line = rows.line_of(row)
            rows.retries[name] = rows.retries.get(name, 0) + more
            rows.retried[line] = rows.retried.get(line, 0) + more
        for row, failure in self.failures:
            failure.line_no = rows.line_of(row)
            rows.failures.append(failure)

    def _parents(self, rows: int) -> NDArray[np.int64]:
        """Return which of the rows that came in each output row came from."""
        counts = np.ones(rows, dtype=np.int64)
        surplus = 0
        for first, count in self.splits:
            counts[first - surplus] = count
            surplus += count - 1
        return np.repeat(np.arange(rows, dtype=np.int64), counts)


def compact(ids: list[int]) -> NDArray[np.integer[Any]]:
    """Return path numbers as an array: of bytes, which is four times as fast, while all are small."""
    try:
        return np.frombuffer(bytes(ids), dtype=np.uint8)
    except ValueError:
        return np.fromiter(ids, dtype=np.int32, count=len(ids))


def _visits(node: Node, values: tuple[Any, ...]) -> Placed:
    """Return the visits that led to ``node`` and carried ``values``."""
    visits: Placed = []
    at: Node | None = node
    for value in reversed(values):
        assert at is not None
        visits.append((at, value))
        at = at.parent
    return visits[::-1]


def _sender(node: Node) -> int:
    """Return the number of the visit that a branch came from, past the fork if it was made by fan-out."""
    parent = node.parent
    if parent is not None and parent.kind == "fork":
        parent = parent.parent
    return -1 if parent is None else parent.id
