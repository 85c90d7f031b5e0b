"""What a line is: the splitter against a plain reference, and memory under an endless line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.sources.lines import LineSplitter
from streamlab.sources.reader import LineReader

#: Bytes in which the interesting ones are frequent: ends, lone returns, other separators, broken UTF-8, NUL, a BOM.
PIECES = st.sampled_from(
    [
        b"a",
        b"word ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\x00",
        b"\xff",
        b"\xe2\x80",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\xef\xbb\xbf",
        b"\x1b",
    ]
)
DATA = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=60).map(b"".join))


def reference(data: bytes) -> list[bytes]:
    """The rule, in the plainest words: split at ``\\n``, strip one ``\\r`` before it, no line after the last end."""
    *ended, last = data.split(b"\n")
    return [line[:-1] if line.endswith(b"\r") else line for line in ended] + ([last] if last else [])


def blocks_of(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def read_all(reader: LineReader, limit: int) -> tuple[list[str], list[tuple[int, str, str]]]:
    lines: list[str] = []
    marks: list[tuple[int, str, str]] = []
    while (chunk := reader.read(limit)).lines:
        assert len(chunk.lines) <= limit
        marks += [(len(lines) + mark[0], mark.kind, mark.message) for mark in chunk.rejected]
        lines += chunk.lines
    return lines, marks


@given(DATA, st.lists(st.integers(0, 30), max_size=20), st.integers(1, 7))
def test_lines_are_the_same_however_the_bytes_are_cut(data: bytes, sizes: list[int], limit: int) -> None:
    lines, marks = read_all(LineReader(blocks_of(data, sizes), "", 10_000), limit)
    assert [line.encode("utf-8", "surrogateescape") for line in lines] == reference(data)
    assert not marks


@given(DATA, st.lists(st.integers(0, 30), max_size=20), st.integers(1, 12), st.integers(1, 5))
def test_too_long_lines_are_cut_and_marked(data: bytes, sizes: list[int], most: int, limit: int) -> None:
    lines, marks = read_all(LineReader(blocks_of(data, sizes), "", most), limit)
    expected = reference(data)
    assert [line.encode("utf-8", "surrogateescape") for line in lines] == [line[:most] for line in expected]
    assert [(index, kind) for index, kind, _ in marks] == [
        (index, "oversize") for index, line in enumerate(expected) if len(line) > most
    ]
    for index, _, message in marks:
        assert f"{len(expected[index]):,} bytes long" in message


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_exactly_the_limit_is_not_too_long(end: bytes) -> None:
    splitter = LineSplitter(max_line_bytes=4)
    assert splitter.feed(b"1234" + end[:1]).lines + splitter.feed(end[1:]).lines == ["1234"]
    assert not splitter.finish().lines


@pytest.mark.parametrize("block", [1 << 18, 1 << 12])
def test_a_line_of_100_mb_costs_little_memory(block: int) -> None:
    most, size = 1 << 16, 100 * 1024 * 1024

    def blocks() -> Iterator[bytes]:
        part = b"x" * block
        for _ in range(size // block):
            yield part
        yield b"\n" + b"".join(b"short %d\n" % n for n in range(10))

    tracemalloc.start()
    try:
        lines, marks = read_all(LineReader(blocks(), "", most), 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(lines[0]), *lines[1:]] == [most, *(f"short {n}" for n in range(10))]
    assert [(index, kind) for index, kind, _ in marks] == [(0, "oversize")]
    assert f"{size:,} bytes long" in marks[0][2]
    assert peak < 2 * (1 << 20)


def test_what_blocks_raise_comes_after_the_lines_before_it() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"one\ntwo\nhal"
        raise OSError("gone")

    reader = LineReader(blocks(), "", 100)
    assert [reader.read(1).lines, reader.read(1).lines] == [["one"], ["two"]]
    with pytest.raises(OSError, match="gone"):
        reader.read(1)
