"""The dead letter queue: lines that failed for good, whole, as JSON lines in a folder, to be looked at and replayed.

The folder has segments, ``letters-00000001.jsonl`` and so on, of which the last one grows; ``cat FOLDER/*.jsonl | jq`` reads
all. A run that writes to it holds a lock, so that nobody else does, and nobody takes the last segment away. What can be done
with the letters that are there is in `LetterBox`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from streamlab.appending import Appending
from streamlab.dead_letters.box import LetterBox
from streamlab.dead_letters.files import is_ours, leave_out, pieces, remove
from streamlab.dead_letters.letter import LetterFields, NoLetter, decoded, encoded, letters_of, number_of
from streamlab.errors import Outage, SinkError
from streamlab.failures import Failure
from streamlab.notices import Notice

WhenFull = Literal["block", "drop_oldest", "stop"]
WHEN_FULL: tuple[WhenFull, ...] = ("block", "drop_oldest", "stop")
#: Bytes on disk, at most, unless it is told otherwise.
MAX_BYTES = 1_073_741_824
#: Parts of its bound that a queue has, so that the oldest letters can go without all the others.
PARTS = 8


class DeadLetterQueue(LetterBox):
    """Takes the dead letters of a run.

    Args:
        folder: where it is; made by the run, for its owner only. Letters that are there stay.
        max_bytes: bytes on disk, at most.
        when_full: ``"block"``: the run waits until there is room, see ``streamlab dlq purge``; ``"drop_oldest"``: the oldest
            letters go, and it is told how many; ``"stop"``: the run fails.

    Attributes:
        name: what to call it in messages.
        notices: what had to be said of it.

    Raises:
        SinkError: an argument is wrong.
    """

    def __init__(self, folder: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, when_full: WhenFull = "block") -> None:
        if when_full not in WHEN_FULL:
            raise SinkError(f"when_full={when_full!r}: use {', '.join(map(repr, WHEN_FULL))}")
        if not isinstance(max_bytes, int) or max_bytes < 1:
            raise SinkError(f"max_bytes={max_bytes!r} must be a whole number of bytes, at least 1")
        super().__init__(folder)
        self.max_bytes = max_bytes
        self.when_full: WhenFull = when_full
        self._active: Appending | None = None
        self._bytes = 0
        self._lineage = self._version = ""
        self._count = 0  # letters of the lineage

    @staticmethod
    def writes(name: str) -> bool:
        """Tell of a name in the folder whether it is of a file of the queue."""
        return is_ours(name)

    def begin(self, lineage: str = "", version: str = "") -> None:
        """Begin after what is there.

        Args:
            lineage: tells the run, and those that go on with it, from all others.
            version: of its pipeline.

        Raises:
            SinkError: another run writes to it; the folder cannot be made.
        """
        try:
            os.makedirs(self.name, mode=0o700, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be made: there is a file: name a folder") from error
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be made: {error.strerror}") from error
        self.hold()
        self._lineage, self._version, self._count = lineage, version, 0
        self._bytes = self._files.size()

    def resume(self, mark: Mapping[str, int], dead: int, lineage: str = "", version: str = "") -> None:
        """Go on at a mark; letters of this lineage that were written after it are taken back, those of others stay.

        What is before the mark is not read, but for its segment if a replay has changed it since.

        Args:
            mark: as `mark` gave it.
            dead: letters of the lineage at that time.
            lineage: as of `begin`.
            version: as of `begin`.

        Raises:
            SinkError: another run writes to it; it does not have what was written to it.
        """
        self.begin(lineage, version)
        self._count = dead
        self._files.last = max(self._files.last, mark["segment"])
        try:
            for number, path in self._files:
                if number >= mark["segment"]:
                    as_marked = number == mark["segment"] > self._files.changed
                    self._take_back(path, mark["length"] if as_marked else 0, dead)
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise SinkError(f"the dead letter queue {self.name} cannot be taken back: {error.strerror}") from error
            raise
        self._bytes = self._files.size()

    def _take_back(self, path: str, good: int, dead: int) -> None:
        """Leave out of a segment, beyond so many bytes that are good, what this lineage wrote, and what a crash left."""
        try:
            length = os.path.getsize(path)
        except FileNotFoundError:  # it is just being purged
            return
        if length < good:
            raise SinkError(
                f"{path} is shorter than the {good:,} bytes that were written to it: put it back as it was, or remove it"
            )

        def stays(line: bytes) -> bool:
            if not line.endswith(b"\n") or b"\0" in line:  # torn, or zeros after a power cut: no JSON has them
                return False
            try:
                return not self._wrote(decoded(line), dead)
            except NoLetter:
                return True  # whosever it is

        leave_out(path, good, stays)

    def _wrote(self, letter: LetterFields, dead: int) -> bool:
        """Tell whether a letter is of this lineage, after so many."""
        lineage, number = number_of(letter)
        return lineage == self._lineage and number >= dead

    def mark(self) -> dict[str, int]:
        """Return how far it is."""
        if self._active is None:  # what comes later is in a later segment
            return {"segment": self._files.last + 1, "length": 0}
        return {"segment": self._files.last, "length": self._active.length}

    def packed(self, failures: Iterable[Failure]) -> Iterator[bytes]:
        """Yield what failed for good as pieces for `write`, none of which is large for this queue."""
        failures = [*failures]
        self._count = max((failure.number + 1 for failure in failures), default=self._count)
        return pieces(map(encoded, letters_of(failures, self._lineage, self._version)), self.max_bytes // PARTS)

    def write(self, data: bytes) -> None:
        """Append a piece, all of it or nothing.

        Raises:
            Outage: there is no room for now, and ``when_full`` says to wait; or the disk is full.
            SinkError: there is no room, and ``when_full`` says to stop; or there never will be.
        """
        try:
            if self._bytes + len(data) > self.max_bytes:
                self._make_room(len(data))
            self._append(data)
        except OSError as error:
            raise Outage(f"the dead letter queue {self.name} cannot be written: {error.strerror}") from error

    def _append(self, data: bytes) -> None:
        if self._active is None or self._active.length > self.max_bytes // PARTS:
            self._roll()
        assert self._active is not None
        self._active.write(data)
        self._bytes += len(data)

    def sync(self) -> None:
        """See to it that what was written survives a crash.

        Raises:
            SinkError: it cannot be known that it does.
        """
        active = self._active
        if active is not None:
            try:
                active.sync()
            except (OSError, ValueError) as error:
                if active is not self._active:  # another thread has just done with it, and has synced it
                    return
                raise SinkError(f"the dead letter queue {self.name} cannot be made to last: {error}") from error

    def settle(self, count: int) -> None:
        """Take note that the first so many letters of this lineage are there to stay, as a checkpoint says so.

        Raises:
            Outage: the disk is full, or the like.
        """
        try:
            self._files.settle(self._lineage, count)
        except OSError as error:
            raise Outage(f"the dead letter queue {self.name} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Let others write to it; more than once is fine."""
        active, self._active = self._active, None
        try:
            if active is not None:
                with contextlib.suppress(OSError):  # it has been written, and nobody waits for it to last
                    active.sync()
        finally:
            if active is not None:
                active.close()
            if self._files.settled.get(self._lineage) == self._count:  # nothing is written again by who goes on with it
                with contextlib.suppress(OSError):  # with a note nothing is wrong, some letters wait for the run
                    self._files.forget(self._lineage)
            self._files.unlock()

    def _roll(self) -> None:
        """Begin a new segment; the one before lasts from then on."""
        self.sync()
        if self._active is not None:
            active, self._active = self._active, None  # in this order, see `sync`
            active.close()
        self._active = self._files.begin_next()

    def _make_room(self, needed: int) -> None:
        self._bytes = self._files.size()  # somebody may have purged it
        if self._bytes + needed <= self.max_bytes:
            return
        if needed > self.max_bytes:
            raise SinkError(
                f"a letter of {needed:,} bytes has no room in the dead letter queue {self.name}, which may have"
                f" {self.max_bytes:,} (max_bytes)"
            )
        full = f"the dead letter queue {self.name} is full: {self._bytes:,} of {self.max_bytes:,} bytes (max_bytes)"
        if self.when_full == "stop":
            raise SinkError(f"{full}, and when_full='stop'")
        if self.when_full == "block":
            if self._active is not None and self._active.length:
                self._roll()  # so that all there is can be purged
            raise Outage(f"{full}; the run goes on when there is room: streamlab dlq purge {self.name}", waits=True)
        dropped = 0
        for number, path in self._files:
            if self._bytes + needed <= self.max_bytes or number == self._files.last:
                break
            dropped += remove(path)
            self._bytes = self._files.size()
        if dropped:
            message = f"{full}: its oldest letters were dropped (when_full='drop_oldest')"
            self.notices.append(Notice("dropped", self.name, message, lost_lines=dropped))
