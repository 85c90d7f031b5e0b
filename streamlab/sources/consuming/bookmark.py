"""The offsets that a consumer group of Kafka has, as the bookmark of a topic."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamlab.brokers.kafka import Heard, Link, is_away, text_of
from streamlab.errors import SourceError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, TopicPartition

#: Seconds after which a commit that is not answered is taken for lost; the library tries it again itself until then.
LOST = 30.0


class Bookmark:
    """Commits offsets for a group that nobody is a member of, without waiting; safe to use from several threads.

    It has a connection of its own: the library lets calls on one wait for each other.

    Args:
        link: how the brokers are reached.
        topic: the topic.
        group: the group; ``None`` for no bookmark.
        heard: listens to what the library says.

    Raises:
        SourceError: the library does not take the settings.
    """

    def __init__(self, link: Link, topic: str, group: str | None, heard: Heard) -> None:
        self._link = link
        self._topic = topic
        self._group = group
        self._lock = threading.Lock()
        self._told: dict[int, int] = {}
        self._due: dict[int, int] = {}
        self._asked = -math.inf  # when it was told something that is not answered
        self._refused = ""
        self._closed = group is None
        self._consumer = None if group is None else link.consumer(group, heard, SourceError, on_commit=self._answered)

    def read(self, partitions: Sequence[int]) -> dict[int, int]:
        """Return the offsets that the group has, by partition.

        Raises:
            KafkaException: the brokers do not answer, or say no.
        """
        from confluent_kafka import TopicPartition

        if self._consumer is None:
            return {}
        found: Any = self._consumer.committed([TopicPartition(self._topic, at) for at in partitions], self._link.timeout)
        self._told = {at.partition: at.offset for at in found if at.offset >= 0}
        return dict(self._told)

    def note(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets; if brokers are away, when something is noted later, or at the end.

        Raises:
            SourceError: they have refused.
        """
        with self._lock:
            if self._closed:
                return
            self._due = dict(offsets)
            self._tell()
            if self._refused:
                where = f"{self._link.url}/{self._topic}"
                raise SourceError(f"{where}: offsets cannot be committed to the group {self._group!r}: {self._refused}")

    def close(self) -> None:
        """Commit what is left, and let go of the connection; brokers that do not answer are not waited for."""
        with self._lock:
            if self._closed or self._consumer is None:
                return
            self._closed = True
            end = time.monotonic() + self._link.timeout
            while time.monotonic() < end and (self._tell() or self._asked > 0):
                self._consumer.poll(0.02)
            closing = threading.Thread(target=self._consumer.close, name="streamlab-kafka", daemon=True)
            closing.start()
            closing.join(max(end - time.monotonic(), 0.1))

    def _tell(self) -> bool:
        """Send what the group does not know, if nothing is under way; tell whether something was sent."""
        from confluent_kafka import TopicPartition

        assert self._consumer is not None
        self._consumer.poll(0)  # answers come in here
        changed = {partition: at for partition, at in self._due.items() if self._told.get(partition) != at}
        if not changed or time.monotonic() - self._asked < LOST:
            return False
        self._asked = time.monotonic()
        self._told |= changed
        offsets = [TopicPartition(self._topic, partition, at) for partition, at in changed.items()]
        self._consumer.commit(offsets=offsets, asynchronous=True)
        return True

    def _answered(self, problem: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        """Take note of how a commit went."""
        self._asked = -math.inf
        for at in offsets:
            if problem is not None or at.error is not None:
                self._told.pop(at.partition, None)
                if not is_away(problem or at.error):
                    self._refused = text_of(problem or at.error)
