"""Several processes: the same output, ledger, traces and errors as in one; and what a process costs that dies or hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from streamlab import Pipeline, PipelineError, Run, RunError, processors
from tests.waiting import until

LINES = [str(n) for n in range(20_000)]


def graph() -> Pipeline:
    """Every kind of result, next to a class and a processor that needs all values in one place."""
    pipeline = Pipeline("p")

    @pipeline.processor(to=("double", "total"))
    def start(line: str) -> Any:
        n = int(line)
        if n % 1000 == 7:
            raise ValueError(f"no {n}s, please")
        if n % 500 == 3:
            return None
        return ("double" if n % 3 == 0 else "total"), {"n": n}

    @pipeline.processor(to="total")
    def double(value: dict[str, int]) -> Any:
        return [value, {"n": -value["n"]}] if value["n"] % 2 else value

    @pipeline.processor(to="text")
    class total:
        def __init__(self) -> None:
            self.sum = 0

        def __call__(self, value: dict[str, int]) -> dict[str, int]:
            self.sum += value["n"]
            return value | {"sum": self.sum}

    @pipeline.processor
    def text(value: dict[str, int]) -> str:
        return json.dumps(value)

    return pipeline


def same(one: Run, other: Run) -> None:
    assert one.state == other.state == "finished"
    assert one.output.equals(other.output)
    assert one.ledger == other.ledger
    counts = ["received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight", "errors"]
    assert one.metrics[counts].equals(other.metrics[counts])
    kept = ["line_no", "branch", "path", "fate"]
    assert one.traces[kept].equals(other.traces[kept])
    told = ["line_no", "processor", "kind", "error", "message", "line", "attempts"]
    assert one.errors[told].equals(other.errors[told])
    # A function that had to be sent by value may have lost the name of its file, but neither its own nor the line.
    for one_text, other_text in zip(one.errors["traceback"], other.errors["traceback"], strict=True):
        place = one_text.splitlines()[1].partition(", ")[2]
        assert place in other_text


def test_two_processes_do_what_one_does() -> None:
    same(graph().run(LINES, trace="all"), graph().run(LINES, trace="all", workers=2))


def test_every_value_on_the_way_is_known_too() -> None:
    one, other = (graph().run(LINES[:50], trace="hops", workers=workers).trace(9).hops for workers in (1, 2))
    assert one["processor"].tolist() == ["start", "double", "total", "text", "total", "text"]
    columns = ["processor", "value", "outputs"]
    assert sorted(map(repr, one[columns].values.tolist())) == sorted(map(repr, other[columns].values.tolist()))


def test_functions_run_elsewhere() -> None:
    made = Pipeline("p").add("pid", lambda line: os.getpid()).run(LINES[:1000], workers=2)
    assert os.getpid() not in set(made.output["value"])


def test_a_line_that_ends_its_process_costs_that_line() -> None:
    def fatal(line: str) -> str:
        if line in ("500", "12000"):
            os._exit(3)
        return line

    run = Pipeline("p").add("fatal", fatal).run(LINES, workers=2)  # the lines after these two are on their way already
    assert run.state == "finished"
    told = run.errors[["line_no", "kind", "line"]].values.tolist()
    assert told == [[500, "worker_died", "500"], [12000, "worker_died", "12000"]]
    assert run.output["value"].tolist() == [line for line in LINES if line not in ("500", "12000")]
    assert run.output["line_no"].tolist() == [int(line) for line in LINES if line not in ("500", "12000")]


def test_a_line_that_ends_its_process_has_its_handler() -> None:
    """It runs in a process too, and may end that as well."""

    def fatal(line: str) -> str:
        if line in ("50", "60"):
            os._exit(3)
        return line

    def handler(line: str) -> str:
        if line == "60":
            os._exit(3)
        return f"handled {line}"

    pipeline = Pipeline("p").add("fatal", fatal, on_error="handler").add("handler", handler)
    run = pipeline.run(LINES[:100], workers=2, trace="all")
    assert run.state == "finished" and run.ledger["in_flight"] == 0
    assert run.errors[["line_no", "processor"]].values.tolist() == [[50, "fatal"], [60, "fatal"], [60, "handler"]]
    assert run.output["value"].tolist() == ["handled 50" if line == "50" else line for line in LINES[:100] if line != "60"]
    assert run.trace(50).branches[0]["path"] == "fatal > handler"


def test_processors_that_nothing_leads_to_are_given_nothing() -> None:
    class Mark:
        def __call__(self, line: str) -> str:
            return f"{line}!"

    pipeline = Pipeline("p").add("mark", Mark, to="end").add("end", lambda line: f"[{line}]")
    pipeline.add("alone", lambda line: f"alone {line}", to="mark")
    run = pipeline.run(["a", "b"], workers=2)
    assert run.output["value"].tolist() == ["[a!]", "[b!]"] and run.ledger["in_flight"] == 0


def test_lines_that_could_not_be_sent_are_unfinished() -> None:
    lock = threading.Lock()
    run = Pipeline("p").add("locked", lambda line: lock and line).run(["a", "b"], workers=2)
    assert run.state == "failed"
    assert run.unfinished.values.tolist() == [[0, "a"]]  # what comes after it in the list has not been read


def test_functions_are_called_once_whatever_is_not_connected() -> None:
    pipeline = Pipeline("p").add("pid", lambda line: line).add("alone", processors.upper(), to="pid")
    run = pipeline.run(LINES[:2000], workers=2)
    assert run.ledger["emitted"] == 2000 and run.metrics.loc["pid", "received"] == 2000


def test_the_tree_of_paths_is_renewed_while_lines_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.engine.MAX_PATHS", 3)
    lines = ["x" * 30 if n % 3 == 1 else str(n) for n in range(2_000)]
    pipeline = (
        Pipeline("p", max_line_bytes=20).add("start", lambda line: line, to="end").add("end", lambda line: f"[{line}]")
    )
    run = pipeline.run(lines, workers=2)
    assert run.output["value"].tolist() == [f"[{line}]" for line in lines if len(line) < 20]
    assert run.errors["line_no"].tolist() == list(range(1, 2_000, 3))


def test_a_process_with_a_call_that_hangs_is_replaced() -> None:
    """Threads cannot be killed, processes can: more hang than one process could bear."""

    def hang(line: str) -> str:
        if int(line) % 5 == 0:
            time.sleep(60)
        return line

    run = Pipeline("p").add("hang", hang, timeout=0.2).run(LINES[:50], isolation="process")
    assert run.state == "finished"
    assert run.errors["line_no"].tolist() == list(range(0, 50, 5))
    assert set(run.errors["kind"]) == {"timeout"}
    assert len(run.output) == 40


def test_a_stop_in_one_process_stops_the_run() -> None:
    def stop(line: str) -> str:
        if line == "700":
            raise ValueError
        return line

    run = Pipeline("p").add("stop", stop, on_error="stop").run(LINES[:1000], workers=2)
    assert run.state == "failed"
    output = run.output["value"].tolist()
    assert output == LINES[:700]  # later ones, which the other process may have done, stay where they stood
    left = run.unfinished["line_no"].tolist()
    assert left == list(range(701, 701 + len(left)))
    ledger = run.ledger
    assert ledger["received"] == ledger["emitted"] + ledger["dead_lettered"] + ledger["in_flight"]


def test_a_processor_that_cannot_be_sent() -> None:
    lock = threading.Lock()
    run = Pipeline("p").add("locked", lambda line: lock and line).run(["a"], workers=2)
    assert run.state == "failed"
    assert isinstance(run.exception, PipelineError)
    assert "'locked' cannot be sent" in str(run.exception)


def test_a_value_that_cannot_be_sent_costs_that_line() -> None:
    run = Pipeline("p").add("lock", lambda line: threading.Lock() if line == "3" else line).run(LINES[:9], workers=2)
    assert run.state == "finished"
    assert run.errors["line_no"].tolist() == [3]
    assert "cannot be sent" in run.errors["message"][0]
    assert len(run.output) == 8


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_nothing_is_left_behind() -> None:
    def once() -> None:
        Pipeline("p").add("a", str.upper).run(["a", "b"], workers=2)

    once()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        once()
    assert len(os.listdir("/proc/self/fd")) == files
    assert threading.active_count() == threads
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    assert children.strip() == ""


def test_processes_do_not_outlive_who_started_them(tmp_path: Path) -> None:
    """Also when that was killed, and while a function hangs."""
    program = """
import os, sys, time
from pathlib import Path
from streamlab import Pipeline
def hang(line):
    Path(line).write_text(f"{os.getpid()} ")
    time.sleep(600)
Pipeline("p").add("hang", hang).run([sys.argv[1]] * 100, workers=2)
"""
    told = tmp_path / "pid"
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(told)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    until(lambda: told.exists() and told.read_text().endswith(" "))
    killed.kill()
    killed.wait()
    until(lambda: not Path(f"/proc/{told.read_text().strip()}").exists())


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": "2"}, {"isolation": "magic"}])
def test_options_that_are_none(options: Any) -> None:
    with pytest.raises(RunError, match=next(iter(options))):
        graph().run(["1"], **options)


def test_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "pid.py").write_text(
        "import os\nfrom streamlab import Pipeline\np = Pipeline('p').add('pid', lambda line: f'{os.getpid()} {line}')\n"
    )
    (tmp_path / "in.log").write_text("a\nb\n")
    command = [sys.executable, "-m", "streamlab", "in.log", "--pipeline", "pid.py", "--workers", "2", "--no-dashboard"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["a", "b"]
