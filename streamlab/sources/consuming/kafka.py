"""Messages of Kafka as lines, and ranges of offsets of a partition, which any process can read."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamlab.batch import Chunk, Places, Rejected
from streamlab.brokers.kafka import Heard, Link, is_away, text_of
from streamlab.columns import Column, column_of_lines
from streamlab.errors import SourceError
from streamlab.sources.consuming.deliveries import LOOK_UP, texts
from streamlab.sources.items import as_chunk

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

#: Messages that are taken from the library at a time, for a range.
TAKEN = 10_000
#: Seconds without anything from the broker after which who reads a range gives up.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class KafkaRange:
    """The messages of a partition whose offsets are in a stretch; a new reader gets the same ones.

    Offsets without a message, as compaction and the ends of transactions leave them, are passed over.

    Attributes:
        link: how the brokers are reached.
        topic: the topic.
        partition: number of the partition.
        lo: the first offset.
        hi: the offset after the last one.
    """

    link: Link
    topic: str
    partition: int
    lo: int
    hi: int

    def chunks(self, *, max_line_bytes: int, columns: bool) -> Generator[Chunk, None, int]:
        """Yield the lines, in order, and return the offset after them; brokers that are away are waited for, two minutes.

        Args:
            max_line_bytes: a longer line is cut there and rejected as ``oversize``.
            columns: whether lines had better come as a `streamlab.columns.Column`.

        Raises:
            SourceError: the messages are not there any more, or cannot be read.
        """
        from confluent_kafka import TopicPartition

        if self.lo >= self.hi:
            return self.hi
        consumer = self.link.consumer("streamlab", Heard(), SourceError)
        try:
            consumer.assign([TopicPartition(self.topic, self.partition, self.lo)])
            at, heard = self.lo, time.monotonic()
            while at < self.hi:
                messages = polled(consumer, TAKEN)
                at, taken = self._within(messages, at)
                if taken:
                    yield chunk_of(taken, self.partition, f"{self.link.url}/{self.topic}", max_line_bytes, columns)
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > PATIENCE:
                    raise SourceError(f"{self._name}: nothing has come for {PATIENCE:.0f} seconds from offset {at} on")
        finally:
            consumer.close()
        return self.hi

    @property
    def _name(self) -> str:
        return f"{self.link.url}/{self.topic}/{self.partition}"

    def _within(self, messages: Sequence[Message], at: int) -> tuple[int, list[Message]]:
        """Return where the range is read to, and which of the messages are in it."""
        taken: list[Message] = []
        for message in messages:
            offset: Any = message.offset()
            problem = message.error()
            if problem is not None:
                if problem.name() == "_PARTITION_EOF":
                    at = max(at, offset)
                elif problem.name() == "_AUTO_OFFSET_RESET":
                    raise SourceError(f"{self._name} has no offset {at} any more: its messages were removed (retention)")
                elif not is_away(problem):
                    raise SourceError(f"{self._name} cannot be read: {text_of(problem)}")
            elif offset >= self.hi:
                return self.hi, taken
            else:
                taken.append(message)
                at = offset + 1
        return at, taken


def polled(consumer: Consumer, limit: int) -> list[Message]:
    """Return at most ``limit`` messages and tidings, as soon as there are any; none after a moment without any."""
    first = consumer.poll(LOOK_UP)
    if first is None:
        return []
    return [first, *consumer.consume(limit - 1, 0)] if limit > 1 else [first]


def chunk_of(messages: Sequence[Message], within: Any, name: str, max_line_bytes: int, columns: bool = False) -> Chunk:
    """Return messages of one partition as lines.

    Args:
        messages: at least one.
        within: for `Places`.
        name: of the topic.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        columns: whether lines had better come as a column.
    """
    values: list[Any] = [message.value() for message in messages]
    source = f"{name}/{messages[0].partition()}"
    empty = [at for at, value in enumerate(values) if value is None]
    for at in empty:
        values[at] = b""
    column = _column(values, max_line_bytes) if columns and not empty else None
    chunk = Chunk(column) if column is not None else as_chunk(texts(values, max_line_bytes), source, max_line_bytes)
    chunk.source = source
    if empty:
        marks = [Rejected(at, "decode", "the message has no value: it says that its key was deleted") for at in empty]
        chunk.rejected = sorted([*chunk.rejected, *marks])
    offsets: list[Any] = [message.offset() for message in messages]
    chunk.places = Places(within, [*offsets, offsets[-1] + 1])
    return chunk


def _column(values: Sequence[bytes], max_line_bytes: int) -> Column | None:
    """Return values as a column, if each is a line as it is."""
    block = b"\n".join(values) + b"\n"
    if b"\r" in block or block.count(b"\n") != len(values) or max(map(len, values)) > max_line_bytes:
        return None
    return column_of_lines(block)
