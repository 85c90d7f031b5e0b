"""How long a line takes from a slow source to the output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter, sleep

from benchmarks.contenders import pipeline
from benchmarks.measure import percentile


@dataclass(frozen=True)
class Latency:
    """Times from the ``yield`` of a line to the call of the output function, in milliseconds.

    Attributes:
        rate: lines a second.
        lines: how many there were.
    """

    rate: float
    lines: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


def latency(rate: float = 100.0, seconds: float = 5.0) -> Latency:
    """Run ``rate`` lines a second through the pipeline for some seconds, and time each of them."""
    count = round(rate * seconds)
    given: list[float] = []
    taken: list[float] = []
    outputs: list[str] = []

    def trickle() -> Iterator[str]:
        begin = perf_counter()
        for number in range(count):
            sleep(max(0.0, begin + number / rate - perf_counter()))
            given.append(perf_counter())
            yield f"{'error' if number % 10 == 0 else 'info'}: line {number}"

    def output(value: str) -> None:
        taken.append(perf_counter())
        outputs.append(value)

    pipeline().run(trickle(), trace=True, output=output)
    numbers = [int(value.strip("[]").split()[-1]) for value in outputs]
    if numbers != list(range(count)):
        raise ValueError(f"latency: {len(outputs)} outputs for {count} lines, or not in order")
    times = [(out - into) * 1000 for into, out in zip(given, taken, strict=True)]
    return Latency(rate, count, percentile(times, 50), percentile(times, 99), max(times))
