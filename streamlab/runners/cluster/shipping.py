"""Lines of sources that workers cannot read themselves: the driver reads them, and they go with the tasks."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamlab.batch import Chunk
from streamlab.runners.reader import CHUNK, Reader
from streamlab.sources import Resumable, Source

#: Lines that are few, to be taken by themselves.
FEW = 1_000
#: Seconds that it is looked what has come.
LOOK_SECONDS = 0.1
#: Seconds that lines wait for others, to be worked on together.
PATIENCE = 1.0


@dataclass(slots=True)
class Shipped:
    """Lines that the driver has read.

    Attributes:
        kept: the chunks, with their places, which stay with the driver.
        sent: the same without.
    """

    kept: list[Chunk] = field(default_factory=list)
    sent: list[Chunk] = field(default_factory=list)

    def __reduce__(self) -> tuple[Any, ...]:
        return Shipped, ([], self.sent)

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        self.kept.append(chunk)
        self.sent.append(replace(chunk, lines=list(chunk.lines), places=None))

    def chunks(self, *, max_line_bytes: int, columns: bool) -> Generator[Chunk, None, None]:
        """Yield the lines."""
        yield from self.sent

    def place(self, line: int) -> Any:
        """Return where a line is in its source; ``None`` when that is not known."""
        for chunk in self.kept:
            if line < len(chunk.lines):
                return None if chunk.places is None else chunk.places.start(line)
            line -= len(chunk.lines)
        return None

    def lines(self) -> list[str]:
        """Return the lines."""
        return [line for chunk in self.kept for line in chunk.lines]


class Shipping:
    """Makes parts of what a source gives, see `streamlab.sources.Splitting`.

    Args:
        source: the source.

    Attributes:
        reader: reads it in a thread, if it may wait.
        exhausted: whether it has given its last line.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.reader = Reader(source) if source.blocking else None
        self.exhausted = False
        self._waiting: list[Chunk] = []
        self._since: float | None = None  # when the first of them came

    def split(self, lines: int, parts: int) -> Sequence[Shipped]:
        """Return what has come, once it is enough, or has waited for long enough."""
        held = sum(len(chunk.lines) for chunk in self._waiting)
        until = time.monotonic() + LOOK_SECONDS
        while held < lines and not self.exhausted and (chunk := self._take(lines - held)) is not None:
            self._since = self._since or time.monotonic()
            self._waiting.append(chunk)
            held += len(chunk.lines)
            if time.monotonic() > until:
                break
            if len(chunk.lines) < FEW:  # so that more of them come together
                time.sleep(LOOK_SECONDS / 20)
        if not held or (held < lines and not self.exhausted and time.monotonic() - (self._since or 0) < PATIENCE):
            return []
        return self.left(max(held // parts, 1))

    def left(self, lines: int = CHUNK) -> list[Shipped]:
        """Return all that waits, in parts of about so many lines."""
        made = [Shipped()]
        room = lines
        for chunk in self._waiting:
            while len(chunk.lines) > room:
                first, chunk = chunk.split(room)
                made[-1].add(first)
                made.append(Shipped())
                room = lines
            made[-1].add(chunk)
            room -= len(chunk.lines)
        self._waiting, self._since = [], None
        return [part for part in made if part.kept]

    def drained(self) -> bool:
        """Tell whether no lines are left that were taken from a source that cannot give them once more."""
        return self.reader is None or (not self._waiting and self.reader.drained())

    def rest(self) -> Iterator[Shipped]:
        """Give away all lines that were taken from the source, of what listens also those that come just now."""
        yield from self.left()
        if self.reader is not None:
            for chunk in self.reader.rest():
                yield Shipped([chunk], [])

    def _take(self, limit: int) -> Chunk | None:
        chunk: Chunk | None
        if self.reader is None:
            chunk = self._source.read(min(limit, CHUNK))
        else:
            self.reader.capacity = max(limit, CHUNK)
            chunk = self.reader.take(limit, LOOK_SECONDS / 20)
        if chunk is not None and not chunk.lines:
            self.exhausted = True
            return None
        return chunk

    def finished(self, part: Shipped, end: Any) -> None:
        """Take note that lines are through."""
        if isinstance(self._source, Resumable):
            for chunk in part.kept:
                if chunk.places is not None:
                    self._source.passed(chunk.places, len(chunk.lines))
