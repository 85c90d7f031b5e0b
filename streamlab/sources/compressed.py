"""Compressed files, one member after another, as blocks of bytes: gzip, bzip2, xz and Zstandard."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from io import FileIO
from typing import Protocol

from streamlab.errors import SourceError

#: Bytes of text in a block, at most: what a chunk of lines may cost.
BLOCK = 256 * 1024
#: Compressed bytes that a decoder is given at a time.
FEED = 64 * 1024


class Packed:
    """A compressed file as decoders read it.

    A decoder that fails keeps back what it made, in the same call, before the damage. So where damage is known to come,
    it gets a byte at a time, and is asked for a byte at a time.

    Args:
        file: what to read; it stays open.
        careful_from: compressed bytes after which it is given single bytes.
        careful_after: bytes of text after which it is asked for single bytes.
    """

    closed = False  # pyarrow asks for it, and closes what it has read from

    def __init__(self, file: FileIO, careful_from: float = math.inf, careful_after: float = math.inf) -> None:
        self._file = file
        self._careful_from = careful_from
        self._careful_after = careful_after
        self._read = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most ``size``; none at the end."""
        data = self._file.read(int(min(size, max(self._careful_from - self._read, 1))))
        self._read += len(data)
        return data

    def room(self, given: int) -> int:
        """Return how many bytes of text to ask for when so many have been given."""
        return BLOCK if given < self._careful_after else 1

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""


class Decoder(Protocol):
    """Unpacks one member of an archive; ``bz2`` and ``lzma`` have such objects."""

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given to it beyond the end of the member."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most ``max_length`` bytes, keeping input that there is no room for."""
        ...


class _GzipDecoder:
    """One gzip member; zlib hands back the input it had no room for, where ``bz2`` and ``lzma`` keep it."""

    def __init__(self) -> None:
        import zlib

        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # with the header and checksum of gzip

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


def _members(packed: Packed, new_decoder: Callable[[], Decoder]) -> Iterator[bytes]:
    decoder = new_decoder()
    data, fed = b"", False
    while data or (data := packed.read(FEED)):
        if decoder.eof:
            data = data.lstrip(b"\0")  # padding after a member is allowed
            if not data:
                continue
            decoder = new_decoder()
        piece = decoder.decompress(data, BLOCK)
        while piece:
            yield piece
            piece = b"" if decoder.eof else decoder.decompress(b"", BLOCK)
        data, fed = decoder.unused_data, True
    if fed and not decoder.eof:
        raise EOFError("it ends before its end mark")


def _gzip(packed: Packed) -> Iterator[bytes]:
    return _members(packed, _GzipDecoder)


def _bzip2(packed: Packed) -> Iterator[bytes]:
    import bz2

    return _members(packed, bz2.BZ2Decompressor)


def _xz(packed: Packed) -> Iterator[bytes]:
    import lzma

    return _members(packed, lzma.LZMADecompressor)


def _zstandard(packed: Packed) -> Iterator[bytes]:
    try:
        import pyarrow
    except ImportError as error:
        raise SourceError("reading .zst files needs pyarrow: pip install pyarrow") from error
    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(packed, mode="r"), "zstd")
    given = 0
    while piece := stream.read(packed.room(given)):
        yield piece
        given += len(piece)


Unpacker = Callable[[Packed], Iterator[bytes]]
#: How to unpack, by the end of the file name.
UNPACKERS: dict[str, Unpacker] = {".gz": _gzip, ".bz2": _bzip2, ".xz": _xz, ".zst": _zstandard}


def unpacked(file: FileIO, path: str) -> Iterator[bytes]:
    """Return the contents of a compressed file in blocks of at most ``BLOCK`` bytes; its name says how it is packed.

    Raises:
        SourceError: the file is damaged or cut off; everything that can be read before that has been given.
    """
    unpack = UNPACKERS[extension(path)]
    given = 0
    try:
        for block in unpack(Packed(file)):
            yield block
            given += len(block)
    except _damage() as error:
        for block in _rest(unpack, file, given):
            yield block
            given += len(block)
        raise SourceError(
            f"{path} is damaged or cut off: {error}. The lines in the {given:,} bytes before that were read; get the "
            "file anew, or unpack what can be saved into a plain file"
        ) from error


def _damage() -> tuple[type[Exception], ...]:
    import lzma
    import zlib

    return zlib.error, lzma.LZMAError, EOFError, OSError


def _rest(unpack: Unpacker, file: FileIO, given: int) -> Iterator[bytes]:
    """Read a damaged file again, with care near the damage, and return what comes after the ``given`` bytes of text."""
    if not file.seekable():
        return
    careful_from = max(0, file.tell() - 2 * FEED)
    file.seek(0)
    skip = given
    with contextlib.suppress(*_damage()):
        for block in unpack(Packed(file, careful_from, careful_after=given)):
            if fresh := block[skip:]:
                yield fresh
            skip = max(0, skip - len(block))


def extension(path: str) -> str:
    """Return the end of a file name that says how it is packed: one of the ``UNPACKERS``, or ``""``."""
    end = os.path.splitext(path)[1].lower()
    return end if end in UNPACKERS else ""
