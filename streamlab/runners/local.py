"""The local runner: a run's thread, and what its holder can do with it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from streamlab.errors import RunError
from streamlab.journal import Journal
from streamlab.runners import ENDED, State
from streamlab.runners.work import DRAIN_SECONDS, Work
from streamlab.sources import Listening

#: Seconds between two looks at signals while the calling thread waits. An untimed wait is not ended by Ctrl-C once a library
#: such as Polars has put a handler of its own below Python's.
SIGNAL_SECONDS = 0.2
#: Seconds that whoever starts a run waits for its first moment, to be told at once what is wrong.
FIRST_SECONDS = 1.0


class LocalRunner:
    """Has a run's work done in a thread of this process; see `streamlab.runners.Runner`."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=work.do, name=f"streamlab-{work.name}", daemon=True)

    @property
    def state(self) -> State:
        """Where the run is."""
        return self._work.state

    @property
    def exception(self) -> BaseException | None:
        """Why it failed."""
        return self._work.exception

    @property
    def waiting(self) -> str | None:
        """What it waits for before it can go on."""
        return self._work.waiting

    def progress(self) -> float | None:
        """Return the share of the source that has been read and worked on."""
        return self._work.progress()

    def start(self) -> None:
        """Begin, in the background; raise what soon comes in the way of the first moment, before anything is read."""
        self._work.apart = True
        self._thread.start()
        self._await_first(FIRST_SECONDS)

    def run(self) -> None:
        """Begin, and return at the end. The caller's thread reads the source, if that may wait: Ctrl-C reaches it there."""
        # An async source needs an event loop of its own, so not that of a notebook; what listens is read on after Ctrl-C.
        self._work.apart = not self._work.source.blocking or _has_event_loop() or isinstance(self._work.source, Listening)
        self._thread.start()
        try:
            self._await_first(None)
            if self._work.reader is not None and not self._work.apart and not self._work.stopping.is_set():
                self._work.reader.pump()
            self.wait(None)
        except KeyboardInterrupt:
            self.stop()
            self.wait(DRAIN_SECONDS)
            raise
        if isinstance(self._work.exception, KeyboardInterrupt):
            raise self._work.exception

    def _await_first(self, seconds: float | None) -> None:
        """Wait for the first moment, by default as long as it takes; raise what came in its way."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self._work.first.wait(SIGNAL_SECONDS):
            if until is not None and (self._work.waiting is not None or time.monotonic() >= until):
                return
        if self._work.refused:
            self.wait(None)
            assert self._work.exception is not None
            raise self._work.exception

    def pause(self) -> None:
        """Take no more lines until `resume`."""
        with self._lock:
            if self.state in ENDED or self._work.stopping.is_set():
                raise RunError(f"the run is {self.state if self.state in ENDED else 'stopping'}: it cannot be paused")
            self._work.going.clear()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._work.going.set()

    def stop(self) -> None:
        """Take no more lines from the source, bring those that were taken to their end, and flush."""
        with self._lock:
            self._work.stopping.set()
            self._work.going.set()
        self._work.close_intake()

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end; tell whether it has come."""
        if threading.current_thread() is self._thread:
            raise RunError("a processor or sink cannot wait for the end of the run that it is part of")
        until = None if timeout is None else time.monotonic() + timeout
        while not self._work.done.wait(
            SIGNAL_SECONDS if until is None else min(max(until - time.monotonic(), 0), SIGNAL_SECONDS)
        ):
            if until is not None and time.monotonic() >= until:
                return False
        self._thread.join()
        return True

    def uptime(self) -> float:
        """Return the seconds since the beginning, to the end if it has come."""
        return self._work.books.uptime()

    @contextmanager
    def reading(self) -> Iterator[Journal]:
        """Give the journal, between two batches."""
        with self._work.books.reading() as journal:
            if self._work.done.is_set():  # the source's thread may have brought one more line
                self._work.give_up()
            yield journal


def _has_event_loop() -> bool:
    """Tell whether an event loop runs in the calling thread."""
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
