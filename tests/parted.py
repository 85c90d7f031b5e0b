"""A run that writes parts slowly, to be killed: a program of its own, which imports little."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from streamlab import Pipeline
from streamlab.checkpoint import Checkpoint
from streamlab.run import Run
from streamlab.sinks.parquet import ParquetSink
from streamlab.sinks.parts import FileParts


def each(folder: Path) -> Checkpoint:
    """Return a checkpoint that is written so often that kills come before, in and after that."""
    return Checkpoint(folder / "state", interval=0.02)


def slow(folder: Path, way: str) -> Run:
    """Begin a run from ``in.log`` in a folder to ``out`` there, or go on with it."""

    def slowly(line: str) -> str:
        time.sleep(0.00005)
        return line

    sink = ParquetSink(folder / "out", part_rows=700) if way == "parquet" else FileParts(folder / "out", part_rows=700)
    return Pipeline("slowly").add("slowly", slowly).start(folder / "in.log", output=sink, checkpoint=each(folder))


if __name__ == "__main__":
    live = slow(Path(sys.argv[1]), sys.argv[2])
    print(live.resumed, flush=True)
    live.wait()
    while True:  # it is to be killed
        time.sleep(1)
