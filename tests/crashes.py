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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamlab import Pipeline
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


def run(folder: Path, interval: float = 0.05) -> Run:
    """Run the pipeline over ``in.log`` in a folder to its end, or go on with it."""
    checkpoint = Checkpoint(folder / "checkpoint", interval=interval)
    made = stubborn().run(folder / "in.log", output=folder / "out.log", checkpoint=checkpoint)
    if made.exception is not None:
        raise made.exception
    return made


def follow(folder: Path, lines: int, interval: float = 0.05) -> Run:
    """Follow ``in.log`` in a folder until so many lines have come, going on where the run before ended."""
    checkpoint = Checkpoint(folder / "checkpoint", interval=interval)
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


def killed_until_done(folder: Path, kills: int, seed: int, longest: float) -> tuple[Run, int]:
    """Kill runs at random moments while they are at work; let the last one come to its end.

    Returns:
        The last run, and how many went on beyond where the one before them had begun.
    """
    advanced = killed(folder, kills, seed, longest)
    return run(folder), advanced


def killed(folder: Path, kills: int, seed: int, longest: float, *options: str) -> int:
    """Kill runs at random moments while they are at work, every other one after it has saved something.

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


def grown_and_killed(folder: Path, lines: int, rate: int, seed: int, longest: float) -> tuple[Run, int, int]:
    """Let a file grow at a rate while runs that follow it are killed, until it is whole.

    Returns:
        The last run, how many were killed, and how many of them had advanced.
    """
    writer = threading.Thread(target=write_slowly, args=(folder / "in.log", lines, rate))
    (folder / "in.log").touch()
    writer.start()
    kills = advanced = 0
    while writer.is_alive():
        advanced += killed(folder, 4, seed + kills, longest, "--follow")
        kills += 4
    writer.join()
    return follow(folder, lines), kills, advanced


def write_slowly(path: Path, lines: int, rate: int) -> None:
    """Write lines at a rate a second, by pieces that end in the middle of a line."""
    start, text = time.monotonic(), "".join(line_of(n) for n in range(lines))
    bytes_a_second = len(text) / lines * rate
    at = 0
    with path.open("a") as file:
        while at < len(text):
            time.sleep(0.01)
            end = min(int((time.monotonic() - start) * bytes_a_second) + 1, len(text))
            file.write(text[at:end])
            file.flush()
            at = end


if __name__ == "__main__":
    folder, options = Path(sys.argv[1]), sys.argv[2:]
    live = stubborn().start(
        folder / "in.log",
        output=folder / "out.log",
        checkpoint=Checkpoint(folder / "checkpoint", interval=0.05),
        follow="--follow" in options,
    )
    print(live.resumed, flush=True)
    live.wait()
    while True:  # it is to be killed
        time.sleep(1)
