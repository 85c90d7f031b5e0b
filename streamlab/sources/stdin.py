"""Standard input, as it comes."""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Iterator

from streamlab.batch import Chunk
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.reader import LineReader

#: Bytes asked for at a time; a pipe gives what it has.
BLOCK = 64 * 1024
#: Seconds after which a reader that waits for input looks whether it has been closed.
LOOK_UP = 0.2


class StdinSource:
    """The lines of standard input (or of another descriptor), each as soon as its end has come.

    It reads the descriptor itself: a thread that waits in ``sys.stdin`` holds a lock that the end of the program needs.

    Args:
        descriptor: what to read instead of standard input; it is not closed.

    Attributes:
        blocking: always true.
        notices: what was lost, as it had been taken from standard input when the run was stopped.

    Raises:
        SourceError: there is no standard input, as in a notebook.
    """

    name = "stdin"
    kind = "standard input"
    blocking = True

    def __init__(self, descriptor: int | None = None, *, max_line_bytes: int = 1_048_576) -> None:
        self._descriptor = _stdin() if descriptor is None else descriptor
        self._closed = self._cut = False
        self.notices: deque[Notice] = deque()
        self._reader = LineReader(self._blocks(), self.name, max_line_bytes)

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines; an empty chunk at the end.

        Raises:
            SourceError: the descriptor cannot be read.
        """
        chunk = self._reader.read(limit)
        return Chunk([], source=self.name) if self._cut else chunk

    def progress(self) -> None:
        """Return ``None``: how much will come is not known."""
        return None

    def close(self) -> None:
        """Stop reading; a `read` that waits returns within a fraction of a second. The descriptor stays open."""
        if self._closed:
            return
        self._closed = True
        lines, half = self._reader.unread()
        if lines or half:
            end = f"{half:,} byte{'' if half == 1 else 's'} of a line that had not ended"
            what = " and ".join([f"{lines:,} line{'' if lines == 1 else 's'}"] * bool(lines) + [end] * bool(half))
            message = f"standard input gave {what} that the run had not come to when it ended: what was piped in is lost"
            self.notices.append(Notice("dropped", self.name, message, lost_lines=lines, lost_bytes=half))

    def _blocks(self) -> Iterator[bytes]:
        try:
            while not self._closed:
                if not self._has_input():
                    continue
                block = os.read(self._descriptor, BLOCK)
                if not block:
                    return
                yield block
            self._cut = True  # what is left is no line: its end may yet come
        except OSError as error:
            raise SourceError(f"standard input cannot be read: {error.strerror}") from error

    def _has_input(self) -> bool:
        if sys.platform == "win32":
            return True  # select takes only sockets there: the read itself waits
        return bool(select.select([self._descriptor], [], [], LOOK_UP)[0])


def _stdin() -> int:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError) as error:  # None; replaced by something without one; closed
        raise SourceError("there is no standard input to read here: pass a path or a list of lines instead") from error
