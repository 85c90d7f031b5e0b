"""Byte ranges of files: every line once, as one who reads the whole file would have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamlab.errors import SourceError
from streamlab.sources.files import FileSource
from streamlab.sources.ranges import FileRange, blocks_of, ranges_of
from streamlab.sources.reader import LineReader

TEXTS = st.lists(st.sampled_from([b"", b"a", b"\r", b"two words", b"\xff\xc3", "é\u2028".encode(), b"x" * 40]), max_size=12)


def lines_of(path: Path, part: FileRange) -> list[tuple[int, str]]:
    """Return the lines of a range, each with where it begins."""
    with open(path, "rb", buffering=0) as file:
        start, blocks = blocks_of(file, part)
        taken = list(blocks)
    text = b"".join(taken)
    starts = [start + at for at in [0, *(at + 1 for at, byte in enumerate(text) if byte == 10)] if at < len(text)]
    reader = LineReader(iter(taken), str(path), 1_000)
    lines: list[str] = []
    while (chunk := reader.read(5)).lines:
        lines += chunk.lines
    assert len(starts) == len(lines)
    return list(zip(starts, lines, strict=True))


def whole(path: Path) -> list[str]:
    source = FileSource([str(path)], max_line_bytes=1_000)
    lines: list[str] = []
    while (chunk := source.read(100)).lines:
        lines += chunk.lines
    return lines


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, ends=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans(), length=st.integers(1, 60))
@example(texts=[b"x" * 40, b"a"], ends=b"\n", last=False, length=3)
@example(texts=[], ends=b"\n", last=True, length=1)
def test_ranges_have_every_line_once_and_in_order(
    tmp_path: Path, texts: list[bytes], ends: bytes, last: bool, length: int
) -> None:
    path = tmp_path / "a.log"
    data = ends.join(texts) + (ends if last and texts else b"")
    path.write_bytes(data)
    parts = list(ranges_of(str(path), len(data), length))
    found = [(part, start, line) for part in parts for start, line in lines_of(path, part)]
    assert [line for _, _, line in found] == whole(path)
    assert all(part.start <= start < part.stop for part, start, _ in found)


def test_a_line_that_is_longer_than_many_blocks_is_of_the_range_that_it_begins_in(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"a\n" + b"x" * 1_500_000 + b"\nb\n")
    parts = list(ranges_of(str(path), path.stat().st_size, 200_000))
    lengths = []
    for part in parts:
        with open(path, "rb", buffering=0) as file:
            lengths.append(sum(map(len, blocks_of(file, part)[1])))
    assert lengths == [1_500_003, *[0] * (len(parts) - 2), 2]


def test_an_empty_file_has_no_range_and_one_that_has_shrunk_has_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"")
    assert not list(ranges_of(str(path), 0, 10))
    path.write_bytes(b"one\ntw")
    assert lines_of(path, FileRange(str(path), 0, 50)) == [(0, "one"), (4, "tw")]
    assert lines_of(path, FileRange(str(path), 20, 50)) == []


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with open(tmp_path / "a.log", "wb", buffering=0) as file, pytest.raises(SourceError, match=r"a\.log cannot be read"):
        blocks_of(file, FileRange(str(tmp_path / "a.log"), 5, 9))
