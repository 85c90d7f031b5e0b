"""Real brokers for tests: servers of their own on loopback, at free ports, with folders of their own; and readers of them.

Without the program of a server its tests are skipped, and say so, unless ``STREAMLAB_PROGRAMS=required``.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamlab.batch import Chunk
from streamlab.sources import notices_of
from tests.programs import kafka_broker, program


def free_port() -> int:
    """Return a port that is free, and is not given to a client's end of a connection while its server is away."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A server's process, which can be killed, stopped and started again at the same port, with the same folder."""

    def __init__(self, command: list[str], port: int) -> None:
        self.command = command
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not self.is_ready():
            assert self.process.poll() is None, f"{self.command[0]} has ended: {' '.join(self.command)}"
            assert time.monotonic() < end, f"{self.command[0]} does not listen"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Tell whether it listens."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()


class Redis(Server):
    """One that is ready when it has loaded what it had."""

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


@contextmanager
def redis_server(folder: Path, *options: str, lasting: bool = False) -> Iterator[Server]:
    """A Redis; with ``lasting``, what it has said it has is there again after a crash."""
    port = free_port()
    saving = ["--appendonly", "yes", "--appendfsync", "always"] if lasting else ["--appendonly", "no"]
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    yield from _running(Redis([program("redis-server"), *place, *saving, *options], port))


@contextmanager
def nats_server(folder: Path, *options: str) -> Iterator[Server]:
    """A NATS with JetStream, whose streams are files unless they are made otherwise."""
    port = free_port()
    place = ["-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]
    yield from _running(Server([program("nats-server"), *place, *options], port))


@contextmanager
def kafka_server() -> Iterator[Server]:
    """A broker that speaks Kafka's protocol, and keeps all in memory. It shows aborted transactions to everybody."""
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    place = ["--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://streamlab/", "--silent"]
    yield from _running(Server([kafka_broker(), "broker", *place], port))


def _running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def taken(source: Any, count: int, *, limit: int = 512) -> list[Chunk]:
    """Read so many lines, and do nothing else with them."""
    chunks: list[Chunk] = []
    while sum(len(chunk.lines) for chunk in chunks) < count:
        chunk = source.read(limit)
        assert chunk.lines, "the source has ended"
        chunks.append(chunk)
    return chunks


def lines_of(chunks: list[Chunk]) -> list[str]:
    return [line for chunk in chunks for line in chunk.lines]


def pass_on(source: Any, chunks: list[Chunk], count: int | None = None) -> None:
    """Say that the lines of some chunks have passed, all or the first ones."""
    for chunk in chunks:
        assert chunk.places is not None
        passed = len(chunk.lines) if count is None else min(len(chunk.lines), count)
        if passed:
            source.passed(chunk.places, passed)
        count = None if count is None else count - passed


def commit(source: Any) -> Any:
    """Save the position, as a checkpoint does, and acknowledge it."""
    position = source.position()
    source.acknowledge(position)
    return position


def finished(source: Any, count: int, *, limit: int = 512) -> list[str]:
    """Read so many lines, and be done with them."""
    chunks = taken(source, count, limit=limit)
    pass_on(source, chunks)
    commit(source)
    return lines_of(chunks)


PROGRAM = """
import sys
from streamlab import Pipeline
from streamlab.checkpoint import Checkpoint

source, output, folder = sys.argv[1:]
pipeline = Pipeline("logs")
pipeline.processor(name="upper")(str.upper)
pipeline.run(source, output=output, checkpoint=Checkpoint(folder, interval=0.05), on_outage="wait")
"""


def killed_again_and_again(
    source: str, output: str, folder: Path, written: Callable[[], int], every: int, is_done: Callable[[], bool]
) -> int:
    """Run a pipeline in processes that are killed, each when it has written a few more; return how many there were."""
    kills = 0
    while not is_done():
        enough = written() + every
        command = [sys.executable, "-c", PROGRAM, source, output, str(folder)]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            try:
                while process.poll() is None and written() < enough and not is_done():
                    time.sleep(0.03)  # so that most of the time is the process's
                if process.poll() is not None:
                    assert process.returncode == 0, process.stderr.read().decode()
                kills += 1
            finally:
                process.kill()
    return kills


class Running:
    """Reads a source in threads, as a run does: one reads, passes on and keeps the lines, one commits now and then."""

    def __init__(
        self, source: Any, *, limit: int = 256, every: float = 0.02, slow: Callable[[], None] = lambda: None
    ) -> None:
        self.source = source
        self.lines: list[str] = []
        self.error: BaseException | None = None
        self.notices: list[str] = []
        self.told = ""
        self._limit = limit
        self._every = every
        self._slow = slow
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._commit)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        try:
            while (chunk := self.source.read(self._limit)).lines:
                self._slow()
                self.lines += chunk.lines
                self.source.passed(chunk.places, len(chunk.lines))
        except BaseException as error:
            self.error = error
        finally:
            self._ended.set()

    def _commit(self) -> None:
        try:
            while not self._ended.wait(self._every):
                commit(self.source)
                self._look()
        except BaseException as error:
            self.error = error

    def _look(self) -> None:
        for notice in notices_of(self.source):
            self.notices.append(notice.kind)
            self.told += notice.message + "\n"

    def close(self) -> None:
        commit(self.source)
        self.source.close()
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._look()
        if self.error is not None:
            raise self.error
