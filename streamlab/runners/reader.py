"""Reads a source in a thread: one that may wait, so that what has come is not held up by what has not, or files ahead."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from streamlab.batch import Chunk
from streamlab.sources import Listening, Source
from streamlab.sources.items import size_of
from streamlab.sources.iterables import IterableSource

#: Seconds in which a source that listens has to give the last lines that have come to it.
LEAVE_SECONDS = 5.0
#: Chunks that may wait to be taken.
CHUNKS = 2
#: Lines of a chunk of the rest.
CHUNK = 16_384
#: Characters that may wait, where lines come one by one; and after how many items their size is looked at.
WAITING_TEXT, LOOK = 16_777_216, 17


class Reader:
    """A bounded buffer between who reads the source (`pump`) and who works on its lines (`take`).

    There is one thread on each side, and the buffer is a deque, whose ends are safe to use without a lock; the events are
    only touched when one side waits for the other.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        #: Lines of a chunk, and where lines come one by one, how many may wait; the runner keeps it at its batch size.
        self.capacity = 256
        #: Lines that the source has given, unless they come one by one.
        self.lines = 0
        self._items = source if isinstance(source, IterableSource) else None
        self._buffer: deque[Any] = deque()
        self._left: Chunk | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._hungry = False
        self._full = False
        self._ready = threading.Event()
        self._room = threading.Event()

    def pump(self) -> None:
        """Read the source to its end, or until `close`; what it raises is raised by `take`, after all lines before it."""
        try:
            if self._items is not None:
                self._collect(self._items.items())
            else:
                while not self._closed and (chunk := self.source.read(self.capacity)).lines:
                    self.lines += len(chunk.lines)
                    self._buffer.append(chunk)
                    if self._hungry:
                        self._feed()
                    self._wait_for_room(CHUNKS)
        except KeyboardInterrupt:
            if threading.current_thread() is threading.main_thread():
                raise
            self._error = KeyboardInterrupt("raised by the source")
        except BaseException as error:  # sys.exit in a generator is no end of its lines
            self._error = error
        finally:
            self._ended = True
            self._ready.set()

    def _collect(self, items: Iterator[object]) -> None:
        buffer = self._buffer
        for item in items:
            buffer.append(item)
            if self._hungry:
                self._feed()
            waiting = len(buffer)
            if waiting >= self.capacity or (waiting % LOOK == 0 and waiting * size_of(item) > WAITING_TEXT):
                self._wait_for_room(waiting)
            if self._closed:
                break

    def _feed(self) -> None:
        self._hungry = False
        self._ready.set()

    def _wait_for_room(self, most: int) -> None:
        """Wait until there are fewer than ``most`` in the buffer."""
        while len(self._buffer) >= most and not self._closed:
            self._room.clear()
            self._full = True
            if len(self._buffer) >= most and not self._closed:
                self._room.wait(0.2)  # with an end, so that Ctrl-C comes through

    def take(self, limit: int, timeout: float) -> Chunk | None:
        """Return up to ``limit`` lines that have come; ``None`` when none came within ``timeout`` seconds; empty at the end.

        Raises:
            SourceError: the source cannot be read on.
        """
        if self._left is None and not self._wait(timeout):
            return None
        if self._left is None and not self._buffer:
            if self._error is not None:
                raise self._error
            return Chunk([])
        chunk = self._next(limit)
        if self._full:
            self._full = False
            self._room.set()
        if len(chunk.lines) > limit:  # cut into even parts: a small rest would cost as much as a large one
            parts = math.ceil(len(chunk.lines) / limit)
            chunk, self._left = chunk.split(math.ceil(len(chunk.lines) / parts))
        return chunk

    def _next(self, limit: int) -> Chunk:
        buffer = self._buffer
        if self._items is not None:
            return self._items.chunk([buffer.popleft() for _ in range(min(limit, len(buffer)))])
        chunk: Chunk = self._left or buffer.popleft()
        self._left = None
        return chunk

    def _wait(self, timeout: float) -> bool:
        """Wait for something to take; tell whether there is, or never will be."""
        if not self._buffer and not self._ended:
            self._ready.clear()
            self._hungry = True
            if not self._buffer and not self._ended:
                self._ready.wait(timeout)
        return bool(self._buffer) or self._ended

    def wake(self) -> None:
        """End a `take` that waits."""
        self._ready.set()

    def close(self) -> None:
        """End `pump` at the next item; what is in the buffer can still be taken."""
        self._closed = True
        self._room.set()

    @property
    def ended(self) -> bool:
        """Whether the source has been read to its end."""
        return self._ended

    def drained(self) -> bool:
        """Tell whether nothing is left in the buffer, and of what listens, that nothing comes any more."""
        ended = self._ended  # asked first: it may give its last lines just now
        return self.empty() and (ended or not isinstance(self.source, Listening))

    def empty(self) -> bool:
        """Tell whether nothing is in the buffer."""
        return not self._buffer and self._left is None

    def rest(self) -> Iterator[Chunk]:
        """Give away what is left, for as long as that takes, but for `LEAVE_SECONDS` at most."""
        until = time.monotonic() + LEAVE_SECONDS
        while not self.drained() and time.monotonic() < until:
            chunk = self.take(CHUNK, 0.1)
            if chunk is not None:
                yield chunk
