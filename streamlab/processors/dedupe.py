"""Letting a value through once."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Kernel, Outcome
from streamlab.processors.keys import Keys, keys_of


@dataclass(frozen=True)
class dedupe(Columnar):
    """Drop a value that was let through not long ago: whose key is among the last ``limit`` that were.

    State: these keys, each once. The oldest is forgotten for the newest (first in, first out), so that what comes again
    after ``limit`` others is let through again.

    Args:
        by: the field that is the key; without it the text itself is.
        limit: how many keys to remember, at least 1.

    Raises:
        ValueError: the limit is less than 1.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("once", processors.dedupe()).run(["hot", "hot", "cold", "hot"]).output["value"].tolist()
        ['hot', 'cold']
    """

    by: str | None = None
    limit: int = 100_000

    ordered = True

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit={self.limit!r} must be at least 1")

    def bind(self) -> Kernel:
        """Return what remembers the keys of one run."""
        return _Dedupe(self.by, self.limit)


class _Dedupe:
    """The keys that were let through last, as a queue and as a set."""

    def __init__(self, by: str | None, limit: int) -> None:
        self.by = by
        self.limit = limit
        self.queue: deque[Hashable] = deque()
        self.known: set[Hashable] = set()

    def __call__(self, column: Column) -> Outcome:
        """Return which values are new."""
        keys = keys_of(column, self.by)
        new = [number for number, key in enumerate(keys.distinct) if key not in self.known]
        if not self._independent(keys, len(new)):
            return Outcome(column, self._one_by_one(keys), problems=keys.problems)
        for number in new:
            self._let_through(keys.distinct[number])
        keep = np.zeros(len(column), dtype=np.bool_)
        keep[keys.first()[new]] = True
        return Outcome(column, keep, problems=keys.problems)

    def _independent(self, keys: Keys, new: int) -> bool:
        """Tell whether none of a column's keys is forgotten within the column, so that it does not matter when which is."""
        forgotten = len(self.queue) + new - self.limit
        return new <= self.limit and (forgotten <= 0 or {*islice(self.queue, forgotten)}.isdisjoint(keys.distinct))

    def _one_by_one(self, keys: Keys) -> NDArray[np.bool_]:
        keep = np.zeros(len(keys.codes), dtype=np.bool_)
        for row, code in enumerate(keys.codes.tolist()):
            if code >= 0 and keys.distinct[code] not in self.known:
                self._let_through(keys.distinct[code])
                keep[row] = True
        return keep

    def _let_through(self, key: Hashable) -> None:
        if len(self.queue) == self.limit:
            self.known.discard(self.queue.popleft())
        self.queue.append(key)
        self.known.add(key)
