"""``python -m benchmarks.growth``: how time and memory grow from ten thousand lines to ten million.

Each size runs from file to file in a process of its own, with ``trace=True``: by Python functions, and by built-ins.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.corpus import corpus
from benchmarks.works import demo_builtins, demo_functions

WAYS = {"functions": demo_functions, "built-ins": demo_builtins}
SMALLEST = 10_000


def one(way: str, source: str) -> None:
    """Run one size in this process; print seconds, and the most memory that was resident, in MB."""
    begin = perf_counter()
    WAYS[way](Path(source), Path(f"{source}.{way}"))
    print(perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description="Does time grow in proportion?")
    parser.add_argument("--most", type=int, default=10_000_000, metavar="N", help="lines (default: %(default)s)")
    most = parser.parse_args(arguments).most
    block = "\n".join(corpus(SMALLEST).lines).encode(errors="surrogateescape") + b"\n"
    print(f"{'lines':>12}  {'way':10} {'seconds':>9} {'us a line':>10} {'peak MB':>8}")
    count = SMALLEST
    while count <= most:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "lines.log")
            with source.open("wb") as out:
                for _ in range(count // SMALLEST):
                    out.write(block)
            for way in WAYS:
                command = f"from benchmarks.growth import one; import polars; one({way!r}, {str(source)!r})"
                done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
                seconds, megabytes = map(float, done.stdout.split())
                print(f"{count:12,}  {way:10} {seconds:9.3f} {seconds / count * 1e6:10.3f} {megabytes:8.1f}", flush=True)
        count *= 10
    return 0


if __name__ == "__main__":
    sys.exit(main())
