"""Byte ranges of a file: each line is read once, whoever reads which range."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO

from streamlab.errors import SourceError
from streamlab.sources.compressed import BLOCK, extension


@dataclass(frozen=True, slots=True)
class FileRange:
    """The lines of a file that begin in a stretch of its bytes; of a packed file all lines, as it cannot be split.

    Attributes:
        path: of the file.
        start: offset of the first byte.
        stop: offset after the last one; a line that begins before it is read to its end.
    """

    path: str
    start: int
    stop: int


def ranges_of(path: str, size: int, length: int) -> Iterator[FileRange]:
    """Yield ranges that have all lines of a file.

    Args:
        path: of the file.
        size: its bytes.
        length: bytes of a range, about.

    >>> [(part.start, part.stop) for part in ranges_of("app.log", 25, 10)]
    [(0, 10), (10, 20), (20, 25)]
    >>> [(part.start, part.stop) for part in ranges_of("app.log.gz", 25, 10)]
    [(0, 25)]
    """
    if extension(path):
        length = max(size, 1)
    for start in range(0, size, length):
        yield FileRange(path, start, min(start + length, size))


def blocks_of(file: FileIO, part: FileRange) -> tuple[int, Iterator[bytes]]:
    r"""Return where the first line of a range begins, and the bytes of its lines, in blocks.

    A line belongs to the range in which its first byte is: so the bytes up to the first end of a line are the range's
    before it, unless an end is just before the range; and the last line is read beyond the range.

    Args:
        file: the file, plain, at any place.
        part: the range.

    Raises:
        SourceError: it cannot be read.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "app.log")
    >>> path.write_bytes(b"one\ntwo\nthree\n")
    14
    >>> with open(path, "rb", buffering=0) as file:
    ...     [b"".join(blocks_of(file, part)[1]) for part in ranges_of(str(path), 14, 5)]
    [b'one\ntwo\n', b'three\n', b'']
    """
    try:
        start = _first_line(file.fileno(), part)
    except OSError as error:
        raise SourceError(f"{part.path} cannot be read: {error.strerror}") from error
    return start, _to_the_last_line(file.fileno(), part, start)


def _first_line(descriptor: int, part: FileRange) -> int:
    """Return where the first line begins that begins in a range; its end, if none does."""
    if part.start == 0:
        return 0
    at = part.start - 1  # where the line before may end
    while at < part.stop and (block := os.pread(descriptor, min(BLOCK, part.stop - at), at)):
        end = block.find(b"\n")
        if end >= 0:
            return at + end + 1
        at += len(block)
    return part.stop


def _to_the_last_line(descriptor: int, part: FileRange, at: int) -> Iterator[bytes]:
    """Yield the bytes from the beginning of a line to the end of the last one that begins in a range."""
    ended = True
    try:
        while at < part.stop and (block := os.pread(descriptor, min(BLOCK, part.stop - at), at)):
            at, ended = at + len(block), block.endswith(b"\n")
            yield block
        while not ended and (block := os.pread(descriptor, BLOCK, at)):
            end = block.find(b"\n") + 1
            at, ended = at + len(block), end > 0
            yield block[:end] if ended else block
    except OSError as error:
        raise SourceError(f"{part.path} cannot be read: {error.strerror}") from error
