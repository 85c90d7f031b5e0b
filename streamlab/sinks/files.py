"""Outputs as lines in a file, plain or compressed."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Callable, Sequence
from io import BufferedWriter
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import SinkError
from streamlab.sinks.text import encoded


class FileSink:
    r"""Writes a line for each output, with its ``\n``: text as it is, a dict as compact JSON, other values by ``str``.

    A plain file has all of a batch when `write` returns, and nothing of one that failed. A compressed one (``.gz``,
    ``.bz2``, ``.xz``, ``.zst``, by its name) is complete when it is closed.

    Args:
        path: where to write.
        overwrite: replace a file that is there and not empty; otherwise that is refused.

    Raises:
        SinkError: the file is there already, its folder is not, or it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.name = os.path.expanduser(os.fspath(path))
        self._file = _open(self.name, overwrite)
        self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        pack = PACKERS.get(os.path.splitext(self.name)[1].lower())
        self._packed = pack(self._file) if pack else None

    columns = True
    any_thread = True

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        """Write one batch; return what could not be made text.

        Raises:
            SinkError: the disk is full, the file has been closed, or the like.
        """
        data, refused = encoded(values)
        try:
            if self._packed is not None:
                self._packed.write(data)
            else:
                self._write_all(data)
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.name} cannot be written: {_reason(error)}") from error
        return refused

    def close(self) -> None:
        """Finish the file.

        Raises:
            SinkError: what was left could not be written.
        """
        if self._file.closed:
            return
        try:
            try:
                if self._packed is not None:
                    self._packed.close()
            finally:
                self._file.close()
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.name} could not be finished: {_reason(error)}") from error

    def _write_all(self, data: bytes | memoryview) -> None:
        file: Any = self._file.raw
        start = file.tell() if self._regular else 0
        try:
            write_all(file, data)
        except OSError:
            if self._regular:
                with contextlib.suppress(OSError):  # a torn line is no reason to hide the error
                    file.seek(start)
                    file.truncate()
            raise


def write_all(file: Any, data: bytes | memoryview) -> None:
    """Write to a file without a buffer, which may take a part at a time, or for now nothing when it does not block."""
    left = memoryview(data)
    while left:
        written = file.write(left)
        if written is None:
            select.select([], [file], [])
        left = left[written or 0 :]


def _gzip(file: BufferedWriter) -> IO[bytes]:
    import gzip

    return gzip.GzipFile(fileobj=file, mode="wb")  # type: ignore[return-value]


def _bzip2(file: BufferedWriter) -> IO[bytes]:
    import bz2

    return bz2.BZ2File(file, "wb")


def _xz(file: BufferedWriter) -> IO[bytes]:
    import lzma

    return lzma.LZMAFile(file, "wb")


def _zstandard(file: BufferedWriter) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise SinkError("writing .zst files needs pyarrow: pip install pyarrow") from error
    return pyarrow.CompressedOutputStream(pyarrow.PythonFile(file, mode="w"), "zstd")


#: How to pack, by the end of the file name.
PACKERS: dict[str, Callable[[BufferedWriter], IO[bytes]]] = {
    ".gz": _gzip,
    ".bz2": _bzip2,
    ".xz": _xz,
    ".zst": _zstandard,
}


def _open(path: str, overwrite: bool) -> BufferedWriter:
    folder = os.path.dirname(path) or os.curdir
    if not os.path.isdir(folder):
        raise SinkError(f"there is no folder {folder} to write {os.path.basename(path)} in: make it first")
    try:
        if not overwrite and os.path.isfile(path) and os.path.getsize(path):
            raise SinkError(f"{path} is there already and not empty: give another path, or overwrite=True to replace it")
        return open(path, "wb" if overwrite else "ab")
    except (OSError, ValueError) as error:
        raise SinkError(f"{path} cannot be written: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
