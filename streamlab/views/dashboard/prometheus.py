"""What a run has counted, as Prometheus scrapes it. Pure: a run in, text out.

All of it is of one moment, so the ledger can be checked from one scrape::

    received + forked = sent + discarded + absorbed + in flight      of each processor
    received = sent + discarded                                      of the source
    received by the source + forked = received by the sink + discarded + absorbed + in flight

``output`` of what was sent is the ``component_id`` of what received it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final, get_args

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streamlab import __version__
from streamlab.metrics import Histogram, Snapshot
from streamlab.pipeline import Pipeline
from streamlab.run import Run
from streamlab.runners import State
from streamlab.views.points import (
    BOUNDS,
    COUNTERS,
    HISTOGRAMS,
    IN_FLIGHT,
    IN_FLIGHT_TOLD,
    Labels,
    buckets,
    clean,
    histograms,
    points,
)

#: The media type of what `exposition` returns.
CONTENT_TYPE: Final[str] = CONTENT_TYPE_PLAIN_0_0_4


def exposition(run: Run) -> bytes:
    """Return all that a run has counted so far in the text format of Prometheus, of the media type `CONTENT_TYPE`.

    Every series is there from the beginning, with 0, so that its first event is an increase. Content of lines is in none.

    Example:
        >>> import streamlab
        >>> text = exposition(streamlab.run(["warn: hot"])).decode("utf-8")
        >>> print(*(line for line in text.splitlines() if '_received_' in line and 'id="warn"' in line))
        streamlab_component_received_events_total{component_id="warn",component_kind="processor",pipeline="demo"} 1.0
    """
    state = run.state  # before the counters: once the run has ended, they are the last ones
    registry = CollectorRegistry()
    registry.register(_Scrape(run.pipeline, state, run.snapshot()))
    return generate_latest(registry)


class _Scrape(Collector):
    """The families of one moment."""

    def __init__(self, pipeline: Pipeline, state: State, snapshot: Snapshot) -> None:
        self._pipeline = pipeline
        self._state = state
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        pipeline = ("pipeline", clean(self._pipeline.name))
        told = "Always 1; the label says the version."
        yield _values(GaugeMetricFamily, "streamlab.build_info", told, {(("version", __version__),): 1})
        told = "1 for the state that the run is in, 0 for the others; no unit."
        states: dict[Labels, float] = {(pipeline, ("state", name)): name == self._state for name in get_args(State)}
        yield _values(GaugeMetricFamily, "streamlab.pipeline.state", told, states)
        told = "How long the run has been running, to its end if it has ended; in seconds."
        yield _values(GaugeMetricFamily, "streamlab.pipeline.uptime_seconds", told, {(pipeline,): self._snapshot.uptime})
        values = points(self._pipeline, self._snapshot, settled=False)
        for name, told in COUNTERS.items():
            yield _values(CounterMetricFamily, name, told, values[name])
        yield _values(GaugeMetricFamily, IN_FLIGHT, IN_FLIGHT_TOLD, values[IN_FLIGHT])
        durations = histograms(self._pipeline, self._snapshot)
        for name, told in HISTOGRAMS.items():
            yield _durations(name, told, {labels: of for (known, labels), of in durations.items() if known == name})


def _values(
    family: type[CounterMetricFamily | GaugeMetricFamily], name: str, told: str, values: Mapping[Labels, float]
) -> Metric:
    """Return a family of numbers."""
    made = family(name.replace(".", "_"), told, labels=_names(values))
    for labels, value in values.items():
        made.add_metric(_texts(labels), value)
    return made


def _durations(name: str, told: str, values: Mapping[Labels, Histogram]) -> Metric:
    """Return a family of histograms, whose buckets have all that does not exceed their bound."""
    made = HistogramMetricFamily(f"{name.replace('.', '_')}_seconds", told, labels=_names(values))
    bounds = [str(bound) for bound in (*BOUNDS, "+Inf")]
    for labels, histogram in values.items():
        counts = zip(bounds, accumulate(buckets(histogram)), strict=True)
        made.add_metric(_texts(labels), list(counts), histogram.total)
    return made


def _names(values: Mapping[Labels, object]) -> list[str]:
    return [name for name, _ in next(iter(values))]


def _texts(labels: Labels) -> list[str]:
    return [str(value).lower() if isinstance(value, bool) else value for _, value in labels]
