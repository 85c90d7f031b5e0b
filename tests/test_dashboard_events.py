"""Server-Sent Events: real servers, real HTTP, many who look on."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest

from streamlab import EMIT, Pipeline, Run
from streamlab.metrics import MOMENT_COLUMNS
from streamlab.run import ENDED
from streamlab.views.dashboard import Dashboard
from tests.waiting import resources, until

SECONDS = 30
PERIOD = 0.25


@dataclass
class Event:
    """One event, and when it came."""

    id: str
    retry: str
    data: Any
    at: float

    @property
    def state(self) -> str:
        return str(self.data["stats"]["state"])

    @property
    def ticks(self) -> list[list[Any]]:
        return list(self.data["history"]["ticks"])


def blocks(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield what stands between two empty lines: fields by name, a comment as that of no name."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields
            fields = {}


def events(answer: httpx.Response) -> Iterator[Event]:
    for fields in blocks(answer):
        if "data" in fields:
            yield Event(fields["id"], fields["retry"], json.loads(fields["data"]), time.monotonic())


@contextlib.contextmanager
def reading(dashboard: Dashboard, path: str = "/events", **options: Any) -> Iterator[httpx.Response]:
    address = f"http://localhost:{dashboard.port}{path}"
    with httpx.stream("GET", address, timeout=SECONDS, trust_env=False, **options) as answer:
        yield answer


def first(dashboard: Dashboard, path: str = "/events", **options: Any) -> Event:
    with reading(dashboard, path, **options) as answer:
        return next(events(answer))


def readers(dashboard: Dashboard) -> int:
    return int(dashboard._server._server.config.app.state.feed.readers)  # type: ignore[union-attr]


def graph() -> Pipeline:
    """Errors, retries that help nobody, fan-out, filters, and what handles errors."""
    pipeline = Pipeline("busy")

    def start(line: str) -> Iterator[tuple[str, str]]:
        number = int(line)
        if number % 11 == 0:
            raise ValueError("eleven")
        yield "warn", line
        if number % 3 == 0:
            yield "end", line

    def warn(line: str) -> tuple[Any, str] | None:
        if int(line) % 7 == 0:
            raise OSError("seven")
        return None if int(line) % 5 == 0 else ("end", line)

    pipeline.add("start", start, to=("warn", "end"))
    pipeline.add("warn", warn, to="end", on_error="helper")
    pipeline.add("helper", str, to="end")
    return pipeline.add("end", lambda line: (EMIT, line))


class Busy:
    """A run that gets a few lines each millisecond until it is let go."""

    def __init__(self) -> None:
        self.leave = threading.Event()
        self.run = graph().start(self._lines())

    def _lines(self) -> Iterator[str]:
        for number in count():
            yield str(number)
            if number % 5 == 0 and self.leave.wait(0.001):
                return

    def end(self) -> None:
        self.leave.set()
        self.run.wait(SECONDS)


@pytest.fixture
def busy() -> Iterator[Busy]:
    made = Busy()
    yield made
    made.end()


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.runners.bookkeeper.TICK_SECONDS", 0.03)


@pytest.fixture(scope="module")
def run() -> Run:
    """An ended run with a history."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamlab.runners.bookkeeper.TICK_SECONDS", 0.0)
        patch.setattr("streamlab.runners.embedded.PATIENCE", 0.001)
        made = graph().run([str(n) for n in range(2_000)])
    assert made.moments()[0] > 3
    return made


@pytest.fixture(scope="module")
def dashboard(run: Run) -> Iterator[Dashboard]:
    with Dashboard(run, port=0) as dashboard:
        yield dashboard


def assert_balanced(data: dict[str, Any]) -> None:
    lines = data["stats"]["lines"]
    ends = ("emitted", "filtered", "absorbed", "dead_lettered", "in_flight")
    assert lines["received"] + lines["forked"] == sum(lines[name] for name in ends)
    into: Counter[str | None] = Counter()
    for edge in data["edges"]:
        into[edge["to"]] += edge["count"]
    assert {name: row["received"] for name, row in data["stats"]["processors"].items()} == {
        name: into[name] for name in data["stats"]["processors"]
    }
    assert into[None] == lines["emitted"]
    dead = sum(row["count"] for row in data["failures"] if row["fate"] == "dead_letter")
    assert dead == lines["dead_lettered"]


def times(run: Run) -> list[float]:
    return [moment[0]["time"] for moment in run.moments()[1]]


# What an event is


def test_the_answer_is_a_stream_of_events(dashboard: Dashboard, run: Run) -> None:
    with reading(dashboard) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in answer.headers["cache-control"]
        event = next(events(answer))
    assert int(event.retry) > 0
    assert event.id == f"{run.id}.{run.moments()[0]}"


def test_the_first_event_has_the_state_and_the_whole_history(dashboard: Dashboard, run: Run) -> None:
    data = first(dashboard).data
    assert data["stats"] == run.stats()
    assert (data["run"], data["number"], data["reason"], data["traced"]) == (run.id, 1, None, False)
    assert data["runs"] == [{"number": 1, "pipeline": "busy", "state": "finished"}]
    history, (_, moments) = data["history"], run.moments()
    assert history["since"] == 0
    assert history["processors"] == ["start", "warn", "helper", "end"]
    assert set(history["columns"]) == set(MOMENT_COLUMNS) - {"time", "processor"}
    assert [tick[0] for tick in history["ticks"]] == times(run) == sorted(set(times(run)))
    for (_, _, table), moment in zip(history["ticks"], moments, strict=True):
        for shown, row in zip(table, moment, strict=True):
            values = dict(zip(history["columns"], shown, strict=True))
            assert all(value is None or value == row[name] for name, value in values.items())
            assert values["received"] == row["received"]


def test_a_run_below_its_number_has_its_own_events(dashboard: Dashboard, run: Run) -> None:
    assert first(dashboard, "/runs/1/events").data == first(dashboard).data


def test_the_history_says_what_the_history_table_says(dashboard: Dashboard, run: Run) -> None:
    history = first(dashboard).data["history"]
    at = history["columns"].index("received")
    shown = [row[at] for _, _, table in history["ticks"] for row in table]
    assert shown == run.history["received"].tolist()


def test_the_head_alone_ends_at_once(dashboard: Dashboard) -> None:
    for path in ("/events", "/runs/1/events"):
        answer = httpx.head(f"http://localhost:{dashboard.port}{path}", timeout=SECONDS, trust_env=False)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.content == b""
    until(lambda: readers(dashboard) == 0)


# When there is one


def test_a_busy_run_has_news_all_the_time_and_at_most_four_times_a_second(busy: Busy) -> None:
    with busy.run.dashboard(port=0) as dashboard, reading(dashboard) as answer:
        came: list[Event] = []
        for event in events(answer):
            came.append(event)
            if event.at - came[0].at >= 2.5:
                break
        seconds = came[-1].at - came[0].at
        assert 4 <= len(came) <= seconds / PERIOD + 2
        received = [event.data["stats"]["lines"]["received"] for event in came]
        assert received == sorted(set(received))


def test_after_the_end_there_is_no_news_but_signs_of_life(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.views.dashboard.feed.KEEPALIVE", 0.3)
    with Dashboard(run, port=0) as dashboard, reading(dashboard) as answer:
        came = blocks(answer)
        assert "data" in next(came)
        assert [next(came) for _ in range(3)] == [{"": "still here"}] * 3


def test_a_run_that_waits_for_lines_is_news_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.runners.bookkeeper.TICK_SECONDS", 1000.0)
    leave = threading.Event()

    def lines() -> Iterator[str]:
        yield "1"
        assert leave.wait(60)

    with graph().start(lines()) as run, run.dashboard(port=0) as dashboard, reading(dashboard) as answer:
        until(lambda: run.ledger["emitted"] + run.ledger["filtered"] == 1)
        came = events(answer)
        until(lambda: next(came).data["stats"]["lines"]["in_flight"] == 0)
        one, other = next(came), next(came)
        assert other.at - one.at > 0.7
        assert one.data["edges"] == other.data["edges"]
        assert one.data["stats"]["uptime_s"] < other.data["stats"]["uptime_s"]
        leave.set()


def test_a_snapshot_is_made_once_for_all_who_look(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    overview = Run.overview

    def counted(self: Run) -> dict[str, Any]:
        made.append(time.monotonic())
        return overview(self)

    monkeypatch.setattr(Run, "overview", counted)
    seen: dict[int, list[tuple[str, int]]] = {number: [] for number in range(20)}
    with busy.run.dashboard(port=0) as dashboard:
        threads = [threading.Thread(target=_follow, args=(dashboard, seen[number])) for number in seen]
        for thread in threads:
            thread.start()
        until(lambda: all(seen.values()))
        before, began = len(made), time.monotonic()
        until(lambda: time.monotonic() - began > 2)
        assert len(made) - before <= (time.monotonic() - began) / PERIOD + 2
        least = len(made) - before
        busy.end()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
    assert least >= 2
    # after the last one began, all were told the same
    later = [told[-3:] for told in seen.values()]
    assert all(told == later[0] for told in later)


def _follow(dashboard: Dashboard, seen: list[tuple[str, int]]) -> None:
    with reading(dashboard) as answer:
        for event in events(answer):
            seen.append((event.state, event.data["stats"]["lines"]["received"]))
            if event.state in ENDED:
                return


def test_every_event_of_a_busy_run_is_of_one_piece(busy: Busy) -> None:
    with busy.run.dashboard(port=0) as dashboard, reading(dashboard) as answer:
        came = 0
        for event in events(answer):
            assert_balanced(event.data)
            came += 1
            if came == 6:
                busy.leave.set()
            if event.state in ENDED:
                break
    assert came > 6
    assert all(event.data["stats"]["lines"][name] for name in ("forked", "emitted", "filtered", "dead_lettered"))
    assert {row["fate"] for row in event.data["failures"]} == {"dead_letter", "in_flight"}


def test_the_last_event_has_the_final_state_and_all_counts(busy: Busy, quick_ticks: None) -> None:
    with busy.run.dashboard(port=0) as dashboard, reading(dashboard) as answer:
        came = events(answer)
        next(came)
        busy.end()
        last = next(event for event in came if event.state in ENDED)
        assert last.state == "finished"
        assert last.data["stats"] == busy.run.stats()
        assert last.data["stats"]["lines"] == busy.run.ledger
        assert last.data["stats"]["lines"]["in_flight"] == 0
        graph = {(edge["from"], edge["to"]): edge["count"] for edge in busy.run.graph()["edges"]}
        assert {(edge["from"], edge["to"]): edge["count"] for edge in last.data["edges"]} == graph
        assert last.id == f"{busy.run.id}.{busy.run.moments()[0]}"


def test_a_run_that_fails_says_why_in_its_last_event() -> None:
    go_on = threading.Event()

    def lines() -> Iterator[str]:
        yield "1"
        assert go_on.wait(60)
        raise OSError("the cable \udcff is out")

    run = graph().start(lines())
    with run.dashboard(port=0) as dashboard, reading(dashboard) as answer:
        came = events(answer)
        assert next(came).data["reason"] is None
        go_on.set()
        last = next(event for event in came if event.state in ENDED)
    assert last.state == "failed"
    assert "the cable \udcff is out" in last.data["reason"]


def test_the_newest_run_takes_over_at_the_root(dashboard: Dashboard, run: Run) -> None:
    with reading(dashboard) as answer, reading(dashboard, "/runs/1/events") as other:
        came, same = events(answer), events(other)
        assert next(came).data["number"] == next(same).data["number"] == 1
        second = graph().run(["1"])
        with second.dashboard(port=dashboard.port):
            event = next(came)
            assert (event.data["run"], event.data["history"]["since"]) == (second.id, 0)
            event = next(same)
            assert (event.data["run"], event.ticks) == (run.id, [])
            assert [row["number"] for row in event.data["runs"]] == [1, event.data["runs"][-1]["number"]]
        event = next(came)
        assert (event.data["run"], len(event.ticks)) == (run.id, run.moments()[0])


# Coming back


@pytest.mark.parametrize("way", ["header", "query"])
def test_over_reconnects_no_tick_is_lost_and_none_comes_twice(
    way: str, monkeypatch: pytest.MonkeyPatch, quick_ticks: None
) -> None:
    busy = Busy()
    last, got, state, connects = "", list[list[Any]](), "", 0
    with busy.run.dashboard(port=0) as dashboard:
        while state not in ENDED:
            options: dict[str, Any] = (
                {"headers": {"Last-Event-ID": last}} if way == "header" else {"params": {"since": last}}
            )
            with reading(dashboard, **options if last else {}) as answer:
                came = events(answer)
                for _ in range(1 + connects % 3):
                    event = next(came)
                    assert event.data["history"]["since"] == len(got)
                    got += event.ticks
                    last, state = event.id, event.state
                    if state in ENDED:
                        break
            connects += 1
            if connects == 4:
                busy.end()
    assert connects > 4
    assert len(got) > 10
    assert [tick[0] for tick in got] == times(busy.run)
    assert [row[0] for _, _, table in got for row in table] == busy.run.history["received"].tolist()


def test_who_has_all_gets_no_history_again(dashboard: Dashboard, run: Run) -> None:
    id = f"{run.id}.{run.moments()[0]}"
    assert first(dashboard, params={"since": id}).ticks == []
    assert first(dashboard, headers={"Last-Event-ID": id}).ticks == []
    part = first(dashboard, params={"since": f"{run.id}.2"})
    assert part.data["history"]["since"] == 2
    assert [tick[0] for tick in part.ticks] == times(run)[2:]


def test_the_header_goes_before_the_address(dashboard: Dashboard, run: Run) -> None:
    """A browser reconnects to the address it began with, and says in the header how far it has come since."""
    event = first(dashboard, headers={"Last-Event-ID": f"{run.id}.3"}, params={"since": f"{run.id}.1"})
    assert event.data["history"]["since"] == 3


IDS = (
    "x",
    "0123456789ab.2",
    "{}",
    "{}.",
    "{}.-1",
    "{}.+1",
    "{}.1e0",
    "{}. 1",
    "{}.1.1",
    "{}.999999999",
    "{}." + "9" * 5000,
    ".1",
)


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("way", ["header", "query"])
def test_who_says_an_id_that_was_never_given_gets_the_whole_history(
    dashboard: Dashboard, run: Run, id: str, way: str
) -> None:
    id = id.format(run.id)
    event = first(dashboard, **({"headers": {"Last-Event-ID": id}} if way == "header" else {"params": {"since": id}}))
    assert event.data["history"]["since"] == 0
    assert [tick[0] for tick in event.ticks] == times(run)


@pytest.mark.parametrize("digit", ["²", "٣", "१"])
def test_digits_of_other_scripts_are_none(dashboard: Dashboard, run: Run, digit: str) -> None:
    event = first(dashboard, params={"since": f"{run.id}.{digit}"})
    assert event.data["history"]["since"] == 0
    event = first(dashboard, headers={"Last-Event-ID": f"{run.id}.{digit}".encode()})
    assert event.data["history"]["since"] == 0


# Many, and such as do not behave


def request(path: str = "/events") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def connected(dashboard: Dashboard) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", dashboard.port), timeout=SECONDS)
    sock.sendall(request())
    return sock


def test_stop_ends_all_streams_at_once_and_leaves_nothing(busy: Busy) -> None:
    before = resources()
    dashboard = busy.run.dashboard(port=0)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(dashboard)) for _ in range(20)]
        for sock in socks:
            assert b"200 OK" in sock.recv(1 << 16)
        until(lambda: readers(dashboard) == 20)  # the head of an answer comes before its first event
        began = time.monotonic()
        dashboard.stop()
        assert time.monotonic() - began < 3
        assert readers(dashboard) == 0
        for sock in socks:
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(1 << 16):
                    pass
    assert all(now <= then for now, then in zip(resources(), before, strict=True))


def test_a_stream_that_the_server_ends_is_a_whole_answer(busy: Busy) -> None:
    dashboard = busy.run.dashboard(port=0)
    with reading(dashboard) as answer:
        came = events(answer)
        next(came)
        threading.Thread(target=dashboard.stop).start()
        for _ in came:
            pass  # a chunked answer that breaks off would raise here
    until(lambda: not dashboard.running)


def test_a_thousand_connects_and_closes_leave_nothing(busy: Busy) -> None:
    with busy.run.dashboard(port=0) as dashboard:
        first(dashboard)
        until(lambda: readers(dashboard) == 0)
        before = resources()
        for _ in range(20):
            socks = [connected(dashboard) for _ in range(50)]
            for number, sock in enumerate(socks):
                if number % 2:  # the others leave before they have had anything
                    assert b"200 OK" in sock.recv(1 << 16)
                sock.close()
        until(lambda: readers(dashboard) == 0)
        until(lambda: all(now <= then for now, then in zip(resources(), before, strict=True)))
        assert_balanced(first(dashboard).data)


def test_who_never_reads_hinders_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.views.dashboard.feed.PERIOD", 0.01)
    monkeypatch.setattr("streamlab.views.dashboard.runs.SHARE", 1.0)
    leave = threading.Event()

    def lines() -> Iterator[str]:
        for number in count():
            yield str(number)
            if leave.wait(0.001):
                return

    names = [f"p{number}" for number in range(200)]
    pipeline = Pipeline("wide").add("start", lambda line: (names[int(line) % len(names)], line), to=tuple(names))
    for name in names:
        pipeline.add(name, str)
    before = resources()
    with pipeline.start(lines()) as run, run.dashboard(port=0) as dashboard, contextlib.ExitStack() as stack:
        silent = socket.socket()
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stack.enter_context(silent)
        silent.connect(("127.0.0.1", dashboard.port))
        silent.sendall(request())
        until(lambda: readers(dashboard) == 1)
        size = 0
        with reading(dashboard) as answer:
            for chunk in answer.iter_bytes():
                size += len(chunk)
                if size > 6_000_000:
                    break
        assert httpx.get(f"http://localhost:{dashboard.port}/stats", trust_env=False).status_code == 200
        leave.set()
        run.wait(SECONDS)
        began = time.monotonic()
        dashboard.stop()
        assert time.monotonic() - began < 3
        silent.settimeout(SECONDS)
        unread = 0
        with contextlib.suppress(ConnectionResetError):
            while part := silent.recv(1 << 20):
                unread += len(part)
        assert unread < size  # it was left waiting, and what it did not take was not kept for it
    assert all(now <= then for now, then in zip(resources(), before, strict=True))


def test_an_event_is_ascii_and_one_line_of_data(dashboard: Dashboard) -> None:
    with connected(dashboard) as sock:
        got = b""
        while not got.endswith(b"\n\n\r\n"):
            part = sock.recv(1 << 16)
            assert part
            got += part
    assert got.isascii()
    body = got.partition(b"\r\n\r\n")[2]
    assert len(re.findall(rb"^data: \{.*\}$", body, re.M)) == 1
    assert not re.search(rb"NaN|Infinity", body)
