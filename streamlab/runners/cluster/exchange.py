"""What goes from one stage to the next: rows on their way, for one partition, with the places that put them in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch, Rows
from streamlab.columns import Column
from streamlab.paths import Paths, Twig
from streamlab.processors import Processor
from streamlab.runners.cluster.partitions import Partitions
from streamlab.segments.stages import Stage


@dataclass(frozen=True, slots=True)
class Block:
    """Rows for a partition.

    A row's place is the number of its range, that of its line there, its number among the rows that the first stage made of
    the line, its number among those that the next one made of that row, and so on: sorted by it, rows are in the order in
    which a loop over all lines would come to them. No place begins with another one, so shorter ones are filled up with 0.

    Attributes:
        twigs: the nodes where rows stand, and those on the way to them.
        ids: the node of each row, shape ``(rows,)``.
        places: shape ``(rows, numbers of a place)``.
        lines: the line that each row came from.
        values: the value of each row.
        observed: whether the visits of each row are to be observed, shape ``(rows,)``.
        kept: whether its line is kept for traces, shape ``(rows,)``.
        offsets: where the line of each row is in its source, ``None`` if workers do not know, shape ``(rows,)``.
    """

    twigs: Sequence[Twig]
    ids: NDArray[np.int64]
    places: NDArray[np.int64]
    lines: Sequence[str]
    values: Sequence[Any]
    observed: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    offsets: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rows that have come to a stage, in order; each is as a line.

    Attributes:
        rows: the rows.
        places: their places.
        kept: whether their lines are kept for traces.
        offsets: where their lines are in the source; ``None`` if workers do not know.
    """

    rows: Rows
    places: NDArray[np.int64]
    kept: NDArray[np.bool_]
    offsets: NDArray[np.int64] | None


def chosen(values: Sequence[Any], rows: NDArray[np.int64]) -> list[Any]:
    """Return some of the values of a list or a column."""
    if isinstance(values, Column):
        return values.take(rows).to_list()
    return [values[row] for row in rows.tolist()]


def stacked(places: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return places one after the other, the shorter ones filled up."""
    width = max(part.shape[1] for part in places)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in places])


def places_after(batch: Batch, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of the rows that a batch came to, from those of its lines."""
    origin = np.arange(len(batch.ids), dtype=np.int64) if batch.origin is None else batch.origin
    among = np.arange(len(origin), dtype=np.int64) - np.searchsorted(origin, origin)
    return np.column_stack((places[origin], among))


def standing(batch: Batch, placed: frozenset[str]) -> NDArray[np.int64]:
    """Return the rows of a batch that stand at processors which run in another stage."""
    nodes = batch.paths.nodes
    at = [id for id in np.unique(batch.ids).tolist() if nodes[id].kind == "visit" and nodes[id].processor in placed]
    return np.flatnonzero(np.isin(batch.ids, at))


def shared_out(
    batch: Batch,
    stage: Stage,
    places: NDArray[np.int64],
    processors: Mapping[str, Processor],
    partitions: int,
    offsets: NDArray[np.int64] | None = None,
    kept: NDArray[np.bool_] | None = None,
) -> dict[int, Block]:
    """Return the rows of a batch that stand at what is placed in a later stage as blocks, by partition.

    Args:
        batch: where they came from.
        stage: the later stage.
        places: of all rows of the batch.
        processors: by name.
        partitions: how many there are.
        offsets: of its lines, where they are in their source.
        kept: of its lines, whether they are kept for traces.
    """
    rows = standing(batch, stage.placed)
    names = [batch.paths.nodes[id].processor or "" for id in batch.ids[rows].tolist()]
    values = chosen(batch.values, rows)
    target = np.array(_targets(stage, names, values, processors, partitions), dtype=np.int64)
    origin = np.arange(len(batch.ids), dtype=np.int64) if batch.origin is None else batch.origin
    blocks = {}
    for partition in np.unique(target).tolist():
        among = np.flatnonzero(target == partition)
        own = rows[among]
        observed = np.isin(origin[own], list(batch.hops))
        failed = np.isin(origin[own], [f.line_no - batch.first for f in batch.failures if f.line_no is not None])
        blocks[partition] = Block(
            batch.paths.pruned(np.unique(batch.ids[own]).tolist()),
            batch.ids[own].astype(np.int64),
            places[own],
            chosen(batch.lines, origin[own]),
            [values[row] for row in among.tolist()],
            observed,
            observed | failed | (False if kept is None else kept[origin[own]]),
            None if offsets is None else offsets[origin[own]],
        )
    return blocks


def _targets(
    stage: Stage, names: Sequence[str], values: Sequence[Any], processors: Mapping[str, Processor], partitions: int
) -> list[int]:
    """Return the partition of each value."""
    of = {name: Partitions(processors[name], partitions, stage.loops.get(name)) for name in dict.fromkeys(names)}
    if len(of) == 1:
        return list(map(of[names[0]], values))
    return [of[name](value) for name, value in zip(names, values, strict=True)]


def put_together(blocks: Sequence[Block], paths: Paths) -> Arrived:
    """Return the rows of blocks in order, standing in a tree; each row counts as a line of its own."""
    ids: list[int] = []
    values: list[Any] = []
    lines: list[str] = []
    for block in blocks:
        grafted = paths.graft(block.twigs)
        ids += [grafted[id].id for id in block.ids.tolist()]
        values += block.values
        lines += block.lines
    places = stacked([block.places for block in blocks])
    observed = np.concatenate([block.observed for block in blocks])
    kept = np.concatenate([block.kept for block in blocks])
    offsets = [block.offsets for block in blocks if block.offsets is not None]
    order = np.lexsort(places.T[::-1])
    rows = Rows(chosen(lines, order), np.array(ids, dtype=np.int64)[order], chosen(values, order))
    rows.observed = np.flatnonzero(observed[order]).tolist()
    return Arrived(rows, places[order], kept[order], np.concatenate(offsets)[order] if len(offsets) == len(blocks) else None)
