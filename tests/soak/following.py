"""Rows about files that are followed."""

from __future__ import annotations

from tests import faults
from tests.soak.rows import counted, folder, row, tested


@row("1,000 rename rotations at 5,000 lines/s")
def rotated(share: float) -> str:
    count = counted(share, 1000, 20)
    said = []
    for where in ("app.log", "app.log*"):
        with folder() as place:
            found = faults.rotations(place, count, 5000, keep=100, where=where)
            assert (found.lost, found.doubled, found.torn, found.disordered) == (0, 0, 0, 0), found
            said.append(f"{where!r}: {found.written:,} lines")
    return f"{count} rotations each; {', '.join(said)}; 0 lost, 0 doubled, 0 torn, in order"


@row("rename rotations in bursts of ten, each of hundreds of files")
def bursts(share: float) -> str:
    count = counted(share, 3000, 100)
    said = []
    for where in ("app.log", "app.log*"):
        with folder() as place:
            found = faults.rotations(place, count, 10**9, lines=5, keep=300, burst=10, where=where)
            assert (found.lost, found.doubled, found.torn, found.disordered) == (0, 0, 0, 0), found
            said.append(f"{where!r}: {found.written:,} lines")
    return f"{count} rotations each; {', '.join(said)}; 0 lost, 0 doubled, 0 torn, in order"


@row("rotated once, and three times, while stopped: older generations first, then on")
def rotated_while_stopped(share: float) -> str:
    return tested(counted(share, 5), "tests/test_follow_rotation.py", "rotated_while_stopped")


@row("copytruncate, 500 times at 2,000 lines/s: no duplicate; what is lost is said")
def truncated(share: float) -> str:
    count = counted(share, 500, 10)
    with folder() as place:
        found, missed = faults.copies_and_truncations(place, count, 2000)
    assert (found.doubled, missed) == (0, []), (found, missed[:5])
    came = "0 doubled, every line that is in a file came"
    return f"{count} times, {found.written:,} lines: {came}; the copying itself lost {found.lost}"


@row("half a line, a pause, the rest: one line")
def halves(share: float) -> str:
    return tested(counted(share, 5), "tests/test_follow.py", "half")


@row("two files with the same first 1 KiB: both read whole")
def alike(share: float) -> str:
    return tested(counted(share, 5), "tests/test_follow_copies.py", "same_kilobyte")


@row("`.gz`, and a `.log` that becomes `.log.gz` after being read: read once")
def archives(share: float) -> str:
    return tested(counted(share, 5), "tests/test_follow_copies.py", "archive", "compressed")


@row("what logrotate and Python's rotating handlers do")
def writers(share: float) -> str:
    return tested(counted(share, 3), "tests/test_follow_writers.py")


@row("whatever can happen to files, in any order, with crashes in between, against a model")
def model(share: float) -> str:
    return tested(counted(share, 5), "tests/test_follow_model.py")
