"""The reference engine: what a pipeline does with lines, said as plainly as can be. One value at a time, depth first.

It shares no code with the engine but the graph's description, and knows no batches, no path numbers, no segments: for
every processor it is given a plain function (or class), even where the pipeline has an async one or an expression.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import islice
from types import GeneratorType
from typing import Any

from streamlab import EMIT, Pipeline
from streamlab.processors import Processor

#: A branch: where it goes (a processor, `EMIT`, or a fate for one that ends here), and its value.
Branch = tuple[Any, Any]
FATES = ("filtered", "absorbed", "dead_letter")
BOOKED = {"filtered": "filtered", "absorbed": "absorbed", "dead_letter": "dead_lettered"}


class Refused(Exception):
    """The engine's own reason to fail a value."""


class Broken:
    """Stands for what a flush raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def left_in(instance: Any) -> list[Any]:
    """Return what an instance has left, and last what its flush raised, if it did."""
    results: list[Any] = []
    try:
        left = instance.flush() if hasattr(instance, "flush") else None
        if left is not None:
            results.extend(left if isinstance(left, (list, GeneratorType)) else (left,))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        results.append(Broken(error))
    return results


class Reference:
    """Runs lines through a pipeline.

    Attributes:
        output: ``(line_no, value)`` in order; ``line_no`` is ``None`` for what comes from a flush.
        branches: ``(line_no, path, fate)`` in order.
        visits: ``(line_no, processor, value, [(where to, value), ...], failed)`` in order.
        failures: ``(line_no, processor, kind)`` in order.
        counts: by processor, the counters of its row in ``run.metrics``.
        edges: values that went from one processor (``None``: the source) to the next (`EMIT`: out).
    """

    def __init__(self, pipeline: Pipeline, plain: Mapping[str, Callable[[Any], Any]]) -> None:
        self.pipeline, self.plain = pipeline, plain
        self.instances: dict[str, dict[Any, Any]] = defaultdict(dict)
        for name, processor in pipeline.processors.items():
            if processor.stateful and processor.key is None:
                self.instances[name][None] = plain[name]()  # type: ignore[call-arg]
        self.output: list[tuple[int | None, Any]] = []
        self.branches: list[tuple[int | None, tuple[str, ...], str]] = []
        self.visits: list[tuple[int | None, str, Any, list[Branch], bool]] = []
        self.failures: list[tuple[int | None, str | None, str]] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.edges: Counter[tuple[Any, Any]] = Counter()

    def run(self, lines: Iterable[str], flush_order: Sequence[str], rejected: Container[int] = ()) -> Reference:
        """Run all lines through the pipeline, then let go of what is kept."""
        for line_no, line in enumerate(lines):
            if line_no in rejected:
                self.branches.append((line_no, (), "dead_letter"))
                self.failures.append((line_no, None, "oversize"))
            else:
                self.edges[None, self.pipeline.entry.name] += 1
                self.visit(line_no, (), self.pipeline.entry.name, line)
        for name in flush_order:
            for instance in list(self.instances[name].values()):
                self.flush(name, instance)
        return self

    def visit(self, line_no: int | None, before: tuple[str, ...], name: str, value: Any) -> None:
        """Let a processor have a value, and follow every branch that it makes of it to the end."""
        path = (*before, name)
        self.counts[name]["received"] += 1
        processor, failed = self.pipeline.processors[name], False
        try:
            branches = self.attempts(processor, value, len(path))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            branches, failed = self.failed(processor, value, error, line_no, may_divert=len(path) < self.max_hops), True
        self.counts[name]["forked"] += len(branches) - 1
        outs = [("emitted" if to is EMIT else to, out) for to, out in branches]
        self.visits.append((line_no, name, value, outs, failed))
        self.follow(line_no, path, branches)

    def follow(self, line_no: int | None, path: tuple[str, ...], branches: list[Branch]) -> None:
        """Follow branches from the processor that made them, one after the other."""
        for to, value in branches:
            if to in FATES:
                self.counts[path[-1]][BOOKED[to]] += 1
                self.branches.append((line_no, path, to))
                continue
            self.counts[path[-1]]["emitted"] += 1
            self.edges[path[-1], to] += 1
            if to is EMIT:
                self.branches.append((line_no, path, "emitted"))
                self.output.append((line_no, value))
            else:
                self.visit(line_no, path, to, value)

    def flush(self, name: str, instance: Any) -> None:
        """Follow what an instance has left: every value is one that nobody received."""
        processor = self.pipeline.processors[name]
        for result in left_in(instance):
            try:
                if isinstance(result, Broken):
                    raise result.error
                branches = self.route(processor, result, hops=1)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                branches = self.failed(processor, None, error, None, may_divert=False)
            self.counts[name]["forked"] += len(branches)
            self.follow(None, (name,), branches)

    def attempts(self, processor: Processor, value: Any, hops: int) -> list[Branch]:
        """Return what a processor makes of a value, at the first attempt that works."""
        retry = processor.retry
        for attempt in range(1, 1 + (retry.maximum_attempts if retry else 1)):
            try:
                return self.route(processor, self.call(processor, value), hops)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                hopeless = isinstance(error, Refused) or (retry and isinstance(error, retry.non_retryable))
                if hopeless or retry is None or attempt == retry.maximum_attempts:
                    raise
        raise AssertionError

    def call(self, processor: Processor, value: Any) -> Any:
        """Return what a processor returns, from its own instance if it is a class."""
        function = self.plain[processor.name]
        if not processor.stateful:
            return function(value)
        key = processor.key
        which = None if key is None else key(value) if callable(key) else value[key]
        instances = self.instances[processor.name]
        if which not in instances:
            instances[which] = function()  # type: ignore[call-arg]
        return instances[which](value)

    def route(self, processor: Processor, result: Any, hops: int) -> list[Branch]:
        """Return the branches of a result: a list or a generator is several, all else is one."""
        if isinstance(result, GeneratorType):
            result = list(islice(result, self.max_emits + 1))
        several = (result or [None]) if isinstance(result, list) else [result]
        if len(several) > self.max_emits:
            raise Refused("max_emits")
        return [self.branch(processor, one, hops) for one in several]

    def branch(self, processor: Processor, result: Any, hops: int) -> Branch:
        """Return where one value goes."""
        if result is None:
            return ("absorbed" if processor.stateful else "filtered"), None
        if not isinstance(result, tuple):
            if len(processor.to) > 1:
                raise Refused("unknown_tag")
            result = (processor.to[0] if processor.to else EMIT), result
        if len(result) != 2 or not any(result[0] is to or result[0] == to for to in (*processor.to, EMIT)):
            raise Refused("unknown_tag")
        if result[0] is not EMIT and hops >= self.max_hops:
            raise Refused("max_hops")
        return result

    def failed(
        self, processor: Processor, value: Any, error: BaseException, line_no: int | None, may_divert: bool
    ) -> list[Branch]:
        """Return where a value goes that a processor failed on."""
        self.counts[processor.name]["errors"] += 1
        self.failures.append((line_no, processor.name, str(error) if isinstance(error, Refused) else "processing"))
        if processor.on_error == "skip":
            return [("filtered", None)]
        if processor.on_error in self.pipeline.processors and may_divert:
            return [(processor.on_error, value)]
        return [("dead_letter", None)]

    @property
    def max_hops(self) -> int:
        return self.pipeline.limits.max_hops

    @property
    def max_emits(self) -> int:
        return self.pipeline.limits.max_emits
