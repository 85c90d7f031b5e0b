"""How far files were read, in this run and in the ones before; which of them a file is that has been opened."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from streamlab.identity import Key, Mark
from streamlab.notices import Notice
from streamlab.sources.text import Text

#: Files that are known though there is nothing at their path any more, and none of them is to be read: at most so many.
GONE = 1000

_NOTHING = Mark.of(b"", 0)


@dataclass(slots=True)
class Read:
    """What was read of a file.

    Attributes:
        path: where it was found, absolute.
        key: which file it was.
        head: what its text begins with.
        passed: up to where lines have passed, with what comes before.
        last: where the last line begins that has passed.
    """

    path: str
    key: Key
    head: Mark = _NOTHING
    passed: Mark = _NOTHING
    last: int = 0


class Remembered:
    """Knows files by what is in them, at the same path or in the same file.

    Args:
        notices: takes what is to be said.
    """

    def __init__(self, notices: deque[Notice]) -> None:
        self._notices = notices
        self._all: list[Read] = []  # only added to, or one replaced: another thread may look at it at any moment
        self._suspects: dict[str, list[int]] = {}  # which of an earlier run may be at a path, likely ones first
        self._chances: dict[int, int] = {}  # at how many paths those may still be that were not found

    def saved(self) -> list[Any]:
        """Return what was read, as plain data; from any thread."""
        return [[read.path, list(read.key), list(read.head), list(read.passed), read.last] for read in tuple(self._all)]

    def restore(self, saved: Iterable[Any], files: Iterable[tuple[str, Key]]) -> None:
        """Take in what was `saved`, and which files, by path, are to be read now."""
        before = [Read(path, (dev, ino), Mark(*head), Mark(*passed), last) for path, (dev, ino), head, passed, last in saved]
        now = [(os.path.abspath(path), key) for path, key in files]
        self._all += _kept(before, {place for file in now for place in file})
        places: defaultdict[str | Key, list[int]] = defaultdict(list)
        for index, read in enumerate(self._all):
            self._chances[index] = 0
            places[read.path].append(index)
            places[read.key].append(index)
        for full, key in now:
            if full not in self._suspects:
                in_both = [index for index in places[full] if index in places[key]]
                self._suspects[full] = list(dict.fromkeys((*in_both, *places[key], *places[full])))
            for index in self._suspects[full]:
                self._chances[index] += 1

    def recognise(self, text: Text, path: str, key: Key) -> tuple[Read, int]:
        """Return what was read of a file that has just been opened, and the offset to go on at; the text goes there.

        Raises:
            SourceError: it cannot be read, or is packed and damaged.
        """
        full = os.path.abspath(path)
        place = len(self._all)
        for index in self._suspects.get(full, ()):
            known = self._all[index]
            if index in self._chances and known.passed.offset and text.holds(known.head, known.passed):
                del self._chances[index]
                read = self._all[index] = Read(full, key, known.head, known.passed, known.last)
                return read, self._go_on(text, path, read)
        for index in self._suspects.get(full, ()):
            if index in self._chances:
                self._chances[index] -= 1
                if not self._chances[index]:
                    del self._chances[index]
                    place = index
                    self._say_other(path, self._all[index])
        text.go_to(0)
        read = Read(full, key)
        self._all[place : place + 1] = [read]
        return read, 0

    def _go_on(self, text: Text, path: str, read: Read) -> int:
        """Go to the line after the last one that has passed, or back to that one, if it was half a line."""
        offset = read.passed.offset
        if text.before.endswith(b"\n") or not (more := text.peek()):
            return offset
        if more.startswith((b"\n", b"\r\n")):  # only its end was missing
            offset += more.index(b"\n") + 1
        else:
            message = (
                f"the last line of {path} had no end when it was read, and has been continued: it comes once more, whole"
            )
            self._notices.append(Notice("continued", path, message))
            offset = read.last
        text.go_to(offset)
        return offset

    def _say_other(self, path: str, known: Read) -> None:
        if known.passed.offset:
            message = (
                f"{path} does not hold what was read of {known.path if known.path != os.path.abspath(path) else 'it'}"
                f" before, {known.passed.offset:,} bytes: it is read from its beginning"
            )
            self._notices.append(Notice("replaced", path, message))


def _kept(before: list[Read], now: set[str | Key]) -> list[Read]:
    """Return what is known of all files but those that have long been gone: the last ones of these are kept, too."""
    gone = [read for read in before if not (read.path in now or read.key in now or os.path.lexists(read.path))]
    forgotten = {id(read) for read in gone[:-GONE]}
    return [read for read in before if id(read) not in forgotten]
