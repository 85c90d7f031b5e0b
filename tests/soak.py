"""``python -m tests.soak``: every row of what reliability promises, at full count. ``make soak`` runs it.

Prints a row as soon as it is done; ``--record FILE`` writes the table as a page, ``--only WORD`` runs the rows that have
the word in their name, ``--share 0.1`` a tenth of each count. Exits with 1 if a row does not hold.
"""

from __future__ import annotations

import argparse
import errno
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import streamlab
from streamlab import Pipeline
from streamlab.demo import demo
from streamlab.errors import CheckpointError, SinkError
from tests import crashes, faults, faults_processing
from tests.disk import Disk, PowerCut
from tests.test_power_cuts import attempt, check
from tests.waiting import resources, until

#: A row's name, and what runs it: it takes the share of its count, and returns what was found, in words.
ROWS: dict[str, Callable[[float], str]] = {}


def row(name: str) -> Callable[[Callable[[float], str]], Callable[[float], str]]:
    """Add a row."""

    def add(function: Callable[[float], str]) -> Callable[[float], str]:
        ROWS[name] = function
        return function

    return add


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="streamlab-soak-") as made:
        yield Path(made)


def counted(share: float, full: int, least: int = 1) -> int:
    return max(int(full * share), least)


# Delivery


@row("1M lines file to file, 200 SIGKILLs at random times, resumed each time")
def kills(share: float) -> str:
    lines, count = counted(share, 1_000_000, 50_000), counted(share, 200, 5)
    with folder() as calm, folder() as shaken:
        for place in (calm, shaken):
            crashes.write_lines(place / "in.log", lines)
        expected = crashes.outcome(calm, crashes.run(calm))
        last, advanced = crashes.killed_until_done(shaken, count, seed=7, longest=0.12)
        found = crashes.outcome(shaken, last)
        assert found == expected
    letters = len(found.letters)
    return (
        f"{count} killed, {advanced} had advanced; {len(found.output):,} bytes of output, {letters:,} dead letters and all"
        " counters identical to an undisturbed run's"
    )


@row("the same on a file that grows at 2,000 lines/s")
def growing(share: float) -> str:
    lines = counted(share, 600_000, 10_000)
    with folder() as calm, folder() as shaken:
        crashes.write_lines(calm / "in.log", lines)
        expected = crashes.outcome(calm, crashes.run(calm))
        last, killed, advanced = crashes.grown_and_killed(shaken, lines, rate=2000, seed=7, longest=1.0)
        found = crashes.outcome(shaken, last)
        whole = b"".join(expected.output.splitlines(keepends=True)[:-3])  # what is followed has no end, and no totals
        assert found.output == whole
        assert found.letters == expected.letters
        assert last.ledger["received"] == lines and last.ledger["in_flight"] == 0
    return (
        f"{lines:,} lines, {killed} killed, {advanced} had advanced; output, {len(found.letters):,} dead letters identical"
    )


@row("power cuts on a disk that drops what was not synced")
def power(share: float) -> str:
    cuts = rounds = 0
    wanted = counted(share, 1000, 20)
    while cuts < wanted:
        rounds += 1
        with folder() as place:
            random_ = random.Random(rounds)
            disk, name = Disk(random_), random_.choice(["out", "out.gz"])
            while True:
                disk.cut_at = random_.randint(1, 120)
                try:
                    run = attempt(place, disk, name)
                except PowerCut:
                    cuts += 1
                    disk.power_on()
                    continue
                break
            check(place, run, name)
    return f"{cuts} power cuts in {rounds} runs; output, dead letters, ledger exact"


@row("ENOSPC, EIO, short writes, injected 500 times")
def disk_errors(share: float) -> str:
    failed = rounds = resumed = 0
    wanted = counted(share, 500, 20)
    while failed < wanted:
        rounds += 1
        with folder() as place:
            random_ = random.Random(rounds)
            disk, name = Disk(random_), random_.choice(["out", "out.gz"])
            on_outage = random_.choice(["wait", "fail"])
            for begun in range(20):
                disk.power_on()
                faults = [errno.ENOSPC, errno.EIO, "short"]
                disk.failing = {random_.randint(1, 100): random_.choice(faults) for _ in range(6 if begun < 4 else 0)}
                try:
                    run = attempt(place, disk, name, on_outage=on_outage)
                except (SinkError, CheckpointError):
                    resumed += 1
                    continue
                break
            failed += disk.failed
            check(place, run, name)
    return f"{failed} faults in {rounds} runs, {resumed} times resumed; output, dead letters, ledger exact"


@row("a full disk is seen within 1 s, and the run goes on when there is room")
def full_disk(share: float) -> str:
    slowest = 0.0
    count = counted(share, 50, 3)
    for _ in range(count):
        with folder() as place:
            disk = Disk(random.Random(0))
            disk.failing = dict.fromkeys(range(10, 100_000), errno.ENOSPC)
            with disk.mounted():
                live = (
                    Pipeline("copy")
                    .add("copy", str)
                    .start((str(n) for n in range(100_000)), output=place / "out", on_outage="wait")
                )
                until(lambda disk=disk: disk.failed > 0)
                start = time.monotonic()
                until(lambda live=live: live.state == "paused" and "No space" in str(live.reason))
                slowest = max(slowest, time.monotonic() - start)
                disk.failing = {}
                live.wait(60)
            assert (place / "out").read_text().split() == [str(n) for n in range(100_000)]
    assert slowest < 1.0
    return f"{count} times; seen after {slowest * 1000:.0f} ms at most, 0 lost"


@row("SIGTERM, SIGINT: drained within 10 s, exit 0 or 130; a second one forces")
def signals(share: float) -> str:
    slowest, count = 0.0, counted(share, 20, 2)
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)) * count:
        with folder() as place:
            (place / "in.log").write_text("".join(f"line {n}\n" for n in range(200_000)))
            options = ["--follow", "--no-dashboard", "--output", "out", "--checkpoint", "state"]
            program = subprocess.Popen(
                [sys.executable, "-m", "streamlab", "in.log", *options],
                cwd=place,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            until(lambda place=place: (place / "state" / "checkpoint.db").exists())
            start = time.monotonic()
            program.send_signal(number)
            program.wait(30)
            slowest = max(slowest, time.monotonic() - start)
            assert program.returncode == code
    assert slowest < 10
    return f"{2 * count} signals; ended after {slowest:.2f} s at most"


@row("a second process on the same checkpoint is refused within 1 s")
def second(share: float) -> str:
    with folder() as place:
        live = Pipeline("copy").add("copy", str).start(slow_lines(), output=place / "out", checkpoint=place / "state")
        slowest = 0.0
        for _ in range(counted(share, 100, 5)):
            start = time.monotonic()
            try:
                Pipeline("copy").add("copy", str).run(["x"], output=place / "other", checkpoint=place / "state")
            except CheckpointError:
                slowest = max(slowest, time.monotonic() - start)
            else:
                raise AssertionError("it was not refused")
        live.stop()
        live.wait(20)
    assert slowest < 1
    return f"refused after {slowest * 1000:.0f} ms at most"


def slow_lines() -> Iterator[str]:
    for n in range(10**9):
        yield str(n)
        time.sleep(0.001)


# Following files


@row("1,000 rename rotations at 5,000 lines/s")
def rotated(share: float) -> str:
    count = counted(share, 1000, 20)
    said = []
    for where in ("app.log", "app.log*"):
        with folder() as place:
            found = faults.rotations(place, count, 5000, where=where)
            assert (found.lost, found.doubled, found.torn, found.disordered) == (0, 0, 0, 0), found
            said.append(f"{where!r}: {found.written:,} lines")
    return f"{count} rotations each; {', '.join(said)}; 0 lost, 0 doubled, 0 torn, in order"


@row("copytruncate, 500 times at 2,000 lines/s: no duplicate; what is lost is said")
def truncated(share: float) -> str:
    count = counted(share, 500, 10)
    with folder() as place:
        found, missed = faults.copies_and_truncations(place, count, 2000)
    assert (found.doubled, missed) == (0, []), (found, missed[:5])
    came = "0 doubled, every line that is in a file came"
    return f"{count} times, {found.written:,} lines: {came}; the copying itself lost {found.lost}"


# Bad input and bad processors


@row("100k fuzz lines (bad UTF-8, NUL, BOM, control bytes, empty) through the demo and each built-in")
def fuzz_lines(share: float) -> str:
    lines = list(faults_processing.fuzz_lines(counted(share, 100_000, 2000)))
    names = ("demo", *faults_processing.ON_TEXT, *faults_processing.ON_FIELDS)
    with folder() as place:
        for name in names:
            faults_processing.fuzzed(name, lines, place)
    return f"{len(lines):,} lines through {len(names)} pipelines: no crash, ledgers balanced, bytes recoverable"


@row("a 100 MB line, then 10 short ones")
def long_line(share: float) -> str:
    said = []
    for how in ("file", "stdin", "generator"):
        with folder() as place:
            grown = faults_processing.long_line(how, 100 << 20, place)  # type: ignore[arg-type]
        said.append(f"{how} +{grown / 1e6:.0f} MB")
    return f"10 delivered, one oversize; peak memory: {', '.join(said)} (a generator's own line is 105 MB)"


@row("start and stop 500 times, with processes, timeouts, dashboards: threads, files, ports, children as before")
def started(share: float) -> str:
    count = counted(share, 500, 10)
    with folder() as place:
        faults_processing.start_and_stop(count, place)
    return f"{count} times: all as it was"


# Memory and resources


@row("10M lines: memory after line 1M grows less than 20 MB")
def memory(share: float) -> str:
    lines = str(counted(share, 10_000_000, 2_000_000))
    done = subprocess.run([sys.executable, "-m", "benchmarks.memory", "--lines", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


@row("a sink 1,000 times slower than the source for 10 minutes: memory flat, full speed again within 5 s")
def slow_sink(share: float) -> str:
    import itertools

    from benchmarks.dashboard import Drop

    seconds = max(600 * share, 10)

    class Slow(Drop):
        slow = False

        def write(self, values: object, line_no: object) -> tuple[()]:
            if self.slow:
                time.sleep(len(values) * 1e-3)  # type: ignore[arg-type]
            return ()

    sink = Slow()
    live = demo.start(itertools.cycle([f"info: line {n}" for n in range(1000)]), output=sink)
    time.sleep(5)
    fast = speed(live, 2)
    sink.slow = True
    time.sleep(5)
    before = resident()
    slow = speed(live, seconds)
    grown = resident() - before
    sink.slow = False
    start = time.monotonic()
    while (again := speed(live, 0.5)) < 0.8 * fast:
        assert time.monotonic() - start < 60
    took = time.monotonic() - start
    live.stop()
    live.wait(20)
    assert grown < 10 and took < 5, (grown, took)
    return (
        f"{fast:,.0f} lines/s, then {slow:,.0f} for {seconds:.0f} s: memory grew by {grown:.1f} MB; {again:,.0f} again"
        f" after {took:.1f} s"
    )


def speed(live: streamlab.Run, seconds: float) -> float:
    start, first = time.monotonic(), live.ledger["received"]
    time.sleep(seconds)
    return float((live.ledger["received"] - first) / (time.monotonic() - start))


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@row("the same with checkpoint, follow and a dashboard")
def again_and_again(share: float) -> str:
    with folder() as place:
        (place / "in.log").write_text("a\nb\n" * 100)

        def once(number: int) -> None:
            live = demo.start(
                place / "in.log",
                follow=True,
                output=place / f"out{number}",
                checkpoint=place / f"state{number}",
                trace=True,
            )
            with live:
                live.dashboard(port=0)
                until(lambda: live.ledger["received"] == 200)

        once(-1)
        before = resources()
        count = counted(share, 500, 10)
        for number in range(count):
            once(number)
        until(lambda: resources() <= before)
    return f"{count} times: (threads, files) {before} before, {resources()} after"


# Fuzzing


FUZZED = ("lines", "splitter", "json", "json-fields", "logfmt", "csv", "syslog", "access", "extract")


@row("fuzzing of the line reader and the parsers, guided by coverage")
def fuzzing(share: float) -> str:
    seconds = max(int(60 * share), 5)
    units = 0
    for target in FUZZED:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", target, str(seconds)], capture_output=True, text=True, cwd=os.getcwd()
        )
        assert done.returncode == 0, f"{target}: {done.stderr[-3000:]}"
        found = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
        units += int(found.split(":")[-1])
    return f"{len(FUZZED)} targets, {seconds} s each, {units:,} inputs, nothing found"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    lines, wrong = [], 0
    for name, function in ROWS.items():
        if args.only not in name:
            continue
        start = time.monotonic()
        try:
            found = function(args.share)
        except Exception:
            traceback.print_exc()
            found, wrong = f"**does not hold**: {traceback.format_exc().strip().splitlines()[-1]}", wrong + 1
        lines.append(f"| {name} | {found} | {time.monotonic() - start:.0f} s |")
        print(lines[-1], flush=True)
    if args.record is not None:
        when = datetime.now(UTC).strftime("%Y-%m-%d")
        machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        head = f"# The last soak\n\n`make soak` on {when}: {machine}. Written by `python -m tests.soak --record`.\n\n"
        args.record.write_text(head + "| given | found | took |\n|---|---|---|\n" + "\n".join(lines) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
