"""Lines by HTTP: real requests, of httpx and of bare sockets."""

from __future__ import annotations

import gzip
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.errors import SourceError
from streamlab.sources import Acknowledging, Resumable, listening, open_source
from streamlab.sources.http import TOKEN_VARIABLE, HttpSource
from streamlab.sources.lines import LineSplitter
from streamlab.sources.listening.bodies import PIECE
from tests.receiving import Reading, rejected
from tests.waiting import resources, until

ROOT = str(Path(__file__).parents[1])
TOKEN = "a secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PLAIN = {"Content-Type": "text/plain"}
GZIP = {"Content-Encoding": "gzip"}


def made(**options: Any) -> HttpSource:
    return HttpSource(**({"port": 0, "token": TOKEN} | options))


def client_of(source: HttpSource, **options: Any) -> httpx.Client:
    url = f"http://127.0.0.1:{source.port}"
    return httpx.Client(base_url=url, timeout=30, trust_env=False, headers=BEARER | PLAIN, **options)


@contextmanager
def reading(**options: Any) -> Iterator[tuple[Reading, httpx.Client]]:
    source = made(**options)
    with Reading(source) as being_read, client_of(source) as client:
        yield being_read, client


@contextmanager
def unread(**options: Any) -> Iterator[tuple[HttpSource, httpx.Client]]:
    with closing(made(**options)) as source, client_of(source) as client:
        yield source, client


def raw(source: HttpSource, data: bytes) -> bytes:
    """Return what is answered to bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", source.port), timeout=30) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65_536), b""))


def head(*lines: str) -> bytes:
    return "\r\n".join(("POST / HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}", *lines, "", "")).encode()


# What is sent and what comes of it


def test_lines() -> None:
    with reading(path="/ingest", max_line_bytes=100) as (being_read, client):
        name = f"http://127.0.0.1:{client.base_url.port}/ingest"
        answer = client.post("/ingest", content=b"one\r\ntwo\n\nca\xff\x00\xc2\x85\n" + b"x" * 101 + b"\nlast")
        assert (answer.status_code, answer.json()) == (202, {"accepted": 6})
        answer = client.post(
            "/ingest", content=b'{"a": 1}\n{"a": 2}\n', headers={"Content-Type": "Application/X-NDJSON; charset=UTF-8"}
        )
        assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
        lines = ["one", "two", "", "ca\udcff\x00\x85", "x" * 100, "last", '{"a": 1}', '{"a": 2}']
        assert being_read.wait_for(8) == lines
        assert rejected(being_read) == [("x" * 100, "oversize")]
        assert {chunk.source for chunk in being_read.chunks} == {name}
        assert all(chunk.places is None for chunk in being_read.chunks)
        assert client.post("/ingest", content=b"").json() == {"accepted": 0}
        assert being_read.source.progress() is None


pieces = st.lists(st.binary(max_size=200) | st.sampled_from([b"\n", b"\r\n", b"a line\n"]), max_size=20)
ways = st.sampled_from(["length", "chunked", "gzip", "members", "gzip chunked"])


@settings(max_examples=60)
@given(pieces, ways)
@example([b"x" * PIECE], "gzip")
@example([b"x" * (PIECE - 1) + b"\n", b"y" * PIECE], "gzip")
@example([b"\n" * 3 * PIECE], "gzip chunked")
def test_whatever_is_sent_comes_out_as_it_went_in(parts: list[bytes], way: str) -> None:
    being_read, client = _shared()
    body, before = b"".join(parts), len(being_read.lines)
    packed = b"".join(map(gzip.compress, parts)) or gzip.compress(b"") if way == "members" else gzip.compress(body)
    content: bytes | Iterator[bytes] = body if way in ("length", "chunked") else packed
    if way == "chunked":
        content = (part for part in parts)
    elif way == "gzip chunked":
        content = (packed[at : at + 7] for at in range(0, len(packed), 7))
    splitter = LineSplitter(1_048_576)
    expected = [*splitter.feed(body).lines, *splitter.finish().lines]
    answer = client.post("/", content=content, headers=GZIP if way not in ("length", "chunked") else None)
    assert (answer.status_code, answer.json()) == (202, {"accepted": len(expected)})
    assert being_read.wait_for(before + len(expected))[before:] == expected


@settings(max_examples=60)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=50).map(lambda data: head("Content-Length: 20", "Content-Type: text/plain") + data)
    | st.binary(max_size=50).map(lambda data: head("Transfer-Encoding: chunked", "Content-Encoding: gzip") + data)
    | st.binary(max_size=50).map(lambda data: b"POST / HTTP/1.1\r\nHost: localhost\r\n" + data)
)
@example(b"GET / HTTP/1.1\r\n\r\n")
@example(head("Content-Length: -1"))
@example(head("Content-Length: 5", "Upgrade: websocket", "Connection: Upgrade") + b"hello")
def test_nothing_that_is_sent_breaks_it(data: bytes) -> None:
    being_read, client = _shared()
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30) as sock:
        sock.sendall(data)
    mark = f"example {next(_examples)}"
    assert client.post("/", content=mark).status_code == 202
    until(lambda: mark in being_read.lines[-10:])


_open: list[Any] = []
_examples = itertools.count()


def _shared() -> tuple[Reading, httpx.Client]:
    """Return one source, being read, for all examples of a property."""
    if not _open:
        manager = reading()
        _open.extend((manager.__enter__(), manager))
    pair: tuple[Reading, httpx.Client] = _open[0]
    return pair


@pytest.fixture(scope="module", autouse=True)
def _close_shared() -> Iterator[None]:
    yield
    if _open:
        _open[1].__exit__(None, None, None)
        _open.clear()


# What is refused


@pytest.mark.parametrize(
    ("status", "method", "path", "headers", "says"),
    [
        (400, "POST", "/in", {"Host": "evil.example"}, "not a name of this server"),
        (400, "POST", "/in", {"Host": "localhost:80@evil.example"}, "not a name of this server"),
        (403, "POST", "/in", {"Origin": "http://evil.example"}, "another site"),
        (403, "POST", "/in", {"Origin": "null"}, "another site"),
        (403, "POST", "/in", {"Sec-Fetch-Site": "cross-site"}, "another site"),
        (401, "POST", "/in", {"Authorization": ""}, "Authorization: Bearer"),
        (401, "POST", "/in", {"Authorization": "Bearer another"}, "Authorization: Bearer"),
        (401, "POST", "/in", {"Authorization": f"Basic {TOKEN}"}, "Authorization: Bearer"),
        (401, "POST", f"/in?token={TOKEN}", {"Authorization": ""}, "Authorization: Bearer"),
        (401, "GET", "/anywhere", {"Authorization": ""}, "Authorization: Bearer"),
        (404, "POST", "/", {}, "/in"),
        (404, "POST", "/in/", {}, "/in"),
        (405, "GET", "/in", {}, "use POST"),
        (405, "PUT", "/in", {}, "use POST"),
        (405, "OPTIONS", "/in", {}, "use POST"),
        (415, "POST", "/in", {"Content-Type": "application/json"}, "text/plain or application/x-ndjson"),
        (415, "POST", "/in", {"Content-Type": "application/x-www-form-urlencoded"}, "text/plain"),
        (415, "POST", "/in", {"Content-Type": "text/plain; charset=utf-16"}, "send it as UTF-8"),
        (415, "POST", "/in", {"Content-Encoding": "br"}, "use gzip"),
        (415, "POST", "/in", {"Content-Encoding": "gzip, gzip"}, "use gzip"),
        (400, "POST", "/in", {"Content-Encoding": "gzip"}, "not gzip"),
    ],
)
def test_what_is_refused(status: int, method: str, path: str, headers: dict[str, str], says: str) -> None:
    with unread(path="/in") as (source, client):
        answer = client.request(method, path, content=b"a line\n", headers=headers)
        assert answer.status_code == status
        assert says in answer.json()["error"] and answer.json()["accepted"] == 0
        expected = {401: ("www-authenticate", "Bearer"), 405: ("allow", "POST")}.get(status)
        assert expected is None or answer.headers[expected[0]] == expected[1]
        assert client.post("/in", content=b"good").status_code == 202
        assert source.read(10).lines == ["good"]


@pytest.mark.parametrize(
    "headers", [{"Host": "LocalHost"}, {"Host": "[::1]:80"}, {"Sec-Fetch-Site": "same-origin"}, {"Content-Type": ""}]
)
def test_what_is_not_refused(headers: dict[str, str]) -> None:
    with unread() as (_, client):
        assert client.post("/", content=b"a", headers=headers).status_code == (415 if "Content-Type" in headers else 202)
        assert (
            client.post("/", content=b"a", headers={"Origin": f"http://127.0.0.1:{client.base_url.port}"}).status_code == 202
        )
    with unread(names="ingest.example") as (_, client):
        assert client.post("/", content=b"a", headers={"Host": "ingest.example:443"}).status_code == 202


def test_on_all_addresses_it_may_be_called_by_the_one_that_was_used() -> None:
    with unread(host="0.0.0.0") as (_, client):
        assert client.post("/", content=b"a").status_code == 202
        assert client.post("/", content=b"a", headers={"Host": "127.0.0.2"}).status_code == 400


def test_a_body_must_be_announced() -> None:
    with unread() as (source, _):
        assert b" 411 " in raw(source, head("Connection: close"))


def test_a_client_that_asks_before_it_sends_is_told_at_once() -> None:
    with unread() as (source, _):
        asks = ("Expect: 100-continue", "Content-Length: 4", "Connection: close")
        refused = raw(source, b"POST / HTTP/1.1\r\nHost: localhost\r\n" + "\r\n".join((*asks, "", "")).encode())
        assert refused.startswith(b"HTTP/1.1 401 ")
        with socket.create_connection(("127.0.0.1", source.port), timeout=30) as sock:
            sock.sendall(head(*asks))
            assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
            sock.sendall(b"line")
            assert b"202 Accepted" in sock.recv(1000)


@pytest.mark.parametrize("way", ["length", "chunked", "gzip", "empty gzip"])
def test_a_body_that_is_too_long(way: str) -> None:
    """Not more of it is unpacked, or held, than it may be long."""
    line = b"x" * 99 + b"\n"
    with unread(max_body_bytes=100_000) as (source, client):
        tracemalloc.start()
        try:
            if way == "length":
                answer = client.post("/", content=line * 1001)
            elif way == "chunked":
                answer = client.post("/", content=(line for _ in range(1001)))
            elif way == "gzip":  # 200 MB
                member = gzip.compress(b"\n" * 20_000_000)
                tracemalloc.reset_peak()
                answer = client.post("/", content=member * 10, headers=GZIP)
            else:  # never anything, but for ever
                answer = client.post("/", content=gzip.compress(b"") * 6_000, headers=GZIP)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert answer.status_code == 413 and "100,000 bytes" in answer.json()["error"]
        assert most < 5_000_000
        assert client.post("/", content=line * 1000).json() == {"accepted": 1000}
        source.stop_receiving()
        with Reading(source) as being_read:
            assert being_read.to_end() == ["x" * 99] * 1000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b"a line\n" * 100)[:-9], "ends in the middle"),
        (gzip.compress(b"a line\n") + b"more", "not gzip"),
        (b"", "ends in the middle"),
    ],
    ids=["cut off", "followed by more", "empty"],
)
def test_a_gzip_body_that_is_damaged_is_refused_whole(content: bytes, says: str) -> None:
    with unread() as (source, client):
        answer = client.post("/", content=content, headers=GZIP)
        assert answer.status_code == 400 and says in answer.json()["error"]
        assert client.post("/", content=gzip.compress(b"good") + b"\0" * 10, headers=GZIP).status_code == 202
        assert source.read(10).lines == ["good"]


def test_a_client_that_goes_in_the_middle_of_its_body_has_sent_nothing() -> None:
    with unread() as (source, client):
        with socket.create_connection(("127.0.0.1", source.port)) as sock:
            sock.sendall(head("Content-Length: 100") + b"a line\n")
        assert client.post("/", content=b"good").status_code == 202
        assert source.read(10).lines == ["good"]


# When the buffer is full


def test_all_lines_of_a_body_are_taken_or_none() -> None:
    with unread(when_full="refuse", buffer_lines=10) as (source, client):
        assert client.post("/", content=b"a\n" * 6).json() == {"accepted": 6}
        refused = client.post("/", content=b"b\n" * 6)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json()["accepted"] == 0
        assert client.post("/", content=b"c\n" * 4).json() == {"accepted": 4}
        assert source.read(100).lines == ["a"] * 6 + ["c"] * 4
        assert client.post("/", content=b"b\n" * 6).json() == {"accepted": 6}
        assert not source.notices


def test_a_request_waits_for_room() -> None:
    with unread(buffer_lines=10, full_timeout=30) as (source, client):
        assert client.post("/", content=b"a\n" * 10).status_code == 202
        answers: list[int] = []

        def post() -> None:
            answers.append(client.post("/", content=b"b\n" * 10).status_code)

        waiting = threading.Thread(target=post)
        waiting.start()
        assert source.read(5).lines == ["a"] * 5
        time.sleep(0.05)
        assert not answers  # there is room for half of them
        assert source.read(5).lines == ["a"] * 5
        waiting.join(30)
        assert answers == [202] and source.read(10).lines == ["b"] * 10


def test_a_request_does_not_wait_for_ever() -> None:
    with unread(buffer_bytes=10, full_timeout=0.1) as (source, client):
        assert client.post("/", content=b"a" * 9).status_code == 202
        assert client.post("/", content=b"bb").status_code == 429
        assert client.post("/", content=b"c").status_code == 202
        assert source.read(10).lines == ["a" * 9, "c"]


@pytest.mark.parametrize("when_full", ["block", "refuse"])
def test_a_body_that_is_larger_than_the_buffer_is_taken_in_parts(when_full: str) -> None:
    """A client that goes on after what was accepted loses nothing and doubles nothing."""
    lines = [f"line {number}" for number in range(5_000)]
    with reading(when_full=when_full, buffer_lines=50, full_timeout=10) as (being_read, client):
        left, tries = list(lines), 0
        while left:
            answer = client.post("/", content="\n".join(left))
            assert answer.status_code == (202 if answer.json()["accepted"] == len(left) else 429)
            left = left[answer.json()["accepted"] :]
            tries += 1
            assert when_full == "refuse" or tries == 1
        assert being_read.wait_for(5_000) == lines


@pytest.mark.parametrize("when_full", ["block", "refuse"])
def test_many_clients_that_try_again_get_each_line_in_once(when_full: str) -> None:
    with reading(when_full=when_full, buffer_lines=100, full_timeout=0.05) as (being_read, client):

        def post(sender: int) -> None:
            for number in range(30):
                body = "".join(f"{sender} {number} {line}\n" for line in range(40))
                while (status := client.post("/", content=body).status_code) != 202:
                    assert status == 429
                    time.sleep(0.001)

        senders = [threading.Thread(target=post, args=(sender,)) for sender in range(6)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
        lines = being_read.wait_for(6 * 30 * 40)
    assert len(lines) == 6 * 30 * 40
    for at in range(0, len(lines), 40):  # and each body together
        first = lines[at].rpartition(" ")[0]
        assert lines[at : at + 40] == [f"{first} {line}" for line in range(40)]
    for sender in range(6):
        own = [line for line in lines if line.startswith(f"{sender} ")]
        assert own == [f"{sender} {number} {line}" for number in range(30) for line in range(40)]


def test_what_is_held_back_of_all_bodies_together_is_bounded() -> None:
    with unread(buffer_bytes=1000) as (source, client):
        sockets = [socket.create_connection(("127.0.0.1", source.port), timeout=30) for _ in range(3)]
        try:
            for sock in sockets:
                sock.sendall(head("Content-Length: 900") + b"x" * 399 + b"\n")
            answer = b"".join(iter(lambda: sockets[2].recv(1000), b""))
            assert answer.startswith(b"HTTP/1.1 429") and b'"accepted":0' in answer
        finally:
            for sock in sockets:
                sock.close()

        def accepted() -> bool:
            return client.post("/", content=b"y" * 1000).status_code == 202

        until(accepted)


# Slow clients, and many


@pytest.mark.parametrize("start", [b"", b"POST / HTTP/1.1\r\nHo"])
def test_a_request_that_does_not_begin_is_given_up(start: bytes) -> None:
    with unread(read_timeout=0.3) as (source, _), socket.create_connection(("127.0.0.1", source.port)) as sock:
        sock.settimeout(0.05)
        sock.sendall(start)
        end = time.monotonic() + 30
        while True:
            assert time.monotonic() < end
            try:
                if start:
                    sock.sendall(b"x")
                assert sock.recv(100) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break


@pytest.mark.parametrize("trickles", [False, True])
def test_a_body_that_does_not_come_is_given_up(trickles: bool) -> None:
    with unread(read_timeout=0.3) as (source, _), socket.create_connection(("127.0.0.1", source.port)) as sock:
        sock.settimeout(0.05)
        sock.sendall(head("Content-Length: 100000") + b"a line\n")
        end, answer = time.monotonic() + 30, b""
        while b"}" not in answer:
            assert time.monotonic() < end
            try:
                if trickles and not answer:
                    sock.sendall(b"x")
                answer += sock.recv(1000)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ") and b'"accepted":0' in answer


def test_a_long_body_may_take_its_time() -> None:
    with unread(read_timeout=0.5) as (source, _), socket.create_connection(("127.0.0.1", source.port), timeout=30) as sock:
        sock.sendall(head("Content-Length: 80000"))
        for _ in range(8):
            sock.sendall(b"x" * 9_999 + b"\n")
            time.sleep(0.1)
        assert b"202 Accepted" in sock.recv(1000)


def test_there_are_so_many_connections_and_no_more() -> None:
    with unread(max_connections=2) as (source, client):
        others = [socket.create_connection(("127.0.0.1", source.port), timeout=30) for _ in range(2)]
        time.sleep(0.05)
        with pytest.raises(httpx.HTTPError):
            client.post("/", content=b"a")
        until(lambda: bool(source.notices))
        assert source.notices[0].kind == "disconnected" and "max_connections" in source.notices[0].message
        for sock in others:
            sock.close()

        def has_room() -> bool:
            try:
                return client.post("/", content=b"a").status_code == 202
            except httpx.HTTPError:
                return False

        until(has_room)


# Answers only when lines are safe


def test_with_ack_the_answer_comes_when_the_lines_are_safe() -> None:
    with unread(ack=True) as (source, client):
        assert isinstance(source, Resumable) and isinstance(source, Acknowledging)
        answers: dict[str, Any] = {}

        def post(body: str) -> None:
            answers[body] = client.post("/", content=body).json()

        senders = []
        for body in ("a\nb\n", "c\n"):
            senders.append(threading.Thread(target=post, args=(body,)))
            senders[-1].start()
            until(lambda: source._buffer.received in (2, 3))
        until(lambda: source._buffer.received == 3)
        chunks = [source.read(1), source.read(10)]
        lines = [line for chunk in chunks for line in chunk.lines]
        assert lines == ["a", "b", "c"]
        assert source.position() == 0
        assert chunks[0].places is not None and chunks[1].places is not None
        source.passed(chunks[0].places, 1)
        source.acknowledge(source.position())
        source.passed(chunks[1].places, 1)
        before = source.position()
        source.passed(chunks[1].places, 2)
        assert (before, source.position()) == (2, 3)
        assert not answers  # what has passed is not safe yet
        source.acknowledge(before)
        senders[0].join(30)
        assert answers == {"a\nb\n": {"accepted": 2}}
        source.acknowledge(source.position())
        senders[1].join(30)
        assert answers["c\n"] == {"accepted": 1}
        assert client.post("/", content=b"").json() == {"accepted": 0}


def test_with_ack_a_run_that_goes_on_counts_on() -> None:
    with unread(ack=True) as (source, client):
        source.resume(1000)
        answers: list[int] = []
        sender = threading.Thread(target=lambda: answers.append(client.post("/", content=b"a\nb").status_code))
        sender.start()
        chunk = source.read(10)
        assert chunk.places is not None and [chunk.places.start(at) for at in range(3)] == [1000, 1001, 1002]
        source.passed(chunk.places, 2)
        assert source.position() == 1002
        source.acknowledge(1002)
        sender.join(30)
        assert answers == [202]


@pytest.mark.parametrize("why", ["timeout", "close"])
def test_with_ack_what_is_not_known_to_be_safe_is_to_be_sent_again(why: str) -> None:
    with unread(ack=True, ack_timeout=0.2 if why == "timeout" else 30) as (source, client):
        answers: list[httpx.Response] = []
        sender = threading.Thread(target=lambda: answers.append(client.post("/", content=b"a\nb")))
        sender.start()
        source.read(10)
        if why == "close":
            source.close()
        sender.join(30)
        assert answers[0].status_code == 503 and answers[0].json()["accepted"] == 0


# Its beginning and its end


def test_when_it_takes_no_more_it_says_so_and_gives_what_it_has() -> None:
    with unread(buffer_lines=10, full_timeout=30) as (source, client):
        assert client.post("/", content=b"a\n" * 10).status_code == 202
        answers: list[int] = []
        sender = threading.Thread(target=lambda: answers.append(client.post("/", content=b"b").status_code))
        sender.start()
        time.sleep(0.05)
        source.stop_receiving()
        sender.join(30)
        answer = client.post("/", content=b"c")
        assert answers == [503] and answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert [source.read(6).lines, source.read(6).lines, source.read(6).lines] == [["a"] * 6, ["a"] * 4, []]


def test_what_was_not_read_before_the_end_is_lost_and_said() -> None:
    with unread() as (source, client):
        client.post("/", content=b"a\nb\nc")
        assert source.read(1).lines == ["a"]
        source.close()
        assert source.read(10).lines == []
        assert [(notice.kind, notice.lost_lines) for notice in source.notices] == [("dropped", 2)]


def test_close_ends_a_read_and_all_connections_and_lets_the_port_go() -> None:
    source = made()
    address = "127.0.0.1", source.port
    with Reading(source), socket.create_connection(address, 30) as idle, socket.create_connection(address, 30) as busy:
        busy.sendall(head("Content-Length: 100") + b"a line\n")
        time.sleep(0.05)
        began = time.monotonic()
        source.close()
        assert time.monotonic() - began < 5
        assert idle.recv(100) == b""
        busy.recv(1000)
    source.close()
    made(port=source.port).close()


def test_starting_and_ending_many_times_leaves_nothing() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    made().close()
    before = resources()
    for number in range(50):
        source = made()
        if number % 2:
            with client_of(source) as client:
                assert client.post("/", content=b"a").status_code == 202
                if number % 4 == 1:
                    source.close()
        source.close()
    assert resources() == before
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": None}, f"needs a token: .*{TOKEN_VARIABLE}.* or token=False"),
        ({"token": " "}, "needs a token"),
        ({"token": True}, "needs a token"),
        ({"token": False, "host": "0.0.0.0"}, "can be reached by other machines, and that needs a token"),
        ({"token": None, "host": "::"}, "needs a token"),
        ({"when_full": "drop_oldest"}, "use 'block' or 'refuse'"),
        ({"path": "ingest"}, "must begin with /"),
        ({"full_timeout": 0}, "full_timeout=0"),
        ({"max_body_bytes": -1}, "max_body_bytes=-1"),
        ({"buffer_bytes": 0}, "at least 1"),
        ({"port": -1}, "port -1 does not exist"),
    ],
)
def test_arguments_that_are_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        made(**options)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_without_a_token_if_that_is_asked_for(host: str) -> None:
    try:
        source = made(token=False, host=host)
    except SourceError as error:
        pytest.skip(str(error))
    with closing(source):
        assert httpx.post(source.name, content=b"a", headers=PLAIN, trust_env=False).status_code == 202
        assert source.read(1).lines == ["a"]


def test_a_token_may_have_any_characters() -> None:
    with closing(made(token="gehe\xefm \u2713")) as source:
        for token, status in (("gehe\xefm \u2713", 202), ("geheim", 401)):
            headers = {b"Authorization": b"Bearer " + token.encode(), b"Content-Type": b"text/plain"}
            assert httpx.post(source.name, content=b"a", headers=headers, trust_env=False).status_code == status


def test_a_port_that_is_taken() -> None:
    with closing(made()) as source, pytest.raises(SourceError, match=f"port {source.port} of 127.0.0.1 is taken"):
        made(port=source.port)


@pytest.mark.parametrize("package", ["uvicorn", "starlette.types"])
def test_a_package_that_is_missing(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("bodies", "ingest", "serving"):
        monkeypatch.delitem(sys.modules, f"streamlab.sources.listening.{module}", raising=False)
        monkeypatch.delattr(listening, module, raising=False)
    with pytest.raises(SourceError, match=r"pip install 'streamlab\[dashboard\]'"):
        made()


# Addresses


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    options = "when_full=refuse&buffer_lines=2&max_body_bytes=100&names=a.example,b.example&read_timeout=2.5"
    with closing(HttpSource.of_address(f"http://127.0.0.1:0/ingest?{options}", max_line_bytes=3)) as source:
        assert source.name == f"http://127.0.0.1:{source.port}/ingest"
        headers = BEARER | PLAIN | {"Host": "b.example"}
        for body, status in ((b"long", 202), (b"a\nb", 429), (b"x" * 101, 413)):
            assert httpx.post(source.name, content=body, headers=headers, trust_env=False).status_code == status
        chunk = source.read(10)
        assert chunk.lines == ["lon"] and chunk.rejected
    with closing(HttpSource.of_address("http://localhost:0?token=false", max_line_bytes=100)) as source:
        assert source.name == f"http://localhost:{source.port}/"
        assert httpx.post(source.name, content=b"a", headers=PLAIN, trust_env=False).status_code == 202


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:0/", f"needs a token: .*{TOKEN_VARIABLE}"),
        ("http://127.0.0.1:0/?token=secret", f"can be seen by others: put the token into {TOKEN_VARIABLE}"),
        ("http://:secret@127.0.0.1:0/", "has a user or password"),
        ("http://127.0.0.1:0/?ack=perhaps", "ack: 'perhaps' is neither yes nor no"),
        ("http://127.0.0.1:0/?max_body=1", "did you mean 'max_body_bytes'"),
        ("http://0.0.0.0:0/?token=false", "can be reached by other machines"),
    ],
)
def test_addresses_that_are_wrong(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(SourceError, match=message) as raised:
        open_source(address)
    assert "secret" not in str(raised.value)


# In a run


def test_in_a_run() -> None:
    source = made()
    live = Pipeline("shout").add("upper", str.upper).start(source)
    with client_of(source) as client:
        for number in range(50):
            assert client.post("/", content=f"line {number}\nmore").json() == {"accepted": 2}
        until(lambda: live.ledger["received"] == 100)
    live.stop()
    live.wait()
    assert live.state == "stopped" and live.ledger["emitted"] == 100
    assert live.output["value"].tolist() == [text for number in range(50) for text in (f"LINE {number}", "MORE")]


def test_in_a_run_with_ack(tmp_path: Path) -> None:
    """What was answered for is in the output, whatever ends the run; here it is killed."""
    program = f"""
import sys
from streamlab import Pipeline
from streamlab.sources.http import HttpSource
source = HttpSource(port=0, token="{TOKEN}", ack=True)
print(source.port, flush=True)
Pipeline("p").add("upper", str.upper).run(source, output="out.log", checkpoint="state")
"""
    accepted: list[str] = []
    numbers = itertools.count()
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": ROOT}
        ) as process:
            assert process.stdout is not None
            port, enough = int(process.stdout.readline()), threading.Event()

            def post(port: int, enough: threading.Event) -> None:
                while not enough.is_set():
                    line = f"line {next(numbers)}"
                    try:
                        url = f"http://127.0.0.1:{port}/"
                        answer = httpx.post(url, content=line, headers=BEARER | PLAIN, trust_env=False, timeout=30)
                    except httpx.HTTPError:
                        return
                    assert answer.status_code == 202
                    accepted.append(line)

            before = len(accepted)
            senders = [threading.Thread(target=post, args=(port, enough)) for _ in range(4)]
            for sender in senders:
                sender.start()
            until(lambda before=before: len(accepted) > before + 4)  # type: ignore[misc]
            process.kill()
            for sender in senders:
                sender.join(30)
    lines = (tmp_path / "out.log").read_text().splitlines()
    assert {line.upper() for line in accepted} <= set(lines)


@pytest.mark.parametrize("ack", [False, True])
def test_every_line_that_was_answered_for_is_accounted_for_after_a_stop(ack: bool) -> None:
    pipeline, seen = Pipeline("slow"), list[str]()

    @pipeline.processor
    def work(line: str) -> str:
        time.sleep(0.0002)
        seen.append(line)
        return line

    source = made(ack=ack)
    live = pipeline.start(source)
    accepted: list[str] = []

    def post(sender: int, client: httpx.Client) -> None:
        for number in range(1_000):
            body = [f"{sender} {number} {line}" for line in range(20)]
            try:
                answer = client.post("/", content="\n".join(body))
            except httpx.HTTPError:  # it is not served any more
                return
            if answer.status_code != 202:
                assert answer.status_code == 503 and answer.json()["accepted"] == 0
                return
            accepted.extend(body)

    with client_of(source) as client:
        senders = [threading.Thread(target=post, args=(sender, client)) for sender in range(4)]
        for sender in senders:
            sender.start()
        until(lambda: len(accepted) > (100 if ack else 500))
        live.stop()
        for sender in senders:
            sender.join(30)
        live.wait()
    assert live.state == "stopped" and live.notices.empty
    assert set(accepted) <= set(seen) and live.ledger["emitted"] == live.ledger["received"] == len(seen)
    if not ack:
        assert len(accepted) == len(seen)
