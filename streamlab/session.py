"""One run of the command line, from start to exit code: signals, waiting, dashboard, report."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import time
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from streamlab.errors import DashboardError, RunError, SinkError, StreamlabError
from streamlab.launch import Options, launch
from streamlab.pipeline import Pipeline
from streamlab.run import ENDED, Run
from streamlab.views import opentelemetry
from streamlab.views.terminal import Terminal

if TYPE_CHECKING:
    from streamlab.views.dashboard import Dashboard

#: Exit codes beside 0, 1 and 2: those of a program that the shell sees die of SIGINT, and of SIGPIPE.
INTERRUPTED, READER_GONE = 130, 141
#: Seconds after which the dashboard is announced although the run still goes on: short inputs print theirs first.
PATIENCE = 1.0
#: Seconds between two looks at signals and progress.
LOOK = 0.05
#: Seconds for lines that were read to come to their end; the run itself gives up on them a little earlier.
DRAIN = 11.0
#: Seconds within which a signal that comes again is the same one.
TWICE = 0.1


@dataclass(frozen=True, slots=True)
class Address:
    """Where the dashboard is, and who may look; see `streamlab.Run.dashboard`."""

    host: str
    port: int | None
    token: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and how.

    Attributes:
        source: as for `Pipeline.start`.
        pipeline: the pipeline.
        options: how to run it; ``output`` is a path, ``-`` is standard output.
        export_traces: where to write the traces at the end.
        address: where the dashboard is; ``None`` for no dashboard.
        otlp: where to send metrics and traces to by OTLP; ``None`` for nowhere.
        summary: whether to say at the end how it went.
    """

    source: Any
    pipeline: Pipeline
    options: Options
    export_traces: str | None
    address: Address | None
    otlp: str | None
    summary: bool


class Signals:
    """SIGINT and SIGTERM as something to look at and to wait for; a second one ends the program at once.

    One that comes twice at the same time is one: what ends a program may tell it, and the group that it is in.

    They raise nothing: an exception could come between any two steps, also of the end that the first one asked for.

    Attributes:
        first: number of the first that came.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self._since = 0.0  # when that was
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()  # the one queue that a signal handler may put into
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Wait for the first."""
        while self.first is None:
            try:
                self._came.get(timeout=1.0)  # with an end: on Windows a wait without one cannot be interrupted
            except queue.Empty:
                continue

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number == self.first and time.monotonic() - self._since < TWICE:
            return
        if self.first is not None:
            if os.isatty(2):
                os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(128 + number)
        self.first, self._since = number, time.monotonic()
        self._came.put(number)


def perform(job: Job, terminal: Terminal) -> int:
    """Run a job to its end, or until a signal, and return the exit code.

    Raises:
        StreamlabError: it cannot begin.
    """
    with Signals() as signals:
        if job.otlp is not None:
            opentelemetry.check(job.otlp)
        sockets: list[socket.socket] = []
        if job.address is not None:  # before anything is read, so that a port which is taken costs nothing
            from streamlab.views.dashboard import listen

            sockets = listen(job.address.host, job.address.port, token=job.address.token)
        dashboard: Dashboard | None = None
        try:
            run = launch(job.pipeline, job.source, job.options)
            if run.resumed:
                terminal.note(f"{run.pipeline.name}: goes on after {run.resumed:,} lines (checkpoint)")
            if job.address is not None:
                dashboard = _dashboard(run, job.address, sockets, terminal)
            with contextlib.nullcontext() if job.otlp is None else run.telemetry(job.otlp):
                return _accompany(run, job, dashboard, signals, terminal)
        finally:
            for sock in sockets:
                sock.close()
            if dashboard is not None:
                dashboard.stop()


def _dashboard(run: Run, address: Address, sockets: list[socket.socket], terminal: Terminal) -> Dashboard | None:
    """Return the dashboard of a run; ``None`` when its packages are missing: the pipeline can do without."""
    try:
        from streamlab.views.dashboard import Dashboard
    except DashboardError as error:
        terminal.note(f"streamlab: no dashboard: {error}; or say --no-dashboard")
        return None
    return Dashboard(run, host=address.host, token=address.token, names=address.names, sockets=sockets)


def _accompany(run: Run, job: Job, dashboard: Dashboard | None, signals: Signals, terminal: Terminal) -> int:
    """Stay with a run that has started until there is nothing more to do, and return the exit code."""
    link = f"📊 Dashboard running at {dashboard.url}" if dashboard is not None else ""
    announced = False
    if not _wait(run, signals, PATIENCE) and signals.first is None:
        if link:
            terminal.note(link)
            announced = True
        with terminal.progress(run) as renew:
            while not _wait(run, signals, LOOK) and signals.first is None:
                renew()
                terminal.notices(run)
    ended = run.state in ENDED
    if signals.first is not None:
        terminal.note("Shutting down...")
        run.stop()
        _wait(run, None, DRAIN)
    if _reader_gone(run, job):
        return READER_GONE
    code = _conclude(run, job, terminal)
    if signals.first is not None:
        return INTERRUPTED if signals.first == signal.SIGINT and not ended and code == 0 else code
    if dashboard is not None:
        if not announced:
            terminal.note(link)
        signals.wait()
        terminal.note("Shutting down...")
    return code


def _wait(run: Run, signals: Signals | None, seconds: float) -> bool:
    """Wait for the end of the run, but not beyond a signal; tell whether it has come."""
    until = time.monotonic() + seconds
    while run.state not in ENDED and (signals is None or signals.first is None) and time.monotonic() < until:
        run.wait(LOOK)
    return run.state in ENDED


def _reader_gone(run: Run, job: Job) -> bool:
    """Tell whether the run failed because nobody reads standard output any more, and let go of it."""
    error = run.exception
    if job.options.output != "-" or not isinstance(error, SinkError) or not isinstance(error.__cause__, BrokenPipeError):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # else Python complains at exit, should something be in a buffer
    os.close(nowhere)
    return True


def _conclude(run: Run, job: Job, terminal: Terminal) -> int:
    """Write the traces, say how it went, and return the exit code of a run that nobody interrupted."""
    code = 0
    if run.state not in ENDED:
        lost = "are lost" if job.options.checkpoint is None else "are done again when it is gone on with"
        terminal.error(RunError(f"the run did not come to its end within {DRAIN:.0f} s; lines in flight {lost}"))
        code = 1
    elif isinstance(run.exception, KeyboardInterrupt):  # a processor raised it: as good as the user's
        code = INTERRUPTED
    elif run.exception is not None:
        terminal.error(run.exception)
        code = 1
    if job.export_traces is not None:
        try:
            run.export_traces(job.export_traces)
        except StreamlabError as error:
            terminal.error(error)
            code = code or 1
    terminal.notices(run)
    if job.summary:
        terminal.report(run)
    return code
