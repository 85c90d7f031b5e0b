"""What views are given of one moment: it is of one piece, and says what the tables say."""

from __future__ import annotations

import math
from collections import Counter
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import streamlab
from streamlab import Pipeline, Run
from streamlab.metrics import METRIC_COLUMNS, Histogram
from tests.graphs import Enough, Plan, inputs, plans

BOUNDS = [factor * 10.0**exponent for exponent in range(-7, 4) for factor in (1, 2, 5)]


def run_of(plan: Plan, lines: list[str]) -> Run:
    try:
        return plan.build(3_000)[0].run(lines, trace="all")
    except Enough:
        assume(False)
        raise


@pytest.mark.parametrize("places", [12, 50_000])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(), lines=inputs())
def test_paths_are_the_traces_added_up(places: int, plan: Plan, lines: list[str]) -> None:
    """Also when the tree of paths has been left for a new one; what came of a flush has a path, but no trace."""
    with patch("streamlab.engine.MAX_PATHS", places):
        run = run_of(plan, lines)
    told = Counter({(row["path"], row["fate"]): row["count"] for row in run.paths.to_dict("records")})
    traced = Counter(zip(run.traces["path"], run.traces["fate"], strict=True))
    assert traced <= told
    assert told.total() == run.ledger["received"] + run.ledger["forked"]
    assert run.paths["count"].is_monotonic_decreasing
    assert math.isclose(run.paths["share"].sum(), 1.0) or run.paths.empty


@settings(max_examples=50, deadline=None)
@given(plans(), inputs())
def test_an_overview_is_of_one_piece(plan: Plan, lines: list[str]) -> None:
    run = run_of(plan, lines)
    overview = run.overview()
    stats, graph = overview["stats"], overview["graph"]
    assert stats == run.stats()
    assert graph == run.graph()
    assert {node["name"]: {c: node[c] for c in METRIC_COLUMNS} for node in graph["nodes"]} == stats["processors"]
    into: Counter[str | None] = Counter()
    for edge in graph["edges"]:
        into[edge["to"]] += edge["count"]
    assert all(into[name] == row["received"] for name, row in stats["processors"].items())
    assert into[None] == stats["lines"]["emitted"]
    errors = Counter({name: row["errors"] for name, row in stats["processors"].items() if row["errors"]})
    told: Counter[str] = Counter()
    for failure in overview["failures"]:
        told[failure["processor"]] += failure["count"]
    assert told == errors
    dead = sum(failure["count"] for failure in overview["failures"] if failure["fate"] == "dead_letter")
    assert dead == stats["lines"]["dead_lettered"]


def test_failures_are_told_by_what_came_of_them() -> None:
    pipeline = Pipeline("p")
    ways = {"s": "skips", "h": "handled", "d": "dies"}
    pipeline.add("start", lambda line: (ways[line], line), to=tuple(ways.values()))
    for name, on_error in {"skips": "skip", "handled": "helper", "dies": "dead_letter"}.items():
        pipeline.add(name, lambda line: 1 / 0, on_error=on_error)
    pipeline.add("helper", str)
    run = pipeline.run(["s", "h", "h", "d"])
    assert {(row["processor"], row["kind"], row["fate"]): row["count"] for row in run.overview()["failures"]} == {
        ("skips", "processing", "filtered"): 1,
        ("handled", "processing", "in_flight"): 2,
        ("dies", "processing", "dead_letter"): 1,
    }


def test_a_pipeline_that_is_built_on_does_not_change_what_a_run_tells() -> None:
    pipeline = Pipeline("p").add("start", str.upper)
    run = pipeline.run(["a"])
    before = run.overview()
    pipeline.add("later", str, to="nowhere")
    assert run.overview() == before
    assert run.metrics.index.tolist() == ["start"]


def test_processors_may_have_names_that_are_not_valid_unicode() -> None:
    run = Pipeline("p").add("caf\udce9", str.upper).run(["a"], trace=True)
    assert run.metrics.index.tolist() == ["caf\udce9"]
    assert run.history["processor"].tolist() == ["caf\udce9"]
    assert run.paths["path"].tolist() == ["caf\udce9"]


def test_lines_are_found_by_text_path_fate_number_and_processor() -> None:
    def start(line: str) -> tuple[str, str] | None:
        return None if line.startswith("debug") else ("warn" if line.startswith("Warn") else "end", line)

    pipeline = Pipeline("p").add("start", start, to=("warn", "end")).add("warn", str.upper, to="end").add("end", str)
    run = pipeline.run(["Warn: 2 hot", "info: x", "debug: y", "info: z"], trace=True)

    def found(**which: str) -> list[int]:
        return [line.line_no for line in run.latest_lines(**which)]  # type: ignore[arg-type]

    assert found() == [3, 2, 1, 0]
    assert found(search="HOT") == [0]
    assert found(search="start > warn") == [0]
    assert found(search="filtered") == [2]
    assert found(search="3") == [3]
    assert found(search="2") == [2, 0]
    assert found(fate="filtered") == [2]
    assert found(processor="warn") == [0]
    assert found(processor="warn", fate="filtered") == []
    assert [line.line_no for line in run.latest_lines(2)] == [3, 2]


def test_lines_that_are_kept_beyond_the_last_come_after_them() -> None:
    run = Pipeline("p").add("start", lambda line: 1 // int(line)).run(["0", *["1"] * 50], trace=True, trace_limit=5)
    numbers = [line.line_no for line in run.latest_lines(100)]
    assert numbers[:5] == [50, 49, 48, 47, 46]
    assert numbers == sorted(set(numbers), reverse=True)
    assert 0 in numbers


def test_the_history_is_given_from_a_tick_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.runners.bookkeeper.TICK_SECONDS", 0.0)
    run = streamlab.run([str(n) for n in range(5_000)])
    ticks, moments = run.moments()
    assert ticks == len(moments) > 2
    assert [row for moment in run.moments(2)[1] for row in moment] == [row for moment in moments[2:] for row in moment]
    assert len(run.moments(-2)[1]) == 2
    assert run.moments(ticks)[1] == []
    assert [moment[0]["received"] for moment in moments] == sorted(moment[0]["received"] for moment in moments)


def test_every_line_has_its_time_from_the_source_to_the_sink() -> None:
    snapshot = streamlab.run([str(n) for n in range(5_000)]).snapshot()
    assert snapshot.end_to_end.count == 5_000
    assert 0 < snapshot.end_to_end.total < snapshot.uptime * 5_000


DURATIONS = st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(1e-7, 1e4)), min_size=1, max_size=200)


@given(DURATIONS)
def test_a_histogram_counts_exactly_up_to_the_bounds_that_others_ask_for(seconds: list[float]) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    bounds = [float(f"{bound:.0e}") for bound in BOUNDS]
    assert histogram.within(bounds) == [sum(second <= bound for second in seconds) for bound in bounds]


@given(DURATIONS, st.floats(0, 1))
def test_a_quantile_is_off_by_three_percent_at_most(seconds: list[float], share: float) -> None:
    histogram = Histogram()
    histogram.add(seconds)
    exact = float(np.quantile(seconds, share, method="inverted_cdf"))
    assert math.isclose(histogram.quantile(share), exact, rel_tol=0.03)


@given(DURATIONS, DURATIONS)
def test_what_came_since_is_what_was_added_since(first: list[float], second: list[float]) -> None:
    whole, later = Histogram(), Histogram()
    whole.add(first)
    before = whole.copy()
    whole.add(second)
    later.add(second)
    since = whole.since(before)
    assert (since.count, since.within(BOUNDS)) == (later.count, later.within(BOUNDS))
    assert before.count == len(first)
