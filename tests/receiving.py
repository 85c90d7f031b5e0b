"""Reading a source in a thread, as a run does, for tests of sources that wait."""

from __future__ import annotations

import threading
from types import TracebackType

from streamlab.batch import Chunk
from streamlab.sources import Source
from tests.waiting import until


class Reading:
    """Reads a source to its end in a thread; at the end of a ``with`` block, the source is closed."""

    def __init__(self, source: Source, limit: int = 1000) -> None:
        self.source = source
        self.chunks: list[Chunk] = []
        self.lines: list[str] = []
        self.error: Exception | None = None
        self._limit = limit
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        try:
            while (chunk := self.source.read(self._limit)).lines:
                assert len(chunk.lines) <= self._limit
                self.chunks.append(chunk)
                self.lines += chunk.lines
        except Exception as error:
            self.error = error

    def wait_for(self, count: int) -> list[str]:
        """Return the lines when there are at least so many."""
        until(lambda: len(self.lines) >= count or not self._thread.is_alive())
        return self.lines

    def to_end(self) -> list[str]:
        """Return the lines when the source has ended."""
        self._thread.join(30)
        assert not self._thread.is_alive() and self.error is None
        return self.lines

    def __enter__(self) -> Reading:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.source.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


def rejected(reading: Reading) -> list[tuple[str, str]]:
    """Return the lines that must not enter a pipeline, each with the reason."""
    return [(chunk.lines[mark.position], mark.kind) for chunk in reading.chunks for mark in chunk.rejected]
