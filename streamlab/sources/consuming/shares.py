"""Which offsets of a topic's partitions are to be read next, and by whom they are not read yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping


class Shares:
    """Gives out stretches of partitions, each offset once, in turn from all that have some.

    Args:
        given: of each partition the offset up to which all has been given out.
        there: of each partition the offset after the last one that is there.

    Attributes:
        given: see above.
        there: see above.

    >>> shares = Shares({0: 0, 1: 5}, {0: 10, 1: 7})
    >>> shares.take(lines=9, parts=3)
    [(0, 0, 3), (1, 5, 7), (0, 3, 6)]
    >>> shares.take(lines=9, parts=3), shares.left
    ([(0, 6, 9), (0, 9, 10)], 0)
    """

    def __init__(self, given: Mapping[int, int], there: Mapping[int, int]) -> None:
        self.given = dict(given)
        self.there = dict(there)
        self._turn = deque(given)

    @property
    def left(self) -> int:
        """How many offsets have not been given out."""
        return sum(self.there[partition] - at for partition, at in self.given.items())

    def add(self, partition: int, at: int) -> None:
        """Begin with another partition."""
        self.given[partition] = self.there[partition] = at
        self._turn.append(partition)

    def take(self, lines: int, parts: int) -> list[tuple[int, int, int]]:
        """Return stretches: partition, first offset, the offset after the last one.

        Args:
            lines: how many offsets, at most.
            parts: how many stretches, at most.
        """
        share = max(-(-lines // max(parts, 1)), 1)
        taken: list[tuple[int, int, int]] = []
        nothing = 0  # partitions in a row that have none
        while lines > 0 and len(taken) < parts and nothing < len(self._turn):
            partition = self._turn[0]
            self._turn.rotate(-1)
            lo = self.given[partition]
            hi = min(self.there[partition], lo + min(share, lines))
            nothing += 1
            if lo < hi:
                taken.append((partition, lo, hi))
                self.given[partition] = hi
                lines -= hi - lo
                nothing = 0
        return taken
