"""What a run hangs on is said: the processor, the line, the place in the code, for how long, and that it went on."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamlab import Pipeline, Retry, Run, RunError
from streamlab.batch import Chunk
from streamlab.engine import Engine
from streamlab.notices import Notice
from streamlab.runners.endurance import Endurance
from streamlab.runners.host import LocalHost
from streamlab.runners.outlet import Outlet
from streamlab.runners.watchdog import Watchdog
from streamlab.sinks import open_sink
from tests.waiting import until

#: What is long here.
SECONDS = 0.4
FIRST = 100


class Watched:
    """A batch of lines on its way, from line 100 on, in a thread that is watched as that of a run is."""

    def __init__(self, pipeline: Pipeline, lines: list[str], *, observe: bool, parallel: bool, sink: Any) -> None:
        self.told: list[Notice] = []
        self.stopping = threading.Event()
        self.host = LocalHost(self.stopping)
        self.engine = Engine(pipeline, self.host, observe_all=observe, parallel=parallel)
        if not observe:
            self.engine._sampler = Never()  # type: ignore[assignment]
        self.outlet = Outlet(sink, self.host, Endurance("fail", self.stopping, lambda what: None), lambda *batch: None)
        self.since: tuple[float, int | None] | None = None
        self.thread = threading.Thread(target=self._work, args=[lines], name="streamlab-tested")
        self.watchdog: Watchdog | None = None

    def _work(self, lines: list[str]) -> None:
        self.watchdog = Watchdog("p", threading.get_ident(), lambda: self.since, self.told.append, seconds=SECONDS)
        chunk = Chunk(lines)
        rows = self.engine.begin(chunk)
        if rows is not None and rows.begun is not None:
            rows.begun = self.host.ahead(rows.begun).result
        self.since = time.perf_counter(), FIRST
        with suppress(RunError):  # its process was ended
            self.outlet.hand_on(self.engine.process(chunk, FIRST, rows=rows))
        self.since = time.perf_counter(), None
        for batch in self.engine.flush():
            self.outlet.hand_on(batch)
        self.since = None

    def messages(self) -> list[str]:
        return [notice.message for notice in self.told]


class Never:
    """Observes no line: all go through the generated loop."""

    def pick(self, lines: int, clock: float) -> Any:
        return ()

    def learn(self, rows: Any) -> None:
        pass


@contextmanager
def watched(
    pipeline: Pipeline,
    lines: list[str],
    release: Callable[[], object] | None,
    *,
    observe: bool = False,
    parallel: bool = False,
    output: Any = None,
) -> Iterator[Watched]:
    """Give what happens from the first notice on; then let go of what hangs, and wait for the end."""
    it = Watched(pipeline, lines, observe=observe, parallel=parallel, sink=open_sink(output or (lambda value: None)))
    it.thread.start()
    try:
        until(lambda: bool(it.told))
        yield it
    finally:
        (release or it.host.close)()
        it.thread.join(30)
        assert it.watchdog is not None
        it.watchdog.close()
        it.host.close()


def line_of(function: Callable[..., Any], offset: int) -> str:
    """The place of a line of a function, as it is written."""
    code = function.__code__
    return f"{re.escape('tests/test_watchdog.py')}:{code.co_firstlineno + offset} in {code.co_name}"


LINES = ["a", "b", "hang", "c"]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_run_says_what_it_hangs_on(isolation: Any, tmp_path: Path) -> None:
    """While it does, and that it went on."""
    go_on = tmp_path / "go on"

    def slow(line: str) -> str:
        while line == "line 17" and not go_on.exists():
            time.sleep(0.01)
        return line

    lines = [f"line {n}" for n in range(100)]
    live = Pipeline("logs").add("slow", slow).start(lines, isolation=isolation, watchdog=SECONDS)
    until(lambda: "processor 'slow', line 17: has been running for" in said(live))
    assert live.notices["kind"].tolist()[-1] == "hanging" and live.notices["where"].tolist()[-1] == "slow"
    go_on.touch()
    assert live.wait(30).state == "finished"
    assert "pipeline 'logs', processor 'slow', line 17: went on after" in said(live)
    assert live.ledger["emitted"] == 100


def said(run: Run) -> str:
    return "\n".join(run.notices["message"].tolist())


@pytest.mark.parametrize("observe", [True, False], ids=["walk", "loop"])
def test_processor_line_place_and_time(observe: bool) -> None:
    """In the general walk and in the generated loop, behind a fan-out."""
    release = threading.Event()

    def many(line: str) -> list[str]:
        return [line] * (3 if line == "b" else 1)

    def slow(line: str) -> str:
        if line == "hang":
            release.wait(30)
        return line

    pipeline = Pipeline("p").add("many", many, to="slow").add("slow", slow, to="end").add("end", lambda line: line)
    with watched(pipeline, LINES, release.set, observe=observe) as it:
        [first] = it.told[:1]
        assert (first.kind, first.where) == ("hanging", "slow")
        expected = r"pipeline 'p', processor 'slow', line 102: has been running for \d s, at " + line_of(slow, 2)
        assert re.fullmatch(expected + r" \(.*threading.py:\d+ in wait\)", first.message)
    assert it.messages()[-1].startswith("pipeline 'p', processor 'slow', line 102: went on after ")


def test_it_is_said_again_at_doubling_intervals() -> None:
    release = threading.Event()
    began = time.perf_counter()
    with watched(Pipeline("p").add("slow", lambda line: release.wait(30)), ["a"], release.set) as it:
        until(lambda: len(it.told) == 3)
        lasted = time.perf_counter() - began
        assert lasted >= 4 * SECONDS  # after 1, 2 and 4 times as long
        assert "has been running" in it.told[2].message
    assert "went on" in it.told[-1].message


def test_a_batch_that_goes_on_is_not_told_of() -> None:
    """However long it takes in all."""
    began = threading.Event()

    def slow(line: str) -> str:
        if line == "last":
            began.set()
            release.wait(30)
        else:
            time.sleep(SECONDS / 4)
        return line

    release = threading.Event()
    lines = [str(n) for n in range(12)] + ["last"]
    with watched(Pipeline("p").add("slow", slow), lines, release.set) as it:
        assert began.is_set()
        assert "line 112" in it.told[0].message


def test_a_call_with_a_timeout_runs_in_another_thread() -> None:
    release = threading.Event()

    def slow(line: str) -> str:
        release.wait(30)
        return line

    with watched(Pipeline("p").add("slow", slow, timeout=25.0), ["a"], release.set) as it:
        assert re.search("processor 'slow', line 100: .* at " + line_of(slow, 1), it.told[0].message)


def test_a_function_without_frames_of_its_own() -> None:
    """The loop that was generated says by itself what it has called."""
    release = threading.Event()
    pipeline = Pipeline("p").add("first", lambda line: 30.0, to="wait").add("wait", release.wait)
    with watched(pipeline, ["a"], release.set) as it:
        assert it.told[0].message.startswith("pipeline 'p', processor 'wait', line 100: has been running for")


def test_between_two_attempts() -> None:
    def fails(line: str) -> str:
        raise OSError

    pipeline = Pipeline("p").add("fails", fails, retry=Retry(2, initial_interval=20.0, maximum_interval=20.0, jitter=False))
    with watched(pipeline, ["a"], lambda: None) as it:
        it.stopping.set()
        assert it.told[0].message.startswith("pipeline 'p', processor 'fails', line 100: has been waiting to try again for")


def test_an_async_processor() -> None:
    """Where one of its values holds all up, it is named; where it waits for many, the first line is."""
    release = threading.Event()

    async def blocks(line: str) -> str:
        if line == "hang":
            release.wait(30)
        return line

    with watched(Pipeline("p").add("blocks", blocks), LINES, release.set) as it:
        assert re.search("processor 'blocks', line 102: .* at " + line_of(blocks, 2), it.told[0].message)

    async def waits(line: str) -> str:
        while not release.is_set():
            await asyncio.sleep(0.01)
        return line

    release.clear()
    with watched(Pipeline("p").add("waits", waits), LINES, release.set) as it:
        assert "processor 'waits', a line from 100 on: has been running" in it.told[0].message


def test_a_columnar_processor() -> None:
    """In a thread for columns, which begins with a batch before its turn."""
    release = threading.Event()

    def slow(line: str) -> str:
        release.wait(30)
        return line

    expression = pl.col("line").map_elements(slow, return_dtype=pl.String)
    with watched(Pipeline("p").add("column", expression), LINES, release.set) as it:
        assert re.search("processor 'column', a line from 100 on: .* at " + line_of(slow, 1), it.told[0].message)


def test_a_sink() -> None:
    release = threading.Event()

    def sink(value: str) -> None:
        release.wait(30)

    with watched(Pipeline("p").add("a", str.upper), ["a"], release.set, output=sink) as it:
        assert re.search("pipeline 'p', output '.*', a line from 100 on: has been writing .* in sink", it.told[0].message)


def test_what_a_class_does_at_the_end() -> None:
    release = threading.Event()

    class last:
        def __call__(self, line: str) -> None:
            return None

        def flush(self) -> Iterator[str]:
            release.wait(30)
            yield "end"

    with watched(Pipeline("p").add("last", last), ["a"], release.set) as it:
        assert re.search("processor 'last', at end of input: has been running .* in flush", it.told[0].message)


@pytest.mark.parametrize("timeout", [None, 25.0])
def test_a_process(timeout: float | None) -> None:
    """Even with its interpreter's lock held: it is asked by a signal, which nothing holds up."""

    def slow(line: str) -> str:
        if line == "hang":
            re.match(r"(a+)+$", "a" * 40 + "b")
        return line

    pipeline = Pipeline("p").add("first", lambda line: line, to="slow").add("slow", slow, timeout=timeout)
    with watched(pipeline, LINES, None, parallel=True) as it:
        until(lambda: "running" in it.told[-1].message)  # on a slow machine, it says before that it is starting the process
        message = it.told[-1].message
        expected = r"pipeline 'p', processor 'slow', line 102: has been running for \d s in process \d+, at "
        assert re.match(expected + line_of(slow, 2) + r" \(.*re.*in match\)", message), message


def test_what_held_the_interpreter_is_told_when_it_lets_go() -> None:
    def backtrack(letters: int) -> float:
        start = time.perf_counter()
        re.match(r"(a+)+$", "a" * letters + "b")  # each letter doubles the time
        return time.perf_counter() - start

    def holds(line: str) -> str:
        if line == "hang":
            backtrack(letters)
            time.sleep(0.5)  # lets go: until here, nobody could look
        return line

    letters = 18
    while backtrack(letters) < SECONDS:
        letters += 1
    letters += 1
    with watched(Pipeline("p").add("holds", holds), LINES, lambda: None) as it:
        message = it.told[0].message
        assert re.search(r"processor 'holds', line 102: has been running for .* at tests/test_watchdog\.py", message)
        assert message.endswith('it let nothing else in this program run, which isolation="process" would')


STANDS_STILL = """
import _thread, gc, os, threading, time
from streamlab.runners.whereabouts import find

class Rubbish:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        time.sleep(0.0001)  # another thread has its turn while rubbish is collected
        Rubbish()

def begin():
    while True:
        _thread.start_new_thread(time.sleep, (0,))
        time.sleep(0.0002)

gc.disable()
threading.Thread(target=begin, daemon=True).start()
Rubbish()
for _ in range(25):
    gc.set_threshold(1)
    gc.enable()
    find(0)
    gc.disable()
    gc.collect()
print("went on", flush=True)
os._exit(0)
"""


def test_looking_does_not_bring_the_interpreter_to_stand_still() -> None:
    """As listing frames does while threads begin, in Python 3.11, if rubbish is collected meanwhile."""
    done = subprocess.run([sys.executable, "-c", STANDS_STILL], capture_output=True, text=True, timeout=30)
    assert done.stdout == "went on\n", done.stderr
