"""What workers do: read ranges of lines, and work on what comes to a partition."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from streamlab.batch import Chunk
from streamlab.errors import BrokenOff
from streamlab.runners.cluster.collector import Collector, received
from streamlab.runners.cluster.exchange import put_together
from streamlab.runners.cluster.job import Sealed, Site, at_site
from streamlab.runners.cluster.report import FLUSH, Done
from streamlab.sources import Part
from streamlab.state import Packed, joined, saved, unpacked

#: Lines that an engine is given at a time.
BATCH = 16_384
#: Seconds between two times that a worker says how far it is.
SAY_SECONDS = 0.5

#: How a worker says how many lines it has worked on, and what it is called.
Say = Callable[[int], None]


class StateLost(Exception):
    """A worker was to go on with a partition whose state it does not have."""


@dataclass(frozen=True, slots=True)
class Restore:
    """What the processors of a partition keep, for a worker that does not have it.

    Attributes:
        tip: the token of the task after which that was.
        chains: by processor what has changed, at one time after the other.
    """

    tip: str = ""
    chains: Mapping[str, Sequence[Packed]] = field(default_factory=dict)


def read(
    sealed: Sealed,
    numbers: Sequence[int],
    parts: Sequence[bytes],
    careful: bool,
    worker: str,
    say: Say = lambda lines: None,
) -> dict[Any, bytes]:
    """Read ranges of lines, and take them through the first stage.

    Args:
        sealed: the job.
        numbers: of the ranges.
        parts: the ranges, packed.
        careful: whether functions run in a process of their own, as a line among these kills it.
        worker: who does it.
        say: is told now and then how many lines have been worked on.

    Returns:
        See `Collector.finished`.

    Raises:
        SourceError: a range cannot be read.
    """
    said, saying = 0, (start := time.perf_counter())
    with at_site(sealed) as site, site.reader(careful) as engine:
        collector = Collector(site, 0)
        for number, data in zip(numbers, parts, strict=True):
            part: Part = pickle.loads(data)
            chunks = _Chunks(part, site, engine.takes_columns)
            lines = 0
            sources: list[tuple[int, str]] = []
            for chunk in chunks:
                if not sources or sources[-1][1] != chunk.source:
                    sources.append((lines, chunk.source))
                origins = np.column_stack(
                    (np.full(len(chunk.lines), number), np.arange(lines, lines + len(chunk.lines), dtype=np.int64))
                )
                offsets = None if chunk.places is None else chunk.places.offsets(len(chunk.lines))
                collector.take(engine.process(chunk, lines), origins, offsets)
                lines += len(chunk.lines)
                said += len(chunk.lines)
                if (now := time.perf_counter()) - saying > SAY_SECONDS:
                    say(said)
                    said, saying = 0, now
                if collector.report.stopped is not None:
                    collector.end_range(Done(number, lines, sources, None))
                    return collector.finished(worker, now - start)
            collector.end_range(Done(number, lines, sources, chunks.end, chunks.trouble))
            if chunks.trouble:
                break
    say(said)
    return collector.finished(worker, time.perf_counter() - start)


class _Chunks(Iterator[Chunk]):
    """The chunks of a part, none of them large, and what it says at its end, or of its end, if it breaks off."""

    def __init__(self, part: Part, site: Site, columns: bool) -> None:
        self._chunks = part.chunks(max_line_bytes=site.job.pipeline.limits.max_line_bytes, columns=columns)
        self._rest: Chunk | None = None
        self._size = 4 * BATCH if columns else BATCH
        self.end: Any = None
        self.trouble = ""

    def __next__(self) -> Chunk:
        chunk, self._rest = self._rest, None
        if chunk is None:
            try:
                chunk = next(self._chunks)
            except StopIteration as stop:
                self.end = stop.value
                raise
            except BrokenOff as error:
                self.end, self.trouble = error.end, str(error)
                raise StopIteration from error
        if len(chunk.lines) > self._size:
            chunk, self._rest = chunk.split(self._size)
        return chunk


def see(
    sealed: Sealed,
    number: int,
    partition: int,
    blocks: Sequence[bytes],
    before: str | bytes | Mapping[Any, bytes],
    restore: Restore | None,
    flush: bool,
    worker: str,
) -> dict[Any, bytes]:
    """Take what has come to a partition of a stage through it; with ``flush`` also what its processors have left.

    Args:
        sealed: the job.
        number: of the stage.
        partition: of it.
        blocks: what tasks of earlier stages have sent there.
        before: the token of the task that was before this one on the partition, or all that it gave.
        restore: the state after that one, if it is at hand.
        flush: whether this is the end.
        worker: who does it.

    Returns:
        See `Collector.finished`; and the token, as ``"tip"``.

    Raises:
        StateLost: this worker does not have the state of the partition.
        CheckpointError: the state of a processor cannot be sent.
    """
    start = time.perf_counter()
    with at_site(sealed) as site:
        token = before["tip"] if isinstance(before, Mapping) else before
        tip = token.decode() if isinstance(token, bytes) else token
        engine = site.take(number, partition, tip)
        if engine is None:
            if restore is None or restore.tip != tip:
                raise StateLost(f"stage {number}, partition {partition}")
            engine = site.restored(number, {name: joined(map(unpacked, chain)) for name, chain in restore.chains.items()})
        collector = Collector(site, number)
        tokens, came = received(blocks)
        collector.report.inputs = [*tokens, tip]
        if came:
            arrived = put_together(came, engine.paths)
            found = arrived.rows.ids.copy()
            collector.take(engine.go_on(arrived.rows), arrived.places, arrived.offsets, arrived.kept, found)
        here = site.job.here(number, partition)
        if flush and collector.report.stopped is None:
            given = 0
            for batch in engine.flush(here):
                count = len(batch.ids)
                lines = np.arange(given, given + count, dtype=np.int64) + (partition << 32)
                origins = np.column_stack((np.full(count, FLUSH + number), lines))
                collector.take(
                    replace(batch, lines=[""] * count, origin=None), origins, kept=np.zeros(count, dtype=np.bool_)
                )
                given += count
        made = collector.report
        made.kept = {
            name: saved(site.job.pipeline.name, name, partial(engine.changed, name))
            for name in here
            if site.job.pipeline.processors[name].keeps is not None
        }
        site.keep(number, partition, made.token, engine)
        return collector.finished(worker, time.perf_counter() - start) | {"tip": made.token.encode()}
