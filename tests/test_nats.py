"""NATS JetStream as source and sink: real servers, killed, frozen, restarted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import nats
import numpy as np
import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StorageType

from streamlab import Pipeline
from streamlab.errors import Outage, SinkError, SourceError
from streamlab.sinks import Durable, Sink
from streamlab.sinks.nats import NatsSink
from streamlab.sources import Acknowledging, Resumable, Source, notices_of
from streamlab.sources.nats import NatsSource
from tests.brokers import (
    Running,
    Server,
    commit,
    finished,
    free_port,
    killed_again_and_again,
    lines_of,
    nats_server,
    pass_on,
    taken,
)
from tests.waiting import resources, until

T = TypeVar("T")
MANY = 5000


class Broker:
    """A server, and what is done with it that is not streamlab's."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = f"nats://127.0.0.1:{server.port}"

    def do(self, work: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        async def connected() -> T:
            client = await nats.connect(self.url)
            try:
                return await work(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(connected())

    def make(self, stream: str, **options: Any) -> None:
        self.do(lambda jetstream: jetstream.add_stream(name=stream, **{"subjects": [f"{stream}.*"], **options}))

    def remove(self, stream: str) -> None:
        async def remove(jetstream: JetStreamContext) -> None:
            for info in await jetstream.streams_info():
                if info.config.name == stream:
                    await jetstream.delete_stream(stream)

        self.do(remove)

    def fill(self, subject: str, lines: list[str]) -> None:
        async def fill(jetstream: JetStreamContext) -> None:
            sent = [await jetstream.publish_async(subject, line.encode("utf-8", "surrogateescape")) for line in lines]
            await asyncio.gather(*sent)

        self.do(fill)

    def content(self, stream: str) -> list[str]:
        async def content(jetstream: JetStreamContext) -> list[str]:
            state = (await jetstream.stream_info(stream)).state
            if not state.messages:
                return []
            reading = await jetstream.pull_subscribe("", stream=stream, config=ConsumerConfig(max_ack_pending=100_000))
            messages: list[Any] = []
            while len(messages) < state.messages:
                messages += await reading.fetch(min(500, state.messages - len(messages)), timeout=10)
            return [message.data.decode("utf-8", "surrogateescape") for message in messages]

        return self.do(content)

    def under_way(self, stream: str, durable: str = "streamlab") -> int:
        return self.do(lambda jetstream: jetstream.consumer_info(stream, durable)).num_ack_pending or 0

    def stored(self, stream: str) -> int:
        return self.do(lambda jetstream: jetstream.stream_info(stream)).state.messages

    def source(self, stream: str = "logs", **options: Any) -> NatsSource:
        return NatsSource(stream, **{"url": self.url, "timeout": 0.5, **options})

    def sink(self, subject: str = "logs.a", **options: Any) -> NatsSink:
        return NatsSink(subject, **{"url": self.url, "timeout": 0.5, **options})


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A server with an empty stream ``logs``, which has the subjects ``logs.*``."""
    with nats_server(tmp_path / "nats") as server:
        broker = Broker(server)
        until(lambda: _is_ready(broker))
        broker.make("logs")
        yield broker


def _is_ready(broker: Broker) -> bool:
    """Tell whether JetStream answers, which it does a moment after the server listens."""
    try:
        broker.do(lambda jetstream: jetstream.account_info())
    except Exception:
        return False
    return True


def write(sink: Sink, values: list[Any]) -> list[tuple[int, BaseException]]:
    return list(sink.write(values, np.arange(len(values), dtype=np.int64)))


def kinds(part: object) -> list[str]:
    return [notice.kind for notice in notices_of(part)]


# The source


def test_lines_as_they_are_in_their_order(broker: Broker) -> None:
    texts = [
        "info: a",
        "caf\udce9 \udcff",
        "two\nlines",
        "",
        "\u2028 \x85 \x00",
        "with its end\r\n",
        "x" * 101,
        "\udcff" * 100,
    ]
    broker.fill("logs.a", texts)
    reading = broker.source(max_line_bytes=100)
    source: Source = reading
    assert isinstance(source, Resumable) and isinstance(source, Acknowledging) and source.blocking
    assert source.name == f"{broker.url}/logs" and source.progress() is None
    chunks = taken(source, 8, limit=3)
    assert lines_of(chunks) == [*texts[:5], "with its end", "x" * 100, "\udcff" * 100]
    assert [mark.kind for chunk in chunks for mark in chunk.rejected] == ["oversize"]
    assert {chunk.source for chunk in chunks} == {source.name}
    assert [chunk.places.start(at) for chunk in chunks if chunk.places for at in range(len(chunk.lines))] == list(
        range(1, 9)
    )
    source.close()


def test_the_subjects_of_a_stream_and_where_to_begin(broker: Broker) -> None:
    broker.fill("logs.a", ["a1", "a2"])
    broker.fill("logs.b", ["b1"])
    for durable, options, lines in (
        ("a", {"subject": "logs.a"}, ["a1", "a2"]),
        ("all", {}, ["a1", "a2", "b1"]),
        ("second", {"start": 2}, ["a2", "b1"]),
        ("last", {"start": "last"}, ["b1"]),
    ):
        source = broker.source(durable=durable, **options)
        assert finished(source, len(lines)) == lines
        source.close()
    source = broker.source(durable="new", start="new")
    broker.fill("logs.a", ["a3"])
    assert source.read(10).lines == ["a3"]
    source.close()


def test_messages_are_acknowledged_only_after_they_have_passed_and_that_is_saved(broker: Broker) -> None:
    broker.fill("logs.a", [f"line {number}" for number in range(100)])
    source = broker.source()
    chunks = taken(source, 100)
    assert broker.under_way("logs") == 100
    pass_on(source, chunks, 30)
    position = source.position()
    source.acknowledge(position)
    assert broker.under_way("logs") == 70
    source.close()


def test_no_more_is_taken_than_is_read(broker: Broker) -> None:
    broker.fill("logs.a", [f"line {number}" for number in range(1000)])
    source = broker.source()
    for number in range(20):
        assert source.read(1).lines == [f"line {number}"]
    time.sleep(0.2)  # all that was asked for has come
    assert broker.under_way("logs") <= 20 + 8
    source.close()


def test_large_messages(broker: Broker) -> None:
    lines = [f"{number:<900000}" for number in range(60)]
    broker.fill("logs.a", lines)
    source = broker.source()
    assert finished(source, 60, limit=16_384) == lines
    source.close()


def test_what_was_under_way_at_close_comes_again_at_once(broker: Broker) -> None:
    lines = [f"line {number}" for number in range(100)]
    broker.fill("logs.a", lines)
    first = broker.source()
    chunks = taken(first, 100)
    pass_on(first, chunks, 60)
    commit(first)
    first.close()
    second = broker.source()
    assert sorted(finished(second, 40)) == sorted(lines[60:])  # the server has an order of its own for them
    assert broker.under_way("logs") == 0
    second.close()


def test_the_sources_of_a_consumer_share_a_stream(broker: Broker) -> None:
    lines = [f"line {number}" for number in range(MANY)]
    runs = [Running(broker.source(), limit=50) for _ in range(2)]
    broker.fill("logs.a", lines)
    until(lambda: sum(len(run.lines) for run in runs) >= MANY)
    until(lambda: broker.under_way("logs") == 0)
    for run in runs:
        run.close()
    assert sorted(runs[0].lines + runs[1].lines) == sorted(lines)
    assert all(run.lines for run in runs)


def test_what_is_under_way_for_long_does_not_come_again(broker: Broker) -> None:
    broker.fill("logs.a", ["slow"])
    slow = broker.source(ack_wait=2.0)
    assert slow.read(10).lines == ["slow"]
    other = Running(broker.source())
    time.sleep(4.5)
    broker.fill("logs.a", ["new"])
    until(lambda: bool(other.lines))
    other.close()
    assert other.lines == ["new"]
    slow.close()


READER = """
import json, sys, time
from streamlab.sources.nats import NatsSource
source = NatsSource("logs", url=sys.argv[1], ack_wait=1.0)
count = 0
while count < 100:
    chunk = source.read(100)
    passed = min(len(chunk.lines), max(60 - count, 0))
    source.passed(chunk.places, passed)
    count += len(chunk.lines)
print(json.dumps(source.position()), flush=True)
time.sleep(60)
"""


def test_a_run_that_goes_on_after_a_crash_leaves_out_what_was_committed(broker: Broker) -> None:
    lines = [f"line {number}" for number in range(100)]
    broker.fill("logs.a", lines)
    with subprocess.Popen([sys.executable, "-c", READER, broker.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        position = json.loads(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
    broker.fill("logs.a", ["new"])
    source = broker.source()
    source.resume(position)
    assert source.position()["passed"] == position["passed"] == 60
    assert sorted(finished(source, 41)) == sorted([*lines[60:], "new"])
    until(lambda: broker.under_way("logs") == 0)
    source.close()


def test_a_stream_that_was_made_again_is_read_whole(broker: Broker) -> None:
    broker.fill("logs.a", ["a", "b"])
    first = broker.source()
    finished(first, 2)
    position = first.position()
    first.close()
    broker.remove("logs")
    broker.make("logs")
    broker.fill("logs.a", ["c", "d", "e"])
    second = broker.source()
    second.resume(position)
    assert finished(second, 3) == ["c", "d", "e"]
    second.close()


def test_nothing_is_lost_when_the_server_crashes(broker: Broker) -> None:
    lines = [f"line {number}" for number in range(MANY)]
    broker.fill("logs.a", lines)
    run = Running(broker.source(ack_wait=1.0), limit=100, slow=lambda: time.sleep(0.005))
    for part in (1, 2, 3):
        until(lambda part=part: len(run.lines) > part * MANY // 5)  # type: ignore[misc]
        broker.server.kill()
        until(lambda part=part: run.notices.count("disconnected") == part)  # type: ignore[misc]
        broker.server.start()
    until(lambda: len(set(run.lines)) == MANY)
    until(lambda: broker.under_way("logs") == 0)
    run.close()
    assert sorted(run.lines) == sorted(lines)  # and nothing is doubled, as nobody else reads
    assert [kind for kind in run.notices if kind != "vanished"] == ["disconnected", "reconnected"] * 3


def test_a_server_that_does_not_answer_for_a_while(broker: Broker) -> None:
    run = Running(broker.source())
    broker.fill("logs.a", ["before"])
    until(lambda: run.lines == ["before"])
    broker.server.freeze()
    until(lambda: run.notices == ["disconnected"])
    broker.server.thaw()
    broker.fill("logs.a", ["after"])
    until(lambda: run.lines == ["before", "after"])
    run.close()
    assert run.notices == ["disconnected", "reconnected"]


def test_a_consumer_that_is_gone_is_made_again(broker: Broker) -> None:
    run = Running(broker.source())
    broker.fill("logs.a", ["a", "b"])
    until(lambda: len(run.lines) == 2)
    until(lambda: broker.under_way("logs") == 0)
    broker.do(lambda jetstream: jetstream.delete_consumer("logs", "streamlab"))
    until(lambda: "vanished" in run.notices)
    broker.fill("logs.a", ["c"])
    until(lambda: len(run.lines) == 3)
    broker.remove("logs")
    until(lambda: run.notices.count("disconnected") >= 2)
    broker.make("logs")
    broker.fill("logs.a", ["d"])
    until(lambda: len(run.lines) == 4)
    run.close()
    assert run.lines == ["a", "b", "c", "d"]


def test_a_stream_in_memory_is_waited_for_after_a_restart(broker: Broker) -> None:
    broker.make("volatile", storage=StorageType.MEMORY)
    source = broker.source("volatile")
    run = Running(source)
    broker.fill("volatile.a", ["a"])
    until(lambda: run.lines == ["a"])
    broker.server.restart()
    until(lambda: "there is no stream 'volatile'" in run.told)
    broker.make("volatile", storage=StorageType.MEMORY)
    broker.fill("volatile.a", ["b"])
    until(lambda: run.lines == ["a", "b"])
    run.close()


@pytest.mark.parametrize("state", ["waiting", "frozen", "away"])
def test_close_ends_a_read_that_waits_and_leaves_nothing(broker: Broker, state: str) -> None:
    broker.source(timeout=30.0).close()  # imports, and what they open
    before = resources()
    source = broker.source(timeout=30.0)
    read: list[list[str]] = []
    reader = threading.Thread(target=lambda: read.append(list(source.read(10).lines)))
    reader.start()
    time.sleep(0.2)
    if state == "frozen":
        broker.server.freeze()
    elif state == "away":
        broker.server.kill()
        until(lambda: kinds(source) == ["disconnected"])
        time.sleep(0.5)
    start = time.monotonic()
    source.close()
    reader.join(10)
    assert read == [[]]
    assert time.monotonic() - start < 5  # it is a few milliseconds; the server would be waited for much longer
    source.close()
    source.acknowledge(source.position())
    until(lambda: resources() == before)
    if state == "frozen":
        broker.server.thaw()


def test_what_cannot_be_reached_is_said_at_once_and_without_passwords(broker: Broker, tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(SourceError, match=f"nats://127.0.0.1:{port} cannot be reached: .*(refused|Connect)") as error:
        NatsSource("logs", url=f"nats://me:secret@127.0.0.1:{port}")
    assert "secret" not in str(error.value)
    with pytest.raises(SinkError, match="cannot be reached"):
        NatsSink("logs.a", url=f"nats://127.0.0.1:{port}")
    with pytest.raises(SourceError, match="no stream 'none'; make it: nats stream add none"):
        broker.source("none")
    with pytest.raises(SinkError, match="no stream has the subject none; make one: nats stream add NAME --subjects=none"):
        broker.sink("none")
    with pytest.raises(SinkError, match="is no subject to publish to"):
        broker.sink("logs.*")
    with pytest.raises(SourceError, match="start='old' is none of all, new"):
        broker.source(start="old")
    with nats_server(tmp_path / "guarded", "--user", "me", "--pass", "sec/r@t") as server:
        for name in ("", "me:wrong@"):
            with pytest.raises(SourceError, match=r"cannot be reached: .*Authorization") as error:
                NatsSource("logs", url=f"nats://{name}127.0.0.1:{server.port}")
            assert "wrong" not in str(error.value)
        with pytest.raises(SourceError, match="there is no stream"):
            NatsSource("logs", url=f"nats://me:sec%2Fr%40t@127.0.0.1:{server.port},127.0.0.1:{port}")
        with pytest.raises(SourceError, match=r"no address of a broker: .*%2F for /") as error:
            NatsSource("logs", url=f"nats://me:sec/r@t@127.0.0.1:{server.port}")
        assert "r@t" not in str(error.value)


def test_consumers_that_are_other_than_they_must_be(broker: Broker) -> None:
    async def make(jetstream: JetStreamContext) -> None:
        await jetstream.add_consumer("logs", ConsumerConfig(durable_name="push", deliver_subject="here"))
        await jetstream.add_consumer("logs", ConsumerConfig(durable_name="all", ack_policy=AckPolicy.ALL))
        await jetstream.add_consumer(
            "logs", ConsumerConfig(durable_name="a", ack_policy=AckPolicy.EXPLICIT, filter_subject="logs.a")
        )

    broker.do(make)
    for durable, message in (
        ("push", "pushes messages, and here they are pulled; give another name, or remove it: nats consumer rm logs push"),
        ("all", "has the acknowledgement policy all, and must have 'explicit'"),
        ("a", r"has the subjects logs\.a, not logs\.b"),
    ):
        with pytest.raises(SourceError, match=message):
            broker.source(durable=durable, subject="logs.b")


def test_without_jetstream(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        server.kill()
        server.command = [part for part in server.command if part not in ("-js", "-sd", str(tmp_path))]
        server.start()
        for make in (NatsSource, NatsSink):
            with pytest.raises((SourceError, SinkError), match="no JetStream; start it with nats-server -js"):
                make("logs", url=f"nats://127.0.0.1:{server.port}")


def test_sources_and_sinks_by_address(broker: Broker) -> None:
    sink = NatsSink.of_address(f"{broker.url}/logs.a")
    write(sink, ["x", "y" * 100])
    sink.close()
    address = f"{broker.url}/logs?subject=logs.a&durable=d&start=2&ack_wait=5&max_ack_pending=10"
    source = NatsSource.of_address(address, max_line_bytes=50)
    chunk = source.read(10)
    assert chunk.lines == ["y" * 50] and [mark.kind for mark in chunk.rejected] == ["oversize"]
    config = broker.do(lambda jetstream: jetstream.consumer_info("logs", "d")).config
    assert (config.ack_wait, config.max_ack_pending) == (5.0, 10)
    source.close()
    for wrong, message in (
        ("/logs?durabel=x", "did you mean 'durable'"),
        ("", "says no stream"),
        ("/logs?ack_wait=x", "ack_wait: 'x' is not a number of seconds"),
    ):
        with pytest.raises(SourceError, match=message):
            NatsSource.of_address(broker.url + wrong)


def test_who_the_user_is_may_be_said_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with nats_server(tmp_path, "--user", "me", "--pass", "sec/r@t") as server:
        address = f"nats://127.0.0.1:{server.port}/logs.a"
        with pytest.raises(SinkError, match=r"cannot be reached: .*uthorization"):
            NatsSink.of_address(address)
        monkeypatch.setenv("STREAMLAB_NATS_USER", "me")
        monkeypatch.setenv("STREAMLAB_NATS_PASSWORD", "sec/r@t")
        with pytest.raises(SinkError, match="no stream has the subject"):  # which the server tells whom it knows
            NatsSink.of_address(address)


# The sink


def test_outputs_as_messages(broker: Broker) -> None:
    sink = broker.sink()
    assert isinstance(sink, Sink) and isinstance(sink, Durable)
    assert write(sink, ["text", "caf\udce9", {"level": "warn", "n": 1}, 7, "two\nlines"]) == []
    assert broker.content("logs") == ["text", "caf\udce9", '{"level":"warn","n":1}', "7", "two\nlines"]
    sink.close()
    with pytest.raises(Outage, match="closed"):
        write(sink, ["late"])


def test_what_cannot_be_written_is_refused_and_the_rest_is_written(broker: Broker) -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise KeyError("no text")

    broker.remove("logs")
    broker.make("logs", max_msg_size=1000)
    sink = broker.sink()
    refused = write(sink, ["a", "x" * 1_048_576, "b", Unspeakable(), "y" * 2000, "c"])
    assert [position for position, _ in refused] == [1, 3, 4]
    assert "takes at most 1,048,576" in str(refused[0][1]) and "size exceeds maximum" in str(refused[2][1])
    assert broker.content("logs") == ["a", "b", "c"]
    assert write(sink, ["z" * 1_048_500]) != []  # with its header it is too long, and the server would hang up
    assert kinds(sink) == []
    sink.close()


def test_a_full_stream_is_an_outage(broker: Broker) -> None:
    broker.remove("logs")
    broker.make("logs", max_msgs=2, discard=DiscardPolicy.NEW)
    sink = broker.sink()
    with pytest.raises(Outage, match="maximum messages exceeded"):
        write(sink, ["a", "b", "c"])
    broker.do(lambda jetstream: jetstream.purge_stream("logs"))
    write(sink, ["a", "b", "c"])
    assert broker.content("logs") == ["c"]  # the others had been stored, and are known
    broker.do(lambda jetstream: jetstream.delete_stream("logs"))
    with pytest.raises(Outage, match="no stream has the subject"):
        write(sink, ["d"])
    broker.make("logs")
    write(sink, ["d"])
    assert broker.content("logs") == ["d"]
    sink.close()


def persistent_write(sink: Sink, values: list[Any], outages: list[Outage]) -> None:
    """Write a batch as a run does: again, until it works."""
    while True:
        try:
            write(sink, values)
        except Outage as outage:
            outages.append(outage)
            time.sleep(0.02)
        else:
            return


def test_nothing_is_lost_or_doubled_of_what_is_written_while_the_server_crashes(broker: Broker) -> None:
    sink = broker.sink()
    lines = [f"line {number}" for number in range(MANY)]
    outages: list[Outage] = []
    crash = threading.Timer(0.1, broker.server.restart)
    crash.start()
    for start in range(0, MANY, 20):
        persistent_write(sink, lines[start : start + 20], outages)
    crash.join()
    persistent_write(sink, ["last"], outages)
    assert broker.content("logs") == [*lines, "last"]
    assert outages
    assert kinds(sink) == ["disconnected", "reconnected"]
    sink.close()


def test_a_batch_that_was_on_its_way_to_a_frozen_server_is_not_doubled(broker: Broker) -> None:
    sink = broker.sink()
    write(sink, ["a"])
    broker.server.freeze()
    large = ["x" * 1_000_000] * 50  # more than fits into the buffers on the way
    for _ in range(2):
        with pytest.raises(Outage):
            write(sink, large)
    broker.server.thaw()
    outages: list[Outage] = []
    persistent_write(sink, large, outages)
    write(sink, ["b"])
    content = broker.content("logs")
    assert [line for line in content if len(line) < 10] == ["a", "b"] and len(content) == 52
    sink.close()


def test_a_sink_that_goes_on_from_a_mark_doubles_nothing_and_loses_nothing(broker: Broker) -> None:
    first = broker.sink()
    write(first, ["a", "b"])
    mark = first.mark()
    first.sync()
    write(first, ["c", "d", "e"])  # and then it crashes
    first.close()
    second = broker.sink()
    second.resume(mark)
    write(second, ["c", "e", "d", "f"])  # two have come in another order
    assert broker.content("logs") == ["a", "b", "c", "d", "e", "e", "d", "f"]
    second.close()
    third = broker.sink()
    third.begin()
    write(third, ["a"])  # another session
    assert broker.content("logs")[-1] == "a"
    third.close()


# Both, in a pipeline


def test_a_pipeline_from_stream_to_stream(broker: Broker) -> None:
    broker.make("out")
    pipeline = Pipeline("logs")
    pipeline.processor(name="upper")(str.upper)
    lines = [f"line {number}" for number in range(MANY)]
    broker.fill("logs.a", lines)
    before = resources()
    run = pipeline.start(broker.source(), output=broker.sink("out.a"))
    until(lambda: broker.stored("out") == MANY)
    run.stop()
    run.wait()
    assert broker.content("out") == [line.upper() for line in lines]
    assert broker.under_way("logs") == 0
    until(lambda: resources() == before)


def test_what_a_server_has_forgotten_was_acknowledged_is_passed_over_at_once(broker: Broker) -> None:
    broker.fill("logs.a", [f"line {number}" for number in range(MANY)])
    source = broker.source()
    done = 0
    while done < MANY:
        chunk = source.read(1000)
        assert chunk.places is not None
        source.passed(chunk.places, len(chunk.lines))
        done += len(chunk.lines)
    position = source.position()
    source.close()
    broker.do(lambda jetstream: jetstream.delete_consumer("logs", "streamlab"))  # the next one delivers all of them again
    broker.fill("logs.a", ["one more"])
    source = broker.source()
    source.resume(position)
    start = time.monotonic()
    assert source.read(1).lines == ["one more"]
    assert time.monotonic() - start < 60  # a few of them a second would take minutes
    source.close()


def test_a_pipeline_by_address_whose_server_goes_away(broker: Broker) -> None:
    broker.make("out")
    pipeline = Pipeline("logs")
    pipeline.processor(name="upper")(str.upper)
    source, output = f"{broker.url}/logs?timeout=0.5&ack_wait=2", f"{broker.url}/out.a?timeout=0.5"
    lines = [f"line {number}" for number in range(MANY)]
    with pipeline.start(source, output=output, on_outage="wait") as run:
        for part in range(4):
            broker.fill("logs.a", lines[part * MANY // 4 : (part + 1) * MANY // 4])
            if part < 3:
                until(lambda part=part: broker.stored("out") > part * MANY // 4)  # type: ignore[misc]
                broker.server.restart()
                until(lambda: _is_ready(broker))
        until(lambda: broker.stored("out") >= MANY)
        until(lambda: broker.under_way("logs") == 0)
        run.stop()
        run.wait()
    assert run.state == "stopped" and {"disconnected", "reconnected"} <= set(run.notices["kind"])
    assert sorted(broker.content("out")) == sorted(line.upper() for line in lines)


def test_a_run_that_is_killed_again_and_again_neither_loses_nor_doubles_what_it_reads(
    broker: Broker, tmp_path: Path
) -> None:
    lines = [f"line {number}" for number in range(3 * MANY)]
    broker.fill("logs.a", lines)
    file = tmp_path / "out.log"

    def written() -> int:
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def is_done() -> bool:
        return written() >= len(lines) and broker.under_way("logs") == 0

    kills = killed_again_and_again(f"{broker.url}/logs?ack_wait=1", str(file), tmp_path, written, 3000, is_done)
    assert kills > 2
    assert sorted(file.read_text().splitlines()) == sorted(line.upper() for line in lines)


def test_a_run_that_is_killed_again_and_again_neither_loses_nor_doubles_what_it_writes(
    broker: Broker, tmp_path: Path
) -> None:
    lines = [f"line {number}" for number in range(3 * MANY)]
    (tmp_path / "in.log").write_text("".join(f"{line}\n" for line in lines))

    def written() -> int:
        return broker.stored("logs")

    def is_done() -> bool:
        return written() >= len(lines)

    kills = killed_again_and_again(str(tmp_path / "in.log"), f"{broker.url}/logs.a", tmp_path, written, 3000, is_done)
    assert kills > 2
    assert broker.content("logs") == [line.upper() for line in lines]


def test_the_example_of_the_documentation(broker: Broker) -> None:
    broker.make("done")
    broker.fill("logs.app", ["warn: disk space low"])
    section = (
        (Path(__file__).parents[1] / "docs" / "connectors.md").read_text(encoding="utf-8").partition("## NATS JetStream")[2]
    )
    example = section.partition("```py\n")[2].partition("```")[0]
    scope: dict[str, Any] = {}
    exec(example.replace("127.0.0.1:4222", f"127.0.0.1:{broker.server.port}"), scope)
    until(lambda: broker.stored("done") == 1)
    scope["run"].stop()
    scope["run"].wait()
    assert broker.content("done") == ["WARN: DISK SPACE LOW"]
