"""What tells whether a file is what was read before, whatever it is called by now: its key, and marks of what it holds."""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple, Protocol

#: Bytes of its beginning that tell a file from another one, at most.
HEAD = 1024
#: Bytes before an offset that tell whether a file is what was read up to there, at most.
TAIL = 1024

#: Device and inode.
Key = tuple[int, int]


class Mark(NamedTuple):
    """What a file holds just before an offset: tells whether it, or a copy of it, is what was read up to there.

    Attributes:
        offset: where the stretch ends, in bytes from the beginning.
        length: how many bytes it is.
        digest: what they are.
    """

    offset: int
    length: int
    digest: str

    @classmethod
    def of(cls, data: bytes, offset: int) -> Mark:
        """Return the mark of some bytes that end at an offset."""
        return cls(offset, len(data), hashlib.blake2b(data, digest_size=16).hexdigest())

    @classmethod
    def at(cls, descriptor: int, offset: int, length: int = TAIL) -> Mark:
        """Return the mark of what an open file holds before an offset, at most so many bytes."""
        start = max(offset - length, 0)
        return cls.of(os.pread(descriptor, offset - start, start), offset)

    def fits(self, descriptor: int) -> bool:
        """Tell whether an open file holds this."""
        return Mark.at(descriptor, self.offset, self.length) == self


class Passing(Protocol):
    """What lines are of.

    Attributes:
        passed: up to where they have passed, with what comes before.
    """

    passed: Mark


class Stretch(NamedTuple):
    """What lines have their `Places` in: a block of a text, until they have passed.

    Attributes:
        of: what it is of.
        at: the place of the block.
        before: the last bytes before it.
        block: the bytes.
    """

    of: Passing
    at: int
    before: bytes
    block: bytes

    def pass_to(self, offset: int) -> None:
        """Take note that all before an offset in the block has passed."""
        end = offset - self.at
        tail = self.block[max(end - TAIL, 0) : end]
        self.of.passed = Mark.of((self.before + tail)[-TAIL:], offset)


def key_of(status: os.stat_result) -> Key:
    """Return what tells the file from all others that exist."""
    return status.st_dev, status.st_ino
