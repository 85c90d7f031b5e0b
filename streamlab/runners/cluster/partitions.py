"""Which partition a value belongs to: the same one for equal keys, in every process and at any time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from numbers import Number
from typing import Any
from zlib import crc32

import numpy as np

from streamlab.processors import Processor

#: Keys whose partition is remembered.
KNOWN = 100_000
_REMEMBERED = frozenset({str, int, bytes, bool})


class Partitions:
    """Says which partition has what a processor keeps for a value, from 0.

    What has no key is in one place, and so is all of a loop. A value of which the key cannot be had, or is not plain, is in
    the first one: the processor will say there what it has to say of it.

    Args:
        processor: the processor.
        partitions: how many there are.
        loop: the name of the loop that it is in.

    >>> import streamlab
    >>> class count:
    ...     def __call__(self, value): ...
    >>> of = Partitions(streamlab.Pipeline("p").add("count", count, key=len).processors["count"], 8)
    >>> of("abc") == of("xyz")
    True
    """

    def __init__(self, processor: Processor, partitions: int, loop: str | None = None) -> None:
        self._partitions = partitions
        self._known: dict[Any, int] = {}  # keys that were seen: most come again
        self._key = processor.key
        self._by_name = isinstance(self._key, str)
        #: The one partition that has it all; ``None`` if there are several.
        self.home: int | None = None
        if processor.key is None or loop is not None:
            self.home = crc32((loop or processor.name).encode("utf-8", "surrogatepass")) % partitions

    def __call__(self, value: Any) -> int:
        """Return the partition for a value."""
        if self.home is not None:
            return self.home
        try:
            key = value[self._key] if self._by_name else self._key(value)  # type: ignore[operator, misc]
            if type(key) not in _REMEMBERED:
                return home_of(key, self._partitions)
        except Exception:  # the user's code
            return 0
        home = self._known.get(key)
        if home is None:
            home = home_of(key, self._partitions)
            if len(self._known) < KNOWN:
                self._known[key] = home
        return home


def home_of(key: Any, partitions: int) -> int:
    """Return the partition of a key."""
    plain = _plain(key)
    return 0 if plain is None else crc32(plain) % partitions


def _plain(key: Any) -> bytes | None:
    """Return a key as bytes, the same for all that are equal to it; ``None`` if that cannot be known."""
    if isinstance(key, str):
        return b"t" + str.__str__(key).encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, np.generic) and not isinstance(key, Number):
        return _plain(key.item())
    if isinstance(key, Number):  # 1, 1.0, True, Decimal(1) and np.int64(1) are one key, and hash alike in every process
        return b"n" + (b"nan" if key != key else str(hash(key)).encode())
    if isinstance(key, datetime):
        return b"m" + (key if key.tzinfo is None else key.astimezone(UTC)).isoformat().encode()
    if isinstance(key, date):
        return b"d" + key.isoformat().encode()
    if isinstance(key, tuple):
        parts = [_plain(part) for part in key]
        known = [part for part in parts if part is not None]
        return b"s" + b"".join(b"%d:%b" % (len(part), part) for part in known) if len(known) == len(parts) else None
    if isinstance(key, frozenset):
        members = [_plain(member) for member in key]
        known = sorted(member for member in members if member is not None)
        return b"f" + b"".join(b"%d:%b" % (len(m), m) for m in known) if len(known) == len(members) else None
    return b"-" if key is None else None
