"""A run that is killed again and again, at random times, and gone on with each time: what came of it in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamlab import Pipeline, processors
from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.run import ENDED, Run
from tests.waiting import until

LEVELS = ("info", "warn", "error")


class PerLevel:
    """Numbers the lines of a level; every 50th goes to two places."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, value: dict[str, Any]) -> Any:
        self.seen += 1
        out = {**value, "nth": self.seen}
        return [("write", out), ("shout", out)] if self.seen % 50 == 0 else ("write", out)

    def flush(self) -> Iterator[Any]:
        yield "write", {"total": self.seen}


def stubborn() -> Pipeline:
    """Return a pipeline that keeps state by key, forks, filters, fails and flushes."""
    pipeline = Pipeline("stubborn")
    pipeline.add("parse", parse, to="count")
    pipeline.add("count", PerLevel, key="level", to=("shout", "write"))
    pipeline.add("shout", lambda value: {**value, "level": value["level"].upper()}, to="write")
    pipeline.add("write", lambda value: json.dumps(value, sort_keys=True))
    return pipeline


def columnar() -> Pipeline:
    """Return a pipeline of built-in processors, which work on columns: with state, ways that part, and dead letters."""
    pipeline = Pipeline("columnar")
    pipeline.add("split", processors.extract(r"^(?P<level>\w+) (?P<number>\d*[^7])$"), to="number")
    pipeline.add("number", processors.number("nth"), to="which")
    ways = {"error": "shout", "warn": "count"}
    pipeline.add("which", processors.route(ways, field="level", default="write"), to=("shout", "count", "write"))
    pipeline.add("shout", processors.upper("level"), to="write")
    pipeline.add("count", processors.count(by="level", running=True), to="write")
    pipeline.add("write", processors.to_json())
    return pipeline


#: What is run, and how, by name.
WAYS: dict[str, tuple[Callable[[], Pipeline], dict[str, Any]]] = {
    "functions": (stubborn, {}),
    "columns": (columnar, {}),
    "processes": (stubborn, {"workers": 2}),
}


def parse(line: str) -> dict[str, Any] | None:
    level, _, number = line.partition(" ")
    if int(number) % 97 == 0:
        raise ValueError(f"{number} is not wanted")
    return None if int(number) % 89 == 0 else {"level": level, "number": int(number)}


def write_lines(path: Path, count: int, first: int = 0) -> None:
    with path.open("a") as file:
        file.writelines(map(line_of, range(first, first + count)))


def line_of(number: int) -> str:
    return f"{LEVELS[number * 7 % 3]} {number}\n"


def run(folder: Path, way: str = "functions") -> Run:
    """Run a pipeline over ``in.log`` in a folder to its end, or go on with it."""
    pipeline, options = WAYS[way]
    made = pipeline().run(folder / "in.log", output=folder / "out.log", checkpoint=checkpoint_in(folder), **options)
    if made.exception is not None:
        raise made.exception
    return made


def checkpoint_in(folder: Path) -> Checkpoint:
    """Return the checkpoint in a folder, which is written so often that kills come before, in and after that."""
    return Checkpoint(folder / "checkpoint", interval=0.05)


def follow(folder: Path, lines: int) -> Run:
    """Follow ``in.log`` in a folder until so many lines have come, going on where the run before ended."""
    checkpoint = checkpoint_in(folder)
    live = stubborn().start(folder / "in.log", output=folder / "out.log", checkpoint=checkpoint, follow=True)
    until(lambda: live.ledger["received"] >= lines or live.state in ENDED, seconds=120)
    live.stop()
    live.wait(30)
    if live.exception is not None:
        raise live.exception
    return live


@dataclass
class Outcome:
    """What there is when a run has come to its end.

    Attributes:
        output: the bytes that were written.
        letters: the dead letters, without times and what names the run.
        ledger: the run's.
        counts: exact counters by processor.
        edges: what went from where to where.
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


def killed_until_done(folder: Path, kills: int, seed: int, longest: float, way: str = "functions") -> tuple[Run, int]:
    """Kill runs at random moments while they are at work; let the last one come to its end.

    Returns:
        The last run, and how many went on beyond where the one before them had begun.
    """
    advanced = killed(folder, kills, seed, longest, way)
    return run(folder, way), advanced


def killed(folder: Path, kills: int, seed: int, longest: float, *options: str) -> int:
    """Kill runs at random moments while they are at work, every other one after it has saved something.

    Args:
        folder: where they work.
        kills: how many.
        seed: of the moments.
        longest: seconds to let one work after it has begun, or has saved something.
        options: the way to run, and ``--follow`` if the file is to be followed.

    Returns:
        How many had advanced since the one before.
    """
    random_ = random.Random(seed)
    advanced, before = 0, -1
    for number in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes", str(folder), *options], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert child.stdout is not None
        resumed = child.stdout.readline()  # it is at work now
        if resumed:
            advanced += int(resumed) > before >= 0
            before = int(resumed)
            saved, end = moments(folder), time.monotonic() + 3.0 * (number % 2)
            while moments(folder) == saved and time.monotonic() < end:  # it may be at its end, and save nothing more
                time.sleep(0.002)
            time.sleep(random_.uniform(0.0, longest))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    return advanced


def moments(folder: Path) -> int:
    """Return when the checkpoint was written last."""
    log = folder / "checkpoint" / "checkpoint.db-wal"
    return log.stat().st_mtime_ns if log.exists() else 0


def grown_and_killed(
    folder: Path, lines: int, rate: int, seed: int, longest: float, rotated: int | None = None
) -> tuple[Run, int, int]:
    """Let a file grow at a rate, and be rotated after so many lines, while runs that follow it are killed.

    Returns:
        The last run, how many were killed, and how many of them had advanced.
    """
    writer = threading.Thread(target=write_slowly, args=(folder / "in.log", lines, rate, rotated))
    (folder / "in.log").touch()
    writer.start()
    kills = advanced = 0
    while writer.is_alive():
        advanced += killed(folder, 4, seed + kills, longest, "functions", "--follow")
        kills += 4
    writer.join()
    return follow(folder, lines), kills, advanced


def write_slowly(path: Path, lines: int, rate: int, rotated: int | None = None) -> None:
    """Write lines at a rate a second, by pieces that end in the middle of a line; rename the file after so many lines."""
    start = time.monotonic()
    for part, first in enumerate(range(0, lines, rotated or lines)):
        for older in reversed(range(part)):
            Path(f"{path}.{older}" if older else path).rename(f"{path}.{older + 1}")
        text = "".join(line_of(n) for n in range(first, min(first + (rotated or lines), lines)))
        at = 0
        with path.open("a") as file:
            while at < len(text):
                time.sleep(0.01)
                share = ((time.monotonic() - start) * rate - first) / text.count("\n")
                end = max(min(int(share * len(text)) + 1, len(text)), at)
                file.write(text[at:end])
                file.flush()
                at = end


if __name__ == "__main__":
    folder, way, options = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    live = WAYS[way][0]().start(
        folder / "in.log",
        output=folder / "out.log",
        checkpoint=checkpoint_in(folder),
        follow="--follow" in options,
        **WAYS[way][1],
    )
    print(live.resumed, flush=True)
    live.wait()
    while True:  # it is to be killed
        time.sleep(1)
