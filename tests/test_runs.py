"""Runs: states, pausing and stopping, what is kept, traces and exports, async processors, Ctrl-C, and letting go."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from streamlab import (
    EMIT,
    Pipeline,
    PipelineError,
    ProcessorFailed,
    Run,
    RunError,
    SinkError,
    SourceError,
    TraceError,
    demo,
    processors,
)
from streamlab.batch import Chunk, Places
from streamlab.errors import CheckpointError, Outage
from streamlab.sources.iterables import SequenceSource
from tests.waiting import resources, until

ENOUGH = 10.0


class Tap:
    """A source of lines that gives one whenever it is told to."""

    def __init__(self) -> None:
        self._allowed = threading.Semaphore(0)
        self._ended = False
        self.given = 0

    def let(self, lines: int) -> None:
        for _ in range(lines):
            self._allowed.release()

    def end(self) -> None:
        self._ended = True
        self._allowed.release()

    def __iter__(self) -> Iterator[str]:
        while True:
            self._allowed.acquire()
            if self._ended:
                return
            self.given += 1
            yield f"line {self.given - 1}"


@pytest.fixture
def tap() -> Iterator[Tap]:
    """Return a source, which is closed after the test whatever happened."""
    made = Tap()
    yield made
    made.end()


def upper() -> Pipeline:
    return Pipeline("upper").add("up", str.upper)


def balanced(run: Run) -> bool:
    ledger = run.ledger
    ended = ledger["emitted"] + ledger["filtered"] + ledger["absorbed"] + ledger["dead_lettered"] + ledger["in_flight"]
    return ledger["received"] + ledger["forked"] == ended


# States


def test_a_run_finishes() -> None:
    run = upper().run(["a", "b"])
    assert (run.state, run.exception, run.progress) == ("finished", None, 1.0)
    assert run.output.to_dict("list") == {"line_no": [0, 1], "value": ["A", "B"]}
    assert run.uptime_s == run.uptime_s > 0


def test_an_empty_run_has_its_tables() -> None:
    run = upper().run([], trace=True)
    assert run.state == "finished"
    for table in (run.output, run.traces, run.errors, run.dead_letters, run.unfinished):
        assert len(table) == 0
    assert run.metrics.loc["up", "received"] == 0
    assert list(run.output.columns) == ["line_no", "value"]


def test_live_from_start_to_end(tap: Tap) -> None:
    live = upper().start(tap, trace=True)
    assert live.state in ("starting", "running")
    tap.let(1)
    until(lambda: len(live.output) == 1)  # a line is not held up by one that has not come
    assert live.state == "running"
    assert live.traces["output"].tolist() == ["LINE 0"]
    tap.let(2)
    until(lambda: live.metrics.loc["up", "received"] == 3)
    assert balanced(live)
    tap.end()
    assert live.wait(ENOUGH) is live
    assert live.state == "finished"
    assert live.output["value"].tolist() == ["LINE 0", "LINE 1", "LINE 2"]


def test_pause_and_resume(tap: Tap) -> None:
    live = upper().start(tap)
    tap.let(1)
    until(lambda: len(live.output) == 1)
    live.pause()
    until(lambda: live.state == "paused")
    tap.let(5)
    time.sleep(0.05)
    assert len(live.output) == 1
    live.resume()
    until(lambda: len(live.output) == 6)
    assert live.state == "running"
    tap.end()
    live.wait(ENOUGH)
    with pytest.raises(RunError, match="finished"):
        live.pause()


def test_a_paused_run_can_be_stopped(tap: Tap) -> None:
    live = upper().start(tap)
    live.pause()
    until(lambda: live.state == "paused")
    live.stop()
    assert live.wait(ENOUGH).state == "stopped"


def test_stop_brings_what_was_read_to_its_end_and_flushes(tap: Tap) -> None:
    class Kept:
        def __init__(self) -> None:
            self.kept: list[str] = []

        def __call__(self, value: str) -> None:
            self.kept.append(value)

        def flush(self) -> list[str]:
            return [",".join(self.kept)]

    live = Pipeline("p").add("keep", Kept).start(tap)
    tap.let(3)
    until(lambda: live.ledger["received"] == 3)
    live.stop()
    live.wait(ENOUGH)
    assert live.state == "stopped"
    assert live.output["value"].tolist() == ["line 0,line 1,line 2"]
    assert live.output["line_no"].isna().all()
    assert live.ledger["absorbed"] == 3
    assert balanced(live)


def test_lines_that_a_stop_leaves_no_time_for_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor too slow to get through what was read: what it did not get to is in `unfinished`, and nothing is lost."""
    monkeypatch.setattr("streamlab.runners.work.DRAIN_SECONDS", -1.0)
    busy, go_on = threading.Event(), threading.Event()

    def slow(line: str) -> str:
        busy.set()
        assert go_on.wait(ENOUGH)
        return line

    given: list[str] = []

    def source() -> Iterator[str]:
        for line in NUMBERS:
            given.append(line)
            yield line

    live = Pipeline("p").add("slow", slow).start(source())
    assert busy.wait(ENOUGH)
    until(lambda: len(given) > 4)
    live.stop()
    go_on.set()
    assert live.wait(ENOUGH).state == "failed"
    assert "run.unfinished" in str(live.exception)
    done, left = live.output["value"].tolist(), live.unfinished
    assert len(left) > 0
    assert done + left["line"].tolist() == given
    assert left["line_no"].tolist() == list(range(len(done), len(given)))


def test_lines_behind_a_failure_are_kept() -> None:
    """`on_error="stop"` in the middle of a generator: what was read of it is done, dead or unfinished."""
    given: list[str] = []

    def source() -> Iterator[str]:
        for line in NUMBERS:
            given.append(line)
            yield line

    def work(line: str) -> str:
        if line == "100":
            raise ValueError
        return line

    run = Pipeline("p").add("work", work, on_error="stop").run(source())
    assert run.state == "failed"
    whole = [*run.output["value"], *run.dead_letters["line"], *run.unfinished["line"]]
    assert whole == given
    assert run.unfinished["line_no"].tolist() == list(range(101, len(given)))


def test_a_slow_processor_is_seen_and_stopped_soon() -> None:
    """What is done is handed on at once, and a stop does not wait for more lines than were read."""
    live = Pipeline("p").add("slow", lambda line: time.sleep(0.05) or line).start(NUMBERS)
    until(lambda: len(live.output) >= 2)
    live.stop()
    assert live.wait(ENOUGH).state == "stopped"
    assert len(live.output) == live.ledger["received"] < len(NUMBERS)


def test_a_processor_that_becomes_slow_does_not_hold_up_what_is_done(tap: Tap) -> None:
    """Batches have grown large by then: the one under way is cut."""
    go_on = threading.Event()

    def sometimes(line: str) -> str:
        if int(line) >= 50_000:
            go_on.wait(ENOUGH)
            time.sleep(0.002)
        return line

    live = Pipeline("p").add("work", sometimes).start([str(n) for n in range(60_000)])
    go_on.set()
    until(lambda: live.ledger["emitted"] > 50_000)
    live.stop()
    assert live.wait(ENOUGH).state == "stopped"
    assert balanced(live)
    assert live.output["value"].tolist() == [str(n) for n in range(live.ledger["emitted"] - 10_000, live.ledger["emitted"])]


def test_a_run_that_is_stopping_cannot_be_paused(tap: Tap) -> None:
    live = upper().start(tap)
    live.stop()
    with pytest.raises(RunError, match="cannot be paused"):
        live.pause()
    assert live.wait(ENOUGH).state == "stopped"


def test_an_endless_flush_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.runners.work.DRAIN_SECONDS", 0.2)

    class Endless:
        def __call__(self, value: str) -> None: ...

        def flush(self) -> Iterator[str]:
            while True:
                yield "x"

    live = Pipeline("p").add("endless", Endless).start(["a"])
    until(lambda: live.ledger["emitted"] > 10_000)
    live.stop()
    assert live.wait(ENOUGH).state == "failed"
    assert "did not come to its end" in str(live.exception)
    assert balanced(live)
    assert live.metrics.loc["endless", "time_s"] > 0


def test_waiting_for_its_own_end_is_a_mistake() -> None:
    runs: list[Run] = []
    live = (
        Pipeline("p").add("wait", lambda line: runs[0].wait()).start(iter(lambda: "a" if runs else time.sleep(0.001), None))
    )
    runs.append(live)
    until(lambda: live.ledger["dead_lettered"] > 0 or live.state != "running")
    live.stop()
    live.wait(ENOUGH)


def test_an_async_source_inside_an_event_loop() -> None:
    """As in a notebook, where a loop is running already."""

    async def lines() -> Any:
        for line in ("a", "b"):
            yield line

    async def cell() -> Run:
        return upper().run(lines())

    run = asyncio.run(cell())
    assert (run.state, run.output["value"].tolist()) == ("finished", ["A", "B"])


def test_an_interrupt_raised_by_a_source_in_the_background() -> None:
    def source() -> Iterator[str]:
        yield "a"
        raise KeyboardInterrupt

    live = upper().start(source())
    assert live.wait(ENOUGH).state == "stopped"
    assert isinstance(live.exception, KeyboardInterrupt)
    assert live.output["value"].tolist() == ["A"]


def test_a_sink_that_cannot_be_closed_leaves_nothing_open() -> None:
    class Stuck:
        name = "stuck"

        def write(self, values: list[Any], line_no: Any) -> tuple[()]:
            return ()

        def close(self) -> None:
            raise OSError("stuck")

    threads = threading.active_count()
    run = Pipeline("p").add("work", str.upper, timeout=5.0).run(["a"], output=Stuck())
    assert run.state == "failed"
    until(lambda: threading.active_count() <= threads)


def test_trace_asks_for_a_number() -> None:
    with pytest.raises(TraceError, match="'0'"):
        upper().run(["a"], trace=True).trace("0")  # type: ignore[arg-type]


def test_the_fates_of_many_small_batches_are_kept_together(tap: Tap) -> None:
    live = upper().start(tap, trace="all", trace_limit=5)
    for n in range(300):
        tap.let(1)
        until(lambda n=n: live.ledger["emitted"] > n)
    tap.end()
    traces = live.wait(ENOUGH).traces
    assert traces["line_no"].tolist() == list(range(300))
    assert set(traces["path"]) == {"up"}
    with live._journal() as journal:  # the one way to see that they are together
        assert len(journal.traces._all) < 20


def test_a_cell_that_is_run_again_replaces_its_processor() -> None:
    """In a notebook, `@p.processor` above a function of the same name mends it; elsewhere the name is taken."""
    pipeline = Pipeline("p")
    cell = "@pipeline.processor\ndef work(line):\n    return {!r}\n"
    scope = {"pipeline": pipeline, "__name__": "__main__"}
    here = sys.modules["__main__"]
    notebook, program = type(sys)("__main__"), type(sys)("__main__")
    program.__file__ = "program.py"
    try:
        sys.modules["__main__"] = notebook
        for answer in ("wrong", "right"):
            exec(cell.format(answer), scope)
        assert pipeline.run(["a"]).output["value"].tolist() == ["right"]
        sys.modules["__main__"] = program
        with pytest.raises(PipelineError, match="already"):
            exec(cell.format("twice"), scope)
    finally:
        sys.modules["__main__"] = here


def test_stop_on_an_endless_source() -> None:
    def numbers() -> Iterator[str]:
        n = 0
        while True:
            yield str(n)
            n += 1

    live = upper().start(numbers())
    until(lambda: live.ledger["received"] > 5_000)
    live.stop()
    live.wait(ENOUGH)
    assert live.state == "stopped"
    output = live.output["value"].astype(int).tolist()
    assert output == list(range(output[0], output[0] + len(output)))
    assert live.ledger["received"] == live.ledger["emitted"] == output[-1] + 1


def test_the_context_manager_stops(tap: Tap) -> None:
    with upper().start(tap) as live:
        tap.let(1)
        until(lambda: len(live.output) == 1)
    assert live.state == "stopped"


def test_wait_gives_up_after_its_time(tap: Tap) -> None:
    live = upper().start(tap)
    before = time.monotonic()
    assert live.wait(0.05) is live
    assert time.monotonic() - before < 5
    assert live.state == "running"


def test_snapshots_balance_while_it_runs() -> None:
    """Read from another thread as often as possible, each snapshot adds up, and none goes back."""
    pipeline = Pipeline("p").add("split", lambda line: line.split(), to="work")
    pipeline.add("work", lambda word: None if word == "no" else (EMIT, word) if word != "bad" else 1 / 0)
    live = pipeline.start(f"{n} no bad" for n in range(60_000))
    seen, looks = 0, 0
    while live.state not in ("finished", "failed"):
        assert balanced(live), live.ledger
        rows = live.metrics
        work = rows.loc["work"]
        ended = work["emitted"] + work["filtered"] + work["absorbed"] + work["dead_lettered"] + work["in_flight"]
        assert work["received"] + work["forked"] == ended
        received = live.ledger["received"]
        assert received >= seen
        seen, looks = received, looks + 1
    assert live.state == "finished"
    assert looks > 3
    assert live.ledger["emitted"] == live.ledger["filtered"] == live.ledger["dead_lettered"] == 60_000


# Sources and sinks that fail


def test_a_source_that_raises_comes_after_its_lines() -> None:
    def lines() -> Iterator[str]:
        yield "a"
        raise OSError("cable")

    run = upper().run(lines())
    assert run.state == "failed"
    assert isinstance(run.exception, SourceError)
    assert "line 1" in str(run.exception)
    assert run.output["value"].tolist() == ["A"]


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
def test_a_source_that_leaves_is_no_end_of_input(error: type[BaseException]) -> None:
    """``sys.exit`` in a generator of lines: that lines may be missing must not go unseen."""

    def lines() -> Iterator[str]:
        yield "a"
        raise error(3)

    live = upper().start(lines()).wait(ENOUGH)
    assert live.state == "failed"
    assert live.output["value"].tolist() == ["A"]


def test_a_sink_that_cannot_go_on_fails_the_run() -> None:
    class Full:
        name = "full"

        def write(self, values: list[Any], line_no: Any) -> list[tuple[int, Exception]]:
            raise SinkError("no space left")

        def close(self) -> None: ...

    run = upper().run(["a", "b"], output=Full())
    assert run.state == "failed"
    assert "no space" in str(run.exception)
    assert run.unfinished["line"].tolist() == ["a"]  # what comes after it in the list has not been read
    assert balanced(run)


def test_what_went_to_a_sink_is_not_in_output(tmp_path: Path) -> None:
    run = upper().run(["a"], output=tmp_path / "out")
    with pytest.raises(RunError, match="out"):
        run.output  # noqa: B018


def test_nothing_is_started_when_the_source_or_the_graph_is_wrong(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(SourceError):
        upper().start(tmp_path / "nowhere.log")
    with pytest.raises(RunError, match="trace"):
        upper().start([], trace="every")
    with pytest.raises(RunError, match="trace_limit"):
        upper().start([], trace=True, trace_limit=0)
    assert threading.active_count() == before


# What is kept


def test_a_live_run_keeps_the_last_ten_thousand_outputs_and_says_so() -> None:
    live = upper().start([str(n) for n in range(25_000)]).wait(ENOUGH)
    assert live.output["value"].tolist() == [str(n) for n in range(15_000, 25_000)]
    assert live.output["line_no"].tolist() == list(range(15_000, 25_000))
    assert "last 10000 outputs" in repr(live).replace(",", "")
    whole = upper().run([str(n) for n in range(25_000)])
    assert len(whole.output) == 25_000
    assert "outputs are kept" not in repr(whole)


def test_dicts_become_columns() -> None:
    run = Pipeline("p").add("parse", lambda line: {"line_no": line, "n": len(line)}).run(["a", "bb"])
    assert run.output.to_dict("list") == {"line_no": [0, 1], "line_no_": ["a", "bb"], "n": [1, 2]}


def test_history_has_a_row_a_second_and_processor(tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.runners.bookkeeper.TICK_SECONDS", 0.02)
    monkeypatch.setattr("streamlab.runners.work.POLL_SECONDS", 0.01)
    live = demo.start(tap)
    tap.let(10)
    until(lambda: len(live.history) >= 9)
    tap.end()
    history = live.wait(ENOUGH).history
    assert history.columns.tolist() == [
        *("time", "processor", "received", "emitted", "errors", "retries", "lines_per_s", "mean_us", "p99_us")
    ]
    assert history["processor"].tolist()[:3] == list(demo.processors)
    starts = history[history["processor"] == "start"]
    assert starts["received"].is_monotonic_increasing
    assert starts["received"].tolist()[-1] == 10
    assert starts["time"].is_monotonic_increasing
    assert str(history["time"].dtype).startswith("datetime64") and history["time"].dt.tz is not None


def test_a_short_run_has_its_last_row_in_the_history() -> None:
    history = upper().run(["a"]).history
    assert history[["processor", "received", "emitted"]].values.tolist() == [["up", 1, 1]]


# Traces


def failing_at(*numbers: int) -> Pipeline:
    def work(line: str) -> str:
        if int(line) in numbers:
            raise ValueError("this one")
        return line + "!"

    return Pipeline("p").add("work", work)


NUMBERS = [str(n) for n in range(20_000)]


def test_trace_false_keeps_none() -> None:
    run = failing_at(7).run(NUMBERS[:10])
    assert len(run.traces) == 0
    with pytest.raises(TraceError, match="trace=True"):
        run.trace(0)


def test_trace_true_keeps_the_last_ones_and_those_that_failed() -> None:
    run = failing_at(7, 19_990).run(NUMBERS, trace=True, trace_limit=50)
    traces = run.traces.set_index("line_no")
    kept = traces[traces["kept"] == "recent"]
    assert kept.index.tolist() == [n for n in range(19_950, 20_000) if n != 19_990]
    assert traces[traces["kept"] == "error"].index.tolist() == [7, 19_990]
    slow = traces[traces["kept"] == "slow"]
    assert 0 < len(slow) <= 20
    assert (slow["duration_us"] > 0).all()
    assert traces.loc[19_999, ["line", "path", "fate", "output"]].tolist() == ["19999", "work", "emitted", "19999!"]
    assert traces.loc[7, ["line", "path", "fate"]].tolist() == ["7", "work", "dead_letter"]
    assert pd.isna(traces.loc[7, "output"])


def test_a_slow_line_is_kept() -> None:
    def work(line: str) -> str:
        if line == "77":
            time.sleep(0.02)
        return line

    run = Pipeline("p").add("work", work).run(NUMBERS, trace=True, trace_limit=10)
    assert run.traces.set_index("line_no").loc[77, "kept"] == "slow"
    assert run.trace(77).hops["duration_us"][0] > 15_000


def test_messages_of_a_trace_that_is_not_kept() -> None:
    run = upper().run(NUMBERS, trace=True, trace_limit=10)
    with pytest.raises(TraceError, match=r"no line 20000.*20000 lines"):
        run.trace(20_000)
    with pytest.raises(TraceError, match="no line -1"):
        run.trace(-1)
    kept = set(run.traces["line_no"])
    gone = next(n for n in range(5_000, 10_000) if n not in kept)
    with pytest.raises(TraceError, match=r"not kept any more.*trace_limit"):
        run.trace(gone)


def test_a_trace_says_when_its_hops_were_not_recorded() -> None:
    run = upper().run(NUMBERS, trace=True)
    blind = [n for n in range(19_000, 20_000) if not run.trace(n).recorded]
    assert blind, "on fast input not every line is observed"
    story = run.trace(blind[0])
    assert 'trace="hops"' in story.note
    assert 'trace="hops"' in repr(story)
    assert "trace=&quot;hops&quot;" in story._repr_html_()
    assert len(story.hops) == 0


def test_small_input_has_all_its_hops() -> None:
    run = demo.run(["warn: hot <b>", "info: ok"], trace=True)
    story = run.trace(0)
    assert story.note == ""
    assert story.hops["processor"].tolist() == ["start", "warn", "end"]
    assert story.hops["value"].tolist() == ["warn: hot <b>", "warn: hot <b>", "WARN: HOT <B>"]
    assert story.hops["outputs"].tolist()[-1] == [{"to": "emitted", "value": "[WARN: HOT <B>]"}]
    assert (story.hops["duration_us"] > 0).all()
    assert "hot &lt;b&gt;" in story._repr_html_()
    assert "hot <b>" not in story._repr_html_()


def test_trace_hops_records_all() -> None:
    run = demo.run(["warn: hot"] * 5_000, trace="hops")
    for n in (4_000, 4_500, 4_999):
        assert run.trace(n).hops["processor"].tolist() == ["start", "warn", "end"]
    assert len(run.traces[run.traces["kept"] == "recent"]) == 1_000


def test_trace_all_has_path_and_fate_of_every_line() -> None:
    pipeline = Pipeline("p").add("start", lambda n: None if n.endswith("3") else [n, n] if n.endswith("5") else n, to="end")
    pipeline.add("end", lambda n: None if n.endswith("7") else (EMIT, n) if 1 / (int(n) % 100 != 5) else None)
    run = pipeline.run(NUMBERS, trace="all")
    traces = run.traces
    assert sorted(set(traces["line_no"])) == list(range(20_000))
    assert traces["line_no"].is_monotonic_increasing
    for number, path, fate in zip(traces["line_no"], traces["path"], traces["fate"], strict=True):
        text = str(number)
        wanted = "filtered" if text[-1] in "37" else "dead_letter" if number % 100 == 5 else "emitted"
        assert (path, fate) == ("start" if text.endswith("3") else "start > end", wanted)
    twice = traces[traces["line_no"] == 15]
    assert twice["branch"].tolist() == [0, 1]
    assert set(traces["kept"]) >= {"all", "recent", "error"}


def test_trace_and_traces_agree() -> None:
    run = failing_at(5).run(NUMBERS[:10], trace=True)
    rows = run.traces.set_index("line_no")
    for n in range(10):
        [branch] = run.trace(n).branches
        for column in ("line", "path", "fate", "kept"):
            assert branch[column] == rows.loc[n, column], (n, column)


def test_hops_of_branches_that_met_the_same_processor() -> None:
    """One of three equal branches fails: its visit says so, and only its."""

    def work(value: int) -> int:
        return 10 // (value - 2)

    pipeline = Pipeline("p").add("split", lambda line: [1, 2, 3], to="work").add("work", work)
    for lines, at in ((1, 0), (5_000, 4_999)):  # observed, and reconstructed after the failure
        hops = pipeline.run(["x"] * lines, trace=True).trace(at).hops
        assert hops["value"].tolist() == ["x", 1, 2, 3]
        assert hops["error"].notna().tolist() == [False, False, True, False]
        outs = [[(out["to"], out["value"]) for out in row] for row in hops["outputs"]]
        assert outs[1:] == [[("emitted", -10)], [("dead_letter", None)], [("emitted", 10)]]


def test_a_failed_line_has_the_hops_of_all_segments() -> None:
    async def work(line: str) -> str:
        raise OSError("gone")

    run = Pipeline("p").add("start", str.upper, to="work").add("work", work).run(["x"] * 3_000, trace=True)
    assert run.trace(2_999).hops["processor"].tolist() == ["start", "work"]


# Export


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".ndjson", ".parquet"])
def test_traces_are_read_back(ending: str, tmp_path: Path) -> None:
    run = demo.run(["info: a", 'warn: b, "quoted"', "info: ü\x01"], trace=True)
    path = run.export_traces(tmp_path / f"traces{ending}")
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}.get(ending, lambda p: pd.read_json(p, lines=True))(path)
    for column in ("line_no", "branch", "line", "path", "fate", "output", "attempts", "kept"):
        assert read[column].tolist() == run.traces[column].tolist(), column
    assert read["duration_us"].tolist() == pytest.approx(run.traces["duration_us"].tolist())


FORMULAS = ["=1+1", "+1", "-1", "@a", "\ta", "\ra"]


def test_csv_cells_are_no_formulas(tmp_path: Path) -> None:
    run = Pipeline("p").add("same", lambda line: line).run([*FORMULAS, "a=1"], trace=True)
    for raw, mark in ((False, "'"), (True, "")):
        path = run.export_traces(tmp_path / f"{raw}.csv", raw=raw)
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["line"] for row in rows] == [*(mark + text for text in FORMULAS), "a=1"]
        assert [row["output"] for row in rows] == [*(mark + text for text in FORMULAS), "a=1"]
        assert [row["line_no"] for row in rows] == [str(n) for n in range(7)]


def test_bytes_that_were_not_text_survive_csv(tmp_path: Path) -> None:
    log = tmp_path / "in.log"
    log.write_bytes(b"caf\xe9\nok\n")
    run = upper().run(log, trace=True)
    path = run.export_traces(tmp_path / "traces.csv")
    assert b"caf\xe9" in path.read_bytes()
    for ending in (".jsonl", ".parquet"):
        assert run.export_traces(tmp_path / f"traces{ending}").exists()
    assert json.loads((tmp_path / "traces.jsonl").read_text("utf-8").splitlines()[0])["line"] == "caf\ufffd"


def test_an_unknown_ending_and_an_unwritable_path(tmp_path: Path) -> None:
    run = upper().run(["a"], trace=True)
    with pytest.raises(SinkError, match=r"\.xlsx.*\.csv"):
        run.export_traces(tmp_path / "traces.xlsx")
    with pytest.raises(SinkError, match="cannot be written"):
        run.export_traces(tmp_path / "no" / "traces.csv")


def test_outputs_of_any_kind_can_be_exported(tmp_path: Path) -> None:
    values: list[Any] = [{"a": 1}, [1, 2], None, 1.5, b"x", "text", object(), {1, 2}]
    pipeline = Pipeline("p").add("give", lambda line: (EMIT, values[int(line)]))
    run = pipeline.run([str(n) for n in range(len(values))], trace=True)
    for ending in (".csv", ".jsonl", ".parquet"):
        run.export_traces(tmp_path / f"traces{ending}")
    assert len(run.output) == len(values)


# Async


def test_async_processors_run_together_bounded_and_in_order() -> None:
    running, most = 0, 0

    async def work(line: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (int(line) % 5))
        running -= 1
        return line

    started = time.monotonic()
    run = Pipeline("p").add("work", work, concurrency=20).run(NUMBERS[:400])
    assert time.monotonic() - started < 0.4, "one after the other would take 0.8 s"
    assert most == 20
    assert run.output["value"].tolist() == NUMBERS[:400]


def test_async_processors_start_in_order() -> None:
    seen: list[str] = []

    async def work(line: str) -> str:
        seen.append(line)
        await asyncio.sleep(0)
        return line

    Pipeline("p").add("work", work, concurrency=7).run(NUMBERS[:200])
    assert seen == NUMBERS[:200]


def test_an_async_class_keeps_state_in_order() -> None:
    class Sum:
        def __init__(self) -> None:
            self.total = 0

        async def __call__(self, line: str) -> int:
            before = self.total
            await asyncio.sleep(0)
            self.total = before + int(line)
            return self.total

    run = Pipeline("p").add("sum", Sum).run(NUMBERS[:300])
    assert run.output["value"].tolist()[-1] == sum(range(300))


# Ctrl-C, and letting go

SLOW = """
import sys, time
import polars  # which puts a handler of its own below Python's
from streamlab import demo

def lines():
    n = 0
    while True:
        yield f"warn: {n}"
        n += 1
        time.sleep(0.005)

try:
    demo.run(lines(), output=lambda value: print(value, flush=True))
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_control_c_stops_a_run(times: int) -> None:
    """A real signal to a real process: it stops at once, what was read is printed, and it says why."""
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = [process.stdout.readline() for _ in range(5)]
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    rest, errors = process.communicate(timeout=ENOUGH)
    printed = [*map(str.rstrip, first), *rest.split("\n")[:-1]]
    assert printed == [f"[WARN: {n}]" for n in range(len(printed))]
    if times == 1:
        assert process.returncode == 130
        assert errors.strip() == "interrupted"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def asynchronous(line: str) -> str:
    return line


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_500_starts_and_stops_leave_nothing_behind(tmp_path: Path) -> None:
    """Lists, generators, files, async processors, timeouts, pauses, failures: threads and files are as they were."""
    log = tmp_path / "in.log"
    log.write_text("1\n2\n")

    def pipeline(i: int) -> Pipeline:
        made = Pipeline("p").add("a", str.strip, to="b", timeout=5.0 if i % 3 == 0 else None)
        return made.add("b", asynchronous if i % 2 else raising if i % 5 == 0 else str.strip, on_error="stop")

    def raising(line: str) -> str:
        raise ValueError

    def once(i: int) -> None:
        source: Any = [NUMBERS[:3], (n for n in NUMBERS[:3]), log][i % 3]
        live = pipeline(i).start(source, output=(tmp_path / f"{i}.out") if i % 4 == 0 else None)
        if i % 7 == 0 and live.state not in ("finished", "failed", "stopped"):
            with contextlib.suppress(RunError):  # it may just have ended
                live.pause()
        if i % 2:
            live.stop()
        live.resume()
        assert live.wait(ENOUGH).state in ("finished", "stopped", "failed")
        assert live.state != "failed" or isinstance(live.exception, ProcessorFailed)

    once(0), once(1), once(2), once(3)
    gc.collect()
    threads, files = threading.active_count(), open_files()
    for i in range(500):
        once(i)
    until(lambda: threading.active_count() <= threads)
    gc.collect()
    assert open_files() <= files


class Away:
    """A sink that takes nothing until it is told to."""

    name = "away"

    def __init__(self) -> None:
        self.there = False
        self.taken: list[str] = []

    def write(self, values: Any, line_no: Any) -> list[Any]:
        if not self.there:
            raise Outage("it is away", waits=True)
        self.taken += values
        return []

    def close(self) -> None:
        pass


def test_a_run_that_is_stopped_while_it_waits_is_draining_and_then_stopped(tap: Tap) -> None:
    sink = Away()
    live = upper().start(tap, output=sink)
    tap.let(1)
    until(lambda: live.reason is not None)
    assert live.state == "paused"
    live.stop()
    assert live.state == "draining"
    sink.there = True
    live.wait(ENOUGH)
    assert (live.state, live.reason, sink.taken) == ("stopped", None, ["LINE 0"])


class BreaksOff(SequenceSource):
    """Lines that cannot be read to their end; and then it does not even want to hear of those that have passed."""

    broken = False

    def read(self, limit: int) -> Chunk:
        if self._given >= len(self._items):
            self.broken = True
            raise SourceError("it broke off")
        return super().read(limit)

    def passed(self, places: Places, count: int) -> None:
        if self.broken:
            raise ValueError("it is broken")
        super().passed(places, count)


def test_all_is_given_back_whatever_fails_at_the_end(tmp_path: Path) -> None:
    pipeline = Pipeline("upper").add("up", processors.upper())
    lines = [f"line {n}" for n in range(400_000)]
    pipeline.run(lines, output=tmp_path / "first")  # what is imported, and begun once, is there by now
    before = resources()
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    run = pipeline.run(BreaksOff(lines), **options)
    assert run.state == "failed" and str(run.exception) == "it broke off"
    until(lambda: resources() == before)
    with pytest.raises(CheckpointError, match="has kind of source"):  # and not that it is in use
        pipeline.run(lines, **options)
