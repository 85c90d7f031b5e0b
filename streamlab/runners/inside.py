"""What runs in a process that works for a run."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import mmap
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from streamlab.failures import text_of
from streamlab.runners.host import LocalHost
from streamlab.runners.processes import ASK, END_SECONDS
from streamlab.segments.station import Station


class Inside(LocalHost):
    """The host of a process: who started it sees to it that no call takes too long."""

    def within(self, seconds: float, call: Callable[[Any], Any], value: Any, what: str) -> Any:
        """Return ``call(value)``; the process is killed if that takes too long."""
        return call(value)


def serve(connection: int, lifeline: int, memory: int) -> None:
    """Do the jobs that come over a connection until its other end is closed.

    Args:
        connection: its file descriptor.
        lifeline: that of a pipe whose other end is closed when the process is to end at once.
        memory: that of a file: its first page is for marks, see `streamlab.host.ROW`, what is behind for what is asked.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us
    _end_with(lifeline)
    os.lseek(memory, mmap.PAGESIZE, os.SEEK_SET)
    faulthandler.register(ASK, memory, all_threads=False)
    marks = memoryview(mmap.mmap(memory, mmap.PAGESIZE)).cast("q")
    with contextlib.suppress(EOFError, OSError), Connection(connection) as jobs:
        setup = jobs.recv_bytes()
        try:
            station = Station(setup, Inside(threading.Event()), marks)
        except BaseException as error:  # of the modules that are imported
            jobs.send_bytes(f"{type(error).__name__}: {text_of(error)}".encode(errors="replace"))
            return
        jobs.send_bytes(b"")
        while True:
            jobs.send_bytes(station.do(jobs.recv_bytes()))


def _end_with(lifeline: int) -> None:
    """Have this process end, and all that it has started, when the other end of a pipe is closed.

    Linux does it, whatever the process is at. Elsewhere a thread does, unless a function holds the lock of the interpreter.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    else:
        threading.Thread(target=_wait_for_end, args=[lifeline], daemon=True).start()


def _wait_for_end(lifeline: int) -> None:
    closed = select.poll()
    closed.register(lifeline)
    closed.poll()
    time.sleep(END_SECONDS)
    os.killpg(0, signal.SIGKILL)
