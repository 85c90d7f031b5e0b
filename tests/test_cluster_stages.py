"""Stages and what goes from one to the next: put together, they do what the embedded engine does."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import EMIT, Pipeline
from streamlab.batch import Batch, Chunk
from streamlab.engine import Engine
from streamlab.metrics import Ledger
from streamlab.paths import Paths
from streamlab.runners.cluster.delta import Delta, ended
from streamlab.runners.cluster.exchange import Block, places_after, put_together, shared_out, standing
from streamlab.runners.cluster.partitions import Partitions
from streamlab.segments.stages import stages_of
from tests.driver import FakeHost


class Counting:
    """Keeps how many values it has seen, and routes as the number says."""

    ways: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, value: str) -> Any:
        self.seen += 1
        if self.seen % 7 == 5:
            raise ValueError(value)
        return self.ways[self.seen % len(self.ways)], f"{value}{self.seen}"


def function(name: str, ways: tuple[Any, ...]) -> Any:
    def work(value: str) -> Any:
        turn = sum(map(ord, value)) % 6
        if turn == 0:
            return None
        if turn == 1:
            raise KeyError(value)
        way = ways[turn % len(ways)]
        return [(way, value + name), (ways[0], value)] if turn == 2 else (way, value + name)

    return work


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    names = [f"p{number}" for number in range(draw(st.integers(1, 6)))]
    pipeline = Pipeline("p", max_hops=8)
    for number, name in enumerate(names):
        loops = draw(st.booleans()) and draw(st.booleans())
        targets = names if loops else names[number + 1 :]
        to = tuple(draw(st.lists(st.sampled_from([*targets, EMIT]), min_size=1, max_size=3, unique=True)))
        kind = draw(st.sampled_from(["function", "function", "keyed", "single"]))
        named = tuple(way for way in to if way is not EMIT)
        handler = draw(st.sampled_from(["dead_letter", "skip"]))
        if kind == "function":
            pipeline.add(name, function(name[-1], to), to=named, on_error=handler)
        else:
            key = (lambda value: value[:1]) if kind == "keyed" else None
            pipeline.add(name, type(name, (Counting,), {"ways": to}), to=named, on_error=handler, key=key)
    return pipeline


class Told:
    """What an engine, or many, made of lines."""

    def __init__(self, entry: str) -> None:
        self.outputs: list[tuple[tuple[int, ...], Any]] = []
        self.paths = Paths()
        self.ledger = Ledger(entry)
        self.failures: Counter[Any] = Counter()
        self.states: dict[str, dict[Any, int]] = defaultdict(dict)

    def book(self, batch: Batch, elsewhere: Any, places: Any) -> None:
        ledger = Ledger("")
        ledger.book(ended(batch, elsewhere))
        delta: Delta = pickle.loads(pickle.dumps(Delta.of(ledger, batch.paths)))
        delta.add_to(self.ledger, self.paths)
        self.failures.update((failure.processor, failure.kind, failure.path) for failure in batch.failures)
        for row in np.setdiff1d(np.arange(len(batch.ids)), elsewhere).tolist():
            if batch.paths.emitted()[int(batch.ids[row])]:
                self.outputs.append((tuple(places[row].tolist()), batch.values[row]))

    def keep(self, engine: Engine) -> None:
        for name, ask in engine.kept().items():
            state = ask()
            of = zip(state["keys"], state["states"], strict=True)
            self.states[name] |= {key: kept["seen"] for key, kept in of if kept["seen"]}


def embedded(pipeline: Pipeline, lines: list[str]) -> Told:
    told = Told(pipeline.entry.name)
    engine = Engine(pipeline, FakeHost())
    batch = engine.process(Chunk(lines), 0)
    told.book(batch, [], np.arange(len(batch.ids))[:, None])
    told.keep(engine)
    return told


def staged(pipeline: Pipeline, ranges: list[list[list[str]]], partitions: int) -> Told:
    """Run epochs of ranges of lines."""
    told = Told(pipeline.entry.name)
    processors = pipeline.processors
    first, *later = stages_of(pipeline)
    homes: Mapping[int, list[Engine]] = {
        number: [Engine(pipeline, FakeHost(), only=stage.processors) for _ in range(partitions)]
        for number, stage in enumerate(later, 1)
    }
    placed = frozenset(name for stage in later for name in stage.placed)
    at = {name: number for number, stage in enumerate(later, 1) for name in stage.placed}
    place = 0
    for epoch in ranges:
        waiting: dict[int, dict[int, list[Block]]] = defaultdict(lambda: defaultdict(list))

        def hand_on(batch: Batch, places: Any, waiting: dict[int, dict[int, list[Block]]] = waiting) -> None:
            told.book(batch, standing(batch, placed), places)
            for stage in later:
                number = at[next(iter(stage.placed))]
                for partition, block in shared_out(batch, stage, places, processors, partitions).items():
                    waiting[number][partition].append(block)

        for lines in epoch:
            engine = Engine(pipeline, FakeHost(), only=first.processors)
            batch = engine.process(Chunk(lines), 0)
            numbers = np.arange(len(lines))
            hand_on(batch, places_after(batch, np.column_stack((np.full(len(lines), place), numbers))))
            place += 1
        for number in homes:
            for partition, blocks in waiting[number].items():
                engine = homes[number][partition]
                arrived = put_together(blocks, engine.paths)
                batch = engine.go_on(arrived.rows)
                hand_on(batch, places_after(batch, arrived.places))
    for engines in homes.values():
        for engine in engines:
            told.keep(engine)
    return told


LINES = st.lists(st.text("abcde", min_size=1, max_size=3), max_size=25)


@settings(deadline=None, max_examples=150)
@given(pipeline=pipelines(), epochs=st.lists(st.lists(LINES, max_size=3), max_size=3), partitions=st.integers(1, 4))
def test_stages_do_what_the_embedded_engine_does(pipeline: Pipeline, epochs: list[list[list[str]]], partitions: int) -> None:
    lines = [line for epoch in epochs for lines in epoch for line in lines]
    alone, apart = embedded(pipeline, lines), staged(pipeline, epochs, partitions)
    assert apart.ledger.totals() == alone.ledger.totals()
    assert apart.ledger.ways() == alone.ledger.ways()
    assert apart.failures == alone.failures
    assert {name: state for name, state in apart.states.items() if state} == {
        name: s for name, s in alone.states.items() if s
    }
    assert Counter(value for _, value in apart.outputs) == Counter(value for _, value in alone.outputs)
    assert [value for _, value in sorted(apart.outputs, key=lambda output: output[0])] == [
        value for _, value in alone.outputs
    ]


NUMBERS = st.integers(-3, 3) | st.integers() | st.floats(allow_nan=False) | st.booleans()
KEYS = st.one_of(
    NUMBERS,
    st.text(),
    st.none(),
    st.binary(),
    st.datetimes(),
    st.dates(),
    st.integers(-3, 3).map(np.int64),
    st.integers(-3, 3).map(Decimal),
    st.integers(-3, 3).map(np.float32),
    st.fractions(),
    st.frozensets(NUMBERS, max_size=2),
)


@given(one=KEYS | st.tuples(KEYS, KEYS), other=KEYS | st.tuples(KEYS, KEYS), partitions=st.integers(1, 9))
def test_equal_keys_are_in_one_partition(one: Any, other: Any, partitions: int) -> None:
    of = Pipeline("p").add("count", Counting, key=lambda value: value).processors["count"]
    home = Partitions(of, partitions)(one)
    assert 0 <= home < partitions
    try:
        alike = one in {other: None}  # as a dict sees it
    except (TypeError, ValueError):  # NumPy compares a number with each item of a tuple, and with no Decimal
        alike = False
    if alike:
        assert Partitions(of, partitions)(other) == home
    if isinstance(one, int):
        assert Partitions(of, partitions)(float(one) if float(one) == one else one) == home
