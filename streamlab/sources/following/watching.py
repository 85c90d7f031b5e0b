"""Waiting until something happens in folders: told by the system where it tells, and never longer than asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from itertools import islice

from watchfiles import Change, watch

#: Milliseconds between two looks at what the system has told, and after which news are passed on though more come.
STEP, DEBOUNCE = 20, 40
#: Folders that are watched, at most: the system has a limit for all programs together.
FOLDERS = 512
#: Files whose changes are kept apart, at most; with more, it is as if names had changed.
FILES = 1000
#: What the threads that hear of changes are called.
_NAME = "streamlab-watch"


class _Stop:
    """What watchfiles asks whether to stop, again and again: so from the first time on, it is at work."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._stop = threading.Event()

    def set(self) -> None:
        """Stop."""
        self._stop.set()

    def is_set(self) -> bool:
        """Tell whether to stop."""
        self.asked.set()
        return self._stop.is_set()


class Watching:
    """Hears of changes in folders, in a thread of its own, through watchfiles.

    Where the system does not tell (a limit is reached, a file system without events, ``WATCHFILES_FORCE_POLLING`` is set)
    nothing is heard, and whoever waits has to look for himself.

    Attributes:
        told: whether the system tells.
    """

    def __init__(self) -> None:
        self.told = False
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._names = False
        self._grown: set[str] = set()
        self._folders: frozenset[tuple[str, int]] = frozenset()
        self._thread: threading.Thread | None = None
        self._stop = _Stop()

    def watch(self, folders: Iterable[str]) -> bool:
        """Watch these folders from now on, and no others; tell whether that is a change.

        One that is not there, or has been made anew, is watched from the next call on.
        """
        found = frozenset(islice(_present(folders), FOLDERS))
        if found == self._folders:
            return False
        self._end()
        self._folders = found
        if found and not _polling():
            self._begin(sorted(folder for folder, _ in found))
        return self.told

    def wait(self, seconds: float) -> None:
        """Wait until something has happened, `wake` is called, or the time is over."""
        self._news.wait(seconds)

    def wake(self) -> None:
        """End a `wait`."""
        self._news.set()

    def news(self) -> tuple[bool, set[str]]:
        """Take what has happened since the last call: whether names have come or gone, and which files have changed."""
        if not self._news.is_set():
            return False, set()
        with self._lock:
            self._news.clear()
            names, self._names = self._names, False
            grown, self._grown = self._grown, set()
        return names, grown

    def close(self) -> None:
        """End the thread; more than once is fine."""
        self._end()
        self._folders = frozenset()

    def _begin(self, folders: list[str]) -> None:
        # watchfiles logs every change: without end, when the log is the file that is followed.
        logging.getLogger("watchfiles.main").addFilter(_is_of_others)
        self._stop = stop = _Stop()
        self._thread = threading.Thread(target=self._hear, args=(folders, stop), name=_NAME, daemon=True)
        self._thread.start()
        stop.asked.wait()

    def _hear(self, folders: list[str], stop: _Stop) -> None:
        """Take what watchfiles tells, until it is to stop, or cannot tell: at a limit, or when a folder has gone again."""
        try:
            changes = watch(
                *folders,
                watch_filter=None,
                debounce=DEBOUNCE,
                step=STEP,
                rust_timeout=0,
                stop_event=stop,
                debug=False,
                force_polling=False,
                recursive=False,
                ignore_permission_denied=False,
            )
            self.told = True
            for found in changes:
                self._take(found)
        except (OSError, RuntimeError):
            pass
        finally:
            self.told = False
            stop.asked.set()

    def _take(self, changes: Iterable[tuple[Change, str]]) -> None:
        with self._lock:
            for kind, path in changes:
                if kind == Change.modified:
                    self._grown.add(path)
                else:
                    self._names = True
            if len(self._grown) > FILES:
                self._grown.clear()
                self._names = True
            self._news.set()

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.told = False


def _is_of_others(record: logging.LogRecord) -> bool:
    return record.threadName != _NAME


def _present(folders: Iterable[str]) -> Iterator[tuple[str, int]]:
    for folder in folders:
        with contextlib.suppress(OSError):
            yield folder, os.stat(folder).st_ino


def _polling() -> bool:
    """Tell whether watchfiles is not to ask the system; its documentation names the variable."""
    return os.environ.get("WATCHFILES_FORCE_POLLING", "").lower() not in ("", "false", "disable", "disabled")
