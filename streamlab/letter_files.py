"""The files of a dead letter queue: numbered segments of lines, of which the last one grows, and a lock.

The number of a segment is never used again, also when all are gone: the file ``lock`` has the last one, and the last that
there was when segments were changed, as then their length says nothing any more. Segments are only read from one end to the
other, or from their end: a queue may be much larger than memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator

from streamlab.appending import Appending, sync_folder

#: Bytes that are written at a time.
PIECE = 1 << 20
#: What there is in the folder: a lock, and files whose names begin so.
LOCK, SEGMENTS = "lock", "letters-"
#: Bytes of what is noted in the lock's file.
NOTE = 100
_SEGMENT = re.compile(SEGMENTS + r"([0-9]{8,})\.jsonl")


class LetterFiles:
    """The segments in a folder, by rising number.

    Args:
        folder: where they are.

    Attributes:
        last: number of the last one that there ever was; known to who holds the lock, as is what follows.
        changed: number of the last one that there was when they were changed.
        settled: a lineage, and how many letters of it are there to stay: later ones are taken back and written again when
            the run is gone on with; ``("", 0)`` where no run has said so.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.last = self.changed = 0
        self.settled = "", 0
        self._lock: int | None = None
        self._noting = threading.Lock()

    # The lock

    def lock(self) -> bool:
        """Hold the lock, and tell whether that is so: others may.

        Raises:
            OSError: it cannot be made.
        """
        descriptor = os.open(os.path.join(self.folder, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        noted = os.pread(descriptor, NOTE, 0).decode("ascii", "replace").split()
        last, changed, lineage, count = noted if len(noted) == 4 else ("0", "0", "", "0")
        self._lock = descriptor
        self.last = max(int(last), *(number for number, _ in self), 0)
        self.changed, self.settled = int(changed), ("" if lineage == "-" else lineage, int(count))
        return True

    def unlock(self) -> None:
        """Let others hold it; more than once is fine."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def settle(self, lineage: str, count: int) -> None:
        """Write down what is ``settled``; this may be lost, but for the first of a lineage.

        Raises:
            OSError: it cannot be written.
        """
        first = lineage != self.settled[0]
        self.settled = lineage, count
        self._note()
        if first and self._lock is not None:
            os.fsync(self._lock)

    def _note(self) -> None:
        with self._noting:
            if self._lock is not None:
                lineage, count = self.settled
                note = f"{self.last:08}\n{self.changed:08}\n{lineage or '-'}\n{count:018}\n"
                os.pwrite(self._lock, note.encode().ljust(NOTE), 0)

    # The segments

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield numbers and paths of those that there are now."""
        names = filter(_SEGMENT.fullmatch, os.listdir(self.folder) if os.path.isdir(self.folder) else ())
        for name in sorted(names, key=lambda name: (len(name), name)):
            yield int(name[8:-6]), os.path.join(self.folder, name)

    def size(self) -> int:
        """Return how many bytes they have."""
        total = 0
        for _, path in self:
            with contextlib.suppress(FileNotFoundError):  # it is being purged
                total += os.path.getsize(path)
        return total

    def begin_next(self) -> Appending:
        """Begin the next one.

        Raises:
            OSError: it cannot be made.
        """
        self.last += 1
        try:
            self._note()
            return Appending(os.path.join(self.folder, f"{SEGMENTS}{self.last:08}.jsonl"))
        except BaseException:
            self.last -= 1
            raise

    def begin_changing(self) -> None:
        """Write down that the length of those that there are says nothing from now on.

        Raises:
            OSError: it cannot be known that this lasts.
        """
        self.changed = self.last
        self._note()
        assert self._lock is not None
        os.fsync(self._lock)

    def backwards(self) -> Iterator[bytes]:
        """Yield the lines of all, the last one first; nobody writes to them meanwhile."""
        for _, path in reversed([*self]):
            if os.path.getsize(path):
                with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                    end = len(text)
                    while end:
                        start = text.rfind(b"\n", 0, end - 1) + 1
                        yield text[start:end]
                        end = start


def lines(path: str, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of a segment from a byte on; the last one may have no end. One that is gone has none."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        file.seek(start)
        yield from file


def count(path: str) -> int:
    """Return how many lines a segment has."""
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(PIECE), b""))


def pieces(lines: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield lines together, as long as they have so many bytes at most.

    >>> [*pieces([b"a", b"b", b"long", b"c"], 3)]
    [b'ab', b'long', b'c']
    """
    together: list[bytes] = []
    length = 0
    for line in lines:
        if together and length + len(line) > size:
            yield b"".join(together)
            together, length = [], 0
        together.append(line)
        length += len(line)
    if together:
        yield b"".join(together)


def leave_out(path: str, start: int, stays: Callable[[bytes], bool]) -> None:
    """Have only the lines in a segment that are before a byte, or stay; it is read from there on.

    Raises:
        OSError: there is no room, or the like; then it is as it was.
    """

    def kept() -> Iterator[bytes]:
        at = 0
        for line in lines(path):
            if at < start or stays(line):
                yield line
            at += len(line)

    if not all(map(stays, lines(path, start))):
        rewrite(path, kept())


def rewrite(path: str, lines: Iterable[bytes]) -> None:
    """Have these lines in a segment instead of those that are there, all at once; without any it goes.

    Raises:
        OSError: there is no room, or the like; then it is as it was.
    """
    part = Appending(f"{path}.part")
    try:
        part.cut(0)
        for piece in pieces(lines, PIECE):
            part.write(piece)
        part.sync()
    finally:
        part.close()
    if part.length:
        os.rename(part.path, path)
    else:
        os.unlink(part.path)
        os.unlink(path)
    sync_folder(path)
