"""Syslog: real senders, real sockets."""

from __future__ import annotations

import itertools
import logging.handlers
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from streamlab.errors import SourceError
from streamlab.sources import Source, open_source
from streamlab.sources.listening.udp import message_of
from streamlab.sources.syslog import SyslogSource
from tests.receiving import Reading, rejected
from tests.waiting import resources, until

Transport = Literal["tcp", "udp"]
BOTH = pytest.mark.parametrize("transport", ["tcp", "udp"])
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what it lost")
LOGGER = pytest.mark.skipif(shutil.which("logger") is None, reason="there is no logger of util-linux here")


@contextmanager
def reading(**options: Any) -> Iterator[Reading]:
    with Reading(SyslogSource(port=0, **options)) as made:
        yield made


def connect(source: Source) -> socket.socket:
    return socket.create_connection(("127.0.0.1", source.port), timeout=30)  # type: ignore[attr-defined]


def send(source: Source, data: bytes) -> None:
    with connect(source) as sender:
        sender.sendall(data)


def send_datagrams(source: Source, *messages: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(message, ("127.0.0.1", source.port))  # type: ignore[attr-defined]


def lost(source: Source) -> int:
    return sum(notice.lost_lines for notice in source.notices)  # type: ignore[attr-defined]


# Senders that people have


@BOTH
def test_the_handler_of_python(transport: Transport) -> None:
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with reading(transport=transport) as made:
        port = made.source.port  # type: ignore[attr-defined]
        with closing(logging.handlers.SysLogHandler(("127.0.0.1", port), socktype=kind)) as handler:
            for message in ("first", "second\nof two lines" if transport == "udp" else "second", "caf\xe9"):
                handler.emit(logging.LogRecord("app", logging.WARNING, "", 0, message, None, None))
        second = "<12>second\nof two lines" if transport == "udp" else "<12>second"
        assert made.wait_for(3) == ["<12>first", second, "<12>caf\xe9"]


@LOGGER
@pytest.mark.parametrize(
    ("transport", "options"),
    [
        ("tcp", ["--rfc5424"]),
        ("tcp", ["--rfc5424", "--octet-count"]),
        ("tcp", ["--rfc3164"]),
        ("udp", ["--rfc5424"]),
        ("udp", ["--rfc3164"]),
    ],
)
def test_logger(transport: Transport, options: list[str]) -> None:
    with reading(transport=transport) as made:
        port = str(made.source.port)  # type: ignore[attr-defined]
        command = [
            "logger",
            "--server",
            "127.0.0.1",
            "--port",
            port,
            f"--{transport}",
            "-p",
            "auth.crit",
            "-t",
            "su",
            *options,
        ]
        subprocess.run(command, input=b"it failed\nagain\n", check=True, timeout=30)
        lines = made.wait_for(2)
    run = Pipeline("p").add("syslog", processors.parse_syslog()).run(lines)
    assert run.output[["facility", "severity", "app", "message"]].to_numpy().tolist() == [
        [4, 2, "su", "it failed"],
        [4, 2, "su", "again"],
    ]


# TCP


def test_messages_over_tcp() -> None:
    with reading() as made:
        send(made.source, b"<34>one\n14 <34>two\nlines\n\n<34>three\r\n<34>four\0<34>ca\xff\n<34>half")
        assert made.wait_for(6) == ["<34>one", "<34>two\nlines", "<34>three", "<34>four", "<34>ca\udcff", "<34>half"]
        assert {chunk.source for chunk in made.chunks} == {f"syslog+tcp://127.0.0.1:{made.source.port}"}  # type: ignore[attr-defined]
        assert all(chunk.places is None for chunk in made.chunks)
    assert not made.source.notices  # type: ignore[attr-defined]


def test_a_line_may_begin_with_a_number() -> None:
    with reading(framing="newline") as made:
        send(made.source, b"12 monkeys\n7 samurai\n")
        assert made.wait_for(2) == ["12 monkeys", "7 samurai"]


def test_who_sends_an_endless_line_pays_alone() -> None:
    with reading(max_line_bytes=100) as made, connect(made.source) as endless:
        for number in range(20):
            endless.sendall(b"x" * 1_000_000)
            send(made.source, b"short %d\n" % number)
            made.wait_for(number + 1)
        endless.close()
        made.wait_for(21)
    assert made.lines == [*(f"short {number}" for number in range(20)), "x" * 100]
    assert rejected(made) == [("x" * 100, "oversize")]


@pytest.mark.parametrize("senders", [1, 4])
def test_senders_wait_while_the_buffer_is_full_and_nothing_is_lost(senders: int) -> None:
    source, count = SyslogSource(port=0, buffer_lines=1000), 300_000 // senders
    filler = b"x" * (93 * senders)

    def fill(sender: int) -> None:
        send(source, b"".join(b"<%d>%06d %b\n" % (sender, number, filler) for number in range(count)))

    threads = [threading.Thread(target=fill, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    lines: list[str] = []
    while len(lines) < 5_000:
        lines += source.read(50).lines
        time.sleep(0.01)
    assert all(thread.is_alive() for thread in threads)  # none can end: 30 MB each are in no system's buffers
    with Reading(source) as made:
        made.wait_for(senders * count - len(lines))
        lines += made.lines
        for thread in threads:
            thread.join(30)
    for sender in range(senders):
        numbers = [int(line[3:9]) for line in lines if line.startswith(f"<{sender}>")]
        assert numbers == list(range(count))
    assert not source.notices


def test_senders_that_wait_have_their_turn() -> None:
    """While the buffer is full of what one sends, another one is not held up for good."""
    with closing(SyslogSource(port=0, buffer_lines=10)) as source, connect(source) as eager, connect(source) as modest:
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                eager.sendall(b"eager\n" * 1000)

        flooding = threading.Thread(target=flood)
        flooding.start()
        for _ in range(3):
            modest.sendall(b"modest\n")
            end = time.monotonic() + 30
            while "modest" not in source.read(10).lines:
                assert time.monotonic() < end
        stop.set()
        with Reading(source) as made:
            flooding.join(30)
            made.wait_for(0)


@BOTH
@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest"])
def test_what_is_dropped_is_said(transport: Transport, when_full: str) -> None:
    with closing(SyslogSource(port=0, transport=transport, when_full=when_full, buffer_lines=10)) as source:  # type: ignore[arg-type]
        messages = [b"%d\n" % number for number in range(1000)]
        if transport == "tcp":
            send(source, b"".join(messages))
        else:
            send_datagrams(source, *messages)
        until(lambda: lost(source) == 990)
        source.stop_receiving()
        with Reading(source) as made:
            lines = made.to_end()
        assert len(lines) == 10
        assert lines == [str(number) for number in (range(10) if when_full == "drop_newest" else range(990, 1000))]
        assert {notice.kind for notice in source.notices} == {"dropped"}


def test_there_are_so_many_connections_and_no_more() -> None:
    with reading(max_connections=2) as made, connect(made.source) as first, connect(made.source) as second:
        first.sendall(b"first\n")
        second.sendall(b"second\n")
        made.wait_for(2)
        with connect(made.source) as third:
            assert third.recv(1) == b""  # it has been closed
        notices = made.source.notices  # type: ignore[attr-defined]
        until(lambda: bool(notices))
        assert notices[0].kind == "disconnected" and "max_connections" in notices[0].message
        first.close()

        def has_room() -> bool:
            with connect(made.source) as fourth:
                fourth.settimeout(0.05)
                fourth.sendall(b"fourth\n")
                try:
                    return fourth.recv(1) != b""
                except TimeoutError:
                    return True
                except ConnectionError:
                    return False

        until(has_room)
        assert made.wait_for(3)[2] == "fourth"


def test_who_says_nothing_is_disconnected_and_what_came_is_a_line() -> None:
    with reading(idle_timeout=0.3) as made, connect(made.source) as busy, connect(made.source) as idle:
        idle.sendall(b"half")
        began = time.monotonic()
        idle.settimeout(0.01)
        while True:
            busy.sendall(b"busy\n")
            try:
                assert idle.recv(1) == b""
                break
            except TimeoutError:
                assert time.monotonic() < began + 30
        until(lambda: "half" in made.lines)
        busy.sendall(b"still there\n")
        until(lambda: "still there" in made.lines)
        notices = made.source.notices  # type: ignore[attr-defined]
        until(lambda: bool(notices))
        assert "idle_timeout" in notices[0].message


def test_who_waits_for_room_is_not_idle() -> None:
    with closing(SyslogSource(port=0, idle_timeout=0.2, buffer_lines=1)) as source, connect(source) as sender:
        sender.sendall(b"a\nb\nc\n")
        time.sleep(1)  # several times as long as somebody may be idle
        assert [source.read(1).lines for _ in range(3)] == [["a"], ["b"], ["c"]]
        sender.sendall(b"d\n")
        assert source.read(1).lines == ["d"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names], check=True, capture_output=True, timeout=60)
    return cert, key


def test_tls(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(cert))
    source = SyslogSource(port=0, ssl_context=context, buffer_lines=10)

    def encrypted() -> ssl.SSLSocket:
        return trusting.wrap_socket(connect(source), server_hostname="localhost")

    send(source, b"<34>in the clear\n")  # is no TLS
    until(lambda: bool(source.notices))
    assert source.notices[0].kind == "disconnected" and "no good TLS" in source.notices[0].message
    with encrypted() as sender:  # all of it has to wait for room, when the sender has gone already
        sender.sendall(b"".join(b"<34>%d\n" % number for number in range(20_000)) + b"<34>half")
    with Reading(source) as made, connect(source), encrypted():  # one that never agrees on anything is there at the end
        made.wait_for(20_001)
    assert made.lines == [*(f"<34>{number}" for number in range(20_000)), "<34>half"]


def _shared(transport: Transport) -> Reading:
    """Return one source, being read, for all examples of a property."""
    if transport not in _readings:
        _readings[transport] = Reading(SyslogSource(port=0, transport=transport)).__enter__()
    return _readings[transport]


_readings: dict[Transport, Reading] = {}
_examples = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _close_shared() -> Iterator[None]:
    yield
    for made in _readings.values():
        made.__exit__(None, None, None)
    _readings.clear()


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_nothing_that_is_sent_over_tcp_breaks_it(blocks: list[bytes]) -> None:
    """And what is framed comes out as it went in."""
    made, mark = _shared("tcp"), f"example {next(_examples)}: "
    with connect(made.source) as sender:
        for block in blocks:
            sender.sendall(block)
    framed = [mark.encode() + block + b"." for block in blocks]
    send(made.source, b"".join(b"%d %b" % (len(block), block) for block in framed))

    def came() -> list[bytes]:
        return [line.encode("utf-8", "surrogateescape") for line in list(made.lines) if line.startswith(mark)]

    until(lambda: len(came()) == len(framed))
    assert came() == framed


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=5))
def test_nothing_that_is_sent_over_udp_breaks_it(datagrams: list[bytes]) -> None:
    made = _shared("udp")
    before = len(made.lines)
    send_datagrams(made.source, *datagrams)
    lines = made.wait_for(before + len(datagrams))[before:]
    assert [line.encode("utf-8", "surrogateescape") for line in lines] == [message_of(datagram) for datagram in datagrams]


# UDP


def test_messages_over_udp() -> None:
    with reading(transport="udp", max_line_bytes=100) as made:
        send_datagrams(made.source, b"<34>one\n", b"<34>two\nlines\r\n\0", b"", b"7 <34>no", b"\xff\r", b"x" * 60_000)
        assert made.wait_for(6) == ["<34>one", "<34>two\nlines", "", "7 <34>no", "\udcff\r", "x" * 100]
        assert rejected(made) == [("x" * 100, "oversize")]
        assert {chunk.source for chunk in made.chunks} == {f"syslog+udp://127.0.0.1:{made.source.port}"}  # type: ignore[attr-defined]


@LINUX
@pytest.mark.parametrize("when_full", ["block", "drop_newest", "drop_oldest"])
def test_every_datagram_is_accounted_for_also_those_that_the_system_lost(when_full: str) -> None:
    with closing(SyslogSource(port=0, transport="udp", when_full=when_full, buffer_lines=10)) as source:  # type: ignore[arg-type]
        send_datagrams(source, *[b"%d" % number for number in range(50_000)])
        source.stop_receiving()
        with Reading(source) as made:
            lines = made.to_end()
        assert len(lines) + lost(source) == 50_000
        assert [int(line) for line in lines] == sorted({int(line) for line in lines})
        if when_full == "block":
            assert len(lines) > 10 and "the system had no room" in source.notices[0].message


# Its beginning and its end


@BOTH
def test_what_was_sent_before_the_end_is_read(transport: Transport) -> None:
    with closing(SyslogSource(port=0, transport=transport, buffer_lines=10)) as source:
        if transport == "tcp":
            with connect(source) as waits:
                waits.sendall(b"half")
                send(source, b"".join(b"%d\n" % number for number in range(1000)))
                source.stop_receiving()
                with Reading(source) as made:
                    lines = made.to_end()
            assert sorted(lines) == sorted(["half", *map(str, range(1000))])
        else:
            send_datagrams(source, *[b"%d" % number for number in range(1000)])
            source.stop_receiving()
            with Reading(source) as made:
                assert made.to_end() == [str(number) for number in range(1000)]
        assert not source.notices


def test_what_the_system_has_received_before_the_end_is_read() -> None:
    """Also when it takes long to work on it; but whoever goes on and on is cut off."""
    source = SyslogSource(port=0, buffer_lines=100)
    ended = threading.Event()

    def flood() -> None:
        with suppress(ConnectionError), connect(source) as sender:
            while True:
                sender.sendall(b"flood\n" * 10_000)
        ended.set()

    flooding = threading.Thread(target=flood)
    flooding.start()
    senders = [connect(source) for _ in range(3)]
    lines = [f"<{sender}>{number} {'x' * 100}" for sender in range(3) for number in range(800)]
    for part in (range(400), range(400, 800)):  # 44 KB each: the system takes that for us at once
        for number, sender in enumerate(senders):
            sender.sendall("".join(f"{lines[800 * number + at]}\n" for at in part).encode())
        time.sleep(0.1)  # the first part is received, waits for room, and keeps the second one from being
    for sender in senders:
        sender.close()
    source.stop_receiving()
    seen: list[str] = []
    while (chunk := source.read(100)).lines:
        seen += chunk.lines
        if len(seen) < 2_000:
            time.sleep(0.05)  # a second in all: longer than there is for what is sent from now on
    flooding.join(30)
    assert ended.is_set()
    assert sorted(line for line in seen if line.startswith("<")) == sorted(lines)
    source.close()
    assert not source.notices


def test_when_it_takes_no_more_senders_are_refused() -> None:
    """Also while what came before still waits for room."""
    with closing(SyslogSource(port=0, buffer_lines=1)) as source:
        send(source, b"a\nb\n")
        source.stop_receiving()

        def refused() -> bool:
            try:
                with connect(source) as sender:
                    return sender.recv(1) == b""
            except ConnectionError:
                return True

        until(refused)
        time.sleep(1.5)  # longer than between two looks at connections
        assert refused()
        assert [source.read(1).lines for _ in range(3)] == [["a"], ["b"], []]


@BOTH
def test_what_was_not_read_before_the_end_is_lost_and_said(transport: Transport) -> None:
    source = SyslogSource(port=0, transport=transport, buffer_lines=10)
    messages = [b"%d\n" % number for number in range(100)]
    if transport == "tcp":
        send(source, b"".join(messages))
    else:
        send_datagrams(source, *messages)
    first = source.read(1)
    until(lambda: source._buffer.received >= 10)  # others wait for room
    source.close()
    assert source.read(10).lines == []
    assert first.lines == ["0"] and lost(source) == 99
    assert source.progress() is None


@BOTH
def test_close_ends_a_read_and_lets_the_port_go(transport: Transport) -> None:
    source = SyslogSource(port=0, transport=transport)
    made = Reading(source)
    made._thread.start()
    time.sleep(0.02)
    began = time.monotonic()
    source.close()
    assert made.to_end() == []
    assert time.monotonic() - began < 5
    source.close()
    SyslogSource(port=source.port, transport=transport).close()


@BOTH
def test_starting_and_ending_many_times_leaves_nothing(transport: Transport) -> None:
    SyslogSource(port=0, transport=transport).close()
    before = resources()
    for number in range(50):
        source = SyslogSource(port=0, transport=transport)
        with connect(source) if transport == "tcp" else socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            if transport == "udp":
                sender.connect(("127.0.0.1", source.port))
            sender.sendall(b"a line\nhalf" if transport == "tcp" else b"a line")
            if number % 2:
                assert source.read(10).lines == ["a line"]
            source.close()
    assert resources() == before


@BOTH
def test_a_port_that_is_taken(transport: Transport) -> None:
    source = SyslogSource(port=0, transport=transport)
    with closing(source), pytest.raises(SourceError, match=f"port {source.port} of 127.0.0.1 is taken .* 0 for any that is"):
        SyslogSource(port=source.port, transport=transport)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70_000}, "port 70000 does not exist"),
        ({"host": "192.0.2.1"}, "192.0.2.1 is no address of this machine"),
        ({"host": "no.such.host.invalid"}, "cannot be found"),
        ({"transport": "sctp"}, "use 'tcp' or 'udp'"),
        ({"framing": "nul"}, "use 'auto' or 'newline'"),
        ({"when_full": "wait"}, "use 'block'"),
        ({"buffer_lines": 0}, "at least 1"),
        ({"max_connections": 0}, "max_connections=0"),
        ({"idle_timeout": -1}, "idle_timeout=-1"),
        ({"transport": "udp", "ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "no TLS over UDP"),
        ({"ssl_context": ssl.create_default_context()}, "for clients: make it with"),
    ],
)
def test_arguments_that_are_wrong(options: dict[str, Any], message: str) -> None:
    before = resources()
    with pytest.raises(SourceError, match=message):
        SyslogSource(**({"port": 0} | options))
    assert resources() == before


@pytest.mark.skipif(not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"), reason="there is no IPv6 here")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(host: str) -> None:
    try:
        source = SyslogSource(host, 0)
    except SourceError as error:
        pytest.skip(str(error))
    with Reading(source) as made:
        assert source.name == f"syslog+tcp://[{host}]:{source.port}"
        for address in ("::1",) if host == "::1" else ("::1", "127.0.0.1"):
            with socket.create_connection((address, source.port)) as sender:
                sender.sendall(b"hello\n")
        made.wait_for(1 if host == "::1" else 2)


# Addresses


def test_addresses() -> None:
    with closing(SyslogSource.of_address("syslog+tcp://127.0.0.1:0", max_line_bytes=100)) as source:
        assert source.name == f"syslog+tcp://127.0.0.1:{source.port}"
    options = "when_full=drop_oldest&buffer_lines=10&buffer_bytes=1000"
    with closing(SyslogSource.of_address(f"syslog+udp://localhost:0?{options}", max_line_bytes=5)) as source:
        send_datagrams(source, b"a long one")
        chunk = source.read(1)
        assert chunk.lines == ["a lon"] and chunk.rejected
    with closing(
        SyslogSource.of_address("syslog+tcp://:0/?framing=newline&max_connections=1&idle_timeout=2.5", max_line_bytes=5)
    ):
        pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("syslog://127.0.0.1:0", r"syslog\+tcp://"),
        ("syslog+tcp://127.0.0.1:0/path", "nothing can follow the port"),
        ("syslog+tcp://127.0.0.1:port", "is no address"),
        ("syslog+tcp://127.0.0.1:0?when_ful=block", "no option 'when_ful': did you mean 'when_full'?"),
        ("syslog+tcp://127.0.0.1:0?colour=red", "no option 'colour': the options are buffer_bytes"),
        ("syslog+tcp://127.0.0.1:0?when_full=drop", "when_full='drop': use 'block'"),
        ("syslog+tcp://127.0.0.1:0?buffer_lines=many", "buffer_lines: 'many' is not a whole number"),
        ("syslog+tcp://127.0.0.1:0?idle_timeout=long", "idle_timeout: 'long' is not a number of seconds"),
        ("syslog+tcp://127.0.0.1:0?idle_timeout=nan", "is not a number of seconds above 0"),
        ("syslog+tcp://127.0.0.1:0?buffer_lines=1&buffer_lines=2", "given twice"),
        ("syslog+tcp://127.0.0.1:0?buffer_lines", "options are written"),
        ("syslog+tcp://me:secret@127.0.0.1:0", "has a user or password"),
        ("syslog+tcp://127.0.0.1:0#part", "what follows the #"),
    ],
)
def test_addresses_that_are_wrong(address: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as raised:
        open_source(address)
    assert "secret" not in str(raised.value)


# In a run


@BOTH
def test_in_a_run(transport: Transport) -> None:
    pipeline = Pipeline("logs").add("syslog", processors.parse_syslog())
    source = SyslogSource(port=0, transport=transport)
    live = pipeline.start(source)
    try:
        messages = [b"<34>Oct 11 22:14:15 mine su[%d]: failed\n" % number for number in range(500)]
        if transport == "tcp":
            send(source, b"".join(messages))
        else:
            send_datagrams(source, *messages, b"<999>nonsense")
        until(lambda: live.ledger["received"] == 500 + (transport == "udp"))
    finally:
        live.stop()
        live.wait()
    assert live.state == "stopped"
    assert live.output["procid"].tolist() == [str(number) for number in range(500)]
    ledger = live.ledger
    assert ledger["emitted"] == 500 and ledger["dead_lettered"] == (transport == "udp") and ledger["in_flight"] == 0


@pytest.mark.parametrize("ends", ["stop", "fail"])
def test_every_line_that_was_taken_in_is_accounted_for_at_the_end(ends: str) -> None:
    """A run that stops works on all that has come; one that fails keeps it as unfinished."""
    pipeline, going = Pipeline("slow"), threading.Event()

    @pipeline.processor(on_error="stop")
    def work(line: str) -> str:
        going.wait(30)
        if ends == "fail":
            raise ValueError(line)
        return line

    source = SyslogSource(port=0)
    live = pipeline.start(source)
    send(source, b"".join(b"%d\n" % number for number in range(20_000)))
    until(lambda: live.ledger["received"] > 0)
    if ends == "stop":
        threading.Timer(0.3, going.set).start()
        live.stop()
    else:
        until(lambda: source._buffer.received == 20_000)
        going.set()
    live.wait()
    if ends == "stop":
        assert live.state == "stopped" and live.ledger["emitted"] == 20_000
        assert live.output["value"].tolist()[-1] == "19999"
    else:
        assert live.state == "failed"
        assert live.ledger["received"] + len(live.unfinished) >= 20_000
    assert live.notices.empty
