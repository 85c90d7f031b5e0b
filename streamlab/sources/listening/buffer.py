"""What has come and has not been read: one bounded buffer between who receives lines and who reads them."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

from streamlab.batch import Chunk, Rejected
from streamlab.errors import SourceError
from streamlab.notices import Notice

WhenFull = Literal["block", "drop_newest", "drop_oldest"]
#: What a buffer can do when it is full.
WHEN_FULL: tuple[WhenFull, ...] = ("block", "drop_newest", "drop_oldest")

#: Seconds between two notices of lines that were dropped.
TELL_SECONDS = 1.0
#: Share of a full buffer that is still held when who waits for room is called: not for each line that is taken.
RESUME = 0.75
#: Seconds that a reader waits in one go: with an end, so that Ctrl-C comes through in the main thread.
WAIT_SECONDS = 0.2


class Buffer:
    """Holds lines in the order in which they came, at most so many, and so many bytes.

    Any thread may `offer` lines, one thread takes them with `take`. At every moment ``received`` is ``given`` and
    ``dropped`` and ``held`` together.

    Args:
        where: what lines come from, as `Chunk.source` and in notices.
        notices: gets a ``"dropped"`` about once a second while lines are dropped.
        max_lines: how many lines are held at most.
        max_bytes: how many bytes, as UTF-8 without line ends; a single line that is longer is held alone.
        when_full: ``"block"``: what does not fit is not taken, and who offered it waits; ``"drop_newest"``: it is
            dropped; ``"drop_oldest"``: the lines that have been held longest are dropped for it.

    Attributes:
        received: lines that were taken in, or dropped instead.
        given: lines that were handed out.
        dropped: lines that were lost.
        held_bytes: bytes of the lines that are held.
        ended: whether no more lines are taken in.

    Raises:
        SourceError: an argument is wrong.

    >>> notices = deque()
    >>> buffer = Buffer("demo", notices, max_lines=2, max_bytes=1000, when_full="drop_oldest")
    >>> buffer.offer(Chunk(["a", "b", "c"]))
    3
    >>> buffer.take(10).lines, buffer.dropped, notices[0].lost_lines
    (['b', 'c'], 1, 1)
    """

    def __init__(
        self,
        where: str,
        notices: deque[Notice],
        *,
        max_lines: int,
        max_bytes: int,
        when_full: WhenFull = "block",
    ) -> None:
        if when_full not in WHEN_FULL:
            raise SourceError(f"when_full={when_full!r}: use {', '.join(map(repr, WHEN_FULL[:-1]))} or {WHEN_FULL[-1]!r}")
        for name, bound in (("lines", max_lines), ("bytes", max_bytes)):
            if bound < 1:
                raise SourceError(f"a buffer of {bound:,} {name} holds nothing: it must be at least 1")
        self.received = self.given = self.dropped = self.held_bytes = 0
        self.ended = False
        self.max_lines, self.max_bytes, self.when_full = max_lines, max_bytes, when_full
        self.where = where
        self._notices = notices
        self._lines: deque[str] = deque()
        self._out = 0  # lines that have left, to whatever end: the number of the first one held
        self._marks: deque[Rejected] = deque()  # of lines held, with their numbers as positions
        self._untold = 0
        self._told = -TELL_SECONDS
        self._lock = threading.Lock()
        self._some = threading.Condition(self._lock)
        self._callbacks: list[Callable[[], object]] = []

    @property
    def held(self) -> int:
        """How many lines are held."""
        return len(self._lines)

    def offer(self, chunk: Chunk, *, whole: bool = False) -> int:
        """Take in what fits, at once; return how many lines, from the first on, are dealt with: taken, or dropped.

        Args:
            chunk: the lines; of ``"block"``, those that are not dealt with are to be offered again (`when_room`).
            whole: take all of them or, if they do not fit, none; drop nothing.
        """
        lines = chunk.lines
        sizes = [size_of(line) for line in lines]
        with self._lock:
            if self.ended:
                return 0
            fit = self._fitting(sizes)
            if fit < len(lines) and (whole or self.when_full == "block"):
                fit = 0 if whole else fit
                self._hold(chunk, sizes, 0, fit)
                self.received += fit
                return fit
            self.received += len(lines)
            if fit < len(lines) and self.when_full == "drop_oldest":
                first = _suffix(sizes, self.max_lines, self.max_bytes)
                self._let_go(None if first else sizes)
                self._hold(chunk, sizes, first, len(lines))
                self._drop(first)
            else:
                self._hold(chunk, sizes, 0, fit)
                self._drop(len(lines) - fit)
            self._tell_of_dropped()
            return len(lines)

    def take(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines, as soon as there are any; an empty chunk at the end."""
        with self._some:
            while not self._lines and not self.ended:
                self._some.wait(WAIT_SECONDS)
                self._tell_of_dropped()
            self._tell_of_dropped()
            lines = [self._lines.popleft() for _ in range(min(limit, len(self._lines)))]
            first = self._out
            self._left(len(lines), sum(map(size_of, lines)))
            self.given += len(lines)
            rejected = []
            while self._marks and self._marks[0].position < self._out:
                mark = self._marks.popleft()
                rejected.append(mark._replace(position=mark.position - first))
            callbacks = self._callbacks_due()
        for callback in callbacks:
            callback()
        return Chunk(lines, rejected, self.where)

    def when_room(self, callback: Callable[[], object]) -> None:
        """Have a function called once, in another thread, when there is room again or the end has come.

        To be asked for before a last `offer`, so that what is taken meanwhile is not missed.
        """
        with self._lock:
            self._callbacks.append(callback)

    def lose(self, count: int) -> None:
        """Count lines that came, and could not be offered before the end, as dropped."""
        with self._lock:
            self.received += count
            self._drop(count)

    def tell(self) -> None:
        """Tell of what was dropped, if it is time: to be called now and then while nothing comes and nothing is taken."""
        with self._lock:
            self._tell_of_dropped()

    def end(self) -> None:
        """Take in no more; what is held can still be taken, and an empty chunk after it."""
        with self._some:
            self.ended = True
            self._some.notify_all()
            self._tell_of_dropped(at_once=True)
            callbacks = self._callbacks_due()
        for callback in callbacks:
            callback()

    def close(self) -> None:
        """Take in no more, and drop what is held: it will not be read any more."""
        self.end()
        with self._lock:
            self._let_go(None)
            lost, self._untold = self._untold, 0
            if lost:
                message = f"{lost:,} lines that had come were not read before the end: they are lost"
                self._notices.append(Notice("dropped", self.where, message, lost_lines=lost))

    def _callbacks_due(self) -> Sequence[Callable[[], object]]:
        """Take those away that are to be called now."""
        if not self._callbacks:
            return ()
        roomy = len(self._lines) <= RESUME * self.max_lines and self.held_bytes <= RESUME * self.max_bytes
        if not roomy and not self.ended:
            return ()
        due, self._callbacks = self._callbacks, []
        return due

    def _fitting(self, sizes: Sequence[int]) -> int:
        """Return how many lines of such sizes fit, from the first on."""
        room = self.max_bytes - self.held_bytes
        many = min(len(sizes), self.max_lines - len(self._lines))
        if many <= 0 or sum(sizes) <= room:
            return max(many, 0)
        fit = bisect_right(list(accumulate(sizes[:many])), room)
        return fit or int(not self._lines)

    def _hold(self, chunk: Chunk, sizes: Sequence[int], start: int, stop: int) -> None:
        if start == stop:
            return
        base = self._out + len(self._lines) - start
        kept = (mark for mark in chunk.rejected if start <= mark.position < stop)
        self._marks.extend(mark._replace(position=mark.position + base) for mark in kept)
        whole = stop - start == len(sizes)
        self._lines.extend(chunk.lines if whole else chunk.lines[start:stop])
        self.held_bytes += sum(sizes if whole else sizes[start:stop])
        self._some.notify()

    def _let_go(self, sizes: Sequence[int] | None) -> None:
        """Drop the oldest lines until lines of such sizes fit; all of them for ``None``."""
        before = len(self._lines)
        if sizes is None:
            self._lines.clear()
            self._left(before, self.held_bytes)
        else:
            room, length = self.max_bytes - sum(sizes), self.max_lines - len(sizes)
            while self._lines and (self.held_bytes > room or len(self._lines) > length):
                self._left(1, size_of(self._lines.popleft()))
        while self._marks and self._marks[0].position < self._out:
            self._marks.popleft()
        self._drop(before - len(self._lines))

    def _left(self, count: int, size: int) -> None:
        self._out += count
        self.held_bytes -= size

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _tell_of_dropped(self, *, at_once: bool = False) -> None:
        """Tell of lines that were dropped, about once a second."""
        if not self._untold or (not at_once and time.monotonic() - self._told < TELL_SECONDS):
            return
        message = (
            f"lines were dropped (when_full={self.when_full!r}): they come faster than they are worked on,"
            f" and the buffer of {self.max_lines:,} lines or {self.max_bytes:,} bytes is full"
        )
        self._notices.append(Notice("dropped", self.where, message, lost_lines=self._untold))
        self._untold, self._told = 0, time.monotonic()


def size_of(line: str) -> int:
    """Return the length of a line in bytes.

    >>> size_of("a"), size_of("é"), size_of("\\udcff")
    (1, 2, 1)
    """
    return len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))


def _suffix(sizes: Sequence[int], max_lines: int, max_bytes: int) -> int:
    """Return where the longest end of such lines begins that fits when nothing is held; the last one always does."""
    fit = bisect_right(list(accumulate(reversed(sizes[-max_lines:]))), max_bytes)
    return len(sizes) - max(fit, 1)
