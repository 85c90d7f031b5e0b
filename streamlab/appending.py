"""A file that only grows, whole: what is appended is there as a whole or not at all, can be made to last, and taken back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
from typing import Any


class Appending:
    """A file open for appending. Not for two threads at a time, but for `sync`.

    Args:
        path: where it is; made if it is not there.

    Attributes:
        length: bytes of what was appended as a whole, and of what was there; 0 of a pipe or device.

    Raises:
        OSError: it cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Appending(os.path.join(folder, "out"))
    ...     _ = file.write(b"one")
    ...     _ = file.write(b"two")
    ...     file.cut(3)
    ...     print(file.length)
    ...     file.close()
    3
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._named = False  # whether its name is known to last
        self._file: Any = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close
        status = os.fstat(self._file.fileno())
        self._regular = stat.S_ISREG(status.st_mode)
        self._torn = False
        self.length = status.st_size if self._regular else 0

    @property
    def regular(self) -> bool:
        """Whether it is a file, and no pipe or device."""
        return self._regular

    def alone(self) -> bool:
        """Keep other runs from writing to it while it is open; tell whether none does."""
        if self._regular:
            try:
                fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a file system without locks
                pass
        return True

    def inode(self) -> int:
        """Return its number in its file system."""
        return os.fstat(self._file.fileno()).st_ino

    def intact(self) -> bool:
        """Tell whether it is as long as what was appended makes it: nobody else has written to it, or cut it."""
        return not self._regular or os.fstat(self._file.fileno()).st_size == self.length

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return bool(self._file.closed)

    def write(self, data: bytes | memoryview) -> int:
        """Append all of ``data``, or nothing, and return how many bytes that are.

        Raises:
            OSError: there is no room, or the like; a pipe may have taken a part.
        """
        if self._torn:
            self.cut(self.length)
        try:
            write_all(self._file, data)
        except BaseException:
            self._torn = self._regular
            with contextlib.suppress(OSError):  # then before the next attempt; a torn line is no reason to hide the error
                if self._torn:
                    self.cut(self.length)
            raise
        self.length += len(data) if self._regular else 0
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""

    def cut(self, length: int) -> None:
        """Take back all beyond ``length`` bytes.

        Raises:
            OSError: it cannot be cut.
        """
        os.ftruncate(self._file.fileno(), length)
        self.length, self._torn = length, False

    def sync(self) -> None:
        """See to it that what was appended survives a crash; may be called from another thread.

        Raises:
            OSError: it cannot be known that it does.
        """
        if self._regular:
            os.fsync(self._file.fileno())
        if not self._named:
            sync_folder(self.path)
            self._named = True

    def close(self) -> None:
        """Close it; more than once is fine."""
        self._file.close()


def write_all(file: Any, data: bytes | memoryview) -> None:
    """Write to a file without a buffer, which may take a part at a time, or for now nothing when it does not block."""
    left = memoryview(data)
    while left:
        written = file.write(left)
        if written is None:
            select.select([], [file], [])
        left = left[written or 0 :]


def sync_folder(path: str) -> None:
    """See to it that the name of a file survives a crash, as its contents do by `Appending.sync`.

    Raises:
        OSError: it cannot be known that it does.
    """
    folder = os.open(os.path.dirname(path) or os.curdir, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):  # a file system that does not know it
            raise
    finally:
        os.close(folder)
