"""Files that are taken up later: they could not be opened when they were found, or may be copies in the making."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from typing import Any

from streamlab.identity import HEAD, Key, key_of
from streamlab.sources.compressed import UNPACKERS
from streamlab.sources.following.copies import is_beginning
from streamlab.sources.following.folders import is_away
from streamlab.sources.following.generations import stamp_of
from streamlab.sources.following.lineages import Lineage
from streamlab.sources.following.register import Register, open_file
from streamlab.sources.following.rotation import is_rotated


@dataclass(frozen=True, slots=True)
class LateFile:
    """A file with a rotated name that is not taken up yet.

    Attributes:
        key: of the file.
        path: where it was found.
        name: the followed name that it was rotated from.
        folder: where it is looked for.
        base: what its rotated names are made of.
        like: the file of which it holds a beginning; ``None`` if it could not be opened.
        since: when it was found, or was seen to change, by the monotonic clock.
        stamp: its length and time of modification then.
    """

    key: Key
    path: str
    name: str
    folder: str
    base: str
    like: Key | None
    since: float
    stamp: tuple[int, int] = (-1, -1)


class Late:
    """Keeps files until they can be opened, and copies in the making until it is known what they are.

    Args:
        register: the generations.
        grace: seconds for which younger files wait for one that cannot be opened, and in which a copy that is made changes.
    """

    def __init__(self, register: Register, grace: float) -> None:
        self._register = register
        self._grace = grace
        self._files: dict[Key, LateFile] = {}

    def add(self, lineage: Lineage, path: str, key: Key, now: float, like: Key | None = None) -> None:
        """Take note of a file that is to be taken up later, if that is new."""
        if key not in self._files:
            self._files[key] = LateFile(key, path, lineage.name, lineage.folder, lineage.base, like, now)

    def remove(self, key: Key) -> None:
        """Take note that a file has been taken up."""
        self._files.pop(key, None)

    def is_shut(self, key: Key) -> bool:
        """Tell whether a file could not be opened."""
        late = self._files.get(key)
        return late is not None and late.like is None

    def holds_up(self, key: Key, now: float) -> bool:
        """Tell whether what is younger is still to wait for a file that could not be opened."""
        return self.is_shut(key) and now - self._files[key].since < self._grace

    def is_awaited(self, lineage: Lineage, now: float) -> bool:
        """Tell whether what is at a name is still to wait for a file."""
        return any(late.name == lineage.name and self.holds_up(key, now) for key, late in self._files.items())

    def due(self, now: float) -> Iterator[LateFile]:
        """Yield those that may be opened by now, and no copies; say so of those that are copies, or have gone."""
        for key, late in list(self._files.items()):
            path, status = self._look(late)
            known = self._register.of(key)
            if known is not None:
                del self._files[key]
                if known.came > late.since and not is_rotated(os.path.basename(known.path), late.base):
                    yield from self._packed(late)  # it has gone, and a new file has got its inode
            elif status is None and is_away(late.folder, key[0]):
                continue
            elif status is None:
                del self._files[key]
                yield from self._packed(late)
            elif late.like is not None and stamp_of(status) != late.stamp:
                self._files[key] = replace(late, path=path, since=now, stamp=stamp_of(status))
            elif now - late.since >= self._grace:
                late = replace(late, path=path)
                if late.like is None or status.st_size < 2 * HEAD or not self._is_copy(late):
                    yield late
                else:
                    del self._files[key]
                    message = f"{path} holds what {late.name} begins with: it is taken for a copy of that, and not read"
                    self._register.say("copy", path, message)

    def saved(self) -> list[Any]:
        """Return them as plain data."""
        return [list(astuple(late)) for late in self._files.values()]

    def restore(self, saved: Sequence[Any]) -> None:
        """Take in what was `saved`."""
        for key, path, name, folder, base, like, _, stamp in saved:
            late = LateFile(tuple(key), path, name, folder, base, like and tuple(like), 0.0, tuple(stamp))
            self._files[late.key] = late

    def _look(self, late: LateFile) -> tuple[str, os.stat_result | None]:
        """Return where a file is by now, and its state; ``None`` when it is not in its folder any more."""
        for path in self._register.folders.look(late.folder).paths(late.key[1]):
            with suppress(OSError):
                status = os.stat(path)
                ours = is_rotated(os.path.basename(path), late.base) and not self._register.own.has(path, status)
                if key_of(status) == late.key and ours:  # else it is another file, which has got its inode
                    return path, status
        return late.path, None

    def _packed(self, late: LateFile) -> Iterator[LateFile]:
        """Yield what a file has been packed to that has gone; say so, if there is none."""
        for end in UNPACKERS:
            path = late.path + end
            with suppress(OSError):
                key = key_of(os.stat(path))
                if self._register.of(key) is None:
                    yield replace(late, path=path, key=key)
                    return
        why = "could be read" if late.like is None else "was known to be no copy of what came after it, and was not read"
        self._register.say("vanished", late.path, f"{late.path} was removed before it {why}", max(late.stamp[0], 0))

    def _is_copy(self, late: LateFile) -> bool:
        original = None if late.like is None else self._register.of(late.like)
        path = None if original is None else self._register.find(original)
        if path is None or late.like is None:
            return True
        try:
            descriptor = open_file(path, late.like)
        except OSError:  # it has got another name
            return True
        try:
            return is_beginning(late.path, late.key, descriptor, whole=True)
        finally:
            os.close(descriptor)
