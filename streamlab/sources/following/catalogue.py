"""What followed names lead to: which files came and went."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from streamlab.identity import Key, key_of
from streamlab.sources.following.between import Between
from streamlab.sources.following.copies import Copies
from streamlab.sources.following.generations import Generation, stamp_of
from streamlab.sources.following.lineages import Lineage
from streamlab.sources.following.register import REMEMBERED, Register, open_file
from streamlab.sources.following.rotation import is_rotated
from streamlab.sources.locate import files_now, is_pattern, natural

#: Nanoseconds by which the times of files may be coarser than the clock's.
COARSE = 2_000_000_000


class Catalogue:
    """Keeps the lineages of the names that paths, globs and folders stand for.

    Args:
        where: the paths, globs and folders, absolute.
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
        self._between = Between(register, copies)
        self._found: dict[str, os.stat_result] = {}
        self._before: dict[str, list[int]] = {}  # folders of an earlier process, until they are looked for
        self._now = 0.0
        self._scanned = False
        self._since = 0  # when files were first looked at, perhaps by an earlier process, in nanoseconds since 1970
        self._fresh = False  # whether all files are new, so that none can be known to be a copy

    def scan(self, now: float) -> None:
        """Look which files there are now."""
        self._now = now
        began = time.time_ns()
        self._register.again = False
        self._register.own.look()
        self._found = dict(self._find())
        self._register.seen = {key_of(status): path for path, status in self._found.items()}
        self._between.begin(self._found, now)
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
        self._look_into_archives()
        for generation in self._between.take_late():
            lineage = self._put_first(generation)
            lineage.last = lineage.last or generation
            self._register.put_last(lineage.last)
        self._scanned, self._fresh = True, False
        self._since = self._since or began

    def _look_into_archives(self) -> None:
        """Have archives looked at that may be what has lost its file, and take note of those that are complete."""
        bereft = [self.lineages.get(name) or self._begin_lineage(name) for name in self._register.bereft]
        self._register.bereft.clear()
        for lineage in self.lineages.values():
            if lineage in bereft or any(each.key is None and not each.sealed for each in lineage.queue):
                self._between.suspect_archives(lineage)
                self.stirred.add(lineage)
            self._between.vet_archives(lineage)

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
        lineage = self.lineages.get(path)
        if lineage is not None and lineage.current is not None and lineage.current.descriptor is None:
            with suppress(OSError):
                self._note(lineage.current, os.stat(path))

    def requeue(self) -> None:
        """Take up those that were over, and have more to read."""
        while self._register.revived:
            self._put_first(self._register.revived.popleft())

    def _put_first(self, generation: Generation) -> Lineage:
        """Have a generation read before those of its name that are younger; return the lineage."""
        lineage = self.lineages.get(generation.name) or self._begin_lineage(generation.name)
        if generation not in lineage.queue:
            lineage.queue.appendleft(generation)
        self.stirred.add(lineage)
        return lineage

    def folders(self) -> set[str]:
        """Return the folders in which names may come and go."""
        found = {os.path.dirname(path) for path in self._found}
        found |= {where if os.path.isdir(where) else os.path.dirname(where) for where in self._where}
        found |= {lineage.folder for lineage in self.lineages.values()}
        return {folder for folder in found if not is_pattern(folder)}

    def saved(self) -> dict[str, Any]:
        """Return which folders the names are in, and since when they are followed, as plain data."""
        found = dict(self._before)
        for folder in {os.path.dirname(name) for name in self.lineages}:
            with suppress(OSError):
                found[folder] = list(key_of(os.stat(folder)))
        return {"folders": found, "since": self._since, "late": self._between.late.saved()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take in what was `saved`: a folder that has been moved since, or is reached through another one, is known."""
        self._before, self._since = saved.get("folders", {}), saved.get("since", 0)
        self._between.late.restore(saved.get("late", ()))

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
                lineage.since = lineage.since if generation.packed else generation.modified
                if not generation.over:
                    lineage.queue.append(generation)
                    if generation.left is not None:  # by an earlier clock; who writes to it may not have noticed yet
                        generation.left = self._now
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
            self._between.leave_out(lineage, self._since - COARSE if self._since else 0)
        return lineage

    def _begin_lineage(self, name: str) -> Lineage:
        lineage = self.lineages[name] = Lineage(name)
        lineage.find_home()
        return lineage

    def _visit(self, path: str, status: os.stat_result) -> None:
        """Take note that there is a file at a path."""
        known = self._register.of(key_of(status)) or self._register.back(path, key_of(status))
        if known is not None and not self._register.is_in(known, path, status):
            self._copies.replace(known, self._now)
            known = None
        elif known is not None and path in self.lineages and self.lineages[path].current is known:
            unchanged = status.st_mtime_ns == known.modified and not known.length
            if not unchanged and not self._between.is_vetted(self.lineages[path], known):
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

    def _note(self, known: Generation, status: os.stat_result) -> None:
        """Take note of the state of a file that is not open."""
        unchanged = known.descriptor is not None or known.foreign or known.key != key_of(status)
        if not unchanged and known.note(status) and known.unread:
            self._register.revive(known)
            self.stirred.add(self.lineages.get(known.name) or self._begin_lineage(known.name))

    def _settle(self, lineage: Lineage, generation: Generation, status: os.stat_result) -> None:
        """Take note that a generation is at its name."""
        if lineage.current is not generation:
            self._leave(lineage)
            if generation not in lineage.queue and not generation.packed:
                self._register.reopen(generation)
                lineage.queue.append(generation)
        generation.modified = status.st_mtime_ns
        lineage.settle(generation)
        lineage.absent = None
        if not generation.half or self._origin(lineage.name) is None:
            generation.left = None
        elif generation.left is None:  # it was rotated before it was found: its last line is one without its end
            generation.left = self._now

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
            self._between.add(lineage)
            self.stirred.add(lineage)
        elif not lineage.queue:
            del self.lineages[lineage.name]

    def _arrive(self, lineage: Lineage, seen: Key) -> None:
        """Take note of a file at a name that was not there before, and of those that were there in between.

        Args:
            lineage: of the name.
            seen: the file that was there when it was looked at.
        """
        self._leave(lineage)
        self.stirred.add(lineage)
        cut = lineage.last is not None and lineage.last.cut
        lineage.queue = deque(generation for generation in lineage.queue if generation in self._register)
        lineage.find_home()
        lineage.absent = None
        descriptor = open_file(lineage.name)
        try:
            if lineage.given or lineage.last is not None or self._since or self._fresh:
                # Among them may be what was opened just now, if it was rotated meanwhile.
                while self._between.add(lineage, descriptor):
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
        if not self._between.is_vetted(lineage, generation):
            self._register.drop(generation)
            self._register.again = self._register.again or not self._between.late.is_awaited(lineage, self._now)
            return
        lineage.queue.append(generation)
        lineage.settle(generation)
