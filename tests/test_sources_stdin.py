"""Standard input: real pipes, real processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time

import pytest

from streamlab.errors import SourceError
from streamlab.sources import Source, open_source
from streamlab.sources.stdin import StdinSource
from tests.test_sources_files import drain


def test_lines_come_as_soon_as_their_end_has_come() -> None:
    reading, writing = os.pipe()
    source: Source = StdinSource(reading)
    os.write(writing, b"first\nsec")
    assert source.read(10).lines == ["first"]
    os.write(writing, b"ond\r\nthird \xff\nlast")
    assert source.read(1).lines == ["second"]
    os.close(writing)
    assert source.progress() is None
    assert drain(source) == ["third \udcff", "last"]
    source.close()
    os.close(reading)  # it was left open


def test_close_ends_a_read_that_waits() -> None:
    reading, writing = os.pipe()
    source = StdinSource(reading)
    os.write(writing, b"half a line")
    read: list[list[str]] = []
    reader = threading.Thread(target=lambda: read.append(source.read(10).lines))
    reader.start()
    time.sleep(0.05)
    source.close()
    reader.join(5)
    assert read == [[]]
    source.close()
    [notice] = source.notices
    assert (notice.kind, notice.where, notice.lost_lines, notice.lost_bytes) == ("dropped", "stdin", 0, 11)
    assert "11 bytes of a line that had not ended" in notice.message
    os.close(reading)
    os.close(writing)


def test_what_was_taken_and_not_read_when_it_is_closed_is_told() -> None:
    reading, writing = os.pipe()
    source = StdinSource(reading)
    os.write(writing, b"1\n2\n3\n4\n")
    assert source.read(2).lines == ["1", "2"]
    source.close()
    assert [(notice.kind, notice.lost_lines, notice.lost_bytes) for notice in source.notices] == [("dropped", 2, 0)]
    os.close(reading)
    os.close(writing)


PROGRAM = """
from streamlab.sources import open_source
source = open_source("-")
while (chunk := source.read(2)).lines:
    print(chunk.source, chunk.lines)
"""


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_real_process_reads_its_standard_input(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=f"a\nb\nc{end}", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["stdin ['a', 'b']", "stdin ['c']"]


def test_a_program_can_end_while_a_thread_waits_for_input() -> None:
    program = (
        "import threading, time; from streamlab.sources import open_source\n"
        "threading.Thread(target=open_source('-').read, args=(1,), daemon=True).start(); time.sleep(0.3)"
    )
    reading, writing = os.pipe()
    done = subprocess.run([sys.executable, "-c", program], stdin=reading, capture_output=True, timeout=20, check=False)
    os.close(reading)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("there", [None, io.StringIO("text")])
def test_without_a_standard_input_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, there: object) -> None:
    monkeypatch.setattr(sys, "stdin", there)
    with pytest.raises(SourceError, match="pass a path or a list"):
        open_source("-")


def test_a_descriptor_that_cannot_be_read() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(SourceError, match="Bad file descriptor"):
        StdinSource(reading).read(1)
