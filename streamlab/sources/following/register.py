"""Which generation is in which file: opened, closed for a while, found again, given another file, forgotten, saved."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from streamlab.errors import SourceError
from streamlab.identity import HEAD, Key, key_of
from streamlab.notices import Notice
from streamlab.sources.compressed import extension
from streamlab.sources.following.beside import Beside
from streamlab.sources.following.folders import Folders, is_away
from streamlab.sources.following.generations import Generation, stamp_of
from streamlab.sources.lines import LineSplitter
from streamlab.sources.own import Own

#: Seconds after which a generation is forgotten whose file is gone: alone, or with its folder.
REMEMBERED, REMEMBERED_AWAY = 60.0, 86_400.0
#: How many notices wait to be taken, until further ones are counted together, by kind.
NOTICES = 1000
#: How many of the files that were not used for longest are looked at for one that can be closed.
FEW = 16


class Register:
    """Keeps the generations, by the key of their file.

    Args:
        new_splitter: makes what makes lines.
        notices: takes what is to be said.
        open_files: how many files are open at a time, about.

    Attributes:
        opened: the generations whose file is open, least recently used first.
        revived: those that were over, and have more to read.
        bereft: names of which a file that was read is gone: an archive may be what it was.
        beside: those that are not archives which are over, by folder.
        folders: the names in folders.
        own: what the run itself writes.
        seen: by which path each file was found when names were last looked at.
        again: whether names are to be looked at again at once, as something has moved.
    """

    def __init__(self, new_splitter: Callable[[], LineSplitter], notices: deque[Notice], open_files: int) -> None:
        self.opened: dict[Generation, None] = {}
        self.revived: deque[Generation] = deque()
        self.bereft: set[str] = set()
        self.beside = Beside()
        self.folders = Folders()
        self.own = Own()
        self.again = False
        self.seen: dict[Key, str] = {}
        self._new_splitter = new_splitter
        self._notices = notices
        self._open_files = max(open_files, 4)
        self._all: dict[Generation, None] = {}
        self._by_key: dict[Key, Generation] = {}
        self._missed: dict[Key, Generation] = {}  # of files that were not found
        self._gone: dict[Generation, float] = {}  # since when there is no file, of those that are over
        self._unreadable: set[str] = set()

    def __iter__(self) -> Iterator[Generation]:
        """Yield all of them, in the order found: of a name, oldest first."""
        return iter(list(self._all))

    def __contains__(self, generation: Generation) -> bool:
        """Tell whether a generation is known."""
        return generation in self._all

    def say(self, kind: str, where: str, message: str, lost_bytes: int = 0) -> None:
        """Say what happened."""
        notice = Notice(kind, where, message, lost_bytes=lost_bytes)
        others: list[Notice] = []
        with suppress(IndexError):  # they have just been taken
            while len(self._notices) >= NOTICES:
                last = self._notices.pop()
                if last.kind == kind:
                    notice = _together(last, notice)
                    break
                others.append(last)
        self._notices.extend((*reversed(others), notice))

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Pass over errors, and say so once until the file could be opened; one that has gone meanwhile is no error."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, SourceError) as error:
            self.complain(path, error)

    def complain(self, path: str, error: OSError | SourceError) -> None:
        """Say that a path cannot be read, if that was not said."""
        if path not in self._unreadable:
            self._unreadable.add(path)
            why = f"{error.strerror or error}; it is tried again" if isinstance(error, OSError) else str(error)
            self.say("unreadable", path, f"{path} cannot be read: {why}")

    # Generations and files

    def of(self, key: Key) -> Generation | None:
        """Return the generation that is in a file, if one is known to be."""
        return self._by_key.get(key)

    def create(self, name: str, path: str, descriptor: int, now: float) -> Generation:
        """Return a new generation, in an open file."""
        generation = Generation(name, path, self._new_splitter())
        self._all[generation] = None
        generation.grew = generation.came = now
        self.put(generation, descriptor, path)
        return generation

    def put_last(self, generation: Generation) -> None:
        """Take note that a generation is younger than all others of its name."""
        del self._all[generation]
        self._all[generation] = None

    def put(self, generation: Generation, descriptor: int, path: str) -> None:
        """Take note that a generation is in an open file, and in no other."""
        self.take_out(generation)
        generation.attach(descriptor, path)
        self._unreadable.discard(path)
        self._enter(generation)
        self.beside.place(generation)
        self.touch(generation)
        self._close_some(generation)

    def point(self, generation: Generation, status: os.stat_result, path: str) -> None:
        """Take note that a generation is in a file of which nothing is to be read."""
        self.take_out(generation)
        generation.point(status, path)
        self._enter(generation)
        self.beside.place(generation)

    def take_out(self, generation: Generation) -> None:
        """Take note that a generation is not in its file, or that its file is gone."""
        self.close(generation)
        if generation.key is not None and self._by_key.get(generation.key) is generation:
            del self._by_key[generation.key]
        generation.key = None
        self.beside.place(generation)

    def miss(self, generation: Generation) -> None:
        """Take note that a generation is not in its file, or that this is not to be found: it may come back."""
        key = generation.key
        self.take_out(generation)
        if key is not None and not (generation.cut or generation.packed):
            self._missed[key] = generation

    def back(self, path: str, key: Key) -> Generation | None:
        """Return the generation that is in a file which was not found for a while; ``None`` if that is another one.

        Raises:
            OSError: it cannot be opened.
        """
        generation = self._missed.get(key)
        if generation is None:
            return None
        descriptor = self.open_same(path, key)
        status = os.fstat(descriptor)
        del self._missed[key]
        waiting = generation in self._all and generation.key is None and not generation.cut and not extension(path)
        # It may have been removed, and another one that begins alike have got its inode.
        sure = generation.restored or stamp_of(status) == generation.stamp or generation.at >= 2 * HEAD
        if not (waiting and sure and generation.is_known and generation.holds(descriptor)):
            os.close(descriptor)
            return None
        generation.sealed = False
        self.put(generation, descriptor, path)
        self.revive(generation)
        return generation

    def drop(self, generation: Generation) -> None:
        """Forget a generation."""
        self.take_out(generation)
        self.beside.remove(generation)
        self._all.pop(generation, None)
        self._gone.pop(generation, None)

    def finish(self, generation: Generation) -> None:
        """Take note that all of a generation was read, and nothing more is expected."""
        generation.over = True
        self.close(generation)
        self.beside.place(generation)

    def leave_out(self, generation: Generation) -> None:
        """Take note that nothing is to be read of what is in the file of a generation."""
        generation.leave_out()
        self.finish(generation)

    def reopen(self, generation: Generation) -> None:
        """Take note that more is expected of a generation that may have been over."""
        generation.over = False
        self.beside.place(generation)

    def revive(self, generation: Generation) -> None:
        """Take note that there is more to read of a generation that may have been over."""
        if generation.over:
            self.reopen(generation)
            self.revived.append(generation)

    def touch(self, generation: Generation) -> None:
        """Take note that an open file is in use."""
        self.opened.pop(generation, None)
        self.opened[generation] = None

    def close(self, generation: Generation) -> None:
        """Close the file of a generation, if it is open."""
        generation.detach()
        self.opened.pop(generation, None)

    def open(self, generation: Generation) -> bool | None:
        """Open the file of a generation; tell whether it was found, and ``None`` if another content is in it.

        Raises:
            OSError: it cannot be opened.
        """
        if generation.descriptor is not None:
            return True
        path = self.find(generation)
        if path is None or generation.key is None:
            return False
        descriptor = self.open_same(path, generation.key)
        if not self._is_in(generation, path, descriptor):
            os.close(descriptor)
            return None
        self.put(generation, descriptor, path)
        return True

    def find(self, generation: Generation) -> str | None:
        """Return by which path the file of a generation is reached: the last one, or another in its folder.

        ``None`` if it is gone.
        """
        if generation.key is None:
            return None
        for path in (generation.path, self.seen.get(generation.key)):
            if path is not None and _is_at(path, generation.key):
                return path
        folders = dict.fromkeys((os.path.dirname(generation.path), generation.folder))
        paths = [path for folder in folders for path in self.folders.look(folder).paths(generation.key[1])]
        return next((path for path in paths if _is_at(path, generation.key)), None)

    def is_in(self, generation: Generation, path: str, status: os.stat_result) -> bool:
        """Tell whether a generation is still in its file, which is at a path now.

        Raises:
            OSError: it cannot be known.
        """
        if stamp_of(status) == generation.stamp and (
            generation.descriptor is None or generation.modified == status.st_mtime_ns
        ):
            return generation.packed == bool(extension(path))
        if generation.descriptor is not None:
            return self._is_in(generation, path, generation.descriptor)
        descriptor = self.open_same(path, key_of(status))
        try:
            return self._is_in(generation, path, descriptor)
        finally:
            os.close(descriptor)

    def open_same(self, path: str, key: Key) -> int:
        """Return a descriptor of a file; if another one is at its path by now, have names looked at again.

        Raises:
            OSError: it cannot be opened, or has got another name.
        """
        try:
            return open_file(path, key)
        except FileNotFoundError:
            self.again = True
            raise

    def _is_in(self, generation: Generation, path: str, descriptor: int) -> bool:
        if generation.packed != bool(extension(path)):
            return False
        if generation.packed:
            return not generation.checked or stamp_of(os.fstat(descriptor)) == generation.stamp
        # Of an empty file there is nothing to know it by: another one may have got its inode.
        there = generation.descriptor is not None or path == generation.path or generation.is_known
        return there and generation.holds(descriptor)

    def _enter(self, generation: Generation) -> None:
        if generation.key is not None:
            other = self._by_key.get(generation.key)
            if other is not None and other is not generation:
                other.key = None
                self.beside.place(other)
            self._by_key[generation.key] = generation

    def _close_some(self, keep: Generation) -> None:
        """Keep the number of open files in bounds: those that are not in use go first, those that may be lost last."""
        if len(self.opened) <= self._open_files:
            return
        idle = list(islice((each for each in self.opened if each.left is None and each is not keep), FEW))
        unused = next((each for each in idle if not each.unread), None)
        if idle:
            self.close(unused or idle[0])

    # Forgetting and saving

    def forget(self, now: float) -> None:
        """Forget generations that are over, and whose file is gone for a while; not while an archive may hold them.

        Those whose file is there are kept, however many: they must not be read again.
        """
        busy = any(generation.packed and not generation.checked for generation in self._all)
        missed = {generation: key for key, generation in self._missed.items() if generation in self._all}
        for generation in [each for each in self._all if each.is_through]:
            generation.compact()
            if self.find(generation) is not None:
                self._gone.pop(generation, None)
                continue
            if generation not in self._gone:
                self._gone[generation] = now
                self.bereft.add(generation.name)
            key = generation.key or missed.get(generation)
            away = is_away(os.path.dirname(generation.path), key and key[0])
            if now - self._gone[generation] > (REMEMBERED_AWAY if away else REMEMBERED) and not busy:
                self.drop(generation)
        self._missed = {key: generation for generation, key in missed.items() if generation in self._all}

    def saved(self) -> list[Any]:
        """Return the generations as plain data; not the archives that another process needs when their original is gone."""
        missed = {generation: key for key, generation in self._missed.items()}
        return [generation.saved(missed.get(generation)) for generation in self._all if not self._is_needed(generation)]

    def _is_needed(self, archive: Generation) -> bool:
        """Tell whether an archive holds what has not passed yet of a generation that is read in another file."""
        if archive.original is not None and (archive.original.is_through or archive.original not in self._all):
            archive.original = None
        return archive.original is not None

    def restore(self, saved: list[Any]) -> None:
        """Take in what was `saved`."""
        for entry in saved:
            generation = Generation.restored_from(entry, self._new_splitter())
            self._all[generation] = None
            self._enter(generation)
            if generation.key is None and isinstance(entry, dict) and entry.get("missed"):
                device, inode = entry["missed"]
                self._missed[device, inode] = generation
            self.beside.place(generation)


def _together(before: Notice, notice: Notice) -> Notice:
    count = before.count + notice.count
    return Notice(
        notice.kind,
        notice.where if notice.where == before.where else "several files",
        f"{count:,} of this kind came at once; the last one: {notice.message}",
        lost_bytes=before.lost_bytes + notice.lost_bytes,
        count=count,
    )


def open_file(path: str, key: Key | None = None) -> int:
    """Return a descriptor of a file to read from; what is none, such as a pipe, does not hold that up.

    Raises:
        OSError: it cannot be opened, or is not the one that the key is of.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if key is not None and key_of(os.fstat(descriptor)) != key:
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "it has got another name", path)
    return descriptor


def _is_at(path: str, key: Key) -> bool:
    try:
        return key_of(os.stat(path)) == key
    except OSError:  # it is not there any more
        return False
