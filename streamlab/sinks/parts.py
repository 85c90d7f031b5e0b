"""Outputs in a folder of parts, files that are written under hidden names, and shown when they are committed, whole.

A part is written by a `Writer`: the sink has one of its own, and gives others to processes that write parts on their own,
anywhere the folder can be reached, and tell it the names.
"""

from __future__ import annotations

import abc
import contextlib
import os
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import SinkError
from streamlab.notices import Notice
from streamlab.sinks.folder import PartFolder, is_ours, lineage_of, new_lineage
from streamlab.sinks.writers import LinesWriter, Writer

#: Bytes, in a file of lines or in memory, after which a part is followed by another one.
PART_BYTES = 64 << 20
#: Outputs after which it is.
PART_ROWS = 1_000_000
_RESTORE = "put back the folder as it was, or begin anew with another checkpoint and another output"


class Parts(abc.ABC):
    """Writes outputs to a folder of parts, see `FileParts` and `streamlab.sinks.parquet.ParquetSink`.

    Never are there two calls of `mark`, `sync` and `publish` at a time.

    Attributes:
        folder: the path of the folder.
        notices: what a run that goes on has taken back.
    """

    columns = True
    any_thread = True

    def __init__(
        self, folder: str | os.PathLike[str], ending: str, *, overwrite: bool, part_bytes: int, part_rows: int
    ) -> None:
        for name, given in (("part_bytes", part_bytes), ("part_rows", part_rows)):
            if not isinstance(given, int) or given < 1:
                raise SinkError(f"{name}={given!r}: it must be a whole number, at least 1")
        path = os.path.expanduser(os.fspath(folder))
        self.name = self.folder = path.rstrip(os.sep) or path
        self._ending = ending
        self._overwrite = overwrite
        self._limits = part_bytes, part_rows
        self.notices: deque[Notice] = deque()
        self._place = PartFolder(self.folder)
        self._closed = False
        self._begin_at(new_lineage(), 0)

    def _begin_at(self, lineage: str, count: int) -> None:
        self._lineage = lineage
        self._count = count  # parts that have a number
        self._numbered: list[tuple[str, str]] = []  # hidden names and names of those that are not shown yet
        self._unnumbered: list[str] = []  # hidden names of those that have come since the last mark
        self._writer: Writer | None = None
        self._ended: list[Writer] = []  # those to be closed before their parts can be shown
        self._marked = False

    @abc.abstractmethod
    def _new_writer(self, folder: str, lineage: str, part_bytes: int, part_rows: int) -> Writer: ...

    def files(self) -> list[str | int]:
        """Return the folder; see `writes` for what is in it."""
        return [self.folder]

    def writes(self, name: str) -> bool:
        """Tell of a name in the folder whether it is of a file of the sink."""
        return is_ours(name)

    def begin(self) -> None:
        """Begin anew, before anything is written.

        Raises:
            SinkError: there is something in the folder; it cannot be made; another run writes to it.
        """
        self._hold()
        try:
            self._clear()
        except BaseException:
            self._place.unlock()
            raise
        self._begin_at(new_lineage(), 0)

    def _hold(self) -> None:
        if self._place.locked:
            raise SinkError(f"{self.folder} is being written by another run: give each its own")
        self._place.lock()
        self._closed = False

    def _clear(self) -> None:
        parts, others = self._place.parts(), self._place.others()
        if others or (parts and not self._overwrite):
            hint = "" if others else f" (in Python, {type(self).__name__}(folder, overwrite=True) replaces its parts)"
            raise SinkError(
                f"{self.folder} is there already and has {[*others, *parts][0]} in it: give another path, or move it"
                f" away{hint}"
            )
        for name in parts:
            self._place.remove(name)

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Sequence[tuple[int, BaseException]]:
        """Write one batch; return what cannot be in a part.

        Raises:
            Outage: the disk is full, or the like; nothing of the batch has been taken. It may be written again.
            SinkError: it has been closed; the folder is gone.
        """
        self._check_open()
        if self._writer is None:
            self._writer = self.writer()
        return self._writer.write(values, line_no)

    def _check_open(self) -> None:
        if self._closed:
            raise SinkError(f"{self.folder} cannot be written: it has been closed")
        if not self._place.locked:
            self.begin()

    def writer(self) -> Writer:
        """Return what writes parts on its own, in any process that reaches the folder by the same path; see `adopt`.

        Raises:
            SinkError: the sink has been closed, or cannot begin.
        """
        self._check_open()
        return self._new_writer(os.path.abspath(self.folder), self._lineage, *self._limits)

    def adopt(self, names: Sequence[str]) -> None:
        """Take in parts that such writers have written: they come after all that there is by now, in this order.

        They are shown with all that is before the next `mark`.

        Args:
            names: as `Writer.close` returned them.

        Raises:
            SinkError: one of them is not of this sink, is not there, or was taken in before; then none of them is.
        """
        self._check_open()
        known = {*self._unnumbered, *(hidden for hidden, _ in self._numbered)}
        for name in names:
            if lineage_of(name) != self._lineage:
                raise SinkError(f"{name!r} is no part that a writer of {self.folder} has written for this run")
            if name in known or not self._place.has(name):
                why = "was taken in before" if name in known else "is not there"
                raise SinkError(f"{self._place.path_of(name)}, a part that a worker has written, {why}")
            known.add(name)
        self._end_part()
        self._unnumbered += names

    def _end_part(self) -> None:
        """Have what comes next be in another part."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if writer.names:
            self._unnumbered += writer.names
            self._ended.append(writer)
        else:
            writer.discard()

    def mark(self) -> dict[str, Any]:
        """End the part, and return which ones there are, and which of them are to be shown under which name.

        Raises:
            SinkError: the folder has been removed or replaced.
        """
        self._check_open()
        if not self._place.intact():
            raise SinkError(f"{self.folder} is not there any more, or is another folder than the one that the run began in")
        self._marked = True
        self._end_part()
        for hidden in self._unnumbered:
            self._count += 1
            self._numbered.append((hidden, f"part-{self._count:08}{self._ending}"))
        self._unnumbered = []
        shown = [list(pair) for pair in self._numbered]
        return {"lineage": self._lineage, "ending": self._ending, "count": self._count, "parts": shown}

    def sync(self) -> None:
        """See to it that the parts of the last mark survive a crash.

        Raises:
            Outage: the disk is full, or the like.
            SinkError: it cannot be known that they do.
        """
        numbered = {hidden for hidden, _ in self._numbered}
        for writer in [writer for writer in self._ended if numbered.issuperset(writer.names)]:
            writer.close()
            self._ended.remove(writer)

    def publish(self, mark: Any) -> None:
        """Show the parts of a mark; fine if they are shown already.

        Raises:
            Outage: they cannot be renamed for now.
            SinkError: one is gone, or its name is taken; it cannot be known that the names survive a crash.
        """
        for hidden, name in mark["parts"]:
            self._place.show(hidden, name)
        if mark["parts"]:
            self._place.sync()
        shown = {hidden for hidden, _ in mark["parts"]}
        self._numbered = [pair for pair in self._numbered if pair[0] not in shown]

    def resume(self, mark: Any, *, ended: bool = False) -> None:
        """Go on at a mark: show what a crash came before, and remove what came after it, which is said.

        Raises:
            SinkError: the parts are not those that there were then; another run writes to the folder.
        """
        if mark["ending"] != self._ending:
            raise SinkError(f"the parts in {self.folder} end with {mark['ending']}, and not with {self._ending}: {_RESTORE}")
        if mark["count"] and not os.path.isdir(self.folder):
            raise SinkError(f"{self.folder} is gone, and {mark['count']:,} parts had been written to it; {_RESTORE}")
        self._hold()
        try:
            self.publish(mark)
            self._check_parts(mark["count"])
            self._take_back(mark["lineage"])
        except BaseException:
            self._place.unlock()
            raise
        self._begin_at(mark["lineage"], mark["count"])
        self._marked = True

    def _check_parts(self, count: int) -> None:
        expected = {f"part-{number:08}{self._ending}" for number in range(1, count + 1)}
        there = self._place.parts().keys()
        if expected - there:
            raise SinkError(f"{self.folder} does not have {min(expected - there)}, which was written to it; {_RESTORE}")
        if there - expected:
            raise SinkError(
                f"{self.folder} has {min(there - expected)}, which is none of what was written to it: move it somewhere else"
            )

    def _take_back(self, lineage: str) -> None:
        left = [*self._place.hidden(lineage)]
        for name in left:
            self._place.remove(name)
        if left:
            what = f"{len(left):,} part{' that' if len(left) == 1 else 's that'} came after the last checkpoint"
            message = f"{self.folder}: {what} {'was' if len(left) == 1 else 'were'} taken back, to be made anew"
            self.notices.append(Notice("taken back", self.folder, message))

    def close(self) -> None:
        """Let go of the folder. What is after the last mark is removed; if there never was any, all is shown.

        Raises:
            SinkError: what was left could not be written.
        """
        if not self._place.locked:
            return
        try:
            if not self._marked:
                mark = self.mark()
                self.sync()
                self.publish(mark)
        finally:
            self._closed = True
            with contextlib.ExitStack() as stack:  # each is let go of, whatever the others do
                stack.callback(self._place.unlock)
                for writer in [*self._ended, *filter(None, [self._writer])]:
                    stack.callback(writer.discard)


class FileParts(Parts):
    r"""Writes lines to a folder of files, with their ``\n``: text as it is, a dict as compact JSON, other values by ``str``.

    A file is there, whole, when what is in it is committed: about once a second; with a checkpoint, when a moment of the run
    is saved. Files are numbered, ``part-00000001.log``, and have the outputs in order. While one is written it has a hidden
    name, which begins with ``.part-``.

    Args:
        folder: where to write; made if it is not there.
        ending: of the files' names; with ``.gz``, ``.bz2``, ``.xz`` or ``.zst`` at its end they are compressed.
        overwrite: replace the parts in a folder that has some; otherwise that is refused.
        part_bytes: bytes of a file after which the next one begins.
        part_rows: lines of a file after which it does.

    Raises:
        SinkError: the ending is none, or a number is not at least 1.

    Example:
        >>> import os, tempfile
        >>> from streamlab import Pipeline
        >>> folder = os.path.join(tempfile.mkdtemp(), "out")
        >>> run = Pipeline("upper").add("upper", str.upper).run(["one", "two"], output=FileParts(folder, ending=".txt"))
        >>> with open(os.path.join(folder, "part-00000001.txt")) as file:
        ...     print(file.read(), end="")
        ONE
        TWO
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        ending: str = ".log",
        overwrite: bool = False,
        part_bytes: int = PART_BYTES,
        part_rows: int = PART_ROWS,
    ) -> None:
        if not is_ours(f"part-00000001{ending}"):
            raise SinkError(f"ending={ending!r}: use letters and digits after a dot, such as '.log' or '.jsonl.gz'")
        super().__init__(folder, ending, overwrite=overwrite, part_bytes=part_bytes, part_rows=part_rows)

    def _new_writer(self, folder: str, lineage: str, part_bytes: int, part_rows: int) -> LinesWriter:
        return LinesWriter(folder, lineage, part_bytes, part_rows, self._ending)
