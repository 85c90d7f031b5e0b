"""What a compressed file holds: of which generation it is the content, found in one pass, a block at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from streamlab.sources.compressed import BLOCK, unpacked
from streamlab.sources.generations import TAIL, Generation, Mark


class Inspection:
    """Unpacks a file to its end mark, and compares it with generations.

    Args:
        descriptor: the open file; it stays open, and another one is made of it.
        path: what it is called: that says how it is packed.
        suspects: of which it may be the content.

    Attributes:
        length: bytes of text so far; all of them when it is done.
    """

    def __init__(self, descriptor: int, path: str, suspects: Sequence[Generation]) -> None:
        self._file = open(os.dup(descriptor), "rb", buffering=0)  # noqa: SIM115  (closed by close)
        self._file.seek(0)
        self._blocks = unpacked(self._file, path)
        self._left = {suspect: suspect.marks() for suspect in suspects}
        self._tail = b""
        self._last: dict[Generation, int] = {}  # the offset of the last mark that was found
        self.length = 0

    def step(self) -> bool:
        """Look at the next block; tell whether that was all.

        Raises:
            SourceError: the file is damaged, or not complete.
        """
        block = next(self._blocks, None)
        if block is None:
            return True
        text = self._tail + block
        begin = self.length - len(self._tail)
        self.length += len(block)
        for suspect, marks in list(self._left.items()):
            while marks and marks[0].offset <= self.length:
                mark = marks.pop(0)
                if Mark.of(text[mark.offset - mark.length - begin : mark.offset - begin], mark.offset) != mark:
                    del self._left[suspect]
                    break
                self._last[suspect] = mark.offset
        self._tail = text[-TAIL:]
        return False

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def found(self) -> Generation | None:
        """Return the one whose content it is, to the end or beyond what was read, when all blocks have been looked at."""
        fitting = [suspect for suspect in self._left if suspect in self._last and self._is(suspect)]
        return max(fitting, key=lambda suspect: suspect.at, default=None)

    def _is(self, suspect: Generation) -> bool:
        last = self._last[suspect]
        if suspect.key is None:  # it was cut off, perhaps after more was read than the copy has
            return self.length >= suspect.at or self.length - last <= BLOCK
        if self.length < suspect.at:
            return last == self.length
        return self.length == suspect.at or not suspect.over
