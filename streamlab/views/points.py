"""What a run has counted, as values by name and labels, for systems that collect them. Pure; shared by the views.

Names and labels are those of OpenTelemetry; Prometheus writes ``_`` for ``.``. ``output`` of what was sent is the
``component_id`` of what received it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from streamlab.metrics import Histogram, Snapshot
from streamlab.paths import EMIT, Counts, Fate, Target
from streamlab.pipeline import Pipeline
from streamlab.policy import FAILURE_KINDS

#: A processor by its name, the source (``None``), or the sink (`EMIT`).
Component = Target | None
#: What a value is of: labels with their names.
Labels = tuple[tuple[str, str | bool], ...]
#: Values by counter, and by what they are of.
Points = dict[str, Counter[Labels]]
#: Durations by histogram and by what they are of.
Durations = dict[tuple[str, Labels], Histogram]

#: Counters, with what they count; `IN_FLIGHT` is the one that falls.
COUNTERS = {
    "streamlab.component.received_events": (
        "How many values came in: to the source lines, to the sink outputs that it took; in values."
    ),
    "streamlab.component.sent_events": "How many values went on, by the component_id that they went to; in values.",
    "streamlab.component.discarded_events": (
        "How many values ended here: filtered on purpose (intentional), filtered as they failed and on_error is skip"
        " (reason error), or dead letters (reason is the failure kind); of the source also lines that were lost before they"
        " were read (reason lost); in values."
    ),
    "streamlab.component.errors": ("How many values failed for good, whatever came of them, by failure kind; in values."),
    "streamlab.component.retries": "How many attempts were made beyond the first ones; in attempts.",
    "streamlab.component.dead_lettered_events": (
        "How many values became dead letters, which are among those discarded; in values."
    ),
    "streamlab.component.forked_events": (
        "How many values were made beyond those received, by fan-out or flush; in values."
    ),
    "streamlab.component.absorbed_events": "How many values were kept in the state of a processor; in values.",
}
IN_FLIGHT = "streamlab.component.in_flight_events"
IN_FLIGHT_TOLD = "How many of the values received have not come to an end yet; in values."
PROCESSING, END_TO_END = "streamlab.component.processing_duration", "streamlab.pipeline.end_to_end_duration"
HISTOGRAMS = {
    PROCESSING: "How long a processor took for one value, of the timed sample of its values, not of all; in seconds.",
    END_TO_END: (
        "How long a line took, from when it was taken from the source until the sink had what came of it; in seconds."
    ),
}

#: Upper bounds of the buckets of both, seconds. All are edges of `Histogram`, so the counts are exact.
BOUNDS = (*(float(f"{factor}e{exponent}") for exponent in range(-6, 1) for factor in (1, 2, 5)), 10.0)

#: Failure kinds of lines that do not get as far as the first processor; the source has them.
BEFORE_ENTRY = ("decode", "oversize")


def points(pipeline: Pipeline, snapshot: Snapshot, *, settled: bool) -> Points:
    """Return the values of all counters; those that are known beforehand are there from the beginning, with 0.

    Args:
        pipeline: what runs.
        snapshot: the counts.
        settled: whether what is in flight counts as received only once it has come to its end. Until then it may go back to
            the source, as if it had not been read, and counters that are added up elsewhere must never fall.
    """
    told: Points = {name: Counter() for name in (*COUNTERS, IN_FLIGHT)}
    components, totals = Components(pipeline), snapshot.totals
    processors = {name: totals.processors.get(name, Counts()) for name in components.processors}

    def tell(name: str, at: Component, count: int, **more: str | bool) -> None:
        told[f"streamlab.component.{name}"][components.labels(at, **more)] += count

    def arrived(counts: Counts) -> int:
        return counts.received - counts.in_flight if settled else counts.received

    tell("received_events", None, arrived(totals.run))
    tell("received_events", EMIT, totals.run.emitted)
    tell("discarded_events", None, snapshot.lost_lines, intentional=False, reason="lost")
    for name, counts in processors.items():
        tell("received_events", name, arrived(counts))
        tell("discarded_events", name, counts.filtered, intentional=True, reason="filtered")
        tell("retries", name, snapshot.retries.get(name, 0))
        for column in ("dead_lettered", "forked", "absorbed", "in_flight"):
            tell(f"{column}_events", name, getattr(counts, column))
    for (at, target), count in (dict.fromkeys(components.edges(), 0) | totals.edges).items():
        waiting = processors[target].in_flight if settled and at is None and target is not EMIT else 0
        tell("sent_events", at, count - waiting, output=components.ids[target])
    for (at, kind, fate), count in (dict.fromkeys(components.failures(), 0) | totals.failures).items():
        tell("errors", at, count, error_type=kind)
        if fate is Fate.DEAD_LETTER:
            tell("discarded_events", at, count, intentional=False, reason=kind)
            if at is None:  # processors have told theirs
                tell("dead_lettered_events", None, count)
        elif fate is Fate.FILTERED:
            tell("discarded_events", at, count, intentional=False, reason="error")
            tell("discarded_events", at, -count, intentional=True, reason="filtered")
    return told


def histograms(pipeline: Pipeline, snapshot: Snapshot) -> Durations:
    """Return the durations so far, by histogram and what they are of."""
    components = Components(pipeline)
    of_all: Durations = {(END_TO_END, (("pipeline", clean(pipeline.name)),)): snapshot.end_to_end}
    return of_all | {
        (PROCESSING, components.labels(name)): snapshot.timed.get(name, Histogram()) for name in components.processors
    }


def buckets(histogram: Histogram) -> list[int]:
    """Return how many durations each bucket of `BOUNDS` has, and the one beyond them.

    >>> histogram = Histogram()
    >>> histogram.add([1e-6, 3e-6, 60.0])
    >>> [(bound, count) for bound, count in zip((*BOUNDS, None), buckets(histogram), strict=True) if count]
    [(1e-06, 1), (5e-06, 1), (None, 1)]
    """
    counts: list[int] = np.diff([0, *histogram.within(BOUNDS), histogram.count]).tolist()
    return counts


class Components:
    """Source, processors and sink of a pipeline.

    Attributes:
        processors: by name.
        ids: what each component is called, see `component_ids`.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.processors = pipeline.processors
        self.ids = component_ids(self.processors)

    def labels(self, at: Component, **more: str | bool) -> Labels:
        """Return the labels of what a component did."""
        kind = "source" if at is None else "sink" if at is EMIT else "processor"
        named = {"pipeline": clean(self._pipeline.name), "component_id": self.ids[at], "component_kind": kind}
        return (*named.items(), *more.items())

    def edges(self) -> Iterator[tuple[str | None, Target]]:
        """Yield the ways that are declared, from the source on."""
        yield None, self._pipeline.entry.name
        yield from self._pipeline.edges()

    def failures(self) -> Iterator[tuple[str | None, str, Fate]]:
        """Yield what may fail, and what comes of it: component, failure kind, fate."""
        for kind in FAILURE_KINDS:
            yield from ((at, kind, Fate.DEAD_LETTER) for at in ([None] if kind in BEFORE_ENTRY else self.processors))
        yield from ((name, "processing", Fate.FILTERED) for name, p in self.processors.items() if p.on_error == "skip")


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
