"""Charts: plotly takes them, and they say what the tables say."""

from __future__ import annotations

import html
import math
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import assume, given, settings

from streamlab import EMIT, Pipeline, Retry, Run
from streamlab.views import figures
from tests.graphs import Enough, Plan, inputs, plans

HOSTILE = ("<b>warn</b>", "a & b", '"><img src=x>', "<a href='javascript:1'>x</a>", "\ud800 lone", "x" * 100)

Rows = list[list[dict[str, Any]]]


def assert_taken(figure: figures.Figure) -> None:
    """Plotly refuses what it does not know, and who builds on the figure gets what it says."""
    told = go.Figure(figure).to_plotly_json()
    assert len(told["data"]) == len(figure["data"])
    assert set(told["layout"]) >= set(figure["layout"])


def pipeline_of(names: tuple[str, ...]) -> Pipeline:
    pipeline = Pipeline("p").add("start", lambda line: (names[len(line) % len(names)], line), to=names)
    for name in names:
        pipeline.add(name, str)
    return pipeline


@pytest.fixture(scope="module")
def busy() -> Run:
    """A run with several moments, errors and retries; some processors never get anything."""
    tried: Counter[str] = Counter()

    def start(line: str) -> Iterator[tuple[Any, str]]:
        tried[line] += 1
        if line.endswith("7") and tried[line] == 1:
            raise OSError("not yet")
        if line.endswith("9"):
            raise ValueError("never")
        yield "warn", line
        if line.endswith("3"):
            yield "end", line

    def warn(line: str) -> tuple[Any, str] | None:
        return None if line.endswith("1") else ("end", line)

    pipeline = Pipeline("p")
    retry = Retry(maximum_attempts=2, initial_interval=0.0)
    pipeline.add("start", start, to=("warn", "end", "idle"), retry=retry)
    pipeline.add("warn", warn, to=("end", "idle")).add("idle", str, to="end")
    pipeline.add("end", lambda line: (EMIT, line))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamlab.runners.bookkeeper.TICK_SECONDS", 0.0)
        patch.setattr("streamlab.runners.embedded.PATIENCE", 0.001)
        return pipeline.run([f"line {n}" for n in range(3_000)])


@pytest.fixture(scope="module")
def moments(busy: Run) -> Rows:
    moments = busy.moments()[1]
    assert len(moments) > 3
    return moments


def same(shown: list[Any], values: list[float]) -> bool:
    """Tell whether a chart shows these values, with a gap for what is not known."""
    return shown == [None if math.isnan(value) else value for value in values]


def test_plotly_takes_all_of_them(busy: Run, moments: Rows) -> None:
    for focus in (None, "start", "idle", "nobody"):
        assert_taken(figures.throughput(moments, focus))
        assert_taken(figures.latency(moments, focus))
        assert_taken(figures.problems(moments, focus))
        assert_taken(figures.problems(moments, focus, since=3))
    assert_taken(figures.flow(busy.paths.to_dict("records"), ["start", "warn", "idle", "end"]))


def test_plotly_takes_those_of_nothing() -> None:
    for figure in (figures.throughput([]), figures.latency([]), figures.problems([]), figures.latency([], "warn")):
        assert figure["data"] == []
        assert_taken(figure)
    assert_taken(figures.flow([]))


def test_throughput_is_that_of_the_history(moments: Rows) -> None:
    for at, trace in enumerate(figures.throughput(moments)["data"]):
        rows = [moment[at] for moment in moments]
        assert trace["name"] == rows[0]["processor"]
        assert trace["x"] == [figures.time_text(row["time"]) for row in rows]
        assert same(trace["y"], [row["lines_per_s"] for row in rows])
        assert trace["meta"] == {"processor": trace["name"], "column": "lines_per_s", "change": False, "last": None}


def test_times_are_those_of_this_machine_s_clock() -> None:
    for seconds in (0.0, 1.5, 1_750_000_000.125):
        assert datetime.fromisoformat(figures.time_text(seconds)).timestamp() == seconds


def test_latency_is_p99_of_all_or_three_quantiles_of_one(moments: Rows) -> None:
    names = [row["processor"] for row in moments[0]]
    data = figures.latency(moments)["data"]
    assert [trace["name"] for trace in data] == names
    for at, trace in enumerate(data):
        assert same(trace["y"], [moment[at]["p99_us"] for moment in moments])
    data = figures.latency(moments, "warn")["data"]
    assert [trace["name"] for trace in data] == ["p50", "p95", "p99"]
    for trace in data:
        assert same(trace["y"], [moment[names.index("warn")][f"{trace['name']}_us"] for moment in moments])


def test_problems_are_what_came_in_each_second(moments: Rows) -> None:
    data = {trace["name"]: trace for trace in figures.problems(moments)["data"]}
    assert list(data) == ["start errors", "start retries"]
    for trace in data.values():
        column = trace["meta"]["column"]
        counts = [moment[0][column] for moment in moments]
        assert sum(trace["y"]) == counts[-1] > 0
        assert trace["meta"] == {"processor": "start", "column": column, "change": True, "last": counts[-1]}
        assert [sum(trace["y"][: n + 1]) for n in range(len(counts))] == counts


def test_of_problems_before_the_first_moment_nothing_is_known(moments: Rows) -> None:
    whole = figures.problems(moments)["data"]
    for trace, part in zip(whole, figures.problems(moments[2:], since=2)["data"], strict=True):
        assert part["y"] == [None, *trace["y"][3:]]


def test_a_focus_shows_one_processor_also_when_it_did_nothing(moments: Rows) -> None:
    assert [trace["name"] for trace in figures.throughput(moments, "idle")["data"]] == ["idle"]
    assert all(value is None for trace in figures.latency(moments, "idle")["data"] for value in trace["y"])
    assert [set(trace["y"]) for trace in figures.problems(moments, "idle")["data"]] == [{0}, {0}]
    for make in (figures.throughput, figures.latency, figures.problems):
        assert make(moments, "nobody")["data"] == []


def test_a_processor_has_the_same_colour_in_all_charts(busy: Run, moments: Rows) -> None:
    names = [row["processor"] for row in moments[0]]
    for make in (figures.throughput, figures.latency, figures.problems):
        for trace in make(moments)["data"]:
            assert trace["line"]["color"] == figures.colour(names, trace["meta"]["processor"])
    node = figures.flow(busy.paths.to_dict("records"), names)["data"][0]["node"]
    shown = dict(zip(node["label"], node["color"], strict=True))
    assert {name: shown[name] for name in ("start", "warn", "end")} == {
        name: figures.colour(names, name) for name in ("start", "warn", "end")
    }


def test_at_most_so_many_are_shown_and_these_are_the_busiest() -> None:
    names = tuple(f"p{number}" for number in range(20))
    lines = ["x" * number for number in range(20) for _ in range(1 + number)]
    moments = pipeline_of(names).run(lines).moments()[1]
    shown = [trace["name"] for trace in figures.throughput(moments)["data"]]
    assert shown == ["start", *(f"p{number}" for number in range(20 - figures.MOST + 1, 20))]
    assert len(figures.latency(moments)["data"]) <= figures.MOST


def test_problems_of_many_are_those_that_have_most() -> None:
    names = tuple(f"p{number}" for number in range(20))
    pipeline = Pipeline("p").add("start", lambda line: (names[len(line)], line), to=names)
    for name in names:
        pipeline.add(name, lambda line: 1 / 0)
    moments = pipeline.run(["x" * number for number in range(20) for _ in range(1 + number)]).moments()[1]
    shown = [trace["name"] for trace in figures.problems(moments)["data"]]
    assert shown == [f"p{number} errors" for number in range(20 - figures.MOST, 20)]


def test_one_moment_has_a_range_around_it_and_is_seen() -> None:
    moments = Pipeline("p").add("start", str).run(["a"]).moments()[1]
    assert len(moments) == 1
    time = moments[0][0]["time"]
    for figure in (figures.throughput(moments), figures.latency(moments, "start")):
        begin, end = (datetime.fromisoformat(text).timestamp() for text in figure["layout"]["xaxis"]["range"])
        assert begin < time < end < begin + 60
        assert {trace["mode"] for trace in figure["data"]} == {"markers"}
        assert_taken(figure)


def test_several_moments_have_the_range_that_plotly_finds(moments: Rows) -> None:
    figure = figures.throughput(moments)
    assert "range" not in figure["layout"]["xaxis"]
    assert {trace["mode"] for trace in figure["data"]} == {"lines"}


def test_names_are_text_and_no_markup() -> None:
    row = dict.fromkeys(("received", "emitted", "errors", "retries"), 1) | dict.fromkeys(
        ("lines_per_s", "mean_us", "p50_us", "p95_us", "p99_us"), 1.0
    )
    moments = [[row | {"time": 1.0, "processor": name} for name in HOSTILE]]
    paths = [{"path": " > ".join(HOSTILE), "fate": "emitted", "count": 1}]
    charts = [make(moments) for make in (figures.throughput, figures.latency, figures.problems)]
    labels = [trace["name"] for chart in charts for trace in chart["data"]]
    flow = figures.flow(paths, HOSTILE)
    labels += flow["data"][0]["node"]["label"]
    assert len(labels) == 4 * len(HOSTILE) + len(HOSTILE) + 2
    for label in labels:
        assert not set(label) & set("<>\"'")
        assert html.escape(html.unescape(label)) == label
        assert len(html.unescape(label)) <= 48
        label.encode()
    for chart in (*charts, flow):
        assert_taken(chart)


def test_a_label_says_what_the_name_says() -> None:
    for name in HOSTILE[:4]:
        assert html.unescape(figures.label(name)) == name
    assert figures.label("x" * 100) == "x" * 39 + "…"


def run_of(plan: Plan, lines: list[str]) -> Run:
    try:
        return plan.build(3_000)[0].run(lines)
    except Enough:
        assume(False)
        raise


@settings(max_examples=40)
@given(plans(), inputs())
def test_what_flows_into_a_processor_flows_out_of_it(plan: Plan, lines: list[str]) -> None:
    run = run_of(plan, lines)
    paths = run.paths.to_dict("records")
    trace = figures.flow_trace(paths, list(run.pipeline.processors))
    node, link = trace["node"], trace["link"]
    into: Counter[int] = Counter()
    out: Counter[int] = Counter()
    for origin, target, value in zip(link["source"], link["target"], link["value"], strict=True):
        assert value > 0
        out[origin] += value
        into[target] += value
    fates = {row["fate"].replace("_", " ") for row in paths}
    sources = {number for number in range(len(node["label"])) if number not in into}
    ends = {number for number in range(len(node["label"])) if number not in out}
    assert {node["label"][number] for number in sources} == ({"lines"} if paths else set())
    assert {node["label"][number] for number in ends} == fates
    assert all(into[number] == out[number] for number in set(into) & set(out))
    total = sum(row["count"] for row in paths)
    assert sum(out[number] for number in sources) == sum(into[number] for number in ends) == total
    for fate in fates:
        counted = sum(row["count"] for row in paths if row["fate"].replace("_", " ") == fate)
        assert into[next(number for number in ends if node["label"][number] == fate)] == counted
    assert trace["meta"]["columns"] == max((row["path"].count(" > ") + 3 for row in paths), default=0)


def test_a_processor_that_is_visited_again_is_drawn_again() -> None:
    pipeline = Pipeline("p").add(
        "again", lambda line: ("again" if len(line) < 4 else "end", f"{line}!"), to=("again", "end")
    )
    run = pipeline.add("end", str).run(["a", "a", "abc"])
    trace = figures.flow_trace(run.paths.to_dict("records"), ["again", "end"])
    names = trace["node"]["label"]
    assert Counter(names) == {"lines": 1, "again": 4, "end": 1, "emitted": 1}
    assert all(origin != target for origin, target in zip(trace["link"]["source"], trace["link"]["target"], strict=True))
    assert trace["meta"]["columns"] == 7


def test_a_line_that_is_not_done_flows_too() -> None:
    go_on, begun = threading.Event(), threading.Event()

    def hold(line: str) -> str:
        begun.set()
        assert go_on.wait(30)
        return line

    with Pipeline("p").add("hold", hold).start(["a"]) as run:
        assert begun.wait(30)
        assert_taken(figures.flow(run.overview()["paths"], ["hold"]))
        go_on.set()
