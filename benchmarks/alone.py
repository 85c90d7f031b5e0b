"""``python -m benchmarks.alone WORK CONTENDER SOURCE TARGET``: one contender does one work, in a process of its own.

So nobody pays for the threads, the memory and the caches of another one. It does a small share of the work first, which pays
for its imports, and prints the seconds that the whole took by its own clock.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from time import perf_counter

from benchmarks.works import WORKS

WARM_UP_LINES = 20_000


def alone(work: str, contender: str, source: Path, target: Path) -> float:
    """Return the seconds that a contender takes in a new process."""
    command = [sys.executable, "-m", "benchmarks.alone", work, contender, str(source), str(target)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main(work: str, contender: str, source: Path, target: Path) -> None:
    """Do the work, after a small share of it, and print the seconds."""
    [run] = [one.run for w in WORKS if w.name == work for one in w.contenders if one.name == contender]
    with tempfile.TemporaryDirectory() as folder, source.open("rb") as lines:
        small = Path(folder) / "small"
        small.write_bytes(b"".join(islice(lines, WARM_UP_LINES)))
        run(small, small.with_suffix(".out"))
    begin = perf_counter()
    run(source, target)
    print(perf_counter() - begin)


if __name__ == "__main__":
    name, who, *paths = sys.argv[1:]
    main(name, who, *map(Path, paths))
