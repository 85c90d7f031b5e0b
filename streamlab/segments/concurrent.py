"""The concurrent segment: one async processor, many values of a batch at a time, results in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from streamlab.batch import Rows
from streamlab.host import Host
from streamlab.paths import Node, Paths
from streamlab.policy import Limits, Refusal
from streamlab.segments.steps import Step, outcome
from streamlab.segments.walk import Placed, Walk

#: Result, what was raised instead, attempts, and the seconds they took.
Outcome = tuple[Any, BaseException | None, int, float]


class ConcurrentSegment:
    """Awaits the values that stand at its processor, at most ``concurrency`` at a time, started in order."""

    def __init__(self, step: Step, paths: Paths, host: Host, limits: Limits) -> None:
        self._step = step
        self.names = frozenset([step.name])
        self._paths = paths
        self._host = host
        self._limits = limits

    def advance(self, rows: Rows) -> None:
        """Let the processor have every value that stands at it; when one stops the run, the others have been started too."""
        nodes = self._paths.nodes
        ids, values = rows.ids.tolist(), list(rows.values)
        here = [row for row, id in enumerate(ids) if nodes[id].processor in self.names]
        if not here:
            return
        calls = [self._call(values[row]) for row in here]
        outcomes = dict(zip(here, self._host.gather(calls, self._step.processor.concurrency), strict=True))
        walk = Walk({}, self._paths, self._host, self._limits)
        observed = set(rows.observed)
        for row, (id, value) in enumerate(zip(ids, values, strict=True)):
            if row not in outcomes:
                walk.ids.append(id)
                walk.values.append(value)
                continue
            placed = self._placed(walk, nodes[id], value, outcomes[row])
            _, _, attempts, seconds = outcomes[row]
            walk.land(self._step, nodes[id], value, placed, seconds, attempts, rows.line_of(row) in observed)
        walk.finish(rows)
        if walk.stopped is not None:
            raise walk.stopped

    def _placed(self, walk: Walk, node: Node, value: Any, came: Outcome) -> Placed:
        result, error, attempts, _ = came
        if error is None:
            try:
                return walk.place(self._step, node, result)
            except Refusal as refusal:
                error = refusal
        return walk.fail(self._step, node, value, error, attempts, len(walk.ids))

    def _call(self, value: Any) -> Callable[[], Awaitable[Outcome]]:
        processor = self._step.processor
        retry, clock, limit = processor.retry, self._host.clock, self._limits.max_emits

        async def call() -> Outcome:
            start, attempts = clock(), 0

            async def attempt() -> Any:
                nonlocal attempts
                attempts += 1
                result, error = await outcome(self._step.attempt, value, processor.timeout, limit)
                if error is not None:
                    raise error
                return result

            try:
                result = await (attempt() if retry is None else self._retrying(attempt))
            except BaseException as error:  # Ctrl-C too, see `outcome`
                return None, error, attempts, clock() - start
            return result, None, attempts, clock() - start

        return call

    async def _retrying(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        import tenacity

        retry = self._step.processor.retry
        assert retry is not None
        return await tenacity.AsyncRetrying(sleep=self._host.pause, **retry.tenacity())(attempt)
