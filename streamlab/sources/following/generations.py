"""What was written under a followed name, one content after the other: how far each is read, and how it is known again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.identity import HEAD, TAIL, Key, Mark, Stretch, key_of
from streamlab.sources.compressed import BLOCK, extension, unpacked
from streamlab.sources.lines import LineSplitter
from streamlab.sources.reader import Starts

#: Marks that are kept of what was read last, for a copy that ends before.
MARKS = 8
#: Bytes of a line that has not ended that are kept of a file that is closed for now.
HALF = 64 * 1024


class Generation:
    """One content: what was written under a name between two rotations, in whatever file it is by now.

    It has a file (`key` says which) that is open while it is read, or none at all: of one that was truncated, the content
    may be in a copy, or lost.

    Args:
        name: the followed name; what its lines say they are from.
        path: where the file is.
        splitter: makes lines of its bytes.

    Attributes:
        folder: where the file really is.
        key: of its file; ``None`` if there is none that is known to hold it.
        descriptor: of the file while it is open.
        packed: whether the file is compressed.
        at: bytes of text that were read.
        begun: where the line begins that has not ended.
        passed: up to where lines have passed, with what comes before.
        length: bytes of the file when it was last looked at.
        size: the most that it is known to have had.
        stamp: length and time of modification of the file; while it has both, it was not written to.
        modified: when it was last written to while it was at its name, in nanoseconds.
        left: when it was seen to be at its name no more, by the monotonic clock.
        grew: when it was last seen to grow.
        came: when it was found; 0 if that was before this process.
        removed: whether no name leads to the file.
        sealed: whether nothing more will be in its file: it is a copy, an archive that was read, or there is none.
        spent: whether nothing is to be read in its file: it has none, or one that ends before what was read.
        checked: whether it is known not to be a copy of something else, and complete if it is an archive.
        vetted: whether names were looked at since there is something in it: before, it may have been emptied unseen.
        cut: whether it was cut off: its file holds something else now.
        restored: whether it is known from an earlier process, and was not opened since.
        reborn: whether it follows a truncation in the same file.
        over: whether all of it was read, and nothing more is expected.
        foreign: whether it was there before its name was followed, and is not to be read.
        original: of an archive that is left out: the one that is read where it is, as long as that may be needed.
    """

    def __init__(self, name: str, path: str, splitter: LineSplitter) -> None:
        self.name = name
        self.path = path
        self.folder = os.path.dirname(os.path.realpath(path))
        self.key: Key | None = None
        self.descriptor: int | None = None
        self.packed = bool(extension(path))
        self.at = self.begun = self.length = self.size = 0
        self.passed = Mark.of(b"", 0)
        self.stamp = (-1, -1)
        self.modified = 0
        self.left: float | None = None
        self.grew = self.came = 0.0
        self.removed = self.sealed = self.spent = self.checked = self.vetted = self.cut = False
        self.restored = self.reborn = self.over = self.foreign = False
        self.original: Generation | None = None
        self._splitter = splitter
        self._head = b""
        self._head_mark: Mark | None = None  # of that; known without it from an earlier process
        self._tail = b""
        self._marks: deque[Mark] = deque(maxlen=MARKS)
        self._blocks: Iterator[bytes] | None = None

    # Its file

    def attach(self, descriptor: int, path: str) -> None:
        """Read from an open file from now on, and close it in the end."""
        self.detach()
        status = os.fstat(descriptor)
        self.descriptor, self.restored, self.spent = descriptor, False, False
        self.point(status, path)
        if self.packed:
            os.lseek(descriptor, 0, os.SEEK_SET)
            file = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115  (the descriptor is closed by detach)
            self._blocks = _beyond(self.at, unpacked(file, path))
            return
        if len(self._head) < HEAD:
            self._head = os.pread(descriptor, HEAD, 0)
        if len(self._tail) < min(self.at, TAIL):
            self._tail = os.pread(descriptor, TAIL, max(self.at - TAIL, 0))[: self.at]

    def point(self, status: os.stat_result, path: str) -> None:
        """Take note of which file it is in."""
        self.key, self.path, self.packed = key_of(status), path, bool(extension(path))
        self.folder = os.path.dirname(os.path.realpath(path))
        self.note(status)

    def move(self, folders: Mapping[str, str]) -> None:
        """Take note that folders are called otherwise than they were."""
        self.name, self.path = _moved(self.name, folders), _moved(self.path, folders)
        if not os.path.isdir(self.folder):
            self.folder = os.path.dirname(os.path.realpath(self.path))

    def detach(self) -> None:
        """Close the file; it is read on from the same place when it is attached again."""
        if self.descriptor is None:
            return
        if self.at - self.begun > HALF and not self.packed:
            same = self.holds(self.descriptor)
            self._splitter.finish()
            self.at = self.begun
            self._tail = os.pread(self.descriptor, min(self.at, TAIL), max(self.at - TAIL, 0)) if same else b""
        os.close(self.descriptor)
        self.descriptor = self._blocks = None

    def note(self, status: os.stat_result) -> bool:
        """Take note of the state of the file; tell whether it has changed."""
        stamp = stamp_of(status)
        changed = stamp != self.stamp
        self.stamp = stamp
        self.removed = not status.st_nlink
        if not self.packed:
            self.length = status.st_size
            self.size = max(self.size, self.length)
        return changed

    def holds(self, descriptor: int) -> bool:
        """Tell whether an open file is still the one that was read: by its beginning, and the bytes before the offset."""
        head = self.first()
        return (
            os.fstat(descriptor).st_size >= self.at
            and (head is None or head.fits(descriptor))
            and self._ends().fits(descriptor)
        )

    def begins(self) -> bool:
        """Tell whether there is something in it; what it begins with is known from then on."""
        if not self._head and self.descriptor is not None:
            self._head = os.pread(self.descriptor, HEAD, 0)
        return bool(self._head)

    def spend(self) -> None:
        """Take note that nothing more is to be read of it."""
        self.sealed = self.spent = True
        self.length = self.size = self.at

    def leave_out(self) -> None:
        """Read nothing of what is in the file now."""
        if self.descriptor is not None and not self.packed:
            self.at = self.begun = self.length
            self._tail = os.pread(self.descriptor, TAIL, max(self.at - TAIL, 0))
            self.passed = Mark.of(self._tail, self.at)
        self.foreign = self.over = self.checked = True

    # Reading it

    @property
    def unread(self) -> bool:
        """Whether there is more to read, or less than there was."""
        if self.spent:
            return False
        return not self.sealed if self.packed else self.length != self.at or self.length < self.size

    @property
    def is_through(self) -> bool:
        """Whether it is over, and all that was read of it has passed."""
        return self.over and self.passed.offset >= self.at

    @property
    def is_known(self) -> bool:
        """Whether anything is known of its content."""
        return bool(self.at or self._head or self._head_mark)

    @property
    def half(self) -> bool:
        """Whether a line has begun and not ended."""
        return self.at > self.begun

    def take(self, upto: int) -> Chunk | None:
        """Return the lines that end in the next block before an offset; ``None`` if the file holds something else by now.

        Raises:
            OSError: it cannot be read.
            SourceError: it is compressed, and damaged.
        """
        if self._blocks is not None:
            block = next(self._blocks, None)
            self.sealed = block is None
            return Chunk([]) if block is None else self._split(block)
        if self.descriptor is None or upto < self.at:
            return None
        if self.reborn and not self.at:
            self._skip_hole(self.descriptor)
        held = len(self._tail)
        wanted = held + min(max(upto - self.at, 0), BLOCK)
        data = os.pread(self.descriptor, wanted, self.at - held)
        known = self._tail if self.at > TAIL else self._head[:wanted]
        if len(data) < wanted or not data.startswith(known):
            return None
        if self.at <= TAIL:
            self._head = max(self._head, data[:HEAD], key=len)
        return self._split(data[held:]) if len(data) > held else Chunk([])

    def finish(self) -> Chunk:
        """Return the line that has begun and not ended, if there is one."""
        chunk = self._splitter.finish()
        chunk.source = self.name
        if chunk.lines:
            chunk.places = Places(Stretch(self, self.at, self._tail, b""), (self.begun, self.at))
            self.begun = self.at
        return chunk

    def _split(self, block: bytes) -> Chunk:
        chunk = self._splitter.feed(block)
        chunk.source = self.name
        if chunk.lines:
            chunk.places = Places(Stretch(self, self.at, self._tail, block), Starts(self.begun, self.at, block))
            self.begun = self.at + block.rfind(b"\n") + 1
        self.at += len(block)
        self.size = max(self.size, self.at)
        self._tail = block[-TAIL:] if len(block) >= TAIL else (self._tail + block)[-TAIL:]
        self._marks.append(Mark.of(self._tail, self.at))
        if self.packed and len(self._head) < HEAD and len(self._head) == self.at - len(block):
            self._head = (self._head + block)[:HEAD]
        return chunk

    def _skip_hole(self, descriptor: int) -> None:
        """Leave out the zeros that a writer leaves which does not append: it goes on where it was before the truncation."""
        try:
            start = os.lseek(descriptor, 0, os.SEEK_DATA)
        except OSError:  # there is nothing but a hole
            return
        while block := os.pread(descriptor, BLOCK, start):
            zeros = len(block) - len(block.lstrip(b"\0"))
            start += zeros
            if zeros < len(block):
                break
        if not start:
            return
        self.at = self.begun = start
        self._head = os.pread(descriptor, HEAD, 0)
        self._tail = os.pread(descriptor, min(self.at, TAIL), max(self.at - TAIL, 0))
        self.passed = Mark.of(self._tail, self.at)

    # Knowing it again

    def mark(self, mark: Mark) -> None:
        """Keep one more mark of it."""
        self._marks.append(mark)

    def marks(self) -> list[Mark]:
        """Return what is known of its content, by rising offset."""
        head = self.first()
        known = {mark.offset: mark for mark in (*self._marks, self._ends(), *([head] if head else ())) if mark.length}
        return [known[offset] for offset in sorted(known)]

    def begins_like(self, data: bytes) -> bool:
        """Tell whether its beginning and that of another content agree, as far as both are known."""
        length = min(len(self._head), len(data))
        return self._head[:length] == data[:length]

    def is_in(self, descriptor: int) -> bool:
        """Tell whether an open file is a copy of this, perhaps with more behind it, or of a beginning of this."""
        size = os.fstat(descriptor).st_size
        if size <= len(self._head):
            return size > 0 and os.pread(descriptor, size, 0) == self._head[:size]
        marks = [mark for mark in self.marks() if mark.offset <= size]
        near = bool(marks) and (size >= self.at or size - marks[-1].offset <= BLOCK)
        return near and all(mark.fits(descriptor) for mark in marks)

    def first(self) -> Mark | None:
        """Return what it begins with, if that is known."""
        if self._head and (self._head_mark is None or self._head_mark.length != len(self._head)):
            self._head_mark = Mark.of(self._head, len(self._head))
        return self._head_mark

    def _ends(self) -> Mark:
        return Mark.of(self._tail, self.at) if len(self._tail) == min(self.at, TAIL) else self.passed

    def compact(self) -> None:
        """Keep of what is known of it only what another process would know as well."""
        self.first()
        self._head = self._tail = b""
        self._marks.clear()

    # Beyond this process

    def saved(self, missed: Key | None = None) -> dict[str, Any] | list[Any]:
        """Return what another process needs to go on with it, as plain data: little of an archive that is done with.

        Args:
            missed: its file that is not there, and may come back.
        """
        if self.packed and self.key is not None and self.is_through:
            return [self.name, None if self.path == self.name else self.path, *self.key, *self.stamp, self.foreign]
        head = self.first()
        return {
            "name": self.name,
            "path": self.path,
            "folder": self.folder,
            "key": None if self.key is None else list(self.key),
            "missed": None if missed is None else list(missed),
            "head": None if head is None else list(head),
            "passed": list(self.passed),
            "size": self.size,
            "stamp": list(self.stamp),
            "modified": self.modified,
            "cut": self.cut,
            "reborn": self.reborn,
            "left": self.left is not None,
            "checked": self.checked,
            "over": self.is_through,
            "foreign": self.foreign,
        }

    @classmethod
    def restored_from(cls, saved: dict[str, Any] | list[Any], splitter: LineSplitter) -> Generation:
        """Return what was `saved`; it has no file yet, but ``key`` says which it had."""
        if isinstance(saved, list):
            name, path, device, inode, size, modified, foreign = saved
            generation = cls(os.path.abspath(name), os.path.abspath(path or name), splitter)
            generation.key, generation.stamp, generation.modified = (device, inode), (size, modified), modified
            generation.over = generation.checked = generation.sealed = generation.vetted = generation.restored = True
            generation.foreign, generation.left = foreign, None if path is None else 0.0
            return generation
        generation = cls(os.path.abspath(saved["name"]), os.path.abspath(saved["path"]), splitter)
        if os.path.isdir(saved.get("folder", "")):  # a link may lead elsewhere by now
            generation.folder = saved["folder"]
        generation.key = None if saved["key"] is None else (saved["key"][0], saved["key"][1])
        generation._head_mark = None if saved["head"] is None else Mark(*saved["head"])
        generation.passed = Mark(*saved["passed"])
        generation.at = generation.begun = generation.passed.offset
        generation.length = generation.at
        generation.size = max(saved["size"], generation.at)
        generation.stamp = (saved["stamp"][0], saved["stamp"][1])
        generation.modified = saved["modified"]
        generation.checked, generation.over, generation.foreign = saved["checked"], saved["over"], saved["foreign"]
        generation.cut, generation.reborn = saved["cut"], saved.get("reborn", False)
        generation.left = 0.0 if saved["left"] else None
        generation.restored, generation.vetted = True, saved["head"] is not None
        return generation


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """Return what is the same as long as nothing is written to a file."""
    return status.st_size, status.st_mtime_ns


def _moved(path: str, folders: Mapping[str, str]) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folders.get(folder, folder), name)


def _beyond(start: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out the first bytes."""
    for block in blocks:
        if start < len(block):
            yield block[start:]
        start = max(start - len(block), 0)
