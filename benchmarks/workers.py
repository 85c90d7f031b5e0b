"""How much faster work that the processor is the limit of becomes with a second process.

It gets as many lines as all others: starting two processes takes about a quarter of a second however many there are,
and of a few lines that would be most of what is measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial

from benchmarks.contenders import Contender, KeepSink
from benchmarks.measure import Timing, Trial, interleave
from data.generate import lines as generated

WORKERS = "workers"


def heavy(line: str) -> str:
    """Parse a line, derive a signature from it, and write it again: some tens of microseconds."""
    try:
        fields = json.loads(line)
    except ValueError:
        return "broken"
    fields["signature"] = hashlib.pbkdf2_hmac("sha256", line.encode(), b"salt", 40).hex()
    return json.dumps(fields)


def _in_loop(lines: list[str]) -> list[str]:
    return [heavy(line) for line in lines]


def _in_streamlab(lines: list[str], count: int) -> list[str]:
    from streamlab import Pipeline

    sink = KeepSink()
    done = Pipeline("heavy").add("heavy", heavy).run(lines, trace=True, workers=count, output=sink)
    if done.state != "finished":
        raise RuntimeError(f"streamlab: {done.exception}")
    return sink.values


HEAVY = (
    Contender(f"{WORKERS}: loop", _in_loop, "a hand-written loop that records nothing"),
    Contender(f"{WORKERS}: 1", partial(_in_streamlab, count=1), "in this process, trace=True"),
    Contender(f"{WORKERS}: 2", partial(_in_streamlab, count=2), "with the quarter of a second that starting them takes"),
)


def workers(count: int, rounds: int, say: Callable[[str], None]) -> dict[str, Timing]:
    """Time one and two processes on ``count`` lines."""
    lines = list(generated("json", count, 7))
    expected = _in_loop(lines)

    def check(outputs: list[str]) -> None:
        if outputs != expected:
            raise ValueError("workers: the outputs are not those of a plain loop")

    trials = [Trial(one.name, count, partial(one.run, lines), check) for one in HEAVY]
    return interleave(trials, rounds, lambda number: say(f"workers, round {number} of {rounds}"))
