"""Where outputs go: kept, written as lines, or handed to a function."""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import errno
import gzip
import io
import json
import lzma
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.errors import SinkError
from streamlab.sinks import Sink, open_sink
from streamlab.sinks.callables import CallableSink
from streamlab.sinks.collect import Collect
from streamlab.sinks.files import FileSink
from streamlab.sinks.stdout import StreamSink
from streamlab.sinks.text import as_bytes, as_text, visible
from streamlab.sources import open_source
from tests.test_sources_files import PACKED, drain

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": lambda data: pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd").read(),
}


def put(sink: Sink, values: list[Any]) -> list[tuple[int, Exception]]:
    return list(sink.write(values, np.arange(len(values), dtype=np.int64)))


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as\tit is\x1b", "as\tit is\x1b"),
        (7, "7"),
        (b"raw \xff", "raw \udcff"),
        ({"a": [1, None, True], "é": "\udcff"}, '{"a":[1,null,true],"é":"\udcff"}'),
        ({"nan": float("nan"), "deep": [{"inf": float("inf")}]}, '{"nan":null,"deep":[{"inf":null}]}'),
        ({"count": np.int64(3), "part": np.array([1, 2]), "set": {2, 1}}, '{"count":3,"part":[1,2],"set":[1,2]}'),
        ({"at": datetime(2024, 1, 2, tzinfo=UTC), "raw": b"\xff"}, '{"at":"2024-01-02 00:00:00+00:00","raw":"\udcff"}'),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_a_dict_is_one_line_of_json(fields: dict[str, Any]) -> None:
    text = as_text(fields)
    assert "\n" not in text
    assert json.loads(text) == fields


@given(st.text(st.characters()), st.binary())
def test_every_text_has_bytes_and_bytes_come_out_as_they_went_in(text: str, raw: bytes) -> None:
    as_bytes(text + "\ud800" + text)
    assert as_bytes(raw.decode("utf-8", "surrogateescape")) == raw
    assert as_bytes("\ud800").decode("utf-8", "surrogatepass") == "\ud800"


@given(st.text())
def test_what_a_terminal_shows_has_no_control_characters(text: str) -> None:
    shown = visible(text)
    assert all(char == "\t" or char.isprintable() or ord(char) > 0x9F for char in shown)
    if text.isprintable():
        assert shown == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"").rstrip(b"\r")), max_size=20))
def test_bytes_go_from_file_to_file_unchanged(tmp_path: Path, lines: list[bytes]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    (tmp_path / "in.log").write_bytes(data)
    with contextlib.closing(FileSink(tmp_path / "out.log", overwrite=True)) as sink:
        assert put(sink, drain(open_source(tmp_path / "in.log"))) == []
        assert (tmp_path / "out.log").read_bytes() == data  # before it is closed


@PACKED
def test_packed_files_can_be_unpacked_by_others_and_by_us(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"out.log{end}"
    with contextlib.closing(open_sink(path)) as sink:
        for batch in (["one", {"two": 2}], ["three \udcff"]):
            assert put(sink, batch) == []
    assert UNPACK[end](path.read_bytes()) == b'one\n{"two":2}\nthree \xff\n'
    assert drain(open_source(path)) == ["one", '{"two":2}', "three \udcff"]
    sink.close()


def test_values_that_have_no_text_are_refused_and_the_others_written(tmp_path: Path) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with contextlib.closing(open_sink(tmp_path / "out.log")) as sink:
        refused = put(sink, ["a", Unprintable(), "b", circle, {("a", 1): 2}, "c"])
    assert [(position, type(error)) for position, error in refused] == [
        (1, RuntimeError),
        (3, RecursionError),
        (4, TypeError),
    ]
    assert (tmp_path / "out.log").read_text() == "a\nb\nc\n"


def test_a_file_with_content_is_only_replaced_when_told(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_text("precious\n")
    with pytest.raises(SinkError, match=r"out\.log is there already.*overwrite=True"):
        put(open_sink(path), ["new"])
    assert path.read_text() == "precious\n"
    with contextlib.closing(FileSink(path, overwrite=True)) as sink:
        put(sink, ["new"])
    assert path.read_text() == "new\n"
    (tmp_path / "empty.log").touch()
    open_sink(tmp_path / "empty.log").close()


def test_a_folder_that_is_missing_and_a_folder_as_file(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"there is no folder .*nowhere to write out\.log in"):
        FileSink(tmp_path / "nowhere" / "out.log").begin()
    with pytest.raises(SinkError, match="cannot be written: Is a directory"):
        FileSink(tmp_path).begin()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("end", ["", *UNPACK])
def test_a_full_disk_is_said_with_the_path(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"full{end}"
    path.symlink_to("/dev/full")
    sink = FileSink(path)

    def fill() -> None:  # what is packed may get to the disk at the end only
        put(sink, [os.urandom(50_000).hex()])
        sink.close()

    with pytest.raises(SinkError, match=r"full.*No space left on device"):
        fill()
    with contextlib.suppress(SinkError):
        sink.close()
    sink.close()


LIMITED = """
import resource, signal, sys
import numpy as np
from streamlab.errors import SinkError
from streamlab.sinks import open_sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sink = open_sink(sys.argv[1])
sink.write(["first"] * 100, np.zeros(100))
try:
    sink.write(["second"] * 100, np.zeros(100))
except SinkError as error:
    print(error)
sink.close()
"""


def test_a_batch_that_does_not_fit_leaves_no_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path} cannot be written: File too large\n"
    assert path.read_text() == "first\n" * 100


def test_a_sink_that_was_closed_says_so(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.log")
    put(sink, ["a"])
    sink.close()
    with pytest.raises(SinkError, match="it has been closed"):
        put(sink, ["b"])


def test_a_sink_is_one_runs_at_a_time(tmp_path: Path) -> None:
    sink, over = FileSink(tmp_path / "out.log", overwrite=True), threading.Event()
    with Pipeline("first").add("copy", str).start(iter(over.wait, True), output=sink) as first:
        for other in (sink, FileSink(tmp_path / "out.log", overwrite=True), tmp_path / "out.log"):
            with pytest.raises(SinkError, match="is being written by another run"):
                Pipeline("second").add("copy", str).run(["b"], output=other)
        assert (tmp_path / "out.log").exists() and first.state == "running"
        over.set()
    Pipeline("third").add("copy", str).run(["c"], output=sink)
    assert (tmp_path / "out.log").read_text() == "c\n"


def test_a_device_can_be_gone_on_with(tmp_path: Path) -> None:
    for received in (2, 3):
        run = Pipeline("p").add("copy", str).run(["a", "b", "c"][:received], output="/dev/null", checkpoint=tmp_path)
        assert (run.state, run.ledger["received"]) == ("finished", received)


PROGRAM = """
import sys
import numpy as np
from streamlab.sinks import open_sink
print("printed before")
sink = open_sink("-")
sink.write([b"caf\\xe9 \\x1b[31m".decode("utf-8", "surrogateescape"), {"a": 1}], np.arange(2))
print("printed after")
"""


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_standard_output_in_a_pipe_gets_the_bytes(options: list[str]) -> None:
    done = subprocess.run([sys.executable, *options, "-c", PROGRAM], capture_output=True, check=True)
    assert done.stdout == b'printed before\ncaf\xe9 \x1b[31m\n{"a":1}\nprinted after\n'


def test_standard_output_on_a_terminal_is_made_visible() -> None:
    controlling, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], stdout=terminal, check=True)
    os.close(terminal)
    shown = os.read(controlling, 10_000)
    os.close(controlling)
    assert b'caf\\xe9 \\x1b[31m\r\n{"a":1}\r\n' in shown


BROKEN = """
import sys
import numpy as np
from streamlab.errors import SinkError
from streamlab.sinks import open_sink
sink = open_sink("-")
try:
    while True:
        sink.write(["line"] * 1000, np.arange(1000))
except SinkError as error:
    print(type(error.__cause__).__name__, error, file=sys.stderr)
"""


def test_a_reader_that_goes_away_is_recognisable_and_python_ends_quietly() -> None:
    with subprocess.Popen([sys.executable, "-c", BROKEN], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == b"BrokenPipeError stdout is closed at its other end\n"
        assert program.wait() == 0


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    read = bytearray()

    def read_all() -> None:
        while part := os.read(reading, 1000):
            read.extend(part)

    reader = threading.Thread(target=read_all)
    with os.fdopen(writing, "wb") as stream:
        reader.start()
        assert put(StreamSink(stream), ["x" * 99] * 10_000) == []
    reader.join(10)
    os.close(reading)
    assert bytes(read) == (b"x" * 99 + b"\n") * 10_000


def test_streams_of_the_caller(tmp_path: Path) -> None:
    text, binary = io.StringIO(), io.BytesIO()
    for stream in (text, binary):
        sink = open_sink(stream)
        put(sink, ["caf\udce9", "€"])
        sink.close()
    assert text.getvalue() == "caf\ufffd\n€\n"  # a text stream cannot take every byte
    assert binary.getvalue() == b"caf\xe9\n\xe2\x82\xac\n"
    with (tmp_path / "out.log").open("w") as file:
        file.write("head\n")
        sink = open_sink(file)
        put(sink, ["caf\udce9"])
        sink.close()
        file.write("foot\n")
    assert (tmp_path / "out.log").read_bytes() == b"head\ncaf\xe9\nfoot\n"
    with pytest.raises(SinkError, match="closed file"):
        put(sink, ["a"])


def test_a_function_gets_every_value_and_may_refuse_some() -> None:
    seen = []

    def take(value: Any) -> None:
        if value == "bad":
            raise ValueError("not this one")
        seen.append(value)

    sink = open_sink(take)
    assert sink.name == "take"
    refused = put(sink, ["a", "bad", {"b": 1}, "bad"])
    assert seen == ["a", {"b": 1}]
    assert [(position, str(error)) for position, error in refused] == [(1, "not this one"), (3, "not this one")]
    sink.close()


def test_ctrl_c_in_a_function_is_not_a_refusal() -> None:
    def take(value: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(CallableSink(take), ["a"])


def test_what_is_no_sink_is_refused_with_what_to_pass() -> None:
    async def take(value: Any) -> None:
        await asyncio.sleep(0)

    for output, says in (
        (7, "int is no sink"),
        (None, "NoneType is no sink"),
        (Collect, "class Collect"),
        (take, "async"),
    ):
        with pytest.raises(SinkError, match=says):
            open_sink(output)


class Mine:
    name = "mine"

    def write(self, values: list[Any], line_no: Any) -> list[tuple[int, Exception]]:
        return [(0, OSError(errno.EIO, "no"))]

    def flush(self) -> None:
        """A sink may have more than the protocol."""

    def close(self) -> None:
        """Nothing."""


def test_a_sink_is_taken_as_it_is() -> None:
    for sink in (Mine(), Collect()):
        assert open_sink(sink) is sink


@given(st.lists(st.lists(st.integers(), max_size=7), max_size=12), st.one_of(st.none(), st.integers(1, 10)))
def test_collect_keeps_the_last_ones(batches: list[list[int]], keep: int | None) -> None:
    sink = Collect(keep)
    everything: list[int] = []
    for batch in batches:
        sink.write(list(batch), np.arange(len(everything), len(everything) + len(batch), dtype=np.int64))
        everything += batch
        kept = everything if keep is None else everything[-keep:]
        assert sink.values() == kept
        line_no = [number for numbers, _ in sink.chunks() for number in numbers.tolist()]
        assert line_no == list(range(len(everything)))[len(everything) - len(kept) :]
        assert sink.total == len(everything)
    sink.close()
    assert sink.total == len(everything)


def test_collect_is_read_while_it_is_written() -> None:
    sink = Collect(keep=1000)
    stop = threading.Event()

    def write() -> None:
        for start in range(0, 200_000, 10):
            sink.write(list(range(start, start + 10)), np.arange(start, start + 10))
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        values = sink.values()
        assert values == list(range(values[0], values[0] + len(values))) if values else True
        assert len(values) <= 1000
    writer.join()
    assert sink.values() == list(range(199_000, 200_000))


def test_collect_refuses_to_keep_nothing() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Collect(keep=0)
