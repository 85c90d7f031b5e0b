"""The files of a dead letter queue: numbered segments of lines, of which the last one grows, a lock, and notes of runs.

The number of a segment is never used again, also when all are gone: the lock's file has the last one, and the last that
there was when segments were changed, as then their length says nothing any more. Segments are only read from one end to the
other, or from their end: a queue may be much larger than memory. A run that others can go on with has a note, as long as
there are letters of it that it would write again.
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
#: What there is in the folder besides segments and notes.
LOCK = "letters.lock"
#: Bytes that are read of a lock's file, or a note, at most.
NOTED = 100
_SEGMENT = re.compile(r"letters-([0-9]{8,18})\.jsonl")
_PART = ".part"
_NOTE = re.compile(r"letters-([0-9A-Za-z]+)\.run")
_NUMBERS = re.compile(rb"([0-9]{8,18})\n([0-9]{8,18})\n")


def is_ours(name: str) -> bool:
    """Tell of a name in the folder whether it is of a file of the queue.

    >>> [is_ours(name) for name in ("letters-00000001.jsonl", "letters-00000001.jsonl.part", "letters-app.log")]
    [True, True, False]
    """
    return name == LOCK or bool(_SEGMENT.fullmatch(name.removesuffix(_PART)) or _NOTE.fullmatch(name))


def queue_in(checkpoint: str) -> str:
    """Return the folder of the queue that is in a checkpoint's.

    >>> queue_in("state")
    'state/dead_letters'
    """
    return os.path.join(checkpoint, "dead_letters")


class LetterFiles:
    """The segments in a folder, by rising number.

    Args:
        folder: where they are.

    Attributes:
        last: number of the last one that there ever was; known to who holds the lock, as is what follows.
        changed: number of the last one that there was when they were changed.
        settled: of lineages that have a note, how many letters are there to stay: later ones are taken back and written
            again when the run is gone on with.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.last = self.changed = 0
        self.settled: dict[str, int] = {}
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
        self._lock = descriptor
        try:
            noted = _NUMBERS.match(os.pread(descriptor, NOTED, 0))
            last, self.changed = map(int, noted.groups()) if noted else (0, 0)
            self.last = max(last, *(number for number, _ in self), 0)
            self.settled = dict(self._notes())
        except BaseException:
            self.unlock()
            raise
        return True

    def unlock(self) -> None:
        """Let others hold it; more than once is fine."""
        with self._noting:
            descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def _write_numbers(self) -> None:
        assert self._lock is not None
        os.pwrite(self._lock, f"{self.last:08}\n{self.changed:08}\n".encode(), 0)

    # The notes

    def _notes(self) -> Iterator[tuple[str, int]]:
        for found in filter(None, map(_NOTE.fullmatch, os.listdir(self.folder))):
            with open(self._note(found[1]), "rb") as file:
                text = file.read(NOTED).strip()
            yield found[1], int(text) if text.isdigit() else 0  # of one that a power cut took, none is known to stay

    def _note(self, lineage: str) -> str:
        return os.path.join(self.folder, f"letters-{lineage}.run")

    def settle(self, lineage: str, count: int) -> None:
        """Note how many letters of a lineage are ``settled``; this may be lost, but for the first time.

        Raises:
            OSError: it cannot be written.
        """
        with self._noting:
            if self._lock is None:  # it is too late
                return
            path = self._note(lineage)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(descriptor, f"{count:018}\n".encode(), 0)
                if lineage not in self.settled:
                    os.fsync(descriptor)
                    sync_folder(path)
            finally:
                os.close(descriptor)
            self.settled[lineage] = count

    def forget(self, lineage: str) -> None:
        """Remove the note of a lineage: all its letters are there to stay.

        Raises:
            OSError: it cannot be removed.
        """
        with self._noting:
            if self.settled.pop(lineage, None) is not None:
                os.unlink(self._note(lineage))

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
            self._write_numbers()
            return Appending(os.path.join(self.folder, f"letters-{self.last:08}.jsonl"))
        except BaseException:
            self.last -= 1
            raise

    def begin_changing(self) -> None:
        """Write down that the length of those that there are says nothing from now on.

        Raises:
            OSError: it cannot be known that this lasts.
        """
        self.changed = self.last
        self._write_numbers()
        assert self._lock is not None
        os.fsync(self._lock)

    def backwards(self) -> Iterator[bytes]:
        """Yield the lines of all, the last one first; nobody writes to them meanwhile."""
        for _, path in reversed([*self]):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # else it has been purged
                if os.fstat(file.fileno()).st_size:
                    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                        yield from _backwards(text)


def lines(path: str, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of a segment from a byte on; the last one may have no end. One that is gone has none."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        file.seek(start)
        yield from file


def _backwards(text: mmap.mmap) -> Iterator[bytes]:
    end = len(text)
    while end:
        start = text.rfind(b"\n", 0, end - 1) + 1
        yield text[start:end]
        end = start


def remove(path: str) -> int:
    """Remove a segment, and return how many lines went; none if somebody else has removed it.

    Raises:
        OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        os.unlink(path)  # first, so that of two who do so only one tells of it
        return sum(block.count(b"\n") for block in iter(lambda: file.read(PIECE), b""))
    return 0


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
    part = Appending(path + _PART)
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
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    sync_folder(path)
