"""The engine does what the reference does: same output, same paths, same fates, same counts, however it is fed.

Random graphs, random lines, random batch sizes; every line observed (the general walk), none (the generated loop) or
some; with the budgets of the loop generator as they are, and so small that it hands over all the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from streamlab.metrics import LEDGER
from streamlab.paths import Totals
from streamlab.segments import cut
from streamlab.sinks.collect import Collect
from tests.driver import Driven, Every
from tests.graphs import Enough, Plan, inputs, plans
from tests.reference import Reference

#: Visits of an example; more would be slow and show nothing new.
VISITS = 3_000
TINY = {
    "streamlab.segments.loop.MAX_VISITS": 2,
    "streamlab.segments.loop.MAX_DEPTH": 1,
    "streamlab.segments.loop.LEARNED": 3,
    "streamlab.segments.loop.MAX_LOOPS": 1,
    "streamlab.engine.MAX_PATHS": 12,
    "streamlab.engine.FLUSH_BATCH": 2,
}
#: How many lines are observed: one in so many, or none.
OBSERVED = {"all": 1, "none": 0, "every third": 3}


def reference_of(plan: Plan, lines: Sequence[str], rejected: Sequence[int] = ()) -> Reference:
    """Run the reference; give up on an example that takes it too long."""
    pipeline, plain = plan.build(VISITS)
    order = [processor.name for part in cut(pipeline) for processor in part.processors]
    try:
        return Reference(pipeline, plain).run(lines, order, rejected)
    except Enough:
        assume(False)
        raise


def counts_of(totals: Totals) -> dict[str, dict[str, int]]:
    """Return counters by processor, without zeros."""
    names = (*LEDGER, "errors")
    rows = {p: {n: getattr(counts, n) for n in names if getattr(counts, n)} for p, counts in totals.processors.items()}
    return {name: row for name, row in rows.items() if row}


def assert_same(driven: Driven, expected: Reference) -> None:
    """Check all that an engine did against the reference."""
    assert driven.output == expected.output
    assert driven.branches == expected.branches
    assert Counter(driven.failures) == Counter(expected.failures)
    totals = driven.ledger.totals()
    assert counts_of(totals) == {n: {k: v for k, v in c.items() if v} for n, c in expected.counts.items() if any(c.values())}
    assert {edge: n for edge, n in totals.edges.items() if n} == dict(expected.edges)
    fates = Counter(fate for _, _, fate in expected.branches)
    assert (totals.run.emitted, totals.run.filtered) == (fates["emitted"], fates["filtered"])
    assert (totals.run.absorbed, totals.run.dead_lettered) == (fates["absorbed"], fates["dead_letter"])
    assert totals.run.in_flight == 0


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=5)


@pytest.mark.parametrize("observed", OBSERVED)
@given(plan=plans(), lines=inputs(), sizes=SIZES, data=st.data())
def test_engine_does_what_the_reference_does(
    observed: str, plan: Plan, lines: list[str], sizes: list[int], data: st.DataObject
) -> None:
    rejected = data.draw(st.lists(st.sampled_from(range(len(lines))), max_size=3, unique=True)) if lines else []
    expected = reference_of(plan, lines, rejected)
    driven = Driven(plan.build()[0], Every(OBSERVED[observed])).run(lines, sizes, sorted(rejected))
    event(f"processors: {len(plan.nodes)}, most hops: {max((len(p) for _, p, _ in expected.branches), default=0)}")
    assert_same(driven, expected)


@pytest.mark.parametrize("observed", OBSERVED)
@given(plan=plans(), lines=inputs(), sizes=SIZES)
def test_the_same_with_tiny_budgets(observed: str, plan: Plan, lines: list[str], sizes: list[int]) -> None:
    """The loop covers two visits and is rewritten all the time, the path tree is left every few paths."""
    expected = reference_of(plan, lines)
    patches = [patch(name, value) for name, value in TINY.items()]
    for one in patches:
        one.start()
    try:
        assert_same(Driven(plan.build()[0], Every(OBSERVED[observed])).run(lines, sizes), expected)
    finally:
        for one in patches:
            one.stop()


@pytest.mark.parametrize("observed", OBSERVED)
@given(plan=plans(), lines=inputs(), sizes=SIZES)
def test_the_same_in_several_processes(observed: str, plan: Plan, lines: list[str], sizes: list[int]) -> None:
    """Functions that keep nothing to themselves, shared out among two processes, in stretches of a row."""
    assume(not any("stumble" in repr(node.actions) for node in plan.nodes))  # these count their attempts
    expected = reference_of(plan, lines)
    with patch("streamlab.segments.parallel.STRETCH", 1):
        driven = Driven(plan.build()[0], Every(OBSERVED[observed]), parallel=True).run(lines, sizes)
    assert_same(driven, expected)


@given(plan=plans(), lines=inputs(), sizes=SIZES)
def test_visits_are_those_of_the_reference(plan: Plan, lines: list[str], sizes: list[int]) -> None:
    """With every line observed: who was visited, with which value, what came out, and whether it failed."""
    expected = reference_of(plan, lines)
    driven = Driven(plan.build()[0], None).run(lines, sizes)
    wanted = [visit for visit in expected.visits if visit[0] is not None]
    assert sorted(map(repr, driven.visits)) == sorted(map(repr, wanted))


@given(plan=plans(), lines=inputs(), sizes=SIZES)
def test_failed_lines_have_their_visits(plan: Plan, lines: list[str], sizes: list[int]) -> None:
    """With no line observed, those of the lines that failed are known all the same, and no others.

    Only values between two processors of a segment before the one where it failed may be missing, and are marked so.
    """
    expected = reference_of(plan, lines)
    driven = Driven(plan.build()[0], Every(0)).run(lines, sizes)
    failed = {line_no for line_no, _, _ in expected.failures if line_no is not None}
    wanted = [visit for visit in expected.visits if visit[0] in failed]
    assert Counter(map(who, driven.visits)) == Counter(map(who, wanted))
    left = Counter(map(repr, wanted))
    left.subtract(repr(visit) for visit in driven.visits if "(not recorded)" not in repr(visit))
    assert min(left.values(), default=0) >= 0


def who(visit: tuple[Any, ...]) -> tuple[Any, ...]:
    line_no, processor, _, outs, failed = visit
    return line_no, processor, tuple(sorted(str(to) for to, _ in outs)), failed


@pytest.mark.parametrize("kind", ["list", "generator"])
@settings(max_examples=25)
@given(plan=plans(), lines=inputs(), limit=st.integers(1, 20))
def test_pipeline_run_does_what_the_reference_does(kind: str, plan: Plan, lines: list[str], limit: int) -> None:
    """The whole way: source, runner, sink, tables."""
    stripped = [line[:-1].removesuffix("\r") if line.endswith("\n") else line for line in lines]
    expected = reference_of(plan, stripped)
    sink = Collect()
    with patch("streamlab.runners.intake.FIRST_BATCH", limit):
        run = plan.build()[0].run(lines if kind == "list" else iter(lines), trace="all", output=sink)
    assert run.state == "finished", run.exception
    numbers = [None if n < 0 else n for line_no, _ in sink.chunks() for n in line_no.tolist()]
    assert list(zip(numbers, sink.values(), strict=True)) == expected.output
    traces = run.traces
    of_lines = [(n, " > ".join(path), fate) for n, path, fate in expected.branches if n is not None]
    assert list(zip(traces["line_no"], traces["path"], traces["fate"], strict=True)) == of_lines
    for name, row in run.metrics.iterrows():
        counts = expected.counts[str(name)]
        assert {column: row[column] for column in (*LEDGER, "errors")} == {c: counts[c] for c in (*LEDGER, "errors")}
    assert run.dead_letters.attrs["total"] == sum(fate == "dead_letter" for _, _, fate in expected.branches)
