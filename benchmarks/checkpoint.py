"""``python -m benchmarks.checkpoint``: what saving every second costs a run from file to file.

Runs take turns, with a checkpoint and without: Python functions, built-ins, a class that keeps 10,000 keys, and a log of
which every tenth line is a dead letter. Prints the rate with over the rate without, by the medians and by the best turns,
and how many moments a run saved.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from data.generate import lines
from streamlab import Pipeline, processors
from streamlab.checkpoint import Checkpoint, Moment
from streamlab.demo import demo

SEED = 7


class PerHost:
    """Counts the lines of a key."""

    def __init__(self) -> None:
        self.seen = 0
        self.last = ""

    def __call__(self, line: str) -> str:
        self.seen += 1
        self.last = line
        return f"{self.seen} {line}"


def every_tenth(line: str) -> str:
    """Fail on a tenth of the lines."""
    if hash(line) % 10 == 0:
        raise ValueError("not this one")
    return line


def works() -> dict[str, Callable[[], Pipeline]]:
    """Return what makes the pipelines, by name."""
    return {
        "functions": demo.copy,
        "built-ins": lambda: (
            Pipeline("access")
            .add("parse", processors.parse_access_log(), to="once")
            .add("once", processors.dedupe(by="path", limit=1000), to="write")
            .add("write", processors.to_json())
        ),
        "10,000 keys": lambda: Pipeline("keys").add("host", PerHost, key=lambda line: hash(line) % 10_000),
        "10% dead letters": lambda: Pipeline("fails").add("fail", every_tenth),
    }


class Counted(Checkpoint):
    """A checkpoint that counts what it saves."""

    saved = 0

    def save(self, moment: Moment) -> None:
        """Save a moment."""
        self.saved += 1
        super().save(moment)


def turn(pipeline: Pipeline, source: Path, folder: Path, checkpoint: Checkpoint | None) -> float:
    """Return the seconds that a run takes."""
    output = folder / f"{time.monotonic_ns()}.out"
    letters = None if checkpoint is not None else folder / f"{time.monotonic_ns()}.letters"
    start = time.perf_counter()
    run = pipeline.run(source, output=output, checkpoint=checkpoint, dead_letters=letters)
    seconds = time.perf_counter() - start
    assert run.state == "finished", run.exception
    output.unlink()
    return seconds


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a turn, about")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, make in works().items():
            source = folder / "in.log"
            kind = "access" if name == "built-ins" else "app"
            text = "\n".join(lines(kind, 100_000, SEED)) + "\n"
            source.write_text(text)
            rate = 100_000 / turn(make(), source, folder, None)
            times = max(int(rate * args.seconds / 100_000), 1)
            with source.open("w") as file:
                for _ in range(times):
                    file.write(text)
            with_, without, saved = [], [], 0
            for number in range(args.turns):
                without.append(turn(make(), source, folder, None))
                checkpoint = Counted(folder / f"checkpoint-{name}-{number}")
                with_.append(turn(make(), source, folder, checkpoint))
                saved = checkpoint.saved
            count = 100_000 * times
            medians = statistics.median(without) / statistics.median(with_)
            print(
                f"{name}: {count / statistics.median(without):,.0f} lines/s without, ratio with {medians:.3f} by medians,"
                f" {min(without) / min(with_):.3f} by best turns; {saved} moments a run",
                flush=True,
            )


if __name__ == "__main__":
    main()
