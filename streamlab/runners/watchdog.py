"""Tells what a run hangs on: a look, once in a while, at what its thread is at when a batch takes long.

A look reads the frames of the run's thread (`streamlab.runners.whereabouts`), and only once a batch has been under way for
longer than a look is from the next: a run that goes as it should is never looked into.

While a function holds the interpreter's lock (a regular expression that backtracks does, for minutes), no thread of this
process runs, so nothing here can speak. The look comes when the lock is let go of, most often while the function is still
where it was, and tells then what nothing could be done beside. `faulthandler.dump_traceback_later` needs no lock and could
speak at once. It is not used: there is one timer of it in a process, which may be the user's, or that of a test runner; it
could only write the stacks of all threads, raw, to standard error; and after a suspension (Ctrl-Z) it would do so without
need. A processor that may do this belongs in a process of its own (``isolation="process"``), which is asked where it is
by a signal, and tells without the lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamlab.notices import Notice

if TYPE_CHECKING:
    from streamlab.runners.whereabouts import Place

#: Seconds between two looks, at most.
LOOK_SECONDS = 1.0


class Watchdog:
    """Watches the thread of a run, from a thread of its own, until it is closed.

    When the thread is at the same processor and line for ``seconds``, a `Notice` of kind ``"hanging"`` says so; again when
    it has been twice as long, four times as long; and once more when it went on.

    Args:
        pipeline: the name of the pipeline.
        thread: the number of the run's thread, as `threading.get_ident` gives it.
        under_way: gives since when the batch has been under way, by `time.perf_counter`, and the number of its first line,
            or ``None`` for what comes at the end of input; ``None`` while there is no batch.
        tell: takes a notice.
        seconds: how long is long.

    Example:
        >>> told, begun = [], (time.perf_counter(), 0)
        >>> watchdog = Watchdog("logs", threading.get_ident(), lambda: begun, told.append, seconds=0.1)
        >>> while not told:
        ...     time.sleep(0.01)
        >>> watchdog.close()
        >>> told[0].kind
        'hanging'
    """

    def __init__(
        self,
        pipeline: str,
        thread: int,
        under_way: Callable[[], tuple[float, int | None] | None],
        tell: Callable[[Notice], None],
        *,
        seconds: float = 10.0,
    ) -> None:
        self._pipeline = pipeline
        self._thread = thread
        self._under_way = under_way
        self._tell = tell
        self._seconds = seconds
        self._pause = min(seconds / 8, LOOK_SECONDS)
        self._batch: float | None = None
        self._key: object = None  # what the thread is at
        self._since = 0.0
        self._next = seconds
        self._told: tuple[str, str] | None = None
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._look_on, name="streamlab-watchdog", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """End the watch."""
        self._closed.set()
        self._watch.join()

    def _look_on(self) -> None:
        last = time.perf_counter()
        while not self._closed.wait(self._pause):
            now = time.perf_counter()
            self._look(now, last)
            last = now
        self._begin(None, None, last)

    def _look(self, now: float, last: float) -> None:
        """Look at what the thread is at; the look before was at ``last``."""
        at = self._under_way()
        if at is None or at[0] != self._batch:
            self._begin(None, None if at is None else at[0], now)
        if at is None or now - at[0] < self._pause:
            return
        place = _found(self._thread, ask=False)
        key = place.processor, place.line, place.sink
        if key != self._key:
            self._begin(key, at[0], max(at[0], last))
        if now - self._since >= self._next:
            self._next *= 2
            self._say(_found(self._thread, ask=True) if place.pid is not None else place, at[1], now, now - last)

    def _begin(self, key: object, batch: float | None, since: float) -> None:
        """Take note that the thread is at something else."""
        if self._told is not None:
            where, what = self._told
            self._tell(Notice("hanging", where, f"{what}: went on after {since - self._since:.0f} s"))
        self._key, self._batch, self._since, self._next, self._told = key, batch, since, self._seconds, None

    def _say(self, place: Place, first: int | None, now: float, pause: float) -> None:
        where = place.processor or place.sink or self._pipeline
        self._told = where, _what(self._pipeline, place, first)
        text = f"{self._told[1]}: has been {place.doing} for {now - self._since:.0f} s"
        if place.pid is not None:
            text += f" in process {place.pid}"
        if place.spot():
            text += f", at {place.spot()}"
        if pause > max(self._seconds / 2, 2 * self._pause):
            text += '; it let nothing else in this program run, which isolation="process" would'
        self._tell(Notice("hanging", where, text))


def _found(thread: int, *, ask: bool) -> Place:
    from streamlab.runners.whereabouts import Place, find  # which imports all kinds of segments: only when there is need

    try:
        return find(thread, ask=ask)
    except Exception:  # whatever it read there was changing at that moment; the run must not suffer from being watched
        return Place()


def _what(pipeline: str, place: Place, first: int | None) -> str:
    """Return what hangs, as errors have it."""
    text = f"pipeline {pipeline!r}"
    if place.processor is not None:
        text += f", processor {place.processor!r}"
    elif place.sink is not None:
        text += f", output {place.sink!r}"
    if first is None:
        return f"{text}, at end of input"
    return f"{text}, line {first + place.line}" if place.line is not None else f"{text}, a line from {first} on"
