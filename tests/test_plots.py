"""Plots of a run on demand, one processor of a run or a pipeline, and waiting without being in the way."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

import streamlab
from streamlab import NotebookError, Pipeline, PipelineError, Retry, Run, RunError, TraceError
from streamlab.demo import LINES, demo
from tests.waiting import until

PLOTS = ("throughput", "latency", "errors", "paths", "timeline")
OVER_TIME = PLOTS[:3]
NASTY = "<b onclick=alert(1)>&%{x}</b>"


def picky(line: str) -> str:
    if line.startswith("bad"):
        raise ConnectionError("cannot take it")
    return line


def finished() -> Run:
    return demo.run(LINES, trace="hops")


def lines_until(going_on: threading.Event) -> Iterator[str]:
    yield from LINES
    going_on.wait(60)


@contextmanager
def live(ticks: int = 0) -> Iterator[Run]:
    """A run that has taken in the demo's lines, and waits for more."""
    going_on = threading.Event()
    with demo.start(lines_until(going_on), trace="hops") as run:
        try:
            until(lambda: run.ledger["emitted"] == len(LINES) and run.moments()[0] >= ticks)
            yield run
        finally:
            going_on.set()


def drawn(figure: go.Figure) -> dict[str, list[Any]]:
    """Return the values of each line of a chart, by its name."""
    return {trace.name: list(trace.y) for trace in figure.data}


def column(run: Run, processor: str, name: str) -> list[Any]:
    """Return a column of the history, where what is not known is None, as plotly has it."""
    rows = run.history[run.history["processor"] == processor]
    return [None if math.isnan(value) else value for value in rows[name]]


# What they are


@pytest.mark.parametrize("name", PLOTS)
def test_each_is_a_figure_of_plotlys_while_a_run_goes_on_and_after(name: str) -> None:
    with live() as run:
        assert isinstance(getattr(run.plot, name)(), go.Figure)
        assert run.state == "running"
    assert isinstance(getattr(run.plot, name)(), go.Figure)
    assert name in repr(run.plot)


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_survives_pickle_and_copy(name: str) -> None:
    figure = getattr(finished().plot, name)()
    for other in (pickle.loads(pickle.dumps(figure)), copy.copy(figure), copy.deepcopy(figure)):
        assert other == figure
        assert type(other) is type(figure)
        assert other._repr_mimebundle_() == figure._repr_mimebundle_()


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_shows_itself_as_plotlys_and_as_a_still_picture(name: str) -> None:
    figure = getattr(finished().plot, name)()
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"}
    shown = json.loads(json.dumps(bundle["application/vnd.plotly.v1+json"], allow_nan=False))
    assert len(shown["data"]) == len(figure.data)
    assert "xaxis" in shown["layout"] and shown["config"]["responsive"] is True
    assert ElementTree.fromstring(bundle["image/svg+xml"]).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    "change",
    [
        lambda figure: figure.add_hline(y=3),
        lambda figure: figure.add_scatter(y=[1, 2]),
        lambda figure: figure.add_bar(x=pd.to_datetime(["2026-01-01"]), y=[1]),
        lambda figure: figure.update_traces(name=None, line=None),
        lambda figure: setattr(figure, "data", []),
    ],
)
def test_a_figure_that_somebody_has_changed_still_shows_itself(change: Callable[[go.Figure], object]) -> None:
    figure = finished().plot.throughput()
    change(figure)
    bundle = figure._repr_mimebundle_()
    assert len(bundle["application/vnd.plotly.v1+json"]["data"]) == len(figure.data)
    assert bundle["text/plain"]


# Their numbers


def test_throughput_is_the_historys() -> None:
    run = finished()
    assert drawn(run.plot.throughput()) == {name: column(run, name, "lines_per_s") for name in demo.processors}
    assert drawn(run.plot.throughput("warn")) == {"warn": column(run, "warn", "lines_per_s")}


def test_throughput_of_a_live_run_is_of_each_second() -> None:
    with live(ticks=2) as run:
        figure = run.plot.throughput(processor="end")
        seen = len(figure.data[0].y)
        assert seen >= 2
        assert list(figure.data[0].y) == column(run, "end", "lines_per_s")[:seen]
        at = run.history.loc[run.history["processor"] == "end", "time"].dt.floor("ms")[:seen]
        assert [datetime.fromisoformat(time).astimezone(UTC) for time in figure.data[0].x] == list(at)


def test_latency_is_the_historys() -> None:
    run = finished()
    figure = run.plot.latency()
    assert drawn(figure) == {name: column(run, name, "p99_us") for name in demo.processors}
    assert figure.layout.yaxis.type == "log"
    one = drawn(run.plot.latency(processor="warn"))
    assert list(one) == ["p50", "p95", "p99"]
    assert one["p99"] == column(run, "warn", "p99_us")


def test_errors_and_retries_are_the_historys() -> None:
    failing = Pipeline("failing").add("picky", picky, to="end", retry=Retry(3, initial_interval=0.0)).add("end", str.upper)
    run = failing.run(["bad", "good", "bad"])
    shown = drawn(run.plot.errors())
    assert {name: sum(values) for name, values in shown.items()} == {"picky errors": 2, "picky retries": 4}
    assert sum(shown["picky retries"]) == column(run, "picky", "retries")[-1]
    assert shown == drawn(run.plot.errors(processor="picky"))
    assert not any(map(any, drawn(run.plot.errors(processor="end")).values()))


def test_errors_of_a_run_that_had_none_are_an_empty_figure() -> None:
    figure = finished().plot.errors()
    assert len(figure.data) == 0
    assert "image/svg+xml" in figure._repr_mimebundle_()
    assert [len(getattr(demo.run([]).plot, name)().data) for name in OVER_TIME] == [3, 3, 0]


def test_paths_are_those_of_the_table() -> None:
    run = finished()
    chart = run.plot.paths().data[0]
    link, label = chart.link, chart.node.label
    links = {(label[a], label[b]): n for a, b, n in zip(link.source, link.target, link.value, strict=True)}
    paths = run.paths
    assert links["lines", "start"] == paths["count"].sum() == len(LINES)
    assert links["start", "warn"] == paths.loc[paths["path"] == "start > warn > end", "count"].sum() == 1
    assert links["end", "emitted"] == paths.loc[paths["fate"] == "emitted", "count"].sum()


def test_a_timeline_is_the_hops_of_a_line() -> None:
    run = finished()
    hops = run.trace(1).hops
    bars = run.plot.timeline(1).data
    assert [bar.name for bar in bars] == hops["processor"].tolist() == ["start", "warn", "end"]
    assert [bar.x[0] for bar in bars] == hops["duration_us"].tolist()
    assert [bar.customdata[0] for bar in bars] == hops["value"].tolist()
    assert [bar.base[0] for bar in bars] == pytest.approx([0, *hops["duration_us"].cumsum()[:-1]])


def test_a_timeline_is_of_the_slowest_lines() -> None:
    run = demo.run([f"info: {n}" for n in range(100)], trace="hops")
    spent = {f"line {n}": run.trace(n).hops["duration_us"].sum() for n in range(100)}
    figure = run.plot.timeline()
    rows = list(figure.layout.yaxis.categoryarray)
    assert {row for bar in figure.data for row in bar.y} == set(rows)
    assert [spent[row] for row in rows] == pytest.approx(sorted(spent.values(), reverse=True)[:20])


# What people's names say is text


def test_names_and_payloads_are_text_and_not_markup() -> None:
    run = Pipeline("nasty").add(NASTY, picky).run([f"bad {NASTY}", NASTY], trace="hops")
    for name in PLOTS:
        figure = getattr(run.plot, name)()
        data = [{key: value for key, value in trace.items() if key != "meta"} for trace in figure.to_plotly_json()["data"]]
        said = json.dumps(data, default=list)
        assert "&lt;b" in said and "<b" not in said, name
        assert not any("alert" in trace["hovertemplate"] for trace in data if "hovertemplate" in trace)
        still = figure._repr_mimebundle_()["image/svg+xml"]
        assert not [tag for tag in ElementTree.fromstring(still).iter() if tag.tag.endswith("}b")]
    assert NASTY not in json.dumps(run.plot.timeline(1)._repr_mimebundle_()["application/vnd.plotly.v1+json"]["data"])


# What is not there


@pytest.mark.parametrize("name", OVER_TIME)
def test_an_unknown_processor_is_told_the_nearest(name: str) -> None:
    plot = getattr(finished().plot, name)
    with pytest.raises(NotebookError, match="there is no processor 'wran'; did you mean 'warn'"):
        plot(processor="wran")
    for odd in ("", 1, ("x",)):
        with pytest.raises(NotebookError, match="known: start, warn, end"):
            plot(odd)


def test_a_timeline_without_hops_says_what_to_do() -> None:
    for run in (demo.run(LINES), demo.run([])):
        with pytest.raises(NotebookError, match='no hops are recorded of any line; run with trace="hops"'):
            run.plot.timeline()
    fast = demo.run(LINES * 1000, trace="all")
    without = next(line.line_no for line in fast.latest_lines(1000) if not line.recorded)
    with pytest.raises(NotebookError, match=f'no hops are recorded of line {without}; run with trace="hops"'):
        fast.plot.timeline(without)
    for unknown in (99, -1, "x"):
        with pytest.raises(TraceError):
            finished().plot.timeline(unknown)  # type: ignore[arg-type]


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "streamlab.views.notebook.plots", raising=False)
    run = streamlab.run()
    with pytest.raises(NotebookError, match=r'plots need plotly .*: pip install "streamlab\[notebook\]"'):
        run.plot  # noqa: B018 - raises
    assert "<svg" in run._repr_html_()


# One processor


def test_one_processor_of_a_run_has_its_metrics() -> None:
    run = finished()
    assert (run["warn"].received, run["warn"].emitted, run["end"].received) == (1, 1, 4)
    assert run["warn"].to_dict() == run.metrics.loc["warn"].to_dict()
    assert isinstance(run["warn"].received, int)
    with pytest.raises(RunError, match="there is no processor 'wran'; did you mean 'warn'"):
        run["wran"]
    with pytest.raises(RunError, match="known: start, warn, end"):
        run[0]  # type: ignore[index]


def test_one_processor_of_a_pipeline() -> None:
    assert demo["warn"] is demo.processors["warn"]
    assert "warn" in demo and "wran" not in demo
    with pytest.raises(PipelineError, match="pipeline 'demo': there is no processor 'wran'; did you mean 'warn'"):
        demo["wran"]
    assert demo._ipython_key_completions_() == finished()._ipython_key_completions_() == ["start", "warn", "end"]


# Waiting


async def result_of(run: Run) -> Run:
    return await run


def test_awaiting_a_run_lets_others_go_on() -> None:
    going_on = threading.Event()

    async def main() -> list[str]:
        run = demo.start(lines_until(going_on))
        awaited = asyncio.ensure_future(result_of(run))
        states = []
        for _ in range(3):
            await asyncio.sleep(0)
            states.append(run.state)
        going_on.set()
        assert await awaited is run
        return [*states, run.state]

    *before, after = asyncio.run(main())
    assert set(before) <= {"starting", "running"} and after == "finished"


def test_awaiting_a_run_that_has_ended_gives_it_at_once() -> None:
    failed = Pipeline("strict").add("picky", picky, on_error="stop").run(["bad"])

    assert asyncio.run(result_of(failed)) is failed
    assert failed.state == "failed"
