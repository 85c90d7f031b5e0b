"""Files, one after another: plain or compressed."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Sequence
from io import FileIO
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.errors import SourceError
from streamlab.identity import HEAD, Mark, key_of
from streamlab.notices import Notice
from streamlab.sources.compressed import BLOCK, extension
from streamlab.sources.own import Own
from streamlab.sources.reader import LineReader
from streamlab.sources.remembered import Read, Remembered
from streamlab.sources.text import Text

#: Bytes of a block that is to become a column.
COLUMN_BLOCK = 4 * 1024 * 1024


class FileSource:
    """The lines of files, in the order given; compressed ones (``.gz``, ``.bz2``, ``.xz``, ``.zst``) are unpacked.

    A chunk is of one file, has at most ``limit`` lines, and is made of about 256 KiB: memory does not grow with the
    files.

    A run that goes on where another one ended reads of each file what that one has not. A file is known by what is in it: it
    begins as it did, and has before the place that was reached what was there, at the same path (whatever file is there by
    now) or in the same file (whatever it is called by now). Anything else is read from its beginning, and a notice says so.
    A last line without its end comes when the file ends; if the file has grown when the next run goes on, it comes once
    more, whole, and a notice says so.

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

    kind = "files"

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
        self._waiting = deque((path, _status(path)) for path in paths)
        self.blocking = not all(stat.S_ISREG(status.st_mode) for _, status in self._waiting)
        self._total = sum(status.st_size for _, status in self._waiting)
        self._max_line_bytes = max_line_bytes
        self._columns = columns
        self.notices: deque[Notice] = deque()
        self._remembered = Remembered(self.notices)
        self._current: tuple[Read, Text] | None = None
        self._file: FileIO | None = None
        self._reader = LineReader(iter(()), "", max_line_bytes)
        self._done = 0  # bytes of the files before this one
        self._consumed = 0
        self._packed = False
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
                self._enter(self._waiting.popleft()[0])
        except BaseException:
            self.close()
            raise
        if self._file is not None and not self.blocking:
            of_text = None if self._packed or chunk.places is None else chunk.places.start(len(chunk.lines))
            self._consumed = self._done + (self._file.tell() if of_text is None else of_text)
            self._note_head()
        return chunk

    def leave_out(self, own: Own) -> None:
        """Leave out what the run itself writes.

        Raises:
            SourceError: there is nothing else.
        """
        others = deque((path, status) for path, status in self._waiting if not own.has(path, status))
        if not others:
            own.refuse(self._waiting[0][0])
        self._waiting = others
        self._total = sum(status.st_size for _, status in others)

    def resume(self, position: Any) -> None:
        """Go on where the source was whose `position` this is; files that it did not have are read whole."""
        self._remembered.restore(position, [(path, key_of(status)) for path, status in self._waiting])

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        if count:
            places.within.pass_to(places.start(count))
            places.within.of.last = places.start(count - 1)

    def position(self) -> list[Any]:
        """Return where to go on after the lines that have passed, as plain data."""
        return self._remembered.saved()

    def progress(self) -> float | None:
        """Return the share of the bytes on disk whose lines have been read; ``None`` for pipes."""
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
        self._packed = bool(extension(path))
        text = Text(self._file, path, COLUMN_BLOCK if self._columns else BLOCK)
        if self.blocking:
            self._reader = LineReader(text, path, self._max_line_bytes)
            return
        read, start = self._remembered.recognise(text, path, key_of(os.fstat(self._file.fileno())))
        self._current = read, text
        self._reader = LineReader(
            text, path, self._max_line_bytes, columns=self._columns, of=read, at=start, before=text.before
        )

    def _note_head(self) -> None:
        """Take note of what the text begins with, as far as that is known by now."""
        if self._current is not None:
            read, text = self._current
            if read.head.length < len(text.head) <= HEAD:
                read.head = Mark.of(text.head, len(text.head))

    def _leave(self) -> None:
        if self._file is not None:
            self._done += 0 if self.blocking else self._file.tell()
            self._file.close()
            self._file = None


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
