"""Outputs as messages of a Kafka topic, written in transactions."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.addresses import seconds
from streamlab.brokers import parse
from streamlab.brokers.kafka import (
    DEFAULT_URL,
    LIBRARY_OPTIONS,
    LOGIN,
    Heard,
    checked_topic,
    error_of,
    is_away,
    link_of,
    no_topic,
    text_of,
    topic_of,
)
from streamlab.errors import Outage, SinkError
from streamlab.notices import Notice
from streamlab.texts import as_bytes, as_text

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Producer

#: Bytes that are around the key and value of a message, at most.
AROUND = 200
#: Bytes of outputs that are held back, about, while those before them are being written.
HELD = 64 * 1024 * 1024
#: Names of errors that say that somebody else writes with the same transactional id.
_FENCED = ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")

#: Positions of outputs, with the reason why they were refused.
Refused = list[tuple[int, BaseException]]


class Epoch(NamedTuple):
    """Outputs between two marks.

    Attributes:
        number: of the mark after them.
        keys: of their messages, ``None`` where there is none.
        values: of their messages.
    """

    number: int
    keys: list[bytes | None]
    values: list[bytes]


class KafkaSink:
    """Sends a message for each output: text as it is, a dict as compact JSON, other values by ``str``.

    Messages are written in transactions: who reads with ``isolation.level=read_committed`` sees all of one, or none.

    **Effectively once** with a checkpoint. Outputs are held back until they are in a checkpoint, then written in one
    transaction, which also commits the checkpoint's number as the offset of a group of the sink's own. So a run that goes
    on, whatever was killed, sees whether they were written, and if not it has them: nothing is lost or doubled, in
    whatever order lines come the second time. They are seen about once a second (the checkpoint's ``interval``), and a
    checkpoint is as much larger as what is held back. The broker forgets that offset when nothing was written for
    ``offsets.retention.minutes`` (7 days, if it does not say): who goes on with outputs of which nobody knows any more is
    told so.

    **At least once** without a checkpoint: each batch is a transaction, which is written again when it is not known whether
    it was.

    A value that is larger than the library sends (``message.max.bytes``) or the topic takes (``max.message.bytes``) is
    refused. Brokers that are away are an `Outage`.

    Args:
        topic: name of the topic.
        url: of the brokers: ``kafka://user:password@host:9092``, ``kafkas://`` for TLS; of several, by commas.
        key: field of a dict that is the key of its message; messages with one key go to one partition, in order.
        timeout: seconds after which a broker that does not answer is taken to be away.
        options: more settings of the library (librdkafka), such as ``**{"compression.type": "zstd"}``.

    Attributes:
        notices: what happened to the connection.

    Raises:
        SinkError: no broker can be reached, or there is no such topic.
    """

    def __init__(
        self, topic: str, *, url: str = DEFAULT_URL, key: str | None = None, timeout: float = 5.0, **options: Any
    ) -> None:
        self._topic = checked_topic(topic, SinkError)
        self._link = link_of(url, timeout, options, SinkError)
        self.name = f"{self._link.url}/{topic}"
        self.notices: deque[Notice] = deque()
        self._key = key
        self._heard = Heard()
        self._session = uuid.uuid4().hex[:16]
        self._producer: Producer | None = None
        self._group: Consumer | None = self._link.consumer(self._transactional, self._heard, SinkError)
        self._failed: KafkaError | None = None  # why a message could not be delivered
        self._away = False
        self._holds = False  # whether outputs are held back
        self._number = 0  # of the last mark
        self._filling = Epoch(1, [], [])
        self._held: deque[Epoch] = deque()
        self._bytes = 0  # of what is in them
        self._changed = threading.Condition()
        self._trouble: SinkError | None = None  # why what is held cannot be written, ever
        self._see_topic(self._group)
        self._largest = self._link.largest(topic, self._heard) - AROUND

    @classmethod
    def of_address(cls, address: str) -> KafkaSink:
        """Return the sink of an address: ``kafka://user:password@host:9092,host:9092/TOPIC?key=...``.

        Options are ``key`` and ``timeout``, and ``sasl...``, ``security...`` and ``ssl...`` of the library.

        Raises:
            SinkError: as of the class, or the address says what cannot be.
        """
        parsed = parse(address, {"key": str, "timeout": seconds}, SinkError, login=LOGIN, passed=LIBRARY_OPTIONS)
        options: dict[str, Any] = {**parsed.options, **parsed.rest}
        return cls(topic_of(parsed, SinkError), url=parsed.server, **options)

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Refused:
        """Send a batch, or hold it back; return what is too large or could not be made text.

        Raises:
            Outage: brokers are away.
            SinkError: they refuse all of it.
        """
        batch, refused = self._messages(values)
        if not self._holds:
            self._commit(batch, marked=False)
            return refused
        self._wait_for_room()
        self._filling.keys.extend(batch.keys)
        self._filling.values.extend(batch.values)
        with self._changed:
            self._bytes += sum(map(len, batch.values))
        return refused

    def begin(self) -> None:
        """Begin after what is there."""

    def mark(self) -> dict[str, Any]:
        """Return by what this sink is known, how many marks there were, and the outputs that are held back."""
        with self._changed:
            if self._filling.values:
                self._number = self._filling.number
                self._held.append(self._filling)
                self._filling = Epoch(self._number + 1, [], [])
            held = [[epoch.number, epoch.keys, epoch.values] for epoch in self._held]
        return {"session": self._session, "number": self._number, "held": held}

    def sync(self) -> None:
        """Do nothing: what is held back is in the mark."""

    def settle(self, mark: Any) -> None:
        """Write what was held back at a `mark`, now that it is saved; from the first time on, outputs are held back.

        Raises:
            Outage: brokers are away.
            SinkError: they refuse it.
        """
        try:
            if not self._holds:
                self._commit(Epoch(mark["number"], [], []), marked=True)  # so that it shows when the broker has forgotten
                self._holds = True
            while self._held and self._held[0].number <= mark["number"]:
                self._commit(self._held[0], marked=True)
                with self._changed:
                    self._bytes -= sum(map(len, self._held.popleft().values))
                    self._changed.notify_all()
        except Outage:
            raise
        except SinkError as problem:
            self._trouble = problem
            raise

    def resume(self, mark: Any, *, ended: bool = False) -> None:
        """Write what was held back at a `mark`, if that was not done.

        Raises:
            SinkError: nobody knows any more whether it was; or brokers are away.
        """
        self._session, self._number = mark["session"], mark["number"]
        self._filling = Epoch(self._number + 1, [], [])
        self._holds = True
        self._open()
        written = self._written()
        if written is None and mark["held"]:
            raise SinkError(
                f"{self.name}: the broker has forgotten whether the last outputs before the checkpoint were written"
                " (offsets.retention.minutes); see if they are there, and begin anew with another checkpoint"
            )
        epochs = [Epoch(*epoch) for epoch in mark["held"]] if written is not None else [Epoch(self._number, [], [])]
        for epoch in epochs:
            if written is None or epoch.number > written:
                self._commit(epoch, marked=True)

    def close(self) -> None:
        """Let go of the connections. What is held back is in a checkpoint, or comes again."""
        self._drop()
        if self._group is not None:
            self._group.close()
            self._group = None

    def _see_topic(self, group: Consumer) -> None:
        """See that there is the topic.

        Raises:
            SinkError: it is not there, or nobody says.
        """
        from confluent_kafka import KafkaException

        try:
            there = self._link.partitions(group, self._topic)
        except KafkaException as problem:
            group.poll(0)  # whatever else is known of it
            self.close()
            raise self._link.unreachable(problem, self._heard, SinkError) from problem
        if not there:
            self.close()
            raise SinkError(no_topic(self.name, self._topic))

    @property
    def _transactional(self) -> str:
        return f"streamlab-{self._session}"

    def _messages(self, values: Sequence[Any]) -> tuple[Epoch, Refused]:
        """Return the messages of a batch, and which outputs have none."""
        batch = Epoch(0, [], [])
        refused: Refused = []
        for position, value in enumerate(values):
            try:
                content = as_bytes(as_text(value))
                named = self._key is not None and isinstance(value, dict) and self._key in value
                key = as_bytes(as_text(value[self._key])) if named else None
                size = len(content) + len(key or b"")
                if size > self._largest:
                    raise ValueError(
                        f"it has {size:,} bytes, and {self.name} takes at most {self._largest:,} (max.message.bytes)"
                    )
            except Exception as error:  # the value's own code, too
                refused.append((position, error))
            else:
                batch.keys.append(key)
                batch.values.append(content)
        return batch, refused

    def _wait_for_room(self) -> None:
        """Wait while much is held back and some of it is being written.

        Raises:
            Outage: that takes long.
            SinkError: it cannot be written.
        """
        with self._changed:
            room = self._changed.wait_for(lambda: self._bytes < HELD or not self._held, self._link.timeout)
        if self._trouble is not None:
            raise self._trouble
        if not room:
            raise Outage(f"{self.name} is slow: {self._bytes:,} bytes are waiting to be written", waits=True)

    def _commit(self, epoch: Epoch, *, marked: bool) -> None:
        """Write messages in a transaction; marked ones not again, if they were.

        Raises:
            Outage, SinkError: as of `settle`.
        """
        from confluent_kafka import KafkaException, TopicPartition

        try:
            if self._producer is None:
                producer = self._open()
                if marked and (self._written() or 0) >= epoch.number > 0:
                    return
            else:
                producer = self._producer
            self._failed = None
            producer.begin_transaction()
            self._send(producer, epoch)
            if marked:
                assert self._group is not None
                offsets = [TopicPartition(self._topic, 0, epoch.number)]
                producer.send_offsets_to_transaction(offsets, self._group.consumer_group_metadata(), self._link.timeout)
            producer.commit_transaction(self._link.timeout)
        except KafkaException as problem:
            self._drop()
            raise self._problem(self._failed or problem) from problem
        if self._away:
            self._away = False
            self.notices.append(Notice("reconnected", self.name, f"{self.name} is there again"))

    def _send(self, producer: Producer, epoch: Epoch) -> None:
        """Give messages to the library, and wait until the brokers have them.

        Raises:
            KafkaException: they do not take them.
        """
        from confluent_kafka import KafkaException

        for key, value in zip(epoch.keys, epoch.values, strict=True):
            while True:
                try:
                    producer.produce(self._topic, value, key, on_delivery=self._delivered)
                except BufferError:
                    self._progress(producer)
                else:
                    break
        while self._progress(producer):
            pass
        if self._failed is not None:
            raise KafkaException(self._failed)

    def _progress(self, producer: Producer) -> int:
        """Wait until a message is delivered; return how many are not.

        Raises:
            KafkaException: nothing was delivered for long.
        """
        from confluent_kafka import KafkaError, KafkaException

        before, end = len(producer), time.monotonic() + self._link.timeout
        while len(producer) >= before > 0:
            if time.monotonic() > end:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, self._heard.reason or "no broker takes messages"))
            producer.poll(0.05)
        return len(producer)

    def _delivered(self, problem: KafkaError | None, message: Any) -> None:
        if problem is not None and (self._failed is None or problem.name() not in ("_PURGE_QUEUE", "_PURGE_INFLIGHT")):
            self._failed = self._failed or problem

    def _open(self) -> Producer:
        """Return a new producer; what one of the same session has begun is void from now on.

        Raises:
            Outage, SinkError: as of `settle`.
        """
        from confluent_kafka import KafkaException

        producer = self._link.producer(self._transactional, self._heard, SinkError)
        try:
            producer.init_transactions(self._link.timeout)
        except KafkaException as problem:
            raise self._problem(problem) from problem
        if self._group is not None:
            self._group.close()
        self._group = self._link.consumer(self._transactional, self._heard, SinkError)
        self._producer = producer
        return producer

    def _written(self) -> int | None:
        """Return the number of the last mark whose outputs were written, if the broker knows.

        Raises:
            Outage, SinkError: as of `settle`.
        """
        from confluent_kafka import KafkaException, TopicPartition

        assert self._group is not None
        try:
            found: Any = self._group.committed([TopicPartition(self._topic, 0)], self._link.timeout)
        except KafkaException as problem:
            self._drop()
            raise self._problem(problem) from problem
        return found[0].offset if found[0].offset >= 0 else None

    def _drop(self) -> None:
        """Leave the producer for a new one: whatever was under way is void then, or done, and the broker knows which."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    def _problem(self, problem: Exception | KafkaError) -> SinkError:
        error = error_of(problem)
        if error is not None and error.name() in _FENCED:
            return SinkError(
                f"{self.name}: another run writes as {self._transactional!r}, or a transaction took longer than"
                f" transaction.timeout.ms: {text_of(problem)}"
            )
        if error is None or not (is_away(problem) or error.txn_requires_abort()):
            return SinkError(f"{self.name} cannot be written: {text_of(problem)}")
        if not self._away:
            self._away = True
            self.notices.append(Notice("disconnected", self.name, f"{self.name} is away ({text_of(problem)})"))
        return Outage(f"{self.name} cannot be written for now: {text_of(problem)}", waits=True)
