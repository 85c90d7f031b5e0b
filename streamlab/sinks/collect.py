"""Outputs kept in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Collect:
    """Keeps all outputs, or the last ``keep``; a batch costs one append, tables are made of `chunks` when asked for.

    Args:
        keep: how many outputs to keep; ``None`` keeps them all.

    Attributes:
        total: outputs that were written so far, kept or not.

    >>> sink = Collect(keep=2)
    >>> sink.write(["a", "b"], np.array([0, 1]))
    ()
    >>> sink.write(["c"], np.array([2]))
    ()
    >>> sink.values(), sink.total
    (['b', 'c'], 3)
    """

    name = "collect"
    columns = True

    def __init__(self, keep: int | None = None) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"keep is {keep}; it must be at least 1, or None for all")
        self.keep = keep
        self.total = 0
        self._parts: deque[tuple[NDArray[np.int64], Sequence[Any]]] = deque()
        self._held = 0  # outputs in the parts: at most a batch more than `keep`
        self._lock = threading.Lock()

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> tuple[()]:
        """Take one batch, and keep the list or column and the array themselves: the caller must not change them any more."""
        if not len(values):
            return ()
        keep = self.keep
        with self._lock:
            self.total += len(values)
            if keep is not None and len(values) > keep:
                values, line_no = values[-keep:], line_no[-keep:].copy()
            self._parts.append((line_no, values))
            self._held += len(values)
            while keep is not None and self._held - len(self._parts[0][1]) >= keep:
                self._held -= len(self._parts.popleft()[1])
        return ()

    def chunks(self) -> list[tuple[NDArray[np.int64], Sequence[Any]]]:
        """Return what is kept now, oldest first, as pairs of line numbers (``int64``, -1 for none) and values.

        They are the sink's own lists: read them, do not change them.
        """
        with self._lock:
            parts = list(self._parts)
            surplus = 0 if self.keep is None else max(self._held - self.keep, 0)
        if surplus:
            line_no, values = parts[0]
            parts[0] = (line_no[surplus:], values[surplus:])
        return parts

    def values(self) -> list[Any]:
        """Return the values that are kept now, oldest first."""
        return [value for _, values in self.chunks() for value in values]

    def close(self) -> None:
        """Keep everything: what was collected can still be read."""
