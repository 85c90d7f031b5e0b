"""Lines from a Kafka topic: where it is read to is in the checkpoint, and as a bookmark with a consumer group."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streamlab.addresses import seconds, whole
from streamlab.batch import Chunk, Places
from streamlab.brokers import parse
from streamlab.brokers.kafka import (
    DEFAULT_URL,
    LIBRARY_OPTIONS,
    LOGIN,
    Heard,
    checked_topic,
    is_away,
    link_of,
    no_topic,
    text_of,
    topic_of,
)
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.consuming.bookmark import Bookmark
from streamlab.sources.consuming.kafka import KafkaRange, chunk_of, polled
from streamlab.sources.consuming.shares import Shares

if TYPE_CHECKING:
    from confluent_kafka import Message, TopicPartition

#: Where reading may begin, if there is neither a checkpoint nor a bookmark; and where it may end.
STARTS, ENDS = ("all", "new"), ("never", "now")
#: Seconds after which to look for new partitions, where messages come all the time.
BUSY = 30.0


class Within(NamedTuple):
    """What offsets are places in.

    Attributes:
        partition: number of the partition.
        life: rises when the topic is found to be another one.
    """

    partition: int
    life: int


class KafkaSource:
    """The messages of a Kafka topic, of all its partitions or some.

    A line is the value of a message. It stays one line whatever is in it; one line end at its end is left out. A message
    without a value is rejected (``decode``), a long one as well (``oversize``). Lines come in order within each partition.
    Of transactions those are read that were committed.

    **Effectively once** with a checkpoint and a durable sink: the checkpoint has the offset to go on at, of each
    partition, and a run that goes on begins exactly there. **At least once** without: the offsets of what the sink has are
    committed to the consumer group, and the next run begins at those.

    The group is that bookmark and no more: partitions are assigned by the source itself, which reads all of the topic,
    and others of the group take nothing from it. Two runs that are to share a topic get ``partitions`` each. New partitions
    are found within a minute, and read from their beginning, unless ``partitions`` says which.

    Brokers that are away are waited for, and ``notices`` say so. Messages that were removed before they were read
    (retention) are told of (``dropped``, with how many offsets were skipped); a topic that was made anew is read from its
    beginning (``vanished``), when it is found that it ends before the offset that was reached.

    Args:
        topic: name of the topic; it must be there.
        url: of the brokers: ``kafka://user:password@host:9092``, ``kafkas://`` for TLS; of several, by commas.
        group: the consumer group whose offsets are the bookmark; ``None`` for none.
        partitions: numbers of those to read; ``None`` for all.
        start: where to begin without a bookmark: ``"all"`` at the first message, ``"new"`` after the last one.
        end: ``"now"`` to end at what is there when it begins, ``"never"`` to wait for more.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        timeout: seconds after which a broker that does not answer is taken to be away.
        options: more settings of the library (librdkafka), such as ``**{"sasl.mechanism": "SCRAM-SHA-512"}``.

    Attributes:
        blocking: always true.
        notices: what happened to the connection.

    Raises:
        SourceError: no broker can be reached, or there is no such topic or partition.
    """

    kind = "Kafka topic"
    blocking = True

    def __init__(
        self,
        topic: str,
        *,
        url: str = DEFAULT_URL,
        group: str | None = "streamlab",
        partitions: Collection[int] | None = None,
        start: str = "all",
        end: str = "never",
        max_line_bytes: int = 1_048_576,
        timeout: float = 5.0,
        **options: Any,
    ) -> None:
        for name, value, known in (("start", start, STARTS), ("end", end, ENDS)):
            if value not in known:
                raise SourceError(f"{name}={value!r} is none of {', '.join(known)}")
        self._topic = checked_topic(topic, SourceError)
        self._link = link_of(url, timeout, options, SourceError)
        self.name = f"{self._link.url}/{topic}"
        self.notices: deque[Notice] = deque()
        self._chosen = partitions
        self._max_line_bytes = max_line_bytes
        self._heard = Heard()
        self._consumer = self._link.consumer(group or "streamlab", self._heard, SourceError)
        self._bookmark = Bookmark(self._link, topic, group, self._heard)
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self._shut = False
        self._away = False
        self._life = 0
        self._next: dict[int, int] = {}  # where to go on after what has passed, by partition
        self._ends: dict[int, int] | None = None
        self._open(start, end)
        # For who reads here
        self._ready: deque[Chunk] = deque()
        self._reached: dict[int, int] | None = None  # where to read on, by partition that has not ended
        self._strays: dict[int, int] = {}  # partitions that have nothing at the offset that was reached
        self._seen: set[int] = set()  # partitions of which something was heard
        self._looked = time.monotonic()
        # For who splits
        self._shares: Shares | None = None

    @classmethod
    def of_address(cls, address: str, *, max_line_bytes: int = 1_048_576) -> KafkaSource:
        """Return the source of an address: ``kafka://user:password@host:9092,host:9092/TOPIC?group=...&start=new``.

        Options are those of the class, ``partitions`` by commas, and ``sasl...``, ``security...`` and ``ssl...`` of the
        library; ``group=`` without a value is none.

        Raises:
            SourceError: as of the class, or the address says what cannot be.
        """
        known: dict[str, Any] = {"group": lambda text: text or None, "start": str, "end": str, "timeout": seconds}
        known["partitions"] = lambda text: [whole(number) for number in text.split(",")]
        parsed = parse(address, known, SourceError, login=LOGIN, passed=LIBRARY_OPTIONS)
        topic = topic_of(parsed, SourceError)
        options: dict[str, Any] = {**parsed.options, **parsed.rest}
        return cls(topic, url=parsed.server, max_line_bytes=max_line_bytes, **options)

    def _open(self, start: str, end: str) -> None:
        """See where each partition begins.

        Raises:
            SourceError: that cannot be seen.
        """
        from confluent_kafka import KafkaException

        try:
            there = self._link.partitions(self._consumer, self._topic)
            if not there:
                raise SourceError(no_topic(self.name, self._topic))
            wanted = there if self._chosen is None else sorted(set(self._chosen))
            if missing := set(wanted) - set(there):
                raise SourceError(f"{self.name} has no partition {min(missing)}: it has {len(there)}, from 0 on")
            lows, highs = self._marks(wanted)
            self._next = (lows if start == "all" else highs) | self._bookmark.read(wanted)
        except BaseException as problem:
            self._consumer.poll(0)  # whatever else is known of it
            self.close()
            if isinstance(problem, KafkaException):
                raise self._link.unreachable(problem, self._heard, SourceError) from problem
            raise
        self._ends = highs if end == "now" else None

    # For the thread that reads

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines as soon as there are any; an empty chunk at the end, or after `close`.

        Raises:
            SourceError: the brokers refuse to give them.
        """
        with self._reading:
            if self._reached is None:
                self._reached = dict(self._next)
                if not self._closed.is_set():
                    self._consumer.assign(self._positions(self._reached))
            while not self._ready and self._reached and not self._closed.is_set():
                self._take(polled(self._consumer, limit))
            if self._closed.is_set():
                self._let_go()
            elif self._ready:
                chunk, rest = self._ready.popleft().split(limit)
                if rest.lines:
                    self._ready.appendleft(rest)
                return chunk
        return Chunk([], source=self.name)

    def _take(self, messages: Sequence[Message]) -> None:
        """Make chunks of what has come, one for each partition; see how things are, if that is due."""
        found: dict[int, list[Message]] = {}
        for message in messages:
            partition: Any = message.partition()
            problem = message.error()
            if problem is not None and problem.name() not in ("_PARTITION_EOF", "_AUTO_OFFSET_RESET"):
                if not is_away(problem) and problem.name() not in ("UNKNOWN_TOPIC_OR_PART", "UNKNOWN_TOPIC_ID"):
                    raise SourceError(f"{self.name} cannot be read: {text_of(problem)}")
            elif self._is_within(partition, message):
                found.setdefault(partition, []).append(message)
        for partition, some in found.items():
            within = Within(partition, self._life)
            self._ready.append(chunk_of(some, within, self.name, self._max_line_bytes))
        now = time.monotonic()
        if found:
            self._is_back()
        if now - self._looked > (BUSY if found else self._link.timeout) or self._away or self._strays:
            self._look()
            self._looked = time.monotonic()

    def _is_within(self, partition: int, message: Message) -> bool:
        """Tell whether a message is to be read; take note of what one says that is none."""
        assert self._reached is not None
        if partition not in self._reached:  # it has ended
            return False
        offset: Any = message.offset()
        problem = message.error()
        if problem is not None and problem.name() == "_AUTO_OFFSET_RESET":
            self._strays[partition] = self._reached[partition]
            return False
        end = None
        if self._ends is not None:
            if partition not in self._seen:  # what came with it is newer than what was asked for
                self._seen.add(partition)
                _, high = self._consumer.get_watermark_offsets(self._position(partition), cached=True)
                self._ends[partition] = max(self._ends.get(partition, 0), high)
            end = self._ends[partition]
        if problem is None and (end is None or offset < end):
            self._reached[partition] = offset + 1
        if end is not None and (offset >= end or self._reached[partition] >= end):
            del self._reached[partition]
            self._consumer.incremental_unassign([self._position(partition)])
        return problem is None and (end is None or offset < end)

    def _look(self) -> None:
        """See whether brokers are there, whether there are new partitions, and where lost ones go on."""
        from confluent_kafka import KafkaException

        try:
            there = self._link.partitions(self._consumer, self._topic)
            if not there:
                self._is_away(f"the topic {self._topic!r} is gone")
                return
            for partition, reached in list(self._strays.items()):
                self._find_again(partition, reached)
            if self._chosen is None and self._ends is None:
                self._add(there)
        except KafkaException as problem:
            if not is_away(problem):
                raise SourceError(f"{self.name} cannot be read: {text_of(problem)}") from problem
            self._is_away(text_of(problem))
        else:
            self._is_back()

    def _find_again(self, partition: int, reached: int) -> None:
        """Go on in a partition that has nothing at the offset that was reached."""
        assert self._reached is not None
        lows, highs = self._marks([partition])
        low = lows[partition]
        self._tell_of_loss(partition, reached, low)
        if reached > low:
            self._life += 1  # what is under way is of the old one
            with self._lock:
                self._next[partition] = low
            if self._ends is not None:
                self._ends[partition] = highs[partition]
        self._reached[partition] = low
        self._consumer.incremental_unassign([self._position(partition)])
        self._consumer.incremental_assign([self._position(partition, low)])
        del self._strays[partition]

    def _tell_of_loss(self, partition: int, reached: int, low: int) -> None:
        where = f"{self.name}/{partition}"
        if reached < low:
            text = f"{where}: messages were removed before they were read (retention): offsets {reached} to {low - 1}"
            self.notices.append(Notice("dropped", self.name, text, lost_lines=low - reached))
        else:
            text = f"{where} ends before offset {reached}, which was reached: it is another one, and read from its beginning"
            self.notices.append(Notice("vanished", self.name, text))

    def _add(self, partitions: Sequence[int]) -> None:
        """Begin with those partitions that are new."""
        lows, _ = self._marks([partition for partition in partitions if partition not in self._next])
        with self._lock:
            self._next |= lows
        if self._reached is not None and lows:
            self._reached |= lows
            self._consumer.incremental_assign(self._positions(lows))

    def _is_away(self, reason: str) -> None:
        if not self._away:
            self._away = True
            text = f"{self.name} is away ({reason}): it is tried until it is there"
            self.notices.append(Notice("disconnected", self.name, text))

    def _is_back(self) -> None:
        if self._away:
            self._away = False
            self.notices.append(Notice("reconnected", self.name, f"{self.name} is there again"))

    # For who has others read

    def split(self, lines: int, parts: int) -> list[KafkaRange]:
        """Return the next ranges, that nobody reads yet; none, when there is nothing for now.

        Args:
            lines: how many messages in all, about.
            parts: how many ranges, at most.

        Raises:
            SourceError: the brokers refuse to say what is there.
        """
        from confluent_kafka import KafkaException

        self._consumer.poll(0)  # for what the library has to say
        shares = self._shares = self._shares or Shares(self._next, self._ends or self._next)
        try:
            if shares.left < lines and self._ends is None:
                self._see_what_is_there(shares)
                self._is_back()
        except KafkaException as problem:
            if not is_away(problem):
                raise SourceError(f"{self.name} cannot be read: {text_of(problem)}") from problem
            self._is_away(text_of(problem))
        return [KafkaRange(self._link, self._topic, *stretch) for stretch in shares.take(lines, parts)]

    def finished(self, part: KafkaRange, end: int) -> None:
        """Take note that a range is through; those of a partition come in their order.

        Args:
            part: the range.
            end: the offset after it.
        """
        with self._lock:
            self._next[part.partition] = end

    @property
    def exhausted(self) -> bool:
        """Whether `split` will never return anything any more."""
        if self._closed.is_set():
            return True
        given = self._next if self._shares is None else self._shares.given
        return self._ends is not None and all(at >= self._ends[partition] for partition, at in given.items())

    def _see_what_is_there(self, shares: Shares) -> None:
        """Ask how far partitions reach, and for new ones."""
        if self._chosen is None and time.monotonic() - self._looked > self._link.timeout:
            self._looked = time.monotonic()
            self._add(self._link.partitions(self._consumer, self._topic))
            for partition in self._next.keys() - shares.given.keys():
                shares.add(partition, self._next[partition])
        lows, shares.there = self._marks(list(shares.given))
        for partition, given in shares.given.items():
            if not lows[partition] <= given <= shares.there[partition]:
                self._tell_of_loss(partition, given, lows[partition])
                shares.given[partition] = lows[partition]

    # For the run's thread, and the one that saves

    def resume(self, position: Any) -> None:
        """Go on where the source was whose `position` this is, whatever the group says.

        Raises:
            SourceError: it was of another topic.
        """
        if position["topic"] != self._topic:
            raise SourceError(
                f"{self.name}: the run before has read the topic {position['topic']!r}: give it, or begin anew"
            )
        offsets = {int(partition): offset for partition, offset in position["offsets"].items()}
        with self._lock:
            self._next |= {partition: offset for partition, offset in offsets.items() if partition in self._next}

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        if places.within.life == self._life:
            with self._lock:
                self._next[places.within.partition] = places.start(count)

    def position(self) -> dict[str, Any]:
        """Return the topic, and of each partition the offset to go on at."""
        with self._lock:
            return {"topic": self._topic, "offsets": {str(partition): at for partition, at in self._next.items()}}

    def acknowledge(self, position: Any) -> None:
        """Commit the offsets of a `position` to the group; later, if brokers are away. Not after `close`.

        Raises:
            SourceError: the brokers have refused.
        """
        self._bookmark.note({int(partition): offset for partition, offset in position["offsets"].items()})

    def progress(self) -> None:
        """Return ``None``: how much will come is not known."""
        return None

    def close(self) -> None:
        """Let go of the connections; a `read` that waits ends at once."""
        self._closed.set()
        self._bookmark.close()
        if self._reading.acquire(timeout=0.5):  # else who reads lets go of them
            try:
                self._let_go()
            finally:
                self._reading.release()

    def _let_go(self) -> None:
        if not self._shut:
            self._shut = True
            self._consumer.close()

    # What the library wants to hear, and says

    def _position(self, partition: int, offset: int | None = None) -> TopicPartition:
        from confluent_kafka import TopicPartition

        return TopicPartition(self._topic, partition) if offset is None else TopicPartition(self._topic, partition, offset)

    def _positions(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [self._position(partition, offset) for partition, offset in offsets.items()]

    def _marks(self, partitions: Sequence[int]) -> tuple[dict[int, int], dict[int, int]]:
        """Return the first offset of partitions, and the one after the last that can be read."""
        lows, highs = {}, {}
        for partition in partitions:
            found: Any = self._consumer.get_watermark_offsets(self._position(partition), timeout=self._link.timeout)
            lows[partition], highs[partition] = found
        return lows, highs
