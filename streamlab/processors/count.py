"""Counting values."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamlab.columns import Column
from streamlab.paths import Fate
from streamlab.processors.columnar import Columnar, Kernel, Outcome
from streamlab.processors.keys import Keys, before, keys_of
from streamlab.processors.number import with_numbers


@dataclass(frozen=True)
class count(Columnar):
    """Count the values, or those of each key; at the end of input give ``{"key": ..., "count": ...}`` for each.

    The values themselves are absorbed, and the counts come in the order in which the keys came first. Without ``by`` there
    is one, ``{"count": ...}``. State: one number for each key that ever came.

    Args:
        by: the field that is the key.
        running: let every value through instead, as fields with the ``"count"`` of its key so far, itself included; text
            becomes the field ``line``. There is nothing left at the end then.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> levels = Pipeline("p").add("level", lambda line: {"level": line[:4]}, to="count")
        >>> run = levels.add("count", processors.count(by="level")).run(["warn: hot", "info: ok", "warn: hot"])
        >>> run.output[["key", "count"]].to_dict("records")
        [{'key': 'warn', 'count': 2}, {'key': 'info', 'count': 1}]
    """

    by: str | None = None
    running: bool = False

    ordered = True
    kept = Fate.ABSORBED

    def bind(self) -> Kernel:
        """Return what counts, for one run."""
        return (_Running if self.running else _AtTheEnd)(self.by, whole=self.by is None)


@dataclass(frozen=True)
class top(Columnar):
    """Find the most frequent keys; at the end of input give ``{"key": ..., "count": ...}`` for each of them, most first.

    The values themselves are absorbed. Of keys that are equally frequent the one that came first is first. State: one
    number for each key that ever came.

    Args:
        n: how many keys, 0 or more.
        by: the field that is the key; without it the text itself is.

    Raises:
        ValueError: ``n`` is negative.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> run = Pipeline("p").add("top", processors.top(1)).run(["cold", "hot", "hot"])
        >>> run.output[["key", "count"]].to_dict("records")
        [{'key': 'hot', 'count': 2}]
    """

    n: int
    by: str | None = None

    ordered = True
    kept = Fate.ABSORBED

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"n={self.n!r} must be 0 or more")

    def bind(self) -> Kernel:
        """Return what counts, for one run."""
        return _AtTheEnd(self.by, most=self.n)


class _Counts:
    """How many values of each key there were, in order of first appearance; of a ``whole`` all have one key."""

    def __init__(self, by: str | None, whole: bool = False) -> None:
        self.by = by
        self.whole = whole
        self.of: dict[Hashable, int] = {None: 0} if whole else {}

    def add(self, column: Column) -> tuple[Keys, dict[Hashable, int]]:
        """Count a column; return its keys, and their counts before."""
        keys = Keys(np.zeros(len(column), dtype=np.int64), [None]) if self.whole else keys_of(column, self.by)
        earlier = {key: self.of.get(key, 0) for key in keys.distinct}
        for key, more in zip(keys.distinct, keys.counts().tolist(), strict=True):
            self.of[key] = earlier[key] + more
        return keys, earlier


class _Running(_Counts):
    """Lets values through, with the counts so far."""

    def __call__(self, column: Column) -> Outcome:
        """Count a column, and return it with the counts."""
        keys, earlier = self.add(column)
        numbers = keys.of_each(np.fromiter(earlier.values(), np.int64)) + before(keys.codes) + 1
        return Outcome(with_numbers(column, "count", numbers), problems=keys.problems)


class _AtTheEnd(_Counts):
    """Absorbs values; gives the counts when it is flushed, or only those of the most frequent keys."""

    def __init__(self, by: str | None, whole: bool = False, most: int | None = None) -> None:
        super().__init__(by, whole)
        self.most = most

    def __call__(self, column: Column) -> Outcome:
        """Count a column."""
        keys, _ = self.add(column)
        return Outcome(column, np.zeros(len(column), dtype=np.bool_), problems=keys.problems)

    def flush(self) -> Iterator[dict[str, Any]]:
        """Yield the counts."""
        if self.whole:
            yield {"count": sum(self.of.values())}
            return
        counts = self.of.items()
        for key, n in counts if self.most is None else sorted(counts, key=lambda item: -item[1])[: self.most]:
            yield {"key": key, "count": n}
