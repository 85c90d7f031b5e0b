"""Letting the first values through."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Kernel, Outcome
from streamlab.processors.keys import before, keys_of


@dataclass(frozen=True)
class head(Columnar):
    """Let the first ``n`` values through; or, with ``by``, the first ``n`` of each key.

    State: how many there were; with ``by`` of each key that ever came.

    Args:
        n: how many, 0 or more.
        by: the field that is the key.

    Raises:
        ValueError: ``n`` is negative.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("first", processors.head(2)).run(["a", "b", "c"]).output["value"].tolist()
        ['a', 'b']
    """

    n: int
    by: str | None = None

    ordered = True

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"n={self.n!r} must be 0 or more")

    def bind(self) -> Kernel:
        """Return what counts, for one run."""
        return _Head(self.n) if self.by is None else _HeadOfEach(self.n, self.by)


class _Head:
    """How many values may still go through."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, column: Column) -> Outcome:
        """Return which values go through."""
        keep = np.arange(len(column)) < self.left
        self.left -= min(self.left, len(column))
        return Outcome(column, keep)


class _HeadOfEach:
    """How many values of each key came."""

    def __init__(self, n: int, by: str) -> None:
        self.n = n
        self.by = by
        self.gone: dict[Hashable, int] = {}

    def __call__(self, column: Column) -> Outcome:
        """Return which values go through."""
        keys = keys_of(column, self.by)
        gone = np.array([self.gone.get(key, 0) for key in keys.distinct], dtype=np.int64)
        keep = before(keys.codes) + keys.of_each(gone) < self.n
        self.gone.update(zip(keys.distinct, (gone + keys.counts()).tolist(), strict=True))
        return Outcome(column, keep, problems=keys.problems)
