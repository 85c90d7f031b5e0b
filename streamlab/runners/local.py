"""The local runner: one thread that takes lines, works on them, hands outputs on and keeps the journal."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from streamlab.batch import Batch, Chunk, Rows
from streamlab.columns import Column
from streamlab.engine import Engine
from streamlab.errors import ProcessorFailed, RunError
from streamlab.journal import Journal
from streamlab.runners import ENDED, State
from streamlab.runners.host import LocalHost
from streamlab.runners.reader import Reader
from streamlab.segments import Stopped
from streamlab.sinks import Sink
from streamlab.sources import Source

#: Seconds that a batch should take: short, so that nothing waits long for its neighbours, and pauses and stops come soon.
BATCH_SECONDS = 0.010
#: The same of columns, where a batch costs more and a line less; and in processes, which wait for each other at its end.
COLUMN_SECONDS, PARALLEL_SECONDS = 0.030, 0.100
#: Lines of a batch, at the start and at most.
FIRST_BATCH, MAX_BATCH = 1, 16_384
#: The same of columns.
FIRST_COLUMN, MAX_COLUMN = 256, 65_536
#: Values of a column that is worth a thread, to begin with it or to write it.
LARGE_COLUMN = 8_192
#: Seconds after which a batch is cut: what is done is handed on, the rest is the next one.
PATIENCE = 0.1
#: Seconds between two looks at signals while the calling thread waits. An untimed wait is not ended by Ctrl-C once a library
#: such as Polars has put a handler of its own below Python's.
SIGNAL_SECONDS = 0.2
#: Seconds between two rows of the history, and at most between two looks at a source that has nothing.
TICK_SECONDS, POLL_SECONDS = 1.0, 0.25
#: Seconds that lines which were taken from the source have to come to their end after a stop.
DRAIN_SECONDS = 10.0


class LocalRunner:
    """Runs an engine in a thread of this process; see `streamlab.runners.Runner`."""

    def __init__(
        self, engine: Engine, source: Source, sink: Sink, journal: Journal, host: LocalHost, stopping: threading.Event
    ) -> None:
        self.state: State = "starting"
        self.exception: BaseException | None = None
        self._engine = engine
        self._source = source
        self._sink = sink
        self._journal = journal
        self._host = host
        self._stopping = stopping
        # Polars, and processes, work on other cores than the one that Python holds: lines are read and begun with ahead.
        early = engine.takes_columns or engine.parallel
        self._reader = Reader(source) if source.blocking or early else None
        self._ahead: deque[tuple[Chunk, Rows | None]] = deque()
        self._depth = host.cores() + 1 if engine.takes_columns else 2 if engine.parallel else 1
        self._lock = threading.Lock()
        self._going = threading.Event()
        self._going.set()
        self._done = threading.Event()
        self._seconds = PARALLEL_SECONDS if engine.parallel else COLUMN_SECONDS if engine.takes_columns else BATCH_SECONDS
        self._most = MAX_COLUMN if engine.takes_columns else MAX_BATCH
        self._limit = max(FIRST_COLUMN if engine.takes_columns else FIRST_BATCH, engine.concurrency)
        self._began = self._ticked = host.clock()
        self._uptime: float | None = None
        self._drain_until: float | None = None
        self._writing: tuple[Batch, Future[Sequence[tuple[int, BaseException]]]] | None = None
        self._worker = threading.Thread(target=self._work, name=f"streamlab-{engine.pipeline.name}", daemon=True)

    # For who holds the run

    def start(self) -> None:
        """Begin, in the background."""
        if self._reader is not None:
            threading.Thread(target=self._reader.pump, name="streamlab-reader", daemon=True).start()
        self._worker.start()

    def run(self) -> None:
        """Begin, and return at the end. The caller's thread reads the source, if that may wait: Ctrl-C reaches it there."""
        # An async source needs an event loop of its own, so not that of a notebook.
        apart = not self._source.blocking or _has_event_loop()
        self.start() if apart else self._worker.start()
        try:
            if self._reader is not None and not apart:
                self._reader.pump()
            self.wait(None)
        except KeyboardInterrupt:
            self.stop()
            self.wait(DRAIN_SECONDS)
            raise
        if isinstance(self.exception, KeyboardInterrupt):
            raise self.exception

    def pause(self) -> None:
        """Take no more lines until `resume`."""
        with self._lock:
            if self.state in ENDED or self._stopping.is_set():
                raise RunError(f"the run is {self.state if self.state in ENDED else 'stopping'}: it cannot be paused")
            self._going.clear()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._going.set()

    def stop(self) -> None:
        """Take no more lines from the source, bring those that were taken to their end, and flush."""
        with self._lock:
            self._stopping.set()
            self._going.set()
        if self._reader is not None:
            self._reader.close()
            self._reader.wake()

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end; tell whether it has come."""
        if threading.current_thread() is self._worker:
            raise RunError("a processor or sink cannot wait for the end of the run that it is part of")
        until = None if timeout is None else time.monotonic() + timeout
        while not self._done.wait(
            SIGNAL_SECONDS if until is None else min(max(until - time.monotonic(), 0), SIGNAL_SECONDS)
        ):
            if until is not None and time.monotonic() >= until:
                return False
        self._worker.join()
        return True

    def uptime(self) -> float:
        """Return the seconds since the beginning, to the end if it has come."""
        return self._host.clock() - self._began if self._uptime is None else self._uptime

    def progress(self) -> float | None:
        """Return the share of the source that has been read."""
        return self._source.progress()

    @contextmanager
    def reading(self) -> Iterator[Journal]:
        """Give the journal, between two batches."""
        with self._lock:
            if self._done.is_set():  # the source's thread may have brought one more line
                self._give_up()
            yield self._journal

    # The thread

    def _work(self) -> None:
        state: State = "failed"
        try:
            self.state = "running"
            self._until_ended()
            self.state = "draining"
            for batch in self._engine.flush():
                self._hand_on(batch)
                self._in_time()
            self._settle()
            self._close()
            state = "stopped" if self._stopping.is_set() else "finished"
        except KeyboardInterrupt as interrupt:  # raised by a processor: as good as the user's
            self.exception = interrupt
            state = "stopped"
        except BaseException as error:  # kept for the user, who is in another thread
            self.exception = error
        finally:
            self._end(state)

    def _until_ended(self) -> None:
        """Take lines and work on them until the source has ended, or a stop was asked for and the buffer is empty."""
        while True:
            self._hold()
            if self._stopping.is_set() and self._drained():
                return
            chunk, rows = self._next()
            if chunk is None:
                self._settle()
            elif chunk.lines:
                self._one(chunk, rows)
            else:
                return
            self._tick()

    def _hold(self) -> None:
        """Wait while the run is paused."""
        if self._going.is_set():
            return
        self._settle()
        self.state = "paused"
        while not self._going.wait(POLL_SECONDS) and not self._stopping.is_set():
            self._tick()
        self.state = "running"

    def _next(self) -> tuple[Chunk | None, Rows | None]:
        """Return the next lines, and their rows if they have been begun with; ``None`` when none have come, none at the end.

        While lines wait to be read, those after them are begun with: by other threads, or by processes.
        """
        if self._reader is None:
            return self._source.read(self._limit), None
        self._reader.capacity = self._most if self._engine.takes_columns else self._limit
        depth = self._depth if self._engine.parallel or self._limit > LARGE_COLUMN else 1
        while len(self._ahead) < depth and not (self._ahead and self._reader.drained()):
            busy = self._ahead or self._writing is not None
            chunk = self._reader.take(self._limit, 0.0 if busy else POLL_SECONDS)
            if chunk is None or not chunk.lines:
                return chunk, None
            self._ahead.append((chunk, self._begun(chunk) if depth > 1 else None))
        return self._ahead.popleft()

    def _begun(self, chunk: Chunk) -> Rows:
        rows = self._engine.enter(chunk, early=True)
        if rows.begun is not None:
            rows.begun = self._host.ahead(rows.begun).result
        return rows

    def _drained(self) -> bool:
        """Tell whether no lines are left that were taken from the source before the stop."""
        self.state = "draining"
        if self._reader is None or (not self._ahead and self._reader.drained()):
            return True
        self._in_time()
        return False

    def _in_time(self) -> None:
        """After a stop, see to it that the end comes soon.

        Raises:
            RunError: it has not come within `DRAIN_SECONDS`.
        """
        if not self._stopping.is_set():
            return
        now = self._host.clock()
        self._drain_until = self._drain_until or now + DRAIN_SECONDS
        if now > self._drain_until:
            raise RunError(
                f"pipeline {self._engine.pipeline.name!r} did not come to its end within {DRAIN_SECONDS:g} s after it was"
                " stopped; the lines that it did not get to are in run.unfinished"
            )

    def _give_up(self) -> None:
        """Keep the lines that were taken from the source, and not brought to their end, as unfinished."""
        self._give_up_writing()
        while self._ahead:
            self._journal.leave(self._ahead.popleft()[0].lines)
        while self._reader is not None and not self._reader.drained():
            chunk = self._reader.take(MAX_BATCH, 0.0)
            if chunk is not None:
                self._journal.leave(chunk.lines)

    def _give_up_writing(self) -> None:
        """Book the batch that is being written if that succeeds; else keep its lines as unfinished."""
        if self._writing is None:
            return
        (batch, written), self._writing = self._writing, None
        if written.exception() is None:
            self._book(batch, written.result())
        else:
            self._journal.leave(batch.lines)

    def _one(self, chunk: Chunk, rows: Rows | None) -> None:
        """Work on one chunk, in several batches when it takes long."""
        start, lines, first = self._host.clock(), len(chunk.lines), self._handed_on()
        with self._lock:
            self._journal.begin(chunk)
        try:
            while True:
                batch = self._engine.process(chunk, first, self._host.clock() + PATIENCE, rows)
                self._hand_on(batch)
                if len(batch.lines) == len(chunk.lines):
                    break
                first, chunk, rows = self._handed_on(), chunk.split(len(batch.lines))[1], None
                if self._stopping.is_set() and self._reader is None:  # as if not read: they are still where they were
                    with self._lock:
                        self._journal.give_back(chunk)
                    break
                self._in_time()
        except BaseException:
            booked = max(self._journal.received - first, 0)
            self._give_up_writing()
            self._journal.leave(chunk.lines[booked:])
            raise
        self._adapt(lines, self._host.clock() - start)

    def _handed_on(self) -> int:
        """Return how many lines the sink has, or is being given: the number of the next one."""
        return self._journal.received + (0 if self._writing is None else len(self._writing[0].lines))

    def _hand_on(self, batch: Batch) -> None:
        """Give outputs to the sink, and book the batch when it has taken them.

        A large column is written by another thread, while the next batch is worked on.
        """
        values, line_no = batch.emitted()
        if isinstance(values, Column) and not getattr(self._sink, "columns", False):
            values = values.to_list()
        write = partial(self._sink.write, values, line_no) if len(values) else tuple
        self._settle()
        if isinstance(values, Column) and len(values) >= LARGE_COLUMN and batch.stopped is None:
            self._writing = batch, self._host.aside(write)
        else:
            self._book(batch, write())

    def _settle(self) -> None:
        """Wait for the batch that is being written, and book it."""
        if self._writing is not None:
            batch, written = self._writing
            refused = written.result()
            self._writing = None
            self._book(batch, refused)

    def _book(self, batch: Batch, refused: Sequence[tuple[int, BaseException]]) -> None:
        """Book a batch whose outputs the sink has taken, but for those that it refused."""
        for position, error in sorted(refused, key=lambda refusal: -refusal[0]):
            batch.refuse(position, error, self._host.now())
        with self._lock:
            self._journal.book(batch)
        if isinstance(batch.stopped, Stopped):
            failure = batch.stopped.failure
            why = "; mend what hangs" if failure.kind == "worker_died" else ' (on_error="stop")'
            raise ProcessorFailed(failure.where(self._engine.pipeline.name) + why) from batch.stopped.cause

    def _adapt(self, lines: int, seconds: float) -> None:
        """Choose the size of the next batch: grow under load, shrink when a batch takes long."""
        if seconds > 2 * self._seconds:
            self._limit = max(int(lines * self._seconds / seconds), self._engine.concurrency, 1)
        elif seconds < self._seconds and 2 * lines > self._limit:
            self._limit = min(self._limit * (8 if 8 * seconds < self._seconds else 2), self._most)

    def _tick(self, *, last: bool = False) -> None:
        """Write the history's row once a second, and at the end."""
        now = self._host.clock()
        if last or now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            with self._lock:
                self._journal.tick(self._host.now(), self.uptime())

    def _close(self) -> None:
        with contextlib.ExitStack() as stack:  # each is closed, whatever the others do
            stack.callback(self._host.close)
            stack.callback(self._source.close)
            stack.callback(self._sink.close)

    def _end(self, state: State) -> None:
        """Let go of everything, and be done, whatever happened."""
        try:
            self._uptime = self.uptime()
            if self._reader is not None:
                self._reader.close()
            self._close()
            self._give_up()
            self._tick(last=True)
        except BaseException as error:  # the first failure is the one to tell of
            self.exception, state = self.exception or error, "failed"
        finally:
            self.state = state
            self._done.set()


def _has_event_loop() -> bool:
    """Tell whether an event loop runs in the calling thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
