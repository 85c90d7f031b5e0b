"""Drives an engine without a runner: a host that never waits, a sampler that does as told, a ledger always checked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count
from typing import Any

from streamlab import EMIT, Pipeline
from streamlab.batch import Chunk, Rejected
from streamlab.engine import Engine, Sampler
from streamlab.metrics import Ledger
from streamlab.paths import Totals
from streamlab.segments.parallel import Station

_loop = asyncio.Runner()


class Stations:
    """Two processes, without the processes."""

    size = 2

    def __init__(self, setup: bytes) -> None:
        self._stations = [Station(setup, FakeHost()) for _ in range(self.size)]

    def work(self, number: int, job: bytes) -> Callable[[], bytes | None]:
        answer = self._stations[number].do(job)
        return lambda: answer


class FakeHost:
    """A host whose clock only goes on when it is read, and which never waits."""

    def __init__(self) -> None:
        self._ticks = count()
        self.slept: list[float] = []

    def clock(self) -> float:
        return next(self._ticks) * 1e-6

    def now(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def pause(self, seconds: float) -> None:
        self.slept.append(seconds)

    def within(self, seconds: float, call: Callable[[Any], Any], value: Any, what: str) -> Any:
        return call(value)

    def crew(self, setup: bytes) -> Stations:
        return Stations(setup)

    def gather(self, calls: Iterable[Callable[[], Awaitable[Any]]], limit: int) -> list[Any]:
        async def one_by_one() -> list[Any]:
            return [await call() for call in calls]

        return _loop.run(one_by_one())


class Every(Sampler):
    """Observes every n-th line."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def pick(self, lines: int, clock: float) -> Sequence[int]:
        return range(0, lines, self.n) if self.n else ()


class Driven:
    """What an engine made of lines, in the words of the reference; the ledger is checked after every batch."""

    def __init__(self, pipeline: Pipeline, sampler: Sampler | None = None, *, parallel: bool = False) -> None:
        self.pipeline = pipeline
        self.engine = Engine(pipeline, FakeHost(), observe_all=True, parallel=parallel)
        self.engine._sampler = sampler
        self.ledger = Ledger(pipeline.entry.name)
        self.output: list[tuple[int | None, Any]] = []
        self.branches: list[tuple[int | None, tuple[str, ...], str]] = []
        self.visits: list[tuple[int | None, str, Any, list[tuple[Any, Any]], bool]] = []
        self.failures: list[tuple[int | None, str | None, str]] = []
        self.errors: list[tuple[int | None, str]] = []

    def run(self, lines: Sequence[str], sizes: Sequence[int], rejected: Sequence[int] = ()) -> Driven:
        """Run lines in batches of the given sizes, the last of them again and again; then flush."""
        first, batches = 0, 0
        while first < len(lines):
            size = sizes[min(batches, len(sizes) - 1)]
            part = list(lines[first : first + size])
            marks = [Rejected(n - first, "oversize", "too long") for n in rejected if first <= n < first + len(part)]
            self.ledger.pending += len(part) - len(marks)
            self.check()
            self.book(self.engine.process(Chunk(part, marks), first))
            first, batches = first + len(part), batches + 1
        for batch in self.engine.flush():
            self.book(batch)
        return self

    def book(self, batch: Any) -> None:
        """Take in a batch."""
        self.ledger.book(batch)
        self.check()
        flushed = batch.first < 0
        origin = range(len(batch.ids)) if batch.origin is None else batch.origin.tolist()
        for id, index in zip(batch.ids.tolist(), origin, strict=True):
            node = batch.paths.nodes[id]
            line_no = None if flushed else batch.first + index
            self.branches.append((line_no, tuple(batch.paths.names(id)), node.fate.value))
        values, line_no = batch.emitted()
        self.output += [(None if n < 0 else n, value) for n, value in zip(line_no.tolist(), values, strict=True)]
        self.failures += [(f.line_no, f.processor, f.kind) for f in batch.failures]
        self.errors += [(f.line_no, f.error) for f in batch.failures]
        for index, hops in batch.hops.items():
            for hop in hops:
                visit = (batch.first + index, hop.processor, hop.value, hop.outs, hop.error is not None)
                self.visits.append(visit)

    def check(self) -> None:
        """Check that everything adds up at this moment."""
        assert_balanced(self.ledger.totals(), self.pipeline.entry.name)


def assert_balanced(totals: Totals, entry: str) -> None:
    """Check the ledger of the run and of each processor, and that edges carried what was sent and received."""
    assert totals.run.balances(), totals.run
    into: Counter[Any] = Counter()
    out_of: Counter[Any] = Counter()
    for (origin, target), carried in totals.edges.items():
        into[target] += carried
        out_of[origin] += carried
    for name, counts in totals.processors.items():
        assert counts.balances(), (name, counts)
        assert counts.received == into[name], name
        assert counts.emitted == out_of[name], name
    assert totals.run.emitted == into[EMIT]
    assert set(into) <= {*totals.processors, EMIT}
    assert set(out_of) <= {*totals.processors, None}
