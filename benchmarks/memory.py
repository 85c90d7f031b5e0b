"""``python -m benchmarks.memory``: stream millions of lines through the pipeline and see whether memory grows.

Prints the resident memory every million lines, then how much it grew after the first million; exits with 1 when
that is more than 20 MB. Linux only: it reads ``/proc/self``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import pipeline
from data.generate import lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIMIT_MB = 20.0
EVERY = 1_000_000


def resident_mb() -> float:
    """Return the resident memory of this process, in MB of a million bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float:
    """Return the most memory that was ever resident in this process, in MB of a million bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = next(line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024 / 1e6


class DropSink:
    """A sink that drops everything, and notes the resident memory each time ``every`` outputs have passed.

    Attributes:
        taken: how many outputs have passed.
        samples: the resident memory in MB, after the first ``every`` outputs, the second, and so on.
    """

    name = "drop"

    def __init__(self, every: int = EVERY) -> None:
        self.taken = 0
        self.samples: list[float] = []
        self._every = every

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Sequence[tuple[int, Exception]]:
        """Drop a batch."""
        self.taken += len(values)
        while len(self.samples) < self.taken // self._every:
            self.samples.append(resident_mb())
            print(f"{len(self.samples) * self._every:>13,} lines {self.samples[-1]:8.1f} MB", flush=True)
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


def growth_mb(count: int, every: int = EVERY) -> float:
    """Stream ``count`` generated lines, traced, and return by how many MB the memory grew after the first ``every``.

    Raises:
        ValueError: ``count`` is less than twice ``every``, or lines were lost.
    """
    if count < 2 * every:
        raise ValueError(f"growth shows over {2 * every:,} lines or more, not {count:,}")
    sink = DropSink(every)
    pipeline().run(lines("app", count), trace=True, output=sink)
    if sink.taken != count:
        raise ValueError(f"{count:,} lines went in, {sink.taken:,} came out")
    return max(sink.samples[1:]) - sink.samples[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Does memory grow with the input?")
    parser.add_argument("--lines", type=int, default=10_000_000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--every", type=int, default=EVERY, metavar="N", help="lines between looks (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.lines < 2 * options.every:
        parser.error(f"--lines must be {2 * options.every} or more, not {options.lines}")
    growth = growth_mb(options.lines, options.every)
    passed = growth <= LIMIT_MB
    verdict = "fine" if passed else "too much"
    print(f"grew by {growth:.1f} MB after the first {options.every:,} lines: {verdict} (at most {LIMIT_MB:g} MB)")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
