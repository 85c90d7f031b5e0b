"""A disk that forgets what was not made to last when the power goes, and on which writes fail, or end short, as told.

It stands below `streamlab.appending`, which is where output and dead letters are written, and `streamlab.sinks.folder`,
which gives parts their names; the files are real ones, which a power cut leaves as a file system may: with any part of what
was written since the last sync, or with zeros in its place, and under old names.
"""

from __future__ import annotations

import builtins
import errno
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from streamlab import appending
from streamlab.checkpoint import Checkpoint, Moment
from streamlab.errors import Outage
from streamlab.sinks import folder as parts


class PowerCut(BaseException):
    """The machine is off: nothing that is done from here on has any effect."""


class Disk:
    """See the module.

    Args:
        random: chooses what a power cut leaves.

    Attributes:
        steps: operations so far.
        cut_at: the operation at which the power goes.
        failing: of an operation what happens instead of it: the number of an error, or ``"short"``.
    """

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.steps = 0
        self.cut_at: int | None = None
        self.failing: dict[int, int | str] = {}
        self.failed = 0
        self._lock = threading.RLock()
        self._safe: dict[str, bytes] = {}  # what would be there after a power cut, whatever it leaves
        self._named: set[str] = set()  # files whose names would be
        self._since: dict[str, list[tuple[str, Any]]] = {}  # what was done to each since
        self._renamed: list[tuple[str, str]] = []  # since the folder was made to last
        self._off = False

    def step(self) -> int | str | None:
        """Do one thing; return what goes wrong with it, if that is to be."""
        with self._lock:
            if self._off:
                raise PowerCut
            self.steps += 1
            if self.cut_at is not None and self.steps >= self.cut_at:
                self._cut()
                raise PowerCut
            wrong = self.failing.get(self.steps)
            self.failed += wrong is not None
            return wrong

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Have files that are appended to on this disk."""
        system = _System(self)
        with (
            mock.patch.object(appending, "os", system),
            mock.patch.object(parts, "os", system),
            mock.patch.object(appending, "open", self.open, create=True),
        ):
            yield

    def power_on(self) -> None:
        """Switch it on again."""
        self._off, self.cut_at, self.steps = False, None, 0
        self.failing.clear()
        self._since.clear()
        self._renamed.clear()

    def open(self, path: str, mode: str, buffering: int) -> File:
        self.step()
        path = os.path.abspath(path)
        if os.path.exists(path):
            self._named.add(path)
            if path not in self._since:
                self._safe[path] = Path(path).read_bytes()
        else:
            self._safe[path] = b""
        self._since.setdefault(path, [])
        return File(self, path, builtins.open(path, mode, buffering=buffering))

    def done(self, path: str, what: str, how: Any) -> None:
        self._since[path].append((what, how))

    def sync(self, path: str) -> None:
        self._safe[path] = Path(path).read_bytes()
        self._since[path].clear()

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)
        for known in (self._safe, self._since):
            if source in known:
                known[target] = known.pop(source)  # type: ignore[attr-defined]
        if source in self._named:
            self._named.remove(source)
            self._named.add(target)

    def rename_for_now(self, source: str, target: str) -> None:
        self.rename(source, target)
        self._renamed.append((source, target))

    def sync_folder(self, folder: str) -> None:
        self._renamed = [names for names in self._renamed if os.path.dirname(names[1]) != folder]
        self._named.update(path for path in self._safe if os.path.dirname(path) == folder)

    def _cut(self) -> None:
        self._off = True
        for source, target in reversed(self._renamed[self.random.randint(0, len(self._renamed)) :]):
            self.rename(target, source)
        for path, since in self._since.items():
            if path not in self._named and self.random.random() < 0.5:
                Path(path).unlink(missing_ok=True)
                continue
            content = bytearray(self._safe[path])
            for what, how in since[: self.random.randint(0, len(since))]:
                if what == "cut":
                    del content[how:]
                else:
                    content += how
            unsafe = len(content) - len(self._safe[path])
            if unsafe > 0 and self.random.random() < 0.5:
                at = len(content) - self.random.randint(1, unsafe)
                if self.random.random() < 0.5:
                    del content[at:]
                else:
                    content[at:] = bytes(len(content) - at)
            if os.path.exists(path):
                Path(path).write_bytes(content)


class File:
    """A file on the disk, as `appending.Appending` uses it."""

    def __init__(self, disk: Disk, path: str, file: Any) -> None:
        self._disk = disk
        self.path = path
        self._file = file

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def fileno(self) -> int:
        return int(self._file.fileno())

    def write(self, data: memoryview) -> int:
        wrong = self._disk.step()
        if isinstance(wrong, int):
            raise OSError(wrong, os.strerror(wrong))
        part = bytes(data)[: max(len(data) // 2, 1)] if wrong == "short" else bytes(data)
        self._disk.done(self.path, "write", part)
        return int(self._file.write(part))

    def close(self) -> None:
        self._file.close()


class _System:
    """The ``os`` that `appending` sees."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def ftruncate(self, descriptor: int, length: int) -> None:
        wrong = self._disk.step()
        if isinstance(wrong, int):
            raise OSError(wrong, os.strerror(wrong))
        self._disk.done(_path(descriptor), "cut", length)
        os.ftruncate(descriptor, length)

    def rename(self, source: str, target: str) -> None:
        wrong = self._disk.step()
        if isinstance(wrong, int):
            raise OSError(wrong, os.strerror(wrong))
        self._disk.rename_for_now(os.path.abspath(source), os.path.abspath(target))

    def unlink(self, path: str) -> None:
        wrong = self._disk.step()
        if isinstance(wrong, int):
            raise OSError(wrong, os.strerror(wrong))
        os.unlink(path)

    def fsync(self, descriptor: int) -> None:
        wrong = self._disk.step()
        path = _path(descriptor)
        if os.path.isdir(path):
            self._disk.sync_folder(path)
        elif isinstance(wrong, int):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        else:
            self._disk.sync(path)


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


class OnDisk(Checkpoint):
    """A checkpoint that is not written any more once the power is off; that its own transaction lasts is SQLite's part."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        super().__init__(folder, interval=1e-9)
        self._disk = disk

    def save(self, moment: Moment) -> None:
        wrong = self._disk.step()
        if isinstance(wrong, int):
            raise Outage(f"the checkpoint cannot be written: {os.strerror(wrong)}")
        super().save(moment)
        self._disk.step()
