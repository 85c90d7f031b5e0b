"""``python -m benchmarks.dashboard``: what being watched costs a run, and how soon the dashboard answers meanwhile.

A run goes as fast as it can, in turns with nobody watching and with 50 pages (event streams) open and 20 programs that ask
for ``/stats`` once a second; those are another process. Prints the rate with over the rate without, by medians of the
turns, and quantiles of the time to an answer; the second in which all join is told apart. With ``--eager``, the programs
ask again as soon as they are answered.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import pipeline
from data.generate import lines

STREAMS, POLLERS = 50, 20
#: Seconds between two questions of a poller.
PAUSE = 1.0
#: Seconds of a turn, and of the beginning of it that does not count.
TURN, SETTLE = 4.0, 1.0


class Drop:
    """A sink that drops everything."""

    name = "drop"

    def write(self, values: Sequence[Any], line_no: object) -> Sequence[tuple[int, Exception]]:
        """Drop a batch."""
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


def endless(count: int = 200_000) -> Iterator[str]:
    """Yield lines without end."""
    return itertools.cycle(list(lines("app", count)))


async def stream(port: int, seen: list[int]) -> None:
    """Read events until cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while line := await reader.readline():
            seen[0] += line.startswith(b"data:")
    finally:
        writer.close()


async def poll(port: int, offset: float, pause: float, took: list[tuple[float, float]]) -> None:
    """Ask for /stats again and again until cancelled, over one connection; note when, and how long the answer took."""
    await asyncio.sleep(offset)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        while True:
            began = time.perf_counter()
            writer.write(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(row[15:]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-length:"))
            await reader.readexactly(length)
            took.append((began, time.perf_counter() - began))
            if pause:
                await asyncio.sleep(pause)
    finally:
        writer.close()


async def watch(port: int, pause: float) -> None:
    """Watch for as long as standard input says so: one line begins, the next one ends; at its end, tell what was seen."""
    settled: list[float] = []
    joining: list[float] = []
    seen = [0]
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        took: list[tuple[float, float]] = []
        began = time.perf_counter()
        streams = [stream(port, seen) for _ in range(STREAMS)]
        polls = [poll(port, pause * at / POLLERS, pause, took) for at in range(POLLERS)]
        tasks = [asyncio.create_task(task) for task in (*streams, *polls)]
        await loop.run_in_executor(None, sys.stdin.readline)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for at, seconds in took:
            (settled if at - began >= SETTLE else joining).append(seconds)
    print(json.dumps({"settled": sorted(settled), "joining": sorted(joining), "events": seen[0]}))


def measure(turns: int, eager: bool) -> dict[str, float]:
    """Return the ratio of the rates, the rates (lines/s), quantiles of the time to an answer (ms), and events a stream."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    with pipeline().start(endless(), trace=True, output=Drop()) as run:
        dashboard = run.dashboard(port=0)
        command = [sys.executable, "-m", "benchmarks.dashboard", "--watch", str(dashboard.port), *(["--eager"] * eager)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
            assert watcher.stdin is not None
            time.sleep(2)
            for turn in range(2 * turns):
                if turn:
                    watcher.stdin.write("\n")
                    watcher.stdin.flush()
                time.sleep(SETTLE)
                before, began = run.ledger["received"], time.perf_counter()
                time.sleep(TURN)
                rates[turn % 2 == 1].append((run.ledger["received"] - before) / (time.perf_counter() - began))
            told = json.loads(watcher.communicate("\n" if turns else "")[0])
    took = told["settled"]
    alone, watched = (statistics.median(rates[kind]) for kind in (False, True))
    return {
        "ratio": watched / alone,
        "alone_lines_per_s": alone,
        "watched_lines_per_s": watched,
        **{f"p{share}_ms": took[int(len(took) * share / 100)] * 1e3 for share in (50, 95, 99)},
        "answers": len(took),
        "p99_while_all_join_ms": told["joining"][int(len(told["joining"]) * 0.99)] * 1e3,
        "events_per_stream_and_s": told["events"] / STREAMS / (turns * (TURN + SETTLE)),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=8, help="turns of each kind")
    parser.add_argument("--eager", action="store_true", help="pollers do not pause")
    parser.add_argument("--save", type=Path, help="write the figures to this file, as JSON")
    parser.add_argument("--watch", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(options.watch, 0.0 if options.eager else PAUSE))
        return
    figures = measure(options.turns, options.eager)
    for name, figure in figures.items():
        print(f"{name:>26} {figure:14,.3f}")
    if options.save:
        options.save.write_text(json.dumps(figures, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
