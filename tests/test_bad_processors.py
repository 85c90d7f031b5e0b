"""Bad processors in processes of their own: the line pays, its neighbours run, and the tables are as always.

What a bad processor costs in the run's own process is told by test_policies.py.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamlab import Pipeline, PipelineError, ProcessorFailed, Retry, Run, RunError
from streamlab.runners import local, processes
from streamlab.segments import station
from tests import faults_processing as faults
from tests.waiting import until

LINES = [str(n) for n in range(40)]
#: Seconds that a call may take here: long enough for what is no fault, on a machine that is busy.
TIMEOUT = 0.5


def bad_at(fault: Callable[[], None], *numbers: int, **options: Any) -> Pipeline:
    """A pipeline of three functions: the second one does something terrible at some lines."""

    def middle(line: str) -> str:
        if int(line) in numbers:
            fault()
        return f"{line}!"

    pipeline = Pipeline("p").add("first", lambda line: line, to="middle").add("middle", middle, to="last", **options)
    return pipeline.add("last", lambda line: f"[{line}]").add("mend", lambda line: f"mended {line}")


def assert_costs(run: Run, kind: str, *numbers: int) -> None:
    """Some lines have failed, all others were run, once as far as the tables tell."""
    assert run.state == "finished", run.exception
    assert run.errors[["line_no", "processor", "kind", "line"]].values.tolist() == [
        [number, "middle", kind, str(number)] for number in numbers
    ]
    others = [number for number in range(len(LINES)) if number not in numbers]
    assert run.output.values.tolist() == [[number, f"[{number}!]"] for number in others]
    assert run.ledger["in_flight"] == 0 and run.ledger["dead_lettered"] == len(numbers)
    assert run.metrics["received"].tolist()[:3] == [len(LINES), len(LINES), len(others)]
    traces = run.traces.set_index("line_no")
    assert traces["path"].tolist() == [
        "first > middle" if number in numbers else "first > middle > last" for number in range(len(LINES))
    ]
    for number in numbers:
        hops = run.trace(number).hops
        assert hops["processor"].tolist() == ["first", "middle"]
        assert hops["value"].tolist() == [str(number)] * 2


# A processor that hangs, or ends its process


@pytest.mark.parametrize("fault", faults.HANGS, ids=lambda fault: fault.__name__)
def test_a_call_that_hangs_costs_its_line(fault: Callable[[], None]) -> None:
    run = bad_at(fault, 17, timeout=TIMEOUT).run(LINES, isolation="process", trace="all")
    assert_costs(run, "timeout", 17)
    assert run.errors["message"].tolist() == [f"processor 'middle' took longer than {TIMEOUT} s"]


@pytest.mark.parametrize("fault", faults.ENDS, ids=lambda fault: fault.__name__)
def test_a_call_that_ends_its_process_costs_its_line(fault: Callable[[], None]) -> None:
    """Whether it may take for ever or not, and the processor to blame is named."""
    run = bad_at(fault, 17).run(LINES, isolation="process", trace="all")
    assert_costs(run, "worker_died", 17)
    assert run.errors["message"].tolist() == ["processor 'middle' ended the process that ran it"]


KINDS = ["well"] * 20 + ["none", "two", "raise", "later"]


def test_all_that_a_processor_can_do_at_once() -> None:
    """In several processes, lines of all kinds among each other: as if each was alone."""
    chance = random.Random(1)
    kinds = [chance.choice(KINDS) for _ in range(200)]
    for n in chance.sample(range(200), 4):
        kinds[n] = chance.choice(["hang", "end"])

    def first(line: str) -> Any:
        number, kind = line.split()
        if kind == "none":
            return None
        return [line, f"{number} well again"] if kind == "two" else line

    def second(line: str) -> str:
        kind = line.split()[1]
        if kind == "hang":
            faults.loop()
        if kind == "end":
            faults.leave()
        if kind == "raise":
            raise ValueError(line)
        if kind == "later":
            time.sleep(0.01)
        return line.upper()

    pipeline = Pipeline("p").add("first", first, to="second").add("second", second, timeout=TIMEOUT)
    run = pipeline.run([f"{n} {kind}" for n, kind in enumerate(kinds)], workers=2)
    assert run.state == "finished"
    expected = []
    for n, kind in enumerate(kinds):
        if kind in ("well", "later", "two"):
            expected.append([n, f"{n} {kind}".upper()])
        if kind == "two":
            expected.append([n, f"{n} WELL AGAIN"])
    assert run.output.values.tolist() == expected
    fails = {"hang": "timeout", "end": "worker_died", "raise": "processing"}
    failed = [[n, "second", fails[kind]] for n, kind in enumerate(kinds) if kind in fails]
    assert run.errors[["line_no", "processor", "kind"]].values.tolist() == failed
    counts = run.ledger
    assert (counts["received"], counts["forked"]) == (200, kinds.count("two"))
    assert (counts["emitted"], counts["dead_lettered"]) == (len(expected), len(failed))
    assert (counts["filtered"], counts["in_flight"]) == (kinds.count("none"), 0)


def test_memory_that_runs_out_costs_its_line() -> None:
    def greedy() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), resource.RLIM_INFINITY))
        hoard = []
        while True:
            hoard.append(bytearray(1 << 20))

    run = bad_at(greedy, 17).run(LINES, isolation="process")
    assert run.state == "finished"
    assert run.errors[["line_no", "processor"]].values.tolist() == [[17, "middle"]]
    assert run.errors["kind"].tolist() in (["processing"], ["worker_died"])  # MemoryError, if there was enough left for it
    assert run.output["line_no"].tolist() == [number for number in range(40) if number != 17]


def test_what_a_call_has_started_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def start() -> None:
        begun = subprocess.Popen(["sleep", "3600"])
        told.write_text(str(begun.pid))
        begun.wait()

    assert_costs(bad_at(start, 17, timeout=TIMEOUT).run(LINES, isolation="process", trace="all"), "timeout", 17)
    until(lambda: not runs(int(told.read_text())))


def runs(pid: int) -> bool:
    """Whether a process runs, and is not just waiting to be taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# What is done about it is what is done about any failure


def test_it_is_tried_again() -> None:
    """As often as the policy says, if it goes on hanging; and it may work the second time."""
    twice = Retry(maximum_attempts=2, initial_interval=0.01)
    run = bad_at(faults.regex, 17, timeout=TIMEOUT, retry=twice).run(LINES, isolation="process", trace="all")
    assert_costs(run, "timeout", 17)
    assert run.errors["attempts"].tolist() == [2] and run.metrics.loc["middle", "retries"] == 1


def test_it_may_work_the_second_time(tmp_path: Path) -> None:
    def once() -> None:
        if not (tmp_path / "done").exists():
            (tmp_path / "done").touch()
            faults.regex()

    twice = Retry(maximum_attempts=3, initial_interval=0.01)
    run = bad_at(once, 17, timeout=TIMEOUT, retry=twice).run(LINES, isolation="process", trace="all")
    assert run.output["value"].tolist() == [f"[{line}!]" for line in LINES] and not len(run.errors)
    assert run.metrics.loc["middle", "retries"] == 1
    assert run.trace(17).branches[0]["attempts"] == 2


@pytest.mark.parametrize("fault", [faults.regex, faults.leave], ids=lambda fault: fault.__name__)
def test_another_processor_takes_it(fault: Callable[[], None]) -> None:
    run = bad_at(fault, 17, timeout=TIMEOUT, on_error="mend").run(LINES, isolation="process", trace="all")
    assert run.state == "finished" and run.ledger["in_flight"] == 0 and run.ledger["dead_lettered"] == 0
    assert run.output["value"].tolist() == ["mended 17" if line == "17" else f"[{line}!]" for line in LINES]
    assert run.trace(17).branches[0]["path"] == "first > middle > mend"


def test_it_stops_the_run_if_it_is_to() -> None:
    run = bad_at(faults.regex, 17, timeout=TIMEOUT, on_error="stop").run(LINES, isolation="process")
    assert run.state == "failed" and isinstance(run.exception, ProcessorFailed)
    assert "processor 'middle', line 17: timeout" in str(run.exception)
    assert run.output["line_no"].tolist() == list(range(17))
    left = run.unfinished["line_no"].tolist()
    assert left == list(range(18, 18 + len(left)))


def test_the_other_branches_of_its_line_go_on() -> None:
    """And so do other visits of the same processor, in a graph that goes round."""

    def fan(line: str) -> list[tuple[str, int]]:
        return [("count", n) for n in range(4)]

    def count(n: int) -> Any:
        if n == 12:
            faults.loop()
        if n == 13:
            faults.leave()
        return ("count", n + 10) if n < 20 else ("end", n)

    pipeline = Pipeline("p").add("fan", fan, to="count").add("count", count, to=("count", "end"), timeout=TIMEOUT)
    run = pipeline.add("end", lambda n: n).run(["a", "b"], isolation="process")
    assert run.output.values.tolist() == [[0, 20], [0, 21], [1, 20], [1, 21]]
    assert run.errors[["line_no", "processor", "kind"]].values.tolist() == [
        [0, "count", "timeout"],
        [0, "count", "worker_died"],
        [1, "count", "timeout"],
        [1, "count", "worker_died"],
    ]
    assert run.ledger["received"] + run.ledger["forked"] == 8 == run.ledger["emitted"] + run.ledger["dead_lettered"]


def test_a_coroutine_that_waits_for_nothing() -> None:
    """In a loop of the graph, where it is walked with the functions: what it awaits ends in time, the rest from outside."""

    async def step(line: str) -> Any:
        import asyncio

        if line == "17":
            await asyncio.sleep(3600)
        if line == "23":
            faults.loop()
        return ("step", f"{line}!") if not line.endswith("!") else ("end", line)

    pipeline = Pipeline("p").add("step", step, to=("step", "end"), timeout=TIMEOUT).add("end", lambda line: line)
    run = pipeline.run(LINES, isolation="process")
    assert run.errors[["line_no", "kind"]].values.tolist() == [[17, "timeout"], [23, "timeout"]]
    assert run.output["value"].tolist() == [f"{line}!" for line in LINES if line not in ("17", "23")]


def test_a_line_that_costs_one_process_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a line's calls may cost a process: after some of them, none of its calls is made any more."""
    monkeypatch.setattr(station, "MOST_LOST", 2)

    def fan(line: str) -> Iterator[tuple[str, str]]:
        for n in range(1000):
            yield "end", f"{line} {n}"

    def end(line: str) -> str:
        if line.startswith("17 "):
            faults.leave()
        return line

    pipeline = Pipeline("p").add("fan", fan, to="end").add("end", end)
    run = pipeline.run(LINES[15:20], isolation="process")
    assert run.state == "finished" and run.ledger["in_flight"] == 0
    assert run.errors[["line_no", "processor", "kind"]].values.tolist() == [[2, "fan", "worker_died"]]
    assert run.output["line_no"].value_counts().to_dict() == {0: 1000, 1: 1000, 3: 1000, 4: 1000}


# What is nobody's fault


def test_a_process_that_somebody_else_ends_costs_no_line(tmp_path: Path) -> None:
    def killed() -> None:
        if not (tmp_path / "done").exists():
            (tmp_path / "done").touch()
            faults.kill()

    run = bad_at(killed, 17).run(LINES, isolation="process", trace="all")
    assert_costs(run, "")


def test_a_process_that_ends_while_it_waits_costs_no_line() -> None:
    def lines() -> Iterator[str]:
        yield "before"
        until(lambda: bool(taken))
        for pid in faults.children():
            os.kill(pid, signal.SIGKILL)
        yield "after"

    taken: list[str] = []
    run = Pipeline("p").add("it", lambda line: line).run(lines(), output=taken.append, isolation="process")
    assert run.state == "finished" and not len(run.errors)
    assert taken == ["before", "after"]


def test_a_process_that_somebody_else_stops_costs_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For no timeout would ever tell, between two calls."""
    monkeypatch.setattr(processes, "STOPPED_SECONDS", 0.2)

    def stopped() -> None:
        if not (tmp_path / "done").exists():
            (tmp_path / "done").touch()
            faults.stopped()

    run = bad_at(stopped, 17).run(LINES, isolation="process", trace="all")
    assert_costs(run, "")


# The end


def test_a_stop_ends_processes_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a timeout, nothing else does. They have less time than the run, so that it comes to its end in time."""
    assert processes.DRAIN_SECONDS <= local.DRAIN_SECONDS - 2
    monkeypatch.setattr(processes, "DRAIN_SECONDS", 0.5)
    threads = threading.active_count()

    def hang() -> None:
        (tmp_path / "hangs").touch()
        faults.regex()

    live = bad_at(hang, 5).start(LINES, workers=2)
    until((tmp_path / "hangs").exists)
    live.stop()
    assert live.wait(local.DRAIN_SECONDS).state == "failed"
    assert isinstance(live.exception, RunError) and "did not come to the end of its lines" in str(live.exception)
    unfinished = live.unfinished["line_no"].tolist()
    assert 5 in unfinished and unfinished == list(range(unfinished[0], unfinished[0] + len(unfinished)))
    assert live.output["line_no"].tolist() == list(range(unfinished[0]))
    assert not faults.children()
    until(lambda: threading.active_count() == threads)


def test_processes_that_hang_end_with_who_started_them(tmp_path: Path) -> None:
    """Also when that was killed, and while the interpreter's lock is held, so that no thread of theirs could end them."""
    program = """
import os, sys
from pathlib import Path
from streamlab import Pipeline
from tests.faults_processing import regex
def hang(line):
    Path(line).write_text(f"{os.getpid()} ")
    regex()
Pipeline("p").add("hang", hang).run([sys.argv[1]] * 100, isolation="process")
"""
    told = tmp_path / "pid"
    command = [sys.executable, "-c", program, str(told)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) as started:
        until(lambda: told.exists() and told.read_text().endswith(" "))
        started.kill()
    until(lambda: not runs(int(told.read_text())))


def test_an_interrupt_raised_by_a_processor_stops_the_run() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bad_at(interrupt, 17).run(LINES, isolation="process")


# What cannot be sent from one process to the other


class Grumpy(Exception):
    """Can be pickled, but not be read again: as many exceptions whose ``__init__`` takes two arguments."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


class Fatal:
    """Ends the process that reads it."""

    def __reduce__(self) -> Any:
        return os._exit, (5,)

    def __deepcopy__(self, memo: Any) -> Fatal:
        return self


def test_a_result_that_cannot_be_read_costs_its_line() -> None:
    run = Pipeline("p").add("it", lambda line: Grumpy("a", "b") if line == "17" else line).run(LINES, isolation="process")
    assert run.state == "finished"
    assert run.errors[["line_no", "kind"]].values.tolist() == [[17, "processing"]]
    assert "cannot be sent" in run.errors["message"][0]
    assert run.output["line_no"].tolist() == [number for number in range(40) if number != 17]


def test_an_error_that_cannot_be_read_stops_a_run_as_any() -> None:
    def it(line: str) -> str:
        if line == "17":
            raise Grumpy("no", "way")
        return line

    run = Pipeline("p").add("it", it, on_error="stop").run(LINES, isolation="process")
    assert run.state == "failed" and "line 17: Grumpy: no way" in str(run.exception)
    assert run.output["line_no"].tolist() == list(range(17))


def test_a_value_that_ends_the_process_which_reads_it_costs_its_line() -> None:
    class make:  # a class stays in the run's own process
        def __call__(self, line: str) -> Any:
            return Fatal() if line == "17" else line

    run = Pipeline("p").add("make", make, to="take").add("take", lambda value: value).run(LINES, isolation="process")
    assert run.state == "finished"
    assert run.errors[["line_no", "processor", "kind"]].values.tolist() == [[17, "take", "worker_died"]]
    assert run.output["line_no"].tolist() == [number for number in range(40) if number != 17]


# Processes that cannot begin


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_module_that_cannot_be_imported_in_a_process_is_named(modules: Path) -> None:
    """The run fails, and says what is missing; no line pays for it."""
    (modules / "here_only.py").write_text(
        "import sys\nassert 'pytest' in sys.modules, 'only here'\ndef work(line): return line\n"
    )
    from here_only import work  # type: ignore[import-not-found]

    run = Pipeline("p").add("work", work).run(LINES, isolation="process")
    assert run.state == "failed" and isinstance(run.exception, PipelineError)
    assert "cannot load the processors: AssertionError: only here" in str(run.exception)
    assert not len(run.errors)


def test_processes_that_end_before_they_begin_fail_the_run(modules: Path) -> None:
    (modules / "leaves.py").write_text(
        "import os, sys\n'pytest' in sys.modules or os._exit(7)\ndef work(line): return line\n"
    )
    from leaves import work  # type: ignore[import-not-found]

    run = Pipeline("p").add("work", work).run(LINES, isolation="process")
    assert run.state == "failed" and isinstance(run.exception, RunError)
    assert re.search("end before they begin .* exit code 7", str(run.exception))
    assert not len(run.errors)
