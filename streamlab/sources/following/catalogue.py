"""What followed names lead to: which files came, went, and were rotated in between."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from streamlab.identity import Key, key_of
from streamlab.sources.compressed import extension
from streamlab.sources.following.copies import TRIES, Copies, is_beginning
from streamlab.sources.following.generations import Generation, stamp_of
from streamlab.sources.following.register import REMEMBERED, Register, open_file
from streamlab.sources.following.rotation import age, begins_with, is_rotated, rotated_names
from streamlab.sources.locate import files_now, is_pattern, natural


@dataclass(slots=True, eq=False)
class Lineage:
    """A followed name, and what was written under it.

    Attributes:
        name: the path.
        queue: the generations that are not over, oldest first.
        current: the one that is at the name now.
        last: the youngest that there was.
        given: whether the name was given as such, and not found by a glob or in a folder.
        absent: since when there is no file, by the monotonic clock.
        folder: the folder where its files are; not that of a link.
        base: what rotated names are made of.
    """

    name: str
    given: bool = False
    queue: deque[Generation] = field(default_factory=deque)
    current: Generation | None = None
    last: Generation | None = None
    absent: float | None = None
    folder: str = ""
    base: str = ""


class Catalogue:
    """Keeps the lineages of the names that paths, globs and folders stand for.

    Args:
        where: the paths, globs and folders.
        register: the generations.
        copies: knows copies.

    Attributes:
        lineages: by name.
        stirred: those that may have something to read.
        ended: whether to leave off looking, from any thread.
    """

    def __init__(self, where: Sequence[str], register: Register, copies: Copies) -> None:
        self.lineages: dict[str, Lineage] = {}
        self.stirred: set[Lineage] = set()
        self.ended = False
        self._where = where
        self._register = register
        self._copies = copies
        self._by_path: dict[str, Lineage] = {}  # by absolute path, as the system tells of it
        self._found: dict[str, os.stat_result] = {}
        self._before: dict[str, list[int]] = {}  # folders of an earlier process, until they are looked for
        self._now = 0.0
        self._scanned = False
        self._fresh = False  # whether all files are new, so that none can be known to be a copy

    def scan(self, now: float) -> None:
        """Look which files there are now."""
        self._now = now
        self._register.again = False
        self._register.own.look()
        self._found = dict(self._find())
        if not self._scanned:
            self._fresh = not any(True for _ in self._register)
            self._begin()
        changed = [path for path, status in self._found.items() if not self._is_unchanged(path, status)]
        for path in sorted(changed, key=natural):
            if self.ended:
                return
            with self._register.reading(path):
                self._visit(path, self._found[path])
        for lineage in [lineage for lineage in self.lineages.values() if lineage.name not in self._found]:
            with self._register.reading(lineage.name):
                self._miss(lineage)
        for lineage in self.lineages.values():
            if any(generation.key is None and not generation.sealed for generation in lineage.queue):
                self._suspect_archives(lineage)
            self._vet_archives(lineage)
        self._scanned, self._fresh = True, False

    def _is_unchanged(self, path: str, status: os.stat_result) -> bool:
        """Tell, in short, whether a file is as it was when it was looked at."""
        lineage = self.lineages.get(path)
        if lineage is None or lineage.current is None:
            return False
        current = lineage.current
        same = current.key == key_of(status) and current.stamp == stamp_of(status) and current.modified == status.st_mtime_ns
        return same and not current.half and (current.vetted or not current.length or current.at > 0)

    def look_at(self, path: str) -> None:
        """Take note that a file has changed."""
        lineage = self._by_path.get(path)
        if lineage is not None and lineage.current is not None and lineage.current.descriptor is None:
            with suppress(OSError):
                self._note(lineage.current, os.stat(path))

    def requeue(self) -> None:
        """Take up those that were over, and have more to read."""
        while self._register.revived:
            generation = self._register.revived.popleft()
            lineage = self.lineages.get(generation.name) or self._begin_lineage(generation.name)
            lineage.queue.appendleft(generation)
            self.stirred.add(lineage)

    def folders(self) -> set[str]:
        """Return the folders in which names may come and go."""
        found = {os.path.dirname(path) for path in self._found}
        found |= {where if os.path.isdir(where) else os.path.dirname(where) for where in self._where}
        found |= {lineage.folder for lineage in self.lineages.values()}
        return {os.path.abspath(folder) for folder in found if not is_pattern(folder)}

    def saved(self) -> dict[str, list[int]]:
        """Return which folders the names are in, as plain data."""
        found = dict(self._before)
        for folder in {os.path.dirname(name) for name in self.lineages}:
            with suppress(OSError):
                found[folder] = list(key_of(os.stat(folder)))
        return found

    def restore(self, saved: dict[str, list[int]]) -> None:
        """Take in what was `saved`: a folder that has been moved since, or is reached through another one, is known."""
        self._before = saved

    def _move(self) -> None:
        """Give what an earlier process knew the names that are followed now."""
        here: dict[Key, str] = {}
        followed = self.folders()
        for folder in followed:
            with suppress(OSError):
                here[key_of(os.stat(folder))] = folder
        before, self._before = self._before, {}
        moved = {
            folder: here[device, inode]
            for folder, (device, inode) in before.items()
            if folder not in followed and (device, inode) in here
        }
        for generation in self._register if moved else ():
            generation.move(moved)
            self._register.beside.place(generation)

    def _find(self) -> Iterator[tuple[str, os.stat_result]]:
        for where in self._where:
            try:
                paths = files_now(where)
            except OSError as error:
                self._register.complain(where, error)
                continue
            for path in paths:
                try:
                    status = os.stat(path)
                    if not self._register.own.has(path, status):
                        yield path, status
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._register.complain(path, error)

    def _begin(self) -> None:
        """Take up what an earlier process knew, and leave out what was written before the names were followed."""
        self._move()
        for generation in self._register:
            if not generation.foreign:
                lineage = self.lineages.get(generation.name) or self._begin_lineage(generation.name)
                lineage.last = generation
                lineage.current = None if generation.left is not None else generation
                if not generation.over:
                    lineage.queue.append(generation)
        for generation in self._register:
            if not generation.over and self._register.find(generation) is None:
                self._copies.lose(generation, self._now)
        for where in self._where:
            if not is_pattern(where) and not os.path.isdir(where):
                self._lineage(where).given = True
        self.stirred.update(self.lineages.values())

    def _lineage(self, name: str) -> Lineage:
        """Return the lineage of a name; when it is new, the rotated files that are there already are left out."""
        lineage = self.lineages.get(name)
        if lineage is None:
            lineage = self._begin_lineage(name)
            for path, _ in self._unknown(lineage):
                if path not in self._found:
                    with self._register.reading(path):
                        self._register.leave_out(self._create(lineage, path))
        return lineage

    def _begin_lineage(self, name: str) -> Lineage:
        lineage = self.lineages[name] = self._by_path[os.path.abspath(name)] = Lineage(name)
        _find_home(lineage)
        return lineage

    def _visit(self, path: str, status: os.stat_result) -> None:
        """Take note that there is a file at a path."""
        known = self._register.of(key_of(status))
        if known is not None and not self._register.is_in(known, path, status):
            self._replaced(known)
            known = None
        elif known is not None and path in self.lineages and self.lineages[path].current is known:
            unchanged = status.st_mtime_ns == known.modified and not known.length
            if not unchanged and not self._is_vetted(self.lineages[path], known):
                self._register.drop(known)
                known = None
        if known is None and (origin := self._origin(path)) is not None:
            self._look_again(origin)  # it may have been rotated since it was looked at: then this belongs to it
            known = self._register.of(key_of(status))
        if known is None or (known.foreign and path in self.lineages and self.lineages[path].given):
            self._arrive(self._lineage(path), key_of(status))
            return
        known.path = path
        if known.name == path:
            self._settle(self._lineage(path), known, status)
        elif path in self.lineages:
            self._leave(self.lineages[path])
        self._note(known, status)

    def _is_vetted(self, lineage: Lineage, generation: Generation) -> bool:
        """Tell whether what is in a file is the first that was in it since it was seen at its name.

        Before anything is read of it, it might have been copied and truncated, and hold something else by now.
        """
        if generation.vetted or generation.packed or generation.at:
            return True
        begun = generation.begins()  # known before looking for copies: a later truncation will be noticed by it
        if (lineage.given or lineage.last is not None) and self._strangers(lineage, generation.descriptor):
            return False
        generation.vetted = begun
        return True

    def _note(self, known: Generation, status: os.stat_result) -> None:
        """Take note of the state of a file that is not open."""
        unchanged = known.descriptor is not None or known.foreign or known.key != key_of(status)
        if not unchanged and known.note(status) and known.unread:
            self._register.revive(known)
            self.stirred.add(self.lineages.get(known.name) or self._begin_lineage(known.name))

    def _replaced(self, known: Generation) -> None:
        """Take note that a file holds something else now than the generation that was in it."""
        if known.packed:
            self._register.drop(known)
        else:
            self._copies.cut(known, self._now)

    def _settle(self, lineage: Lineage, generation: Generation, status: os.stat_result) -> None:
        """Take note that a generation is at its name."""
        if lineage.current is not generation:
            self._leave(lineage)
            if generation not in lineage.queue and not generation.packed:
                self._register.reopen(generation)
                lineage.queue.append(generation)
        lineage.current = lineage.last = generation
        lineage.absent = None
        if not generation.half or self._origin(lineage.name) is None:
            generation.left = None
        elif generation.left is None:  # it was rotated before it was found: its last line is one without its end
            generation.left = self._now
        generation.modified = status.st_mtime_ns

    def _origin(self, path: str) -> Lineage | None:
        """Return the lineage of which a path is, without doubt, a name that rotation gives."""
        folder, name = os.path.split(path)
        for end in range(1, len(name)):
            lineage = self.lineages.get(os.path.join(folder, name[:end]))
            if lineage is not None and is_rotated(name, name[:end]):
                return lineage
        return None

    def _look_again(self, lineage: Lineage) -> None:
        """Look once more what is at a name."""
        try:
            status = os.stat(lineage.name)
        except FileNotFoundError:
            self._miss(lineage)
        else:
            self._visit(lineage.name, status)

    def _leave(self, lineage: Lineage) -> None:
        """Take note that the current generation is not at its name any more."""
        generation, lineage.current = lineage.current, None
        if generation is None:
            return
        generation.left = self._now
        self.stirred.add(lineage)
        with self._register.reading(generation.path):
            self._copies.check(generation, self._now)

    def _miss(self, lineage: Lineage) -> None:
        """Take note that there is no file at a name."""
        lineage.absent = self._now if lineage.absent is None else lineage.absent
        self._leave(lineage)
        if lineage.given or (lineage.last is not None and self._now - lineage.absent < REMEMBERED):
            self._add_between(lineage)
        elif not lineage.queue:
            del self.lineages[lineage.name], self._by_path[os.path.abspath(lineage.name)]

    def _arrive(self, lineage: Lineage, seen: Key) -> None:
        """Take note of a file at a name that was not there before, and of those that were there in between.

        Args:
            lineage: of the name.
            seen: the file that was there when it was looked at.
        """
        self._leave(lineage)
        cut = lineage.last is not None and lineage.last.cut
        lineage.queue = deque(generation for generation in lineage.queue if generation in self._register)
        _find_home(lineage)
        lineage.absent = None
        descriptor = open_file(lineage.name)
        try:
            if lineage.given or lineage.last is not None:
                while self._add_between(
                    lineage, descriptor
                ):  # among them what was opened just now, if it was rotated meanwhile
                    os.close(descriptor)
                    descriptor = -1
                    descriptor = open_file(lineage.name)
            key = key_of(os.fstat(descriptor))
            known = self._register.of(key)
            if (known and not known.foreign) or (key != seen and self._origin(lineage.name)):
                self._register.again = True  # it came here from another name while we looked
                return
            if known is not None:
                self._register.drop(known)
            generation = self._register.create(lineage.name, lineage.name, descriptor, self._now)
            descriptor = -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        generation.checked = not generation.packed and (cut or self._fresh)
        generation.reborn = cut
        generation.modified = generation.stamp[1]
        if not self._is_vetted(lineage, generation):
            self._register.drop(generation)
            self._register.again = True
            return
        lineage.queue.append(generation)
        lineage.current = lineage.last = generation
        self.stirred.add(lineage)

    def _add_between(self, lineage: Lineage, descriptor: int | None = None) -> bool:
        """Take up the files that were at a name for a while, since it was last looked at; tell whether there are any.

        Args:
            lineage: of the name.
            descriptor: of the file that is at the name now.
        """
        found: list[Generation] = []
        for _ in range(TRIES):
            strangers = self._strangers(lineage, descriptor)
            for path in strangers:
                with self._register.reading(path):
                    found.append(self._create(lineage, path))
            if not strangers:
                break
        if lineage.last is not None and any(not generation.packed for generation in found):
            self._say_gap(lineage.last)
        if found:
            found += self._take_unsure(lineage)
        found.sort(key=lambda generation: (generation.modified, age(os.path.basename(generation.path), lineage.base)))
        for generation in found:
            if lineage.last is not None and lineage.last.cut and _is_copy(generation, lineage.last):
                self._copies.take(lineage.last, generation)
            else:
                self._register.put_last(generation)
                lineage.queue.append(generation)
                lineage.last = generation
        self.stirred.add(lineage)
        return bool(found)

    def _take_unsure(self, lineage: Lineage) -> list[Generation]:
        """Take those off the queue of which nothing was read before they were rotated away.

        They may have been copied and emptied unseen: then what is in their files is younger than the copies.
        """
        left = (each for each in lineage.queue if each in self._register and each.left is not None)
        unsure = [each for each in left if not (each.vetted or each.at or each.packed)]
        for generation in unsure:
            lineage.queue.remove(generation)
            if generation.descriptor is not None:
                generation.modified = os.fstat(generation.descriptor).st_mtime_ns
        return unsure

    def _say_gap(self, last: Generation) -> None:
        """Say that files may have come and gone unseen, if that is so."""
        gone = last.descriptor is None or os.fstat(last.descriptor).st_nlink == 0
        if gone and not last.cut and self._register.find(last) is None:
            message = (
                f"{last.name} was rotated more than once since it was looked at, and the file that was there then has been"
                " removed: whether others were, unread, cannot be known"
            )
            self._register.say("vanished", last.name, message)

    def _create(self, lineage: Lineage, path: str) -> Generation:
        """Return a new generation for a file that was rotated away."""
        descriptor = open_file(path)
        if self._register.of(key_of(os.fstat(descriptor))) is not None:
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "it has got another name", path)
        generation = self._register.create(lineage.name, path, descriptor, self._now)
        generation.modified = generation.stamp[1]
        generation.left = self._now
        generation.checked = not generation.packed
        return generation

    def _strangers(self, lineage: Lineage, descriptor: int | None = None) -> dict[str, Key]:
        """Return the files with rotated names, younger than what is known, that are not known themselves.

        A copy of what is at the name now, and perhaps about to be cut off, is none of them.
        """
        found = dict(self._strangers_now(lineage))
        for _ in range(TRIES):
            before, found = found, dict(self._strangers_now(lineage))
            if found == before:
                break
        if descriptor is None:
            return found
        return {path: key for path, key in found.items() if not is_beginning(path, descriptor)}

    def _strangers_now(self, lineage: Lineage) -> Iterator[tuple[str, Key]]:
        since = 0 if lineage.last is None else lineage.last.modified
        for path, status in self._unknown(lineage):
            others = path in self._found and not begins_with(os.path.basename(path), lineage.base)
            if status.st_mtime_ns >= since and not others:
                yield path, key_of(status)

    def _unknown(self, lineage: Lineage) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the names that are rotated and not known, with what they lead to."""
        for name in rotated_names(self._register.folders.look(lineage.folder).names, lineage.base):
            path = os.path.join(lineage.folder, name)
            with suppress(OSError):  # it has got another name by now
                status = os.stat(path)
                others = stat.S_ISREG(status.st_mode) and not self._register.own.has(path, status)
                if others and not self._is_known(path, status):
                    if os.access(path, os.R_OK):
                        yield path, status
                    else:
                        self._register.complain(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def _is_known(self, path: str, status: os.stat_result) -> bool:
        known = self._register.of(key_of(status))
        if known is None:
            return False
        if self._register.is_in(known, path, status):
            known.path = path
            return True
        self._replaced(known)
        return False

    def _vet_archives(self, lineage: Lineage) -> None:
        """Take note which archives were complete before this look: what they were made of has another name, or has gone."""
        for generation in lineage.queue:
            if generation.packed and not generation.vetted:
                with suppress(OSError):
                    opened = generation.descriptor  # it may have been removed since
                    status = os.stat(generation.path) if opened is None else os.fstat(opened)
                    same = key_of(status) == generation.key
                    generation.vetted = same and self._copies.is_settled(generation, status, self._now)

    def _suspect_archives(self, lineage: Lineage) -> None:
        """Have archives looked at that may hold the content of generations which have lost their file, and only that."""
        for path, _ in list(self._unknown(lineage)):
            if extension(path) and path not in self._found:
                with self._register.reading(path):
                    archive = self._create(lineage, path)
                    archive.foreign = True
                    lineage.queue.appendleft(archive)


def _find_home(lineage: Lineage) -> None:
    """Find where a name leads to."""
    path = os.path.realpath(lineage.name) if os.path.islink(lineage.name) else lineage.name
    lineage.folder, lineage.base = os.path.split(path)


def _is_copy(generation: Generation, original: Generation) -> bool:
    return generation.descriptor is not None and not generation.packed and original.is_in(generation.descriptor)
