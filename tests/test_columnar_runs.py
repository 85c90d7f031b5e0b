"""Runs of columns over large input, where lines are read, begun with, written and booked in different threads."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from streamlab import Pipeline, ProcessorFailed, Run, SinkError, SourceError, processors
from streamlab.columns import Column

LINES = 200_000


class ColumnSink:
    """Keeps what it is given; says no after so many outputs, or to some of them."""

    name = "columns"
    columns = True
    any_thread = True

    def __init__(self, full_at: int | None = None, refuses: frozenset[int] = frozenset()) -> None:
        self.values: list[Any] = []
        self.line_no: list[int] = []
        self.threads: set[str] = set()
        self._full_at = full_at
        self._refuses = refuses

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        if isinstance(values, Column):
            self.threads.add(threading.current_thread().name)
        if self._full_at is not None and len(self.values) + len(values) > self._full_at:
            raise SinkError("columns is full")
        self.values += values
        self.line_no += line_no.tolist()
        return [(at, ValueError("no")) for at, number in enumerate(line_no.tolist()) if number in self._refuses]

    def close(self) -> None:
        pass


def marked() -> Pipeline:
    """Make warnings loud, and put all in brackets, by built-ins."""
    pipeline = Pipeline("marked").add("start", processors.route({"warn": "loud"}, default="end"))
    return pipeline.add("loud", processors.upper(), to="end").add("end", processors.template("[{line}]"))


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return [f"{'warn' if n % 7 == 0 else 'info'}: event {n}" for n in range(LINES)]


@pytest.fixture(scope="module")
def file(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def expected(line: str) -> str:
    return f"[{line.upper() if 'warn' in line else line}]"


def assert_all_accounted_for(run: Run, lines: list[str], sink: ColumnSink) -> None:
    """Check that each line was put out or left unfinished, in order."""
    entry, unfinished = run.metrics.loc[run.pipeline.entry.name], run.unfinished
    done = int(entry["received"] - entry["in_flight"])
    assert unfinished["line_no"].tolist() == list(range(done, done + len(unfinished)))
    assert unfinished["line"].tolist() == lines[done : done + len(unfinished)]
    assert entry["in_flight"] <= len(unfinished)
    assert sink.line_no == list(range(done))
    assert sink.values == [expected(line) for line in lines[:done]]


def test_from_file_to_file(file: Path, lines: list[str], tmp_path: Path) -> None:
    run = marked().run(file, output=tmp_path / "out", trace="all")
    assert (tmp_path / "out").read_text() == "".join(f"{expected(line)}\n" for line in lines)
    assert run.metrics["received"].tolist() == [LINES, len(range(0, LINES, 7)), LINES]
    traces = run.traces
    assert traces["line_no"].tolist() == list(range(LINES))
    assert (traces["path"] == ["start > loud > end" if "warn" in line else "start > end" for line in lines]).all()


def test_a_list_and_a_series_do_as_a_file_does(lines: list[str]) -> None:
    for source in (lines, pl.Series(lines)):
        sink = ColumnSink()
        assert_all_accounted_for(marked().run(source, output=sink), lines, sink)
        assert sink.threads != {f"streamlab-{marked().name}"}, "nothing was written aside: the test shows nothing"


@pytest.mark.parametrize("full_at", [0, 1_000, LINES // 2, LINES - 1])
def test_a_sink_that_is_full_leaves_the_rest_unfinished(full_at: int, file: Path, lines: list[str]) -> None:
    """Also what was being worked on while the write failed."""
    sink = ColumnSink(full_at)
    run = marked().run(file, output=sink)
    assert run.state == "failed" and isinstance(run.exception, SinkError)
    assert_all_accounted_for(run, lines, sink)


def test_a_sink_that_refuses_some(file: Path, lines: list[str]) -> None:
    refuses = frozenset({0, 9_999, 100_000, LINES - 1})
    run = marked().run(file, output=ColumnSink(refuses=refuses))
    assert run.state == "finished"
    assert run.dead_letters["line_no"].tolist() == sorted(refuses)
    assert run.dead_letters["line"].tolist() == [lines[number] for number in sorted(refuses)]
    assert run.metrics.loc["end", "dead_lettered"] == len(refuses)


def test_a_processor_that_must_not_fail(lines: list[str]) -> None:
    """Lines before the one that failed go on; those after it are unfinished, whoever had begun with them."""
    bad = 150_000
    pipeline = Pipeline("strict").add("seven", processors.extract("^(?P<level>[a-z]+): "), on_error="stop", to="write")
    pipeline.add("write", processors.template("{level}"))
    broken = [*lines[:bad], "7", *lines[bad + 1 :]]
    sink = ColumnSink()
    run = pipeline.run(broken, output=sink)
    assert run.state == "failed" and isinstance(run.exception, ProcessorFailed) and f"line {bad}" in str(run.exception)
    assert sink.line_no == list(range(bad))
    assert run.errors["line_no"].tolist() == [bad]
    left = run.unfinished["line_no"].tolist()
    assert left == list(range(bad + 1, bad + 1 + len(left))) and left
    assert run.unfinished["line"].tolist() == broken[bad + 1 : bad + 1 + len(left)]


def test_stop_and_pause_on_the_way(file: Path, lines: list[str]) -> None:
    before = set(threading.enumerate())
    sink = ColumnSink()
    run = marked().start(file, output=sink)
    run.pause()
    while run.state not in ("paused", "finished"):
        time.sleep(0.001)
    had = len(sink.values)
    received = int(run.metrics.loc["start", "received"])
    assert received == had, "what is written is booked, also while the run is paused"
    run.resume()
    run.stop()
    assert run.wait(30.0)
    assert run.state in ("stopped", "finished")
    assert_all_accounted_for(run, lines, sink)
    assert set(threading.enumerate()) <= before


def test_an_archive_that_is_cut_off(lines: list[str], tmp_path: Path) -> None:
    """All lines before the damage are put out first."""
    whole = gzip.compress("\n".join(lines).encode(), 1)
    path = tmp_path / "cut.log.gz"
    path.write_bytes(whole[: len(whole) // 2])
    sink = ColumnSink()
    run = marked().run(path, output=sink)
    assert run.state == "failed" and isinstance(run.exception, SourceError)
    assert_all_accounted_for(run, lines, sink)
    assert len(sink.values) > 10_000


def test_failed_values_have_their_handler(lines: list[str]) -> None:
    """The processor that takes what failed is in the same segment, and gets the text as it was."""
    mixed = [line if number % 1000 else f"{number}" for number, line in enumerate(lines)]
    pipeline = Pipeline("handled")
    pipeline.add("parse", processors.extract("^(?P<level>[a-z]+): "), on_error="other", to="write")
    pipeline.add("write", processors.template("{level}"))
    pipeline.add("other", processors.template("failed: {line}"))
    sink = ColumnSink()
    run = pipeline.run(mixed, output=sink)
    assert sink.line_no == list(range(LINES))
    assert sink.values == [line[:4] if number % 1000 else f"failed: {line}" for number, line in enumerate(mixed)]
    assert run.metrics.loc["parse", "errors"] == LINES // 1000
    assert run.metrics.loc["other", "received"] == LINES // 1000


def test_more_processors_than_hops_are_allowed() -> None:
    """The limit counts for columns too."""
    chain = Pipeline("chain", max_hops=2)
    for number in range(4):
        chain.add(f"p{number}", processors.upper(), **({"to": f"p{number + 1}"} if number < 3 else {}))
    run = chain.run(["a", "b"])
    assert run.errors["kind"].tolist() == ["max_hops"] * 2
    assert run.errors["processor"].tolist() == ["p1"] * 2


def test_hops_of_a_loop_before_columns_count() -> None:
    pipeline = Pipeline("p", max_hops=4)
    pipeline.add("loop", lambda x: ("loop", x + "a") if len(x) < 3 else ("parse", x), to=("loop", "parse"))
    pipeline.add("parse", processors.extract(r"^(?P<n>[0-9]+)"), on_error="handler", to="end")
    pipeline.add("end", processors.template("{n}")).add("handler", processors.template("failed {line}"))
    run = pipeline.run(["xyz", "x", "1", "123"], trace=True)
    assert run.output.values.tolist() == [[0, "failed xyz"], [3, "123"]]
    kinds = run.errors[["line_no", "kind"]].values.tolist()
    assert kinds == [[0, "processing"], [1, "processing"], [2, "max_hops"]]
    assert run.ledger["dead_lettered"] == 2 and run.ledger["in_flight"] == 0


def test_a_list_that_grows_while_it_is_read() -> None:
    lines = ["a"]

    def grow(value: str) -> None:
        if len(lines) < 10:
            lines.append(f"{value}x")

    assert len(Pipeline("p").add("it", processors.strip()).run(lines, output=grow).metrics) == 1
    assert lines[-1] == "axxxxxxxxx"


def test_a_stop_is_final(file: Path) -> None:
    """What was read when it came is brought to its end, and nothing is added after."""
    for pause in (0.0, 0.002, 0.01, 0.03):
        run = marked().start(file, output=ColumnSink())
        time.sleep(pause)
        run.stop()
        assert run.wait(30.0) and run.state in ("stopped", "finished"), run.exception
        assert run.unfinished.empty
        time.sleep(0.05)
        assert run.unfinished.empty


def test_state_is_kept_in_order_behind_what_is_begun_ahead(file: Path) -> None:
    numbered = Pipeline("numbered").add("keep", processors.keep("warn"), to="number")
    numbered.add("number", processors.number())
    sink = ColumnSink()
    numbered.run(file, output=sink)
    assert sink.values == [f"{n}\twarn: event {7 * n}" for n in range(len(range(0, LINES, 7)))]


def test_the_tree_of_paths_is_renewed_between_batches(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.engine.MAX_PATHS", 3)
    sink = ColumnSink()
    assert_all_accounted_for(marked().run(lines, output=sink), lines, sink)


HANGS = {
    "an expression": """
hang = lambda line: time.sleep(600) if line == "150000" else line
pipeline = Pipeline("p").add("it", pl.col("line").map_elements(hang, return_dtype=pl.String))
""",
    "a sink": """
class Sink:
    name, columns, any_thread, close = "sink", True, True, lambda self: None
    def write(self, values, line_no):
        time.sleep(600 if line_no[0] > 50_000 else 0)
        return ()
pipeline, options = Pipeline("p").add("it", processors.upper()), {"output": Sink()}
""",
    "a process": """
hang = lambda line: time.sleep(600) if line == "5000" else line
pipeline, options = Pipeline("p").add("it", hang), {"workers": 2}
""",
}


@pytest.mark.parametrize("where", HANGS)
def test_control_c_ends_the_program_although_a_call_hangs(where: str) -> None:
    program = f"""
import os, signal, threading, time
import polars as pl
import streamlab.runners.work
from streamlab import Pipeline, processors
streamlab.runners.work.DRAIN_SECONDS = 0.5
options = {{}}
{HANGS[where]}
threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    pipeline.run([str(n) for n in range(200_000)], **options)
except KeyboardInterrupt:
    print("interrupted")
"""
    path = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=30.0, env=os.environ | {"PYTHONPATH": path}
    )
    assert ended.returncode == 0
    assert ended.stdout == b"interrupted\n"
