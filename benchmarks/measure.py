"""Measuring side by side: every contender once a round, round after round, so that a slow minute hits all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Trial:
    """Something to time.

    Attributes:
        name: what the table calls it.
        lines: how many lines it takes through, for comparison between trials of different size.
        action: what is timed.
        check: takes what ``action`` gave, after the clock was stopped; raises when it is not right.
        own_clock: whether ``action`` gives the seconds that count, measured where the work was done, in a process of its
            own; else those from its call to its return do.
    """

    name: str
    lines: int
    action: Callable[[], Any]
    check: Callable[[Any], None]
    own_clock: bool = False


@dataclass
class Timing:
    """How long a trial took, in seconds, round by round."""

    name: str
    lines: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median time of a line, in seconds."""
        return median(self.seconds) / self.lines

    @property
    def best(self) -> float:
        """The best time of a line, in seconds."""
        return min(self.seconds) / self.lines


@dataclass(frozen=True)
class Ratio:
    """Two timings compared: of their medians, and of their best times."""

    median: float
    best: float


def speed(of: Timing, against: Timing) -> Ratio:
    """Return how fast ``of`` is when ``against`` is 1.0; larger is faster."""
    return Ratio(against.median / of.median, against.best / of.best)


def times(of: Timing, over: Timing) -> Ratio:
    """Return how many times as long as ``over`` it takes: 0.5 is half as long, 2 is twice."""
    return Ratio(of.median / over.median, of.best / over.best)


def cost(of: Timing, over: Timing) -> Ratio:
    """Return what part of its time ``of`` takes more than ``over``: 0.05 is five percent; below 0 it takes less."""
    return Ratio(of.median / over.median - 1, of.best / over.best - 1)


def interleave(trials: Sequence[Trial], rounds: int, begin: Callable[[int], None]) -> dict[str, Timing]:
    """Time every trial once in each of ``rounds``, each round beginning with another one.

    Args:
        trials: what to time; their names differ.
        rounds: how often, 1 or more.
        begin: called with the number of each round, from 1, before it.

    Returns:
        The timings by name, in the order of ``trials``.
    """
    if not trials:
        return {}
    timings = {trial.name: Timing(trial.name, trial.lines) for trial in trials}
    for turn in range(rounds):
        begin(turn + 1)
        first = turn % len(trials)
        for trial in [*trials[first:], *trials[:first]]:
            timings[trial.name].seconds.append(_seconds(trial))
    return timings


def _seconds(trial: Trial) -> float:
    """Time one trial once, from a swept heap, and check what it gave."""
    gc.collect()
    begin = perf_counter()
    result = trial.action()
    seconds = perf_counter() - begin
    trial.check(result)
    return float(result) if trial.own_clock else seconds


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile, 1 to 99, of two or more values."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]
