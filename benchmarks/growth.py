"""How time and memory grow with the input, from ten thousand lines on, tenfold: neither may pay for what came before.

Each size runs in a fresh process, with ``trace=True``: from a file through the plain functions into a sink that keeps
nothing, and from file to file by built-ins. ``python -m benchmarks.growth WAY WARM_UP SOURCE`` is such a process.

Linux only: it reads the peak of the resident memory in ``/proc/self/status``. ``getrusage`` would not do: a process that
is started by a large one has that one's peak for its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.apart import ROOT
from benchmarks.contenders import pipeline
from benchmarks.corpus import corpus
from benchmarks.measure import Timing
from benchmarks.memory import DropSink, peak_mb
from benchmarks.works import demo_builtins

GROWTH = "growth"
SMALLEST = 10_000
ROUNDS = 3  # at most: one round takes a while


@dataclass
class Growth(Timing):
    """How long one size took one way, and its most resident memory in MB of a million bytes, round by round."""

    peaks_mb: list[float] = field(default_factory=list)

    @property
    def peak_mb(self) -> float:
        """The median of the peaks."""
        return median(self.peaks_mb)


def _functions(source: Path) -> tuple[float, int]:
    """Run the plain functions; return the seconds, and how many lines came out."""
    sink = DropSink(every=sys.maxsize)
    begin = perf_counter()
    pipeline().run(source, trace=True, output=sink)
    return perf_counter() - begin, sink.taken


def _builtins(source: Path) -> tuple[float, int]:
    """Run the built-ins; return the seconds, and how many lines came out."""
    target = source.with_suffix(".out")
    begin = perf_counter()
    demo_builtins(source, target)
    seconds = perf_counter() - begin
    with target.open("rb") as lines:
        count = sum(1 for _ in lines)
    target.unlink()
    return seconds, count


@dataclass(frozen=True)
class Way:
    """A way to run the demo's work; ``run`` takes the source, and returns the seconds, and how many lines came out."""

    run: Callable[[Path], tuple[float, int]]
    about: str


WAYS = {
    "functions": Way(_functions, "from a file into a sink that keeps nothing, trace=True"),
    "built-ins": Way(_builtins, "from file to file, trace=True"),
}


def growth(most: int, rounds: int, say: Callable[[str], None]) -> list[Growth]:
    """Time each size up to ``most`` lines, each way, once a round."""
    sizes = [size for size in (SMALLEST * 10**power for power in range(20)) if size <= most]
    found = [Growth(way, size) for way in WAYS for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        sources = {size: _source(Path(folder, f"{size}.log"), size) for size in sizes}
        for number in range(1, min(rounds, ROUNDS) + 1):
            for one in found:
                say(f"growth, {one.name}, {one.lines:,} lines, round {number} of {min(rounds, ROUNDS)}")
                _measure(one, sources[SMALLEST], sources[one.lines])
    return found


def _source(path: Path, count: int) -> Path:
    """Write a file of ``count`` lines, a multiple of the smallest size: the same ones over and over."""
    block = "\n".join(corpus(SMALLEST).lines).encode(errors="surrogateescape") + b"\n"
    with path.open("wb") as out:
        for _ in range(count // SMALLEST):
            out.write(block)
    return path


def _measure(one: Growth, warm_up: Path, source: Path) -> None:
    """Run one size in a process of its own, after a small run there that pays for its imports, and note what it took.

    Raises:
        ValueError: lines were lost.
    """
    command = [sys.executable, "-m", "benchmarks.growth", one.name, str(warm_up), str(source)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    seconds, count, peak = done.stdout.split()
    if int(count) != one.lines:
        raise ValueError(f"growth, {one.name}: {one.lines:,} lines went in, {int(count):,} came out")
    one.seconds.append(float(seconds))
    one.peaks_mb.append(float(peak))


def main() -> int:
    """Run one size in this process; print the seconds, the lines that came out, and the peak of memory in MB."""
    way, warm_up, source = sys.argv[1:]
    WAYS[way].run(Path(warm_up))
    seconds, count = WAYS[way].run(Path(source))
    print(seconds, count, peak_mb())
    return 0


if __name__ == "__main__":
    sys.exit(main())
