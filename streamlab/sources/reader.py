"""From blocks of bytes to chunks of at most so many lines: what files, pipes and sockets have in common."""

from __future__ import annotations

from collections.abc import Iterator

from streamlab.batch import Chunk
from streamlab.sources.lines import LineSplitter


class LineReader:
    """Reads lines from blocks of bytes, a chunk at a time; asks for the next block only when it has no line left.

    So what an iterator of blocks raises comes after all lines before it; the half line it broke off in is not given.

    >>> reader = LineReader(iter([b"a\\nb\\nc", b"c\\nd"]), "demo", max_line_bytes=100)
    >>> [reader.read(2).lines for _ in range(4)]
    [['a', 'b'], ['cc'], ['d'], []]
    """

    def __init__(self, blocks: Iterator[bytes], source: str, max_line_bytes: int, *, columns: bool = False) -> None:
        self._blocks = blocks
        self._source = source
        self._splitter = LineSplitter(max_line_bytes, columns=columns)
        self._ready = Chunk([])
        self._given = 0  # how many of the ready lines have been handed over

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines, of one block; an empty chunk at the end."""
        while self._given == len(self._ready.lines):
            block = next(self._blocks, None)
            self._ready = self._splitter.finish() if block is None else self._splitter.feed(block)
            self._given = 0
            if block is None and not self._ready.lines:
                return Chunk([], source=self._source)
        start, stop = self._given, min(self._given + limit, len(self._ready.lines))
        self._given = stop
        marks = (mark for mark in self._ready.rejected if start <= mark.position < stop)
        rejected = [mark._replace(position=mark.position - start) for mark in marks]
        return Chunk(self._ready.lines[start:stop], rejected, self._source)
