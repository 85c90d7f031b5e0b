"""Files that grow, followed for ever: through rotation, truncation, removal and compression."""

from __future__ import annotations

import glob
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.following.catalogue import Catalogue
from streamlab.sources.following.copies import Copies
from streamlab.sources.following.generations import Generation
from streamlab.sources.following.lineages import Lineage
from streamlab.sources.following.register import Register
from streamlab.sources.following.watching import Watching
from streamlab.sources.lines import LineSplitter
from streamlab.sources.locate import is_pattern
from streamlab.sources.own import Own

#: Seconds between two looks at open files: with few of them, and with however many.
LOOK, LOOK_AT_LEAST = 0.025, 0.25
#: Seconds between two looks at names: where the system tells of changes, where it does not, and with however many.
POLL, POLL_UNTOLD, POLL_AT_LEAST = 1.0, 0.25, 10.0
#: Share of the time that may be spent on looks at open files, and on looks at names, while nothing happens.
SHARE = 0.01
#: Share of the time that may be spent on looks at names while they come and go.
BUSY_SHARE = 0.1
#: Seconds between two looks for generations that can be forgotten.
FORGET = 5.0


class FollowSource:
    """The lines of files as they are written, from the beginning of each; the end comes only with `close`.

    Files may appear late, be rotated by renaming or by copying and truncating, be removed and come back, be compressed once
    they are rotated. Each line comes once, when its ``\\n`` has come: in the order of a file, and of the files that were at
    a name one after another. A last line without ``\\n`` comes when nothing more is expected of its file.

    Args:
        where: files, globs and folders, as of `find_files`; none of them need be there yet. Lines say that they are from the
            absolute path, so that it does not matter how it is spelled.
        name: what to call them all in messages; by default the path, or the first one and how many more.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        columns: whether to give lines as columns.
        grace: seconds in which nothing is written to a file that was rotated away or removed, until nothing more is
            expected of it; the same for a file that may be a copy in the making, or an archive that is being written.
        open_files: how many files are kept open at a time, about.

    Attributes:
        blocking: true; `read` waits for lines.
        notices: what was lost, and what cannot be read; when many wait to be taken, further ones are counted together.

    Raises:
        SourceError: there is nothing to follow.

    >>> import tempfile, pathlib
    >>> log = pathlib.Path(tempfile.mkdtemp(), "app.log")
    >>> source = FollowSource([log])
    >>> log.write_text("one\\ntwo\\nthr")
    11
    >>> source.read(10).lines
    ['one', 'two']
    >>> source.close()
    >>> source.read(10).lines
    []
    """

    kind = "followed files"
    blocking = True

    def __init__(
        self,
        where: Sequence[str | os.PathLike[str]],
        *,
        name: str | None = None,
        max_line_bytes: int = 1_048_576,
        columns: bool = False,
        grace: float = 3.0,
        open_files: int = 256,
    ) -> None:
        paths = [where] if isinstance(where, (str, os.PathLike)) else list(where)
        if not paths:
            raise SourceError("there are no files to follow: give at least one path")
        given = [os.fspath(path) for path in paths]
        self.name = name or (given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more")
        self.notices: deque[Notice] = deque()
        self._where = [_absolute(os.path.expanduser(path)) for path in given]
        self._grace = grace
        self._register = Register(lambda: LineSplitter(max_line_bytes, columns=columns), self.notices, open_files)
        self._copies = Copies(self._register, grace)
        self._catalogue = Catalogue(self._where, self._register, self._copies)
        self._watching = Watching()
        self._guard = threading.Lock()  # who holds it may change what is known of files
        self._closed = False
        self._rest = Chunk([])
        self._active: dict[Lineage, None] = {}  # those with open files, or something that is waited for
        self._ready: dict[Lineage, None] = {}  # those with something to do, in turn
        self._next_look = self._next_scan = self._next_forget = 0.0
        self._earliest_scan = 0.0  # also when names have changed

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines of one file as soon as there are any; an empty chunk after `close`."""
        try:
            while not self._closed:
                with self._guard:
                    busy = self._step()
                    chunk = self._take(limit)
                if chunk.lines:
                    return chunk
                if not busy:
                    self._watching.wait(max(min(self._next_look, self._next_scan) - time.monotonic(), 0.0))
        finally:
            if self._closed:
                self.close()
        return Chunk([])

    def leave_out(self, own: Own) -> None:
        """Leave out what the run itself writes.

        Raises:
            SourceError: one of the paths that are to be followed is just that.
        """
        for path in self._where:
            own.refuse(path)
        with self._guard:
            self._register.own = own

    def resume(self, position: Any) -> None:
        """Go on where the source was whose `position` this is; files that it did not have are read whole."""
        with self._guard:
            self._register.restore(position["generations"])
            self._catalogue.restore(position)

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        if count:
            places.within.pass_to(places.start(count))

    def position(self) -> dict[str, Any]:
        """Return where to go on after the lines that have passed, as plain data."""
        with self._guard:
            return {"generations": self._register.saved(), **self._catalogue.saved()}

    def progress(self) -> None:
        """Return ``None``: there is no end to measure by."""
        return None

    def close(self) -> None:
        """Stop waiting, and close all files; more than once is fine."""
        self._closed = self._catalogue.ended = True
        self._watching.wake()
        # A signal's handler may call this in the middle of a step of the same thread: then the end of `read` closes them.
        if self._guard.acquire(timeout=0.2):
            try:
                for generation in list(self._register.opened):
                    self._register.close(generation)
                self._copies.close()
                self._rest = Chunk([])
                self._watching.close()
            finally:
                self._guard.release()

    # What `read` does between two looks at whether it is to end

    def _take(self, limit: int) -> Chunk:
        if len(self._rest.lines) <= limit:
            chunk, self._rest = self._rest, Chunk([])
        else:
            chunk, self._rest = self._rest.split(limit)
        return chunk

    def _step(self) -> bool:
        """Do a bit of what is to be done until there are lines; tell whether there is more to do right now."""
        if self._closed or self._rest.lines:
            return True
        now = time.monotonic()
        self._look_around(now)
        lineage = next(iter(self._ready), None)
        if lineage is None:
            return False
        del self._ready[lineage]
        if self._turn(lineage, now):
            self._ready[lineage] = None
        return True

    def _look_around(self, now: float) -> None:
        """Look at what may have changed, as far as it is time to."""
        names, grown = self._watching.news()
        if names:
            self._next_scan = min(self._next_scan, self._earliest_scan)
        if self._register.again or now >= self._next_scan:
            self._scan(now)
        for path in grown:
            self._catalogue.look_at(path)
        self._catalogue.requeue()
        while self._catalogue.stirred:
            lineage = self._catalogue.stirred.pop()
            self._active[lineage] = self._ready[lineage] = None
        if now >= self._next_look or names or grown:
            self._look(now)

    def _scan(self, now: float) -> None:
        """Look at names."""
        start = time.thread_time()
        self._catalogue.scan(now)
        if self._watching.watch(self._catalogue.folders()):
            self._register.again = True  # nobody told of what changed until now
        if now >= self._next_forget:
            self._next_forget = now + FORGET
            self._register.forget(now)
        took = time.thread_time() - start
        self._next_scan = now + min(max(POLL if self._watching.told else POLL_UNTOLD, took / SHARE), POLL_AT_LEAST)
        self._earliest_scan = now + took / BUSY_SHARE

    def _look(self, now: float) -> None:
        """Look at the files that are open, and at what has waited long enough."""
        start = time.thread_time()
        for lineage in list(self._active):
            if any(self._wants(generation, now) for generation in lineage.queue):
                self._ready[lineage] = None
            elif not any(generation.descriptor is not None or generation.left is not None for generation in lineage.queue):
                del self._active[lineage]
        self._next_look = now + min(max(LOOK, (time.thread_time() - start) / SHARE), LOOK_AT_LEAST)

    def _wants(self, generation: Generation, now: float) -> bool:
        """Tell whether there is something to do for a generation."""
        self._measure(generation, now)
        if generation.left is not None and generation.descriptor is None:
            return True
        return generation.unread or not (generation.checked or generation.length == 0) or self._is_over(generation, now)

    def _measure(self, generation: Generation, now: float) -> int:
        """Return up to where there is something to read."""
        if generation.packed or generation.descriptor is None:
            return generation.length
        status = None
        with self._register.reading(generation.path):
            status = os.fstat(generation.descriptor)
        if status is None:  # as of a file on a network that is not there any more; if there is one, it is opened again
            self._register.close(generation)
        elif generation.note(status):
            generation.grew = now
        return generation.length

    def _is_over(self, generation: Generation, now: float) -> bool:
        """Tell whether all is read of a generation, and nothing more is expected."""
        if generation.unread:
            return False
        return generation.sealed or (
            generation.left is not None and now - max(generation.left, generation.grew) >= self._grace
        )

    def _turn(self, lineage: Lineage, now: float) -> bool:
        """Read the next block of what was written under a name; tell whether there may be more right now."""
        again = False
        for generation in list(lineage.queue):
            if generation.packed and not generation.checked:
                again = self._copies.inspect(generation, now) or again
        lineage.queue = deque(each for each in lineage.queue if each in self._register and not each.over)
        # What is written to a file comes after all that was written to the one before: so older ones are measured last.
        upto = {generation: self._measure(generation, now) for generation in reversed(lineage.queue)}
        for generation in list(lineage.queue):
            with self._register.reading(generation.path):
                moved = self._advance(generation, upto[generation], now)
                if moved is None:
                    continue
                return moved or again
            return again
        return again

    def _advance(self, generation: Generation, upto: int, now: float) -> bool | None:
        """Do the next thing for a generation: read a block of it, or find its file; tell whether something was done.

        Returns:
            ``None`` when there is nothing to do, and the next one may be read.
        """
        if generation.packed and not generation.checked:
            return False
        if generation.key is None and not generation.sealed and not self._copies.is_lost(generation):
            return False
        needed = generation.key is not None and (generation.unread or generation.left is not None)
        if needed and generation.descriptor is None and not self._copies.check(generation, now):
            return False
        if not generation.vetted and generation.left is None and not (generation.at or generation.packed):
            self._register.again = self._register.again or generation.length > 0
            return False
        if not generation.checked and generation.length and self._copies.is_held(generation, now):
            return False
        if generation.unread:
            return self._read(generation, upto, now)
        if self._is_over(generation, now):
            self._rest = generation.finish()
            self._register.finish(generation)
            return True
        return False if generation.half and generation.left is not None else None

    def _read(self, generation: Generation, upto: int, now: float) -> bool:
        chunk = generation.take(upto)
        if chunk is None:
            self._copies.cut(generation, now)
            self._register.again = True
            return False
        self._rest = chunk
        self._register.touch(generation)
        if generation.length < generation.size and not generation.packed:
            lost, generation.size = generation.size - generation.length, generation.length
            message = f"{generation.name} lost its last {lost:,} bytes before they were read"
            self._register.say("truncated", generation.name, message, lost)
        return True


def _absolute(where: str) -> str:
    """Return the one spelling of a path, glob or folder; what the working folder is called is no part of a glob."""
    here = os.getcwd()
    path = os.path.join(glob.escape(here) if is_pattern(where) else here, where, "")
    inner, up, rest = path.rpartition("/../")
    return os.path.normpath(os.path.realpath(inner + up) + "/" + rest if up else path)  # above where a link leads
