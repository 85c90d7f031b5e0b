"""The dead letter queue: lines that failed for good, whole, as JSON lines in a folder, to be looked at and replayed.

The folder has segments, ``letters-00000001.jsonl`` and so on, of which the last one grows; ``cat FOLDER/*.jsonl | jq`` reads
all. A run that writes to it holds a lock, so that nobody else does, and nobody takes the last segment away. The number of a
segment is never used again, also when all are gone: the file ``lock`` has the last one.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal

import msgspec

from streamlab.appending import Appending, sync_folder
from streamlab.errors import Outage, SinkError
from streamlab.failures import Failure, Letter
from streamlab.notices import Notice

LETTER_COLUMNS = (
    "event_id",
    "source",
    "offset",
    "line_no",
    "line",
    "line_b64",
    "processor",
    "kind",
    "error",
    "message",
    "attempts",
    "first_failed_at",
    "last_failed_at",
    "path",
    "pipeline_version",
)

WhenFull = Literal["block", "drop_oldest", "stop"]
WHEN_FULL: tuple[WhenFull, ...] = ("block", "drop_oldest", "stop")
#: Parts of its bound that a queue has, so that the oldest letters can go without all the others.
PARTS = 8
_SEGMENT = re.compile(r"letters-([0-9]{8,})\.jsonl")


class DeadLetterQueue:
    """Takes the dead letters of a run.

    Args:
        folder: where it is; made if it is not there, for its owner only. Letters that are there stay.
        max_bytes: bytes on disk, at most.
        when_full: ``"block"``: the run waits until there is room, see ``streamlab dlq purge``; ``"drop_oldest"``: the oldest
            letters go, and it is told how many; ``"stop"``: the run fails.

    Attributes:
        name: what to call it in messages.
        notices: what had to be said of it.

    Raises:
        SinkError: the folder cannot be made, or an argument is wrong.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, max_bytes: int = 1_073_741_824, when_full: WhenFull = "block"
    ) -> None:
        if when_full not in WHEN_FULL:
            raise SinkError(f"when_full={when_full!r}: use {', '.join(map(repr, WHEN_FULL))}")
        if not isinstance(max_bytes, int) or max_bytes < 1:
            raise SinkError(f"max_bytes={max_bytes!r} must be a whole number of bytes, at least 1")
        self.name = os.path.expanduser(os.fspath(folder))
        self.max_bytes = max_bytes
        self.when_full: WhenFull = when_full
        self.notices: deque[Notice] = deque()
        self._lock: int | None = None
        self._active: Appending | None = None
        self._number = 0  # of the last segment
        self._bytes = 0
        self._lineage = self._version = ""
        try:
            os.makedirs(self.name, mode=0o700, exist_ok=True)
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be made: {error.strerror}") from error

    @classmethod
    def at(cls, folder: str | os.PathLike[str]) -> DeadLetterQueue:
        """Return the queue that is in a folder, or in the checkpoint that it is.

        Raises:
            SinkError: there is none.
        """
        path = os.path.expanduser(os.fspath(folder))
        inner = os.path.join(path, "dead_letters")
        path = inner if os.path.isdir(inner) else path
        if not os.path.exists(os.path.join(path, "lock")):
            raise SinkError(f"there is no dead letter queue in {path}: give its folder, or that of a checkpoint")
        return cls(path)

    # For the run that writes

    def begin(self, lineage: str = "", version: str = "") -> None:
        """Begin after what is there.

        Args:
            lineage: tells the run, and those that go on with it, from all others.
            version: of its pipeline.

        Raises:
            SinkError: another run writes to it.
        """
        self._lock = _locked(self.name)
        if self._lock is None:
            raise SinkError(f"the dead letter queue {self.name} is being written by another run: give each its own")
        self._lineage, self._version = lineage, version
        used = os.pread(self._lock, 100, 0).strip()
        self._number = max(int(used or 0), *(number for number, _ in self._segments()), 0)
        self._bytes = self._size()

    def resume(self, mark: Mapping[str, int], dead: int, lineage: str = "", version: str = "") -> None:
        """Go on at a mark; letters of this lineage that were written after it are taken back, those of others stay.

        Args:
            mark: as `mark` gave it.
            dead: letters of the lineage at that time.
            lineage: as of `begin`.
            version: as of `begin`.

        Raises:
            SinkError: another run writes to it; it does not have what was written to it.
        """
        self.begin(lineage, version)
        self._number = max(self._number, mark["segment"])
        try:
            for number, path in self._segments():
                if number >= mark["segment"]:
                    self._take_back(path, mark["length"] if number == mark["segment"] else 0, dead)
        except OSError as error:
            raise SinkError(f"the dead letter queue {self.name} cannot be taken back: {error.strerror}") from error
        self._bytes = self._size()

    def _take_back(self, path: str, good: int, dead: int) -> None:
        """Leave out of a segment, beyond so many bytes that are good, what this lineage wrote, and what is no letter."""
        with open(path, "rb") as file:
            kept = [file.read(good)]
            if len(kept[0]) < good:
                raise SinkError(
                    f"{path} is shorter than the {good:,} bytes that were written to it: put it back as it was, or remove it"
                )
            rest = file.readlines()
        for line in rest:
            with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError, ValueError):
                lineage, number = _number(msgspec.json.decode(line)["event_id"])
                if line.endswith(b"\n") and (lineage != self._lineage or number < dead):
                    kept.append(line)
        if len(kept) - 1 == len(rest):
            return
        part = Appending(f"{path}.part")
        part.cut(0)
        part.write(b"".join(kept))
        part.sync()
        part.close()
        os.rename(part.path, path)
        sync_folder(path)

    def mark(self) -> dict[str, int]:
        """Return how far it is."""
        if self._active is None:  # what comes later is in a later segment
            return {"segment": self._number + 1, "length": 0}
        return {"segment": self._number, "length": self._active.length}

    def packed(self, failures: Iterable[Failure]) -> Iterator[bytes]:
        """Yield what failed for good as pieces for `write`, none of which is large for this queue."""
        piece = b""
        for letter in letters_of(failures, self._lineage, self._version):
            data = _encoded([letter])
            if piece and len(piece) + len(data) > self.max_bytes // PARTS:
                yield piece
                piece = b""
            piece += data
        if piece:
            yield piece

    def write(self, data: bytes) -> None:
        """Append a piece, all of it or nothing.

        Raises:
            Outage: there is no room for now, and ``when_full`` says to wait; or the disk is full.
            SinkError: there is no room, and ``when_full`` says to stop; or there never will be.
        """
        try:
            if self._bytes + len(data) > self.max_bytes:
                self._make_room(len(data))
            if self._active is None or self._active.length > self.max_bytes // PARTS:
                self._roll()
            assert self._active is not None
            self._active.write(data)
        except OSError as error:
            raise Outage(f"the dead letter queue {self.name} cannot be written: {error.strerror}") from error
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

    def close(self) -> None:
        """Let others write to it; more than once is fine."""
        active, lock = self._active, self._lock
        self._active = self._lock = None
        try:
            if active is not None:
                with contextlib.suppress(OSError):  # it has been written, and nobody waits for it to last
                    active.sync()
        finally:
            if active is not None:
                active.close()
            if lock is not None:
                os.close(lock)

    def _roll(self) -> None:
        """Begin a new segment; the one before lasts from then on."""
        self.sync()
        if self._active is not None:
            self._active.close()
            self._active = None
        number = self._number + 1
        assert self._lock is not None
        os.pwrite(self._lock, f"{number:08}\n".encode(), 0)
        self._active = Appending(self._path(number))
        self._number = number

    def _make_room(self, needed: int) -> None:
        self._bytes = self._size()  # somebody may have purged it
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
        for number, path in self._segments():
            if self._bytes + needed <= self.max_bytes or number == self._number:
                break
            dropped += _count(path)
            self._bytes -= os.path.getsize(path)
            os.unlink(path)
        if dropped:
            message = f"{full}: its oldest letters were dropped (when_full='drop_oldest')"
            self.notices.append(Notice("dropped", self.name, message, lost_lines=dropped))

    # For whoever reads

    def letters(self) -> Iterator[dict[str, Any]]:
        """Yield the letters, oldest first; of those with the same ``event_id`` the last, as a crash may leave two.

        Raises:
            SinkError: a segment cannot be read.
        """
        last: dict[str, tuple[int, int]] = {}
        for number, path in self._segments():
            for at, letter in enumerate(_read(path)):
                last[letter["event_id"]] = number, at
        for number, path in self._segments():
            for at, letter in enumerate(_read(path)):
                if last.get(letter["event_id"]) == (number, at):
                    yield letter

    def recent(self, lineage: str, limit: int) -> list[Failure]:
        """Return the last letters of a lineage as the failures that they were of, oldest first."""
        own = (letter for letter in self.letters() if _number(letter["event_id"])[0] == lineage)
        return [failure_of(letter) for letter in deque(own, limit)]

    def purge(self) -> int:
        """Remove the letters, and return how many; while a run writes to it, those that it is just writing stay."""
        lock = None if self._lock is not None else _locked(self.name)
        try:
            segments = self._segments()
            purged = 0
            if lock is not None:
                shutil.rmtree(os.path.join(self.name, "replay"), ignore_errors=True)  # one that was interrupted
            for _, path in segments if lock is not None else segments[:-1]:
                purged += _count(path)
                os.unlink(path)
            return purged
        finally:
            if lock is not None:
                os.close(lock)

    def replace(self, letters: Iterable[Mapping[str, Any]]) -> None:
        """Have these letters instead of those that are there; the caller is the one that writes, see `begin`."""
        old = self._segments()
        if self._active is not None:
            self._active.close()
            self._active = None
        waiting = iter(letters)
        while data := _encoded(islice(waiting, 1000)):
            if self._active is None or self._active.length > self.max_bytes // PARTS:
                self._roll()
            assert self._active is not None
            self._active.write(data)
        self.sync()
        for _, path in old:
            os.unlink(path)
        self._bytes = self._size()

    def _segments(self) -> list[tuple[int, str]]:
        names = sorted(filter(_SEGMENT.fullmatch, os.listdir(self.name)), key=lambda name: (len(name), name))
        return [(int(name[8:-6]), os.path.join(self.name, name)) for name in names]

    def _path(self, number: int) -> str:
        return os.path.join(self.name, f"letters-{number:08}.jsonl")

    def _size(self) -> int:
        total = 0
        for _, path in self._segments():
            with contextlib.suppress(FileNotFoundError):  # it is being purged
                total += os.path.getsize(path)
        return total


def _locked(folder: str) -> int | None:
    """Return a descriptor that holds the lock of a folder; ``None`` while somebody else does."""
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _encoded(letters: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(letter) + b"\n" for letter in letters)


def _count(path: str) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _read(path: str) -> Iterator[dict[str, Any]]:
    """Yield the letters of a segment; the last one may be torn, by a crash or as it is just being written."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield msgspec.json.decode(line)
                except msgspec.DecodeError as error:
                    raise SinkError(f"{path}, line {number}: this is no dead letter: {error}; remove that line") from error
    except FileNotFoundError:
        return


def letters_of(failures: Iterable[Failure], lineage: str, version: str) -> Iterator[dict[str, Any]]:
    """Yield failures as dead letters, with `LETTER_COLUMNS`; a line that is replayed stays the letter that it was.

    Args:
        failures: what failed for good, in order.
        lineage: tells the run, and those that go on with it, from all others.
        version: of the pipeline.
    """
    before: Letter | None = None
    for failure in failures:
        letter = _letter(failure, f"{lineage}-{failure.number}", version)
        earlier = failure.offset if isinstance(failure.offset, Letter) else None
        if earlier is not None:
            letter |= {name: earlier.fields[name] for name in ("source", "offset", "line_no", "first_failed_at")}
            letter["attempts"] += earlier.fields["attempts"]
            same = earlier is before  # a branch more that failed
            letter["event_id"] = earlier.fields["event_id"] + (f"+{failure.number}" if same else "")
        before = earlier
        yield letter


def _letter(failure: Failure, event_id: str, version: str) -> dict[str, Any]:
    line, packed = failure.line, None
    if not line.isascii() and any("\ud800" <= c <= "\udfff" for c in line):
        try:
            raw = line.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # no bytes of a log, but text with a lone surrogate
            raw = line.encode("utf-8", "surrogatepass")
        line, packed = _text(line), base64.b64encode(raw).decode()
    return {
        "event_id": event_id,
        "source": _text(failure.source),
        "offset": failure.offset,
        "line_no": failure.line_no,
        "line": line,
        "line_b64": packed,
        "processor": None if failure.processor is None else _text(failure.processor),
        "kind": failure.kind,
        "error": _text(failure.error),
        "message": _text(failure.message),
        "attempts": failure.attempts,
        "first_failed_at": round(failure.time, 6),
        "last_failed_at": round(failure.time, 6),
        "path": _text(failure.path),
        "pipeline_version": version,
    }


def failure_of(letter: Mapping[str, Any]) -> Failure:
    """Return the failure that a letter was made of, but for its traceback."""
    return Failure(
        line_no=letter["line_no"],
        time=letter["last_failed_at"],
        processor=letter["processor"],
        kind=letter["kind"],
        error=letter["error"],
        message=letter["message"],
        line=line_of(letter),
        attempts=letter["attempts"],
        source=letter["source"],
        offset=letter["offset"],
        path=letter["path"],
        number=_number(letter["event_id"])[1],
    )


def _number(event_id: str) -> tuple[str, int]:
    """Return the lineage of a letter, and its number in it; one that a replay made of a letter has that letter's."""
    lineage, _, number = event_id.partition("+")[0].rpartition("-")
    return lineage, int(number)


def line_key(letter: Mapping[str, Any]) -> tuple[str, str, int | None]:
    """Return what letters of the same line have in common: each of its branches may have failed."""
    return letter["event_id"].rpartition("-")[0], letter["source"], letter["line_no"]


def line_of(letter: Mapping[str, Any]) -> str:
    r"""Return the line of a letter as it was.

    >>> line_of({"line": "caf?", "line_b64": "Y2Fm6Q=="})
    'caf\udce9'
    """
    packed = letter.get("line_b64")
    if not isinstance(packed, str):
        return str(letter["line"])
    return base64.b64decode(packed).decode("utf-8", "surrogateescape")


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
