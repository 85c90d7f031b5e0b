"""The dead letters in a folder: to be read, let go of, and changed by a replay."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Self

from streamlab.appending import Appending
from streamlab.dead_letters.files import LOCK, PIECE, LetterFiles, lines, pieces, queue_in, remove, rewrite
from streamlab.dead_letters.letter import LetterFields, NoLetter, decoded, encoded, failure_of, number_of
from streamlab.errors import SinkError
from streamlab.failures import KEPT_TEXT, Failure
from streamlab.notices import Notice

#: Letters that are looked at for each that is looked for: others may write to the queue as well.
LOOKED_AT = 10
#: Lines that are no letters, and are told of one by one.
TOLD = 100

#: Returns what is to be in the place of a letter; ``None``: itself. It may be asked twice for one.
Change = Callable[[LetterFields], Iterable[LetterFields] | None]


class LetterBox:
    """The letters in a folder.

    Args:
        folder: where they are.

    Attributes:
        name: what to call it in messages.
        notices: what had to be said of it.

    Raises:
        SinkError: that is no folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
            raise SinkError(
                f"{folder!r} is no folder for dead letters: give the path of one, which is made if it is not there"
            )
        self.name = os.path.expanduser(os.fspath(folder))
        self.notices: deque[Notice] = deque()
        self._files = LetterFiles(self.name)

    @classmethod
    def at(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the letters that are in a folder, or in the checkpoint that it is.

        Raises:
            SinkError: there is no queue.
        """
        path = os.path.expanduser(os.fspath(folder))
        inner = queue_in(path)
        path = inner if os.path.isdir(inner) else path
        if not (os.path.exists(os.path.join(path, LOCK)) or any(True for _ in LetterFiles(path))):
            raise SinkError(f"there is no dead letter queue in {path}: give its folder, or that of a checkpoint")
        return cls(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _check(self) -> None:
        """Refuse a checkpoint's folder: without a word, it would be a queue without letters."""
        inner = queue_in(self.name)
        if os.path.isdir(inner) and not any(True for _ in self._files):
            raise SinkError(f"{self.name} is a checkpoint, and no dead letter queue: its queue is {inner}")

    # For whoever reads

    def letters(self) -> Iterator[LetterFields]:
        """Yield the letters, oldest first; lines that are none are left alone, and told of in `notices`.

        Raises:
            SinkError: the folder is a checkpoint's.
        """
        self._check()
        for _, path in self._files:
            foreign: list[int] = []
            why = ""
            for number, line in enumerate(lines(path), 1):
                try:
                    letter = decoded(line)
                except NoLetter as error:
                    if line.endswith(b"\n"):  # else it is torn, by a crash or as it is just being written
                        foreign.append(number)
                        why = why or str(error)
                else:
                    yield letter
            if foreign:
                self.notices.append(Notice("left", path, f"{path}, {_told(foreign)}: {why}"))

    def recent(self, lineage: str, limit: int) -> list[Failure]:
        """Return the last letters of a lineage as the failures that they were of, oldest first.

        It reads from the end, and no more than it needs; letters with very many of others after them are not found.
        """
        found: list[Failure] = []
        text = 0
        for line in islice(self._files.backwards(), limit * LOOKED_AT):
            with contextlib.suppress(NoLetter):
                letter = decoded(line)
                if number_of(letter)[0] == lineage:
                    found.append(failure_of(letter))
                    text += len(line)
            if len(found) == limit or text > KEPT_TEXT:
                break
        return found[::-1]

    def purge(self, *, all: bool = False) -> int:
        """Remove the letters, and return how many.

        Those stay that a run is just writing, and those that one which was killed writes again when it is gone on with; how
        many of these, is told in `notices`.

        Args:
            all: these, too, see `give_up`.

        Raises:
            SinkError: they cannot be removed; the folder is a checkpoint's.
        """
        if not os.path.isdir(self.name):
            return 0
        self._check()
        apart = LetterBox(self.name)  # a run may have this one
        purged = left = 0
        try:
            alone = apart._files.lock()
            segments = [path for _, path in apart._files]
            if not alone:
                return sum(map(remove, segments[:-1]))
            if all:
                apart.give_up()
            shutil.rmtree(os.path.join(self.name, "replay"), ignore_errors=True)  # one that was interrupted
            for gone, stay in map(apart._purge, segments):
                purged += gone
                left += stay
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be purged: {error.strerror}") from error
        finally:
            apart.release()
        if left:
            self.notices.append(unsettled(left, self.name))
        return purged

    def _purge(self, path: str) -> tuple[int, int]:
        """Remove the letters of a segment that are settled, and lines that are none; return how many went, and stay."""
        count, left = 0, []
        for line in lines(path):
            count += line.endswith(b"\n")
            with contextlib.suppress(NoLetter):
                if not self.settled(decoded(line)):
                    left.append(line)
        if not left:
            return remove(path), 0
        if len(left) < count:
            self._files.begin_changing()
            rewrite(path, left)
        return count - len(left), len(left)

    # For who changes them

    def hold(self) -> None:
        """Keep others from writing to it.

        Raises:
            SinkError: somebody is; the folder is not there.
        """
        try:
            alone = self._files.lock()
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be opened: {error.strerror}") from error
        if not alone:
            raise SinkError(f"the dead letter queue {self.name} is being written by another run: give each its own")

    def release(self) -> None:
        """Let others write to it; more than once is fine."""
        self._files.unlock()

    def settled(self, letter: LetterFields) -> bool:
        """Tell of a letter whether it is there to stay, for who holds the queue.

        What a run had not saved when it was killed is taken back, and written again, when it is gone on with.
        """
        lineage, number = number_of(letter)
        return number < self._files.settled.get(lineage, number + 1)

    def give_up(self) -> None:
        """Have all letters there to stay: nobody will go on with the runs that were killed; for who holds the queue.

        If somebody does all the same, what they had not saved is written again, also if it was replayed by then.

        Raises:
            SinkError: it cannot be noted.
        """
        try:
            for lineage in [*self._files.settled]:
                self._files.forget(lineage)
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be changed: {error.strerror}") from error

    def change(self, change: Change) -> None:
        """Put in the place of each letter those that ``change`` returns for it; ``None`` leaves it as it is.

        Each segment is changed at once or, when that is interrupted, not at all; lines that are no letters stay, and so do
        segments in which nothing changes.

        Raises:
            SinkError: there is no room, or the like.
        """
        try:
            self._files.begin_changing()
            for _, path in self._files:
                if any(_instead(line, change) is not None for line in lines(path)):
                    rewrite(path, _changed(lines(path), change))
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be changed: {error.strerror}") from error

    def add(self, letters: Iterable[LetterFields]) -> None:
        """Append letters, whatever room there is for them; they last when this returns.

        Raises:
            SinkError: the disk is full, or the like; it cannot be known that they last.
        """
        segment: Appending | None = None
        try:
            for piece in pieces(map(encoded, letters), PIECE):
                segment = segment or self._files.begin_next()
                segment.write(piece)
            if segment is not None:
                segment.sync()
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be written: {error.strerror}") from error
        finally:
            if segment is not None:
                segment.close()


def unsettled(count: int, name: str) -> Notice:
    """Return what is to be said of letters that stay because they may be written again."""
    message = (
        f"{count:,} dead letter{'' if count == 1 else 's'} of {name} stay{'s' if count == 1 else ''}: the run that wrote"
        f" {'it' if count == 1 else 'them'} was killed before it saved that, and writes {'it' if count == 1 else 'them'}"
        " again when it is gone on with; if nobody will do so (its checkpoint is gone): streamlab dlq replay --all, or"
        " purge --all"
    )
    return Notice("left", name, message)


def _instead(line: bytes, change: Change) -> Iterable[LetterFields] | None:
    try:
        return change(decoded(line))
    except NoLetter:
        return None


def _changed(segment: Iterable[bytes], change: Change) -> Iterator[bytes]:
    for line in segment:
        letters = _instead(line, change)
        if letters is None:
            yield line
        else:
            yield from map(encoded, letters)


def _told(foreign: list[int]) -> str:
    """Return which lines are no letters.

    >>> _told([7]), _told([7, 9])
    ('line 7: this is no dead letter, it is left alone', 'lines 7, 9: these are no dead letters, they are left alone')
    """
    if len(foreign) == 1:
        return f"line {foreign[0]}: this is no dead letter, it is left alone"
    more = f" and {len(foreign) - TOLD:,} more" if len(foreign) > TOLD else ""
    return f"lines {', '.join(map(str, foreign[:TOLD]))}{more}: these are no dead letters, they are left alone"
