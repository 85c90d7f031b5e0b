"""What writes parts: files in a folder, under hidden names, one after the other; of lines here, others beside it."""

from __future__ import annotations

import abc
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.appending import Appending
from streamlab.errors import Outage, SinkError
from streamlab.sinks.folder import PartFolder, hidden_name
from streamlab.sinks.packing import PACKERS, Packing
from streamlab.sinks.text import encoded


class Writer(abc.ABC):
    """Writes hidden parts to a folder that is there; see `streamlab.sinks.PartWriter`.

    It can be pickled: what comes out has written nothing, and writes parts of its own.

    Args:
        folder: where to.
        lineage: of the sink.
        part_bytes: how large a part may become, about.
        part_rows: how many outputs are in a part at most, but for those of its last batch.
    """

    def __init__(self, folder: str, lineage: str, part_bytes: int, part_rows: int) -> None:
        self._folder = PartFolder(folder)
        self._lineage = lineage
        self._limits = part_bytes, part_rows
        self._names: list[str] = []
        self._rows = 0  # outputs in the part that is being written; 0 when none is
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._folder.path, self._lineage, *self._limits)

    @property
    def names(self) -> list[str]:
        """The hidden names of the parts that there are, or will be when it is closed; in order."""
        return list(self._names)

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Sequence[tuple[int, BaseException]]:
        """Take one batch, for a part; return what cannot be in one, as `Sink.write` does.

        Raises:
            Outage: the disk is full, or the like; nothing of the batch has been taken. It may be written again.
            SinkError: the folder is gone; the writer has been closed.
        """
        if self._closed:
            raise SinkError(f"a part in {self._folder.path} cannot be written: its writer has been closed")
        if self._full(*self._limits):
            self._end()
        return self._take(values, line_no)

    def close(self) -> list[str]:
        """Write what is left, and return the hidden names of the parts, which survive a crash; none if nothing was written.

        Raises:
            Outage: the disk is full, or the like; it may be closed again.
            SinkError: it cannot be known that they survive.
        """
        if not self._closed:
            if self._rows:
                self._end()
            self._let_go()
            for name in self._names:
                self._folder.sync_file(name)
            if self._names:
                self._folder.sync()
            self._closed = True
        return self.names

    def discard(self) -> None:
        """Remove the parts that were written, unless `close` has returned their names."""
        if not self._closed:
            self._closed = True
            self._let_go()
            for name in self._names:
                self._folder.remove(name)

    @abc.abstractmethod
    def _full(self, part_bytes: int, part_rows: int) -> bool:
        """Tell whether the part is to be followed by another one."""

    @abc.abstractmethod
    def _take(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Sequence[tuple[int, BaseException]]:
        """Take one batch; errors as of `write`."""

    @abc.abstractmethod
    def _end(self) -> None:
        """Write what is left of the part; it may be called again if that fails."""

    @abc.abstractmethod
    def _let_go(self) -> None:
        """Close what is open, and remove it if nothing was written to it."""


def outage(path: str, error: OSError) -> SinkError:
    """Return what to raise when a part cannot be written: it may be tried again, unless its folder is gone."""
    kind = SinkError if isinstance(error, FileNotFoundError) else Outage
    return kind(f"{path} cannot be written: {error.strerror or error}")


class LinesWriter(Writer):
    """Writes parts of lines; arguments as of `Writer`, and the ending of their names, which says how they are packed."""

    def __init__(self, folder: str, lineage: str, part_bytes: int, part_rows: int, ending: str) -> None:
        super().__init__(folder, lineage, part_bytes, part_rows)
        self._ending = ending
        self._pack = PACKERS.get(ending[ending.rindex(".") :].lower())
        self._packing: Packing | None = None
        self._file: Appending | None = None
        self._waiting: bytes | memoryview | None = None  # of a batch that the file has not taken yet
        self._refused: list[tuple[int, BaseException]] = []  # of that batch
        self._last = b""  # of a packed part that is complete, and that the file has not taken yet

    def __reduce__(self) -> tuple[Any, ...]:
        kind, arguments = super().__reduce__()
        return kind, (*arguments, self._ending)

    def _full(self, part_bytes: int, part_rows: int) -> bool:
        if self._file is None or self._waiting is not None:
            return False
        return self._rows >= part_rows or self._file.length >= part_bytes

    def _take(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        if self._waiting is None:
            data, self._refused = encoded(values)
            if not data:
                return self._refused
            if self._file is None:
                self._file = self._opened()
            self._waiting = self._packed(data)
        file = self._file
        assert file is not None
        self._put(file, self._waiting)
        self._waiting = None
        if not self._rows:
            self._names.append(os.path.basename(file.path))
        self._rows += len(values) - len(self._refused)
        return self._refused

    def _opened(self) -> Appending:
        path = self._folder.path_of(hidden_name(self._lineage))
        try:
            return Appending(path)
        except OSError as error:
            raise outage(path, error) from error

    def _packed(self, data: bytes | memoryview) -> bytes | memoryview:
        if self._pack is None:
            return data
        if self._packing is None:
            self._packing = Packing(self._pack)
        return self._packing.packed(data)

    def _put(self, file: Appending, data: bytes | memoryview) -> None:
        try:
            file.write(data)
        except OSError as error:
            raise outage(file.path, error) from error

    def _end(self) -> None:
        if self._packing is not None:
            self._last += bytes(self._waiting or b"") + self._packing.end()  # it is no archive without what it has taken
        self._packing = self._waiting = None
        assert self._file is not None
        self._put(self._file, self._last)
        self._last = b""
        self._let_go()
        self._rows = 0

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
            if not self._rows:
                self._folder.remove(os.path.basename(file.path))
