"""Rows about bad input, bad processors, memory and resources."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import streamlab
from benchmarks.dashboard import Drop
from streamlab.demo import demo
from tests import faults_processing
from tests.soak.rows import counted, folder, row, tested
from tests.waiting import resources, until


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


@row("JSON nested 100k deep, a 5,000-digit integer, NaN: dead letters, the next line runs")
def nested(share: float) -> str:
    return tested(counted(share, 5), "tests/test_bad_input.py", "json", "nested")


@row("a processor that raises anything, loops, emits without end, hangs in a regular expression, crashes: its line pays")
def bad_processors(share: float) -> str:
    return tested(counted(share, 5), "tests/test_bad_processors.py")


@row("start and stop 500 times, with processes, timeouts, dashboards: threads, files, ports, children as before")
def started(share: float) -> str:
    count = counted(share, 500, 10)
    with folder() as place:
        faults_processing.start_and_stop(count, place)
    return f"{count} times: all as it was"


@row("10M lines: memory after line 1M grows less than 20 MB")
def memory(share: float) -> str:
    lines = str(counted(share, 10_000_000, 2_000_000))
    done = subprocess.run([sys.executable, "-m", "benchmarks.memory", "--lines", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


@row("a sink 1,000 times slower than the source for 10 minutes: memory flat, full speed again within 5 s")
def slow_sink(share: float) -> str:
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
