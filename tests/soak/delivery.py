"""Rows about delivery: kills, power cuts, failing disks, signals."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from streamlab import Pipeline
from streamlab.errors import CheckpointError, SinkError
from tests import crashes
from tests.disk import Disk, PowerCut
from tests.soak.rows import counted, folder, row, tested
from tests.test_power_cuts import attempt, check
from tests.waiting import until


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


@row("the same with built-in processors on columns, and with two worker processes, 100 SIGKILLs each")
def kills_otherwise(share: float) -> str:
    lines, count, said = counted(share, 1_000_000, 50_000), counted(share, 100, 5), []
    for way in ("columns", "processes"):
        with folder() as calm, folder() as shaken:
            for place in (calm, shaken):
                crashes.write_lines(place / "in.log", lines)
            expected = crashes.outcome(calm, crashes.run(calm, way))
            last, advanced = crashes.killed_until_done(shaken, count, 7, 0.12, way)
            found = crashes.outcome(shaken, last)
            assert found == expected, way
            said.append(f"{way}: {count} killed, {advanced} had advanced, {len(found.letters):,} dead letters")
    return f"{'; '.join(said)}; output, dead letters and all counters identical to an undisturbed run's"


@row("the same on a file that grows at 2,000 lines/s")
def growing(share: float) -> str:
    return grown(counted(share, 600_000, 10_000), None)


@row("the same on a file that grows so and is rotated every 20 s, also while nothing runs")
def growing_and_rotated(share: float) -> str:
    lines = counted(share, 400_000, 20_000)
    return grown(lines, min(40_000, lines // 4))


def grown(lines: int, rotated: int | None) -> str:
    with folder() as calm, folder() as shaken:
        crashes.write_lines(calm / "in.log", lines)
        expected = crashes.outcome(calm, crashes.run(calm))
        last, killed, advanced = crashes.grown_and_killed(shaken, lines, 2000, 7, 1.0, rotated)
        found = crashes.outcome(shaken, last)
        whole = b"".join(expected.output.splitlines(keepends=True)[:-3])  # what is followed has no end, and no totals
        assert found.output == whole
        known = [{name: letter[name] for name in ("line_no", "line", "path", "number")} for letter in found.letters]
        assert known == [{name: letter[name] for name in known[0]} for letter in expected.letters]
        assert last.ledger["received"] == lines and last.ledger["in_flight"] == 0
        generations = len(list(shaken.glob("in.log*")))
    return (
        f"{lines:,} lines in {generations} files, {killed} killed, {advanced} had advanced; output, {len(known):,} dead"
        " letters identical"
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


@row("a dead letter queue that is full blocks, lets the oldest go, or stops the run; replayed, purged, cut off, resumed")
def letters(share: float) -> str:
    return tested(counted(share, 5), "tests/test_dead_letters.py")
