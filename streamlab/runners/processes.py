"""Processes that work for a run: started when first needed, replaced when they are lost, ended with it.

`streamlab.runners.inside` is what runs in them. They are no children of a fork, which would copy the locks of other threads
as they stand, and they do not import the user's main module again.

A thread looks at them, as nothing within a process can be relied on once the user's code runs there: a regular expression
holds the interpreter's lock for as long as it takes. So a process that is to be watched writes down what it is at, into
memory that it shares (`streamlab.host.ROW`), and one that takes too long is killed from outside.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Pipe

from streamlab.errors import PipelineError, RunError
from streamlab.host import CALLED, ROW, TIMES, UNTIL, WAITING, Lost
from streamlab.runners.hands import Hands

#: Seconds that a process has to end by itself.
END_SECONDS = 2.0
#: Seconds between two looks at what the processes do.
LOOK_SECONDS = 0.1
#: Seconds after which a process that is stopped (SIGSTOP) counts as lost: it would be so for ever.
STOPPED_SECONDS = 2.0
#: Seconds that they have to finish what they are at once the run is to stop; fewer than the run itself has.
DRAIN_SECONDS = 8.0
#: Processes that may end, one after the other, before they have begun with a job.
STARTS = 3


#: The signal at which a process says what it is at: the last one, which hardly anybody uses.
ASK = getattr(signal, "SIGRTMAX", signal.SIGUSR2)


class Worker:
    """One process, the connection to it, and the marks that it leaves.

    Args:
        setup: what it is given before its first job.
    """

    def __init__(self, setup: bytes) -> None:
        self.connection, theirs = Pipe()
        lifeline, self._lifeline = Pipe(duplex=False)  # the system ends the process when ours is closed, whatever it does
        self._memory = open(_page(), "r+b")  # noqa: SIM115 - for as long as the process runs
        with theirs, lifeline:
            given = theirs.fileno(), lifeline.fileno(), self._memory.fileno()
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from streamlab.runners.inside import serve; serve{given}"],
                pass_fds=given,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # to be ended with all that it has started
            )
        self.marks = memoryview(mmap.mmap(self._memory.fileno(), mmap.PAGESIZE)).cast("q")
        self._setup: bytes | None = setup
        self._overdue = 0
        self._stopped: float | None = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def ready(self) -> bool:
        """Whether it has its processors and can do jobs."""
        return self._setup is None

    def ask(self, job: bytes) -> bytes:
        """Have a job done.

        Raises:
            EOFError: the process has ended; `OSError` says the same.
            PipelineError: it cannot load the processors.
        """
        self.marks[ROW], self.marks[UNTIL] = WAITING, 0
        if self._setup is not None:
            self.connection.send_bytes(self._setup)
            if problem := self.connection.recv_bytes():
                raise PipelineError(f"a worker process cannot load the processors: {problem.decode()}")
            self._setup = None
        self.connection.send_bytes(job)
        return self.connection.recv_bytes()

    def hangs(self, now: float) -> bool:
        """Tell whether the process is at a call that was to have ended by now, or has been stopped for long."""
        until = self.marks[UNTIL]
        if 0 < until < now * 1e9:
            self._overdue = until
            return True
        if not self._is_stopped():
            self._stopped = None
        elif self._stopped is None:
            self._stopped = now
        return self._stopped is not None and now - self._stopped > STOPPED_SECONDS

    def _is_stopped(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # it is gone
            return False

    def left(self) -> Lost | None:
        """Return what is known of the job that the process was at when it died; ``None`` when it had not begun with one."""
        row, number, times, until = (self.marks[at] for at in (ROW, CALLED, TIMES, UNTIL))
        if row == WAITING:
            return None
        return Lost(None if row < 0 else row, None if number < 0 else (number, times), 0 < until == self._overdue)

    def stack(self) -> str:
        """Return what the process is at, as it says itself: as `faulthandler` writes it, innermost first; or nothing.

        It says so even while its interpreter is held by a function. Takes up to half a second.
        """
        if not self.ready or self._process.returncode is not None:  # a process that has not begun dies of it
            return ""
        memory = self._memory.fileno()
        before = size = os.fstat(memory).st_size
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, ASK)
        for _ in range(10):
            time.sleep(0.05)
            seen, size = size, os.fstat(memory).st_size
            if before < seen == size:
                break
        return os.pread(memory, size - before, before).decode(errors="replace")

    def interrupt(self) -> None:
        """End the process and all that it has started, while another thread waits for its answer, which will be none."""
        if self._process.returncode is None:  # else its number may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> int:
        """End a process that does not listen; return its exit code."""
        self.interrupt()
        self.connection.close()
        self._lifeline.close()
        code = self._process.wait()
        self._memory.close()
        return code

    def end(self) -> None:
        """End the process, gently if it listens."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self.kill()


def _page() -> int:
    """Return the descriptor of a new file of one page, in memory where there is such a thing."""
    if hasattr(os, "memfd_create"):
        page = os.memfd_create("streamlab")
    else:
        with tempfile.TemporaryFile() as file:
            page = os.dup(file.fileno())
    os.ftruncate(page, mmap.PAGESIZE)
    return page


class Processes:
    """The processes of one segment; see `streamlab.host.Crew`. To each belongs a thread that talks with it.

    Args:
        setup: what each of them is given at its start.
        size: how many.
        stopping: set when the run is to stop: they have `DRAIN_SECONDS` then.
    """

    def __init__(self, setup: bytes, size: int, stopping: threading.Event) -> None:
        self.size = size
        self._setup = setup
        self._stopping = stopping
        self._over = False
        self._closed = threading.Event()
        self._workers: list[Worker | None] = [Worker(setup) for _ in range(size)]
        self._threads = [Hands(1, "streamlab-process") for _ in range(size)]
        self._last: list[Future[bytes | Lost] | None] = [None] * size
        self._warden = threading.Thread(target=self._watch, name="streamlab-warden", daemon=True)
        self._warden.start()

    def work(self, number: int, job: bytes) -> Callable[[], bytes | Lost]:
        """Give a job to a process; return what waits for the answer.

        That raises `RunError` when no process can be had, or the run was stopped and this one does not come to its end, and
        `PipelineError` when the processors cannot be loaded in it.
        """
        answer = self._last[number] = self._threads[number].begin(partial(self._talk, number, job))
        return answer.result

    def _talk(self, number: int, job: bytes) -> bytes | Lost:
        code = 0
        for _ in range(STARTS):
            self._go_on()
            worker = self._workers[number]
            if worker is None:
                worker = self._workers[number] = Worker(self._setup)
            try:
                return worker.ask(job) or Lost()
            except (EOFError, OSError):
                code = worker.kill()
                self._workers[number] = None
            self._go_on()
            lost = worker.left()
            if lost is not None:
                return lost
        raise RunError(
            f"worker processes end before they begin with their lines, the last one with the exit code {code}:"
            " what they say is on standard error"
        )

    def _go_on(self) -> None:
        """Raise `RunError` if the run is over."""
        if self._over:
            raise RunError(
                f"a worker process did not come to the end of its lines within {DRAIN_SECONDS:g} s after the run was stopped"
                " and was ended; the lines are in run.unfinished"
            )
        if self._closed.is_set():
            raise RunError("the worker processes were ended")

    def _watch(self) -> None:
        """End processes that hang; and all that are at work, when the run was to stop and they have had their time."""
        until = math.inf
        while not self._closed.wait(LOOK_SECONDS):
            now = time.perf_counter()  # of the system: the same in all processes
            if self._stopping.is_set():
                until = min(until, now + DRAIN_SECONDS)
                self._over = now > until
            for worker, last in zip(self._workers, self._last, strict=True):
                busy = last is not None and not last.done()
                if worker is not None and (worker.hangs(now) or (self._over and busy)):
                    worker.interrupt()

    def close(self) -> None:
        """End them; one that is still at a job is not waited for."""
        self._closed.set()
        for worker, last in zip(self._workers, self._last, strict=True):
            if worker is not None and last is not None and not last.done():
                worker.interrupt()
        for thread in self._threads:
            thread.close()
        left = [worker for worker in self._workers if worker is not None]
        self._workers = [None] * self.size
        for worker in left:
            worker.connection.close()
        for worker in left:
            worker.end()
        self._warden.join()
