"""What survives a crash: how far source, sink and dead letters are, what processors keep, and the books, in one transaction.

A checkpoint is a folder of one's own with an SQLite database. What it holds is of one moment, between two batches; it is
written when the outputs and dead letters before that moment are on disk (https://www.sqlite.org/atomiccommit.html).
"""

from __future__ import annotations

import fcntl
import math
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamlab.errors import CheckpointError, Outage
from streamlab.state import Packed, packed, unpacked

#: Of what is in the database; another one is refused.
FORMAT = 1
DATABASE, LOCK = "checkpoint.db", "checkpoint.lock"
#: Primary result codes (https://www.sqlite.org/rescode.html) of what may be over by and by.
_FOR_NOW = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)
#: Extended codes of what a second attempt would only seem to mend: a disk that could not say that data has reached it.
_FOR_GOOD = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)
_TABLES = """
create table if not exists parts (name text primary key, pickled integer not null, data blob not null) without rowid;
create table if not exists history (tick integer primary key, data blob not null);
create table if not exists holder (token text not null);
"""


@dataclass(slots=True)
class Moment:
    """What a run is at one moment, between two batches.

    Attributes:
        parts: source, sink, dead letters, books and the state of each processor, packed, by name.
        history: new rows of the history, by tick.
        oldest: the first tick that is still kept.
    """

    parts: Mapping[str, Packed]
    history: Mapping[int, Any] = field(default_factory=dict)
    oldest: int = 0


class Checkpoint:
    """A folder that one run at a time has; many may have it one after the other.

    Args:
        folder: made when a run begins, if it is not there, for its owner only.
        interval: seconds between two moments that are saved, more than 0; more where saving takes long.

    Attributes:
        facts: what tells whether a run can go on with it, text by name; saved with each moment.

    Raises:
        CheckpointError: an argument is wrong.
    """

    def __init__(self, folder: str | os.PathLike[str], *, interval: float = 1.0) -> None:
        if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
            raise CheckpointError(
                f"checkpoint={folder!r} is no folder: give the path of one, which is made if it is not there"
            )
        number = isinstance(interval, (int, float)) and not isinstance(interval, bool)
        if not number or not 0 < interval < math.inf:
            raise CheckpointError(
                f"interval={interval!r}: give the seconds between two moments, a number above 0, such as 0.5"
            )
        self.folder = os.path.expanduser(os.fspath(folder))
        self.interval = interval
        self.facts: dict[str, str | None] = {}
        self._lock = -1
        self._inode = 0  # of the database
        self._token = ""  # of who has it
        self._database: sqlite3.Connection | None = None
        self._written: dict[str, Packed] = {}

    def __repr__(self) -> str:
        return f"Checkpoint({self.folder!r}, interval={self.interval})"

    @staticmethod
    def writes(name: str) -> bool:
        """Tell of a name in the folder whether it is of a file of the checkpoint."""
        return name in (LOCK, DATABASE, *(DATABASE + end for end in ("-wal", "-shm", "-journal")))

    def begin(self) -> None:
        """Take it for a run, until it is closed.

        Raises:
            CheckpointError: another run has it, of this process or of another one; it cannot be made; it is no checkpoint.
        """
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            lock = os.open(os.path.join(self.folder, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise CheckpointError(f"the checkpoint {self.folder} cannot be made: there is a file: name a folder") from error
        except OSError as error:
            raise CheckpointError(f"the checkpoint {self.folder} cannot be made: {error.strerror}") from error
        try:
            self._take(lock)
        except BaseException:
            os.close(lock)
            raise
        self._lock, self.facts, self._written = lock, {}, {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _take(self, lock: int) -> None:
        """Take the lock, which is let go of when the process ends, however it does."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 100, 0).decode("ascii", "replace").strip()
            by = f" (process {holder})" if holder else ""
            raise CheckpointError(
                f"the checkpoint {self.folder} is in use by another run{by}: stop that one, or give this one its own"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _open(self) -> None:
        path = os.path.join(self.folder, DATABASE)
        try:
            database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database = database
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = full")
            database.executescript(_TABLES)
            # The lock keeps others out, unless their file system lets go of it while this process stands still, or a network
            # is cut: then whoever came last has it, and nobody else can save.
            self._token = secrets.token_hex(8)
            database.executescript(
                f"begin immediate; delete from holder; insert into holder values ('{self._token}'); commit"
            )
            self._inode = os.stat(path).st_ino
        except sqlite3.Error as error:
            full = "; is the disk full?" if getattr(error, "sqlite_errorcode", 0) & 0xFF in _FOR_NOW else ""
            raise CheckpointError(f"{path} is no checkpoint, or cannot be written: {error}{full}") from error

    def load(self) -> dict[str, Any] | None:
        """Return the parts of the last moment, by name, facts among them; ``None`` if there is none yet.

        Raises:
            CheckpointError: it is of another format, or has a pickle that others could have written.
        """
        try:
            rows = self._connection.execute("select name, pickled, data from parts").fetchall()
        except sqlite3.Error as error:
            raise CheckpointError(f"the checkpoint {self.folder} cannot be read: {error}") from error
        stored = {name: Packed(bytes(data), bool(pickled)) for name, pickled, data in rows}
        if not stored:
            return None
        if any(part.pickled for part in stored.values()):
            self._check_owner()
        self._written = stored
        parts = {name: self._unpacked(name, part) for name, part in stored.items()}
        if parts["format"] != FORMAT:
            raise CheckpointError(
                f"the checkpoint {self.folder} has format {parts['format']}, and this version of streamlab reads {FORMAT}"
            )
        return parts

    def _unpacked(self, name: str, part: Packed) -> Any:
        try:
            return unpacked(part)
        except Exception as error:  # of a pickle: its classes are not there, or their code fails
            raise CheckpointError(
                f"the checkpoint {self.folder} has {name} that cannot be read: {type(error).__name__}: {error}"
            ) from error

    def history(self) -> Iterable[tuple[int, Any]]:
        """Yield the rows of the history, by rising tick."""
        for tick, data in self._connection.execute("select tick, data from history order by tick"):
            yield tick, unpacked(Packed(bytes(data), pickled=False))

    def save(self, moment: Moment) -> None:
        """Write a moment, all of it or nothing; it survives a crash when this returns. May be called from any thread.

        Raises:
            Outage: it cannot be written for now: the disk is full, or the like. The one before is still there.
            CheckpointError: it cannot be written at all.
        """
        parts = dict(moment.parts)
        parts.update({name: packed(value) for name, value in self.facts.items()}, format=packed(FORMAT))
        if any(part.pickled for part in parts.values()):
            self._check_owner()
        self._check_there()
        changed = [(name, part.pickled, part.data) for name, part in parts.items() if self._written.get(name) != part]
        gone = [(name,) for name in self._written.keys() - parts.keys()]
        rows = [(tick, packed(row).data) for tick, row in moment.history.items()]
        database = self._connection
        try:
            database.execute("begin immediate")
            try:
                if database.execute("select token from holder").fetchall() != [(self._token,)]:
                    raise CheckpointError(
                        f"the checkpoint {self.folder} has been taken by another run while this one could not be heard of:"
                        " nothing that this one does is saved any more"
                    )
                database.executemany("insert or replace into parts values (?, ?, ?)", changed)
                database.executemany("delete from parts where name = ?", gone)
                database.executemany("insert or replace into history values (?, ?)", rows)
                database.execute("delete from history where tick < ?", (moment.oldest,))
                database.execute("commit")
            except BaseException:
                if database.in_transaction:  # SQLite may have rolled back by itself
                    database.execute("rollback")
                raise
        except sqlite3.Error as error:
            message = f"the checkpoint {self.folder} cannot be written: {error}"
            code = getattr(error, "sqlite_errorcode", 0)
            if code & 0xFF in _FOR_NOW and code not in _FOR_GOOD:
                raise Outage(message) from error
            raise CheckpointError(message) from error
        self._written = parts

    def _check_there(self) -> None:
        """See that what is written now is what the next run finds."""
        path = os.path.join(self.folder, DATABASE)
        try:
            there = os.stat(path).st_ino == self._inode
        except OSError:
            there = False
        if not there:
            raise CheckpointError(f"{path} has been removed or replaced while a run was saving to it: nothing can be saved")

    def _check_owner(self) -> None:
        """Refuse pickles that others could have written.

        Raises:
            CheckpointError: folder or files are another user's, or others can get at the folder or write to a file.
        """
        here = f"the checkpoint {self.folder} has pickled state, which can run code when it is read, and"
        for name, closed in (("", 0o077), (DATABASE, 0o022), (f"{DATABASE}-wal", 0o022)):
            path = os.path.join(self.folder, name) if name else self.folder
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            if status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & closed:
                continue
            what = f"{name} is not this user's to write alone" if name else "the folder is not this user's alone"
            mend = f"chmod {'go-w' if name else '700'} {path}"
            if status.st_uid != os.getuid():
                mend = f"chown {os.getuid()} {path}, and {mend}"
            raise CheckpointError(f"{here} {what}: {mend}, if you trust what is in it")

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._database is not None
        return self._database

    def close(self) -> None:
        """Let others have it; more than once is fine."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
