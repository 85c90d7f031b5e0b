"""Outputs as lines in a file, plain or compressed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.appending import Appending
from streamlab.errors import Outage, SinkError
from streamlab.identity import digest
from streamlab.notices import Notice
from streamlab.sinks.packing import PACKERS, Packing
from streamlab.sinks.text import encoded

#: Bytes at the end by which a file is known again.
TAIL = 1024
_RESTORE = "put back the file as it was, or begin anew with another checkpoint and another output"


class FileSink:
    r"""Writes a line for each output, with its ``\n``: text as it is, a dict as compact JSON, other values by ``str``.

    A file has all of a batch when `write` returns, and nothing of one that failed. A compressed one (``.gz``, ``.bz2``,
    ``.xz``, ``.zst``, by its name) is complete when it is closed, and at each `mark`.

    Args:
        path: where to write.
        overwrite: replace a file that is there and not empty; otherwise that is refused.

    Attributes:
        notices: what a run that goes on has taken back.

    Raises:
        SinkError: its folder is not there, or it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.name = os.path.expanduser(os.fspath(path))
        self._overwrite = overwrite
        self._begun = False
        self._pack = PACKERS.get(os.path.splitext(self.name)[1].lower())
        self._packing: Packing | None = None
        self._waiting: bytes | memoryview | None = None  # a batch that the file has not taken yet
        self._refused: list[tuple[int, BaseException]] = []  # of that batch
        self._ending = b""  # of a compressed stream that is complete, and that the file has not taken yet
        self._file = _open(self.name)
        self.notices: deque[Notice] = deque()

    columns = True
    any_thread = True

    def begin(self) -> None:
        """Begin anew, before anything is written.

        Raises:
            SinkError: the file is there already and not empty.
        """
        if self._file.length and not self._overwrite:
            self._file.close()
            raise SinkError(
                f"{self.name} is there already and not empty: give another path, or overwrite=True to replace it"
            )
        self._own()
        if self._file.length:
            self._cut(0)

    def _own(self) -> None:
        """Keep other runs from writing to the file."""
        if self._file.closed:
            raise SinkError(f"{self.name} cannot be written: I/O operation on closed file")
        if not self._file.alone():
            self._file.close()
            raise SinkError(f"{self.name} is being written by another run: give each its own")
        self._begun = True

    def check_end(self, mark: Any) -> None:
        """See that a run which came to its end is the last that has written to the file.

        Raises:
            SinkError: there is something else, or more, in it than what that one wrote.
        """
        self._check(mark)
        if (more := self._file.length - mark["length"]) > 0:
            raise SinkError(
                f"{self.name} has {more:,} bytes after what was written to it, from somebody else: move them to another"
                " file, as a run that goes on cuts off what is not its own"
            )

    def resume(self, mark: Any) -> None:
        """Go on at a mark; what was written after it is cut off, and that is said.

        Raises:
            SinkError: the file is not the one that it was then, or another run writes to it.
        """
        self._check(mark)
        self._own()
        if (more := self._file.length - mark["length"]) > 0:
            message = f"{self.name}: {more:,} bytes that came after the last checkpoint were taken back, to be made anew"
            self.notices.append(Notice("taken back", self.name, message))
        self._cut(mark["length"])

    def _check(self, mark: Any) -> None:
        """See that the file begins with what had been written to it at a mark."""
        length = mark["length"]
        if self._file.length < length:
            raise SinkError(f"{self.name} is shorter than the {length:,} bytes that were written to it; {_RESTORE}")
        other = not length and self._file.length and self._file.inode() != mark["inode"]
        if mark["tail"] != self._tail(length) or other:
            raise SinkError(f"{self.name} does not have what was written to it; {_RESTORE}")

    def mark(self) -> Any:
        """Return how much has been written, and by what to know the file again.

        Raises:
            Outage: a compressed stream cannot be ended for now.
            SinkError: somebody else has written to it, or it is not there any more.
        """
        self.finish()
        if not self._file.intact():
            raise SinkError(f"{self.name} has been written to, or cut, by somebody else while a run was writing it")
        length = self._file.length
        return {"length": length, "tail": self._tail(length), "inode": self._file.inode()}

    def sync(self) -> None:
        """See to it that what was written survives a crash.

        Raises:
            SinkError: it cannot be known that it does.
        """
        try:
            self._file.sync()
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.name} cannot be made to last on its disk: {_reason(error)}") from error

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        """Write one batch; return what could not be made text.

        Raises:
            Outage: the disk is full, or the like; the file has nothing of the batch, which is to be written again.
            SinkError: it has been closed.
        """
        if not self._begun:
            self.begin()
        self._put_end()
        if self._waiting is None:
            data, self._refused = encoded(values)
            self._waiting = self._packed(data)
        self._put(self._waiting)
        self._waiting = None
        return self._refused

    def _packed(self, data: bytes | memoryview) -> bytes | memoryview:
        if self._pack is None:
            return data
        if self._packing is None:
            self._packing = Packing(self._pack)
        return self._packing.packed(data)

    def _put(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise Outage(f"{self.name} cannot be written: {_reason(error)}") from error
        except ValueError as error:
            raise SinkError(f"{self.name} cannot be written: {_reason(error)}") from error

    def close(self) -> None:
        """Finish the file.

        Raises:
            SinkError: what was left could not be written.
        """
        if self._file.closed:
            return
        try:
            self.finish()
        finally:
            self._file.close()

    def _cut(self, length: int) -> None:
        try:
            self._file.cut(length)
        except OSError as error:
            raise SinkError(f"{self.name} cannot be cut back to {length:,} bytes: {_reason(error)}") from error

    def finish(self) -> None:
        """End a compressed stream; what comes later begins another one in the same file, as archives may.

        Raises:
            Outage: the disk is full, or the like.
        """
        packing, self._packing = self._packing, None
        if packing is not None:
            self._ending += packing.end()
        self._put_end()

    def _put_end(self) -> None:
        if self._ending:
            self._put(self._ending)
            self._ending = b""

    def _tail(self, length: int) -> str:
        """Return a digest of the last bytes before a length."""
        if not self._file.regular:
            return ""
        start = max(length - TAIL, 0)
        try:
            with open(self.name, "rb") as file:
                if os.fstat(file.fileno()).st_ino == self._file.inode():
                    return digest(file.fileno(), start, length - start)
        except OSError as error:
            raise SinkError(f"{self.name} cannot be looked at: {_reason(error)}") from error
        raise SinkError(f"{self.name} is another file than the one that the run began to write: it has been replaced")


def _open(path: str) -> Appending:
    folder = os.path.dirname(path) or os.curdir
    if not os.path.isdir(folder):
        raise SinkError(f"there is no folder {folder} to write {os.path.basename(path)} in: make it first")
    try:
        return Appending(path)
    except (OSError, ValueError) as error:
        raise SinkError(f"{path} cannot be written: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
