"""Memory does not grow with the input; the whole count is `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
def test_memory_does_not_grow_with_the_input() -> None:
    """A million generated lines in a process of its own: it grows by less than 20 MB after the first 200,000."""
    command = [sys.executable, "-m", "benchmarks.memory", "--lines", "1000000", "--every", "200000"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,000,000 lines" in done.stdout


LONG_LINES = """
from streamlab import Pipeline

def long_lines():
    yield from ("short" for _ in range(100_000))
    yield from (str(number) + "x" * 500_000 for number in range(4_000))

def sometimes(line):
    if line[-1] == "x" and line[0] in "13579":
        raise ValueError("odd")
    return line

emitted = 0
run = Pipeline("long").add("sometimes", sometimes).run(long_lines(), trace=True, output=lambda value: None)
assert run.state == "finished" and run.ledger["received"] == 104_000, run
assert run.errors["line_no"].iloc[-1] == 103_999 and run.traces["line_no"].iloc[-1] == 103_999
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_is_bounded_by_the_text_of_lines_and_not_by_their_number() -> None:
    """Two gigabytes of long lines from a generator, after many short ones, of which traces and errors keep the last."""
    done = subprocess.run([sys.executable, "-c", LONG_LINES], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 700_000, "kilobytes"
