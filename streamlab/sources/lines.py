"""Bytes to lines: the one place where the program decides what a line is.

A line ends at ``\\n`` only, and one ``\\r`` before it goes too. A lone ``\\r``, U+2028, ``\\x85`` and NUL stay inside.
Bytes that are not UTF-8 are kept with ``surrogateescape``: ``line.encode("utf-8", "surrogateescape")`` gives them back.
A byte order mark is content like any other: what came in comes out.
"""

from __future__ import annotations

from streamlab.batch import Chunk, Rejected
from streamlab.columns import column_of_lines, longest

#: A UTF-8 character takes at most this many bytes: a line of n characters is no longer than 4 n bytes.
BYTES_A_CHARACTER = 4


def oversize(index: int, length: int, max_line_bytes: int) -> Rejected:
    """Return the mark of a line that is ``length`` bytes long, which is too much."""
    message = f"the line is {length:,} bytes long, only its first {max_line_bytes:,} are kept (max_line_bytes)"
    return Rejected(index, "oversize", message)


def decoded(raw: bytes | bytearray) -> str:
    """Return bytes as text that can be turned back into the same bytes.

    >>> decoded(b"caf\\xc3\\xa9 \\xff")
    'café \\udcff'
    """
    return raw.decode("utf-8", "surrogateescape")


class LineSplitter:
    """Turns blocks of bytes, cut anywhere, into lines; holds at most ``max_line_bytes`` of a line that has not ended.

    Attributes:
        max_line_bytes: a line longer than this, without its end, is cut there and rejected as ``oversize``.
        columns: whether to give lines as a `streamlab.columns.Column`, where they are UTF-8 and none is too long.

    >>> splitter = LineSplitter(max_line_bytes=8)
    >>> splitter.feed(b"one\\r\\ntwo\\nthr").lines
    ['one', 'two']
    >>> splitter.feed(b"ee is long").lines
    []
    >>> splitter.finish()
    Chunk(lines=['three is'], rejected=[Rejected(position=0, kind='oversize', message='the line is 13 bytes long, only \
its first 8 are kept (max_line_bytes)')], source='')
    """

    def __init__(self, max_line_bytes: int, *, columns: bool = False) -> None:
        self.max_line_bytes = max_line_bytes
        self.columns = columns
        self._begin()

    @property
    def held(self) -> int:
        """Bytes of the line that has not ended, kept or not."""
        return self._length

    def _begin(self) -> None:
        self._carry = bytearray()  # the start of the line that has not ended yet
        self._length = 0  # how long that line is so far, kept or not
        self._last = b""  # its last byte: perhaps the \r before its \n

    def feed(self, block: bytes) -> Chunk:
        """Take the next bytes; return the lines that end in them, perhaps none."""
        end = block.rfind(b"\n") + 1
        if not end:
            self._hold(block)
            return Chunk([])
        cut = self._length - len(self._carry)
        whole = b"".join((self._carry, self._last if cut else b"", block[:end])) if self._length else block[:end]
        self._begin()
        self._hold(block[end:])
        column = column_of_lines(whole) if self.columns and not cut else None
        if column is not None and (len(whole) <= self.max_line_bytes or longest(column) <= self.max_line_bytes):
            return Chunk(column)
        lines = decoded(whole).split("\n")
        lines.pop()  # what follows the last \n: nothing
        if b"\r" in whole:
            lines = [line.removesuffix("\r") for line in lines]
        limit = self.max_line_bytes
        if cut or (len(whole) > limit and max(map(len, lines)) * BYTES_A_CHARACTER > limit):
            return self._look_at_each(whole, cut)
        return Chunk(lines)

    def finish(self) -> Chunk:
        """Return the last line, if it has no ``\\n``; the splitter is as new after it."""
        kept, length = self._carry, self._length
        self._begin()
        if not length:
            return Chunk([])
        rejected = [oversize(0, length, self.max_line_bytes)] if length > self.max_line_bytes else []
        return Chunk([decoded(kept)], rejected)

    def _hold(self, part: bytes) -> None:
        if part:
            self._carry += part[: self.max_line_bytes - len(self._carry)]
            self._length += len(part)
            self._last = part[-1:]

    def _look_at_each(self, whole: bytes, cut: int) -> Chunk:
        """Split lines of which some may be too long; all but one of the ``cut`` bytes are missing from the first."""
        limit = self.max_line_bytes
        lines: list[str] = []
        rejected: list[Rejected] = []
        missing = max(cut - 1, 0)
        for index, raw in enumerate(whole[:-1].split(b"\n")):
            length = len(raw) - raw.endswith(b"\r") + missing
            missing = 0
            lines.append(decoded(raw[: min(len(raw) - raw.endswith(b"\r"), limit)]))
            if length > limit:
                rejected.append(oversize(index, length, limit))
        return Chunk(lines, rejected)
