"""The work of a local run: lines from the source through the engine of this process, and on to the sink."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from streamlab.batch import Batch, Chunk, Rows
from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.engine import Engine
from streamlab.errors import ProcessorFailed
from streamlab.journal import Journal
from streamlab.runners.endurance import OnOutage
from streamlab.runners.host import LocalHost
from streamlab.runners.intake import Intake
from streamlab.runners.outlet import Outlet, Refused
from streamlab.runners.watchdog import Watchdog
from streamlab.runners.work import POLL_SECONDS, Work
from streamlab.segments import Stopped
from streamlab.sinks import Sink
from streamlab.sources import Resumable, Source
from streamlab.state import Packed, saved

#: Seconds after which a batch is cut: what is done is handed on, the rest is the next one.
PATIENCE = 0.1


class EmbeddedWork(Work):
    """Works on lines in the run's thread, with an engine.

    Args:
        engine: works on lines.
        source: as of `Work`.
        sink: as of `Work`.
        journal: as of `Work`.
        host: of the engine.
        stopping: as of `Work`.
        letters: as of `Work`.
        checkpoint: as of `Work`.
        on_outage: as of `Work`.
        watchdog: seconds that a processor may be at one line before it is told.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        sink: Sink,
        journal: Journal,
        host: LocalHost,
        stopping: threading.Event,
        *,
        letters: DeadLetterQueue | None = None,
        checkpoint: Checkpoint | None = None,
        on_outage: OnOutage = "fail",
        watchdog: float | None = None,
    ) -> None:
        super().__init__(
            engine.pipeline.name,
            source,
            sink,
            journal,
            host,
            stopping,
            letters=letters,
            checkpoint=checkpoint,
            on_outage=on_outage,
        )
        self._engine = engine
        self._intake = Intake(engine, source, host)
        self.reader = self._intake.reader
        self._outlet = Outlet(sink, host, self._endurance, self._book)
        self._watch_after = watchdog
        self._watchdog: Watchdog | None = None
        self._under_way: tuple[float, int | None] | None = None  # since when, and the batch's first line

    def progress(self) -> float | None:
        """Return the share of the source that has been read and worked on."""
        share, lines = self.source.progress(), self._intake.lines()
        if share is None or not lines:
            return share
        return share * min((self._journal.received - self._journal.resumed) / lines, 1.0)

    def _open(self) -> None:
        """Do nothing: the engine is ready."""

    def _watch(self) -> None:
        """Tell of a processor that is at one line for long."""
        if self._watch_after is not None:
            self._watchdog = Watchdog(
                self._engine.pipeline.name,
                self._ident,
                lambda: self._under_way if self.waiting is None else None,  # who waits does not hang
                self.books.say,
                seconds=self._watch_after,
            )

    def _settle(self) -> None:
        """Have the batch booked that is being written."""
        self._outlet.finish_writing()

    def _let_go(self) -> None:
        """End the watch."""
        self._under_way = None
        if self._watchdog is not None:
            self._watchdog.close()

    def _flush(self) -> None:
        """Bring what processors have left to its end; once, also if the run is gone on with after that."""
        if self._journal.flushed:
            return
        self._under_way = self._host.clock(), None
        for batch in self._engine.flush():
            self._outlet.hand_on(batch)
            self._in_time()
            self._under_way = self._host.clock(), None
        self._journal.flushed, self._under_way = True, None

    def _until_ended(self) -> bool:
        """Take lines and work on them until the source has ended, or a stop was asked for and the buffer is empty.

        Returns:
            Whether the source has ended.
        """
        self._watch()
        while True:
            self._hold()
            if self.stopping.is_set() and self._drained():
                return False
            chunk, rows = self._intake.next(0.0 if self._outlet.writing else POLL_SECONDS)
            if chunk is None:
                self._outlet.finish_writing()
            elif chunk.lines:
                self._one(chunk, rows)
            else:
                return not self.stopping.is_set()
            self._save_if_due()
            self.books.tick()

    def _drained(self) -> bool:
        """Tell whether no lines are left that were taken from the source before the stop."""
        self._phase = "draining"
        if self._pump is not None and not self.source.blocking:
            self._pump.join(POLL_SECONDS)  # it is at its last lines
        if self._intake.drained():
            return True
        self._in_time()
        return False

    def give_up(self) -> None:
        """Keep the lines that were taken from the source, and not brought to their end, as unfinished."""
        try:
            self._journal.leave(self._outlet.give_up())
        finally:
            for lines in self._intake.left():
                self._journal.leave(lines)

    def _one(self, chunk: Chunk, rows: Rows | None) -> None:
        """Work on one chunk, in several batches when it takes long."""
        start, lines, first = self._host.clock(), len(chunk.lines), self._handed_on()
        self.books.begin(chunk)
        try:
            while True:
                now = self._host.clock()
                self._under_way = now, first
                batch = self._engine.process(chunk, first, now + PATIENCE, rows)
                self._outlet.hand_on(batch)
                self._under_way = None
                if len(batch.lines) == len(chunk.lines):
                    break
                self._save_if_due()
                self.books.tick()
                first, chunk, rows = self._handed_on(), chunk.split(len(batch.lines))[1], None
                if self.stopping.is_set() and self._intake.reader is None:  # as if not read: they are still where they were
                    self.books.give_back(chunk)
                    break
                self._in_time()
        except BaseException:
            # None of them is booked while the batch before is still being written: that comes first.
            booked = max(self._journal.received - first, 0)
            self._journal.leave(self._outlet.give_up())
            self._journal.leave(chunk.lines[booked:])
            raise
        self._intake.adapt(lines, self._host.clock() - start)

    def _handed_on(self) -> int:
        """Return how many lines the sink has, or is being given: the number of the next one."""
        return self._journal.received + self._outlet.lines

    def _book(self, batch: Batch, refused: Refused) -> None:
        """Book a batch whose outputs the sink has taken, but for those that it refused."""
        dead = self.books.book(batch, refused)
        self._saver.changed()
        if dead and self._letters is not None:
            self._write_letters(self._letters, dead)
        if isinstance(batch.stopped, Stopped):
            failure = batch.stopped.failure
            why = "; mend what hangs" if failure.kind == "worker_died" else ' (on_error="stop")'
            where = self._journal.covered(failure.where(self._engine.pipeline.name))
            raise ProcessorFailed(where + why) from batch.stopped.cause
        if batch.places is not None and isinstance(self.source, Resumable):
            self.source.passed(batch.places, len(batch.lines))
        batch.places = None  # they hold what the lines were read from

    def _states(self) -> dict[str, Packed]:
        """Return what processors keep."""
        return {f"state/{name}": self._state(name, kept) for name, kept in self._engine.kept().items()}

    def _state(self, name: str, kept: Callable[[], Any]) -> Packed:
        state = saved(self._engine.pipeline.name, name, kept)
        if state.pickled:
            self._tell_pickled(name)
        return state
