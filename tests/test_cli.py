"""The command line: real processes, real pipes, real signals."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, ClassVar

import click
import httpx
import pandas as pd
import pytest

import streamlab
from streamlab import Pipeline
from streamlab.config import load_pipeline
from streamlab.errors import PipelineError
from streamlab.run import ENDED
from streamlab.views.terminal import Terminal
from tests.inline import Inline

PROGRAM = [sys.executable, "-m", "streamlab"]
SECONDS = 60
DEMO = "[info: system booted]\n[WARN: DISK SPACE LOW]\n[error: failed to connect]\n[info: user login]\n"

FAILING = """
from streamlab import Pipeline
picky = Pipeline("picky")

@picky.processor
def check(line):
    if line.startswith("bad"):
        raise ValueError(f"cannot take {line}")
    return line

strict = Pipeline("strict").add("check", check, on_error="stop")
"""

SLOW = """
import time
from streamlab import Pipeline
slow = Pipeline("slow")

@slow.processor
def work(line):
    time.sleep(0.005)
    return line
"""


def streamlab_(*args: str, stdin: bytes | IO[bytes] = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run to the end; standard input is bytes through a pipe, an open file, or by default nothing."""
    pipe, given = (None, stdin) if isinstance(stdin, bytes) else (stdin, None)
    done: subprocess.CompletedProcess[bytes]
    if given:
        done = subprocess.run([*PROGRAM, *args], input=given, capture_output=True, timeout=SECONDS, cwd=cwd)
    else:
        stream = pipe or subprocess.DEVNULL
        done = subprocess.run([*PROGRAM, *args], stdin=stream, capture_output=True, timeout=SECONDS, cwd=cwd)
    out, err = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
    assert "Traceback" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


@contextlib.contextmanager
def started(*args: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Start, and see to it that it ends."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen([*PROGRAM, *args], text=True, encoding="utf-8", **pipes) as process:  # type: ignore[call-overload]
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def rest_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read()


def url_in(line: str) -> str:
    match = re.fullmatch("📊 Dashboard running at (http://localhost:[0-9]+)\n", line)
    assert match, line
    return match[1]


def ask(url: str, **headers: str) -> int:
    return httpx.get(url, headers={name.capitalize(): text for name, text in headers.items()}, trust_env=False).status_code


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(b"info: a\nwarn: caf\xe9\n")
    return path


# The demo


def test_the_demo_as_the_design_shows_it() -> None:
    with started("--trace") as process:
        assert "".join(line_of(process.stdout) for _ in range(4)) == DEMO
        url = url_in(line_of(process.stderr))
        traces = httpx.get(f"{url}/trace", trust_env=False).json()["traces"]
        process.send_signal(signal.SIGINT)
        assert (rest_of(process.stdout), rest_of(process.stderr)) == ("", "Shutting down...\n")
        assert process.wait(SECONDS) == 0
    paths = ["start > end", "start > end", "start > warn > end", "start > end"]
    assert [" > ".join(row["path"]) for row in traces] == paths


def test_the_demo_on_the_next_port_that_is_free() -> None:
    with started() as first:
        one = url_in(line_of(first.stderr))
        with started() as second:
            two = url_in(line_of(second.stderr))
            assert one != two
            assert httpx.get(f"{two}/trace", trust_env=False).json() == {"traces": []}
            second.send_signal(signal.SIGTERM)
            assert second.wait(SECONDS) == 0
            assert rest_of(second.stderr) == "Shutting down...\n"


def test_the_demo_as_a_filter() -> None:
    done = streamlab_("--no-dashboard", "--trace")
    assert (done.stdout, done.stderr, done.returncode) == (DEMO, "", 0)
    assert streamlab_("run", "--no-dashboard").stdout == DEMO


def test_the_demo_when_standard_input_is_closed() -> None:
    command = 'exec 0<&-; exec "$@"'
    done = subprocess.run(["sh", "-c", command, "sh", *PROGRAM, "--no-dashboard"], capture_output=True, timeout=SECONDS)
    assert (done.stdout.decode(), done.stderr, done.returncode) == (DEMO, b"", 0)


def test_nothing_on_standard_input_is_no_lines_for_a_pipeline_of_ones_own(log: Path) -> None:
    (log.parent / "mine.py").write_text(FAILING)
    done = streamlab_("--no-dashboard", "--pipeline", "mine.py:strict", cwd=log.parent)
    assert (done.stdout, done.returncode) == ("", 0)
    assert "0 received" in done.stderr


def test_quiet_is_quiet() -> None:
    with started("--quiet", "--port", "0") as process:
        assert "".join(line_of(process.stdout) for _ in range(4)) == DEMO
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) in (0, 130)  # the signal may come a moment before the end of the run
        assert rest_of(process.stderr) == ""


# Input and output


def test_a_pipe_is_input() -> None:
    done = streamlab_("--no-dashboard", stdin=b"warn: \xff hot\r\ninfo: last")
    assert done.stdout == "[WARN: \udcff HOT]\n[info: last]\n"
    assert re.fullmatch(r"demo: finished after [0-9.]+ s: 2 received, 2 emitted\n", done.stderr)
    assert streamlab_("-", "--no-dashboard", "--quiet", stdin=b"a\n").stdout == "[a]\n"
    assert subprocess.run([*PROGRAM, "--no-dashboard"], input=b"", stdout=subprocess.PIPE, timeout=SECONDS).stdout == b""


def test_a_file_is_input(log: Path) -> None:
    with log.open("rb") as file:
        assert streamlab_("--no-dashboard", stdin=file).stdout == "[info: a]\n[WARN: CAF\udce9]\n"


@pytest.mark.parametrize(
    "words",
    ["{log} --trace", "--trace {log}", "run {log} --trace", "run --trace {log}", "--trace=hops {log}", "--trace -- {log}"],
)
def test_trace_leaves_the_files_name_alone(log: Path, words: str) -> None:
    traces = log.with_name("traces.csv")
    first, *others = words.format(log=log).split()
    more = ["--no-dashboard", f"--export-traces={traces}"]
    done = streamlab_(*((first, *more, *others) if first == "run" else (*more, first, *others)))
    assert (done.stdout, done.returncode) == ("[info: a]\n[WARN: CAF\udce9]\n", 0)
    assert pd.read_csv(traces, encoding="latin-1")["path"].tolist() == ["start > end", "start > warn > end"]


def test_several_sources_in_the_order_given(tmp_path: Path) -> None:
    for name in ("b.log", "a.1.log", "a.2.log", "a.10.log"):
        (tmp_path / name).write_text(f"{name}\n")
    done = streamlab_("b.log", "a.*.log", ".", "--no-dashboard", "-q", cwd=tmp_path)
    names = ["b", "a.1", "a.2", "a.10", "a.1", "a.2", "a.10", "b"]
    assert done.stdout.split() == [f"[{name}.log]" for name in names]


def test_output_to_a_file(log: Path) -> None:
    out = log.with_name("out.log")
    done = streamlab_(str(log), "--output", str(out), "--no-dashboard")
    assert (done.stdout, done.returncode) == ("", 0)
    assert out.read_bytes() == b"[info: a]\n[WARN: CAF\xe9]\n"
    again = streamlab_(str(log), "--output", str(out), "--no-dashboard")
    assert again.returncode == 2
    assert f"{out} is there already and not empty" in again.stderr


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_traces_to_a_file(log: Path, ending: str) -> None:
    path = log.with_name(f"traces.{ending}")
    assert streamlab_(str(log), "--no-dashboard", "--export-traces", str(path)).returncode == 0
    if ending == "csv":
        traces = pd.read_csv(path, encoding="latin-1")
    else:
        traces = pd.read_parquet(path) if ending == "parquet" else pd.read_json(path, lines=True)
    assert traces["path"].tolist() == ["start > end", "start > warn > end"]


def test_how_many_lines_are_traced(tmp_path: Path) -> None:
    log, limited, whole = tmp_path / "l", tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    log.write_text("".join(f"info: {n}\n" for n in range(5000)))
    for path, more in ((limited, ["--trace-limit=10"]), (whole, ["--trace=all"])):
        assert streamlab_(str(log), "--no-dashboard", "-q", "--export-traces", str(path), *more).returncode == 0
    recent = [row for row in map(json.loads, limited.read_text().splitlines()) if row["kept"] == "recent"]
    assert [row["line_no"] for row in recent] == list(range(4990, 5000))
    assert len(whole.read_text().splitlines()) == 5000


# Pipelines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipes.py").write_text(FAILING)
    (tmp_path / "only.py").write_text("from helper import one\n")
    (tmp_path / "helper.py").write_text("from streamlab import Pipeline\none = Pipeline('one').add('up', str.upper)\n")
    (tmp_path / "broken.py").write_text("\n\n1 / 0\n")
    (tmp_path / "lacking.py").write_text("import no_such_thing\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit('bye')\n")
    (tmp_path / "torn.py").write_text("def f(:\n")
    (tmp_path / "dangling.py").write_text("from streamlab import Pipeline\np = Pipeline('p').add('a', str.upper, to='b')\n")
    return tmp_path


@pytest.mark.parametrize("where", ["only.py", "only.py:one", "only", "only:one", "helper:one", "./only.py"])
def test_a_pipeline_by_its_name(folder: Path, where: str) -> None:
    done = streamlab_("--pipeline", where, "--no-dashboard", "-q", stdin=b"a\n", cwd=folder)
    assert (done.stdout, done.stderr, done.returncode) == ("A\n", "", 0)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("pipes.py", "there are several pipelines in it; say which: pipes.py:picky|strict"),
        ("pipes:pickie", "there is no pipeline 'pickie' in it; did you mean 'picky'?"),
        ("pipes.py:check", "check is not a Pipeline but of type function"),
        ("pipe.py", "there is no file 'pipe.py'; did you mean 'pipes.py'?"),
        ("nothing", "there is no module 'nothing'"),
        ("nothing.at.all:x", "there is no module 'nothing.at.all'"),
        ("broken.py", "broken.py cannot be imported: ZeroDivisionError: division by zero"),
        ("broken", "broken.py, line 3)"),
        ("lacking:x", "lacking cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("leaving.py", "leaving.py cannot be imported: SystemExit: bye"),
        ("torn.py", "torn.py cannot be imported: SyntaxError"),
        ("json", "json: there is no pipeline in it"),
        ("dangling.py", "pipeline 'p', processor 'a': to='b' is no processor"),
        ("logs.yaml", "there is no file 'logs.yaml'"),
        (":", "':' names no pipeline"),
        ("a:b:c d", "'a:b:c d' names no pipeline"),
    ],
)
def test_a_pipeline_that_is_not_there(folder: Path, where: str, said: str) -> None:
    done = streamlab_("--pipeline", where, "--no-dashboard", cwd=folder)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr.startswith("streamlab: error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_two_files_of_one_name_are_two(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(f"import streamlab\np = streamlab.Pipeline({name!r}).add('u', str.upper)\n")
    paths = [str(tmp_path / name / "same.py") for name in ("a", "b")]
    before = sys.path.copy()
    try:
        assert [load_pipeline(path).name for path in paths] == ["a", "b"]
        with pytest.raises(PipelineError, match="no file"):
            load_pipeline(str(tmp_path / "c.py"))
    finally:
        sys.path[:] = before
        for name in ("same", "streamlab_pipeline_same"):
            sys.modules.pop(name, None)


# What went wrong


def test_failed_lines_are_told_of_and_cost_only_themselves(folder: Path) -> None:
    lines = b"".join(b"bad \x1b[31m%d\n" % n for n in range(7)) + b"good\n"
    done = streamlab_("--pipeline", "pipes.py:picky", "--no-dashboard", stdin=lines, cwd=folder)
    assert (done.stdout, done.returncode) == ("good\n", 0)
    summary, which, *sentences = done.stderr.splitlines()
    assert re.fullmatch(r"picky: finished after [0-9.]+ s: 8 received, 1 emitted, 7 dead_lettered", summary)
    assert which == "the last 5 of 7 failures:"
    said = "  pipeline 'picky', processor 'check', line {0}: ValueError: cannot take bad \\x1b[31m{0}"
    assert sentences == [said.format(n) for n in range(2, 7)]


def test_a_run_that_fails(folder: Path) -> None:
    done = streamlab_("--pipeline", "pipes.py:strict", "--no-dashboard", stdin=b"good\nbad\ngood\n", cwd=folder)
    assert done.returncode == 1
    assert done.stdout == "good\n"
    error = done.stderr.splitlines()[0]
    assert error.startswith("streamlab: error: pipeline 'strict', processor 'check', line 1: ValueError: cannot take bad")
    quiet = streamlab_("--pipeline", "pipes.py:strict", "--no-dashboard", "-q", stdin=b"good\nbad\n", cwd=folder)
    assert (quiet.returncode, quiet.stderr.splitlines()) == (1, [error])


def test_a_run_that_failed_can_still_be_looked_at(folder: Path) -> None:
    (folder / "in").write_text("bad\n")
    with started("--pipeline", "pipes.py:strict", "in", "--port", "0", cwd=folder) as process:
        assert line_of(process.stderr).startswith("streamlab: error: ")
        while not (line := line_of(process.stderr)).startswith("📊"):
            assert line
        answer = httpx.get(f"{url_in(line)}/healthz", trust_env=False)
        assert (answer.status_code, "cannot take bad" in answer.json()["reason"]) == (503, True)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nonsense", "there is no file 'nonsense'"),
        ("run nonsense", "there is no file 'nonsense'"),
        ("no*.log", "no file matches 'no*.log'"),
        ("app.lgo", "did you mean 'app.log'?"),
        ("app.log missing.log", "there is no file 'missing.log'"),
        ("--wrong", "No such option"),
        ("--tarce app.log", "--trace"),
        ("--trace=most app.log", "'most' is not one of"),
        ("--trace all", "the mode of traces is written --trace=all"),
        ("--trace-limit 0", "0 is not in the range"),
        ("--trace-limit many", "is not a valid integer"),
        ("--port 70000", "70000 is not in the range"),
        ("--port", "requires an argument"),
        ("--host 0.0.0.0", "needs a token"),
        ("--otlp localhost:4318", "it must be like http://localhost:4318"),
        ("- app.log", "cannot be read together with files"),
        ("--export-traces t.txt", "the name must end in .csv"),
        ("--export-traces no/t.csv", "there is no folder no"),
        ("--output no/out", "there is no folder no"),
        ("--output=", "--output '' names no file"),
    ],
)
def test_wrong_use(log: Path, words: str, said: str) -> None:
    done = streamlab_(*words.split(), cwd=log.parent)
    assert (done.stdout, done.returncode) == ("", 2)
    assert said in done.stderr


def test_a_port_that_is_taken_costs_nothing(log: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = streamlab_(str(log), "--port", str(port))
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr.startswith(f"streamlab: error: port {port} is taken")


def test_without_the_dashboards_packages_it_is_a_filter(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError('No module named fastapi', name='fastapi')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        PROGRAM, capture_output=True, text=True, encoding="utf-8", stdin=subprocess.DEVNULL, env=environment, timeout=SECONDS
    )
    assert (done.stdout, done.returncode) == (DEMO, 0)
    assert done.stderr.startswith("streamlab: no dashboard: ")
    assert 'pip install "streamlab[dashboard]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_and_version() -> None:
    done = streamlab_("--help")
    assert done.returncode == 0
    for part in ("--export-traces", "--pipeline", "--no-dashboard", "--version", "Exit codes:", "130", "141", "Examples:"):
        assert part in done.stdout
    assert "Exit codes:" in streamlab_("run", "--help").stdout
    assert "Exit codes:" in streamlab_("app.log", "--help").stdout
    assert streamlab_("--version").stdout == f"streamlab, version {streamlab.__version__}\n"


# Ends


@pytest.mark.parametrize("option", [["--host", "0.0.0.0"], ["--port", "0"], ["--token", "x"], ["--allow-host", "me"]])
def test_what_is_about_the_dashboard_is_not_passed_over_without_one(option: list[str]) -> None:
    done = streamlab_("--no-dashboard", *option)
    assert done.returncode == 2 and f"{option[0]} is about the dashboard" in done.stderr


@pytest.mark.parametrize("more", [["--no-dashboard"], ["--port", "0"]])
def test_the_reader_went_away(more: list[str]) -> None:
    command = 'yes "info: a" | "$@" | head -3; echo ${PIPESTATUS[1]}'
    done = subprocess.run(["bash", "-c", command, "bash", *PROGRAM, *more], capture_output=True, timeout=SECONDS)
    assert (done.stdout, done.stderr) == (b"[info: a]\n" * 3 + b"141\n", b"")


@pytest.mark.parametrize("more", [["--no-dashboard"], ["--port", "0"]])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_drains_and_ends(tmp_path: Path, more: list[str], number: signal.Signals, code: int) -> None:
    traces = tmp_path / "traces.csv"
    with started("--trace", "--export-traces", str(traces), *more, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("info: a\nwarn: b\n")
        process.stdin.flush()
        assert [line_of(process.stdout), line_of(process.stdout)] == ["[info: a]\n", "[WARN: B]\n"]
        process.send_signal(number)
        assert process.wait(SECONDS) == code
        said = rest_of(process.stderr)
    assert said.index("Shutting down...\n") < said.index("demo: stopped after")
    assert "2 received, 2 emitted" in said
    assert len(pd.read_csv(traces)) == 2


HANGING = """
import time
from streamlab import Pipeline
stuck = Pipeline("stuck")

@stuck.processor
def hang(line):
    print("here", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize(("first", "second", "code"), [("SIGINT", "SIGINT", 130), ("SIGTERM", "SIGINT", 130)])
def test_a_second_signal_ends_at_once(tmp_path: Path, first: str, second: str, code: int) -> None:
    (tmp_path / "stuck.py").write_text(HANGING)
    with started("stuck.py", "--pipeline", "stuck.py", "--no-dashboard", cwd=tmp_path) as process:
        assert line_of(process.stdout) == "here\n"
        process.send_signal(getattr(signal, first))
        assert line_of(process.stderr) == "Shutting down...\n"
        time.sleep(0.2)  # else the same one were not a second one
        began = time.monotonic()
        process.send_signal(getattr(signal, second))
        assert process.wait(SECONDS) == code
        assert time.monotonic() - began < 5


def test_the_dashboard_of_a_run_that_goes_on() -> None:
    with started("--trace", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        url = url_in(line_of(process.stderr))
        process.stdin.write("warn: hot\n")
        process.stdin.flush()
        assert line_of(process.stdout) == "[WARN: HOT]\n"
        stats = httpx.get(f"{url}/stats", trust_env=False).json()
        assert (stats["state"], stats["lines"]["emitted"]) == ("running", 1)
        process.stdin.close()
        assert re.fullmatch(r"demo: finished after [0-9.]+ s: 1 received, 1 emitted\n", line_of(process.stderr))
        assert httpx.get(f"{url}/stats", trust_env=False).json()["state"] == "finished"
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert rest_of(process.stderr) == "Shutting down...\n"


@pytest.mark.parametrize("where", ["option", "environment"])
def test_a_dashboard_that_is_open_to_others_asks_for_the_token(where: str) -> None:
    words = ["--token", "a secret?"] if where == "option" else []
    environment = os.environ | ({"STREAMLAB_TOKEN": "a secret?"} if where == "environment" else {})
    more = ["--host", "0.0.0.0", "--port", "0", "--allow-host", "box.example"]
    with started(*more, *words, env=environment) as process:
        line = line_of(process.stderr)
        match = re.fullmatch(r"📊 Dashboard running at (http://localhost:[0-9]+)/\?token=a%20secret%3F\n", line)
        assert match, line
        assert ask(f"{match[1]}/stats") == 401
        assert ask(f"{match[1]}/stats", authorization="Bearer wrong") == 401
        assert ask(f"{match[1]}/stats", authorization="Bearer a secret?") == 200
        assert ask(f"{match[1]}/stats?token=a%20secret%3F", host="box.example") == 200
        assert ask(f"{match[1]}/stats?token=a%20secret%3F", host="evil.example") == 400
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0


class Collector(BaseHTTPRequestHandler):
    """Takes what is posted."""

    posted: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_metrics_and_traces_go_to_a_collector() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = streamlab_("--no-dashboard", "--trace", "--otlp", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert (done.stdout, done.returncode) == (DEMO, 0)
    assert {"/v1/metrics", "/v1/traces"} <= set(Collector.posted)


def test_a_collector_that_is_not_there_harms_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = streamlab_("--no-dashboard", "--trace", "--otlp", f"http://127.0.0.1:{port}")
    assert (done.stdout, done.returncode) == (DEMO, 0)
    assert "Traceback" not in done.stderr


SLOW = """
import time
from streamlab import Pipeline
slow = Pipeline("slow")

@slow.processor
def nap(line):
    time.sleep(0.001)
    return line
"""


@pytest.mark.parametrize("more", [[], ["--quiet"]])
def test_progress_on_a_terminal(tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "in").write_text(f"{'a line' * 200}\n" * 1500)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    words = ("in", "--pipeline", "slow.py", "--no-dashboard", *more)
    with started(*words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        said = read_all(ours)
        assert process.wait(SECONDS) == 0
    if more:
        assert said == ""
    else:
        assert re.search(r"slow  \[#*-*\] +[1-9][0-9]?%", said)
        assert "100%" in said
        assert "slow: finished" in said


def test_progress_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", screen := Screen())
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "in").write_text("a line\n" * 1500)
    run = Pipeline("slow").add("nap", nap).start(tmp_path / "in", cluster=Inline(2), epoch_lines=100)
    with run, Terminal(data=False).progress(run) as renew:
        while run.state not in ENDED:
            time.sleep(0.02)
            renew()
    lines = re.split(r"[\r\n]+", click.unstyle(screen.getvalue()))  # without what hides the cursor
    assert any(re.search(r"slow  \[#*-*\] .* 2 workers, ≈ [1-9]\d* lines, [1-9]\d* committed", line) for line in lines)
    assert "100%  2 workers, 1.5K committed" in lines[-2]
    assert all(len(line) <= 80 for line in lines)


def nap(line: str) -> str:
    time.sleep(0.0005)
    return line


def read_all(descriptor: int) -> str:
    parts = []
    with contextlib.suppress(OSError):  # EIO: the other side has been closed
        while select.select([descriptor], [], [], SECONDS)[0] and (part := os.read(descriptor, 4096)):
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


def test_a_full_disk() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "wb") as full, started("--no-dashboard", stdout=full) as process:
        assert process.wait(SECONDS) == 1
        assert rest_of(process.stderr).startswith("streamlab: error: stdout cannot be written")


@pytest.mark.parametrize(("closed", "code"), [("1", 2), ("2", 0)])
def test_closed_streams(closed: str, code: int) -> None:
    command = f'exec {closed}>&-; exec "$@" </dev/null'
    done = subprocess.run(["sh", "-c", command, "sh", *PROGRAM, "--no-dashboard"], capture_output=True, timeout=SECONDS)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_what_standard_input_gave_and_a_stopped_run_had_not_come_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    with started("--pipeline", "slow.py", "--no-dashboard", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{number}\n" for number in range(5000)) + "half")
        process.stdin.flush()
        line_of(process.stdout)
        process.send_signal(signal.SIGTERM)
        said, emitted = rest_of(process.stderr), 1 + rest_of(process.stdout).count("\n")
        assert process.wait(SECONDS) == 0
    assert f"standard input gave {5000 - emitted:,} lines and 4 bytes of a line that had not ended" in said
