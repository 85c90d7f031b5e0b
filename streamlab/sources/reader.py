"""From blocks of bytes to chunks of at most so many lines: what files, pipes and sockets have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Chunk, Places
from streamlab.identity import TAIL, Passing, Stretch
from streamlab.sources.lines import LineSplitter


class LineReader:
    """Reads lines from blocks of bytes, a chunk at a time; asks for the next block only when it has no line left.

    So what an iterator of blocks raises comes after all lines before it; the half line it broke off in is not given.

    Args:
        blocks: the bytes.
        source: what to call them in messages.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        columns: whether to give lines as columns.
        of: what is told how far lines have passed; ``None`` when they cannot be read again.
        at: the place of the first byte.
        before: the last bytes before it.

    >>> reader = LineReader(iter([b"a\\nb\\nc", b"c\\nd"]), "demo", max_line_bytes=100)
    >>> [reader.read(2).lines for _ in range(4)]
    [['a', 'b'], ['cc'], ['d'], []]
    """

    def __init__(
        self,
        blocks: Iterator[bytes],
        source: str,
        max_line_bytes: int,
        *,
        columns: bool = False,
        of: Passing | None = None,
        at: int = 0,
        before: bytes = b"",
    ) -> None:
        self._blocks = blocks
        self._source = source
        self._splitter = LineSplitter(max_line_bytes, columns=columns)
        self._of = of
        self._before = before  # the last bytes before the next block
        self._at = at  # the place of the next block
        self._begun = at  # the place of the line that has not ended
        self._ready = Chunk([])
        self._given = 0  # how many of the ready lines have been handed over

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines, of one block; an empty chunk at the end."""
        while self._given == len(self._ready.lines):
            block = next(self._blocks, None)
            self._ready = self._finished() if block is None else self._fed(block)
            self._given = 0
            if block is None and not self._ready.lines:
                return Chunk([], source=self._source)
        start, stop = self._given, min(self._given + limit, len(self._ready.lines))
        self._given = stop
        marks = (mark for mark in self._ready.rejected if start <= mark.position < stop)
        rejected = [mark._replace(position=mark.position - start) for mark in marks]
        places = self._ready.places and self._ready.places.beyond(start)
        return Chunk(self._ready.lines[start:stop], rejected, self._source, places)

    def unread(self) -> tuple[int, int]:
        """Return how many lines are left of the last block, and how many bytes there are of one that has not ended."""
        return len(self._ready.lines) - self._given, self._splitter.held

    def _fed(self, block: bytes) -> Chunk:
        chunk = self._splitter.feed(block)
        if self._of is not None:
            if chunk.lines:
                stretch = Stretch(self._of, self._at, self._before, block)
                chunk.places = Places(stretch, Starts(self._begun, self._at, block))
                self._begun = self._at + block.rfind(b"\n") + 1
            self._before = (self._before + block[-TAIL:])[-TAIL:]
        self._at += len(block)
        return chunk

    def _finished(self) -> Chunk:
        chunk = self._splitter.finish()
        if self._of is not None and chunk.lines:
            chunk.places = Places(Stretch(self._of, self._at, self._before, b""), (self._begun, self._at))
            self._begun = self._at
        return chunk


class Starts(Sequence[int]):
    """Where the lines of a block begin, and where the one after it does; looked for when somebody asks.

    Args:
        first: where the first line begins, perhaps before the block.
        at: the place of the block.
        block: the bytes.

    >>> list(Starts(7, 10, b"ree\\nfour\\nfi"))
    [7, 14, 19]
    """

    def __init__(self, first: int, at: int, block: bytes) -> None:
        self._first = first
        self._at = at
        self._block = block
        self._ends: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._found()) + 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return np.concatenate(([self._first], self._found() + (self._at + 1)))[index]
        return self._at + int(self._found()[index - 1]) + 1 if index else self._first

    def _found(self) -> NDArray[np.int64]:
        if self._ends is None:
            self._ends = np.flatnonzero(np.frombuffer(self._block, np.uint8) == ord("\n"))
            self._block = b""
        return self._ends
