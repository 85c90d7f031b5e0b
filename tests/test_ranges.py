"""Byte ranges of files: every line once, as one who reads the whole file would have it."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamlab.batch import Chunk
from streamlab.errors import SourceError
from streamlab.sources.files import FileSource
from streamlab.sources.ranges import FileRange, SplitFiles, blocks_of

TEXTS = st.lists(st.sampled_from([b"", b"a", b"\r", b"two words", b"\xff\xc3", "é\u2028".encode(), b"x" * 40]), max_size=12)


def lines_of(part: FileRange) -> list[tuple[int, str]]:
    """Return the lines of a range, each with where it begins."""
    found: list[tuple[int, str]] = []
    for chunk in part.chunks(max_line_bytes=1_000, columns=False):
        assert chunk.places is not None
        starts = chunk.places.offsets(len(chunk.lines))
        assert starts is not None and starts.tolist() == [chunk.places.start(n) for n in range(len(chunk.lines))]
        found += zip(starts.tolist(), chunk.lines, strict=True)
    return found


def ranges_of(path: Path, length: int) -> list[FileRange]:
    size = path.stat().st_size
    return [FileRange(str(path), at, min(at + length, size)) for at in range(0, size, length)]


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
    found = [(part, start, line) for part in ranges_of(path, length) for start, line in lines_of(part)]
    assert [line for _, _, line in found] == whole(path)
    assert all(part.start <= start < part.stop for part, start, _ in found)


def test_a_line_that_is_longer_than_many_blocks_is_of_the_range_that_it_begins_in(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"a\n" + b"x" * 1_500_000 + b"\nb\n")
    parts = ranges_of(path, 200_000)
    lengths = []
    for part in parts:
        with open(path, "rb", buffering=0) as file:
            lengths.append(sum(map(len, blocks_of(file, part)[1])))
    assert lengths == [1_500_003, *[0] * (len(parts) - 2), 2]


def test_an_empty_file_has_no_range_and_one_that_has_shrunk_has_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"")
    assert SplitFiles([str(path)]).split(10, 2) == []
    path.write_bytes(b"one\ntw")
    assert lines_of(FileRange(str(path), 0, 50)) == [(0, "one"), (4, "tw")]
    assert lines_of(FileRange(str(path), 20, 50)) == []


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with open(tmp_path / "a.log", "wb", buffering=0) as file, pytest.raises(SourceError, match=r"a\.log cannot be read"):
        blocks_of(file, FileRange(str(tmp_path / "a.log"), 5, 9))


FILES = st.lists(st.tuples(TEXTS, st.booleans(), st.sampled_from(["log", "log.gz"])), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(files=FILES, lines=st.integers(1, 30), parts=st.integers(1, 4), stop=st.integers(0, 8))
def test_split_files_are_read_as_whole_ones_and_gone_on_with_by_either(
    tmp_path: Path, files: list[Any], lines: int, parts: int, stop: int
) -> None:
    paths = []
    for number, (texts, last, ending) in enumerate(files):
        path = tmp_path / f"{number}.{ending}"
        data = b"\n".join(texts) + (b"\n" if last and texts else b"")
        path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
        paths.append(str(path))
    source = SplitFiles(paths, max_line_bytes=1_000)
    found: list[str] = []
    while not source.exhausted and stop:
        for part in source.split(lines, parts):
            assert pickle.loads(pickle.dumps(part)) == part
            chunks = part.chunks(max_line_bytes=1_000, columns=False)
            end = yielded(chunks, found)
            source.finished(part, end)
        stop -= 1
    rest = FileSource(paths, max_line_bytes=1_000)
    rest.resume(json.loads(json.dumps(source.position())))
    while (chunk := rest.read(100)).lines:
        found += chunk.lines
    assert found == [line for path in paths for line in whole(Path(path))]


def yielded(chunks: Generator[Chunk, None, Any], lines: list[str]) -> Any:
    while True:
        try:
            lines += next(chunks).lines
        except StopIteration as stop:
            return stop.value


def test_parts_of_a_large_file_are_of_one_size(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {number:06}\n" for number in range(10_000)))
    source = SplitFiles([str(path)])
    while not source.exhausted:
        parts = source.split(1_000, 3)
        assert len(parts) == 3 or source.exhausted
        assert max(part.stop - part.start for part in parts) < 1.6 * 12 * 1_000 / 3
    assert len(parts) <= 4
