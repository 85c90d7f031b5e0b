"""Processes that work for a run: started when first needed, replaced when they die, ended with it.

`serve` is what runs in them. They are no children of a fork, which would copy the locks of other threads as they stand, and
they do not import the user's main module again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe

#: Seconds that a process has to end by itself.
END_SECONDS = 2.0
#: What an answer begins with: the process goes on, or should be replaced.
FIT, TIRED = b"+", b"-"


class Worker:
    """One process, and the connection to it."""

    def __init__(self, setup: bytes) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
            )
        self.connection.send_bytes(setup)

    def end(self) -> None:
        """End the process, gently if it listens."""
        self.connection.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End a process that does not listen."""
        self.connection.close()
        self._process.kill()
        self._process.wait()


class Processes:
    """The processes of one segment; see `streamlab.host.Crew`.

    Args:
        setup: what each of them is given at its start.
        size: how many.
    """

    def __init__(self, setup: bytes, size: int) -> None:
        self.size = size
        self._setup = setup
        self._workers: list[Worker | None] = [None] * size
        self._births = [0] * size

    def births(self) -> Sequence[int]:
        """Return how often each has been started, and start those that do not run."""
        for number, worker in enumerate(self._workers):
            if worker is None:
                self._workers[number] = Worker(self._setup)
                self._births[number] += 1
        return self._births

    def work(self, jobs: Sequence[bytes]) -> list[bytes | None]:
        """Return the answers to at most ``size`` jobs, one a process; ``None`` where the process has died."""
        self.births()
        for number, job in enumerate(jobs):
            worker = self._workers[number]
            assert worker is not None
            with contextlib.suppress(OSError):  # that it has died shows when it should answer
                worker.connection.send_bytes(job)
        return [self._answer(number) for number in range(len(jobs))]

    def _answer(self, number: int) -> bytes | None:
        worker = self._workers[number]
        assert worker is not None
        try:
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError):
            worker.kill()
            self._workers[number] = None
            return None
        if answer[:1] == TIRED:
            worker.kill()
            self._workers[number] = None
        return answer[1:]

    def close(self) -> None:
        """End them."""
        for number, worker in enumerate(self._workers):
            self._workers[number] = None
            if worker is not None:
                worker.end()


def serve(descriptor: int) -> None:
    """Do the jobs that come over a connection, by its file descriptor, until the other end closes it."""
    import threading

    from streamlab.runners.host import LocalHost
    from streamlab.segments.parallel import Station

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who started us will tell
    host, connection = LocalHost(threading.Event()), Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        station = Station(connection.recv_bytes(), host)
        while True:
            answer = station.do(connection.recv_bytes())
            connection.send_bytes((TIRED if host.hangs() else FIT) + answer)
