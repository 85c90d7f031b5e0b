"""The instruments of a meter provider: they show the counters of all runs that are exported through it."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from streamlab import __version__
from streamlab.metrics import Histogram
from streamlab.run import Run
from streamlab.runners import ENDED
from streamlab.views.points import (
    BOUNDS,
    COUNTERS,
    HISTOGRAMS,
    IN_FLIGHT,
    IN_FLIGHT_TOLD,
    Durations,
    Labels,
    Points,
    histograms,
    points,
)

#: Durations that are recorded of one kind in one collection: a call each, which takes some microseconds.
MOST_RECORDED = 10_000

#: Takes durations: instrument, what they are of, all so far, and those that are new.
Taker = Callable[[str, Labels, Histogram, Histogram], None]


class Instruments:
    """What a provider's readers collect.

    All of a collection is of one moment: the snapshots are made when an instrument is asked a second time, since that is
    where a new collection has begun. A provider collects for one reader after the other, so that collections do not mix.

    Args:
        provider: where they are made.
        taker: takes the durations; by default they are recorded in histograms of the provider.
    """

    def __init__(self, provider: MeterProvider, taker: Taker | None = None) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Run, Durations] = {}
        self._left: weakref.WeakKeyDictionary[Run, tuple[Points, Durations]] = weakref.WeakKeyDictionary()
        self._ended: Points = {name: Counter() for name in (*COUNTERS, IN_FLIGHT)}
        self._points = self._ended
        self._asked = set(self._ended)
        meter = provider.get_meter("streamlab", __version__)
        for name, description in COUNTERS.items():
            meter.create_observable_counter(name, [partial(self._observe, name)], "{event}", description)
        meter.create_observable_up_down_counter(IN_FLIGHT, [partial(self._observe, IN_FLIGHT)], "{event}", IN_FLIGHT_TOLD)
        self._taker = taker or self._record
        if taker is None:
            self._histograms = {
                name: meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=BOUNDS)
                for name, description in HISTOGRAMS.items()
            }

    def begin(self, run: Run) -> None:
        """Show a run, too; one that was shown before goes on where it was left."""
        with self._lock:
            if run in self._left:
                left, before = self._left.pop(run)
                _add(self._ended, left, -1)
                self._runs[run] = before
            self._runs.setdefault(run, {})

    def end(self, run: Run) -> None:
        """Keep the numbers of a run as they are now, and forget the run."""
        with self._lock:
            if run in self._runs:
                last = self._look(run)
                _add(self._ended, last)
                self._left[run] = last, self._runs.pop(run)

    def _observe(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            if name in self._asked:
                self._points = {known: values.copy() for known, values in self._ended.items()}
                for run in self._runs:
                    _add(self._points, self._look(run))
                self._asked = set()
            self._asked.add(name)
            return [Observation(value, dict(attributes)) for attributes, value in self._points[name].items()]

    def _look(self, run: Run) -> Points:
        """Return a run's counters, and pass on the durations that have come since the last look."""
        ended = run.state in ENDED  # before the counters: once the run has ended, they are the last ones
        snapshot = run.snapshot()
        before = self._runs[run]
        now = self._runs[run] = histograms(run.pipeline, snapshot)
        for (name, attributes), histogram in now.items():
            self._taker(name, attributes, histogram, histogram.since(before.get((name, attributes))))
        return points(run.pipeline, snapshot, settled=not ended)

    def _record(self, name: str, attributes: Labels, _: Histogram, news: Histogram) -> None:
        """Record what is new; in a collection, histograms are read after all callbacks, so that they have it."""
        named, context = dict(attributes), Context()
        for seconds, times in durations(news, MOST_RECORDED):
            for _again in range(times):
                self._histograms[name].record(seconds, named, context)


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


def _add(told: Points, more: Points, times: int = 1) -> None:
    for name, values in more.items():
        for attributes, value in values.items():
            told[name][attributes] += times * value


# A provider keeps an instrument for good, and one of each name. It also keeps alive what the instruments call, so that a
# strong reference from here would only keep the provider.
_shared: weakref.WeakKeyDictionary[MeterProvider, weakref.ref[Instruments]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def shared(provider: MeterProvider) -> Instruments:
    """Return the instruments of a provider, made when it has none."""
    with _lock:
        known = _shared.get(provider)
        instruments = known() if known is not None else None
        if instruments is None:
            instruments = Instruments(provider)
            _shared[provider] = weakref.ref(instruments)
        return instruments
