"""What goes wrong with files that are followed: writers that rotate, as often and as fast as is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamlab.sources.follow import FollowSource
from tests.followed import Following, following
from tests.waiting import until

#: Writes lines ``1, 2 ...`` and rotates by renaming; each tenth line is written in two parts, so that it can be torn.
_ROTATING = r"""
import os, sys, time
folder, rotations, lines, rate, keep, burst = sys.argv[1], *map(int, sys.argv[2:])
path = os.path.join(folder, "app.log")
number = 1
start = time.monotonic()
for rotation in range(rotations + 1):
    file = open(path, "ab", buffering=0)
    for _ in range(lines):
        line = b"%d " % number + b"x" * (number % 97) + b"\n"
        if number % 10 == 0:
            file.write(line[:3])
            file.write(line[3:])
        else:
            file.write(line)
        number += 1
        ahead = number / rate - (time.monotonic() - start)
        if ahead > 0.002:
            time.sleep(ahead)
    if rotation == rotations:
        break
    if burst and rotation % burst == 0:
        time.sleep(0.1)
    for index in reversed(range(1, keep)):
        if os.path.exists(f"{path}.{index}"):
            os.rename(f"{path}.{index}", f"{path}.{index + 1}")
    os.rename(path, f"{path}.1")
    file.write(b"%d late\n" % number)  # the writer has not noticed yet
    number += 1
print(number)
"""


@dataclass
class Outcome:
    """What came of lines that were numbered from 0 on.

    Attributes:
        written: how many were written.
        lost: how many of them did not come.
        doubled: how many came more than once.
        torn: lines that came and were never written so.
        disordered: how many came after a later one.
    """

    written: int
    lost: int
    doubled: int
    torn: int
    disordered: int


def outcome(lines: list[str], written: int) -> Outcome:
    """Compare lines with what was written."""
    seen: dict[int, int] = {}
    torn = disordered = 0
    last = -1
    for line in lines:
        number, _, rest = line.partition(" ")
        if not number.isdecimal() or rest not in ("late", "x" * (int(number) % 97)):
            torn += 1
            continue
        seen[int(number)] = seen.get(int(number), 0) + 1
        disordered += int(number) < last
        last = int(number)
    doubled = sum(count - 1 for count in seen.values())
    return Outcome(written, written - len(seen), doubled, torn, disordered)


def rotations(
    folder: Path, count: int, rate: int, *, lines: int = 100, keep: int = 20, burst: int = 0, where: str = "app.log"
) -> Outcome:
    """Follow a file that another process writes, and rotates by renaming so many times.

    Args:
        folder: where, empty.
        count: rotations.
        rate: lines a second.
        lines: in each generation.
        keep: how many rotated files are kept.
        burst: after how many rotations the writer pauses for a moment; never if 0.
        where: what is followed in the folder.
    """
    (folder / "app.log").write_text("0 \n")
    with following(FollowSource([folder / where])) as reading:
        reading.wait_for(1)
        arguments = [str(folder), str(count), str(lines), str(rate), str(keep), str(burst)]
        writer = subprocess.run([sys.executable, "-c", _ROTATING, *arguments], check=True, capture_output=True, text=True)
        written = int(writer.stdout)
        wait_until_quiet(reading, written)
    return outcome(reading.lines, written)


def wait_until_quiet(reading: Following, expected: int, quiet: float = 0.5) -> None:
    """Wait until the lines are there, or none has come for a while; then a moment for surplus ones."""
    last, since = -1, time.monotonic()
    while len(reading.lines) < expected and time.monotonic() - since < 20:
        if len(reading.lines) != last:
            last, since = len(reading.lines), time.monotonic()
        time.sleep(0.01)
    time.sleep(quiet)


#: Writes lines ``1, 2 ...`` to an open file, so many a second, until it is told to stop: appending, or where it was.
_APPENDING = r"""
import os, select, sys, time
file = open(sys.argv[1], sys.argv[3], buffering=0)
rate, number, start = int(sys.argv[2]), 1, time.monotonic()
while not select.select([sys.stdin], [], [], max(number / rate - (time.monotonic() - start), 0))[0]:
    file.write(b"%d " % number + b"x" * (number % 97) + b"\n")
    number += 1
print(number)
"""


@contextmanager
def writing(path: Path, rate: int, mode: str = "ab") -> Iterator[Callable[[], int]]:
    """Have another process write numbered lines, the first of which is there; give what stops it, and tells how many."""
    path.write_text("0 \n")
    command = [sys.executable, "-c", _APPENDING, str(path), str(rate), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield lambda: int(process.communicate("stop\n", timeout=30)[0])
        finally:
            process.kill()


def copies_and_truncations(
    folder: Path, count: int, rate: int, *, pause: float = 0.05, where: str = "app.log", **options: float
) -> tuple[Outcome, list[str]]:
    """Follow a file that another process writes, while it is copied and truncated so many times.

    Args:
        folder: where, empty.
        count: truncations.
        rate: lines a second.
        pause: seconds between two of them.
        where: what is followed in the folder.
        options: of `FollowSource`.

    Returns:
        What came of the lines, and those of them that are in some file, and did not come.
    """
    log = folder / "app.log"
    with writing(log, rate) as stop, following(FollowSource([folder / where], **options)) as reading:  # type: ignore[arg-type]
        reading.wait_for(2)
        for _ in range(count):
            time.sleep(pause)
            for index in reversed(range(1, count)):
                if (old := folder / f"app.log.{index}").exists():
                    old.rename(folder / f"app.log.{index + 1}")
            shutil.copyfile(log, folder / "app.log.1")
            os.truncate(log, 0)
        written = stop()
        kept = {line for path in folder.iterdir() for line in path.read_text().splitlines()}
        until(lambda: kept <= set(reading.lines) or reading.error is not None)
        time.sleep(0.5)
    return outcome(reading.lines, written), sorted(kept - set(reading.lines))
