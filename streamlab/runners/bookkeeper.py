"""Keeps a run's journal: what came of batches, rows of the history, notices; in the run's thread, read by others between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from streamlab.batch import Batch, Chunk
from streamlab.failures import Failure
from streamlab.journal import Journal
from streamlab.notices import Notice
from streamlab.runners.host import LocalHost
from streamlab.runners.outlet import Refused
from streamlab.sources import notices_of

#: Seconds between two rows of the history.
TICK_SECONDS = 1.0


class Bookkeeper:
    """Writes to a journal that other threads read.

    Args:
        journal: the books.
        host: has the clocks.
        parts: source, sink, dead letters: what may have notices.
    """

    def __init__(self, journal: Journal, host: LocalHost, parts: Sequence[object]) -> None:
        self._journal = journal
        self._host = host
        self._parts = parts
        self._lock = threading.Lock()
        self._began = self._ticked = host.clock()
        self._uptime: float | None = None

    @contextmanager
    def reading(self) -> Iterator[Journal]:
        """Give the journal, between two batches."""
        with self._lock:
            yield self._journal

    def uptime(self) -> float:
        """Return the seconds since the beginning, those of earlier runs included, up to `end`."""
        now = self._host.clock() - self._began + self._journal.earlier
        return now if self._uptime is None else self._uptime

    def end(self) -> None:
        """Let the time stand still."""
        self._uptime = self.uptime()

    def begin(self, chunk: Chunk) -> None:
        """Book lines that are handed to the engine."""
        with self._lock:
            self._journal.begin(chunk)

    def give_back(self, chunk: Chunk) -> None:
        """Forget lines that were handed to the engine, and that it has not begun with."""
        with self._lock:
            self._journal.give_back(chunk)

    def book(self, batch: Batch, refused: Refused) -> list[Failure]:
        """Book a batch whose outputs the sink has taken, but for those that it refused; return the dead letters."""
        for position, error in sorted(refused, key=lambda refusal: -refusal[0]):
            batch.refuse(position, error, self._host.now())
        seconds = None if batch.taken is None else self._host.clock() - batch.taken
        with self._lock:
            return self._journal.book(batch, seconds)

    def commit(self, book: Callable[[Journal], list[Failure]], lines: int, seconds: float) -> list[Failure]:
        """Book lines that took so long, all or nothing, and return the dead letters."""
        with self._lock:
            self._journal.ledger.took(seconds, lines)
            return book(self._journal)

    def say(self, *notices: Notice) -> None:
        """Book what happened beside the lines."""
        with self._lock:
            self._journal.notices.extend(notices)

    def hear(self) -> None:
        """Book what source, sink and dead letters have to say."""
        said = [notice for part in self._parts for notice in notices_of(part)]
        if said:
            self.say(*said)

    def tick(self, *, last: bool = False) -> None:
        """Write the history's row once a second, and at the end."""
        now = self._host.clock()
        self.hear()
        if last or now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            with self._lock:
                self._journal.tick(self._host.now(), self.uptime())
