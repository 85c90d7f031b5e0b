"""Outputs in a folder of parts: what is seen of it is whole and committed, whatever happens."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from streamlab.errors import Outage, SinkError, SourceError
from streamlab.run import ENDED, Run
from streamlab.sinks import Durable, InFolder, OnFiles, Parting, Publishing, Sink, open_sink
from streamlab.sinks.files import FileSink
from streamlab.sinks.parquet import ParquetSink
from streamlab.sinks.parts import FileParts, Parts
from streamlab.sources.iterables import SequenceSource
from streamlab.texts import as_text, json_of
from tests.parted import each, slow
from tests.test_sinks import UNPACK, Unprintable, put
from tests.waiting import resources, until

Sinks = Callable[..., Parts]
BOTH = pytest.mark.parametrize("kind", [FileParts, ParquetSink])


def seen(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def hidden(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith(".part-"))


def text(folder: Path) -> str:
    return "".join((folder / name).read_bytes().decode("utf-8", "surrogateescape") for name in seen(folder))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for name in seen(folder) for row in pq.read_table(folder / name).to_pylist()]


def values(folder: Path) -> list[Any]:
    """Return what is in parts of either kind, which have one value a row."""
    return (
        [row["value"] for row in rows(folder)] if (folder / "part-00000001.parquet").exists() else text(folder).splitlines()
    )


def same() -> Pipeline:
    return Pipeline("same").add("same", lambda value: value)


def made(outputs: list[Any], sink: Sink) -> Run:
    """Run a pipeline whose outputs are these."""
    return (
        Pipeline("made").add("made", lambda line: outputs[int(line)]).run([str(n) for n in range(len(outputs))], output=sink)
    )


# What is in the parts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.text(max_size=3)
    | st.binary(max_size=5)
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))]), min_value=datetime(1900, 1, 1))
    | st.decimals(allow_nan=False)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(TEXTS, st.booleans(), max_size=2)
    | st.sampled_from([np.int16(3), np.float32(0.5), np.bool_(True), (1, "a"), np.array([1, 2])])
)
DICTS = st.dictionaries(st.sampled_from(["a", "b", "value", "line_no", "line_no_"]), SCALARS, max_size=4)
BATCHES = st.lists(st.lists(SCALARS | DICTS, min_size=1, max_size=6), max_size=5)


@settings(max_examples=60)
@given(
    batches=BATCHES, ending=st.sampled_from([".jsonl", ".log", ".log.gz", ".zst", ".txt.bz2"]), part_rows=st.integers(1, 9)
)
def test_lines_of_all_parts_are_those_of_one_file(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Any]], ending: str, part_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    sinks = [FileSink(folder / "one"), FileParts(folder / "many", ending=ending, part_rows=part_rows)]
    refused = []
    for sink in sinks:
        with closing(sink):
            sink.begin()
            refused.append([[position for position, _ in put(sink, batch)] for batch in batches])
    assert refused[0] == refused[1]
    unpack = UNPACK.get(ending[ending.rindex(".") :], bytes)
    parts = [unpack((folder / "many" / name).read_bytes()) for name in seen(folder / "many")]
    assert b"".join(parts) == (folder / "one").read_bytes()
    assert all(parts)
    assert seen(folder / "many") == [f"part-{number:08}{ending}" for number in range(1, len(parts) + 1)]
    assert not hidden(folder / "many")


def cell(value: Any) -> Any:
    """Return what is expected of a value by itself."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, float, bytes)) or type(value) is date:
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return json_of(value) if isinstance(value, (dict, list, tuple, np.ndarray)) else as_text(value)


def together(cells: list[Any]) -> list[Any]:
    """Return what is expected of all values of a column."""
    kinds = {(type(value), getattr(value, "tzinfo", None)) for value in cells if value is not None}
    if len(kinds) < 2:
        return cells
    if kinds == {(int, None), (float, None)} and all(int(float(value)) == value for value in cells if type(value) is int):
        return [None if value is None else float(value) for value in cells]
    texts = [value if value is None or isinstance(value, bytes) else as_text(value) for value in cells]
    if any(kind is bytes for kind, _ in kinds):
        return [value.encode() if isinstance(value, str) else value for value in texts]
    return texts


def expected(outputs: list[Any]) -> list[dict[str, Any]]:
    found = [
        {(f"{name}_" if name.rstrip("_") == "line_no" else name): cell(item) for name, item in row.items()}
        for row in (value if isinstance(value, dict) else {"value": value} for value in outputs)
    ]
    columns = {name: together([row.get(name) for row in found]) for row in found for name in row}
    return [{name: column[at] for name, column in columns.items()} for at in range(len(found))]


def is_text(value: Any) -> bool:
    try:
        items = value.values() if isinstance(value, dict) else [value]
        return all(as_text(cell(item)).encode() is not None for item in items if not isinstance(item, bytes))
    except UnicodeEncodeError:
        return False


@settings(max_examples=150)
@given(batches=BATCHES)
def test_rows_of_a_part_are_what_each_value_is_by_itself(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Any]]
) -> None:
    folder = tmp_path_factory.mktemp("parts") / "out.parquet"
    with closing(ParquetSink(folder)) as sink:
        refused = [[position for position, _ in put(sink, batch)] for batch in batches]
    assert refused == [[at for at, value in enumerate(batch) if not is_text(value)] for batch in batches]
    taken = [(at, value) for batch in batches for at, value in enumerate(batch) if is_text(value)]
    found = rows(folder) if folder.exists() else []
    assert [row.pop("line_no") for row in found] == [at for at, _ in taken]
    wanted = expected([value for _, value in taken])
    for row, other in zip(found, wanted, strict=True):
        assert {name: item for name, item in row.items() if item is not None} == {
            name: item for name, item in other.items() if item is not None
        }
        assert {type(row[name]) for name in other} == {type(other[name]) for name in other}


NATIVE = {"a": 1, "text": "é", "x": 0.5, "yes": True}


def test_columns_are_written_as_their_values_are(tmp_path: Path) -> None:
    lines = [f"{level} {n} {n / 2}" for n, level in enumerate(["info", "warn", "error"] * 4000)]
    pipeline = Pipeline("columns").add("split", processors.extract(r"^(?P<level>\w+) (?P<n>\d+) (?P<half>.*)$"), to="typed")
    pipeline.add("typed", processors.with_fields(n="n::bigint", half="half::double", even="n::bigint % 2 = 0"))
    pipeline.run(lines, output=tmp_path / "out.parquet")
    wanted = [
        {"line_no": n, "level": level, "n": n, "half": n / 2, "even": n % 2 == 0}
        for n, level in enumerate(["info", "warn", "error"] * 4000)
    ]
    assert rows(tmp_path / "out.parquet") == wanted


def test_readers_take_the_folder_for_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "out.parquet"
    assert made([{"a": n, "b": str(n)} for n in range(10)], ParquetSink(folder)).state == "finished"
    with closing(ParquetSink(folder, overwrite=True, part_rows=3)) as sink:
        for n in range(10):
            sink.write([{"a": n, "b": str(n)}], np.array([n]))
    assert len(seen(folder)) == 4
    wanted = [{"line_no": n, "a": n, "b": str(n)} for n in range(10)]
    assert pd.read_parquet(folder).to_dict("records") == wanted
    assert pl.scan_parquet(folder).collect().to_dicts() == wanted
    assert pl.scan_parquet(folder / "*.parquet").collect().to_dicts() == wanted


def test_a_schema_is_that_of_all_parts(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("n", pa.int32(), nullable=False), ("tags", pa.list_(pa.string())), ("value", pa.string())])
    sink = ParquetSink(tmp_path / "out.parquet", schema=schema, part_rows=1)
    outputs = [{"n": 1, "tags": ["a"]}, {"n": "two"}, {"tags": []}, {"n": 3, "more": 1}, "no dict", {"n": 4}, {"n": 2**40}]
    run = made(outputs, sink)
    assert run.state == "finished"
    assert [(row["line_no"], row["n"], row["tags"]) for row in rows(tmp_path / "out.parquet")] == [
        (0, 1, ["a"]),
        (5, 4, None),
    ]
    letters = run.dead_letters.sort_values("line_no")
    assert letters["line_no"].tolist() == [1, 2, 3, 4, 6]
    says = [
        "'n' does not fit its type int32",
        "'n' is missing",
        "no field 'more'",
        "'n' is missing",
        "'n' does not fit its type",
    ]
    assert all(words in said for words, said in zip(says, letters["message"], strict=True))
    schemas = {pq.read_schema(tmp_path / "out.parquet" / name) for name in seen(tmp_path / "out.parquet")}
    assert len(schemas) == 1 and schemas.pop().names == ["line_no", "n", "tags", "value"]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"a": "int"}, "is a dict: give a pyarrow.Schema"),
        (pa.schema([("line_no", pa.int64())]), "is line_no_ there"),
        (pa.schema([("a", pa.struct([]))]), "Parquet has no way"),
        (pa.schema([("a", pa.int8()), ("a", pa.int8())]), "the same name"),
    ],
)
def test_a_schema_that_cannot_be(tmp_path: Path, schema: Any, says: str) -> None:
    with pytest.raises(SinkError, match=says):
        ParquetSink(tmp_path / "out", schema=schema)


@BOTH
def test_what_is_refused_becomes_a_dead_letter(tmp_path: Path, kind: Sinks) -> None:
    outputs = ["one", Unprintable(), "two"] if kind is FileParts else ["one", Unprintable(), "bytes \udcff", {1: 2}, "two"]
    run = made(outputs, kind(tmp_path / "out"))
    assert values(tmp_path / "out") == ["one", "two"]
    assert run.errors["kind"].tolist() == ["sink_rejected"] * (len(outputs) - 2)
    assert (run.ledger["emitted"], run.ledger["dead_lettered"]) == (2, len(outputs) - 2)


@BOTH
def test_nothing_but_refused_values_makes_no_part(tmp_path: Path, kind: Sinks) -> None:
    assert made([Unprintable()] * 3, kind(tmp_path / "out")).ledger["dead_lettered"] == 3
    assert os.listdir(tmp_path / "out") == [".lock"]


# Where they are


def test_what_an_output_stands_for(tmp_path: Path) -> None:
    for output, kind in (
        (f"{tmp_path}/out/", FileParts),
        (f"{tmp_path}/a.parquet", ParquetSink),
        (f"{tmp_path}/b.parquet/", ParquetSink),
        (tmp_path / "c.parquet", ParquetSink),
    ):
        assert type(open_sink(output)) is kind
        run = same().run(["one"], output=output)
        assert run.state == "finished"
        assert values(Path(output)) == ["one"]
    for protocol in (Durable, OnFiles, InFolder, Publishing, Parting):
        assert isinstance(open_sink(f"{tmp_path}/out/"), protocol)


@BOTH
def test_a_folder_with_something_in_it_is_only_taken_when_told(tmp_path: Path, kind: Sinks) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".gitkeep").touch()
    same().run(["old"] * 3, output=kind(folder))
    for overwrite in (False, True):
        (folder / "precious.csv").touch()
        with pytest.raises(SinkError, match=r"out is there already and has precious.csv in it: .* move it away$"):
            same().run(["new"], output=kind(folder, overwrite=overwrite))
        (folder / "precious.csv").unlink()
    with pytest.raises(SinkError, match=rf"has part-00000001.* in it: .*{kind.__name__}\(folder, overwrite=True\) replaces"):
        same().run(["new"], output=kind(folder))
    assert values(folder) == ["old"] * 3
    same().run(["new"], output=kind(folder, overwrite=True))
    assert values(folder) == ["new"]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(SinkError, match="file is a file, and parts are written to a folder"):
        same().run(["one"], output=f"{tmp_path}/file/")
    with pytest.raises(SinkError, match=r"there is no folder .*nowhere to make out in: make it first"):
        same().run(["one"], output=f"{tmp_path}/nowhere/out/")
    for ending in ("", "log", ".l og", "/x", "."):
        with pytest.raises(SinkError, match="use letters and digits after a dot"):
            FileParts(tmp_path, ending=ending)
    with pytest.raises(SinkError, match="part_rows=0: it must be a whole number, at least 1"):
        FileParts(tmp_path, part_rows=0)


class Locked:
    """Has state that cannot be saved."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, line: str) -> str:
        return line


def test_a_run_that_is_refused_leaves_no_folder_behind(tmp_path: Path) -> None:
    before = resources()
    with pytest.raises(Exception, match="cannot be saved"):
        Pipeline("locked").add("locked", Locked).run(["1"], output=f"{tmp_path}/out/", checkpoint=tmp_path / "state")
    assert not (tmp_path / "out").exists()
    until(lambda: resources() == before)


@BOTH
def test_a_folder_is_one_runs_at_a_time(tmp_path: Path, kind: Sinks) -> None:
    sink, over = kind(tmp_path / "out"), threading.Event()
    with same().start(iter(over.wait, True), output=sink) as first:
        for other in (sink, kind(tmp_path / "out", overwrite=True)):
            with pytest.raises(SinkError, match="is being written by another run"):
                same().run(["b"], output=other)
        assert first.state == "running"
        over.set()
    sink = kind(tmp_path / "out")
    same().run(["c"], output=sink)
    with pytest.raises(SinkError, match="it has been closed"):
        put(sink, ["d"])
    assert values(tmp_path / "out") == ["c"]


@pytest.mark.parametrize("follow", [False, True])
def test_a_run_does_not_read_its_own_parts(tmp_path: Path, follow: bool) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "app.log").write_text("one\ntwo\n")
    for again in range(1, 3):
        live = same().start(logs / "**" / "*", follow=follow, output=f"{logs}/out/", checkpoint=each(tmp_path))
        with live:
            until(lambda: live.ledger["received"] >= again + 1)  # noqa: B023
            time.sleep(0.3 if follow else 0.0)
        assert text(logs / "out") == "one\ntwo\n" + "three\n" * (again - 1)
        with (logs / "app.log").open("a") as file:
            file.write("three\n")
    with pytest.raises(SourceError, match="is what this run itself writes"):
        same().run(logs / "out" / "part-00000001.log", output=f"{logs}/out/", checkpoint=each(tmp_path), follow=follow)


# When they are seen


class Slowly(SequenceSource):
    """A list that takes its time."""

    blocking = True

    def read(self, limit: int) -> Any:
        time.sleep(0.002)
        return super().read(min(limit, 40))


@BOTH
def test_without_a_checkpoint_all_is_seen_soon_and_at_the_end(tmp_path: Path, kind: Sinks) -> None:
    more = threading.Event()

    def lines() -> Iterator[str]:
        yield "one"
        yield "two"
        more.wait(30)
        yield "three"

    with same().start(lines(), output=kind(tmp_path / "out")) as live:
        until(lambda: (tmp_path / "out").exists() and bool(seen(tmp_path / "out")))
        until(lambda: values(tmp_path / "out") == ["one", "two"])
        assert live.state == "running"
        more.set()
        live.wait(30)
    assert values(tmp_path / "out") == ["one", "two", "three"]
    assert not hidden(tmp_path / "out")


@BOTH
def test_a_run_that_fails_without_a_checkpoint_shows_what_it_has_written(tmp_path: Path, kind: Sinks) -> None:
    def half(line: str) -> str:
        if line == "2500":
            raise ValueError(line)
        return line

    run = Pipeline("half").add("half", half, on_error="stop").run(map(str, range(5000)), output=kind(tmp_path / "out"))
    assert run.state == "failed" and run.ledger["emitted"] == 2500
    assert values(tmp_path / "out") == [str(n) for n in range(2500)]
    assert not hidden(tmp_path / "out")


@pytest.mark.parametrize("checkpoint", [False, True])
def test_who_looks_on_sees_whole_files_whose_rows_are_a_prefix(tmp_path: Path, checkpoint: bool) -> None:
    folder, looks, most = tmp_path / "out.parquet", 0, 0
    lines = [str(n) for n in range(12_000 if checkpoint else 40_000)]
    state = each(tmp_path) if checkpoint else None
    with same().start(Slowly(lines), output=ParquetSink(folder, part_rows=900), checkpoint=state) as live:
        until(folder.exists)
        while live.state not in ENDED:
            found = rows(folder)
            assert [(row["line_no"], row["value"]) for row in found] == [*enumerate(lines[: len(found)])]
            if found:
                assert len(pd.read_parquet(folder)) >= len(found)
                looks, most = looks + (len(found) < len(lines)), len(found)
    assert [row["value"] for row in rows(folder)] == lines
    assert not hidden(folder)
    assert looks > 0 and most > 0


# Going on


@BOTH
def test_a_run_that_is_gone_on_with(tmp_path: Path, kind: Sinks) -> None:
    lines = [str(n) for n in range(2000)]
    received = 0
    for _ in range(3):
        live = same().start(Slowly(lines), output=kind(tmp_path / "out"), checkpoint=each(tmp_path))
        assert live.resumed == received
        until(lambda: live.ledger["received"] > received + 100)  # noqa: B023
        live.stop()
        live.wait(20)
        received = live.ledger["received"]
        assert values(tmp_path / "out") == lines[:received]
    for _ in range(2):
        assert same().run(Slowly(lines), output=kind(tmp_path / "out"), checkpoint=each(tmp_path)).state == "finished"
        assert values(tmp_path / "out") == lines
    assert not hidden(tmp_path / "out")


@pytest.mark.parametrize("way", ["lines", "parquet"])
def test_a_run_that_is_killed_again_and_again(tmp_path: Path, way: str) -> None:
    lines = [f"line {n}" for n in range(30_000)]
    (tmp_path / "in.log").write_text("".join(f"{line}\n" for line in lines))
    random_ = random.Random(5)
    folder, before, advanced = tmp_path / "out", 0, 0
    for number in range(10):
        child = subprocess.Popen([sys.executable, "-m", "tests.parted", str(tmp_path), way], stdout=subprocess.PIPE)
        assert child.stdout is not None
        parts = len(seen(folder)) if folder.exists() else 0
        child.stdout.readline()  # it is at work now
        if number % 2:
            until(lambda: len(seen(folder)) > parts)  # noqa: B023 - it is called here
        time.sleep(random_.uniform(0.0, 0.25))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found = values(folder)
        assert found == lines[: len(found)] and len(found) >= before
        advanced += len(found) > before
        before = len(found)
    shaken = slow(tmp_path, way)
    shaken.wait(60)
    assert shaken.state == "finished" and values(folder) == lines
    assert not hidden(folder)
    assert advanced > 3 and before < len(lines)


@BOTH
def test_a_crash_before_all_parts_are_shown(tmp_path: Path, kind: Sinks) -> None:
    """As if it came between the checkpoint's transaction and the last of several renames."""
    for shown in range(4):
        before, folder = tmp_path / f"{shown}", tmp_path / f"{shown}.crashed"
        sink = kind(before, part_rows=1)
        sink.begin()
        for line in "abc":
            put(sink, [line])
        mark = msgspec.msgpack.decode(msgspec.msgpack.encode(sink.mark()))
        sink.sync()
        assert len(mark["parts"]) == mark["count"] == 3 and not seen(before)
        sink.publish({**mark, "parts": mark["parts"][:shown]})
        put(sink, ["beyond"])
        sink.mark()
        put(sink, ["further"])
        shutil.copytree(before, folder)
        sink.close()
        sink = kind(folder, part_rows=1)
        sink.resume(mark)
        assert values(folder) == ["a", "b", "c"]
        [notice] = sink.notices if kind is FileParts else [None]
        assert notice is None or "2 parts that came after the last checkpoint were taken back" in notice.message
        put(sink, ["d"])
        mark = sink.mark()
        sink.sync()
        for _ in range(2):
            sink.publish(mark)
        sink.close()
        assert values(folder) == ["a", "b", "c", "d"]
        assert not hidden(folder)


def test_a_run_whose_checkpoint_was_written_and_whose_parts_were_not_shown(tmp_path: Path) -> None:
    class Dies(FileParts):
        def publish(self, mark: Any) -> None:
            if mark["count"]:
                raise SinkError("it dies here")

    options: dict[str, Any] = {"checkpoint": tmp_path / "state"}
    assert same().run(["one", "two"], output=Dies(tmp_path / "out"), **options).state == "failed"
    assert not seen(tmp_path / "out") and len(hidden(tmp_path / "out")) == 1
    run = same().run(["one", "two"], output=FileParts(tmp_path / "out"), **options)
    assert (run.state, run.resumed) == ("finished", 2)
    assert text(tmp_path / "out") == "one\ntwo\n"


def test_what_others_have_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    others = [f".part-{'0' * 16}-{'1' * 32}", ".part-mine", ".hidden"]
    for name in others:
        (folder / name).write_text("precious")
    for lines in (["one"], ["one", "two"]):
        same().run(lines, output=FileParts(folder), checkpoint=tmp_path / "state")
    same().run(["three"], output=FileParts(folder, overwrite=True))
    assert text(folder) == "three\n"
    assert all((folder / name).read_text() == "precious" for name in others)


def test_a_folder_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    options: dict[str, Any] = {"checkpoint": tmp_path / "state"}
    for lines in (["one"], ["one", "two"]):
        same().run(lines, output=FileParts(folder), **options)
    part, more = folder / "part-00000001.log", ["one", "two", "three"]
    part.rename(tmp_path / "away")
    with pytest.raises(SinkError, match=r"out does not have part-00000001\.log, which was written to it; put back"):
        same().run(more, output=FileParts(folder), **options)
    (tmp_path / "away").rename(part)
    (folder / "part-00000003.log").write_text("not yours\n")
    with pytest.raises(SinkError, match=r"out has part-00000003\.log, which is none of what was written to it"):
        same().run(more, output=FileParts(folder), **options)
    (folder / "part-00000003.log").unlink()
    with pytest.raises(SinkError, match=r"end with \.log, and not with \.txt"):
        same().run(more, output=FileParts(folder, ending=".txt"), **options)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="out is gone, and 2 parts had been written to it"):
        same().run(more, output=FileParts(folder), **options)
    assert not folder.exists()
    (tmp_path / "elsewhere").rename(folder)
    same().run(more, output=FileParts(folder), **options)
    assert text(folder) == "one\ntwo\nthree\n"


@BOTH
def test_a_folder_that_goes_away_ends_the_run(tmp_path: Path, kind: Sinks) -> None:
    live = same().start(Slowly([str(n) for n in range(100_000)]), output=kind(tmp_path / "out"), on_outage="wait")
    until(lambda: live.ledger["received"] > 100)
    (tmp_path / "out").rename(tmp_path / "away")
    live.wait(30)
    assert live.state == "failed" and isinstance(live.exception, SinkError)
    assert not isinstance(live.exception, Outage)


class FullFor(ParquetSink):
    """Finds no room the first time that a part is to last."""

    parts, full = 0, True

    def mark(self) -> dict[str, Any]:
        mark = super().mark()
        self.parts = len(mark["parts"])
        return mark

    def sync(self) -> None:
        if self.parts and self.full:
            self.full = False
            raise Outage("there is no room")
        super().sync()


@pytest.mark.parametrize("on_outage", ["fail", "wait"])
def test_a_disk_that_is_full_when_a_part_is_completed(tmp_path: Path, on_outage: Any) -> None:
    lines = [str(n) for n in range(2000)]
    run = same().run(lines, output=FullFor(tmp_path / "out"), on_outage=on_outage)
    assert run.state == ("finished" if on_outage == "wait" else "failed")
    assert values(tmp_path / "out") == lines[: run.ledger["emitted"]]
    assert run.ledger["emitted"] == 2000


# Writers that write on their own


@BOTH
def test_writers_in_other_processes_and_what_they_wrote_taken_in(tmp_path: Path, kind: Sinks) -> None:
    folder = tmp_path / "out"
    sink = kind(folder, part_rows=2)
    sink.begin()
    put(sink, ["first"])
    writers = [sink.writer() for _ in range(4)]
    program = (
        "import pickle, sys; import numpy as np\n"
        "writer, values = pickle.load(sys.stdin.buffer)\n"
        "for value in values: writer.write([value], np.array([7]))\n"
        "sys.stdout.buffer.write(pickle.dumps((writer.close(), writer.close())))"
    )
    names = []
    for writer, lines in zip(writers[:3], (["c", "d", "e"], [], ["a"]), strict=True):
        data = pickle.dumps((writer, lines))
        done = subprocess.run([sys.executable, "-c", program], input=data, stdout=subprocess.PIPE, check=True)
        names.append(pickle.loads(done.stdout)[0])
        assert pickle.loads(done.stdout)[1] == names[-1]
    assert [len(each) for each in names] == [2, 0, 1]
    put(writers[3], ["never adopted"])
    assert len(writers[3].close()) == 1
    sink.adopt(names[2])
    put(sink, ["b"])
    sink.adopt([*names[0], *names[1]])
    assert not seen(folder)
    mark = sink.mark()
    sink.sync()
    sink.publish(mark)
    assert values(folder) == ["first", "a", "b", "c", "d", "e"]
    assert len(seen(folder)) == 5 and len(hidden(folder)) == 1
    sink.close()
    assert len(hidden(folder)) == 1  # nobody knows whether it is being written
    sink = kind(folder)
    sink.resume(mark)
    assert not hidden(folder)
    sink.close()
    assert values(folder) == ["first", "a", "b", "c", "d", "e"]


def test_a_writer_that_is_pickled_writes_parts_of_its_own(tmp_path: Path) -> None:
    sink = FileParts(tmp_path / "out", ending=".log.gz")
    writer = sink.writer()
    put(writer, ["one"])
    other = pickle.loads(pickle.dumps(writer))
    put(other, ["two"])
    assert put(writer, [Unprintable(), "three"])[0][0] == 0
    names = other.close() + writer.close()
    assert [gzip.decompress((tmp_path / "out" / name).read_bytes()) for name in names] == [b"two\n", b"one\nthree\n"]
    with pytest.raises(SinkError, match="its writer has been closed"):
        put(writer, ["four"])
    sink.adopt(names)
    for wrong, says in (
        (names[:1], "was taken in before"),
        ([names[0][:-8] + "0" * 8], "is not there"),
        ([f".part-{'0' * 16}-{'1' * 32}"], "is no part that a writer of"),
        (["../precious"], "is no part that a writer of"),
    ):
        with pytest.raises(SinkError, match=says):
            sink.adopt(wrong)
    sink.close()
    assert [gzip.decompress((tmp_path / "out" / name).read_bytes()) for name in seen(tmp_path / "out")] == [
        b"two\n",
        b"one\nthree\n",
    ]


def test_parts_that_were_taken_in_and_not_committed_go_when_the_run_goes_on(tmp_path: Path) -> None:
    sink = FileParts(tmp_path / "out")
    sink.begin()
    mark = sink.mark()
    writer = sink.writer()
    put(writer, ["one"])
    sink.adopt(writer.close())
    sink.close()
    assert not seen(tmp_path / "out") and len(hidden(tmp_path / "out")) == 1
    sink = FileParts(tmp_path / "out")
    sink.resume(mark, ended=True)
    assert not hidden(tmp_path / "out")
    assert "1 part that came after the last checkpoint was taken back" in sink.notices[0].message
    sink.close()


LIMITED = """
import resource, signal, sys
import numpy as np
from streamlab.errors import Outage
from streamlab.sinks.parts import FileParts
from streamlab.sinks.parquet import ParquetSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, way = sys.argv[1:]
sink = ParquetSink(folder) if way == "parquet" else FileParts(folder, ending=".gz" if way == "gzip" else ".log")
sink.begin()
mark = sink.mark()
lines = [f"{n * 7919 % 99991:05}" for n in range(20_000)]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
outages = 0
while lines:
    try:
        sink.write(lines[:1000], np.arange(1000))
        del lines[:1000]
        if not lines:
            mark = sink.mark()
            sink.sync()
    except Outage:
        outages += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if not lines:
            sink.sync()
sink.publish(mark)
sink.close()
print(outages)
"""


@pytest.mark.parametrize("way", ["lines", "gzip", "parquet"])
def test_a_disk_that_is_full_for_a_while(tmp_path: Path, way: str) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path / "out", way], stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) == 1
    lines = [f"{n * 7919 % 99991:05}" for n in range(20_000)]
    data = (tmp_path / "out" / seen(tmp_path / "out")[0]).read_bytes()
    found = (
        values(tmp_path / "out") if way == "parquet" else (gzip.decompress(data) if way == "gzip" else data).decode().split()
    )
    assert found == lines
    assert len(seen(tmp_path / "out")) == 1 and not hidden(tmp_path / "out")


# From the command line


@pytest.mark.parametrize("output", ["out/", "out.parquet"])
def test_the_command_line_takes_a_folder(tmp_path: Path, output: str) -> None:
    command = [sys.executable, "-m", "streamlab", "--no-dashboard", "--output", output]
    for code in (0, 2):  # the second time, there is something
        done = subprocess.run(command, cwd=tmp_path, input=b"info: one\n", capture_output=True)
        assert done.returncode == code, done.stderr
    assert values(tmp_path / output) == ["[info: one]"]
