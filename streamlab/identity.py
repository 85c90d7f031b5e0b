"""Which file is which, whatever it is called by now: device, inode, and what it begins with."""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

#: Bytes of its beginning that tell a file from another one which got its inode.
HEAD = 1024


class Identity(NamedTuple):
    """Tells a file from all others, also after it has been renamed, or when another one has got its inode.

    Attributes:
        device: number of its file system.
        inode: number of the file there.
        length: bytes of its beginning that are known.
        head: what they are, as a digest.
    """

    device: int
    inode: int
    length: int
    head: str

    def fits(self, descriptor: int) -> bool:
        """Tell whether an open file is this one."""
        status = os.fstat(descriptor)
        return (status.st_dev, status.st_ino) == self[:2] and digest(descriptor, 0, self.length) == self.head


def identify(descriptor: int) -> Identity:
    """Return the identity of an open file, by what it begins with now."""
    status = os.fstat(descriptor)
    head = os.pread(descriptor, HEAD, 0)
    return Identity(status.st_dev, status.st_ino, len(head), _digest(head))


def digest(descriptor: int, start: int, length: int) -> str:
    """Return a digest of a stretch of an open file; of a shorter one, if there is not so much."""
    return _digest(os.pread(descriptor, length, start))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
