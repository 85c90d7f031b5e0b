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
from streamlab.identity import Mark
from streamlab.notices import Notice
from streamlab.sinks.packing import PACKERS, Packing
from streamlab.sinks.text import encoded

_RESTORE = "put back the file as it was, or begin anew with another checkpoint and another output"


class FileSink:
    r"""Writes a line for each output, with its ``\n``: text as it is, a dict as compact JSON, other values by ``str``.

    A file has all of a batch when `write` returns, and nothing of one that failed. A compressed one (``.gz``, ``.bz2``,
    ``.xz``, ``.zst``, by its name) is complete when it is closed, and at each `mark`.

    Args:
        path: where to write.
        overwrite: replace a file that is there and not empty; otherwise that is refused.

    The file is opened, and made, when a run begins, and is then that run's alone until it is closed.

    Attributes:
        notices: what a run that goes on has taken back.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.name = os.path.expanduser(os.fspath(path))
        self._overwrite = overwrite
        self._file: Appending | None = None
        self._closed = False
        self._pack = PACKERS.get(os.path.splitext(self.name)[1].lower())
        self._packing: Packing | None = None
        self._waiting: bytes | memoryview | None = None  # a batch that the file has not taken yet
        self._refused: list[tuple[int, BaseException]] = []  # of that batch
        self._ending = b""  # of a compressed stream that is complete, and that the file has not taken yet
        self.notices: deque[Notice] = deque()

    columns = True
    takes_encoded = True
    any_thread = True

    def files(self) -> list[str | int]:
        """Return the file's path."""
        return [self.name]

    def begin(self) -> None:
        """Begin anew, before anything is written.

        Raises:
            SinkError: it cannot be opened; it is there already and not empty; another run writes to it.
        """
        file = self._opened()
        try:
            if file.length and not self._overwrite:
                raise SinkError(
                    f"{self.name} is there already and not empty: give another path, or move it away"
                    " (in Python, FileSink(path, overwrite=True) replaces it)"
                )
            self._cut(file, 0)
        except BaseException:
            file.close()
            raise
        self._file = file

    def resume(self, mark: Any, *, ended: bool = False) -> None:
        """Go on at a mark; what was written after it is cut off, and that is said.

        Raises:
            SinkError: the file is not the one that it was then; another run writes to it; after a run that ended, there
                is more than it had written.
        """
        file = self._opened()
        try:
            self._take_back(file, mark, ended)
        except BaseException:
            file.close()
            raise
        self._file = file

    def _opened(self) -> Appending:
        if self._file is not None:
            raise SinkError(f"{self.name} is being written by another run: give each its own")
        self._closed, self._packing, self._waiting, self._ending = False, None, None, b""
        return _open(self.name)

    def _take_back(self, file: Appending, mark: Any, ended: bool) -> None:
        end = Mark(*mark["end"])
        length = end.offset
        if length and not file.length:
            raise SinkError(f"{self.name} is empty or gone, and {length:,} bytes had been written to it; {_RESTORE}")
        if file.length < length:
            raise SinkError(f"{self.name} is shorter than the {length:,} bytes that were written to it; {_RESTORE}")
        other = not length and file.length and file.inode() != mark["inode"]
        if end != self._end(file, length) or other:
            raise SinkError(f"{self.name} does not have what was written to it; {_RESTORE}")
        more = file.length - length
        if more and ended:
            raise SinkError(
                f"{self.name} has {more:,} bytes after what was written to it, from somebody else: move them to another"
                " file, as a run that goes on cuts off what is not its own"
            )
        if more:
            message = f"{self.name}: {more:,} bytes that came after the last checkpoint were taken back, to be made anew"
            self.notices.append(Notice("taken back", self.name, message))
            self._cut(file, length)

    def _cut(self, file: Appending, length: int) -> None:
        try:
            if file.length != length:
                file.cut(length)
        except OSError as error:
            raise SinkError(f"{self.name} cannot be cut back to {length:,} bytes: {_reason(error)}") from error

    def mark(self) -> Any:
        """Return how much has been written, and by what to know the file again.

        Raises:
            Outage: a compressed stream cannot be ended for now.
            SinkError: somebody else has written to it, or it is not there any more.
        """
        self.finish()
        file = self._in_use
        if not file.intact():
            raise SinkError(f"{self.name} has been written to, or cut, by somebody else while a run was writing it")
        return {"end": list(self._end(file, file.length)), "inode": file.inode()}

    def sync(self) -> None:
        """See to it that what was written survives a crash.

        Raises:
            SinkError: it cannot be known that it does.
        """
        try:
            self._in_use.sync()
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.name} cannot be made to last on its disk: {_reason(error)}") from error

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        """Write one batch; return what could not be made text.

        Raises:
            Outage: the disk is full, or the like; the file has nothing of the batch, which is to be written again.
            SinkError: it has been closed.
        """
        if self._file is None and not self._closed:
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
            self._in_use.write(data)
        except OSError as error:
            raise Outage(f"{self.name} cannot be written: {_reason(error)}") from error
        except ValueError as error:
            raise SinkError(f"{self.name} cannot be written: {_reason(error)}") from error

    def close(self) -> None:
        """Finish the file.

        Raises:
            SinkError: what was left could not be written.
        """
        if self._file is None:
            return
        try:
            self.finish()
        finally:
            self._file.close()
            self._file, self._closed = None, True

    @property
    def _in_use(self) -> Appending:
        if self._file is None:
            raise SinkError(f"{self.name} cannot be written: it has been closed")
        return self._file

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

    def _end(self, file: Appending, length: int) -> Mark:
        """Return the mark of the last bytes before a length."""
        if not file.regular:
            return Mark.of(b"", length)
        try:
            with open(self.name, "rb") as written:
                if os.fstat(written.fileno()).st_ino == file.inode():
                    return Mark.at(written.fileno(), length)
        except FileNotFoundError:
            raise SinkError(
                f"{self.name} is not there any more: it was moved or removed while the run wrote to it; put it back"
            ) from None
        except OSError as error:
            raise SinkError(f"{self.name} cannot be looked at: {_reason(error)}") from error
        raise SinkError(f"{self.name} is another file than the one that the run began to write: it has been replaced")


def _open(path: str) -> Appending:
    """Open a file, and keep others from writing to it until it is closed."""
    folder = os.path.dirname(path) or os.curdir
    if not os.path.isdir(folder):
        raise SinkError(f"there is no folder {folder} to write {os.path.basename(path)} in: make it first")
    while True:
        try:
            file = Appending(path)
        except (OSError, ValueError) as error:
            raise SinkError(f"{path} cannot be written: {_reason(error)}") from error
        if not file.alone():
            file.close()
            raise SinkError(f"{path} is being written by another run: give each its own")
        if not file.regular or _is_at(path, file):
            return file
        file.close()  # a run that was refused has removed what it had made there


def _is_at(path: str, file: Appending) -> bool:
    try:
        return os.stat(path).st_ino == file.inode()
    except FileNotFoundError:
        return False


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
