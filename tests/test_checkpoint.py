"""A run that ended anyhow, and one that goes on with it, come to what one run alone would have come to."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import DeadLetterQueue, Pipeline, processors
from streamlab.batch import Chunk
from streamlab.checkpoint import Checkpoint, Moment
from streamlab.errors import CheckpointError, Outage, ProcessorFailed, SinkError, SourceError
from streamlab.run import Run
from streamlab.sinks.files import FileSink
from streamlab.sources.iterables import SequenceSource
from streamlab.state import packed
from tests.crashes import grown_and_killed, killed_until_done, outcome, run, write_lines
from tests.waiting import resources, until


def test_a_run_that_is_killed_again_and_again_comes_to_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    calm, shaken = tmp_path / "calm", tmp_path / "shaken"
    for folder in (calm, shaken):
        folder.mkdir()
        write_lines(folder / "in.log", 150_000)
    expected = outcome(calm, run(calm))
    last, advanced = killed_until_done(shaken, kills=8, seed=1, longest=0.5)
    assert outcome(shaken, last) == expected
    assert advanced > 0


def test_a_file_that_grows_while_runs_are_killed(tmp_path: Path) -> None:
    calm, shaken = tmp_path / "calm", tmp_path / "shaken"
    for folder in (calm, shaken):
        folder.mkdir()
    write_lines(calm / "in.log", 12_000)
    expected = outcome(calm, run(calm))
    last, kills, advanced = grown_and_killed(shaken, lines=12_000, rate=2000, seed=1, longest=0.5)
    found = outcome(shaken, last)
    lines = expected.output.splitlines(keepends=True)
    assert all(b"total" in line for line in lines[-3:])  # there is no end of what is followed
    assert found.output == b"".join(lines[:-3])
    assert found.letters == expected.letters and len(found.letters) > 100
    assert last.ledger["received"] == 12_000 and last.ledger["in_flight"] == 0
    assert kills >= advanced > 0


class Sums:
    def __init__(self) -> None:
        self.total = 0

    def __call__(self, line: str) -> str:
        self.total += int(line)
        return f"{line} {self.total}"

    def flush(self) -> Iterator[str]:
        yield f"total {self.total}"


def sums() -> Pipeline:
    return Pipeline("sums").add("sum", Sums)


def numbers(path: Path, first: int, end: int) -> None:
    with path.open("a") as file:
        file.writelines(f"{n}\n" for n in range(first, end))


def test_what_a_file_has_got_since_is_read_and_all_goes_on(tmp_path: Path) -> None:
    source, options = tmp_path / "in", {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    numbers(source, 0, 1000)
    first = sums().run(source, trace=True, **options)
    assert (first.resumed, len(first.history)) == (0, 1)
    numbers(source, 1000, 1010)
    second = sums().run(source, trace=True, **options)
    assert (second.state, second.resumed, second.ledger["received"]) == ("finished", 1000, 1010)
    assert second.metrics.loc["sum", "received"] == 1010
    assert second.traces["line_no"].tolist() == [*range(1000, 1010)]
    assert len(second.history) == 2 and second.history["received"].tolist() == [1000, 1010]
    assert second.uptime_s > first.uptime_s
    assert second.metrics.loc["sum", "time_s"] > first.metrics.loc["sum", "time_s"]
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[999:1003] == ["999 499500", "total 499500", "1000 500500", "1001 501501"]
    third = sums().run(source, **options)
    assert (third.resumed, third.ledger) == (1010, second.ledger)
    assert (tmp_path / "out").read_text().splitlines() == lines


def slowly(lines: int) -> Iterator[str]:
    for n in range(lines):
        yield str(n)
        time.sleep(0.0005)


class Slowly(SequenceSource):
    """A list that takes its time."""

    blocking = True

    def read(self, limit: int) -> Chunk:
        time.sleep(0.002)
        return super().read(min(limit, 5))


def test_a_run_that_is_stopped_is_gone_on_with_and_flushed_once(tmp_path: Path) -> None:
    lines = [str(n) for n in range(2000)]
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    received = 0
    for _ in range(3):
        live = sums().start(Slowly(lines), **options)
        assert live.resumed == received
        until(lambda live=live, received=received: live.ledger["received"] > received + 50)
        live.stop()
        live.wait(20)
        assert (live.state, live.ledger["in_flight"]) == ("stopped", 0)
        received = live.ledger["received"]
        assert "total" not in (tmp_path / "out").read_text()
    run = sums().run(Slowly(lines), **options)
    expected = sums().run(lines)
    assert (tmp_path / "out").read_text().splitlines() == expected.output["value"].tolist()
    assert run.ledger == expected.ledger


def test_without_a_checkpoint_a_stopped_run_is_flushed(tmp_path: Path) -> None:
    live = sums().start(slowly(100_000))
    until(lambda: live.ledger["received"] > 10)
    live.stop()
    live.wait(20)
    assert str(live.output["value"].iloc[-1]).startswith("total")


class Failing(SequenceSource):
    """A list that cannot be read beyond a line."""

    def __init__(self, items: list[str], end: int) -> None:
        super().__init__(items)
        self.end = end

    def read(self, limit: int) -> Chunk:
        if self._given >= self.end:
            raise SourceError(f"line {self.end} cannot be read")
        return super().read(min(limit, 16, self.end - self._given))


class Levels:
    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.last: tuple[str, int] | None = None

    def __call__(self, value: dict[str, Any]) -> Any:
        self.seen.add(value["word"])
        before, self.last = self.last, (value["word"], value["n"])
        return {**value, "new": len(self.seen), "before": before}


def everything() -> Pipeline:
    """Return a pipeline of everything that keeps state."""
    return (
        Pipeline("everything")
        .add("number", processors.number(), to="cells")
        .add("cells", processors.extract(r"^(?P<n>\d+)\t(?P<word>\w+) (?P<at>\d+)$"), to="at")
        .add("at", processors.with_fields(n="n::bigint", at="at::bigint"), to="few")
        .add("few", processors.sample(0.9, seed=3), to="throttle")
        .add("throttle", processors.throttle(3, every=10, by="word", time="at"), to="once")
        .add("once", processors.dedupe(by="at", limit=7), to="nth")
        .add("nth", processors.count(by="word", running=True), to="head")
        .add("head", processors.head(40, by="word"), to="levels")
        .add("levels", Levels, key="word", to="fork")
        .add("fork", lambda value: [("write", value), ("top", value), ("count", value)], to=("write", "top", "count"))
        .add("top", processors.top(2, by="word"), to="write")
        .add("count", processors.count(by="word"), to="write")
        .add("write", processors.to_json())
    )


WORDS = st.tuples(st.sampled_from(["hot", "cold", "mild", "?!"]), st.integers(0, 200))


@settings(max_examples=25, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=120), ends=st.lists(st.integers(0, 120), max_size=4))
def test_state_of_all_kinds_goes_on(tmp_path_factory: pytest.TempPathFactory, words: Any, ends: list[int]) -> None:
    folder = tmp_path_factory.mktemp("state")
    lines = [f"{word} {at}" for word, at in words]
    for end in sorted(ends):
        if end < len(lines):
            broken = everything().run(Failing(lines, end), output=folder / "out", checkpoint=each(folder))
            assert broken.state == "failed"
    run = everything().run(Failing(lines, len(lines) + 1), output=folder / "out", checkpoint=each(folder))
    del run
    expected = everything().run(lines, output=folder / "expected")
    assert (folder / "out").read_bytes() == (folder / "expected").read_bytes()
    assert expected.state == "finished"


def each(folder: Path) -> Checkpoint:
    return Checkpoint(folder / "checkpoint", interval=1e-6)


@pytest.mark.parametrize("columnar", [False, True])
def test_several_files_and_archives_go_on(tmp_path: Path, columnar: bool) -> None:
    pipeline = Pipeline("copy").add("copy", processors.upper() if columnar else str.upper)
    folder = tmp_path / "logs"
    folder.mkdir()
    parts = [[f"a {n}" for n in range(40_000)], [f"b {n}\udcff" for n in range(40_000)], ["c no end"]]
    data = ["\n".join(part).encode("utf-8", "surrogateescape") for part in parts]
    (folder / "a.log").write_bytes(data[0] + b"\r\n")
    (folder / "b.log.gz").write_bytes(gzip.compress(data[1] + b"\n"))
    (folder / "c.log").write_bytes(data[2])
    out = tmp_path / "out"
    for wanted in (100, 39_000, 42_000, 90_000):
        live = pipeline.start(folder, output=Slow(out), checkpoint=each(tmp_path))
        until(lambda live=live, wanted=wanted: live.ledger["received"] >= wanted or live.state == "finished")
        live.stop()
        live.wait(20)
    pipeline.run(folder, output=Slow(out), checkpoint=each(tmp_path))
    expected = "".join(f"{line}\n".upper() for part in parts for line in part)
    assert out.read_bytes() == expected.encode("utf-8", "surrogateescape")


def Slow(path: Path) -> Any:
    """Return a file sink that takes a moment for each batch, so that a run can be stopped in the middle."""

    class SlowSink(FileSink):
        def write(self, values: Any, line_no: Any) -> Any:
            time.sleep(0.005)
            return super().write(values, line_no)

    return SlowSink(path)


def test_files_are_known_by_what_they_are_and_not_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    copy = Pipeline("copy").add("copy", str)
    (folder / "app.log").write_text("one\ntwo\n")
    copy.run(folder, **options)
    (folder / "app.log").rename(folder / "app.log.1")
    (folder / "app.log").write_text("three\n")
    with (folder / "app.log.1").open("a") as file:
        file.write("two and a half\n")
    run = copy.run(folder, **options)
    assert sorted((tmp_path / "out").read_text().split("\n")) == ["", "one", "three", "two", "two and a half"]
    assert run.ledger["received"] == 4
    (folder / "app.log.1").write_text("o\n")
    run = copy.run(folder, **options)
    assert (tmp_path / "out").read_text().endswith("\no\n")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    live = sums().start(slowly(100_000), output=tmp_path / "out", checkpoint=tmp_path / "state")
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=rf"in use by another run \(process {os.getpid()}\)"):
        sums().run(["1"], output=tmp_path / "out2", checkpoint=tmp_path / "state")
    code = (
        "import sys; from tests.test_checkpoint import sums\n"
        f"sums().run(['1'], output={str(tmp_path / 'out3')!r}, checkpoint={str(tmp_path / 'state')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"in use by another run (process {os.getpid()})" in done.stderr
    live.stop()
    live.wait(20)
    assert not (tmp_path / "out3").exists()
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pipeline": Pipeline("others").add("sum", Sums)}, "has pipeline 'sums', and not 'others'"),
        ({"pipeline": Pipeline("sums").add("sum", str)}, "state of processor 'sum', Sums, which .* is one without state"),
        ({"pipeline": Pipeline("sums").add("total", Sums)}, "state of processor 'sum', Sums, which .* is not there"),
        ({"pipeline": Pipeline("sums").add("sum", Sums, key=str)}, "is Sums, one a key"),
        ({"pipeline": Pipeline("sums").add("sum", processors.number())}, r"is number\("),
        ({"output": "other"}, "has output '.*/out', and not '.*/other'"),
        ({"source": iter(["1"])}, "has kind of source 'list', and not 'iterator'"),
        ({"dead_letters": "letters"}, "has dead letters '.*/state/dead_letters', and not '.*/letters'"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_touched(tmp_path: Path, change: Any, message: str) -> None:
    sums().run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    for name in ("output", "dead_letters"):
        if name in change:
            change[name] = tmp_path / change[name]
    options = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"} | change
    pipeline, source = options.pop("pipeline", sums()), options.pop("source", ["1", "2", "3"])
    with pytest.raises(CheckpointError, match=message):
        pipeline.run(source, **options)
    assert (tmp_path / "out").read_text() == "1 1\n2 3\ntotal 3\n"
    assert not (tmp_path / "other").exists()
    run = sums().run(["1", "2", "3"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert run.ledger["received"] == 3


@pytest.mark.parametrize(("items", "what"), [(["2"], "1 items"), (["1", "5", "6"], "other items"), ([], "0 items")])
def test_a_list_with_fewer_items_than_were_done_or_others_is_another_one(
    tmp_path: Path, items: list[str], what: str
) -> None:
    options = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    sums().run(["1", "2"], **options)
    with pytest.raises(SourceError, match=f"list has {what}, and the run that is gone on with has done 2"):
        sums().run(items, **options)
    assert (tmp_path / "out").read_text() == "1 1\n2 3\ntotal 3\n"


def test_an_output_that_is_there_is_never_wiped(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious\n")
    with pytest.raises(SinkError, match="is there already and not empty"):
        sums().run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert (tmp_path / "out").read_text() == "precious\n"
    (tmp_path / "out").unlink()
    sums().run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    for spoilt in ("1", "1 2\ntotal 1\nand more"):
        (tmp_path / "out").write_text(spoilt)
        with pytest.raises(SinkError, match=r"out (is shorter than|does not have what was written)"):
            sums().run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
        assert (tmp_path / "out").read_text() == spoilt


def test_what_a_killed_run_had_not_saved_is_taken_back_and_that_is_said(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out")
    sink.write(["one"], np.array([0]))
    mark = sink.mark()
    sink.write(["two"], np.array([1]))
    sink.close()
    sink = FileSink(tmp_path / "out")
    sink.resume(mark)
    sink.close()
    assert (tmp_path / "out").read_text() == "one\n"
    [notice] = sink.notices
    assert notice.kind == "taken back" and "4 bytes that came after the last checkpoint" in notice.message


def test_what_somebody_else_wrote_after_a_run_is_not_cut_off(tmp_path: Path) -> None:
    sums().run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    with (tmp_path / "out").open("a") as file:
        file.write("not yours\n")
    with pytest.raises(SinkError, match=r"out has 10 bytes after what was written to it, from somebody else: move them"):
        sums().run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert (tmp_path / "out").read_text() == "1 1\ntotal 1\nnot yours\n"


class Odd:
    def __init__(self) -> None:
        self.kept: Any = range(3)

    def __call__(self, line: str) -> str:
        return f"{line} {self.kept}"


class Open:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, line: str) -> str:
        return line


def test_pickled_state_is_said_and_only_read_from_a_folder_of_ones_own(tmp_path: Path) -> None:
    odd = Pipeline("odd").add("odd", Odd)
    run = odd.run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert run.notices[["kind", "where"]].values.tolist() == [["pickled", "odd"]]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    (tmp_path / "state").chmod(0o755)
    with pytest.raises(CheckpointError, match="this user's alone: chmod 700"):
        odd.run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    (tmp_path / "state").chmod(0o700)
    odd.run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert (tmp_path / "out").read_text() == "1 range(0, 3)\n2 range(0, 3)\n"


def test_plain_state_is_not_pickled(tmp_path: Path) -> None:
    assert sums().run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state").notices.empty


def test_state_that_cannot_be_saved_is_said_before_anything_is_read(tmp_path: Path) -> None:
    before = resources()
    message = r"pipeline 'open', processor 'open': its state cannot be saved: TypeError: .*__getstate__"
    with pytest.raises(CheckpointError, match=message):
        Pipeline("open").add("open", Open).run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert not (tmp_path / "out").exists()
    until(lambda: resources() == before)


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match=r"cannot be made: there is a file"):
        sums().run(["1"], checkpoint=tmp_path / "file")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "checkpoint.db").write_text("no database, but text of some length\n" * 100)
    with pytest.raises(CheckpointError, match="is no checkpoint, or cannot be written"):
        sums().run(["1"], checkpoint=tmp_path / "state")


def test_starting_and_stopping_leaves_nothing(tmp_path: Path) -> None:
    def once() -> Run:
        return sums().run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state")

    once()
    before = resources()
    for _ in range(5):
        once()
    until(lambda: resources() == before)


LIMITED = """
import resource, signal, sys
from tests.test_checkpoint import sums
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = sys.argv[1]
lines = [str(n) for n in range(20)]
run = sums().run(lines, output=folder + "/out", checkpoint=folder + "/state")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
run = sums().start(lines + ["20"], output=folder + "/out", checkpoint=folder + "/state", on_outage=sys.argv[2])
"""


def test_a_checkpoint_that_cannot_be_written_for_now(tmp_path: Path) -> None:
    """The folder is full as soon as the database grows; see test_power_cuts for full disks that get empty."""
    code = LIMITED + "run.wait(5); print(run.state, run.reason)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), "fail"], capture_output=True, text=True)
    assert "cannot be written" in done.stdout + done.stderr and "Traceback" not in done.stdout
    run = sums().run([str(n) for n in range(21)], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert run.ledger["received"] == 21
    assert (tmp_path / "out").read_text().splitlines()[-3:] == ["19 190", "total 190", "20 210", "total 210"][-3:]


def test_an_output_that_somebody_else_writes_to_is_told_and_not_cut(tmp_path: Path) -> None:
    lines = [str(n) for n in range(3000)]
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": Checkpoint(tmp_path / "state", interval=0.05)}
    live = sums().start(Slowly(lines), **options)
    until(lambda: live.ledger["received"] > 50)
    with (tmp_path / "out").open("a") as file:
        file.write("not of the run\n")
    live.wait(30)
    assert live.state == "failed" and "written to, or cut, by somebody else" in str(live.exception)
    assert "not of the run\n" in (tmp_path / "out").read_text()


def test_two_runs_cannot_write_to_one_output(tmp_path: Path) -> None:
    live = sums().start(slowly(100_000), output=tmp_path / "out")
    with pytest.raises(SinkError, match=r"out is (being written by another run|there already)"):
        sums().run(["1"], output=tmp_path / "out")
    live.stop()
    live.wait(20)


def test_an_output_that_was_renamed_meanwhile(tmp_path: Path) -> None:
    live = sums().start(Slowly([str(n) for n in range(3000)]), output=tmp_path / "out", checkpoint=each(tmp_path))
    until(lambda: live.ledger["received"] > 50)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    live.wait(30)
    assert live.state == "failed" and "out is not there any more: it was moved or removed" in str(live.exception)


class Full(Checkpoint):
    """A checkpoint on a disk that is full from some time on."""

    full = False

    def save(self, moment: Moment) -> None:
        if self.full:
            raise Outage("the disk is full")
        super().save(moment)


def test_a_run_that_fails_does_not_wait_for_what_cannot_be_saved(tmp_path: Path) -> None:
    checkpoint = Full(tmp_path / "state", interval=0.01)
    ended = threading.Event()

    def failing(line: str) -> str:
        if ended.is_set():
            raise ValueError(line)
        return line

    pipeline = Pipeline("fails").add("fail", failing, on_error="stop")
    live = pipeline.start(Slowly([str(n) for n in range(100_000)]), checkpoint=checkpoint, on_outage="wait")
    checkpoint.full = True
    until(lambda: "waiting" in set(live.notices["kind"]))
    ended.set()
    until(lambda: live.state == "failed")
    assert isinstance(live.exception, ProcessorFailed)


def test_one_checkpoint_is_for_many_runs_but_for_one_at_a_time(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": checkpoint}
    live = sums().start(Slowly([str(n) for n in range(100_000)]), **options)
    for again in (checkpoint, Checkpoint(tmp_path / "state"), tmp_path / "state"):
        with pytest.raises(CheckpointError, match=rf"in use by another run \(process {os.getpid()}\)"):
            sums().run(["1"], output=tmp_path / "other", checkpoint=again)
    until(lambda: live.ledger["received"] > 10)
    live.stop()
    live.wait(20)
    assert live.state == "stopped" and not (tmp_path / "other").exists()
    received = live.ledger["received"]
    run = sums().run(Slowly([str(n) for n in range(received + 10)]), **options)
    assert (run.state, run.resumed, run.ledger["received"]) == ("finished", received, received + 10)


@pytest.mark.parametrize("given", [True, False, 5, 0.5, "", b"state", ["state"]])
def test_what_is_no_folder_is_no_checkpoint(given: Any) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint=.* is no folder: give the path of one"):
        sums().run(["1"], checkpoint=given)


@pytest.mark.parametrize("given", [0, 0.0, -1, float("nan"), float("inf"), "1", None, True])
def test_an_interval_is_a_number_above_0(tmp_path: Path, given: Any) -> None:
    with pytest.raises(CheckpointError, match=r"interval=.*: give the seconds between two moments, a number above 0"):
        Checkpoint(tmp_path / "state", interval=given)
    assert not (tmp_path / "state").exists()


def test_a_checkpoint_that_was_moved_together_with_its_output_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    sums().run(["0", "1", "?"], output=tmp_path / "here" / "out", checkpoint=tmp_path / "here" / "state")
    (tmp_path / "here").rename(tmp_path / "there")
    run = sums().run(["0", "1", "?", "5"], output=tmp_path / "there" / "out", checkpoint=tmp_path / "there" / "state")
    assert (run.resumed, len(run.dead_letters)) == (3, 1)
    (tmp_path / "there" / "out").rename(tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"has output '.*/there/out', and not"):
        sums().run(["0", "1", "?", "5"], output=tmp_path / "out", checkpoint=tmp_path / "there" / "state")
    (tmp_path / "out").rename(tmp_path / "there" / "out")
    (tmp_path / "there" / "state").rename(tmp_path / "state")  # without its output, which is where it was
    run = sums().run(["0", "1", "?", "5"], output=tmp_path / "there" / "out", checkpoint=tmp_path / "state")
    assert run.resumed == 4


@pytest.mark.parametrize("name", ["output", "dead_letters", "source"])
def test_a_run_that_is_refused_leaves_no_output_behind(tmp_path: Path, name: str) -> None:
    taken: dict[str, Any] = {"output": tmp_path / "taken", "dead_letters": tmp_path / "letters"}
    live = sums().start(slowly(100_000), **taken)
    until(lambda: live.ledger["received"] > 0)
    source = tmp_path / "nothing" if name == "source" else ["1"]
    options = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"} | ({name: taken[name]} if name in taken else {})
    with pytest.raises((SinkError, SourceError)):
        sums().run(source, **options)
    (tmp_path / "kept").write_text("precious\n")
    if name == "dead_letters":
        with pytest.raises(SinkError, match="is being written by another run"):
            sums().run(source, **options | {"output": FileSink(tmp_path / "kept", overwrite=True)})
    live.stop()
    live.wait(20)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "kept").read_text() == "precious\n"
    assert live.state == "stopped" and (tmp_path / "taken").stat().st_size


def test_pickled_state_that_others_may_have_written_is_not_read(tmp_path: Path) -> None:
    odd = Pipeline("odd").add("odd", Odd)
    odd.run(["1"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    database = tmp_path / "state" / "checkpoint.db"
    for mode in (0o620, 0o602):
        database.chmod(mode)
        with pytest.raises(CheckpointError, match=r"checkpoint\.db is not this user's to write alone: chmod go-w"):
            odd.run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    database.chmod(0o600)
    if os.getuid() == 0:
        for path in (database, tmp_path / "state"):
            os.chown(path, 1, -1)
            with pytest.raises(CheckpointError, match=r"not this user's .*chown 0 .*, and chmod"):
                odd.run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
            os.chown(path, 0, -1)
    odd.run(["1", "2"], output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert (tmp_path / "out").read_text() == "1 range(0, 3)\n2 range(0, 3)\n"


def test_what_was_under_way_at_a_moment_is_counted_once(tmp_path: Path) -> None:
    broken = True

    def slower(line: str) -> str:
        if broken and int(line) >= 4000:
            time.sleep(0.002)  # so that a batch is cut, and a moment comes between its parts
            if int(line) == 4500:
                raise ValueError(line)
        return line

    pipeline = Pipeline("slower").add("slow", slower, on_error="stop")
    lines = [str(n) for n in range(20_000)]
    assert pipeline.run(lines, output=tmp_path / "out", checkpoint=each(tmp_path)).state == "failed"
    broken = False
    run = pipeline.run(lines, output=tmp_path / "out", checkpoint=each(tmp_path))
    assert run.resumed < 4500
    assert (run.ledger["received"], run.ledger["emitted"], run.ledger["in_flight"]) == (20_000, 20_000, 0)


@pytest.mark.parametrize("gone", ["checkpoint", "checkpoint/checkpoint.db"])
def test_a_checkpoint_that_is_removed_under_a_run_is_told(tmp_path: Path, gone: str) -> None:
    over = threading.Event()
    numbers = itertools.takewhile(lambda number: not over.wait(0.005), itertools.count())
    live = sums().start(map(str, numbers), output=tmp_path / "out", checkpoint=each(tmp_path))
    until(lambda: live.ledger["received"] > 10)
    until(lambda: subprocess.run(["rm", "-rf", str(tmp_path / gone)]).returncode == 0)  # a file may be made meanwhile
    live.wait(30)
    over.set()
    assert live.state == "failed"
    assert isinstance(live.exception, CheckpointError) and "has been removed or replaced" in str(live.exception)


def test_dead_letters_that_find_no_room_are_counted(tmp_path: Path) -> None:
    queue = DeadLetterQueue(tmp_path / "letters", max_bytes=20_000, when_full="stop")
    run = Pipeline("p").add("number", int).run(["no number"] * 1000, dead_letters=queue)
    assert run.state == "failed" and "is full" in str(run.exception)
    kept = sum(1 for _ in DeadLetterQueue(tmp_path / "letters").letters())
    [notice] = run.notices.to_dict("records")
    assert notice["kind"] == "left"
    assert f"{run.ledger['dead_lettered'] - kept:,} dead letters are not in {queue.name}" in notice["message"]


def test_a_run_that_waits_does_not_hang(tmp_path: Path) -> None:
    queue = DeadLetterQueue(tmp_path / "letters", max_bytes=20_000, when_full="block")
    live = Pipeline("p").add("number", int).start(["no number"] * 1000, dead_letters=queue, watchdog=0.2)
    until(lambda: live.state == "paused")
    time.sleep(1.0)
    DeadLetterQueue(tmp_path / "letters").purge()
    until(lambda: live.state != "paused" or live.notices["count"].sum() > 1)
    live.stop()
    live.wait(30)
    assert set(live.notices["kind"]) <= {"waiting", "left"}
    assert live.notices["where"][0] == queue.name


def test_who_has_lost_the_lock_to_another_run_saves_nothing(tmp_path: Path) -> None:
    first, second = Checkpoint(tmp_path / "state"), Checkpoint(tmp_path / "state")
    first.begin()
    first.save(Moment({"source": packed(1)}))
    os.unlink(tmp_path / "state" / "checkpoint.lock")  # as a file system does that forgets it
    second.begin()
    second.save(Moment({"source": packed(2)}))
    with pytest.raises(CheckpointError, match="taken by another run"):
        first.save(Moment({"source": packed(3)}))
    loaded = second.load()
    assert loaded is not None and loaded["source"] == 2
    first.close()
    second.close()
