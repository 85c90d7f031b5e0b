"""The text of a file, plain or packed, from an offset on; whether it is what was read before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO

from streamlab.errors import SourceError
from streamlab.identity import HEAD, TAIL, Mark
from streamlab.sources.compressed import extension, unpacked


class Text(Iterator[bytes]):
    """Yields what an open file holds, unpacked if its name says that it is packed, in blocks.

    A pipe gives what has come, without waiting for a full block; there is no `go_to` in it.

    Args:
        file: what to read; it stays open.
        path: what it is called.
        block: bytes of a block of a plain file, at most.

    Attributes:
        head: what it begins with, as far as it was looked at.
        before: the bytes before the offset that it went to.
    """

    def __init__(self, file: FileIO, path: str, block: int) -> None:
        self._file = file
        self._path = path
        self._size = block
        self._packed = bool(extension(path))
        self._rest = b""
        self.head = self.before = b""
        self._blocks = self._begun()

    def __next__(self) -> bytes:
        """Return the next block."""
        if self._rest:
            block, self._rest = self._rest, b""
            return block
        block = next(self._blocks)
        if self._packed and len(self.head) < HEAD:
            self.head += block[: HEAD - len(self.head)]
        return block

    def go_to(self, offset: int) -> bool:
        """Go on at an offset, or at the end of a packed text that has not so much; tell whether it has.

        Raises:
            SourceError: it cannot be read, or it is packed and damaged before the offset.
        """
        self._rest = self.head = self.before = b""
        self._blocks = self._begun()
        if not self._packed:
            try:
                return self._seek(offset)
            except OSError as error:
                raise SourceError(f"{self._path} cannot be read: {error.strerror}") from error
        self._file.seek(0)
        at = 0
        while at < offset and (block := next(self, b"")):
            self.before = (self.before + block[: offset - at][-TAIL:])[-TAIL:]
            self._rest, at = block[offset - at :], at + len(block)
        return at >= offset

    def holds(self, head: Mark, tail: Mark) -> bool:
        """Go to where a mark ends; tell whether the text begins with one mark, and has the other there.

        Raises:
            SourceError: as `go_to`.
        """
        if not self.go_to(tail.offset):
            return False
        ahead = b""
        while len(self.head) < head.length and (block := next(self, b"")):
            ahead += block  # at most HEAD bytes, and one block: lines may have been read ahead of what has passed
        self._rest = ahead + self._rest
        before = self.before[-tail.length :] if tail.length else b""
        return Mark.of(self.head[: head.length], head.length) == head and Mark.of(before, tail.offset) == tail

    def peek(self) -> bytes:
        """Return the next block, and give it again; nothing at the end."""
        self._rest = next(self, b"")
        return self._rest

    def _seek(self, offset: int) -> bool:
        descriptor = self._file.fileno()
        self.head = os.pread(descriptor, HEAD, 0)
        self.before = os.pread(descriptor, min(offset, TAIL), max(offset - TAIL, 0))
        self._file.seek(offset)
        return os.fstat(descriptor).st_size >= offset

    def _begun(self) -> Iterator[bytes]:
        return unpacked(self._file, self._path) if self._packed else self._plain()

    def _plain(self) -> Iterator[bytes]:
        try:
            while block := self._file.read(self._size):
                yield block
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read any further: {error.strerror}") from error
