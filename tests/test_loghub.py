"""Real logs (Loghub, https://github.com/logpai/loghub) through a pipeline with every kind of processor.

The output file is byte for byte what plain Python makes of the same file.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamlab import EMIT, Pipeline

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "loghub"
LOGS = sorted(FOLDER.glob("*.log"))


def level(line: str) -> str:
    """Return how serious a line is, by its words."""
    lowered = line.lower()
    return "error" if "error" in lowered or "fail" in lowered else "warn" if "warn" in lowered else "info"


def words(line: str) -> list[str]:
    """Return the first words of a line: none of an empty one."""
    return line.split(" ")[:3]


def number(line: str) -> int:
    """Return the sum of a line's numbers; raises when the last word is one."""
    if line.rstrip()[-1:].isdigit() and zlib.crc32(line.encode("utf-8", "surrogateescape")) % 4 == 0:
        raise ValueError("ends with a number")
    return sum(int(digits) for digits in "".join(c if c in "0123456789" else " " for c in line).split()) % 10**9


class Counting:
    """Says how often a component was seen, every tenth time, and at the end."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.seen = 0

    def __call__(self, line: str) -> Any:
        self.key, self.seen = component(line), self.seen + 1
        return f"{self.key}: {self.seen}" if self.seen % 10 == 0 else None

    def flush(self) -> Iterator[str]:
        yield f"{self.key}: {self.seen} in all"


def component(line: str) -> str:
    return (line.split() or ["-"])[-1][:3]


def everything() -> Pipeline:
    """Return the pipeline: functions with tags, fan-out, filters, raising; async, columnar, and keyed with flush."""
    logs = Pipeline("loghub")

    @logs.processor(to=("sum", "split", "upper", "count"))
    def start(line: str) -> Any:
        kind = level(line)
        if not line.strip():
            return None
        if kind == "error":
            return [("upper", line), ("count", line)]
        return ("split" if kind == "warn" else "sum"), line

    @logs.processor(to="wait")
    def split(line: str) -> Iterator[str]:
        yield from words(line)

    logs.add("sum", number, to="wait", on_error="mend")
    logs.add("mend", lambda line: f"not summed: {line}")
    logs.add("upper", pl.col("line").str.replace_all("e", "3", literal=True) + "!")
    logs.add("count", Counting, key=component, to="wait")

    @logs.processor(to=EMIT, concurrency=16)
    async def wait(value: Any) -> str | None:
        await asyncio.sleep(0)
        return f"<{value}>" if str(value) != "0" else None

    return logs


def by_hand(data: bytes) -> tuple[bytes, Counter[str]]:
    """Return what the pipeline has to give, and how many values each processor receives, with no streamlab in it."""
    out: list[str] = []
    received: Counter[str] = Counter()
    counting: dict[str, Counting] = {}

    def wait(value: Any) -> None:
        received["wait"] += 1
        if str(value) != "0":
            out.append(f"<{value}>")

    lines = data.decode("utf-8", "surrogateescape").split("\n")
    for line in lines[:-1] if lines[-1] == "" else lines:
        line = line.removesuffix("\r")
        received["start"] += 1
        kind = level(line)
        if not line.strip():
            continue
        received[{"error": "upper", "warn": "split", "info": "sum"}[kind]] += 1
        if kind == "error":
            out.append(line.replace("e", "3") + "!")
            received["count"] += 1
            said = counting.setdefault(component(line), Counting())(line)
            if said is not None:
                wait(said)
        elif kind == "warn":
            for word in words(line):
                wait(word)
        else:
            try:
                wait(number(line))
            except ValueError:
                received["mend"] += 1
                out.append(f"not summed: {line}")
    for one in counting.values():
        for said in one.flush():
            wait(said)
    return "".join(f"{line}\n" for line in out).encode("utf-8", "surrogateescape"), received


@pytest.mark.skipif(not LOGS, reason="the sample logs are not here")
@pytest.mark.parametrize("trace", [False, "all"])
@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.name)
def test_real_logs_byte_for_byte(log: Path, trace: Any, tmp_path: Path) -> None:
    expected, received = by_hand(log.read_bytes())
    run = everything().run(log, output=tmp_path / "out.log", trace=trace)
    assert run.state == "finished", run.exception
    assert (tmp_path / "out.log").read_bytes() == expected
    assert run.metrics["received"].to_dict() == {name: received[name] for name in run.pipeline.processors}
    ledger = run.ledger
    ended = ledger["emitted"] + ledger["filtered"] + ledger["absorbed"] + ledger["dead_lettered"]
    assert ledger["received"] + ledger["forked"] == ended
    assert ledger["received"] == received["start"]
    if trace == "all":
        traces = run.traces
        assert sorted(set(traces["line_no"])) == list(range(received["start"]))
        assert (traces["fate"] == "filtered").sum() + (traces["fate"] == "absorbed").sum() == (
            ledger["filtered"] + ledger["absorbed"]
        )


@pytest.mark.parametrize("name", ["sample.log", "access.log", "syslog.log", "events.jsonl"])
def test_the_sample_logs_of_the_project(name: str, tmp_path: Path) -> None:
    """The same with the small logs that are always there."""
    log = Path(__file__).parents[1] / "data" / name
    expected, _ = by_hand(log.read_bytes())
    run = everything().run(log, output=tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == expected
    assert run.state == "finished"


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    """A log with bytes that are not UTF-8, control characters, empty lines, CRLF and no end of line at the end."""
    log = tmp_path / "broken.log"
    lines = [
        b"info \xff\xfe caf\xe9 12",
        b"",
        b"error \x00 \x85 \xe2\x80\xa8 fail\xc3",
        b"warn\r x\r",
        b"ERROR e\x80",
    ] * 400
    log.write_bytes(b"\n".join(lines))
    expected, _ = by_hand(log.read_bytes())
    everything().run(log, output=tmp_path / "out.log")
    assert (tmp_path / "out.log").read_bytes() == expected
