"""Which files were at a name between two looks: those that are not known, and are called as rotation calls them."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise

from streamlab.identity import Key, key_of
from streamlab.sources.compressed import extension
from streamlab.sources.following.copies import TRIES, Copies, is_beginning
from streamlab.sources.following.generations import Generation
from streamlab.sources.following.late import Late
from streamlab.sources.following.lineages import Lineage
from streamlab.sources.following.register import Register
from streamlab.sources.following.rotation import age, begins_with, rotated_names


class Between:
    """Finds the files that came to a name and were rotated away while nobody looked.

    Args:
        register: the generations.
        copies: knows copies.

    Attributes:
        late: those that are taken up later.
    """

    def __init__(self, register: Register, copies: Copies) -> None:
        self.late = Late(register, copies.grace)
        self._register = register
        self._copies = copies
        self._tried: set[Key] = set()  # those that could not be opened in this look
        self._found: Mapping[str, os.stat_result] = {}
        self._now = 0.0

    def begin(self, found: Mapping[str, os.stat_result], now: float) -> None:
        """Begin a look: take note which files are followed by their own names, and when it is."""
        self._found, self._now = found, now
        self._tried.clear()

    def add(self, lineage: Lineage, descriptor: int | None = None) -> bool:
        """Take up the files that were at a name for a while, since it was last looked at; tell whether there are any.

        Args:
            lineage: of the name.
            descriptor: of the file that is at the name now.
        """
        found: list[Generation] = []
        for _ in range(TRIES):
            strangers = self._strangers(lineage, descriptor)
            for path, key in strangers.items():
                with self._register.reading(path):
                    found.append(self._open(lineage, path, key))
            if not strangers:
                break
        if lineage.last is not None and any(not generation.packed for generation in found):
            self._say_gap(lineage.last)
        if found:
            found += self._take_unsure(lineage)
            self._sort(found, lineage)
        for generation in found:
            if lineage.last is not None and lineage.last.cut and _is_copy(generation, lineage.last):
                self._copies.take(lineage.last, generation)
            else:
                self._register.put_last(generation)
                lineage.queue.append(generation)
                lineage.last = generation
        return bool(found)

    def leave_out(self, lineage: Lineage, since: int) -> None:
        """Leave out the rotated files that are there already when a name is followed for the first time.

        Args:
            lineage: of the name.
            since: what was written later, in nanoseconds since 1970, was not there already.
        """
        here = {key_of(status) for status in self._found.values()}  # by whatever name, if it was rotated just now
        for path, status in self._unknown(lineage):
            old = not since or status.st_mtime_ns < since
            if old and path not in self._found and key_of(status) not in here:
                with suppress(OSError):  # it is not read anyhow
                    self._register.leave_out(self._create(lineage.name, path, key_of(status)))

    def is_vetted(self, lineage: Lineage, generation: Generation) -> bool:
        """Tell whether what is in a file is the first that was in it since it was seen at its name.

        Before anything is read of it, it might have been copied and truncated, and hold something else by now.
        """
        if generation.vetted or generation.packed or generation.at:
            return True
        begun = generation.begins()  # known before looking for copies: a later truncation will be noticed by it
        if (lineage.given or lineage.last is not None) and self._strangers(lineage, generation.descriptor, tried=True):
            return False
        generation.vetted = begun
        return True

    def vet_archives(self, lineage: Lineage) -> None:
        """Take note which archives were complete before this look: what they were made of has another name, or has gone."""
        for generation in lineage.queue:
            if generation.packed and not generation.vetted:
                with suppress(OSError):
                    opened = generation.descriptor  # it may have been removed since
                    status = os.stat(generation.path) if opened is None else os.fstat(opened)
                    same = key_of(status) == generation.key
                    generation.vetted = same and self._copies.is_settled(generation, status, self._now)

    def suspect_archives(self, lineage: Lineage) -> None:
        """Have archives looked at that may hold the content of generations which have lost their file, and only that."""
        for path, status in list(self._unknown(lineage)):
            if extension(path) and path not in self._found:
                with self._register.reading(path):
                    archive = self._create(lineage.name, path, key_of(status))
                    archive.foreign = True
                    lineage.queue.appendleft(archive)

    def take_late(self) -> Iterator[Generation]:
        """Yield new generations for files that could not be taken up when they were found: they are older than the last."""
        for file in self.late.due(self._now):
            with self._register.reading(file.path):
                yield self._create(file.name, file.path, file.key)

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

    def _sort(self, generations: list[Generation], lineage: Lineage) -> None:
        """Sort by age, oldest first: by when they were written to last, or by the names that they have at one moment."""
        before = None
        for _ in range(TRIES):
            listing = self._register.folders.look(lineage.folder)
            if listing == before:
                break
            before = listing
        ages = {}
        for generation in generations:
            if generation.key is not None:
                generation.path = next(iter(listing.paths(generation.key[1])), generation.path)
            ages[generation] = age(os.path.basename(generation.path), lineage.base)
        generations.sort(key=lambda generation: ages[generation])
        if any(infix for _, infix in ages.values()):
            generations.sort(key=lambda generation: (generation.modified, ages[generation]))
            return
        # Numbers tell more than times: what compresses a file may give it the time of what is in it, or not, and somebody
        # may have written late. But there are writers that count up: then most of the times are the other way round.
        kinds = [[each.modified for each in generations if each.packed == packed] for packed in (True, False)]
        steps = [(later > earlier) - (later < earlier) for times in kinds for earlier, later in pairwise(times)]
        if sum(steps) < 0:
            generations.reverse()

    def _say_gap(self, last: Generation) -> None:
        """Say that files may have come and gone unseen, if that is so."""
        gone = last.descriptor is None or os.fstat(last.descriptor).st_nlink == 0
        if gone and not last.cut and self._register.find(last) is None:
            message = (
                f"{last.name} was rotated more than once since it was looked at, and the file that was there then has been"
                " removed: whether others were, unread, cannot be known"
            )
            self._register.say("vanished", last.name, message)

    def _open(self, lineage: Lineage, path: str, key: Key) -> Generation:
        """Return a new generation for a file that was rotated away; if it cannot be opened, that is tried again."""
        try:
            return self._create(lineage.name, path, key)
        except FileNotFoundError:
            raise
        except OSError:
            self._tried.add(key)
            self.late.add(lineage, path, key, self._now)
            raise

    def _create(self, name: str, path: str, key: Key) -> Generation:
        """Return a new generation for a file that was rotated away from a name."""
        if self._register.of(key) is not None:
            raise FileNotFoundError(errno.ENOENT, "it has been found by another name", path)
        generation = self._register.create(name, path, self._register.open_same(path, key), self._now)
        self.late.remove(key)
        generation.modified = generation.stamp[1]
        generation.left = self._now
        generation.checked = not generation.packed
        generation.vetted = not generation.packed and generation.begins()
        return generation

    def _strangers(self, lineage: Lineage, descriptor: int | None = None, *, tried: bool = False) -> dict[str, Key]:
        """Return the files with rotated names, younger than what is known, that are not known themselves.

        A copy of what is at the name now, and perhaps about to be cut off, is none of them: what it is will be seen later.

        Args:
            lineage: of the name.
            descriptor: of the file that is at the name now.
            tried: whether those count, for a while, that could not be opened.
        """
        found = dict(self._strangers_now(lineage))
        for _ in range(TRIES):
            before, found = found, dict(self._strangers_now(lineage))
            if found == before:
                break
        if not tried:
            found = {path: key for path, key in found.items() if key not in self._tried}
        if descriptor is not None:
            for path, key in list(found.items()):
                if is_beginning(path, key, descriptor):
                    self.late.add(lineage, path, key, self._now, like=key_of(os.fstat(descriptor)))
                    del found[path]
        return found

    def _strangers_now(self, lineage: Lineage) -> Iterator[tuple[str, Key]]:
        since = (
            0 if lineage.since > time.time_ns() else lineage.since
        )  # else the clock has been set back: times tell nothing
        for path, status in self._unknown(lineage):
            key = key_of(status)
            others = path in self._found and not begins_with(os.path.basename(path), lineage.base)
            wanted = self.late.holds_up(key, self._now) if self.late.is_shut(key) else status.st_mtime_ns >= since
            if wanted and not others:
                yield path, key

    def _unknown(self, lineage: Lineage) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the names that are rotated and not known, with what they lead to."""
        for name in rotated_names(self._register.folders.look(lineage.folder).names, lineage.base):
            path = os.path.join(lineage.folder, name)
            with suppress(OSError):  # it has got another name by now
                status = os.stat(path)
                others = stat.S_ISREG(status.st_mode) and not self._register.own.has(path, status)
                if others and not self._is_known(path, status):
                    yield path, status

    def _is_known(self, path: str, status: os.stat_result) -> bool:
        known = self._register.of(key_of(status))
        if known is None:
            return False
        if self._register.is_in(known, path, status):
            known.path = path
            return True
        self._copies.replace(known, self._now)
        return False


def _is_copy(generation: Generation, original: Generation) -> bool:
    return generation.descriptor is not None and not generation.packed and original.is_in(generation.descriptor)
