"""Providers of our own, which send what they get over OTLP/HTTP when they are told to."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from streamlab import __version__
from streamlab.metrics import Histogram
from streamlab.run import Run
from streamlab.views.opentelemetry.instruments import Instruments
from streamlab.views.points import BOUNDS, HISTOGRAMS, Labels, buckets, clean

#: Seconds that one request may take with all its retries, unless the environment says.
TIMEOUT_SECONDS = 3.0
#: Spans of one request.
MOST_SPANS = 2_000


class Sender:
    """The providers and exporters of one run.

    Args:
        run: what is exported.
        endpoint: as for `streamlab.views.opentelemetry.Telemetry`.
        headers: as there.
        metrics: whether to send metrics.
        traces: whether to send traces.

    Labels:
        tracer_provider: takes the spans to be sent, if any are.
        where: where it sends to, for people.
        problem: why something was not taken the last time; empty when all was.
    """

    def __init__(
        self, run: Run, endpoint: str | None, headers: Mapping[str, str] | None, *, metrics: bool, traces: bool
    ) -> None:
        self._metrics: _Metrics | None = None
        self.tracer_provider: TracerProvider | None = None
        resource = _resource(run.pipeline.name)
        if metrics:
            self._metrics = _Metrics(
                run, OTLPMetricExporter(_url(endpoint, "metrics"), headers=headers, timeout=_timeout("METRICS")), resource
            )
        self._outbox = _Outbox()
        if traces:
            self._spans = OTLPSpanExporter(_url(endpoint, "traces"), headers=headers, timeout=_timeout("TRACES"))
            self.tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self.tracer_provider.add_span_processor(self._outbox)
        self.where = endpoint or "the endpoint of OTEL_EXPORTER_OTLP_ENDPOINT, by default http://localhost:4318"
        self.problem = ""
        self._hush = _Hush()
        self._closing = threading.Lock()
        self._closed = False

    def send(self) -> int:
        """Send what there is, and return how many traces were lost; after a failure, nothing else is tried."""
        with self._hush.here():
            taken = self._metrics is None or self._metrics.send()
            waiting = self._outbox.empty()
            while waiting and taken:
                taken = self._spans.export(waiting[:MOST_SPANS]) is SpanExportResult.SUCCESS
                waiting = waiting[MOST_SPANS:] if taken else waiting
        self.problem = "" if taken else self._hush.said or "no answer"
        return sum(span.parent is None for span in waiting)

    def close(self) -> None:
        """Break off what is being sent, and send no more; more than once is fine, and from any thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._metrics is not None:
            self._metrics.close()
        if self.tracer_provider is not None:
            self.tracer_provider.shutdown()
            self._spans.shutdown()  # type: ignore[no-untyped-call]  # the SDK annotates it not


class _Metrics:
    """The metrics of one run. Counters go through a meter provider; histograms are added as they are.

    An SDK's histogram takes one duration at a time, and the end-to-end durations are one a line.
    """

    def __init__(self, run: Run, exporter: OTLPMetricExporter, resource: Resource) -> None:
        temporality = exporter._preferred_temporality or {}  # what a reader takes from its exporter
        self._exporter = exporter
        self._reader = InMemoryMetricReader(temporality)
        self._provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self._temporality = temporality.get(HistogramInstrument, AggregationTemporality.CUMULATIVE)
        self._durations: dict[str, dict[Labels, Histogram]] = {name: {} for name in HISTOGRAMS}
        self._since = time.time_ns()
        self._instruments = Instruments(self._provider, self._take)
        self._instruments.begin(run)

    def send(self) -> bool:
        """Send the metrics of this moment, and tell whether they were taken."""
        data = self._reader.get_metrics_data()
        if data is None:  # OTEL_SDK_DISABLED
            return True
        return self._exporter.export(self._whole(data)) is MetricExportResult.SUCCESS

    def close(self) -> None:
        """End provider and exporter."""
        self._provider.shutdown()
        self._exporter.shutdown()

    def _take(self, name: str, attributes: Labels, all: Histogram, news: Histogram) -> None:
        self._durations[name][attributes] = news if self._temporality is AggregationTemporality.DELTA else all

    def _whole(self, data: MetricsData) -> MetricsData:
        """Return the metrics with the histograms of the same moment."""
        now = time.time_ns()
        more = [metric for name in HISTOGRAMS if (metric := self._metric(name, now)).data.data_points]
        if self._temporality is AggregationTemporality.DELTA:
            self._since = now
        return MetricsData(
            [
                ResourceMetrics(
                    of.resource,
                    [ScopeMetrics(scope.scope, [*scope.metrics, *more], scope.schema_url) for scope in of.scope_metrics],
                    of.schema_url,
                )
                for of in data.resource_metrics
            ]
        )

    def _metric(self, name: str, now: int) -> Metric:
        data = [
            HistogramDataPoint(
                attributes=dict(attributes),
                start_time_unix_nano=self._since,
                time_unix_nano=now,
                count=histogram.count,
                sum=histogram.total,
                bucket_counts=buckets(histogram),
                explicit_bounds=BOUNDS,
                min=histogram.quantile(0.0),
                max=histogram.quantile(1.0),
            )
            for attributes, histogram in self._durations[name].items()
            if histogram.count
        ]
        return Metric(name, HISTOGRAMS[name], "s", HistogramData(data, self._temporality))


class _Outbox(SpanProcessor):
    """Keeps the spans until they are sent."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span, if the sampler wants it."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._spans.append(span)

    def empty(self) -> list[ReadableSpan]:
        """Return the spans, and keep them no more."""
        spans, self._spans = self._spans, []
        return spans


class _Hush(logging.Filter):
    """Keeps what the exporters log, in the thread that uses it, from the user's screen.

    Labels:
        said: the first thing that they did, the last time.
    """

    LOGGERS = (OTLPMetricExporter.__module__, OTLPSpanExporter.__module__)

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self._thread: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the records of other threads pass."""
        if record.thread != self._thread:
            return True
        self.said = self.said or record.getMessage()
        return False

    @contextmanager
    def here(self) -> Iterator[None]:
        """Do so in this thread."""
        self._thread, self.said = threading.get_ident(), ""
        for name in self.LOGGERS:
            logging.getLogger(name).addFilter(self)
        try:
            yield
        finally:
            for name in self.LOGGERS:
                logging.getLogger(name).removeFilter(self)


def _resource(pipeline: str) -> Resource:
    """Return who it is that tells; the environment has the last word."""
    named = {"service.name": "streamlab", "service.version": __version__, "streamlab.pipeline": clean(pipeline)}
    return Resource.create(named).merge(OTELResourceDetector().detect())


# For both, ``None`` is what the environment says.


def _url(endpoint: str | None, signal: str) -> str | None:
    return None if endpoint is None else f"{endpoint.rstrip('/')}/v1/{signal}"


def _timeout(signal: str) -> float | None:
    variables = ("OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT")
    return None if any(os.environ.get(name) for name in variables) else TIMEOUT_SECONDS
