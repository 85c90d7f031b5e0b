"""The runs that one server shows: each under a number of its own, the newest one also under no number."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from streamlab.errors import TraceError
from streamlab.run import ENDED, Run
from streamlab.story import LineTrace

#: Ended runs that a server keeps showing beside those that go on: a cell that is run again and again must not fill memory.
MOST_ENDED = 20
#: Lines that were listed, of which a story can be told although they are a second old, and the run has had 100,000 since.
MOST_LISTED = 3000
#: The share of one core that may go into one thing made of a run, however often and by how many it is asked for.
SHARE = 0.02
#: Such things at a time: searches are many.
MOST_SHARED = 100
#: Seconds that such a thing is old at most.
PERIOD = 0.25


class Shown:
    """A run that is shown, and what is made of it once for all who ask.

    Attributes:
        run: the run.
        number: its number, from 1.
    """

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.number = number
        self._made: dict[Hashable, tuple[Any, str, float]] = {}
        self._listed: dict[int, LineTrace] = {}

    def shared(self, what: Hashable, make: Callable[[], Any]) -> Any:
        """Return what ``make`` makes, made anew so seldom that it takes a `SHARE` of the time, however many ask.

        It is not older than `PERIOD`, and once the run has ended it is as it was at the end.

        Args:
            what: tells it from other things that are made of this run.
            make: makes it.
        """
        state = self.run.state
        made, then, until = self._made.get(what, (None, "", 0.0))
        if state != then or time.perf_counter() >= until:
            began = time.thread_time()
            made = make()
            until = time.perf_counter() + min((time.thread_time() - began) / SHARE, PERIOD)
            if len(self._made) > MOST_SHARED:
                self._made.clear()
            self._made[what] = (made, state, until)
        return made

    def lines(self, limit: int, **which: Any) -> list[LineTrace]:
        """Return the last lines, see `streamlab.Run.latest_lines`; they are remembered, so that `line` can tell of them."""
        lines = self.run.latest_lines(limit, **which)
        self._listed |= {line.line_no: line for line in lines}
        for number in list(self._listed)[:-MOST_LISTED]:
            del self._listed[number]
        return lines

    def line(self, number: int) -> LineTrace:
        """Return one line's story: also of one that was listed, and that the run itself has let go of since.

        Raises:
            TraceError: it is not kept.
        """
        try:
            return self.run.trace(number)
        except TraceError:
            if number not in self._listed:
                raise
            return self._listed[number]


class Runs:
    """Runs by number. Added to by the user's threads, read by the server's.

    >>> import streamlab
    >>> runs = Runs(streamlab.run(["a"]))
    >>> runs.add(streamlab.run(["b"])).number, runs.get().number, runs.get(3)
    (2, 2, None)
    """

    def __init__(self, *runs: Run) -> None:
        self._lock = threading.Lock()
        self._shown: dict[int, Shown] = {}
        self._last = 0
        for run in runs:
            self.add(run)

    def add(self, run: Run) -> Shown:
        """Show a run, as the newest one; the oldest that have ended make room."""
        with self._lock:
            self._last += 1
            shown = Shown(run, self._last)
            ended = [number for number, other in self._shown.items() if other.run.state in ENDED]
            leaving = ended[: max(len(ended) - MOST_ENDED + 1, 0)]
            kept = {number: other for number, other in self._shown.items() if number not in leaving}
            self._shown = kept | {self._last: shown}  # a new one: whoever reads the old one is not disturbed
            return shown

    def remove(self, number: int) -> None:
        """Show a run no more, if it is still shown."""
        with self._lock:
            self._shown = {other: shown for other, shown in self._shown.items() if other != number}

    def get(self, number: int | None = None) -> Shown | None:
        """Return a run by number, by default the newest; ``None`` when it is not (or no more) here."""
        shown = self._shown
        return shown.get(max(shown, default=0) if number is None else number)

    def all(self) -> list[Shown]:
        """Return all runs, oldest first."""
        return list(self._shown.values())
