"""The folder of a sink that writes parts: what is called how there, who may write to it, and what is to last.

A part has a hidden name, ``.part-<lineage>-<unique>``, until it is committed; then it gets the next number,
``part-00000001.log``. The lineage is that of the runs that go on with each other: no other run touches what has another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import uuid
from collections.abc import Iterator

from streamlab.appending import sync_folder
from streamlab.errors import Outage, SinkError

#: Whoever writes to the folder holds it.
LOCK = ".lock"
_VISIBLE = re.compile(r"part-([0-9]{8,18})((?:\.[0-9A-Za-z]+)+)")
_HIDDEN = re.compile(r"\.part-([0-9a-f]{16})-[0-9a-f]{32}")


def is_ours(name: str) -> bool:
    """Tell of a name in the folder whether it is of a file of the sink.

    >>> [is_ours(name) for name in ("part-00000001.log.gz", ".lock", "app.log")]
    [True, True, False]
    """
    return name == LOCK or bool(_VISIBLE.fullmatch(name) or _HIDDEN.fullmatch(name))


def new_lineage() -> str:
    """Return what no other run has."""
    return secrets.token_hex(8)


def hidden_name(lineage: str) -> str:
    """Return a name that no other part has, whoever writes it, and wherever."""
    return f".part-{lineage}-{uuid.uuid4().hex}"


def lineage_of(name: str) -> str | None:
    """Return the lineage of a hidden part; ``None`` of other names."""
    found = _HIDDEN.fullmatch(name)
    return None if found is None else found[1]


def remove_if_empty(path: str) -> None:
    """Remove a folder of parts in which there is none, unless a run has begun to write there."""
    with contextlib.suppress(OSError, SinkError):
        folder = PartFolder(path)
        folder.lock()
        try:
            if os.listdir(path) == [LOCK]:
                os.unlink(folder.path_of(LOCK))
                os.rmdir(path)
        finally:
            folder.unlock()


class PartFolder:
    """A folder of parts.

    Args:
        path: where it is; it is made when it is locked.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def locked(self) -> bool:
        """Whether it is held."""
        return self._lock is not None

    def path_of(self, name: str) -> str:
        """Return the path of a file in it."""
        return os.path.join(self.path, name)

    def lock(self) -> None:
        """Keep other runs from writing to it.

        Raises:
            SinkError: one does; it cannot be made, or is no folder.
        """
        above = os.path.dirname(self.path) or os.curdir
        if not os.path.isdir(above):
            raise SinkError(f"there is no folder {above} to make {os.path.basename(self.path)} in: make it first")
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise SinkError(f"{self.path} is a file, and parts are written to a folder: give another path, or move it away")
        while True:
            try:
                if not os.path.isdir(self.path):
                    os.makedirs(self.path, exist_ok=True)
                    sync_folder(self.path)  # its own name is to last
                descriptor = os.open(self.path_of(LOCK), os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise SinkError(f"{self.path} cannot be written: {error.strerror}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise SinkError(f"{self.path} is being written by another run: give each its own") from None
            except OSError:  # a file system without locks
                pass
            self._lock = descriptor
            if self.intact():
                return
            self.unlock()  # a run that was refused has removed what it had made there

    def unlock(self) -> None:
        """Let others write to it; more than once is fine."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def intact(self) -> bool:
        """Tell whether it is still the folder that was locked."""
        try:
            return self._lock is not None and os.stat(self.path_of(LOCK)).st_ino == os.fstat(self._lock).st_ino
        except FileNotFoundError:
            return False

    def names(self) -> list[str]:
        """Return what is in it.

        Raises:
            SinkError: it cannot be listed.
        """
        try:
            return sorted(os.listdir(self.path))
        except OSError as error:
            raise SinkError(f"{self.path} cannot be listed: {error.strerror}") from error

    def parts(self) -> dict[str, int]:
        """Return the names and numbers of the parts that can be seen."""
        return {found[0]: int(found[1]) for found in map(_VISIBLE.fullmatch, self.names()) if found}

    def others(self) -> list[str]:
        """Return what else can be seen in it."""
        return [name for name in self.names() if not name.startswith(".") and not _VISIBLE.fullmatch(name)]

    def hidden(self, lineage: str) -> Iterator[str]:
        """Yield the names of the hidden parts of a lineage."""
        return (name for name in self.names() if lineage_of(name) == lineage)

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        return os.path.lexists(self.path_of(name))

    def show(self, hidden: str, name: str) -> None:
        """Give a hidden part its name; fine if it has it already.

        Raises:
            SinkError: it is gone, or another file has the name.
            Outage: it cannot be renamed for now.
        """
        seen = self.has(name)
        if not self.has(hidden):
            if seen:
                return
            raise SinkError(f"{self.path_of(hidden)}, a part that was to become {name}, is gone: put it back")
        if seen:
            raise SinkError(f"{self.path_of(name)} is there already, from somebody else: move it away, {hidden} becomes it")
        try:
            os.rename(self.path_of(hidden), self.path_of(name))
        except OSError as error:
            raise Outage(f"{self.path_of(hidden)} cannot be renamed to {name}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Remove a file; fine if it is gone.

        Raises:
            SinkError: it cannot be removed.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path_of(name))
        except OSError as error:
            raise SinkError(f"{self.path_of(name)} cannot be removed: {error.strerror}") from error

    def sync(self) -> None:
        """See to it that names in it survive a crash.

        Raises:
            SinkError: it cannot be known that they do.
        """
        try:
            sync_folder(self.path_of(LOCK))
        except OSError as error:
            raise SinkError(f"{self.path} cannot be made to last on its disk: {error.strerror}") from error

    def sync_file(self, name: str) -> None:
        """See to it that what is in a file survives a crash; errors as of `sync`."""
        try:
            descriptor = os.open(self.path_of(name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SinkError(f"{self.path_of(name)} cannot be made to last on its disk: {error.strerror}") from error
