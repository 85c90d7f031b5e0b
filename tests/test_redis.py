"""Redis streams as source and sink: real servers, killed, frozen, restarted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from streamlab import Pipeline
from streamlab.errors import Outage, SinkError, SourceError
from streamlab.sinks import Durable, Sink
from streamlab.sinks.redis import ExclusiveRedisSink, RedisSink
from streamlab.sources import Acknowledging, Resumable, Source, notices_of
from streamlab.sources.redis import RedisSource
from tests.brokers import (
    Running,
    Server,
    commit,
    finished,
    free_port,
    killed_again_and_again,
    lines_of,
    pass_on,
    redis_server,
    taken,
)
from tests.inline import Inline
from tests.waiting import resources, until

MANY = 5000


class Broker:
    """A server, and a client of it that is not streamlab's."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = f"redis://127.0.0.1:{server.port}/0"
        self.client: Any = redis.Redis.from_url(self.url, protocol=2)

    def fill(self, stream: str, lines: list[str], field: str = "line") -> None:
        pipeline = self.client.pipeline(transaction=False)
        for line in lines:
            pipeline.xadd(stream, {field: line.encode("utf-8", "surrogateescape")})
        pipeline.execute()

    def content(self, stream: str, field: bytes = b"line") -> list[str]:
        return [fields[field].decode("utf-8", "surrogateescape") for _, fields in self.client.xrange(stream)]

    def pending(self, stream: str, group: str = "streamlab") -> int:
        count: int = self.client.xpending(stream, group)["pending"]
        return count

    def source(self, stream: str, **options: Any) -> RedisSource:
        return RedisSource(stream, **{"url": self.url, "timeout": 0.5, "consumer": "me", **options})

    def sink(self, stream: str, **options: Any) -> RedisSink:
        return RedisSink(stream, **{"url": self.url, "timeout": 0.5, **options})

    def exclusive(self, stream: str, **options: Any) -> ExclusiveRedisSink:
        return ExclusiveRedisSink(stream, **{"url": self.url, "timeout": 0.5, **options})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with redis_server(tmp_path_factory.mktemp("redis"), "--proto-max-bulk-len", "1mb") as server:
        broker = Broker(server)
        yield broker
        broker.client.close()


@pytest.fixture
def broker(shared: Broker) -> Broker:
    shared.client.config_set("maxmemory", 0)
    shared.client.flushall()
    return shared


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[Broker]:
    with redis_server(tmp_path, lasting=True) as server:
        broker = Broker(server)
        yield broker
        broker.client.close()


def write(sink: Sink, values: list[Any]) -> list[tuple[int, BaseException]]:
    return list(sink.write(values, np.arange(len(values), dtype=np.int64)))


def kinds(part: object) -> list[str]:
    return [notice.kind for notice in notices_of(part)]


# The source


def test_lines_as_they_are_in_their_order(broker: Broker) -> None:
    texts = ["info: a", "caf\udce9 \udcff", "two\nlines", "", "\u2028 \x85 \x00", "with its end\r\n", "last"]
    broker.fill("logs", texts)
    with_source = broker.source("logs")
    source: Source = with_source
    assert isinstance(source, Resumable) and isinstance(source, Acknowledging) and source.blocking
    assert source.name == f"{broker.url}/logs" and source.progress() is None
    chunk = source.read(4)
    assert chunk.lines == texts[:4] and chunk.source == source.name
    assert chunk.places is not None
    assert [chunk.places.start(at) for at in range(4)] == [id.decode() for id, _ in broker.client.xrange("logs", count=4)]
    assert source.read(10).lines == [*texts[4:5], "with its end", "last"]
    source.close()


def test_what_is_no_line_is_rejected_and_the_rest_goes_on(broker: Broker) -> None:
    broker.fill("logs", ["a"])
    broker.client.xadd("logs", {"level": "warn", "text": b"caf\xe9"})
    broker.fill("logs", ["b" * 101, "c", "\udcff" * 100])
    source = broker.source("logs", max_line_bytes=100)
    chunk = source.read(10)
    assert chunk.lines == ["a", '{"level":"warn","text":"caf\udce9"}', "b" * 100, "c", "\udcff" * 100]
    assert [(mark.position, mark.kind) for mark in chunk.rejected] == [(1, "decode"), (2, "oversize")]
    assert (
        chunk.rejected[0].message
        == "the entry has no field 'line': it has 'level', 'text'; say field=... to read another one"
    )
    pass_on(source, [chunk])
    commit(source)
    assert broker.pending("logs") == 0
    source.close()


def test_another_field_or_all_of_them(broker: Broker) -> None:
    broker.client.xadd("logs", {"level": "warn", "text": b"caf\xe9"})
    for field, line in (("text", "caf\udce9"), (None, '{"level":"warn","text":"caf\udce9"}')):
        source = broker.source("logs", group=str(field), field=field)
        assert source.read(10).lines == [line]
        source.close()


def test_large_entries_are_asked_for_few_at_a_time(broker: Broker) -> None:
    broker.fill("logs", [f"{number:<1000000}" for number in range(40)])
    source = broker.source("logs")
    chunks = taken(source, 40, limit=16_384)
    assert max(len(chunk.lines) for chunk in chunks) <= 16
    assert [int(line) for line in lines_of(chunks)] == list(range(40))
    source.close()


def test_a_new_group_may_begin_at_the_end(broker: Broker) -> None:
    broker.fill("logs", ["before"])
    source = broker.source("logs", start="$")
    broker.fill("logs", ["after"])
    assert source.read(10).lines == ["after"]
    source.close()


def test_entries_are_acknowledged_only_after_they_have_passed_and_that_is_saved(broker: Broker) -> None:
    broker.fill("logs", [f"line {number}" for number in range(100)])
    source = broker.source("logs")
    chunks = taken(source, 100)
    assert broker.pending("logs") == 100
    pass_on(source, chunks[:1])
    position = source.position()
    pass_on(source, chunks[1:], 30)
    assert broker.pending("logs") == 100
    source.acknowledge(position)
    assert broker.pending("logs") == 100 - len(chunks[0].lines)
    commit(source)
    assert broker.pending("logs") == 70 - len(chunks[0].lines)
    source.close()


def test_what_was_not_acknowledged_comes_first_next_time(broker: Broker) -> None:
    broker.fill("logs", [f"line {number}" for number in range(10)])
    first = broker.source("logs")
    assert len(first.read(10).lines) == 10
    first.close()
    broker.fill("logs", ["new"])
    second = broker.source("logs")
    assert finished(second, 11) == [*(f"line {number}" for number in range(10)), "new"]
    assert broker.pending("logs") == 0
    second.close()


def test_the_sources_of_a_group_share_a_stream(broker: Broker) -> None:
    lines = [f"line {number}" for number in range(MANY)]
    runs = [Running(broker.source("logs", consumer=name), limit=50) for name in ("one", "two")]
    broker.fill("logs", lines)
    until(lambda: sum(len(run.lines) for run in runs) >= MANY)
    until(lambda: broker.pending("logs") == 0)
    for run in runs:
        run.close()
    assert sorted(runs[0].lines + runs[1].lines) == sorted(lines)
    assert all(run.lines == sorted(run.lines, key=lines.index) for run in runs)
    assert all(run.lines for run in runs)


def test_what_another_consumer_has_left_is_taken_over(broker: Broker) -> None:
    broker.fill("logs", ["a", "b"])
    gone = broker.source("logs", consumer="gone")
    assert gone.read(10).lines == ["a", "b"]
    gone.close()
    source = broker.source("logs", claim_after=0.3)
    assert finished(source, 2) == ["a", "b"]
    assert broker.pending("logs") == 0
    source.close()


def test_what_is_under_way_for_long_is_not_taken_over(broker: Broker) -> None:
    broker.fill("logs", ["slow"])
    slow = broker.source("logs", consumer="slow", claim_after=2.0)
    assert slow.read(10).lines == ["slow"]
    other = Running(broker.source("logs", consumer="other", claim_after=2.0))
    time.sleep(3.0)  # longer than others wait
    broker.fill("logs", ["new"])
    until(lambda: bool(other.lines))
    other.close()
    assert other.lines == ["new"]
    assert broker.client.xpending_range("logs", "streamlab", "-", "+", 10)[0]["consumer"] == b"slow"
    slow.close()


def test_a_run_that_goes_on_leaves_out_what_was_committed(broker: Broker) -> None:
    lines = [f"line {number}" for number in range(100)]
    broker.fill("logs", lines)
    first = broker.source("logs")
    pass_on(first, taken(first, 100), 60)
    position = first.position()  # committed, and then it crashes
    first.close()
    assert broker.pending("logs") == 100
    second = broker.source("logs")
    second.resume(position)
    assert second.position()["passed"] == position["passed"]
    assert finished(second, 40) == lines[60:]
    assert broker.pending("logs") == 0
    position = second.position()
    second.close()
    broker.client.xgroup_destroy("logs", "streamlab")  # all of them come again, to a group that begins anew
    broker.fill("logs", ["new"])
    third = broker.source("logs")
    third.resume(position)
    assert finished(third, 1) == ["new"]
    third.close()


def test_a_stream_that_begins_anew_is_read_whole(broker: Broker) -> None:
    broker.client.xadd("logs", {"line": "old"}, id="7-0")
    first = broker.source("logs")
    finished(first, 1)
    position = first.position()
    first.close()
    broker.client.delete("logs")
    broker.client.xadd("logs", {"line": "new"}, id="3-0")
    second = broker.source("logs")
    second.resume(position)
    assert second.read(10).lines == ["new"]
    assert kinds(second) == ["vanished"]
    second.close()


def test_entries_that_were_trimmed_away_are_told_of(broker: Broker) -> None:
    broker.fill("logs", ["a", "b", "c"])
    first = broker.source("logs")
    assert len(first.read(10).lines) == 3
    first.close()
    broker.client.xtrim("logs", maxlen=1, approximate=False)
    second = broker.source("logs")
    assert finished(second, 1) == ["c"]
    assert [(notice.kind, notice.lost_lines) for notice in notices_of(second)] == [("dropped", 2)]
    assert broker.pending("logs") == 0
    second.close()


def test_nothing_is_lost_when_the_server_crashes(lasting: Broker) -> None:
    lines = [f"line {number}" for number in range(MANY)]
    lasting.fill("logs", lines)
    run = Running(lasting.source("logs"), limit=100, slow=lambda: time.sleep(0.005))
    for part in (1, 2, 3):
        until(lambda part=part: len(run.lines) > part * MANY // 5)  # type: ignore[misc]
        lasting.server.kill()
        until(lambda part=part: run.notices.count("disconnected") == part)  # type: ignore[misc]
        lasting.server.start()
    until(lambda: len(set(run.lines)) == MANY)
    until(lambda: lasting.pending("logs") == 0)
    run.close()
    assert run.lines == lines  # and nothing is doubled, as nobody else reads
    assert run.notices == ["disconnected", "reconnected"] * 3


def test_a_server_that_does_not_answer_for_a_while(broker: Broker) -> None:
    run = Running(broker.source("logs"))
    broker.fill("logs", ["before"])
    until(lambda: run.lines == ["before"])
    broker.server.freeze()
    until(lambda: run.notices == ["disconnected"])
    broker.server.thaw()
    broker.fill("logs", ["after"])
    until(lambda: run.lines == ["before", "after"])
    run.close()
    assert run.notices == ["disconnected", "reconnected"]


def test_a_group_that_is_gone_is_made_again(broker: Broker, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        forgetful = Broker(server)
        run = Running(forgetful.source("logs"))
        forgetful.fill("logs", ["a", "b"])
        until(lambda: len(run.lines) == 2)
        server.restart()
        until(lambda: "vanished" in run.notices)
        forgetful.fill("logs", ["c"])
        until(lambda: len(run.lines) == 3)
        forgetful.client.xgroup_destroy("logs", "streamlab")
        until(lambda: run.notices.count("vanished") == 2)
        forgetful.fill("logs", ["d"])
        until(lambda: len(run.lines) == 4)
        forgetful.client.flushall()
        until(lambda: run.notices.count("vanished") == 3)
        forgetful.client.xadd("logs", {"line": "e"}, id="1-0")  # before all there was
        until(lambda: len(run.lines) == 5)
        run.close()
        assert run.lines == ["a", "b", "c", "d", "e"]
        assert run.notices == ["disconnected", "reconnected", "vanished", "vanished", "vanished"]
        forgetful.client.close()


@pytest.mark.parametrize("state", ["waiting", "frozen", "away"])
def test_close_ends_a_read_that_waits_and_leaves_nothing(tmp_path: Path, state: str) -> None:
    with redis_server(tmp_path) as server:
        RedisSource("logs", url=f"redis://127.0.0.1:{server.port}", timeout=30.0).close()  # imports, and what they open
        before = resources()
        source = RedisSource("logs", url=f"redis://127.0.0.1:{server.port}", timeout=30.0)
        read: list[list[str]] = []
        reader = threading.Thread(target=lambda: read.append(list(source.read(10).lines)))
        reader.start()
        time.sleep(0.2)
        if state == "frozen":
            server.freeze()
            time.sleep(0.2)
        elif state == "away":
            server.kill()
            until(lambda: kinds(source) == ["disconnected"])
            time.sleep(0.5)
        start = time.monotonic()
        source.close()
        reader.join(10)
        assert read == [[]]
        assert time.monotonic() - start < 5  # it is a few milliseconds; the server would be waited for much longer
        source.close()
        until(lambda: resources() == before)


def test_what_cannot_be_reached_is_said_at_once_and_without_passwords(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with pytest.raises(SourceError, match=f"redis://127.0.0.1:{port}/0 cannot be reached: .*refused") as error:
        RedisSource("logs", url=f"redis://me:secret@127.0.0.1:{port}/0")
    with pytest.raises(SinkError, match="cannot be reached"):
        RedisSink("logs", url=f"redis://127.0.0.1:{port}/0")
    assert "secret" not in str(error.value)
    with pytest.raises(SourceError, match=r"no address of a broker: .*%2F for /") as error:
        RedisSource("logs", url="redis://me:sec/ret@127.0.0.1:6379/0")
    assert "ret" not in str(error.value)
    broker.client.set("text", "x")
    with pytest.raises(SourceError, match="group 'streamlab' cannot be made: WRONGTYPE"):
        broker.source("text")
    with pytest.raises(SinkError, match="is no stream, but of the type string"):
        broker.sink("text")
    with redis_server(tmp_path, "--requirepass", "sec/r@t") as server:
        for name in ("", ":wrong@"):
            with pytest.raises(SourceError, match=r"does not let us in: .*(Authentication|password).*_PASSWORD") as error:
                RedisSource("logs", url=f"redis://{name}127.0.0.1:{server.port}")
            assert "wrong" not in str(error.value)
        source = RedisSource("logs", url=f"redis://:sec%2Fr%40t@127.0.0.1:{server.port}")
        assert source.name == f"redis://127.0.0.1:{server.port}/logs"
        source.close()
        monkeypatch.setenv("STREAMLAB_REDIS_PASSWORD", "sec/r@t")
        source = RedisSource.of_address(f"redis://127.0.0.1:{server.port}/0/logs")
        source.close()


def test_a_server_that_lets_nobody_acknowledge_is_told_of_and_costs_no_line(broker: Broker) -> None:
    broker.fill("logs", [f"line {number}" for number in range(10)])
    first = broker.source("logs")
    pass_on(first, taken(first, 10), 4)
    position = first.position()
    first.close()
    broker.client.execute_command("ACL", "SETUSER", "reader", "on", ">pass", "~*", "+@all", "-xack")
    source = broker.source("logs", url=broker.url.replace("//", "//reader:pass@"))
    source.resume(position)  # four are to be acknowledged at once
    chunks = taken(source, 6)
    assert lines_of(chunks) == [f"line {number}" for number in range(4, 10)]
    pass_on(source, chunks)
    with pytest.raises(SourceError, match=r"entries cannot be acknowledged: .*permission"):
        commit(source)
    source.close()


def test_sources_and_sinks_by_address(broker: Broker) -> None:
    address = broker.url
    sink = RedisSink.of_address(f"{address}/a%2Fb?maxlen=1000&field=text")
    assert type(sink) is RedisSink
    write(sink, ["x", "y" * 100])
    sink.close()
    source = RedisSource.of_address(f"{address}/a/b?group=g&consumer=c&field=text&start=0&claim_after=5", max_line_bytes=50)
    chunk = source.read(10)
    assert chunk.lines == ["x", "y" * 50] and [mark.kind for mark in chunk.rejected] == ["oversize"]
    assert broker.client.xinfo_consumers("a/b", "g")[0]["name"] == b"c"
    source.close()
    exclusive = RedisSink.of_address(f"{address}/own?exclusive=yes")
    assert type(exclusive) is ExclusiveRedisSink
    exclusive.close()
    for wrong, message in (
        ("/s?grup=x", "there is no option 'grup': did you mean 'group'"),
        ("/s?claim_after=soon", "claim_after: 'soon' is not a number of seconds"),
        ("", "says no stream"),
    ):
        with pytest.raises(SourceError, match=message):
            RedisSource.of_address(address.removesuffix("/0") + wrong)
    with pytest.raises(SinkError, match="exclusive: 'perhaps' is neither yes nor no"):
        RedisSink.of_address(f"{address}/s?exclusive=perhaps")


# The sink


def test_outputs_as_entries(broker: Broker) -> None:
    sink = broker.sink("out")
    assert isinstance(sink, Sink) and not isinstance(sink, Durable)
    assert write(sink, ["text", "caf\udce9", {"level": "warn", "n": 1}, 7, "two\nlines"]) == []
    assert broker.content("out") == ["text", "caf\udce9", '{"level":"warn","n":1}', "7", "two\nlines"]
    sink.close()
    fields = broker.sink("fields", field=None)
    write(fields, [{"level": "warn", "n": 1}, "text"])
    assert [entry for _, entry in broker.client.xrange("fields")] == [{b"level": b"warn", b"n": b"1"}, {b"line": b"text"}]
    fields.close()
    short = broker.sink("short", maxlen=100)
    write(short, [str(number) for number in range(5000)])
    assert broker.client.xlen("short") < 500
    short.close()


def test_what_cannot_be_written_is_refused_and_the_rest_is_written(broker: Broker) -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise KeyError("no text")

    for sink in (broker.sink("out"), broker.exclusive("own")):
        refused = write(sink, ["a", "x" * 1_100_000, "b", Unspeakable(), "c"])
        assert [position for position, _ in refused] == [1, 3]
        assert "it has 1,100,000 bytes" in str(refused[0][1]) and "at most 1,048,576" in str(refused[0][1])
        sink.close()
    assert broker.content("out") == broker.content("own") == ["a", "b", "c"]


def test_a_server_without_memory_is_an_outage(broker: Broker) -> None:
    sink = broker.sink("out")
    write(sink, ["a"])
    broker.client.config_set("maxmemory", 1)
    with pytest.raises(Outage, match="cannot be written for now"):
        write(sink, ["b"])
    broker.client.config_set("maxmemory", 0)
    write(sink, ["b"])
    assert broker.content("out") == ["a", "b"]
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


@pytest.mark.parametrize("exclusive", [False, True])
def test_nothing_is_lost_of_what_is_written_while_the_server_crashes(lasting: Broker, exclusive: bool) -> None:
    sink = lasting.exclusive("out") if exclusive else lasting.sink("out")
    lines = [f"line {number}" for number in range(MANY)]
    outages: list[Outage] = []
    crashes = [threading.Timer(seconds, lasting.server.restart) for seconds in (0.1,)]
    for crash in crashes:
        crash.start()
    for start in range(0, MANY, 20):
        persistent_write(sink, lines[start : start + 20], outages)
    crashes[0].join()
    persistent_write(sink, ["last"], outages)
    content = lasting.content("out")
    if exclusive:
        assert content == [*lines, "last"]
    else:
        assert list(dict.fromkeys(content)) == [*lines, "last"]
    assert kinds(sink) in (["disconnected", "reconnected"], [])
    sink.close()


def test_a_batch_that_was_on_its_way_to_a_frozen_server_is_not_doubled(broker: Broker) -> None:
    sink = broker.exclusive("out")
    write(sink, ["a"])
    broker.server.freeze()
    with pytest.raises(Outage):
        write(sink, ["b", "c"])  # it is in the server's buffer now
    with pytest.raises(Outage):
        write(sink, ["b", "c"])
    broker.server.thaw()
    write(sink, ["b", "c"])
    write(sink, ["d"])
    until(lambda: broker.content("out")[-1] == "d")
    assert broker.content("out") == ["a", "b", "c", "d"]
    assert kinds(sink) == ["disconnected", "reconnected"]
    sink.close()


def test_an_exclusive_sink_takes_back_what_came_after_a_mark(broker: Broker) -> None:
    broker.fill("own", ["there before"])
    first = broker.exclusive("own")
    assert isinstance(first, Durable)
    start = first.mark()
    write(first, ["a", "b"])
    mark = first.mark()
    first.sync()
    write(first, [f"later {number}" for number in range(3000)])
    second = broker.exclusive("own")
    second.resume(mark)
    assert broker.content("own") == ["there before", "a", "b"]
    assert second.mark() == mark
    with pytest.raises(SinkError, match="of another writer"):
        write(first, ["of a run that should have ended"])
    write(second, ["c"])
    assert broker.content("own") == ["there before", "a", "b", "c"]
    first.close()
    second.close()
    third = broker.exclusive("own")
    third.resume(start)
    assert broker.content("own") == ["there before"]
    third.close()
    broker.client.delete("own")
    fourth = broker.exclusive("own")
    with pytest.raises(SinkError, match="does not reach as far as the checkpoint"):
        fourth.resume(mark)
    fourth.close()


def test_an_exclusive_sink_finds_out_that_it_is_not(broker: Broker) -> None:
    sink = broker.exclusive("own")
    write(sink, ["a"])
    broker.client.xadd("own", {"line": "of somebody else"}, id=f"{2**60}-0")
    with pytest.raises(SinkError, match="of another writer: only this sink may write to it, or use RedisSink"):
        write(sink, ["b"])
    sink.close()


# Both, in a pipeline


def test_a_pipeline_from_stream_to_stream(broker: Broker) -> None:
    pipeline = Pipeline("logs")
    pipeline.processor(name="upper")(str.upper)
    lines = [f"line {number}" for number in range(MANY)]
    broker.fill("in", lines)
    before = resources()
    run = pipeline.start(broker.source("in"), output=broker.sink("out"))
    until(lambda: bool(broker.client.xlen("out") == MANY))
    run.stop()
    run.wait()
    assert broker.content("out") == [line.upper() for line in lines]
    assert broker.pending("in") == 0
    until(lambda: resources() == before)


def test_a_pipeline_by_address_whose_server_goes_away(lasting: Broker) -> None:
    pipeline = Pipeline("logs")
    pipeline.processor(name="upper")(str.upper)
    run = pipeline.start(
        f"{lasting.url}/in?timeout=0.5", output=f"{lasting.url}/out?timeout=0.5&exclusive=yes", on_outage="wait"
    )
    lines = [f"line {number}" for number in range(MANY)]
    for part in range(4):
        lasting.fill("in", lines[part * MANY // 4 : (part + 1) * MANY // 4])
        if part < 3:
            until(lambda part=part: bool(lasting.client.xlen("out") > part * MANY // 4))  # type: ignore[misc]
            lasting.server.restart()
    until(lambda: bool(lasting.client.xlen("out") >= MANY))
    run.stop()
    run.wait()
    assert run.state == "stopped" and {"disconnected", "reconnected"} <= set(run.notices["kind"])
    assert lasting.content("out") == [line.upper() for line in lines]
    assert lasting.pending("in") == 0


@pytest.mark.parametrize("output", ["file", "stream"])
def test_a_run_that_is_killed_again_and_again_neither_loses_nor_doubles(
    lasting: Broker, tmp_path: Path, output: str
) -> None:
    lines = [f"line {number}" for number in range(3 * MANY)]
    lasting.fill("in", lines)
    file = tmp_path / "out.log"

    def written() -> int:
        if output == "stream":
            return int(lasting.client.xlen("out"))
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def is_done() -> bool:
        groups = lasting.client.xinfo_groups("in")
        return written() >= len(lines) and bool(groups) and groups[0]["pending"] == 0

    where = str(file) if output == "file" else f"{lasting.url}/out?exclusive=yes"
    kills = killed_again_and_again(f"{lasting.url}/in?consumer=me", where, tmp_path, written, 3000, is_done)
    assert kills > 2
    content = file.read_text().splitlines() if output == "file" else lasting.content("out")
    assert content == [line.upper() for line in lines]


def test_the_example_of_the_documentation(broker: Broker) -> None:
    broker.fill("logs", ["warn: disk space low"])
    section = (
        (Path(__file__).parents[1] / "docs" / "connectors.md").read_text(encoding="utf-8").partition("## Redis streams")[2]
    )
    example = section.partition("```py\n")[2].partition("```")[0]
    scope: dict[str, Any] = {}
    exec(example.replace("127.0.0.1:6379", f"127.0.0.1:{broker.server.port}"), scope)
    until(lambda: bool(broker.client.exists("done")))
    scope["run"].stop()
    scope["run"].wait()
    assert broker.content("done") == ["WARN: DISK SPACE LOW"]


def test_on_a_cluster_messages_are_acknowledged_when_they_are_committed(broker: Broker, tmp_path: Path) -> None:
    written = [f"line {number}" for number in range(2_000)]
    broker.fill("shipped", written)
    run = (
        Pipeline("logs")
        .add("upper", str.upper)
        .start(broker.source("shipped"), output=tmp_path / "out", cluster=Inline(2, seed=5), epoch_lines=300)
    )
    until(lambda: run.ledger["received"] == len(written))
    until(lambda: broker.pending("shipped") == 0)
    run.stop()
    run.wait(20)
    assert run.state == "stopped", run.reason
    assert (tmp_path / "out").read_text().splitlines() == [line.upper() for line in written]
    broker.fill("shipped", ["one more"])
    run = Pipeline("logs").add("upper", str.upper).start(broker.source("shipped"), cluster=Inline())
    until(lambda: run.ledger["received"] == 1)
    run.stop()
    assert run.wait(20).output["value"].tolist() == ["ONE MORE"]
