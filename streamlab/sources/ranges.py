"""Byte ranges of a file: each line is read once, whoever reads which range."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.errors import BrokenOff, SourceError
from streamlab.identity import Mark, key_of
from streamlab.sources.compressed import BLOCK, extension
from streamlab.sources.files import COLUMN_BLOCK, FileSource
from streamlab.sources.reader import LineReader
from streamlab.sources.remembered import Read
from streamlab.sources.text import Text

#: Ranges of small files, for each part that was asked for, at most.
MOST_FILES = 16
#: Share of the lines that may be missing: a range of a few would be a task for nothing.
ENOUGH = 0.05
#: Bytes of a file from which it is guessed how long its lines are.
SAMPLE = 64 * 1024


@dataclass(frozen=True, slots=True)
class FileRange:
    """The lines of a file that begin in a stretch of its bytes; of a packed file all lines, as it cannot be split.

    Attributes:
        path: of the file.
        start: offset of the first byte.
        stop: offset after the last one; a line that begins before it is read to its end.
        name: what to call the file, as it was given; by default its path.
    """

    path: str
    start: int
    stop: int
    name: str = ""

    def chunks(self, *, max_line_bytes: int, columns: bool) -> Generator[Chunk, None, Any]:
        """Yield the lines, and return what is known of the file then, see `SplitFiles.finished`.

        Raises:
            BrokenOff: the file is damaged; what comes before has been given.
            SourceError: it cannot be opened.
        """
        try:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - closed below
        except OSError as error:
            raise SourceError(f"{self.name or self.path} cannot be opened: {error.strerror}") from error
        with file:
            block = COLUMN_BLOCK if columns else BLOCK
            text = Text(file, self.name or self.path, block)
            blocks: Iterator[bytes]
            if extension(self.path):
                text.go_to(self.start)
                at, blocks = self.start, text
            else:
                at, blocks = blocks_of(file, self, block)
                text.go_to(at)
            read = Read(self.path, (0, 0))
            reader = LineReader(
                blocks, self.name or self.path, max_line_bytes, columns=columns, of=read, at=at, before=text.before
            )
            last: Places | None = None
            count = 0
            try:
                while (chunk := reader.read(BLOCK)).lines:
                    last, count = chunk.places, len(chunk.lines)
                    yield chunk
            except SourceError as error:
                raise BrokenOff(str(error), _end(text, read, last, count)) from error
            return _end(text, read, last, count)


def _end(text: Text, read: Read, last: Places | None, count: int) -> Any:
    """Return what is known of a file after the last chunk of a range."""
    if last is None:
        return None
    last.within.pass_to(last.start(count))
    return [list(Mark.of(text.head, len(text.head))), list(read.passed), last.start(count - 1)]


class SplitFiles(FileSource):
    """The lines of files, as `FileSource` has them, in ranges that can be read apart from each other.

    How large files are is looked at when it is their turn. Files must be there, at the same paths, wherever they are read.
    """

    kind = "files"

    def __init__(self, paths: Sequence[str], *, name: str | None = None, max_line_bytes: int = 1_048_576) -> None:
        super().__init__(paths, name=name, max_line_bytes=max_line_bytes)
        self._ranges: deque[FileRange] = deque()
        self._reads: dict[str, Read] = {}
        self._read_bytes = 0
        self._line_bytes = 0.0  # of a line, about

    @property
    def exhausted(self) -> bool:
        """Whether there are no more ranges."""
        return not self._ranges and not self._waiting

    def split(self, lines: int, parts: int) -> list[FileRange]:
        """Return the next ranges; of small files there may be more than so many.

        Raises:
            SourceError: a file is missing.
        """
        chosen: list[FileRange] = []
        left = float(lines)
        while left > ENOUGH * lines and len(chosen) < MOST_FILES * parts and not self.exhausted:
            if not self._ranges:
                try:
                    self._ranges.extend(self._ranges_of(self._waiting[0][0]))
                except SourceError:
                    if chosen:  # the next time, as what comes before is to be read
                        break
                    raise
                self._waiting.popleft()
                continue
            length = math.ceil(min(left, lines / parts) * self._line_bytes)
            part = self._ranges.popleft()
            if not extension(part.path) and part.stop - part.start > 1.5 * length:
                self._ranges.appendleft(replace(part, start=part.start + length))
                part = replace(part, stop=part.start + length)
            chosen.append(part)
            left -= (part.stop - part.start) / self._line_bytes
        return chosen

    def _ranges_of(self, path: str) -> Iterator[FileRange]:
        """Yield one range for what is to be read of a file, nothing if there is nothing."""
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
        except OSError as error:
            raise SourceError(f"{path} cannot be opened: {error.strerror}") from error
        with file:
            status = os.fstat(file.fileno())
            text = Text(file, path, BLOCK)
            self._reads[os.path.abspath(path)], start = self._remembered.recognise(text, path, key_of(status))
            sample = os.pread(file.fileno(), SAMPLE, min(start, max(status.st_size - SAMPLE, 0)))
        self._line_bytes = max(len(sample) / max(sample.count(b"\n"), 1), 1.0)
        full = os.path.abspath(path)  # workers may be elsewhere
        if extension(path):
            yield FileRange(full, start, start + status.st_size, path)
        elif start < status.st_size:
            yield FileRange(full, start, status.st_size, path)

    def finished(self, part: FileRange, end: Any) -> None:
        """Take note that a range is through."""
        self._read_bytes += part.stop - part.start
        if end is not None:
            read = self._reads[part.path]
            head, passed, read.last = end
            read.head, read.passed = Mark(*head), Mark(*passed)

    def progress(self) -> float | None:
        """Return the share of the bytes on disk whose lines are through."""
        return min(self._read_bytes / self._total, 1.0) if self._total else 1.0


def blocks_of(file: FileIO, part: FileRange, block: int = BLOCK) -> tuple[int, Iterator[bytes]]:
    r"""Return where the first line of a range begins, and the bytes of its lines, in blocks.

    A line belongs to the range in which its first byte is: so the bytes up to the first end of a line are the range's
    before it, unless an end is just before the range; and the last line is read beyond the range.

    Args:
        file: the file, plain, at any place.
        part: the range.
        block: bytes of a block, at most.

    Raises:
        SourceError: it cannot be read.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "app.log")
    >>> path.write_bytes(b"one\ntwo\nthree\n")
    14
    >>> with open(path, "rb", buffering=0) as file:
    ...     [b"".join(blocks_of(file, FileRange(str(path), at, at + 5))[1]) for at in (0, 5, 10)]
    [b'one\ntwo\n', b'three\n', b'']
    """
    try:
        start = _first_line(file.fileno(), part)
    except OSError as error:
        raise SourceError(f"{part.name or part.path} cannot be read: {error.strerror}") from error
    return start, _to_the_last_line(file.fileno(), part, start, block)


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


def _to_the_last_line(descriptor: int, part: FileRange, at: int, size: int) -> Iterator[bytes]:
    """Yield the bytes from the beginning of a line to the end of the last one that begins in a range."""
    ended = True
    try:
        while at < part.stop and (block := os.pread(descriptor, min(size, part.stop - at), at)):
            at, ended = at + len(block), block.endswith(b"\n")
            yield block
        while not ended and (block := os.pread(descriptor, BLOCK, at)):
            end = block.find(b"\n") + 1
            at, ended = at + len(block), end > 0
            yield block[:end] if ended else block
    except OSError as error:
        raise SourceError(f"{part.name or part.path} cannot be read: {error.strerror}") from error
