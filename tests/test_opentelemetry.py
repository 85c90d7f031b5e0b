"""OpenTelemetry: the SDK's own readers and exporters in memory, and a real collector that speaks OTLP/HTTP."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from streamlab import Pipeline, Retry, Run
from streamlab.demo import demo
from streamlab.errors import TelemetryError
from streamlab.metrics import Histogram
from streamlab.views.opentelemetry import LAST_TRACES, MOST_TRACES, Telemetry
from streamlab.views.opentelemetry.instruments import MOST_RECORDED, durations
from streamlab.views.points import BOUNDS, buckets
from tests.waiting import until

COMPONENT = "streamlab.component"
PROCESSING, END_TO_END = f"{COMPONENT}.processing_duration", "streamlab.pipeline.end_to_end_duration"
#: Columns of the metrics table, and the counters that say the same; of several points of one processor, their sum.
SAME = {
    "received": "received_events",
    "forked": "forked_events",
    "emitted": "sent_events",
    "absorbed": "absorbed_events",
    "dead_lettered": "dead_lettered_events",
    "in_flight": "in_flight_events",
    "errors": "errors",
    "retries": "retries",
}

Point = tuple[Mapping[str, Any], Any]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's collector, nobody's proxy."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def metered() -> tuple[InMemoryMetricReader, MeterProvider]:
    reader = InMemoryMetricReader()
    return reader, MeterProvider([reader], shutdown_on_exit=False)


def traced() -> tuple[InMemorySpanExporter, TracerProvider]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, provider


def collect(reader: InMemoryMetricReader) -> dict[str, list[Point]]:
    data = reader.get_metrics_data()
    assert data is not None
    found: dict[str, list[Point]] = {}
    for metric in (metric for of in data.resource_metrics for scope in of.scope_metrics for metric in scope.metrics):
        points: Sequence[Any] = metric.data.data_points
        found[metric.name] = [(dict(p.attributes or {}), getattr(p, "value", p)) for p in points]
    return found


def of(points: Sequence[Point], **attributes: Any) -> Any:
    """Return the sum of the points with these attributes."""
    return sum(value for named, value in points if attributes.items() <= named.items())


def metrics_of(run: Run) -> dict[str, list[Point]]:
    reader, provider = metered()
    with run.telemetry(meter_provider=provider):
        run.wait()
    return collect(reader)


def spans_of(run: Run, **options: Any) -> tuple[Telemetry, list[tuple[ReadableSpan, list[ReadableSpan]]]]:
    """Return the telemetry, and root and children of each trace, in the order in which the roots ended."""
    exporter, provider = traced()
    with run.telemetry(tracer_provider=provider, **options) as telemetry:
        run.wait()
    return telemetry, families(exporter.get_finished_spans())


def families(spans: Sequence[ReadableSpan]) -> list[tuple[ReadableSpan, list[ReadableSpan]]]:
    children: dict[int, list[ReadableSpan]] = {}
    for span in spans:
        if span.parent is not None:
            children.setdefault(span.parent.span_id, []).append(span)
    roots = [span for span in spans if span.parent is None]
    found = [(root, children.get(root.get_span_context().span_id, [])) for root in roots]
    assert len(roots) + sum(len(below) for _, below in found) == len(spans)
    return found


def filtering() -> Pipeline:
    return Pipeline("filtering").add("keep", lambda line: line if "a" in line else None, to="end").add("end", str.upper)


def forking() -> Pipeline:
    pipeline = Pipeline("forking")

    @pipeline.processor(to="end")
    def split(line: str) -> list[tuple[str, str]]:
        return [("end", word) for word in line.split()]

    @pipeline.processor
    def end(word: str) -> str | None:
        return None if word == "c" else word

    return pipeline


def failing() -> Pipeline:
    pipeline = Pipeline("failing")

    @pipeline.processor(to=("skips", "hands", "end"))
    def start(line: str) -> tuple[str, str]:
        if line == "bad":
            raise ValueError("no good")
        return {"s": "skips", "h": "hands"}.get(line[0], "end"), line

    @pipeline.processor(on_error="skip")
    def skips(line: str) -> str:
        raise KeyError(line)

    @pipeline.processor(on_error="end")
    def hands(line: str) -> str:
        raise RuntimeError(line)

    @pipeline.processor
    def end(line: str) -> str:
        return line

    return pipeline


def retrying() -> Pipeline:
    tried: Counter[str] = Counter()
    pipeline = Pipeline("retrying")

    @pipeline.processor(retry=Retry(maximum_attempts=3, initial_interval=0.001, jitter=False))
    def fetch(line: str) -> str:
        tried[line] += 1
        if line == "never" or tried[line] < 2:
            raise OSError("not now")
        return line

    return pipeline


class Pairs:
    """Keeps a line until the next one comes; what is left is given at the end."""

    def __init__(self) -> None:
        self.kept: str | None = None

    def __call__(self, line: str) -> str | None:
        if self.kept is None:
            self.kept = line
            return None
        pair, self.kept = f"{self.kept} {line}", None
        return pair

    def flush(self) -> list[str]:
        return [] if self.kept is None else [self.kept]


def stateful() -> Pipeline:
    return Pipeline("stateful").add("pair", Pairs, to="end").add("end", str.upper)


RUNS = {
    "filtering": (filtering, ["a", "b", "ab", "c"] * 50),
    "forking": (forking, ["a b c", "c", "", "a"] * 50),
    "failing": (failing, ["bad", "s", "h", "x", "\udcff"] * 50),
    "retrying": (retrying, ["one", "never", "two"]),
    "stateful": (stateful, [str(n) for n in range(101)]),
    "nothing": (filtering, []),
}


@pytest.mark.parametrize("name", RUNS)
def test_counters_are_those_of_the_metrics_table(name: str) -> None:
    make, lines = RUNS[name]
    run = make().run(lines, trace=True)
    told = metrics_of(run)
    for column, counter in SAME.items():
        for processor, count in run.metrics[column].items():
            points = told[f"{COMPONENT}.{counter}"]
            assert of(points, component_kind="processor", component_id=processor) == count, (column, processor)
    discarded = told[f"{COMPONENT}.discarded_events"]
    for processor, row in run.metrics.iterrows():
        filtered = [of(discarded, component_id=processor, reason=reason) for reason in ("filtered", "error")]
        assert sum(filtered) == row["filtered"]
        assert of(discarded, component_id=processor) == row["filtered"] + row["dead_lettered"]
    received = told[f"{COMPONENT}.received_events"]
    assert of(received, component_kind="source") == run.ledger["received"] == len(lines)
    assert of(received, component_kind="sink") == run.ledger["emitted"] == len(run.output)
    assert all(named["pipeline"] == run.pipeline.name for points in told.values() for named, _ in points)


def test_counters_say_where_to_and_why() -> None:
    make, lines = RUNS["failing"]
    told = metrics_of(make().run(lines))
    sent = told[f"{COMPONENT}.sent_events"]
    assert of(sent, component_kind="source", output="start") == 250
    assert [of(sent, component_id="start", output=output) for output in ("skips", "hands", "end")] == [50, 50, 100]
    assert of(sent, component_id="end", output="sink") == 150
    discarded = told[f"{COMPONENT}.discarded_events"]
    assert of(discarded, component_id="skips", intentional=False, reason="error") == 50
    assert of(discarded, component_id="start", intentional=False, reason="processing") == 50
    assert of(discarded, intentional=True) == 0
    assert of(told[f"{COMPONENT}.errors"], component_id="hands", error_type="processing") == 50


def test_what_the_source_cannot_read_is_the_sources() -> None:
    run = Pipeline("short", max_line_bytes=10).add("end", str.upper).run(["short", "x" * 100])
    told = metrics_of(run)
    assert run.ledger["dead_lettered"] == 1
    assert of(told[f"{COMPONENT}.received_events"], component_kind="source") == 2
    assert of(told[f"{COMPONENT}.sent_events"], component_kind="source", output="end") == 1
    assert of(told[f"{COMPONENT}.errors"], component_kind="source", error_type="oversize") == 1
    assert of(told[f"{COMPONENT}.dead_lettered_events"], component_kind="source") == 1
    assert of(told[f"{COMPONENT}.discarded_events"], component_kind="source", reason="oversize") == 1


def test_source_and_sink_are_told_from_processors_of_that_name() -> None:
    told = metrics_of(Pipeline("odd").add("source", str.upper, to="sink").add("sink", lambda _: None).run(["a"]))
    received = {named["component_id"]: value for named, value in told[f"{COMPONENT}.received_events"]}
    assert received == {"source_": 1, "source": 1, "sink": 1, "sink_": 0}
    assert of(told[f"{COMPONENT}.sent_events"], output="sink") == 1


def test_names_that_come_out_alike_are_told_apart() -> None:
    told = metrics_of(Pipeline("odd").add("a\udce9", str.upper, to=r"a\udce9").add(r"a\udce9", lambda _: None).run(["a"]))
    sent = {(named["component_id"], named["output"]): value for named, value in told[f"{COMPONENT}.sent_events"]}
    assert sent == {("source", r"a\udce9_"): 1, (r"a\udce9_", r"a\udce9"): 1, (r"a\udce9", "sink"): 0}


def test_counters_are_there_with_0_from_the_start() -> None:
    told = metrics_of(failing().run([]))
    assert {value for name, points in told.items() if name.startswith(COMPONENT) for _, value in points} == {0}
    later = metrics_of(failing().run(["bad", "s", "h", "x"]))
    for counter in ("errors", "discarded_events", "received_events"):
        before, after = ([named for named, _ in all[f"{COMPONENT}.{counter}"]] for all in (told, later))
        assert before == after


@pytest.mark.parametrize("name", ["filtering", "forking", "stateful"])
def test_histograms_have_what_the_snapshot_has(name: str) -> None:
    make, lines = RUNS[name]
    run = make().run(lines, trace="hops")
    told, snapshot = metrics_of(run), run.snapshot()
    points = {named["component_id"]: point for named, point in told[PROCESSING]}
    assert set(points) == set(snapshot.timed)
    for processor, timed in snapshot.timed.items():
        point = points[processor]
        assert tuple(point.explicit_bounds) == BOUNDS
        assert list(point.bucket_counts) == buckets(timed)
        assert (point.count, point.sum) == (timed.count, pytest.approx(timed.total))
    [(named, point)] = told[END_TO_END]
    assert named == {"pipeline": name}
    assert (point.count, point.sum) == (len(lines), pytest.approx(snapshot.end_to_end.total))
    assert list(point.bucket_counts) == buckets(snapshot.end_to_end)


def test_the_bounds_are_1_2_and_5_from_a_microsecond_to_ten_seconds() -> None:
    assert BOUNDS[:4] == (1e-6, 2e-6, 5e-6, 1e-5)
    assert BOUNDS[-4:] == (1.0, 2.0, 5.0, 10.0)
    assert set(BOUNDS) <= set(Histogram.EDGES.tolist())


@given(st.lists(st.floats(0, 50_000)), st.lists(st.sampled_from([*BOUNDS, *Histogram.EDGES[:-40].tolist()])))
def test_recorded_durations_fill_the_same_buckets_and_add_up_to_the_same(some: list[float], edges: list[float]) -> None:
    histogram, recorded = Histogram(), Histogram()
    histogram.add([*some, *edges])
    for seconds, times in durations(histogram, 10_000):
        recorded.add([seconds], times)
    assert recorded.within(Histogram.EDGES.tolist()) == histogram.within(Histogram.EDGES.tolist())
    assert recorded.count == histogram.count
    assert recorded.total == pytest.approx(histogram.total, rel=1e-5, abs=1e-12)


@given(st.lists(st.floats(1e-6, 10), min_size=101))
def test_of_too_many_durations_a_share_is_recorded(some: list[float]) -> None:
    histogram = Histogram()
    histogram.add(some, 1000)
    told = durations(histogram, 100)
    assert sum(times for _, times in told) == 100
    assert all(times > 0 for _, times in told)


def test_a_provider_gets_a_bounded_share_of_a_million_lines() -> None:
    reader, provider = metered()
    run = filtering().run([f"a {n}" for n in range(MOST_RECORDED * 3)])
    with run.telemetry(meter_provider=provider):
        pass
    [(_, point)] = collect(reader)[END_TO_END]
    assert point.count == MOST_RECORDED


class Gate:
    """A source that gives lines when it is told to."""

    def __init__(self, *parts: Sequence[str]) -> None:
        self.parts = parts
        self.open = [threading.Event() for _ in parts]

    def __iter__(self) -> Iterator[str]:
        for part, gate in zip(self.parts, self.open, strict=True):
            gate.wait(30)
            yield from part


def test_a_reader_that_collects_whenever_it_likes_sees_each_duration_once() -> None:
    gate, (reader, provider) = Gate(["a"] * 100, ["a b"] * 50, ["c"]), metered()
    with filtering().start(gate, trace="hops") as run, run.telemetry(meter_provider=provider, interval=60):
        seen = []
        for opened, total in zip(gate.open, (100, 150, 151), strict=True):
            opened.set()
            until(lambda total=total: run.snapshot().totals.run.received == total and run.ledger["in_flight"] == 0)
            for _ in range(2):
                told = collect(reader)
                [(_, point)] = told[END_TO_END]
                seen.append((of(told[f"{COMPONENT}.received_events"], component_kind="source"), point.count))
        run.wait()
    assert seen == [(100, 100)] * 2 + [(150, 150)] * 2 + [(151, 151)] * 2


def test_all_of_one_collection_is_of_one_moment() -> None:
    """While lines stream, what the source gave out is what the entry received, in every collection."""
    going = threading.Event()

    def lines() -> Iterator[str]:
        while not going.is_set():
            yield "a"

    reader, provider = metered()
    with filtering().start(lines(), output=lambda value: None) as run, run.telemetry(meter_provider=provider):
        counts = []
        for _ in range(20):
            told = collect(reader)
            received = told[f"{COMPONENT}.received_events"]
            counts.append(of(received, component_kind="source"))
            assert of(received, component_id="keep") == counts[-1]
            assert of(told[f"{COMPONENT}.sent_events"], component_kind="source") == counts[-1]
            assert of(received, component_id="end") == of(received, component_kind="sink") == counts[-1]
        going.set()
        run.wait()
    assert counts == sorted(counts)
    assert of(collect(reader)[f"{COMPONENT}.received_events"], component_kind="source") == run.ledger["received"]


def test_several_readers_of_one_provider_each_see_all() -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    run = filtering().run(["a"] * 10, trace="hops")
    with run.telemetry(meter_provider=MeterProvider(readers, shutdown_on_exit=False)):
        for reader in readers:
            told = collect(reader)
            assert of(told[f"{COMPONENT}.received_events"], component_id="keep") == 10
            assert told[END_TO_END][0][1].count == 10


def test_runs_of_one_provider_add_up_and_are_not_kept() -> None:
    reader, provider = metered()
    pipeline, gone = filtering(), []
    for _ in range(3):
        run = pipeline.run(["a", "b"])
        with run.telemetry(meter_provider=provider):
            pass
        gone.append(weakref.ref(run))
        del run
    gc.collect()
    assert [known() for known in gone] == [None] * 3
    told = collect(reader)
    assert of(told[f"{COMPONENT}.received_events"], component_id="keep") == 6
    assert of(told[f"{COMPONENT}.received_events"], component_kind="sink") == 3
    assert told[END_TO_END][0][1].count == 6


def test_a_run_that_is_exported_again_goes_on_where_it_was_left() -> None:
    gate, (reader, provider) = Gate(["a"], ["b"]), metered()
    with filtering().start(gate) as run:
        gate.open[0].set()
        until(lambda: run.ledger["emitted"] == 1)
        run.telemetry(meter_provider=provider).stop()
        assert of(collect(reader)[f"{COMPONENT}.received_events"], component_id="keep") == 1
        gate.open[1].set()
        run.wait()
    for _ in range(2):
        run.telemetry(meter_provider=provider).stop()
        told = collect(reader)
        assert of(told[f"{COMPONENT}.received_events"], component_id="keep") == 2
        assert told[END_TO_END][0][1].count == 2


def test_a_provider_is_not_kept_either() -> None:
    reader, provider = metered()
    with filtering().run(["a"]).telemetry(meter_provider=provider):
        pass
    gone = weakref.ref(provider)
    del reader, provider
    gc.collect()
    assert gone() is None


def test_a_span_for_the_line_and_one_below_it_for_each_hop() -> None:
    run = demo.run(["info: a", "warn: b"], trace=True)
    telemetry, told = spans_of(run)
    assert [root.name for root, _ in told] == ["demo", "demo"] == [run.pipeline.name] * 2
    assert [dict(root.attributes or {}) for root, _ in told] == [
        {
            "streamlab.pipeline": "demo",
            "streamlab.line_no": n,
            "streamlab.fate": ("emitted",),
            "streamlab.path": (path,),
            "streamlab.hops": hops,
        }
        for n, path, hops in ((0, "start > end", 2), (1, "start > warn > end", 3))
    ]
    assert [[span.name for span in below] for _, below in told] == [["start", "end"], ["start", "warn", "end"]]
    assert len({root.get_span_context().trace_id for root, _ in told}) == 2
    for root, below in told:
        assert {span.get_span_context().trace_id for span in below} == {root.get_span_context().trace_id}
    assert (telemetry.traces_exported, telemetry.traces_dropped) == (2, 0)


def nanoseconds(span: ReadableSpan) -> int:
    assert span.start_time is not None and span.end_time is not None
    return span.end_time - span.start_time


@pytest.mark.parametrize("name", ["filtering", "forking", "failing", "retrying"])
def test_durations_are_those_of_the_hops_laid_end_to_end(name: str) -> None:
    make, lines = RUNS[name]
    run = make().run(lines, trace="hops")
    began = time.time_ns()
    _, told = spans_of(run)
    for root, below in told:
        hops = run.trace((root.attributes or {})["streamlab.line_no"]).hop_rows()  # type: ignore[arg-type]
        assert [span.name for span in below] == [hop["processor"] for hop in hops]
        assert [nanoseconds(span) for span in below] == [round(hop["duration_us"] * 1e3) for hop in hops]
        assert [(span.attributes or {})["streamlab.attempts"] for span in below] == [hop["attempts"] for hop in hops]
        assert [span.start_time for span in below] == [root.start_time, *(span.end_time for span in below[:-1])]
        assert below[-1].end_time == root.end_time
        assert began <= (root.end_time or 0) <= time.time_ns()


@pytest.mark.parametrize("name", ["filtering", "forking", "failing", "retrying", "stateful"])
def test_each_line_once_and_in_order(name: str) -> None:
    make, lines = RUNS[name]
    _, told = spans_of(make().run(lines, trace="hops"), interval=0.01)
    assert [(root.attributes or {})["streamlab.line_no"] for root, _ in told] == list(range(len(lines)))


def test_each_line_once_however_often_it_exports() -> None:
    exporter, provider = traced()
    gate = Gate(*([f"a {part} {n}" for n in range(20)] for part in range(10)))
    with filtering().start(gate, trace="hops") as run, run.telemetry(tracer_provider=provider, interval=0.01) as telemetry:
        for part, opened in enumerate(gate.open, 1):
            opened.set()
            until(lambda part=part: telemetry.traces_exported == part * 20)
        run.wait()
    numbers = [(root.attributes or {})["streamlab.line_no"] for root, _ in families(exporter.get_finished_spans())]
    assert numbers == list(range(200))


def test_what_failed_says_so() -> None:
    _, told = spans_of(failing().run(["bad", "s", "h", "x"], trace=True))
    statuses = [root.status.status_code for root, _ in told]
    assert statuses == [StatusCode.ERROR, StatusCode.UNSET, StatusCode.UNSET, StatusCode.UNSET]
    [bad] = told[0][1]
    assert (bad.status.status_code, bad.status.description) == (StatusCode.ERROR, "ValueError: no good")
    [event] = bad.events
    assert (event.name, event.timestamp) == ("exception", bad.end_time)
    assert event.attributes == {"exception.type": "ValueError", "exception.message": "no good"}
    skipped, handed = told[1][1][-1], told[2][1][1]
    assert (skipped.name, skipped.status.description) == ("skips", "KeyError: 's'")
    assert (handed.name, handed.status.description) == ("hands", "RuntimeError: h")
    assert told[2][1][-1].name == "end" and told[2][1][-1].status.status_code is StatusCode.UNSET
    assert (told[0][0].attributes or {})["streamlab.fate"] == ("dead_letter",)


def test_failed_lines_have_traces_although_only_a_sample_has() -> None:
    lines = ["bad" if n % 1000 == 999 else "x" for n in range(20_000)]
    run = failing().run(lines, trace=True)
    _, told = spans_of(run)
    numbers = [(root.attributes or {})["streamlab.line_no"] for root, _ in told]
    assert set(range(999, 20_000, 1000)) <= set(numbers)
    assert len(numbers) < 5000


def test_a_run_without_traces_has_none_and_none_is_made_up() -> None:
    telemetry, told = spans_of(filtering().run(["a"] * 10))
    assert told == []
    assert (telemetry.traces_exported, telemetry.traces_dropped) == (0, 0)


def said_by(told: Sequence[tuple[ReadableSpan, list[ReadableSpan]]]) -> str:
    return "".join(span.to_json() for root, below in told for span in (root, *below))


def test_no_content_unless_it_is_asked_for() -> None:
    run = filtering().run(["a secret"], trace=True)
    assert "secret" not in said_by(spans_of(run)[1]).lower()
    _, [(root, [keep, end])] = spans_of(run, content=True)
    assert (root.attributes or {})["streamlab.line"] == "a secret"
    assert (keep.attributes or {})["streamlab.value"] == "'a secret'" == (end.attributes or {})["streamlab.value"]


def test_no_more_than_a_bounded_number_of_traces_and_the_failed_ones_first() -> None:
    lines = ["bad", *["x"] * (LAST_TRACES + 100)]
    telemetry, told = spans_of(failing().run(lines, trace="hops", trace_limit=len(lines)))
    numbers = [(root.attributes or {})["streamlab.line_no"] for root, _ in told]
    assert numbers == [0, *range(102, len(lines))]
    assert (telemetry.traces_exported, telemetry.traces_dropped) == (LAST_TRACES, 101)
    assert repr(telemetry) == f"Telemetry('failing': {LAST_TRACES} traces exported, 101 dropped; ended)"


def test_while_it_goes_on_fewer_are_made() -> None:
    gate, (exporter, provider) = Gate(["bad"] * (MOST_TRACES + 1) + ["x"] * (MOST_TRACES - 1), ["x"] * 10), traced()
    options: dict[str, Any] = {"trace": "hops", "trace_limit": 10_000}
    with failing().start(gate, **options) as run:
        gate.open[0].set()
        until(lambda: run.ledger["received"] == MOST_TRACES * 2 and run.ledger["in_flight"] == 0)
        with run.telemetry(tracer_provider=provider, interval=0.01) as telemetry:
            until(lambda: telemetry.traces_exported > 0)
            assert (telemetry.traces_exported, telemetry.traces_dropped) == (MOST_TRACES, MOST_TRACES)
            gate.open[1].set()
            run.wait()
    assert (telemetry.traces_exported, telemetry.traces_dropped) == (MOST_TRACES + 10, MOST_TRACES)
    numbers = [(root.attributes or {})["streamlab.line_no"] for root, _ in families(exporter.get_finished_spans())]
    assert numbers == [*range(1, MOST_TRACES + 1), *range(MOST_TRACES * 2, MOST_TRACES * 2 + 10)]


def test_a_line_that_becomes_thousands_has_a_bounded_trace() -> None:
    fan = Pipeline("fan").add("split", lambda line: [("end", line)] * 1000, to="end").add("end", str.upper)
    _, [(root, below)] = spans_of(fan.run(["a"], trace="hops"))
    assert (root.attributes or {})["streamlab.hops"] == 1001
    assert len(below) == 100


# Over the wire


class Collector:
    """What a real one does with what it gets: decodes and keeps it."""

    def __init__(self, status: int = 200) -> None:
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.traces: list[ExportTraceServiceRequest] = []
        self.headers: list[Mapping[str, str]] = []
        self.status = status
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["content-type"] == "application/x-protobuf"
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                if self.path == "/v1/metrics":
                    collector.metrics.append(ExportMetricsServiceRequest.FromString(body))
                elif self.path == "/v1/traces":
                    collector.traces.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def counters(self, which: int = -1) -> dict[str, list[Point]]:
        """Return the points of one request, the last one by default."""
        found: dict[str, list[Point]] = {}
        for metric in self.metrics[which].resource_metrics[0].scope_metrics[0].metrics:
            data = getattr(metric, metric.WhichOneof("data") or "")
            for point in data.data_points:
                named = {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in point.attributes}
                found.setdefault(metric.name, []).append((named, point if metric.HasField("histogram") else point.as_int))
        return found

    def spans(self) -> list[Any]:
        return [span for request in self.traces for of in request.resource_spans for s in of.scope_spans for span in s.spans]

    def resource(self) -> dict[str, str]:
        return {pair.key: pair.value.string_value for pair in self.metrics[-1].resource_metrics[0].resource.attributes}


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    collector = Collector(status)
    thread = threading.Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join(10)
        collector.server.server_close()


def dead() -> str:
    """Return the address of nobody."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """Give the address of somebody who listens, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize("name", RUNS)
def test_the_final_counts_have_arrived_when_it_has_stopped(name: str) -> None:
    make, lines = RUNS[name]
    with collecting() as collector:
        run = make().start(lines, trace="hops", trace_limit=1000)
        with run.telemetry(collector.url) as telemetry:
            run.wait()
        told, snapshot = collector.counters(), run.snapshot()
        for column, counter in SAME.items():
            for processor, count in run.metrics[column].items():
                points = told[f"{COMPONENT}.{counter}"]
                assert of(points, component_kind="processor", component_id=processor) == count, (column, processor)
        timed = {named["component_id"]: point for named, point in told.get(PROCESSING, [])}
        assert {n: list(point.bucket_counts) for n, point in timed.items()} == {
            n: buckets(histogram) for n, histogram in snapshot.timed.items()
        }
        assert all(point.sum == snapshot.timed[n].total for n, point in timed.items())
        assert all(tuple(point.explicit_bounds) == BOUNDS for point in timed.values())
        spans = collector.spans()
        assert sum(not span.parent_span_id for span in spans) == telemetry.traces_exported == len(lines)
        assert len(spans) == len(lines) + sum(len(run.trace(n).hop_rows()) for n in range(len(lines)))


def test_a_million_lines_are_told_exactly_and_at_once() -> None:
    run = filtering().run(["a"] * (MOST_RECORDED * 10))
    with collecting() as collector:
        with run.telemetry(collector.url):
            pass
        [(_, point)] = collector.counters()[END_TO_END]
    assert point.count == MOST_RECORDED * 10
    assert list(point.bucket_counts) == buckets(run.snapshot().end_to_end)
    assert point.sum == run.snapshot().end_to_end.total


def test_it_exports_while_the_run_goes_on() -> None:
    gate = Gate(["a"] * 10, ["a"] * 5)
    with collecting() as collector, filtering().start(gate, trace=True) as run:
        with run.telemetry(collector.url, interval=0.02):
            gate.open[0].set()
            until(lambda: sum(not span.parent_span_id for span in collector.spans()) == 10)
            until(lambda: of(collector.counters()[f"{COMPONENT}.received_events"], component_kind="sink") == 10)
            gate.open[1].set()
            run.wait()
        assert of(collector.counters()[f"{COMPONENT}.received_events"], component_kind="sink") == 15
        assert sum(not span.parent_span_id for span in collector.spans()) == 15


def test_it_ends_with_the_run_unasked() -> None:
    with collecting() as collector:
        telemetry = filtering().run(["a"]).telemetry(collector.url)
        until(lambda: not telemetry.running)
        assert of(collector.counters()[f"{COMPONENT}.received_events"], component_kind="sink") == 1
        posts = len(collector.headers)
        telemetry.stop()
        telemetry.stop()
        assert len(collector.headers) == posts


def test_a_program_that_ends_has_its_last_counts_exported() -> None:
    with collecting() as collector:
        program = f"import streamlab; streamlab.run(['warn: hot'], trace=True).telemetry({collector.url!r})"
        subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
        assert of(collector.counters()[f"{COMPONENT}.received_events"], component_kind="sink") == 1
        assert len(collector.spans()) == 4


def test_it_may_end_before_the_run() -> None:
    gate = Gate(["a"], ["a"])
    with collecting() as collector, filtering().start(gate) as run:
        gate.open[0].set()
        until(lambda: run.ledger["emitted"] == 1)
        run.telemetry(collector.url).stop()
        assert run.state == "running"
        assert of(collector.counters()[f"{COMPONENT}.received_events"], component_kind="sink") == 1
        gate.open[1].set()


def test_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        filtering().run(["a"]).telemetry(collector.url, headers={"Authorization": "Bearer x"}).stop()
        assert {"service.name": "streamlab", "streamlab.pipeline": "filtering"}.items() <= collector.resource().items()
        assert collector.resource()["service.version"]
        assert collector.headers[-1]["authorization"] == "Bearer x"
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,team=logs")
        filtering().run(["a"]).telemetry(collector.url).stop()
        assert {"service.name": "shop", "service.version": "7", "team": "logs"}.items() <= collector.resource().items()


def test_the_environment_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        filtering().run(["a"], trace=True).telemetry().stop()
        assert len(collector.metrics) == len(collector.traces) == 1
        assert all(headers["x-tenant"] == "blue" for headers in collector.headers)
        assert all(headers["content-encoding"] == "gzip" for headers in collector.headers)


def test_only_what_is_new_where_the_environment_wants_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    gate = Gate(["a"] * 10, ["a"] * 5)
    with collecting() as collector, filtering().start(gate, trace="hops") as run:
        with run.telemetry(collector.url, interval=0.02):
            gate.open[0].set()
            until(lambda: run.ledger["emitted"] == 10 and len(collector.metrics) > 2)
            gate.open[1].set()
            run.wait()
        told = [collector.counters(which) for which in range(len(collector.metrics))]
    assert sum(of(part[f"{COMPONENT}.received_events"], component_kind="sink") for part in told) == 15
    assert sum(point.count for part in told for _, point in part.get(END_TO_END, [])) == 15
    assert sum(point.count for part in told for named, point in part.get(PROCESSING, [])) == 30


def test_a_disabled_sdk_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with collecting() as collector:
        filtering().run(["a"], trace=True).telemetry(collector.url).stop()
        assert collector.spans() == []
        assert not any(of.scope_metrics for request in collector.metrics for of in request.resource_metrics)


def test_text_that_is_none_can_be_sent() -> None:
    run = Pipeline("caf\udce9").add("a\udcff", str.upper).run(["x \udcff"], trace=True)
    with collecting() as collector:
        run.telemetry(collector.url, content=True).stop()
        root = next(span for span in collector.spans() if not span.parent_span_id)
        assert root.name == "caf\\udce9"
        assert {pair.key: pair.value.string_value for pair in root.attributes}["streamlab.line"] == "x \\udcff"
        assert of(collector.counters()[f"{COMPONENT}.received_events"], component_id="a\\udcff") == 1


def test_one_provider_and_an_endpoint_for_the_rest() -> None:
    run = filtering().run(["a"], trace=True)
    exporter, provider = traced()
    with collecting() as collector:
        run.telemetry(collector.url, tracer_provider=provider).stop()
        assert len(exporter.get_finished_spans()) == 3
        assert (len(collector.metrics), collector.traces) == (1, [])
        reader, meters = metered()
        run.telemetry(collector.url, meter_provider=meters).stop()
        assert of(collect(reader)[f"{COMPONENT}.received_events"], component_id="keep") == 1
        assert (len(collector.metrics), len(collector.traces)) == (1, 1)


def test_a_dead_endpoint_costs_the_run_nothing_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    run = filtering().start(["a"] * 1000, trace=True)
    with run.telemetry(dead(), interval=0.05) as telemetry:
        run.wait(5)
        assert run.state == "finished"
        began = time.monotonic()
    assert time.monotonic() - began < 8
    assert not telemetry.running
    assert run.ledger["received"] == 1000
    assert (telemetry.traces_exported, telemetry.traces_dropped) == (0, 1000)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("streamlab.views.opentelemetry", logging.WARNING)
    assert record.getMessage().startswith("telemetry of pipeline 'filtering' does not arrive at http://127.0.0.1:")


def test_an_endpoint_that_never_answers_costs_the_run_nothing() -> None:
    with silent() as url:
        run = filtering().start(["a"] * 1000, trace=True)
        telemetry = run.telemetry(url, interval=0.05)
        run.wait(5)
        assert run.state == "finished"
        began = time.monotonic()
        telemetry.stop()
        assert time.monotonic() - began < 8
    until(lambda: not telemetry.running)


def test_an_endpoint_that_refuses_is_told_of_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(["a"], [])
    with collecting(status=404) as collector, filtering().start(gate, trace=True) as run:
        gate.open[0].set()
        with run.telemetry(collector.url, interval=0.01):
            until(lambda: len(collector.metrics) > 3)
        gate.open[1].set()
    [message] = caplog.messages
    assert "404" in message and "Not Found" in message


def test_a_program_says_no_more_than_that_one_line() -> None:
    program = f"import streamlab; streamlab.run(['warn: hot'], trace=True).telemetry({dead()!r}).stop()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    [said] = done.stderr.splitlines()
    assert said.startswith("telemetry of pipeline 'demo' does not arrive at http://127.0.0.1:")


def test_an_endpoint_that_comes_back_is_sent_to_again() -> None:
    gate = Gate(["a"], ["a"])
    with collecting(status=400) as collector, filtering().start(gate) as run, run.telemetry(collector.url, interval=0.01):
        gate.open[0].set()
        until(lambda: len(collector.metrics) > 1)
        collector.status = 200
        gate.open[1].set()
        run.wait()
        until(lambda: of(collector.counters()[f"{COMPONENT}.received_events"], component_kind="sink") == 2)


def test_threads_and_log_filters_are_as_they_were_after_fifty() -> None:
    run = filtering().run(["a"], trace=True)
    with collecting() as collector:
        run.telemetry(collector.url).stop()
        before = set(threading.enumerate())
        for _ in range(50):
            run.telemetry(collector.url).stop()
        # The collector has a thread for each connection that is not quite closed.
        until(lambda: {thread for thread in threading.enumerate() if "process_request" not in thread.name} <= before)
        assert len(collector.metrics) == 51
    exporters = [f"opentelemetry.exporter.otlp.proto.http.{signal}_exporter" for signal in ("metric", "trace")]
    assert [logging.getLogger(name).filters for name in exporters] == [[], []]


def test_stops_from_several_threads() -> None:
    with collecting() as collector:
        telemetry = filtering().run(["a"]).telemetry(collector.url)
        threads = [threading.Thread(target=telemetry.stop) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert not telemetry.running
        assert len(collector.metrics) == 1


def test_global_providers_are_left_alone() -> None:
    program = (
        "import streamlab; from opentelemetry import metrics, trace\n"
        f"streamlab.run(['a'], trace=True).telemetry({dead()!r}).stop()\n"
        "print(type(metrics.get_meter_provider()).__name__, type(trace.get_tracer_provider()).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["_ProxyMeterProvider", "ProxyTracerProvider"]


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_an_interval_that_is_none(interval: float) -> None:
    with pytest.raises(TelemetryError, match="it must be a number of seconds, more than 0"):
        filtering().run(["a"]).telemetry("http://localhost:4318", interval=interval)


@pytest.mark.parametrize("endpoint", ["localhost:4318", "", "grpc://localhost:4317"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(TelemetryError, match="it must be like http://localhost:4318"):
        filtering().run(["a"]).telemetry(endpoint)


@pytest.mark.parametrize("package", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", "opentelemetry"])
def test_without_its_packages(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; import streamlab; streamlab.run(['a']).telemetry()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("streamlab.errors.TelemetryError: telemetry needs the OpenTelemetry SDK")
    assert 'pip install "streamlab[otel]"' in last


def test_streamlab_does_without_them_until_it_is_asked() -> None:
    program = (
        "import sys, json, streamlab, streamlab.views.opentelemetry; streamlab.run(['a'], trace=True)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not {"opentelemetry", "requests", "google.protobuf"} & set(json.loads(done.stdout))
