"""Kafka topics as source and sink: a real broker, frozen and restarted; processes that are killed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.batch import Chunk
from streamlab.brokers import kafka
from streamlab.columns import Column
from streamlab.errors import Outage, SinkError, SourceError
from streamlab.sinks import Durable, Settling, Sink
from streamlab.sinks.kafka import KafkaSink
from streamlab.sources import Acknowledging, Resumable, Source, notices_of
from streamlab.sources.consuming.kafka import KafkaRange
from streamlab.sources.consuming.shares import Shares
from streamlab.sources.kafka import KafkaSource
from tests.brokers import Running, Server, commit, free_port, kafka_server, killed_again_and_again, lines_of, pass_on, taken
from tests.waiting import resources, until

MANY = 3000


class Broker:
    """A broker, and what is done with it that is not streamlab's."""

    def __init__(self, hosts: str, server: Server | None = None) -> None:
        self.server = server
        self.hosts = hosts
        self.url = f"kafka://{hosts}"
        self._settings: dict[str, Any] = {"bootstrap.servers": hosts, "log_level": 0, "error_cb": lambda error: None}
        self._made = 0

    def make(self, partitions: int = 1, **config: str) -> str:
        self._made += 1
        topic = f"logs-{self._made}"
        admin = AdminClient(self._settings)
        admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(10)
        return topic

    def fill(self, topic: str, lines: list[str | None], partitions: int = 1) -> None:
        """Write lines in turn to some partitions."""
        producer = Producer(self._settings)
        for at, line in enumerate(lines):
            value = None if line is None else line.encode("utf-8", "surrogateescape")
            producer.produce(topic, value, partition=at % partitions)
            producer.poll(0)
        assert producer.flush(10) == 0

    def content(self, topic: str, partitions: int = 1) -> list[str]:
        """Return what is there, partition by partition."""
        found: list[list[str]] = [[] for _ in range(partitions)]
        own = {"group.id": "look", "enable.partition.eof": True, "fetch.wait.max.ms": 20}
        consumer = Consumer(self._settings | own)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        ends = 0
        while ends < partitions:
            for message in consumer.consume(1000, 0.1):
                error = message.error()
                if error is None:
                    found[message.partition() or 0].append((message.value() or b"").decode("utf-8", "surrogateescape"))
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ends += 1
        consumer.close()
        return [line for some in found for line in some]

    def bookmark(self, topic: str, group: str = "streamlab", partition: int = 0) -> int:
        consumer = Consumer(self._settings | {"group.id": group})
        offset: int = consumer.committed([TopicPartition(topic, partition)], 5)[0].offset
        consumer.close()
        return offset

    def source(self, topic: str, **options: Any) -> KafkaSource:
        return KafkaSource(topic, **{"url": self.url, "timeout": 1.0, **options})

    def sink(self, topic: str, **options: Any) -> KafkaSink:
        return KafkaSink(topic, **{"url": self.url, "timeout": 1.0, **options})


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with kafka_server() as server:
        yield Broker(f"127.0.0.1:{server.port}", server)


@pytest.fixture
def own() -> Iterator[Broker]:
    """One that may be frozen and restarted."""
    with kafka_server() as server:
        yield Broker(f"127.0.0.1:{server.port}", server)


@pytest.fixture(scope="module")
def mock() -> Iterator[Broker]:
    """The library's own imitation of a broker: topics are made when they are asked for, with four partitions."""
    host = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    yield Broker(str(host.list_topics(timeout=5).brokers[1]).split("/")[0])
    host.flush()


def write(sink: Sink, values: list[Any]) -> list[tuple[int, BaseException]]:
    return list(sink.write(values, np.arange(len(values), dtype=np.int64)))


def kinds(part: object) -> list[str]:
    return [notice.kind for notice in notices_of(part)]


def read_to_end(source: KafkaSource, limit: int = 100) -> list[str]:
    chunks: list[Chunk] = []
    while (chunk := source.read(limit)).lines:
        chunks.append(chunk)
    pass_on(source, chunks)
    return lines_of(chunks)


# The source


def test_lines_as_they_are_in_their_order(broker: Broker) -> None:
    texts = ["info: a", "caf\udce9 \udcff", "two\nlines", "", "\u2028 \x85 \x00", "with its end\r\n", "last"]
    topic = broker.make()
    broker.fill(topic, [*texts])
    reading = broker.source(topic)
    source: Source = reading
    assert isinstance(source, Resumable) and isinstance(source, Acknowledging) and source.blocking
    assert source.name == f"{broker.url}/{topic}" and source.progress() is None
    chunk = source.read(4)
    assert chunk.lines == texts[:4] and chunk.source == f"{source.name}/0"
    assert chunk.places is not None and list(chunk.places.starts) == [0, 1, 2, 3, 4]
    assert lines_of(taken(source, 3, limit=2)) == ["\u2028 \x85 \x00", "with its end", "last"]
    source.close()


def test_what_is_no_line_is_rejected_and_the_rest_goes_on(broker: Broker) -> None:
    topic = broker.make()
    broker.fill(topic, ["a", None, "b" * 101, "c", "\udcff" * 100])
    source = broker.source(topic, max_line_bytes=100, end="now")
    chunk = source.read(10)
    assert chunk.lines == ["a", "", "b" * 100, "c", "\udcff" * 100]
    assert [(mark.position, mark.kind) for mark in chunk.rejected] == [(1, "decode"), (2, "oversize")]
    assert chunk.rejected[0].message == "the message has no value: it says that its key was deleted"
    assert not source.read(10).lines
    source.close()


@pytest.mark.parametrize("limit", [7, 1000])
def test_all_partitions_are_read_each_in_order(broker: Broker, limit: int) -> None:
    topic = broker.make(3)
    lines = [f"line {number}" for number in range(MANY)]
    broker.fill(topic, [*lines], 3)
    source = broker.source(topic, end="now")
    found = read_to_end(source, limit)
    assert sorted(found, key=lambda line: int(line[5:]) % 3) == [line for part in range(3) for line in lines[part::3]]
    assert source.position() == {"topic": topic, "offsets": {"0": 1000, "1": 1000, "2": 1000}}
    commit(source)
    source.close()
    assert broker.bookmark(topic, partition=2) == 1000
    assert read_to_end(broker.source(topic, end="now")) == []


def test_the_end_is_what_is_there_when_it_begins(broker: Broker) -> None:
    topic = broker.make(2)
    broker.fill(topic, ["a", "b", "c"], 2)
    source = broker.source(topic, end="now")
    assert sorted(lines_of(taken(source, 3))) == ["a", "b", "c"]
    broker.fill(topic, ["late"])
    assert not source.read(10).lines
    source.close()
    empty = broker.source(broker.make(2), end="now")
    assert not empty.read(10).lines and empty.exhausted
    empty.close()


def test_a_new_reader_may_begin_at_the_end(mock: Broker) -> None:
    mock.fill("begun", ["before"])
    source = mock.source("begun", start="new", group=None)
    mock.fill("begun", ["after"])
    assert source.read(10).lines == ["after"]
    source.close()


def test_offsets_are_committed_only_after_lines_have_passed_and_that_is_saved(broker: Broker) -> None:
    topic = broker.make()
    broker.fill(topic, [f"line {number}" for number in range(100)])
    source = broker.source(topic)
    chunks = taken(source, 100)
    pass_on(source, chunks, 60)
    position = source.position()
    pass_on(source, chunks[-1:], 10)
    assert broker.bookmark(topic) < 0
    source.acknowledge(position)
    until(lambda: broker.bookmark(topic) == 60)
    source.close()
    source.acknowledge(source.position())  # too late: nothing happens
    second = broker.source(topic)
    assert second.read(1).lines == ["line 60"]
    second.close()


def test_a_run_that_goes_on_begins_where_the_checkpoint_says(broker: Broker) -> None:
    topic = broker.make(2)
    broker.fill(topic, [f"line {number}" for number in range(100)], 2)
    first = broker.source(topic, partitions=[0])
    pass_on(first, taken(first, 50), 30)
    position = commit(first)
    first.close()
    broker.fill(topic, ["new"])
    second = broker.source(topic, partitions=[1, 0])
    second.resume(position)
    found = lines_of(taken(second, 71))
    assert [line for line in found if line[-1] in "02468w"] == [*(f"line {number}" for number in range(60, 100, 2)), "new"]
    second.close()
    with pytest.raises(SourceError, match="has read the topic 'other': give it, or begin anew"):
        second.resume({"topic": "other", "offsets": {}})


def test_a_broker_that_does_not_answer_for_a_while(own: Broker) -> None:
    topic = own.make()
    assert own.server is not None
    run = Running(own.source(topic))
    own.fill(topic, ["before"])
    until(lambda: run.lines == ["before"])
    own.server.freeze()
    until(lambda: run.notices == ["disconnected"])
    own.server.thaw()
    own.fill(topic, ["after"])
    until(lambda: run.lines == ["before", "after"])
    until(lambda: run.notices == ["disconnected", "reconnected"])
    until(lambda: own.bookmark(topic) == 2)
    run.close()


def test_a_topic_that_begins_anew_is_read_from_its_beginning(mock: Broker) -> None:
    mock.fill("anew", ["a", "b"])
    for end, found in (("now", ["a", "b"]), ("never", ["a", "b", "c"])):
        source = mock.source("anew", partitions=[0], end=end, group=None)
        source.resume({"topic": "anew", "offsets": {"0": 500}})
        lines = read_to_end(source) if end == "now" else lines_of(taken(source, len(found)))
        assert lines == found and kinds(source) == ["vanished"]
        mock.fill("anew", ["c"])
        source.close()
    splitting = mock.source("anew", partitions=[0], group=None)
    splitting.resume({"topic": "anew", "offsets": {"0": 500}})
    assert [(part.lo, part.hi) for part in splitting.split(10, 1)] == [(0, 4)] and kinds(splitting) == ["vanished"]
    splitting.close()


def test_what_was_removed_before_it_was_read_is_told_of(mock: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    mock.fill("removed", ["a", "b", "c"])
    source = mock.source("removed", partitions=[0], group=None)
    source.resume({"topic": "removed", "offsets": {"0": -7}})  # as if the first offset there were 7 further on
    monkeypatch.setattr(source, "_marks", lambda partitions: ({0: 0}, {0: 3}))
    assert [(part.lo, part.hi) for part in source.split(10, 1)] == [(0, 3)]
    assert [(notice.kind, notice.lost_lines) for notice in notices_of(source)] == [("dropped", 7)]
    source.close()


def test_new_partitions_are_found(mock: Broker) -> None:
    mock.fill("wider", ["a", "b"], 2)
    for splits in (False, True):
        source = mock.source("wider", group=None)
        source._next = {0: 0}  # as if the others had not been there
        if splits:
            until(lambda: any(part.partition == 1 for part in source.split(10, 4)))  # noqa: B023
        else:
            assert sorted(lines_of(taken(source, 2))) == ["a", "b"]
        assert source.position()["offsets"].keys() == {"0", "1", "2", "3"}
        source.close()


def test_reading_ends_when_the_source_is_closed_and_leaves_nothing(broker: Broker) -> None:
    topic = broker.make()
    before = resources()
    for is_read in (True, False):
        source = broker.source(topic)
        ended = threading.Event()
        if is_read:
            threading.Thread(target=lambda: (source.read(10), ended.set()), daemon=True).start()  # noqa: B023
            time.sleep(0.1)
        source.close()
        source.close()
        assert not is_read or ended.wait(2)
        assert not source.read(10).lines and source.exhausted
    until(lambda: resources()[0] <= before[0])


# What cannot be


def test_what_cannot_be_is_said(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = broker.make(2)
    nowhere = f"kafka://me:secret@127.0.0.1:{free_port()}"
    for make, error, kind in ((broker.source, SourceError, KafkaSource), (broker.sink, SinkError, KafkaSink)):
        with pytest.raises(error, match="there is no topic 'other'; make it: kafka-topics"):
            make("other")
        with pytest.raises(error, match=r"cannot be reached: .*; see that a Kafka broker runs there") as problem:
            kind(topic, url=nowhere, timeout=0.5)
        assert "secret" not in str(problem.value)
        with pytest.raises(error, match="'a b' is no name of a topic"):
            make("a b")
        with pytest.raises(error, match="says no topic: write kafka://host:9092/TOPIC"):
            kind.of_address(broker.url)
        with pytest.raises(error, match=r"cannot be used: .*no\.such"):
            make(topic, **{"no.such": "1"})
        with pytest.raises(error, match="is no address of Kafka"):
            make(topic, url="redis://127.0.0.1")
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "confluent_kafka", None)
            with pytest.raises(error, match=r"pip install 'streamlab\[kafka\]'"):
                make(topic)
    with pytest.raises(SourceError, match="has no partition 7: it has 2, from 0 on"):
        broker.source(topic, partitions=[0, 7])
    with pytest.raises(SourceError, match="start='middle' is none of all, new"):
        broker.source(topic, start="middle")


def test_errors_that_say_that_brokers_are_away_have_the_librarys_names() -> None:
    for name in kafka._AWAY:
        assert KafkaError(getattr(KafkaError, name)).name() == name


def test_addresses(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = broker.make(2)
    broker.fill(topic, ["a", "b"], 2)
    options = "group=&partitions=1&end=now&security.protocol=plaintext&sasl.mechanism=SCRAM-SHA-512"
    source = KafkaSource.of_address(f"kafka://{broker.hosts},{broker.hosts}/{topic}?{options}")
    assert read_to_end(source) == ["b"]
    source.close()
    sink = KafkaSink.of_address(f"{broker.url}/{topic}?key=host")
    assert not write(sink, ["c"])
    sink.close()
    monkeypatch.setenv("STREAMLAB_KAFKA_USER", "me")
    monkeypatch.setenv("STREAMLAB_KAFKA_PASSWORD", "a/b")
    with pytest.raises(SourceError, match="cannot be reached"):
        KafkaSource.of_address(f"kafka://127.0.0.1:{free_port()}/logs?timeout=0.5")
    link = kafka.link_of("kafka://me:a%2Fb@host", 5.0, {}, SourceError)
    assert (link.settings["sasl.password"], link.settings["security.protocol"]) == ("a/b", "SASL_PLAINTEXT")
    assert "a/b" not in repr(link)


# Ranges


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 80), st.integers(1, 6), st.integers(5, 60))
def test_whatever_the_ranges_all_messages_are_read_once(mock: Broker, lines: int, parts: int, more: int) -> None:
    mock._made += 1
    topic = f"split-{mock._made}"
    AdminClient(mock._settings).list_topics(topic, timeout=5)
    written = [f"line {number}" for number in range(100)]
    mock.fill(topic, [*written], 3)
    source = mock.source(topic, end="now")
    mock.fill(topic, ["late"] * more, 4)
    found: list[str] = []
    while some := source.split(lines, parts):
        assert len(some) <= parts and sum(part.hi - part.lo for part in some) <= lines
        for part in pickle.loads(pickle.dumps(some)):
            chunks = list(part.chunks(max_line_bytes=100, columns=len(found) % 2 == 0))
            assert [offset for chunk in chunks for offset in _offsets(chunk)] == list(range(part.lo, part.hi))
            found += lines_of(chunks)
            source.finished(part, part.hi)
    assert sorted(found) == sorted(written) and source.exhausted
    assert source.position()["offsets"] == {"0": 34, "1": 33, "2": 33, "3": 0}
    source.close()


def _offsets(chunk: Chunk) -> list[int]:
    assert chunk.places is not None and len(chunk.places.starts) == len(chunk.lines) + 1
    return list(chunk.places.starts[:-1])


@given(
    st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=1, max_size=20),
)
def test_shares_are_given_out_once_each_and_fairly(ends: dict[int, tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    shares = Shares({at: lo for at, (lo, _) in ends.items()}, {at: lo + length for at, (lo, length) in ends.items()})
    at = {partition: lo for partition, (lo, _) in ends.items()}
    for lines, parts in asked:
        left = shares.left
        taken = shares.take(lines, parts)
        assert len(taken) <= parts and sum(hi - lo for _, lo, hi in taken) <= lines
        assert bool(taken) == bool(left)
        for partition, lo, hi in taken:
            assert at[partition] == lo < hi
            at[partition] = hi
    assert at == shares.given


def test_ranges_go_on_as_more_comes_and_where_the_checkpoint_says(mock: Broker) -> None:
    mock.fill("grows", ["a", "b", "c"])
    source = mock.source("grows")
    parts = source.split(10, 4)
    assert [(part.partition, part.lo, part.hi) for part in parts] == [(0, 0, 3)]
    assert source.split(10, 4) == [] and not source.exhausted
    mock.fill("grows", ["d", "e"], 2)
    more = source.split(10, 1)
    assert [(part.partition, part.lo, part.hi) for part in more + source.split(10, 1)] == [(1, 0, 1), (0, 3, 4)]
    source.finished(parts[0], 3)
    source.acknowledge(source.position())
    until(lambda: mock.bookmark("grows") == 3)
    second = mock.source("grows", group=None)
    second.resume(source.position())
    assert {(part.partition, part.lo, part.hi) for part in second.split(10, 9)} >= {(0, 3, 4), (1, 0, 1)}
    source.close()
    second.close()


def test_a_range_ends_where_it_ends_whatever_is_missing_in_it(broker: Broker) -> None:
    topic = broker.make()
    sink = broker.sink(topic)
    for number in range(3):  # each transaction has a mark at its end, which has an offset too
        write(sink, [f"a{number}", f"b{number}"])
    sink.close()
    link = kafka.link_of(broker.url, 1.0, {}, SourceError)
    for lo, hi, lines in ((0, 9, 6), (2, 3, 0), (2, 4, 1), (5, 8, 2), (8, 9, 0), (4, 4, 0)):
        chunks = list(KafkaRange(link, topic, 0, lo, hi).chunks(max_line_bytes=100, columns=False))
        assert len(lines_of(chunks)) == lines, (lo, hi)


def test_a_range_that_is_not_there_any_more(mock: Broker) -> None:
    mock.fill("short", ["a"])
    part = KafkaRange(kafka.link_of(mock.url, 1.0, {}, SourceError), "short", 0, 50, 51)
    with pytest.raises(SourceError, match=r"has no offset 50 any more: its messages were removed \(retention\)"):
        list(part.chunks(max_line_bytes=100, columns=False))


def test_a_range_gives_columns_where_it_can(broker: Broker) -> None:
    link = kafka.link_of(broker.url, 1.0, {}, SourceError)
    for odd, is_column in (("c", True), ("two\nlines", False), ("\udcff", False), ("x" * 200, False), ("c\r\n", False)):
        topic = broker.make()
        broker.fill(topic, ["a", "", odd])
        (chunk,) = KafkaRange(link, topic, 0, 0, 3).chunks(max_line_bytes=100, columns=True)
        assert isinstance(chunk.lines, Column) == is_column
        assert list(chunk.lines) == ["a", "", odd[:100].removesuffix("\r\n")] and len(chunk.rejected) == (len(odd) > 100)


# The sink


@pytest.mark.parametrize("limit", ["the library's", "the topic's"])
def test_outputs_as_they_are(broker: Broker, limit: str) -> None:
    topics = limit == "the topic's"
    topic = broker.make(**({"max.message.bytes": "2000"} if topics else {}))
    sink = broker.sink(topic, **({} if topics else {"message.max.bytes": 2000}))
    assert isinstance(sink, Durable) and isinstance(sink, Settling)

    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    refused = write(sink, ["a", {"level": "warn"}, "x" * 2000, Bad(), 7, "caf\udce9", "two\nlines"])
    assert [(position, type(error)) for position, error in refused] == [(2, ValueError), (3, RuntimeError)]
    assert "takes at most 1,800 (max.message.bytes)" in str(refused[0][1])
    assert broker.content(topic) == ["a", '{"level":"warn"}', "7", "caf\udce9", "two\nlines"]
    sink.close()
    sink.close()


def test_messages_with_one_key_are_in_one_partition_in_order(broker: Broker) -> None:
    topic = broker.make(4)
    sink = broker.sink(topic, key="host")
    write(sink, [{"host": f"h{number % 5}", "n": number} for number in range(50)] + ["no dict", {"n": 1}])
    sink.close()
    found = broker.content(topic, 4)
    for host in range(5):
        mine = [at for at, line in enumerate(found) if f'"h{host}"' in line]
        assert len(mine) == 10 and [int(found[at].split(":")[-1][:-1]) for at in mine] == list(range(host, 50, 5))
    assert len(found) == 52


def test_a_broker_that_is_away_is_an_outage(own: Broker) -> None:
    topic = own.make()
    assert own.server is not None
    sink = own.sink(topic)
    write(sink, ["a"])
    own.server.freeze()
    for _ in range(2):
        with pytest.raises(Outage, match="cannot be written for now") as outage:
            write(sink, ["b"])
        assert outage.value.waits
    own.server.thaw()
    until(lambda: _succeeds(sink, "b"))
    assert kinds(sink) == ["disconnected", "reconnected"]
    assert set(own.content(topic)) == {"a", "b"}
    sink.close()


def _succeeds(sink: KafkaSink, value: str) -> bool:
    try:
        write(sink, [value])
    except Outage:
        return False
    return True


def test_outputs_are_held_back_until_they_are_saved(broker: Broker) -> None:
    topic = broker.make()
    sink = broker.sink(topic)
    sink.begin()
    sink.settle(sink.mark())
    write(sink, ["a", "b"])
    first = sink.mark()
    write(sink, ["c"])
    assert broker.content(topic) == []
    sink.settle(first)
    assert broker.content(topic) == ["a", "b"]
    second = sink.mark()
    assert [values for _, _, values in first["held"]] == [[b"a", b"b"]]
    assert [values for _, _, values in second["held"]] == [[b"c"]] and sink.mark() == second
    sink.settle(second)
    sink.settle(second)
    assert sink.mark()["held"] == []
    sink.close()  # and then it is found that the checkpoint is the first one, or the second one
    for mark, found in ((first, ["a", "b", "c"]), (second, ["a", "b", "c", "d"])):
        again = broker.sink(topic)
        again.resume(mark)
        write(again, ["d"])
        if mark is second:
            again.settle(again.mark())
        assert broker.content(topic) == found
        again.close()


def test_what_was_saved_and_not_written_is_written_by_the_next_one(broker: Broker) -> None:
    topic = broker.make()
    sink = broker.sink(topic, key="k")
    sink.settle(sink.mark())
    write(sink, ["a", {"k": 1}])
    mark = sink.mark()
    again = broker.sink(topic)
    again.resume(mark)
    assert broker.content(topic) == ["a", '{"k":1}']
    with pytest.raises(SinkError, match="another run writes as 'streamlab-"):
        sink.settle(mark)
    with pytest.raises(SinkError, match="another run writes as"):
        while True:  # what it is given after that, it has no room for
            sink._bytes = 1 << 30
            write(sink, ["x"])
    sink.close()
    again.close()
    assert broker.content(topic) == ["a", '{"k":1}']


def test_what_the_broker_has_forgotten_is_not_guessed(broker: Broker) -> None:
    sink = broker.sink(broker.make())
    mark = {"session": "long-ago", "number": 3, "held": [[3, [None], [b"a"]]]}
    with pytest.raises(SinkError, match=r"has forgotten whether the last outputs .* \(offsets.retention.minutes\)"):
        sink.resume(mark)
    sink.resume(mark | {"held": []})
    assert sink._written() == 3
    sink.close()


def test_much_that_is_held_back_waits(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.sinks.kafka.HELD", 10)
    topic = broker.make()
    sink = broker.sink(topic)
    sink.settle(sink.mark())
    write(sink, ["a" * 20])
    write(sink, ["b" * 20])  # nothing is on its way
    mark = sink.mark()
    with pytest.raises(Outage, match="is slow: 40 bytes are waiting") as outage:
        write(sink, ["c"])
    assert outage.value.waits
    settling = threading.Timer(0.2, sink.settle, [mark])
    settling.start()
    write(sink, ["c"])
    settling.join()
    assert broker.content(topic) == ["a" * 20, "b" * 20]
    sink.close()


# Runs


def test_a_run_from_topic_to_topic(broker: Broker, tmp_path: Path) -> None:
    source, target = broker.make(2), broker.make()
    broker.fill(source, [f"line {number}" for number in range(MANY)], 2)
    pipeline = Pipeline("logs").add("upper", str.upper)
    for checkpoint in (tmp_path / "one", tmp_path / "one", None):  # the second one has nothing to do
        reading = broker.source(source, end="now", group="plain" if checkpoint is None else "streamlab")
        run = pipeline.run(reading, output=broker.sink(target), checkpoint=checkpoint)
        assert run.state == "finished"
        assert sorted(set(broker.content(target))) == sorted(f"LINE {number}" for number in range(MANY))
    assert len(broker.content(target)) == 2 * MANY


PROGRAM = """
import os, sys
from streamlab import Pipeline
from streamlab.checkpoint import Checkpoint
from streamlab.sinks.kafka import KafkaSink
from streamlab.sources.kafka import KafkaSource

url, source, target, folder, where, after = sys.argv[1:]
left = int(after)


def dying(kind, name):
    method = getattr(kind, name)

    def instead(self, *args, **options):
        global left
        result = None if where.startswith("before") else method(self, *args, **options)
        left -= 1
        if not left:
            os._exit(9)
        return method(self, *args, **options) if where.startswith("before") else result

    setattr(kind, name, instead)


if where != "nowhere":
    dying(KafkaSource if "source" in where else KafkaSink, where.split()[-1])
pipeline = Pipeline("logs").add("upper", str.upper)
reading = KafkaSource(source, url=url, end="now")
pipeline.run(reading, output=KafkaSink(target, url=url), checkpoint=Checkpoint(folder, interval=0.02))
"""


def run_killed(broker: Broker, source: str, target: str, folder: Path, where: str, after: int = 1) -> int:
    command = [sys.executable, "-c", PROGRAM, broker.url, source, target, str(folder), where, str(after)]
    done = subprocess.run(command, cwd=os.getcwd(), capture_output=True, timeout=60, check=False)
    assert done.returncode in (0, 9), done.stderr.decode()
    return done.returncode


def test_nothing_is_lost_or_doubled_wherever_a_run_is_killed(broker: Broker, tmp_path: Path) -> None:
    source, target = broker.make(3), broker.make(2)
    lines = [f"line {number}" for number in range(MANY)]
    broker.fill(source, [*lines], 3)
    places = [("after write", 2), ("before settle", 2), ("after settle", 1), ("after settle", 2), ("after mark", 2)]
    places += [("after _commit", 2), ("before source acknowledge", 1)]
    killed = 0
    for where, after in places:
        killed += run_killed(broker, source, target, tmp_path / "checkpoint", where, after) == 9
        broker.fill(source, more := [f"{where} {after} {number}" for number in range(300)], 3)
        lines += more
    assert killed >= 6
    assert run_killed(broker, source, target, tmp_path / "checkpoint", "nowhere") == 0
    assert sorted(broker.content(target, 2)) == sorted(line.upper() for line in lines)


def test_a_run_that_is_killed_in_the_middle_of_a_transaction_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    source, target = broker.make(), broker.make()
    lines = [f"line {number}" for number in range(100)]
    broker.fill(source, [*lines])
    assert run_killed(broker, source, target, tmp_path / "checkpoint", "after _send", 2) == 9  # the first one is empty
    assert run_killed(broker, source, target, tmp_path / "checkpoint", "nowhere") == 0
    # The broker here shows what was aborted, too: that nothing is doubled for who reads what is committed cannot be seen.
    assert set(broker.content(target)) == {line.upper() for line in lines}


def test_from_a_topic_to_a_file_nothing_is_lost_or_doubled_by_kills_at_any_time(broker: Broker, tmp_path: Path) -> None:
    topic, output = broker.make(3), tmp_path / "output.log"
    lines = [f"line {number}" for number in range(20 * MANY)]
    broker.fill(topic, [*lines], 3)

    def written() -> int:
        return output.read_bytes().count(b"\n") if output.exists() else 0

    address = f"{broker.url}/{topic}?group=killed"
    kills = killed_again_and_again(address, str(output), tmp_path, written, MANY, lambda: written() >= len(lines))
    assert kills >= 2
    found = output.read_text().splitlines()
    assert sorted(found) == sorted(line.upper() for line in lines)
    for part in range(3):
        assert [line for line in found if int(line[5:]) % 3 == part] == [line.upper() for line in lines[part::3]]
