"""What a run has counted, as Prometheus scrapes it. Pure: a run in, text out.

All of it is of one moment, so the ledger can be checked from one scrape::

    received + forked = sent + discarded + absorbed + in flight      of each processor
    received = sent + discarded                                      of the source
    received by the source + forked = received by the sink + discarded + absorbed + in flight

``output`` of what was sent is the ``component_id`` of what received it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, get_args

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streamlab import __version__
from streamlab.metrics import Histogram, Snapshot
from streamlab.paths import EMIT, Counts, Fate, Target
from streamlab.pipeline import Pipeline
from streamlab.policy import FAILURE_KINDS
from streamlab.run import Run
from streamlab.runners import State

#: The media type of what `exposition` returns.
CONTENT_TYPE: Final[str] = CONTENT_TYPE_PLAIN_0_0_4

#: Upper bounds of the buckets, seconds. All are edges of `Histogram`, so the counts are exact.
BOUNDS = (*(float(f"{factor}e{exponent}") for exponent in range(-6, 1) for factor in (1, 2, 5)), 10.0)

#: Failure kinds of lines that do not get as far as the first processor; the source has them.
BEFORE_ENTRY = ("decode", "oversize")

#: A processor by its name, the source (``None``), or the sink (`EMIT`).
Component = Target | None
#: Values of labels, those of a component first.
Labels = tuple[str, ...]


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


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the buckets of a histogram as Prometheus has them: upper bound, and how many durations do not exceed it.

    >>> histogram = Histogram()
    >>> histogram.add([0.5, 0.6, 60.0])
    >>> buckets(histogram)[-6:]
    [('0.5', 1), ('1.0', 2), ('2.0', 2), ('5.0', 2), ('10.0', 2), ('+Inf', 3)]
    """
    counts = [*histogram.within(BOUNDS), histogram.count]
    return [(str(bound), count) for bound, count in zip((*BOUNDS, "+Inf"), counts, strict=True)]


def component_ids(processors: Iterable[str]) -> dict[Component, str]:
    r"""Return what each component is called in labels: a processor by its name, the source ``source``, the sink ``sink``.

    No two are called the same, as Prometheus refuses a whole scrape for one series that is there twice. So the sink is
    ``sink_`` where a processor is named ``sink``, and what UTF-8 cannot say is escaped in a way that no other name has.

    >>> component_ids(["sink", "caf\udce9", r"caf\udce9"])
    {'sink': 'sink', 'caf\udce9': 'caf\\udce9_', 'caf\\udce9': 'caf\\udce9', None: 'source', EMIT: 'sink_'}
    """
    names: dict[Component, str] = {name: clean(name) for name in processors}
    taken = {text for name, text in names.items() if text == name}
    for component, text in [*names.items(), (None, "source"), (EMIT, "sink")]:
        if text == component:
            continue
        while text in taken:
            text += "_"
        taken.add(text)
        names[component] = text
    return names


def clean(text: str) -> str:
    r"""Return a text as UTF-8 can say it: lone surrogates, which stand for bytes that were not UTF-8, are escaped.

    >>> clean("caf\udce9")
    'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Scrape(Collector):
    """The families of one moment."""

    def __init__(self, pipeline: Pipeline, state: State, snapshot: Snapshot) -> None:
        self._pipeline = clean(pipeline.name)
        self._processors = dict(pipeline.processors)
        self._declared = [(None, pipeline.entry.name), *pipeline.edges()]
        self._ids = component_ids(self._processors)
        self._state = state
        self._snapshot = snapshot
        self._totals = snapshot.totals
        self._counts = {name: snapshot.totals.processors.get(name, Counts()) for name in self._processors}

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        yield from self._of_the_run()
        yield self._received()
        yield self._sent()
        yield self._discarded()
        yield self._errors()
        yield self._retries()
        yield self._dead_lettered()
        yield self._forked()
        yield self._absorbed()
        yield self._in_flight()
        yield self._processing_duration()
        yield self._end_to_end_duration()

    def _of_the_run(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("streamlab_build_info", "Always 1; the label says the version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        told = "1 for the state that the run is in, 0 for the others; no unit."
        state = GaugeMetricFamily("streamlab_pipeline_state", told, labels=["pipeline", "state"])
        for name in get_args(State):
            state.add_metric([self._pipeline, name], name == self._state)
        yield state
        told = "How long the run has been running, to its end if it has ended; in seconds."
        uptime = GaugeMetricFamily("streamlab_pipeline_uptime_seconds", told, labels=["pipeline"])
        uptime.add_metric([self._pipeline], self._snapshot.uptime)
        yield uptime

    def _received(self) -> Metric:
        values = {self._component(None): self._totals.run.received}
        values |= self._by_processor("received")
        values[self._component(EMIT)] = self._totals.run.emitted
        told = "How many values came in: to the source lines, to the sink outputs that it took; in values."
        return self._counter("received_events", told, values)

    def _sent(self) -> Metric:
        edges = Counter({edge: 0 for edge in self._declared if edge[1] in self._ids})  # a pipeline may still be built on
        edges.update(self._totals.edges)
        values = {(*self._component(at), self._ids[target]): count for (at, target), count in edges.items()}
        told = "How many values went on, by the component_id that they went to; in values."
        return self._counter("sent_events", told, values, "output")

    def _discarded(self) -> Metric:
        values = Counter({(*self._component(at), "false", kind): 0 for at, kind in self._failures()})
        for name, processor in self._processors.items():
            values[*self._component(name), "true", "filtered"] = self._counts[name].filtered
            if processor.on_error == "skip":
                values[*self._component(name), "false", "error"] = 0
        for (at, kind, fate), count in self._totals.failures.items():
            if fate is Fate.DEAD_LETTER:
                values[*self._component(at), "false", kind] += count
            if fate is Fate.FILTERED:
                values[*self._component(at), "false", "error"] += count
                values[*self._component(at), "true", "filtered"] -= count
        told = (
            "How many values ended here: filtered on purpose (intentional), filtered as they failed and on_error is skip"
            " (reason error), or dead letters (reason is the failure kind); in values."
        )
        return self._counter("discarded_events", told, values, "intentional", "reason")

    def _errors(self) -> Metric:
        values = Counter({(*self._component(at), kind): 0 for at, kind in self._failures()})
        for (at, kind, _), count in self._totals.failures.items():
            values[*self._component(at), kind] += count
        told = "How many values failed for good, whatever came of them, by failure kind; in values."
        return self._counter("errors", told, values, "error_type")

    def _retries(self) -> Metric:
        values = {self._component(name): self._snapshot.retries.get(name, 0) for name in self._processors}
        return self._counter("retries", "How many attempts were made beyond the first ones; in attempts.", values)

    def _dead_lettered(self) -> Metric:
        turned_away = [n for (at, _, fate), n in self._totals.failures.items() if at is None and fate is Fate.DEAD_LETTER]
        values = {self._component(None): sum(turned_away)} | self._by_processor("dead_lettered")
        told = "How many values became dead letters, which are among those discarded; in values."
        return self._counter("dead_lettered_events", told, values)

    def _forked(self) -> Metric:
        told = "How many values were made beyond those received, by fan-out or flush; in values."
        return self._counter("forked_events", told, self._by_processor("forked"))

    def _absorbed(self) -> Metric:
        told = "How many values were kept in the state of a processor; in values."
        return self._counter("absorbed_events", told, self._by_processor("absorbed"))

    def _in_flight(self) -> Metric:
        told = "How many of the values received have not come to an end yet; in values."
        labels = ["pipeline", "component_id", "component_kind"]
        family = GaugeMetricFamily("streamlab_component_in_flight_events", told, labels=labels)
        for component, count in self._by_processor("in_flight").items():
            family.add_metric([self._pipeline, *component], count)
        return family

    def _processing_duration(self) -> Metric:
        told = "How long a processor took for one value, of the timed sample of its values, not of all; in seconds."
        labels = ["pipeline", "component_id", "component_kind"]
        family = HistogramMetricFamily("streamlab_component_processing_duration_seconds", told, labels=labels)
        for name in self._processors:
            timed = self._snapshot.timed.get(name, Histogram())
            family.add_metric([self._pipeline, *self._component(name)], buckets(timed), timed.total)
        return family

    def _end_to_end_duration(self) -> Metric:
        told = "How long a line took, from when it was taken from the source until the sink had what came of it; in seconds."
        family = HistogramMetricFamily("streamlab_pipeline_end_to_end_duration_seconds", told, labels=["pipeline"])
        family.add_metric([self._pipeline], buckets(self._snapshot.end_to_end), self._snapshot.end_to_end.total)
        return family

    def _component(self, component: Component) -> Labels:
        """Return the labels ``component_id`` and ``component_kind``."""
        kind = "source" if component is None else "sink" if component is EMIT else "processor"
        return self._ids[component], kind

    def _by_processor(self, name: str) -> dict[Labels, int]:
        """Return one of `Counts` for each processor."""
        return {self._component(processor): getattr(counts, name) for processor, counts in self._counts.items()}

    def _failures(self) -> Iterator[tuple[str | None, str]]:
        """Yield what may fail: component and failure kind."""
        for kind in FAILURE_KINDS:
            yield from ((at, kind) for at in ([None] if kind in BEFORE_ENTRY else self._processors))

    def _counter(self, name: str, told: str, values: Mapping[Labels, int], *labels: str) -> Metric:
        """Return the family of a counter; its values are by component, and by more labels."""
        named = ["pipeline", "component_id", "component_kind", *labels]
        family = CounterMetricFamily(f"streamlab_component_{name}", told, labels=named)
        for of, value in values.items():
            family.add_metric([self._pipeline, *of], value)
        return family
