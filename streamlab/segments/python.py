"""The Python segment: functions and classes that follow each other, line by line.

There are two ways through it, which do the same. The walk takes anything and can be observed. The generated loop takes
what is usual, and hands all else to the walk, in the middle of a line if need be, so that no processor is called twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from streamlab.batch import Rows
from streamlab.columns import Column
from streamlab.host import Host
from streamlab.paths import Node, Paths
from streamlab.policy import Limits
from streamlab.segments import Stopped
from streamlab.segments.loop import Loops
from streamlab.segments.steps import Step
from streamlab.segments.walk import Walk

#: Rows that are worked on without a look at the clock.
SPAN = 512


class PythonSegment:
    """Walks the rows that stand at its processors.

    Args:
        steps: its processors.
        paths: the tree that their branches grow.
    """

    def __init__(self, steps: Sequence[Step], paths: Paths, host: Host, limits: Limits) -> None:
        self.steps = {step.name: step for step in steps}
        self.names = frozenset(self.steps)
        self._paths = paths
        self._host = host
        self._limits = limits
        self._loops = Loops(self.steps, paths, limits.max_hops)

    def advance(self, rows: Rows) -> None:
        """Walk every row that stands here to where it ends or leaves."""
        nodes = self._paths.nodes
        alone = rows.together is not None
        places = np.unique(rows.ids).tolist() if rows.together is None else [rows.together]
        here = {id for id in places if nodes[id].processor in self.names}
        if not here:
            return
        values = rows.values.to_list() if isinstance(rows.values, Column) else rows.values
        walk = Walk(self.steps, self._paths, self._host, self._limits)
        end = 0
        left: Iterator[Any] = iter(())
        try:
            for start, end, observed in _spans(len(rows.ids), _observed(rows, self.names, nodes)):
                if observed:
                    walk.observe(nodes[rows.ids[start]], values[start])
                else:
                    span = values[start:end]
                    left = iter(span) if alone else zip(rows.ids[start:end].tolist(), span, strict=True)
                    self._loops.for_rows(here, paired=not alone)(left, walk)
                if self._host.clock() > rows.until:
                    rows.lines, rows.ids = rows.lines[:end], rows.ids[:end]  # in the first segment, row i is line i
                    break
        except Stopped:
            stay = end - sum(1 for _ in left)
            walk.ids += rows.ids[stay:].tolist()
            walk.values += values[stay:]
            walk.finish(rows)
            raise
        walk.finish(rows)
        self._loops.learn(walk)


def _spans(rows: int, observed: Iterable[int]) -> Iterator[tuple[int, int, bool]]:
    """Yield what to do in one go, as ``(first row, last row + 1, whether it is the one row to be observed)``."""
    done = 0
    for row in observed:
        yield from ((start, min(start + SPAN, row), False) for start in range(done, row, SPAN))
        yield row, row + 1, True
        done = row + 1
    yield from ((start, min(start + SPAN, rows), False) for start in range(done, rows, SPAN))


def _observed(rows: Rows, names: frozenset[str], nodes: Sequence[Node]) -> list[int]:
    """Return the rows to observe: those of observed lines that stand here."""
    if rows.origin is None:
        found = rows.observed
    else:
        found = np.flatnonzero(np.isin(rows.origin, np.asarray(rows.observed, dtype=np.int64))).tolist()
    return [row for row in found if nodes[rows.ids[row]].processor in names]
