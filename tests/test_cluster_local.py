"""Runs on a local cluster of two worker processes."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from streamlab import Pipeline
from streamlab.errors import CheckpointError, PipelineError, ProcessorFailed, RunError
from streamlab.runners.cluster import driving
from streamlab.runners.cluster.dask import DaskBackend
from streamlab.sinks.parquet import ParquetSink
from streamlab.sinks.parts import FileParts
from tests.inline import Inline
from tests.test_cluster import same
from tests.waiting import until


class Shared(DaskBackend):
    """A cluster for all tests of this module: starting one takes more than a second."""

    def close(self) -> None: ...

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Shared]:
    backend = Shared("local", 2)
    yield backend
    backend.end()


class Seen:
    """Counts the values of its key."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: str) -> Any:
        self.count += 1
        return f"{value} {self.count}"

    def flush(self) -> str:
        return f"left {self.count}"


def level(line: str) -> str:
    return line.split(" ", 1)[0]


def check(line: str) -> str:
    if line.startswith("left"):  # the order of what is left is not promised
        return "left"
    return line if "7" not in line else str(1 / 0)


def pipeline() -> Pipeline:
    return (
        Pipeline("p")
        .add("clean", str.strip, to="seen")
        .add("seen", Seen, key=level, to="number")
        .add("number", Seen, to="check")
        .add("check", check)
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("".join(f"level{n % 13} number {n}\n" for n in range(5_000)))
    return path


def test_two_processes_do_what_one_does(cluster: Shared, log: Path, tmp_path: Path) -> None:
    alone = pipeline().run(log, trace=True)
    apart = pipeline().run(log, trace=True, cluster=cluster, epoch_lines=700)
    same(alone, apart)
    assert set(apart.workers["worker"]) == {"0", "1"}
    assert apart.workers["lines"].sum() == 5_000
    by_worker = apart.metrics_by("worker")
    assert by_worker["received"].groupby("processor").sum().to_dict() == apart.metrics["received"].to_dict()
    errors = apart.errors
    assert set(errors["worker"]) <= {"0", "1"} and set(errors["source"]) == {str(log)}
    data = log.read_bytes()
    for place, line in zip(errors["place"], errors["line"], strict=True):
        assert data[place:].startswith(line.encode())


class Deadly:
    """A function that ends its process at a line: once, if it is given a file to remember that by, else each time."""

    def __init__(self, line: str, once: Path | None = None) -> None:
        self.line = line
        self.once = once

    def __call__(self, line: str) -> str:
        if line == self.line and (self.once is None or not self.once.exists()):
            if self.once is not None:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return line


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_worker_that_dies_costs_time_only(cluster: Shared, log: Path, tmp_path: Path, place: str) -> None:
    pipeline().run(log, output=tmp_path / "alone")
    line = "level3 number 3500" if place == "before" else "level3 number 3500 270 3501"
    deadly = pipeline()
    deadly.add("deadly", Deadly(line, tmp_path / "once"), to="seen" if place == "before" else "check")
    ways = {"clean": ("deadly",)} if place == "before" else {"number": ("deadly",)}
    for name, to in ways.items():
        deadly._processors[name] = replace(deadly.processors[name], to=to)
    run = deadly.run(log, output=tmp_path / "apart", cluster=cluster, epoch_lines=300)
    assert run.state == "finished", run.reason
    assert (tmp_path / "once").exists()
    assert (tmp_path / "apart").read_bytes() == (tmp_path / "alone").read_bytes()
    assert run.ledger["received"] == 5_000


def test_a_line_of_which_workers_die_is_a_dead_letter(cluster: Shared, log: Path) -> None:
    poison = "level3 number 3500"
    pipeline = Pipeline("p").add("clean", str.strip, to="deadly").add("deadly", Deadly(poison), to="seen")
    pipeline.add("seen", Seen, key=level)
    run = pipeline.run(log, cluster=cluster, epoch_lines=2_000)
    assert run.state == "finished", run.reason
    [letter] = run.dead_letters.to_dict("records")
    assert (letter["line_no"], letter["line"], letter["kind"]) == (3500, poison, "worker_died")
    assert run.ledger["received"] == 5_000 and run.ledger["dead_lettered"] == 1


def test_state_that_ends_its_process_ends_the_run(cluster: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "ATTEMPTS", 3)

    class Fatal:
        def __call__(self, line: str) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    run = Pipeline("p").add("fatal", Fatal).run(["a"], cluster=cluster)
    assert run.state == "failed"
    assert "workers were lost 3 times at the same lines, from line 0 on" in str(run.exception)
    assert "a processor that keeps state may end its process, such as 'fatal'" in str(run.exception)


def test_a_processor_that_stops_the_run_stops_it_without_its_epoch(cluster: Shared, log: Path) -> None:
    def strict(line: str) -> str:
        if line.endswith("number 3210"):
            raise ValueError("that one")
        return line

    run = Pipeline("p").add("strict", strict, on_error="stop").run(log, cluster=cluster, epoch_lines=1_000)
    assert run.state == "failed" and isinstance(run.exception, ProcessorFailed)
    assert "processor 'strict', line 3210: ValueError: that one" in str(run.exception)
    assert str(log) in str(run.exception)
    received = run.ledger["received"]
    assert 0 < received <= 3210 and run.ledger["emitted"] == received == len(run.output)


def test_workers_write_parts(cluster: Shared, log: Path, tmp_path: Path) -> None:
    alone = pipeline().run(log)
    for sink, read in (
        (FileParts(tmp_path / "lines"), lambda: [x for p in sorted(tmp_path.glob("lines/part-*")) for x in lines_of(p)]),
        (ParquetSink(tmp_path / "rows"), lambda: pd.read_parquet(tmp_path / "rows")["value"].tolist()),
    ):
        run = pipeline().run(log, output=sink, cluster=cluster, epoch_lines=1_500)
        assert run.state == "finished", run.reason
        assert Counter(read()) == Counter(alone.output["value"])
    with pytest.raises(RunError, match=r"ordered=True, and workers write the parts"):
        pipeline().run(log, output=FileParts(tmp_path / "more"), cluster=cluster, ordered=True)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_function_that_refuses_outputs_makes_dead_letters_of_them(cluster: Shared) -> None:
    taken: list[Any] = []

    def take(value: Any) -> None:
        if value["n"] % 10 == 3:
            raise ValueError(f"not {value['n']}")
        taken.append(value)

    lines = [str(n) for n in range(100)]
    pipeline = Pipeline("p").add("field", lambda line: {"n": int(line)}, to="seen").add("seen", Same, key="n")
    run = pipeline.run(lines, output=take, cluster=cluster, epoch_lines=30, trace=True)
    assert run.state == "finished", run.reason
    assert [value["n"] for value in taken] == [n for n in range(100) if n % 10 != 3]
    letters = run.dead_letters
    assert letters["line_no"].tolist() == list(range(3, 100, 10))
    assert letters["line"].tolist() == [str(n) for n in range(3, 100, 10)]
    assert set(letters["kind"]) == {"sink_rejected"} and set(letters["path"]) == {"field > seen"}
    assert run.ledger["dead_lettered"] == 10 and run.ledger["emitted"] == 90
    traces = run.traces.set_index("line_no")
    assert traces.loc[13, "fate"] == "dead_letter" and traces.loc[14, "fate"] == "emitted"


class Same:
    """Gives what it is given."""

    def __call__(self, value: Any) -> Any:
        return value


def test_what_is_to_be_covered_is_covered_where_it_is_found(cluster: Shared) -> None:
    run = (
        Pipeline("p")
        .add("fail", lambda line: 1 / 0)
        .run(["mail anna@example.org"], cluster=cluster, redact="email", trace=True)
    )
    assert run.errors["line"].tolist() == run.dead_letters["line"].tolist() == run.traces["line"].tolist() == ["mail ***"]


@pytest.mark.parametrize("redact", ["email", lambda text: text.replace("anna@example.org", "***")])
def test_what_ends_a_run_or_is_refused_is_covered_too(redact: Any) -> None:
    def fail(line: str) -> str:
        raise ValueError(line)

    line = "mail anna@example.org"
    run = Pipeline("p").add("fail", fail, on_error="stop").run([line], cluster=Inline(), redact=redact)
    assert run.state == "failed" and "mail ***" in str(run.exception)
    [error] = run.errors.to_dict("records")
    refused = Pipeline("p").add("same", str).run([line], output=fail, cluster=Inline(), redact=redact)
    [letter] = refused.dead_letters.to_dict("records")
    assert error["line"] == error["message"] == letter["line"] == letter["message"] == "mail ***"
    for told in (str(run.exception), error["traceback"], str(letter)):
        assert "anna" not in told


def test_a_stop_leaves_nothing_half_done(cluster: Shared, tmp_path: Path) -> None:
    given = itertools.count()

    def lines() -> Iterator[str]:
        yield from (f"line {n}" for n in given)

    run = (
        Pipeline("p")
        .add("upper", str.upper)
        .start(lines(), output=tmp_path / "out", cluster=cluster, epoch_lines=500, checkpoint=tmp_path / "state")
    )
    until(lambda: run.ledger["received"] > 2_000)
    run.stop()
    run.wait(20)
    assert run.state == "stopped", run.reason
    written = lines_of(tmp_path / "out")
    assert written == [f"LINE {n}" for n in range(run.ledger["received"])]
    left = run.unfinished
    assert left["line_no"].tolist() == list(range(len(written), len(written) + len(left)))
    assert len(written) + len(left) == next(given)  # what was taken is done or told of, the last line too


def test_dask_remembers_no_more_tasks_of_a_long_run_than_of_a_short_one(
    cluster: Shared, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "LINEAGE", 10)
    remembered: list[int] = []

    def remember(line: Any) -> None:
        assert cluster._cluster is not None
        remembered.append(len(cluster._cluster.scheduler.tasks))

    run = pipeline().run(log, output=remember, cluster=cluster, epoch_lines=50, partitions=2)
    assert run.state == "finished", run.reason
    a_epoch = max(remembered[:500]) / 10  # of the first ten epochs
    assert max(remembered) < 20 * a_epoch  # of a hundred


def unreadable() -> str:
    raise FileNotFoundError("settings.ini")


class Settings:
    """Something that needs a file where it is unpickled."""

    def __init__(self) -> None:
        self.here = os.getpid()

    def __call__(self, line: str) -> str:
        return line

    def __reduce__(self) -> tuple[Any, ...]:
        return settings, (self.here,)


def settings(driver: int) -> Settings:
    return Settings() if os.getpid() == driver else Settings().__class__(*unreadable())


def test_an_error_of_the_system_on_a_worker_is_no_lost_connection(cluster: Shared) -> None:
    run = Pipeline("p").add("settings", Settings()).run(["a"], cluster=cluster)
    assert run.state == "failed"
    assert re.search(r"worker [01]: FileNotFoundError: settings.ini", str(run.exception))


class Locked:
    """Keeps what cannot be sent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, line: str) -> str:
        return line


def test_state_that_cannot_be_sent_is_named(cluster: Shared) -> None:
    run = Pipeline("p").add("locked", Locked).run(["a"], cluster=cluster)
    assert run.state == "failed"
    assert "pipeline 'p', processor 'locked': its state cannot be saved: TypeError: cannot pickle" in str(run.exception)


PROGRAM = """
import sys
from pathlib import Path
from streamlab import Pipeline

class Count:
    def __init__(self):
        self.n = 0
    def __call__(self, line):
        self.n += 1
        return f"{line} {self.n}"
    def flush(self):
        return f"left {self.n}"

def slow(line):
    import time
    if line.endswith("00"):
        time.sleep(0.05)
    return line

folder = Path(sys.argv[1])
pipeline = Pipeline("p").add("slow", slow, to="count").add("count", Count, key=lambda line: line[-1])
options = {"cluster": "local", "workers": 2, "epoch_lines": 500} if sys.argv[2] == "cluster" else {"cluster": None}
if (folder / "state").exists():
    run = pipeline.resume(folder / "state", **options)
else:
    run = pipeline.run(folder / "a.log", output=folder / "out", checkpoint=folder / "state", **options)
print(run.state, run.ledger["received"], run.reason)
"""


def test_a_driver_that_is_killed_is_gone_on_with_on_a_cluster_or_without(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(f"line {n}\n" for n in range(8_000)))
    (tmp_path / "program.py").write_text(PROGRAM)  # with no guard: workers must not import it
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path)]
    for how in ("alone", "cluster", "cluster"):
        process = subprocess.Popen([*command, how])
        size = out_size(tmp_path)
        until(partial(lambda size, p: out_size(tmp_path) > size + 10_000 or p.poll() is not None, size, process))
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
    said = subprocess.run([*command, "alone"], capture_output=True, text=True, timeout=120, check=True).stdout
    assert said == "finished 8000 None\n"
    seen: Counter[str] = Counter()
    wanted = []
    for n in range(8_000):
        seen[str(n)[-1]] += 1
        wanted.append(f"line {n} {seen[str(n)[-1]]}")
    lines = lines_of(tmp_path / "out")
    assert lines[:8_000] == wanted
    assert sorted(lines[8_000:]) == ["left 800"] * 10


LONELY = """
import streamlab
from streamlab.runners.cluster import dask
dask.LONELY_SECONDS = 3.0
streamlab.run(["a line"], cluster="local", workers=2)
"""


def test_workers_do_not_outlive_a_driver_that_is_killed_as_they_begin() -> None:
    with subprocess.Popen([sys.executable, "-c", LONELY], stderr=subprocess.DEVNULL) as process:
        try:
            driver = psutil.Process(process.pid)
            until(lambda: len(driver.children()) == 2)
            nannies = driver.children()
            until(lambda: any(begins(child) for nanny in nannies for child in nanny.children()))
        finally:
            process.kill()
    _, alive = psutil.wait_procs(nannies, timeout=40)
    assert not alive


def begins(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def out_size(folder: Path) -> int:
    return (folder / "out").stat().st_size if (folder / "out").exists() else 0


def test_what_comes_before_the_end_of_a_source_that_breaks_is_done(cluster: Shared, tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield from ("a", "b", "c")
        raise ValueError("no more")

    run = Pipeline("p").add("upper", str.upper).run(lines(), cluster=cluster)
    assert run.state == "failed" and "raised ValueError at line 3: no more" in str(run.exception)
    assert run.output["value"].tolist() == ["A", "B", "C"]
    (tmp_path / "one.log").write_text("a\nb\n")
    (tmp_path / "two.log").write_text("c\n")
    started = (
        Pipeline("p").add("upper", str.upper).start([tmp_path / "one.log", tmp_path / "two.log"], cluster=Late(tmp_path))
    )
    started.wait(20)
    assert started.state == "failed" and "two.log cannot be opened" in str(started.exception)
    assert started.output["value"].tolist() == ["A", "B"]


class Late(Inline):
    """A cluster of which something is removed just when it is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def listen(self, topic: str, tell: Any) -> None:
        (self._folder / "two.log").unlink()


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no scheduler at tcp://127\.0\.0\.1:1"):
        pipeline().run(["a"], cluster="tcp://127.0.0.1:1")
    with pytest.raises(RunError, match="give 'local', a scheduler's address"):
        pipeline().run(["a"], cluster=3)
    with pytest.raises(RunError, match="give 'local', a scheduler's address"):
        pipeline().run(["a"], cluster="nonsense://x y")
    with pytest.raises(RunError, match="workers=2 are those of a local cluster"):
        pipeline().run(["a"], cluster=Inline(), workers=2)
    for option in ({"partitions": 3}, {"epoch_lines": 3}, {"max_in_flight": 3}, {"ordered": True}):
        with pytest.raises(RunError, match=f"{next(iter(option))}=.* is about a cluster: give cluster=, too"):
            pipeline().run(["a"], **option)
    lock = threading.Lock()
    with pytest.raises(PipelineError, match="processor 'held': it cannot be sent to a worker"):
        Pipeline("p").add("held", lambda line: lock and line).run(["a"], cluster=Inline())
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        pipeline().resume(tmp_path / "nowhere")
