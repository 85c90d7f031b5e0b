"""What a line did before it failed, as far as it is known, when it was not observed.

The segment where it failed knows its visits. Of the segments before, what entered and what left is known, and by its path
every processor in between; the values between two processors of one segment are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Hop, Rows
from streamlab.paths import Node, Paths


class NotRecorded:
    """Stands in a hop for a value that was not recorded."""

    def __repr__(self) -> str:
        return "(not recorded)"


NOT_RECORDED = NotRecorded()


@dataclass(frozen=True, slots=True)
class Stage:
    """The batch as a segment found it, and what the segment noted.

    Attributes:
        names: the segment's processors.
        ids: path node of each row.
        values: value of each row.
        origin: index of the line of each row; ``None`` when row *i* is line *i*.
        parents: of each row after the segment, the one before it that it came from; ``None`` when none became several.
        noted: the visits that the segment recorded, by row.
    """

    names: frozenset[str]
    ids: NDArray[np.integer[Any]]
    values: Sequence[Any]
    origin: NDArray[np.int64] | None
    parents: NDArray[np.int64] | None
    noted: Mapping[int, Sequence[Hop]]


def recall(lines: Iterable[int], stages: Sequence[Stage], rows: Rows, paths: Paths) -> None:
    """Add to the visits of failed lines those that they made in segments which did not record them.

    Args:
        lines: indexes of the lines.
        stages: the batch at each segment, in order.
        rows: the batch after the last one; its ``hops`` are completed.
        paths: the tree that the path nodes are of.
    """
    afters: list[Stage | Rows] = [*stages[1:], rows]
    for line in lines:
        hops: list[Hop] = []
        for stage, after in zip(stages, afters, strict=True):
            for row in _span(stage.origin, line):
                entry = paths.nodes[stage.ids[row]]
                if entry.kind == "visit" and entry.processor in stage.names:
                    left = [end for end in _span(stage.parents, row) if end < len(after.ids)]  # a stop holds rows back
                    ends = [(paths.nodes[after.ids[end]], after.values[end]) for end in left]
                    recorded = list(stage.noted.get(row, ()))
                    known = {hop.node for hop in recorded}
                    more = [hop for hop in _between(entry, stage.values[row], ends) if hop.node not in known]
                    # In the tree, a place has a higher number than those that lead to it.
                    hops += sorted([*recorded, *more], key=lambda hop: hop.node) if more else recorded
        rows.hops[line] = hops


def _span(sorted_: NDArray[np.int64] | None, index: int) -> range:
    """Return the positions at which a rising array holds an index; without one, position *i* holds *i*."""
    if sorted_ is None:
        return range(index, index + 1)
    return range(*np.searchsorted(sorted_, (index, index + 1)).tolist())


def _between(entry: Node, value: Any, ends: Sequence[tuple[Node, Any]]) -> list[Hop]:
    """Return the visits from where a row entered a segment to where its branches left it."""
    visits = {entry.id: Hop(entry.id, entry.processor or "", value, [], None)}
    for end, out in ends:
        way: list[Node] = []
        node: Node | None = end
        while node is not None and node is not entry:
            if node.kind != "fork":
                way.append(node)
            node = node.parent
        sender = visits[entry.id]
        for node in reversed(way[1:]):
            sender.outs.append((node.processor or "", NOT_RECORDED))
            sender = visits.setdefault(node.id, Hop(node.id, node.processor or "", NOT_RECORDED, [], None))
        if way:
            sender.outs.append((end.processor or end.fate.value, out))
    return list(visits.values())
