"""What the thread of a run does: take lines, work on them, hand outputs on, save, and end in order."""

from __future__ import annotations

import contextlib
import threading
from functools import partial

from streamlab.batch import Batch, Chunk, Rows
from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.engine import Engine
from streamlab.errors import Outage, ProcessorFailed, RunError
from streamlab.failures import Failure
from streamlab.journal import Journal
from streamlab.notices import Notice
from streamlab.runners import ENDED, State
from streamlab.runners.bookkeeper import Bookkeeper
from streamlab.runners.endurance import Endurance, OnOutage
from streamlab.runners.host import LocalHost
from streamlab.runners.intake import Intake
from streamlab.runners.outlet import Outlet, Refused
from streamlab.runners.saver import Saver
from streamlab.runners.watchdog import Watchdog
from streamlab.segments import Stopped
from streamlab.sinks import Finishing, Sink
from streamlab.sources import Resumable, Source

#: Seconds after which a batch is cut: what is done is handed on, the rest is the next one.
PATIENCE = 0.1
#: Seconds between two looks at a source that has nothing, at most.
POLL_SECONDS = 0.25
#: Seconds that lines which were taken from the source have to come to their end after a stop.
DRAIN_SECONDS = 10.0


class Work:
    """The work of one run, in one thread; others hold it by its events.

    Attributes:
        name: the pipeline's.
        source: where lines come from.
        exception: why it failed.
        waiting: what it waits for before it can go on; ``None`` while it need not.
        intake: takes the lines.
        books: keeps the journal.
        stopping: set to have it end.
        going: cleared to have it take no more lines for now.
        first: set when the first moment lasts, or never will.
        refused: whether it never will.
        done: set at the end.
        apart: whether the source is read by a thread of the run.
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
        self.exception: BaseException | None = None
        self.waiting: str | None = None
        self.name = engine.pipeline.name
        self._phase: State = "starting"
        self._saving_waits = False
        self._ident = 0
        self._engine = engine
        self.source = source
        self._sink = sink
        self._letters = letters
        self._journal = journal
        self._host = host
        self.stopping = stopping
        self._endurance = Endurance(on_outage, stopping, partial(self._wait_for, sink.name))
        self._queueing = Endurance(on_outage, stopping, partial(self._wait_for, "" if letters is None else letters.name))
        self.intake = Intake(engine, source, host)
        self.books = Bookkeeper(journal, host, (source, sink, letters))
        self._outlet = Outlet(sink, host, self._endurance, self._book)
        waiting = Endurance(on_outage, stopping, self._checkpoint_waits)  # lines flow on meanwhile
        self._saver = Saver(checkpoint, engine, source, sink, letters, journal, self._endurance, waiting, self.books.say)
        self.going = threading.Event()
        self.going.set()
        self.first = threading.Event()  # the first moment lasts, or never will
        self.refused = False  # it never will
        self.done = threading.Event()
        self._watch_after = watchdog
        self._watchdog: Watchdog | None = None
        self._under_way: tuple[float, int | None] | None = None  # since when, and the batch's first line
        self._drain_until: float | None = None
        self.apart = True  # whether the source is read by a thread of the run
        self._pump: threading.Thread | None = None

    @property
    def state(self) -> State:
        """Where it is: what its thread is at, unless that has to wait for something, or is to come to its end."""
        phase = self._phase
        if phase in ENDED:
            return phase
        if self.stopping.is_set():
            return "draining"
        return phase if self.waiting is None else "paused"

    def progress(self) -> float | None:
        """Return the share of the source that has been read and worked on."""
        share, lines = self.source.progress(), self.intake.lines()
        if share is None or not lines:
            return share
        return share * min((self._journal.received - self._journal.resumed) / lines, 1.0)

    def do(self) -> None:
        """Work to the end; nothing is raised, see `exception`."""
        self._ident = threading.get_ident()
        state: State = "failed"
        try:
            if self._begin():
                self._go()
            self._close()
            state = "stopped" if self.stopping.is_set() else "finished"
        except KeyboardInterrupt as interrupt:  # raised by a processor: as good as the user's
            self.exception = interrupt
            state = "stopped"
        except BaseException as error:  # kept for the user, who is in another thread
            self.exception = error
        finally:
            self._end(state)

    def _begin(self) -> bool:
        """Save where the run begins, so that whatever comes after it can be taken back; tell whether it may go on.

        It may not when it was stopped while that could not be saved: nothing has been read, and nothing is lost.
        """
        try:
            self._save()
            self._saver.finish_saving()
        except Outage:
            if self.stopping.is_set():
                return False
            self.refused = True
            raise
        except BaseException:
            self.refused = True
            raise
        self.waiting = None
        if self.apart and self.intake.reader is not None:
            self._pump = threading.Thread(target=self.intake.reader.pump, name="streamlab-reader", daemon=True)
            self._pump.start()
        self.first.set()
        return True

    def _go(self) -> None:
        """Work until the end, and save it."""
        self._phase = "running"
        if self._watch_after is not None:
            self._watchdog = Watchdog(
                self._engine.pipeline.name,
                self._ident,
                lambda: self._under_way if self.waiting is None else None,  # who waits does not hang
                self.books.say,
                seconds=self._watch_after,
            )
        ended = self._until_ended()
        self._phase = "draining"
        if ended or not self._saver.lasts:  # else whoever goes on with this run still needs what processors keep
            self._flush()
        self._outlet.finish_writing()
        if isinstance(self._sink, Finishing):
            self._endurance.call(self._sink.finish)
        self.books.end()  # the uptime that is saved is the one that it has at the end
        self.books.tick(last=True)
        self._journal.ended = True
        self._save()
        self._saver.finish_saving()

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
        while True:
            self._hold()
            if self.stopping.is_set() and self._drained():
                return False
            chunk, rows = self.intake.next(0.0 if self._outlet.writing else POLL_SECONDS)
            if chunk is None:
                self._outlet.finish_writing()
            elif chunk.lines:
                self._one(chunk, rows)
            else:
                return not self.stopping.is_set()
            self._save_if_due()
            self.books.tick()

    def _hold(self) -> None:
        """Wait while the run is paused."""
        if self.going.is_set():
            return
        self._outlet.finish_writing()
        self._phase = "paused"
        while not self.going.wait(POLL_SECONDS) and not self.stopping.is_set():
            self._save_if_due()
            self.books.tick()
        self._phase = "running"

    def _drained(self) -> bool:
        """Tell whether no lines are left that were taken from the source before the stop."""
        self._phase = "draining"
        if self._pump is not None and not self.source.blocking:
            self._pump.join(POLL_SECONDS)  # it is at its last lines
        if self.intake.drained():
            return True
        self._in_time()
        return False

    def _in_time(self) -> None:
        """After a stop, see to it that the end comes soon.

        Raises:
            RunError: it has not come within `DRAIN_SECONDS`.
        """
        if not self.stopping.is_set():
            return
        now = self._host.clock()
        self._drain_until = self._drain_until or now + DRAIN_SECONDS
        if now > self._drain_until:
            raise RunError(
                f"pipeline {self._engine.pipeline.name!r} did not come to its end within {DRAIN_SECONDS:g} s after it was"
                " stopped; the lines that it did not get to are in run.unfinished"
            )

    def give_up(self) -> None:
        """Keep the lines that were taken from the source, and not brought to their end, as unfinished."""
        try:
            self._journal.leave(self._outlet.give_up())
        finally:
            for lines in self.intake.left():
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
                if self.stopping.is_set() and self.intake.reader is None:  # as if not read: they are still where they were
                    self.books.give_back(chunk)
                    break
                self._in_time()
        except BaseException:
            # None of them is booked while the batch before is still being written: that comes first.
            booked = max(self._journal.received - first, 0)
            self._journal.leave(self._outlet.give_up())
            self._journal.leave(chunk.lines[booked:])
            raise
        self.intake.adapt(lines, self._host.clock() - start)

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

    def _write_letters(self, queue: DeadLetterQueue, dead: list[Failure]) -> None:
        """Write dead letters to the queue; tell how many are not in it if it takes no more."""
        pieces = queue.packed(dead)
        for piece in pieces:
            try:
                self._queueing.call(partial(queue.write, piece))
            except BaseException as error:
                left = sum(part.count(b"\n") for part in (piece, *pieces))
                why = "their lines come again when the run is gone on with" if self._saver.lasts else "then they are lost"
                message = (
                    f"{left:,} dead letter{' is' if left == 1 else 's are'} not in {queue.name}, but in run.dead_letters, as"
                    f" long as this process is there; {why}: {error}"
                )
                self.books.say(Notice("left", queue.name, message))
                raise

    def _wait_for(self, where: str, what: str | None) -> None:
        """Tell what the run waits for, or that it goes on."""
        if what is not None and self.waiting is None:
            self.books.say(Notice("waiting", where, what))
        self.waiting = what
        if threading.get_ident() == self._ident:
            self.books.tick()

    def _checkpoint_waits(self, what: str | None) -> None:
        if what is not None and not self._saving_waits:
            self.books.say(Notice("waiting", "checkpoint", what))
        self._saving_waits = what is not None
        if self._phase == "starting":  # before anything is read; later, lines flow on meanwhile
            self.waiting = what

    def _save_if_due(self) -> None:
        """Save where the run is, if it is time."""
        if self._saver.due(self._host.clock()):
            self._outlet.finish_writing()
            self._save()

    def _save(self) -> None:
        self._saver.save(self._host.clock, self.books.uptime())

    def _close(self) -> None:
        with contextlib.ExitStack() as stack:  # each is closed, whatever the others do
            stack.callback(self._host.close)
            stack.callback(self.source.close)
            stack.callback(self._sink.close)
            if self._letters is not None:
                stack.callback(self._letters.close)
            stack.callback(self._saver.close)

    def _end(self, state: State) -> None:
        """Let go of everything, and be done, whatever happened."""
        self.books.end()
        self._under_way = None
        for step in (self._end_watch, self._end_reading, self.give_up, self._close, self._say_last):
            try:
                step()
            except BaseException as error:  # the first is the one to tell of; the next step is done whatever happened
                self.exception, state = self.exception or error, "failed"
        self._phase, self.waiting = state, None
        self.first.set()
        self.done.set()

    def _end_watch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()

    def _end_reading(self) -> None:
        self.intake.close()
        if self._pump is not None and not self.source.blocking:
            self._pump.join(POLL_SECONDS)

    def _say_last(self) -> None:
        self.books.hear()
        if self.exception is not None:
            self.books.tick(last=True)
