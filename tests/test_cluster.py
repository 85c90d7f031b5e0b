"""Runs on a cluster: they do what the embedded engine does, whatever is lost on the way."""

from __future__ import annotations

import gzip
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import Pipeline, Run, processors
from tests.inline import Inline
from tests.test_cluster_stages import LINES, pipelines

COUNTERS = ["received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight", "errors", "retries"]


def failures(run: Run) -> Counter[Any]:
    frame = run.errors.astype(object).where(run.errors.notna(), None)
    return Counter(
        zip(*(frame[name] for name in ("line_no", "processor", "kind", "message", "line", "attempts")), strict=True)
    )


def outputs(run: Run) -> tuple[list[Any], Counter[Any]]:
    """Return what came of lines, in order, and what was left at the end."""
    frame = run.output
    of_lines = frame[frame["line_no"].notna()]
    return of_lines.values.tolist(), Counter(frame[frame["line_no"].isna()]["value"])


def traced(run: Run) -> pd.DataFrame:
    return run.traces[["line_no", "branch", "line", "path", "fate", "output", "attempts"]]


def same(alone: Run, apart: Run) -> None:
    assert apart.state == alone.state == "finished", (apart.reason, alone.reason)
    assert outputs(apart) == outputs(alone)
    assert apart.ledger == alone.ledger
    pd.testing.assert_frame_equal(apart.metrics[COUNTERS], alone.metrics[COUNTERS])
    assert failures(apart) == failures(alone)
    by_worker = apart.metrics_by("worker")[COUNTERS].groupby("processor").sum()
    assert by_worker.to_dict() == apart.metrics[COUNTERS].to_dict()
    assert (apart.metrics_by("worker")["received"] >= 0).all()
    assert (
        apart.paths.set_index(["path", "fate"])["count"].to_dict()
        == alone.paths.set_index(["path", "fate"])["count"].to_dict()
    )
    letters = ["line_no", "processor", "kind", "message", "line", "path"]
    assert Counter(map(tuple, apart.dead_letters[letters].astype(str).values)) == Counter(
        map(tuple, alone.dead_letters[letters].astype(str).values)
    )


@settings(deadline=None, max_examples=100)
@given(
    pipeline=pipelines(),
    lines=LINES,
    partitions=st.integers(1, 4),
    epoch_lines=st.integers(1, 12),
    max_in_flight=st.integers(1, 3),
    workers=st.integers(1, 3),
    seed=st.none() | st.integers(0, 1_000),
)
def test_a_cluster_does_what_the_embedded_engine_does(
    pipeline: Pipeline,
    lines: list[str],
    partitions: int,
    epoch_lines: int,
    max_in_flight: int,
    workers: int,
    seed: int | None,
) -> None:
    alone = pipeline.run(lines, trace=True)
    apart = pipeline.run(
        lines,
        trace=True,
        cluster=Inline(workers, seed),
        partitions=partitions,
        epoch_lines=epoch_lines,
        max_in_flight=max_in_flight,
    )
    same(alone, apart)
    pd.testing.assert_frame_equal(traced(apart), traced(alone))


@settings(deadline=None, max_examples=50)
@given(
    pipeline=pipelines(),
    files=st.lists(LINES, min_size=1, max_size=3),
    partitions=st.integers(1, 4),
    epoch_lines=st.integers(1, 12),
    seed=st.none() | st.integers(0, 1_000),
)
def test_files_are_read_by_workers(
    pipeline: Pipeline, files: list[list[str]], partitions: int, epoch_lines: int, seed: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, lines in enumerate(files):
            Path(folder, f"{number}.log").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
        source = f"{folder}/*.log"
        alone = pipeline.run(source, trace="all")
        apart = pipeline.run(source, trace="all", cluster=Inline(2, seed), partitions=partitions, epoch_lines=epoch_lines)
        same(alone, apart)
        wanted = ["line_no", "branch", "path", "fate"]
        pd.testing.assert_frame_equal(apart.traces[wanted], alone.traces[wanted])


BYTES = st.lists(
    st.sampled_from([b"", b"a", b"\r", b"two words", b"\xff\xc3", "é\u2028".encode(), b"x" * 400, b"\xed\xa0\x80", b"\0"]),
    max_size=12,
)


class Width:
    """Numbers the lines of each length, and says how long they are."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, line: str) -> str:
        self.seen += 1
        return f"{line}|{len(line)}|{self.seen}"


@settings(deadline=None, max_examples=50)
@given(
    files=st.lists(st.tuples(BYTES, st.sampled_from([b"\n", b"\r\n"]), st.booleans()), min_size=1, max_size=3),
    epoch_lines=st.integers(1, 5),
    workers=st.integers(1, 4),
    keyed=st.booleans(),
)
def test_whatever_bytes_come_out_as_without_a_cluster(
    files: list[tuple[list[bytes], bytes, bool]], epoch_lines: int, workers: int, keyed: bool
) -> None:
    """Line ends of both kinds, none at the end, lines longer than a range, empty files, what is no UTF-8."""
    pipeline = Pipeline("p", max_line_bytes=300).add("keep", Width, key=len) if keyed else Pipeline("p").add("same", str)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for number, (texts, end, last) in enumerate(files):
            (folder / f"{number}.log").write_bytes(end.join(texts) + (end if last and texts else b""))
        alone = pipeline.run(folder / "*.log", output=folder / "alone")
        apart = pipeline.run(folder / "*.log", output=folder / "apart", cluster=Inline(workers), epoch_lines=epoch_lines)
        assert (folder / "apart").read_bytes() == (folder / "alone").read_bytes()
        assert apart.ledger == alone.ledger
        wanted = ["line_no", "kind", "line", "source", "offset"]
        assert apart.dead_letters[wanted].values.tolist() == alone.dead_letters[wanted].values.tolist()


@pytest.mark.parametrize("epoch_lines", [7, 40, 1_000])
def test_what_comes_before_the_damage_of_an_archive_is_done_and_gone_on_with(tmp_path: Path, epoch_lines: int) -> None:
    (tmp_path / "a.log").write_text("".join(f"a {n}\n" for n in range(50)))
    whole = gzip.compress("".join(f"b {hash(n)} {n * n}\n" for n in range(500)).encode())
    (tmp_path / "b.log.gz").write_bytes(whole[:-200])
    (tmp_path / "c.log").write_text("c\n")
    pipeline = Pipeline("p").add("keep", Width, key=len)
    options = {"cluster": Inline(3), "epoch_lines": epoch_lines}
    alone = pipeline.run(tmp_path / "*.log*", output=tmp_path / "alone", checkpoint=tmp_path / "one")
    apart = pipeline.run(tmp_path / "*.log*", output=tmp_path / "apart", checkpoint=tmp_path / "two", **options)
    assert alone.state == apart.state == "failed"
    assert str(apart.exception) == str(alone.exception) and "is damaged or cut off" in str(apart.exception)
    assert (tmp_path / "apart").read_bytes() == (tmp_path / "alone").read_bytes()
    (tmp_path / "b.log.gz").write_bytes(whole)
    for name, checkpoint, how in (("alone", "one", {}), ("apart", "two", options)):
        assert (
            pipeline.run(tmp_path / "*.log*", output=tmp_path / name, checkpoint=tmp_path / checkpoint, **how).state
            == "finished"
        )
    assert (tmp_path / "apart").read_bytes() == (tmp_path / "alone").read_bytes()
    assert len((tmp_path / "apart").read_bytes().splitlines()) == 551


def test_two_runs_of_one_pipeline_do_not_get_in_each_others_way() -> None:
    pipeline = Pipeline("p").add("keep", Width, key=len)
    lines = ["x" * (n % 7) for n in range(300)]
    alone = pipeline.run(lines)
    cluster = Inline(2)
    runs = [pipeline.start(lines, cluster=cluster, epoch_lines=20) for _ in range(2)]
    for run in runs:
        assert run.wait(30).state == "finished"
        assert run.notices.empty and outputs(run) == outputs(alone)


def test_what_a_worker_did_is_told_of_that_worker() -> None:
    class Once:
        def __call__(self, line: str) -> str:
            return line

    pipeline = Pipeline("p").add("read", str.upper, to="once").add("once", Once, to="last").add("last", str.lower)
    run = pipeline.run([str(n) for n in range(100)], cluster=Inline(2), epoch_lines=10, partitions=2)
    found = run.metrics_by("worker")["received"].unstack("processor", fill_value=0)
    [home] = [worker for worker in found.index if found.loc[worker, "once"]]
    assert found.loc["w0", "read"] == 100 and found.loc[home, "once"] == found.loc[home, "last"] == 100
    assert run.workers.set_index("worker")["lines"].to_dict() == {"w0": 100, "w1": 0}


@pytest.mark.parametrize("epoch_lines", [300, 2_000, 100_000])
def test_built_ins_do_on_columns_what_they_do_alone(tmp_path: Path, epoch_lines: int) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        "".join(f"{'info' if n % 3 else 'warn'} user{n * n % 97} took {n % 13}.5 ms\n" for n in range(9_000)) + "odd\n"
    )
    pipeline = Pipeline("built-ins", max_hops=9)
    pipeline.add("parse", processors.extract(r"^(?P<level>\w+) (?P<user>\w+) took (?P<ms>[\d.]+) ms$"), to="number")
    pipeline.add("number", processors.number("ms"), to="once").add(
        "once", processors.dedupe(by="user", limit=50), to="count"
    )
    pipeline.add("count", processors.count("level", running=True), to="write").add("write", processors.to_json())
    alone = pipeline.run(log, output=tmp_path / "alone", trace=True)
    apart = pipeline.run(log, output=tmp_path / "apart", trace=True, cluster=Inline(2), epoch_lines=epoch_lines)
    assert (tmp_path / "apart").read_bytes() == (tmp_path / "alone").read_bytes()
    assert apart.ledger == alone.ledger and alone.ledger["dead_lettered"] == 1
    pd.testing.assert_frame_equal(apart.metrics[COUNTERS], alone.metrics[COUNTERS])
    last = [traced(run).tail(900).reset_index(drop=True) for run in (apart, alone)]  # how many slow ones there are differs
    pd.testing.assert_frame_equal(*last)


def test_time_is_told_of_the_processor_that_took_it() -> None:
    def slow(line: str) -> str:
        time.sleep(0.001)
        return line

    class Quick:
        def __call__(self, line: str) -> str:
            return line

    pipeline = Pipeline("p").add("slow", slow, to="quick").add("quick", Quick, key=len)
    took = pipeline.run([str(n) for n in range(100)], cluster=Inline(2), epoch_lines=10).metrics["time_s"]
    assert took["slow"] > 0.1 > took["quick"] > 0
