"""A run that is killed again and again, at random times, and gone on with each time: what came of it in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamlab import Pipeline
from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.run import Run

LEVELS = ("info", "warn", "error")


class PerLevel:
    """Numbers the lines of a level; every 50th goes to two places."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, value: dict[str, Any]) -> Any:
        self.seen += 1
        out = {**value, "nth": self.seen}
        return [out, ("shout", out)] if self.seen % 50 == 0 else out

    def flush(self) -> Iterator[dict[str, Any]]:
        yield {"total": self.seen}


def stubborn() -> Pipeline:
    """Return a pipeline that keeps state by key, forks, filters, fails and flushes."""
    pipeline = Pipeline("stubborn")
    pipeline.add("parse", parse, to="count")
    pipeline.add("count", PerLevel, key="level", to=("shout", "write"))
    pipeline.add("shout", lambda value: {**value, "level": value["level"].upper()}, to="write")
    pipeline.add("write", lambda value: json.dumps(value, sort_keys=True))
    return pipeline


def parse(line: str) -> dict[str, Any] | None:
    level, _, number = line.partition(" ")
    if int(number) % 97 == 0:
        raise ValueError(f"{number} is not wanted")
    return None if int(number) % 89 == 0 else {"level": level, "number": int(number)}


def write_lines(path: Path, count: int, first: int = 0) -> None:
    with path.open("a") as file:
        file.writelines(f"{LEVELS[n * 7 % 3]} {n}\n" for n in range(first, first + count))


def run(folder: Path, interval: float = 0.05, **options: Any) -> Run:
    """Run the pipeline over ``in.log`` in a folder to its end, or go on with it."""
    checkpoint = Checkpoint(folder / "checkpoint", interval=interval)
    pipeline = stubborn()
    made = pipeline.run(folder / "in.log", output=folder / "out.log", checkpoint=checkpoint, **options)
    if made.exception is not None:
        raise made.exception
    return made


@dataclass
class Outcome:
    """What there is when a run has come to its end.

    Attributes:
        output: the bytes that were written.
        letters: the dead letters, without times and what names the run.
        ledger: the run's.
        counts: exact counters by processor.
        edges: what went from where to where.
        resumed: runs that went on with another one.
    """

    output: bytes
    letters: list[dict[str, Any]]
    ledger: dict[str, int]
    counts: dict[str, list[int]]
    edges: Counter[tuple[Any, Any]]


def outcome(folder: Path, run: Run) -> Outcome:
    names = ("received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight", "errors", "retries")
    letters = [
        {name: letter[name] for name in ("source", "offset", "line_no", "line", "processor", "kind", "message", "path")}
        | {"number": letter["event_id"].rpartition("-")[2]}
        for letter in DeadLetterQueue(folder / "checkpoint" / "dead_letters").letters()
    ]
    for letter in letters:
        letter["source"] = Path(letter["source"]).name
    metrics = run.metrics
    return Outcome(
        output=(folder / "out.log").read_bytes(),
        letters=letters,
        ledger=run.ledger,
        counts={name: [int(metrics.loc[name, column]) for column in names] for name in metrics.index},
        edges=Counter({(edge["from"], edge["to"]): edge["count"] for edge in run.graph()["edges"]}),
    )


def killed_until_done(folder: Path, kills: int, seed: int, longest: float) -> tuple[Run, int]:
    """Kill runs at random moments while they are at work; let the last one come to its end.

    Returns:
        The last run, and how many of those that were killed had saved something beyond where they began.
    """
    random_ = random.Random(seed)
    advanced, before = 0, -1
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes", str(folder)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert child.stdout is not None
        resumed = child.stdout.readline()  # it is at work now
        if resumed:
            advanced += int(resumed) > before >= 0
            before = int(resumed)
            time.sleep(random_.uniform(0.0, longest))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    return run(folder), advanced


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    live = stubborn().start(
        folder / "in.log", output=folder / "out.log", checkpoint=Checkpoint(folder / "checkpoint", interval=0.05)
    )
    print(live.resumed, flush=True)
    live.wait()
    while True:  # it is to be killed
        time.sleep(1)
