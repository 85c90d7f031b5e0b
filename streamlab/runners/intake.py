"""What comes in: lines from the source, in batches of a size that suits, begun with before their turn where that helps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from streamlab.batch import Chunk, Rows
from streamlab.engine import Engine
from streamlab.runners.host import LocalHost, cores
from streamlab.runners.reader import Reader
from streamlab.sources import Source
from streamlab.sources.files import FileSource

#: Seconds that a batch should take: short, so that nothing waits long for its neighbours, and pauses and stops come soon.
BATCH_SECONDS = 0.010
#: The same of columns, where a batch costs more and a line less; and in several processes, which are sent each of them.
COLUMN_SECONDS, PARALLEL_SECONDS = 0.030, 0.100
#: Lines of a batch, at the start and at most.
FIRST_BATCH, MAX_BATCH = 1, 16_384
#: The same of columns.
FIRST_COLUMN, MAX_COLUMN = 256, 65_536
#: Lines of a batch of columns from which it is worth to begin with it in another thread.
LARGE = 8_192


class Intake:
    """Takes lines from a source, in the run's thread.

    Attributes:
        reader: reads the source in another thread; ``None`` where it has its lines at hand and nothing is gained.
    """

    def __init__(self, engine: Engine, source: Source, host: LocalHost) -> None:
        self._engine = engine
        self._source = source
        self._host = host
        columns = engine.takes_columns
        # Polars, and processes, work on other cores than the one that Python holds: so files are read ahead for them.
        early = (columns or engine.parallel) and isinstance(source, FileSource)
        self.reader = Reader(source) if source.blocking or early else None
        self._taken = 0
        self._ahead: deque[tuple[Chunk, Rows | None]] = deque()
        self._depth = cores() + 1 if columns else 2 if engine.parallel else 1
        self._seconds = PARALLEL_SECONDS if engine.parallel else COLUMN_SECONDS if columns else BATCH_SECONDS
        self._most = MAX_COLUMN if columns else MAX_BATCH
        self._limit = max(FIRST_COLUMN if columns else FIRST_BATCH, engine.concurrency)

    def next(self, timeout: float) -> tuple[Chunk | None, Rows | None]:
        """Return the next lines, and their rows if they have been begun with.

        While lines wait to be read, those after them are begun with: by other threads, or by processes.

        Args:
            timeout: seconds to wait for lines.

        Returns:
            ``None`` for the chunk when none have come; an empty chunk at the end.

        Raises:
            SourceError: the source cannot be read on; all lines before that have been returned.
        """
        depth = self._depth if self._engine.parallel or self._limit > LARGE else 1
        while len(self._ahead) < depth and not (self._ahead and self.reader is not None and self.reader.empty()):
            chunk = self._take(0.0 if self._ahead else timeout)
            if chunk is None or not chunk.lines:
                return self._ahead.popleft() if self._ahead else (chunk, None)
            self._ahead.append((chunk, None))
            if depth > 1:
                self._ahead[-1] = chunk, self._begun(chunk)
        return self._ahead.popleft()

    def _take(self, timeout: float) -> Chunk | None:
        if self.reader is None:
            chunk: Chunk | None = self._source.read(self._limit)
        else:
            self.reader.capacity = self._most if self._engine.takes_columns else self._limit
            chunk = self.reader.take(self._limit, timeout)
        if chunk is not None:
            chunk.taken = self._host.clock()
            self._taken += len(chunk.lines)
        return chunk

    def _begun(self, chunk: Chunk) -> Rows | None:
        rows = self._engine.begin(chunk)
        if rows is not None and rows.begun is not None:  # it may be called in another thread
            rows.begun = self._host.ahead(rows.begun).result
        return rows

    def adapt(self, lines: int, seconds: float) -> None:
        """Choose the size of the next batch after one of so many ``lines``: grow under load, shrink when it takes long."""
        if seconds > 2 * self._seconds:
            self._limit = max(int(lines * self._seconds / seconds), self._engine.concurrency, 1)
        elif seconds < self._seconds and 2 * lines > self._limit:
            self._limit = min(self._limit * (8 if 8 * seconds < self._seconds else 2), self._most)

    def lines(self) -> int:
        """Return how many lines the source has given."""
        return max(self._taken, 0 if self.reader is None else self.reader.lines)

    def drained(self) -> bool:
        """Tell whether no lines are left that were taken from the source."""
        return not self._ahead and (self.reader is None or self.reader.drained())

    def left(self) -> Iterator[Sequence[str]]:
        """Give away the lines that were taken from the source and not asked for."""
        while self._ahead:
            yield self._ahead.popleft()[0].lines
        if self.reader is not None:
            for chunk in self.reader.rest():
                yield chunk.lines
