"""How soon a fresh interpreter is ready: what imports take, and the demo until its first line of output.

Every figure is that of a new process, after one of each that is not counted, so that all have their files in memory and
their bytecode compiled: cold is the interpreter, not the disk.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter

from benchmarks.measure import Timing, Trial, interleave

START = "start"
OTHER_IMPORTS = "import pandas, polars"
OWN_IMPORT, OWN_IMPORT_AFTER = "import streamlab", "import streamlab, after pandas and polars"
DEMO, OTHER_PROCESS = "demo, first line of output", 'python -c "import polars"'
FIRST = b"[info: system booted]\n"
ABOUT = {
    OWN_IMPORT: "by a clock in the new interpreter; numpy, which pandas needs too, is a third of it",
    OWN_IMPORT_AFTER: "what it takes beyond what they take themselves",
    OTHER_IMPORTS: "by a clock in the new interpreter, one after the other in one",
    DEMO: "python -m streamlab --trace --no-dashboard, from its call",
    OTHER_PROCESS: "from its call to its end",
}


def _import_seconds(statement: str, before: str = "pass") -> float:
    """Return what a statement takes in a new interpreter, without what the interpreter and ``before`` take."""
    program = f"from time import perf_counter; {before}; begin = perf_counter(); {statement}; print(perf_counter() - begin)"
    return float(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout)


def _process_seconds(statement: str) -> float:
    """Return what a whole interpreter takes, from its call to its end."""
    begin = perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return perf_counter() - begin


def _first_line_seconds() -> float:
    """Return what the demo takes, from its call to the first line of its output.

    Raises:
        ValueError: the line is not that of the demo.
    """
    command = [sys.executable, "-m", "streamlab", "--trace", "--no-dashboard", "--quiet"]
    begin = perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = perf_counter() - begin
        process.stdout.read()
    if first != FIRST:
        raise ValueError(f"start: the first line of the demo is {first!r}, not {FIRST!r}")
    return seconds


def start(rounds: int, say: Callable[[str], None]) -> dict[str, Timing]:
    """Time each of them three times a round: they are short, and differ more than what runs for long."""
    actions: dict[str, Callable[[], float]] = {
        OWN_IMPORT: partial(_import_seconds, OWN_IMPORT),
        OWN_IMPORT_AFTER: partial(_import_seconds, OWN_IMPORT, OTHER_IMPORTS),
        OTHER_IMPORTS: partial(_import_seconds, OTHER_IMPORTS),
        DEMO: _first_line_seconds,
        OTHER_PROCESS: partial(_process_seconds, "import polars"),
    }
    for action in actions.values():
        action()
    trials = [Trial(name, 1, action, lambda _: None, own_clock=True) for name, action in actions.items()]
    return interleave(trials, 3 * rounds, lambda number: say(f"start, round {number} of {3 * rounds}"))
