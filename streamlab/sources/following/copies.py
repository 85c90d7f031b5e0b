"""Which files are copies, plain or packed, of what was read elsewhere: nothing is read twice, and no rest is lost."""

from __future__ import annotations

import os
import stat
import time

from streamlab.errors import SourceError
from streamlab.identity import HEAD, TAIL, Key, Mark, key_of
from streamlab.sources.compressed import BLOCK, extension
from streamlab.sources.following.archives import Inspection
from streamlab.sources.following.generations import Generation
from streamlab.sources.following.register import Register, open_file
from streamlab.sources.following.rotation import is_rotated

#: How often names are looked at until two looks in a row see the same.
TRIES = 50


class Copies:
    """Knows copies of generations: of one that was cut off, the copy has what was not read.

    Args:
        register: the generations.
        grace: seconds after which a file that has not changed is what it seems to be.

    Attributes:
        grace: the same.
    """

    def __init__(self, register: Register, grace: float) -> None:
        self.grace = grace
        self._register = register
        self._begun = 0.0  # when a loss was first looked into
        self._inspections: dict[Generation, Inspection] = {}

    def cut(self, generation: Generation, now: float) -> None:
        """Take note that the file of a generation holds something else now, and look for its content elsewhere."""
        generation.cut = True
        self.lose(generation, now)

    def replace(self, generation: Generation, now: float) -> None:
        """Take note that a file holds something else now than the generation that was in it."""
        if generation.packed:
            self._register.drop(generation)
        else:
            self.cut(generation, now)

    def lose(self, generation: Generation, now: float) -> None:
        """Take note that a generation is not in its file any more, and look for its content elsewhere."""
        nothing_left = generation.at >= generation.size and not (generation.cut or generation.restored)
        self._register.miss(generation)
        generation.left = now if generation.left is None else generation.left
        if generation.over or nothing_left or not generation.size:
            generation.spend()
        else:
            self.find(generation)

    def check(self, generation: Generation, now: float) -> bool:
        """Tell whether a generation is in its file, opened; if not, look for its content elsewhere.

        Raises:
            OSError: it cannot be opened.
        """
        if generation.over or generation.key is None or generation.spent:
            return True
        found = self._register.open(generation)
        if found and generation.descriptor is not None and not generation.packed:
            found = True if generation.holds(generation.descriptor) else None
        if found:
            return True
        self._register.again = True
        if found is None:
            self.cut(generation, now)
        else:
            self.lose(generation, now)
        return False

    def is_lost(self, generation: Generation) -> bool:
        """Tell whether what was not read of a generation without a file is nowhere to be found; say so."""
        self._begun = self._begun or time.monotonic()
        until = max(generation.left or 0.0, self._begun) + self.grace  # archives that come later are of something else
        archives = self._register.beside.live(generation, packed=True)
        if any(not other.checked and other.came <= until for other in archives):
            return False
        lost = max(generation.size - generation.at, 0)
        what = f"{lost:,} bytes were lost" if lost else "whether more was written to it cannot be known"
        if generation.cut:
            how = "was cut off or replaced"
            what += ", and there is no copy of it"
        else:
            how = "was removed"
        message = f"{generation.name} {how} after {generation.at:,} bytes were read of it; {what}"
        self._register.say("truncated" if generation.cut else "vanished", generation.name, message, lost)
        generation.spend()
        return True

    # Copies in plain files

    def is_held(self, generation: Generation, now: float) -> bool:
        """Tell whether a new file may be a copy that is being made of another one, before that is cut off."""
        descriptor = generation.descriptor
        if descriptor is None or not generation.length:
            return not generation.length
        head = os.pread(descriptor, HEAD, 0)
        held = False
        for other in self._register.beside.live(generation, packed=False):
            if other.left is not None or not other.begins_like(head):
                continue
            self._register.touch(generation)  # so that it is not closed for another one
            if not self.check(other, now):
                if generation.key is None:  # it was the copy
                    return True
            elif other.descriptor is not None and _begins(descriptor, generation.length, other.descriptor):
                other.mark(Mark.at(descriptor, generation.length))
                held = True
        if held and now - generation.grew < self.grace:
            return True
        generation.checked = True
        return False

    def find(self, generation: Generation) -> None:
        """Look for a copy of a generation, in the files beside it that are not known to be something else."""
        for _ in range(TRIES):
            listing = self._register.folders.look(generation.folder)
            best, size, where = -1, -1, ""
            for path in listing.plain:
                descriptor = -1
                try:
                    with self._register.reading(path):
                        descriptor = open_file(path)
                        length = os.fstat(descriptor).st_size
                        if length > size and self._is_copy(generation, descriptor, path):
                            best, descriptor = descriptor, best
                            size, where = length, path
                finally:
                    if descriptor >= 0:
                        os.close(descriptor)
            if best >= 0:
                self._adopt(generation, size, best, where)
                return
            if listing == self._register.folders.look(generation.folder):  # none of them has moved while it was looked for
                return

    def _is_copy(self, generation: Generation, descriptor: int, path: str) -> bool:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or self._register.own.has(path, status):
            return False
        known = self._register.of(key_of(status))
        if known is not None and (known.checked or known.at) and self._register.is_in(known, path, status):
            return False
        name, base = os.path.basename(path), os.path.basename(os.path.realpath(generation.name))
        sure = 2 * HEAD <= generation.at <= status.st_size
        # Since another process looked, the file may have been put back from a backup, or its disk has got another number.
        put_back = generation.restored and name == os.path.basename(os.path.realpath(generation.path))
        return (sure or put_back or is_rotated(name, base)) and generation.is_in(descriptor)

    def _adopt(self, generation: Generation, size: int, descriptor: int, path: str) -> None:
        """Take note that a copy, of so many bytes, is where the content of a generation is."""
        before = self._register.of(key_of(os.fstat(descriptor)))
        if before is not None and (before.packed or not before.at):
            self._register.drop(before)
        elif before is not None:  # it was written over
            self.cut(before, generation.grew)
        if generation.cut and not generation.over:
            self._say_cut(generation, size, path)
        generation.size = size
        if size > generation.at:
            self._register.put(generation, descriptor, path)
            generation.sealed = not generation.packed  # the end of a packed one has to be found first
            self._register.revive(generation)
        else:
            if not extension(path):
                generation.mark(Mark.at(descriptor, size))
            self._register.point(generation, os.fstat(descriptor), path)
            os.close(descriptor)
            generation.spend()

    def _say_cut(self, generation: Generation, size: int, path: str) -> None:
        lost = max(generation.size - max(size, generation.at), 0)
        # What was rotated and packed while nobody looked has been cut off in no way: another file has got its inode.
        if lost or not extension(path):
            message = (
                f"{generation.name} was cut off after {generation.at:,} bytes were read of it; its copy {path} has"
                f" {max(size - generation.at, 0):,} more{f', {lost:,} are missing' if lost else ''};"
                " whether more was written in between cannot be known"
            )
            self._register.say("truncated", generation.name, message, lost)

    def take(self, generation: Generation, copy: Generation) -> None:
        """Take note that a file which has just been found is a copy of a generation that was cut off."""
        if copy.descriptor is None or (generation.key is not None and copy.length <= generation.at):
            self._register.leave_out(copy)
        else:  # also if all of it was read: what has not passed when the process dies is read again in there
            self._adopt(generation, copy.length, os.dup(copy.descriptor), copy.path)

    # Archives

    def inspect(self, generation: Generation, now: float) -> bool:
        """Look at a packed file, a block at a time; tell whether there is more to look at right now.

        When it is known what it is, it is checked: the content of a generation that has lost its file is read on in there,
        one of which everything was read is left out, and anything else is to be read whole.
        """
        with self._register.reading(generation.path):
            if self._register.open(generation) is not True:  # it is gone
                self._end_inspection(generation)
                self._register.take_out(generation)
                self._register.finish(generation)
                return True
            assert generation.descriptor is not None
            if not self.is_settled(generation, os.fstat(generation.descriptor), now):
                self._end_inspection(generation)
                return False
            if not generation.vetted:
                self._register.again = True
                return True
            inspection = self._inspections.get(generation) or self._inspection(generation)
            try:
                if not inspection.step():
                    return True
            except SourceError as error:
                self._end_inspection(generation)
                generation.checked = True
                self._register.finish(generation)
                why = error.__cause__ or error
                raise SourceError(f"{why}. It is looked at again when it changes") from error
            try:
                self._conclude(generation, inspection)
            finally:
                self._end_inspection(generation)
            return True
        return False  # it cannot be opened

    def close(self) -> None:
        """Leave off looking at archives."""
        for generation in list(self._inspections):
            self._end_inspection(generation)

    def _end_inspection(self, generation: Generation) -> None:
        inspection = self._inspections.pop(generation, None)
        if inspection is not None:
            inspection.close()

    def is_settled(self, generation: Generation, status: os.stat_result, now: float) -> bool:
        """Tell whether a packed file has not changed for a while."""
        if generation.note(status):
            generation.grew = now
        return now - generation.grew >= self.grace or time.time() - status.st_ctime >= self.grace

    def _inspection(self, generation: Generation) -> Inspection:
        assert generation.descriptor is not None

        def suspects(text: bytes) -> list[Generation]:
            settled = self._register.beside.beginning(generation.folder, text)
            for other in settled:
                if other.key is not None and self._register.find(other) is None:
                    self._register.take_out(other)
            left = (each for each in self._register.beside.live(generation, packed=False) if each.left is not None)
            return [*left, *settled]

        inspection = self._inspections[generation] = Inspection(generation.descriptor, generation.path, suspects)
        return inspection

    def _conclude(self, archive: Generation, inspection: Inspection) -> None:
        """Take note of what a packed file holds."""
        assert archive.descriptor is not None
        archive.checked = True
        original = inspection.found()
        if original is None and archive.foreign:
            self._register.leave_out(archive)
        elif original is None:
            os.lseek(archive.descriptor, 0, os.SEEK_SET)
        elif original.key is None:
            self._adopt(original, inspection.length, os.dup(archive.descriptor), archive.path)
        else:  # it is, or was, read where it is
            archive.original = original
            self._register.leave_out(archive)


def is_beginning(path: str, key: Key, other: int, *, whole: bool = False) -> bool:
    """Tell whether a plain file holds a beginning of what another one holds that is open, or nothing at all.

    Args:
        path: of the file.
        key: of the file.
        other: the open one.
        whole: whether to compare every byte, and not only the first and the last ones.
    """
    if extension(path) or key == key_of(os.fstat(other)):
        return False
    try:
        descriptor = open_file(path, key)
    except OSError:  # it has got another name
        return False
    try:
        length = os.fstat(descriptor).st_size
        return not length or (_begins(descriptor, length, other) and (not whole or _is_whole(descriptor, length, other)))
    finally:
        os.close(descriptor)


def _is_whole(descriptor: int, length: int, other: int) -> bool:
    """Tell whether an open file has the same first bytes as another one."""
    return all(
        os.pread(descriptor, BLOCK, at)[: length - at] == os.pread(other, BLOCK, at)[: length - at]
        for at in range(0, length, BLOCK)
    )


def _begins(descriptor: int, length: int, other: int) -> bool:
    """Tell whether the content of an open file is a beginning of that of another one."""
    if os.fstat(other).st_size < length:
        return False
    starts = (0, max(length - TAIL, 0))
    return all(os.pread(descriptor, TAIL, at)[: length - at] == os.pread(other, TAIL, at)[: length - at] for at in starts)
