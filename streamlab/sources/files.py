"""Files, one after another: plain or compressed."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.errors import SourceError
from streamlab.identity import Identity, identify
from streamlab.notices import Notice
from streamlab.sources.compressed import BLOCK, extension, unpacked
from streamlab.sources.reader import LineReader

#: Bytes of a block that is to become a column.
COLUMN_BLOCK = 4 * 1024 * 1024


@dataclass(slots=True)
class _Opened:
    """A file that has been opened.

    Attributes:
        path: where it was found.
        identity: which it is.
        offset: bytes of its text before the first line that has not passed; where to go on reading.
    """

    path: str
    identity: Identity
    offset: int = 0


class FileSource:
    """The lines of files, in the order given; compressed ones (``.gz``, ``.bz2``, ``.xz``, ``.zst``) are unpacked.

    A chunk is of one file, has at most ``limit`` lines, and is made of about 256 KiB: memory does not grow with the
    files. A run that goes on where another one ended reads of each file what that one has not: files are told apart by
    device, inode and what they begin with, whatever they are called by then; one that is shorter than what was read of it
    is new.

    Args:
        paths: the files, such as `find_files` returns.
        name: what to call them all in messages; by default the path, or the first one and how many more.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        columns: whether to give lines as columns, in larger blocks.

    Attributes:
        blocking: whether one of them is a pipe or a device, where lines come when they come.
        notices: what had to be said of them.

    Raises:
        SourceError: there are no files, or one is missing.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        name: str | None = None,
        max_line_bytes: int = 1_048_576,
        columns: bool = False,
    ) -> None:
        if not paths:
            raise SourceError("there are no files to read: give at least one path")
        self.name = name or (paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more")
        kinds = [_status(path) for path in paths]
        self.blocking = not all(stat.S_ISREG(kind.st_mode) for kind in kinds)
        self._total = sum(kind.st_size for kind in kinds)
        self._waiting = deque(paths)
        self._max_line_bytes = max_line_bytes
        self._columns = columns
        self.notices: deque[Notice] = deque()
        self._known: list[_Opened] = []  # of the run that this one goes on with
        self._opened: list[_Opened] = []
        self._file: FileIO | None = None
        self._reader = LineReader(iter(()), "", max_line_bytes)
        self._done = 0  # bytes of the files before this one
        self._consumed = 0
        self._ended = False

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines of one file; an empty chunk at the end.

        Raises:
            SourceError: a file is missing, damaged or cannot be read; the lines before that have been given.
        """
        try:
            while not (chunk := self._reader.read(limit)).lines:
                self._leave()
                if not self._waiting:
                    self._ended = True
                    break
                self._enter(self._waiting.popleft())
        except BaseException:
            self.close()
            raise
        if self._file is not None and not self.blocking:
            self._consumed = self._done + self._file.tell()
        return chunk

    def resume(self, position: Any) -> None:
        """Go on where the source was whose `position` this is; files that it did not have are read whole."""
        self._known = [_Opened(path, Identity(*identity), offset) for path, identity, offset in position]

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        places.within.offset = places.start(count)

    def position(self) -> list[Any]:
        """Return where to go on after the lines that have passed, as plain data."""
        current = {opened.identity[:2] for opened in self._opened}
        gone = (known for known in self._known if known.identity[:2] not in current)
        return [[file.path, list(file.identity), file.offset] for file in (*gone, *self._opened)]

    def progress(self) -> float | None:
        """Return the share of the bytes on disk that has been read; ``None`` for pipes."""
        if self.blocking:
            return None
        if self._ended:
            return 1.0
        return min(self._consumed / self._total, 1.0) if self._total else 0.0

    def close(self) -> None:
        """Close the file that is open and forget the others."""
        self._waiting.clear()
        self._reader = LineReader(iter(()), "", self._max_line_bytes)
        self._leave()

    def _enter(self, path: str) -> None:
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by _leave)
        except OSError as error:
            raise SourceError(f"{path} cannot be opened: {error.strerror}") from error
        opened = self._identified(self._file, path)
        size, start = COLUMN_BLOCK if self._columns else BLOCK, opened.offset if opened else 0
        if extension(path):
            blocks = _beyond(start, unpacked(self._file, path))
        else:
            if start:
                self._file.seek(start)
            blocks = _blocks(self._file, path, size)
        self._reader = LineReader(blocks, path, self._max_line_bytes, columns=self._columns, within=opened, at=start)

    def _identified(self, file: FileIO, path: str) -> _Opened | None:
        """Return what is known of a file that has just been opened; ``None`` for a pipe or a device."""
        if self.blocking:
            return None
        identity = identify(file.fileno())
        opened = _Opened(path, identity)
        before = next((known for known in self._known if known.identity.fits(file.fileno())), None)
        if before is not None:
            self._known.remove(before)
            size = os.fstat(file.fileno()).st_size
            if extension(path) or before.offset <= size:
                opened.offset = before.offset
            else:
                message = f"{path} is shorter than what was read of it: it is read from its beginning"
                self.notices.append(Notice("truncated", path, message))
        self._opened.append(opened)
        return opened

    def _leave(self) -> None:
        if self._file is not None:
            self._done = self._consumed
            self._file.close()
            self._file = None


def _beyond(start: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out the first bytes."""
    for block in blocks:
        if start < len(block):
            yield block[start:]
        start = max(start - len(block), 0)


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def _blocks(file: FileIO, path: str, size: int) -> Iterator[bytes]:
    """Return what a plain file holds; a pipe gives what has come, without waiting for a full block."""
    try:
        while block := file.read(size):
            yield block
    except OSError as error:
        raise SourceError(f"{path} cannot be read any further: {error.strerror}") from error
