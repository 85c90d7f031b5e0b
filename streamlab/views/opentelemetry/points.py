"""What a snapshot says, as OpenTelemetry has it: values by instrument and attributes, and durations in buckets. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from streamlab.metrics import Histogram, Snapshot
from streamlab.paths import EMIT, Counts, Fate, Target

#: What a value is of: attributes by name.
Attributes = tuple[tuple[str, str | bool], ...]
#: Values by instrument, and by what they are of.
Points = dict[str, Counter[Attributes]]
#: Durations by instrument and by what they are of.
Durations = dict[tuple[str, Attributes], Histogram]

#: Counters, with what they count; ``in_flight_events`` is the one that falls.
COUNTERS = {
    "streamlab.component.received_events": "Values that came in",
    "streamlab.component.sent_events": "Values that went on, by the component_id that they went to",
    "streamlab.component.discarded_events": "Values that ended here: filtered, or failed and skipped or dead letters",
    "streamlab.component.errors": "Values that failed, by kind of failure",
    "streamlab.component.retries": "Attempts beyond the first",
    "streamlab.component.dead_lettered_events": "Values that became dead letters, which are among those discarded",
    "streamlab.component.absorbed_events": "Values that were kept in a processor's state",
    "streamlab.component.forked_events": "Values that were made beyond those that came in",
}
IN_FLIGHT = "streamlab.component.in_flight_events"
PROCESSING, END_TO_END = "streamlab.component.processing_duration", "streamlab.pipeline.end_to_end_duration"
HISTOGRAMS = {
    PROCESSING: "How long a processor took for a value; a sample",
    END_TO_END: "How long lines took from the source to the sink",
}

#: Upper bounds of the buckets of both, seconds.
BOUNDS = (*(float(f"{factor}e{exponent}") for exponent in range(-6, 1) for factor in (1, 2, 5)), 10.0)


def clean(text: str) -> str:
    r"""Return a text that can be sent: bytes of a log that were not UTF-8 are escaped.

    >>> clean("caf\udce9")
    'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def component(pipeline: str, kind: str, id: str, **more: str | bool) -> Attributes:
    """Return the attributes of what a component did."""
    named: dict[str, str | bool] = {"pipeline": pipeline, "component_id": id, "component_kind": kind, **more}
    return tuple((name, clean(value) if isinstance(value, str) else value) for name, value in named.items())


def points(pipeline: str, processors: Collection[str], snapshot: Snapshot, *, ended: bool) -> Points:
    """Return the values of all counters.

    Args:
        pipeline: its name.
        processors: their names.
        snapshot: the counts.
        ended: whether it is the last one. Before that, what is in flight may still go back to the source, as if it had not
            been read, and counters must never fall: so it is not counted as received.
    """
    told: Points = {name: Counter() for name in (*COUNTERS, IN_FLIGHT)}
    totals, source, sink = snapshot.totals, free("source", processors), free("sink", processors)

    def tell(name: str, at: Target | None, count: int, **more: str | bool) -> None:
        kind, id = ("source", source) if at is None else ("sink", sink) if at is EMIT else ("processor", at)
        told[f"streamlab.component.{name}"][component(pipeline, kind, id, **more)] += count

    def arrived(counts: Counts) -> int:
        return counts.received if ended else counts.received - counts.in_flight

    tell("received_events", None, arrived(totals.run))
    tell("received_events", EMIT, totals.run.emitted)
    for name in processors:
        counts = totals.processors.get(name, Counts())
        tell("received_events", name, arrived(counts))
        tell("discarded_events", name, counts.filtered, intentional=True, reason="filtered")
        tell("retries", name, snapshot.retries.get(name, 0))
        tell("dead_lettered_events", name, counts.dead_lettered)
        tell("absorbed_events", name, counts.absorbed)
        tell("forked_events", name, counts.forked)
        tell("in_flight_events", name, counts.in_flight)
    for (origin, target), count in totals.edges.items():
        waiting = 0 if ended or origin is not None or target is EMIT else totals.processors[target].in_flight
        tell("sent_events", origin, count - waiting, output=sink if target is EMIT else clean(target))
    for (at, failure, fate), count in totals.failures.items():
        tell("errors", at, count, error_type=failure)
        if fate is Fate.DEAD_LETTER:
            tell("discarded_events", at, count, intentional=False, reason=failure)
            if at is None:  # processors have told theirs
                tell("dead_lettered_events", None, count)
        elif fate is Fate.FILTERED:
            tell("discarded_events", at, count, intentional=False, reason="error")
            tell("discarded_events", at, -count, intentional=True, reason="filtered")
    return told


def free(id: str, processors: Collection[str]) -> str:
    """Return what source or sink are called where a processor may have that name.

    >>> free("sink", ["start", "sink"])
    'sink_'
    """
    while id in processors:
        id += "_"
    return id


def histograms(pipeline: str, snapshot: Snapshot) -> Durations:
    """Return the durations so far, by instrument and what they are of."""
    timed = {(PROCESSING, component(pipeline, "processor", name)): hops for name, hops in snapshot.timed.items()}
    return timed | {(END_TO_END, (("pipeline", clean(pipeline)),)): snapshot.end_to_end}


def buckets(histogram: Histogram) -> list[int]:
    """Return how many durations each bucket of `BOUNDS` has, and the one beyond them.

    >>> histogram = Histogram()
    >>> histogram.add([1e-6, 3e-6, 60.0])
    >>> [(bound, count) for bound, count in zip((*BOUNDS, None), buckets(histogram), strict=True) if count]
    [(1e-06, 1), (5e-06, 1), (None, 1)]
    """
    counts: list[int] = np.diff([0, *histogram.within(BOUNDS), histogram.count]).tolist()
    return counts


def durations(histogram: Histogram, most: int) -> list[tuple[float, int]]:
    """Return durations, with counts, that fill the same buckets and add up to the same time.

    Of those that fall between two edges, all are taken to be at the same share of the way from one to the other.

    Args:
        histogram: the durations.
        most: when there are more, that many, in proportion.

    >>> histogram = Histogram()
    >>> histogram.add([0.25], 3)
    >>> durations(histogram, 100)
    [(0.25, 3)]
    """
    edges = Histogram.EDGES
    low, high = np.concatenate([[0.0], edges]), np.concatenate([edges, edges[-1:]])
    counts = np.diff([0, *histogram.within(edges.tolist()), histogram.count])
    width = counts @ (high - low)
    share = (histogram.total - counts @ low) / width if width else 1.0
    # Not quite 0: an upper edge belongs to the bucket below it.
    values = np.minimum(low + min(max(share, 1e-6), 1.0) * (high - low), high)
    if histogram.count > most:
        counts = np.diff(np.rint(np.cumsum(counts) * (most / histogram.count)).astype(np.int64), prepend=0)
    return [(float(values[index]), int(counts[index])) for index in np.flatnonzero(counts)]
