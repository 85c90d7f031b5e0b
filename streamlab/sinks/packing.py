"""Compressed output: text in, bytes out, a batch at a time, so that those of one that found no room are not lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlab.errors import SinkError


class Packing:
    """Text goes in, bytes come out, and are kept by who asked for them until they are where they belong.

    Args:
        pack: of `PACKERS`.
    """

    closed = False  # pyarrow asks for it

    def __init__(self, pack: Callable[[Any], Any]) -> None:
        self._bytes = bytearray()
        self._packer = pack(self)

    def packed(self, data: bytes | memoryview) -> bytes:
        """Return the bytes that have become of all so far, and were not returned yet; perhaps none."""
        self._packer.write(data)
        return self._taken()

    def end(self) -> bytes:
        """Return the last bytes."""
        self._packer.close()
        return self._taken()

    def _taken(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken

    # For the packer, which takes it for a file

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._bytes += data
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _gzip(file: Any) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=file, mode="wb")


def _bzip2(file: Any) -> Any:
    import bz2

    return bz2.BZ2File(file, "wb")


def _xz(file: Any) -> Any:
    import lzma

    return lzma.LZMAFile(file, "wb")


def _zstandard(file: Any) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise SinkError("writing .zst files needs pyarrow: pip install pyarrow") from error
    return pyarrow.CompressedOutputStream(pyarrow.PythonFile(file, mode="w"), "zstd")


#: How to pack, by the end of the file name.
PACKERS: dict[str, Callable[[Any], Any]] = {
    ".gz": _gzip,
    ".bz2": _bzip2,
    ".xz": _xz,
    ".zst": _zstandard,
}
