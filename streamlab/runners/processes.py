"""Processes that work for a run: started when first needed, replaced when they die, ended with it.

`serve` is what runs in them. They are no children of a fork, which would copy the locks of other threads as they stand, and
they do not import the user's main module again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection, Pipe

from streamlab.runners.hands import Hands

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
        self.interrupt()
        self.connection.close()
        self._process.wait()

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """End a process while another thread waits for its answer, which will be none."""
        self._process.kill()


class Processes:
    """The processes of one segment; see `streamlab.host.Crew`. To each belongs a thread that talks with it.

    Args:
        setup: what each of them is given at its start.
        size: how many.
    """

    def __init__(self, setup: bytes, size: int) -> None:
        self.size = size
        self._setup = setup
        self._workers: list[Worker | None] = [Worker(setup) for _ in range(size)]
        self._threads = [Hands(1, "streamlab-process") for _ in range(size)]
        self._last: list[Future[bytes | None] | None] = [None] * size

    def work(self, number: int, job: bytes) -> Callable[[], bytes | None]:
        """Give a job to a process; return what waits for the answer, ``None`` when the process has died of it."""
        answer = self._last[number] = self._threads[number].begin(partial(self._talk, number, job))
        return answer.result

    def _talk(self, number: int, job: bytes) -> bytes | None:
        worker = self._workers[number]
        if worker is not None and not worker.alive():  # it has died, and not of this job
            worker.kill()
            worker = None
        if worker is None:
            worker = self._workers[number] = Worker(self._setup)
        try:
            worker.connection.send_bytes(job)
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError):
            answer = TIRED
        if answer[:1] == TIRED:
            worker.kill()
            self._workers[number] = None
        return answer[1:] or None

    def close(self) -> None:
        """End them; one that is still at a job is not waited for."""
        for worker, thread, last in zip(self._workers, self._threads, self._last, strict=True):
            if worker is not None and last is not None and not last.done():
                worker.interrupt()
            thread.close()
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
    threading.Thread(target=_end_with, args=[descriptor], daemon=True).start()
    host, connection = LocalHost(threading.Event()), Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        station = Station(connection.recv_bytes(), host)
        while True:
            answer = station.do(connection.recv_bytes())
            connection.send_bytes((TIRED if host.hangs() else FIT) + answer)


def _end_with(descriptor: int) -> None:
    """End this process when the other end of a connection is gone, whatever a processor is doing."""
    ended = select.poll()
    ended.register(descriptor, getattr(select, "POLLRDHUP", select.POLLHUP))
    ended.poll()
    time.sleep(END_SECONDS)  # if it is not at a call it ends by itself, as a program should
    os._exit(0)
