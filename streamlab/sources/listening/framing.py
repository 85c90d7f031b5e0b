"""Where messages of syslog over TCP begin and end (RFC 6587): counted, or ended by a newline or NUL, each as it says."""

from __future__ import annotations

import re
from typing import Literal

from streamlab.batch import Chunk, Rejected
from streamlab.sources.lines import decoded, oversize

Framing = Literal["auto", "newline"]
#: How messages can be told apart.
FRAMINGS: tuple[Framing, ...] = ("auto", "newline")

#: A count and its space. A number of more than nine digits is none: it is a time in seconds, or nonsense.
_COUNT = re.compile(rb"([1-9][0-9]{0,8}) ")
_LATER_COUNT = re.compile(rb"\n[1-9][0-9]{0,8} ")
_HALF_COUNT = re.compile(rb"[1-9][0-9]{0,8}\Z")
_END = re.compile(rb"[\n\0]")


class Framer:
    """Turns what one connection sends, cut anywhere, into messages; holds at most ``max_line_bytes`` of one, and few more.

    A message that begins with a number and a space is counted: so many bytes follow, whatever they are. Any other one ends
    at the next newline or NUL. One ``\\n``, ``\\r\\n`` or NUL at its end is no part of a message, and neither is one of
    another kind right behind that, as some senders put there.

    Args:
        max_line_bytes: a longer message is cut there and rejected as ``oversize``.
        framing: ``"newline"`` if a number at the beginning is never a count.

    >>> framer = Framer(max_line_bytes=100)
    >>> framer.feed(b"<34>first\\n15 <34>sec").lines
    ['<34>first']
    >>> framer.feed(b"ond\\nline<34>third\\x00<34>fou").lines
    ['<34>second\\nline', '<34>third']
    >>> framer.finish().lines
    ['<34>fou']
    """

    def __init__(self, max_line_bytes: int, framing: Framing = "auto") -> None:
        self._limit = max_line_bytes
        self._counts = framing == "auto"
        self._digits = b""  # perhaps the beginning of a count
        self._surplus = b""  # between two messages: what still belongs to the one before
        self._begin(0)
        self._inside = False

    def feed(self, block: bytes) -> Chunk:
        """Take the next bytes; return the messages that end in them, perhaps none."""
        self._lines: list[str] = []
        self._rejected: list[Rejected] = []
        if self._digits:
            block, self._digits = self._digits + block, b""
        at = 0
        while at < len(block):
            at = self._continue(block, at) if self._inside else self._next(block, at)
        return Chunk(self._lines, self._rejected)

    def finish(self) -> Chunk:
        """Return the message that has not ended: what came of it is a line. The framer is as new after it."""
        self._lines, self._rejected = [], []
        if self._digits:
            self._begin(0)
            self._hold(self._digits)
        if self._inside:
            self._end(b"")
        self._digits = self._surplus = b""
        return Chunk(self._lines, self._rejected)

    def _next(self, block: bytes, at: int) -> int:
        """Begin with what is at a place of a block, between two messages; return where to go on."""
        surplus, self._surplus = self._surplus, b""
        if block[at] in surplus:
            return at + 1
        count = _COUNT.match(block, at) if self._counts else None
        if count is not None:
            return self._counted(block, count.end(), int(count[1]))
        if self._counts and _HALF_COUNT.match(block, at):
            self._digits = block[at:]
            return len(block)
        end = self._many(block, at)
        if end == at:
            self._begin(0)
        return end

    def _counted(self, block: bytes, at: int, size: int) -> int:
        """Take a message of so many bytes, or begin with it if they are not all there; return where to go on."""
        end = at + size
        if end > len(block) or size > self._limit:
            self._begin(size)
            return at
        raw = block[at:end]
        self._lines.append(decoded(raw[: size - _trailer(raw)]))
        self._surplus = b"\n\0"
        return end

    def _many(self, block: bytes, at: int) -> int:
        """Take at once the messages up to a newline behind which there may be others than those; return where to go on."""
        nul = block.find(b"\0", at)
        until = len(block) if nul < 0 else nul
        count = _LATER_COUNT.search(block, at, until) if self._counts else None
        end = block.rfind(b"\n", at, until if count is None else count.start() + 1) + 1
        if not at < end <= at + self._limit:
            return at
        lines = decoded(block[at : end - 1]).split("\n")
        self._lines += [line.removesuffix("\r") for line in lines] if block.find(b"\r", at, end) >= 0 else lines
        self._surplus = b"\0"
        return end

    def _continue(self, block: bytes, at: int) -> int:
        """Go on with a message; return where it ends, or the block."""
        if self._left:
            stop = min(at + self._left, len(block))
            self._left -= stop - at
            self._hold(block[at:stop])
            if not self._left:
                self._end(b"\n\0")
            return stop
        found = _END.search(block, at)
        stop = found.end() if found else len(block)
        self._hold(block[at:stop])
        if found:
            self._end(b"\0" if found[0] == b"\n" else b"\n")
        return stop

    def _begin(self, count: int) -> None:
        """Begin with a message of so many bytes, or with one that is not counted (0)."""
        self._inside = True
        self._left = count
        self._kept = bytearray()
        self._length = 0  # how long it is so far, kept or not, with what ends it
        self._last = b""  # its last two bytes

    def _hold(self, part: bytes) -> None:
        self._kept += part[: self._limit + 2 - len(self._kept)]  # what ends it is taken off later
        self._length += len(part)
        self._last = (self._last + part[-2:])[-2:]

    def _end(self, surplus: bytes) -> None:
        """Give the message, which has come to its end."""
        length = self._length - _trailer(self._last)
        if length > self._limit:
            self._rejected.append(oversize(len(self._lines), length, self._limit))
        self._lines.append(decoded(self._kept[: min(length, self._limit)]))
        self._inside, self._surplus = False, surplus


def _trailer(raw: bytes) -> int:
    """Return how many bytes at the end of a message are no part of it."""
    return 2 if raw.endswith(b"\r\n") else int(raw.endswith((b"\n", b"\0")))
