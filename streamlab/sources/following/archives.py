"""What a compressed file holds: of which generation it is the content, found in one pass, a block at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from streamlab.identity import HEAD, TAIL, Mark
from streamlab.sources.compressed import BLOCK, unpacked
from streamlab.sources.following.generations import Generation


class Inspection:
    """Unpacks a file to its end mark, and compares it with generations: with their files, or by marks.

    Args:
        descriptor: the open file; it stays open, and another one is made of it.
        path: what it is called: that says how it is packed.
        suspects: returns of which it may be the content, by what that begins with.

    Attributes:
        length: bytes of text so far; all of them when it is done.
    """

    def __init__(self, descriptor: int, path: str, suspects: Callable[[bytes], Sequence[Generation]]) -> None:
        self._file = open(os.dup(descriptor), "rb", buffering=0)  # noqa: SIM115  (closed by close)
        self._file.seek(0)
        self._blocks = unpacked(self._file, path)
        self._suspects: Callable[[bytes], Sequence[Generation]] | None = suspects  # until they are known
        self._begin = b""  # what came before that
        self._open: dict[Generation, int] = {}
        self._marked: dict[Generation, list[Mark]] = {}
        self._tail = b""
        self._last: dict[Generation, int] = {}  # the offset of the last mark that was found
        self.length = 0

    def step(self) -> bool:
        """Look at the next block; tell whether that was all.

        Raises:
            SourceError: the file is damaged, or not complete.
        """
        block = next(self._blocks, None)
        if self._suspects is not None:
            self._begin += block or b""
            if block is None or len(self._begin) >= HEAD:
                self._choose(self._suspects(self._begin))
                self._compare(self._begin)
        elif block is not None:
            self._compare(block)
        return block is None

    def _choose(self, suspects: Sequence[Generation]) -> None:
        self._suspects = None
        self._open = {each: os.dup(each.descriptor) for each in suspects if each.descriptor is not None}
        self._marked = {each: each.marks() for each in suspects if each.descriptor is None}

    def _compare(self, block: bytes) -> None:
        """Look which of the suspects have the next block."""
        for suspect, descriptor in list(self._open.items()):
            if os.pread(descriptor, len(block), self.length) != block:
                os.close(self._open.pop(suspect))
        text = self._tail + block
        begin = self.length - len(self._tail)
        self.length += len(block)
        for suspect, marks in list(self._marked.items()):
            while marks and marks[0].offset <= self.length:
                mark = marks.pop(0)
                if Mark.of(text[mark.offset - mark.length - begin : mark.offset - begin], mark.offset) != mark:
                    del self._marked[suspect]
                    break
                self._last[suspect] = mark.offset
        self._tail = text[-TAIL:]

    def close(self) -> None:
        """Let go of the files."""
        self._file.close()
        while self._open:
            os.close(self._open.popitem()[1])

    def found(self) -> Generation | None:
        """Return the one whose content it is, to the end or beyond what was read, when all blocks have been looked at."""
        # A beginning of something longer is known by many bytes, not by a few.
        same = [each for each, file in self._open.items() if self.length > HEAD or self.length == os.fstat(file).st_size]
        fitting = same or [each for each in self._marked if each in self._last and self._is(each)]
        return max(fitting, key=lambda each: each.at, default=None)

    def _is(self, suspect: Generation) -> bool:
        last = self._last[suspect]
        if suspect.key is None:  # it was cut off, perhaps after more was read than the copy has
            return self.length >= suspect.at or self.length - last <= BLOCK
        if self.length < suspect.at:
            return last == self.length
        return self.length == suspect.at or not suspect.over
