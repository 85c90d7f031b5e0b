"""The life of a run: begin, bring lines to their end, save, and end in order. How lines are worked on is left open."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial

from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.errors import Outage, RunError
from streamlab.failures import Failure
from streamlab.journal import Journal
from streamlab.notices import Notice
from streamlab.runners import ENDED, State
from streamlab.runners.bookkeeper import Bookkeeper
from streamlab.runners.endurance import Endurance, OnOutage
from streamlab.runners.host import LocalHost
from streamlab.runners.reader import Reader
from streamlab.runners.saver import Saver
from streamlab.sinks import Finishing, Sink
from streamlab.sources import Listening, Source
from streamlab.state import Packed

#: Seconds between two looks at a source that has nothing, at most.
POLL_SECONDS = 0.25
#: Seconds that lines which were taken from the source have to come to their end after a stop.
DRAIN_SECONDS = 10.0


class Work(ABC):
    """The work of one run, in one thread; others hold it by its events.

    Args:
        name: the pipeline's.
        source: where lines come from.
        sink: where outputs go.
        journal: the books.
        host: has clocks and threads.
        stopping: set to have it end.
        letters: the dead letter queue, if there is one.
        checkpoint: where it is saved how far the run is.
        on_outage: what to do when nothing can be written for now.

    Attributes:
        name: the pipeline's.
        source: where lines come from.
        reader: reads the source in another thread; ``None`` where it has its lines at hand and nothing is gained.
        exception: why it failed.
        waiting: what it waits for before it can go on; ``None`` while it need not.
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
        name: str,
        source: Source,
        sink: Sink,
        journal: Journal,
        host: LocalHost,
        stopping: threading.Event,
        *,
        letters: DeadLetterQueue | None = None,
        checkpoint: Checkpoint | None = None,
        on_outage: OnOutage = "fail",
    ) -> None:
        self.exception: BaseException | None = None
        self.waiting: str | None = None
        self.reader: Reader | None = None
        self.name = name
        self._phase: State = "starting"
        self._saving_waits = False
        self._ident = 0
        self.source = source
        self._sink = sink
        self._letters = letters
        self._journal = journal
        self._host = host
        self.stopping = stopping
        self._endurance = Endurance(on_outage, stopping, partial(self._wait_for, sink.name))
        self._queueing = Endurance(on_outage, stopping, partial(self._wait_for, "" if letters is None else letters.name))
        self.books = Bookkeeper(journal, host, (source, sink, letters))
        waiting = Endurance(on_outage, stopping, self._checkpoint_waits)  # lines flow on meanwhile
        self._saver = Saver(checkpoint, self._states, source, sink, letters, journal, self._endurance, waiting)
        self.going = threading.Event()
        self.going.set()
        self.first = threading.Event()  # the first moment lasts, or never will
        self.refused = False  # it never will
        self.done = threading.Event()
        self._drain_until: float | None = None
        self._pickled: set[str] = set()  # processors of which that has been told
        self.apart = True  # whether the source is read by a thread of the run
        self._pump: threading.Thread | None = None

    # What is left open

    @abstractmethod
    def progress(self) -> float | None:
        """Return the share of the source that has been read and worked on."""

    @abstractmethod
    def give_up(self) -> None:
        """Keep the lines that were taken from the source, and not brought to their end, as unfinished."""

    @abstractmethod
    def _until_ended(self) -> bool:
        """Take lines and work on them until the source has ended, or a stop was asked for and none are left.

        Returns:
            Whether the source has ended.
        """

    @abstractmethod
    def _flush(self) -> None:
        """Bring what processors have left to its end; once, also if the run is gone on with after that."""

    @abstractmethod
    def _states(self) -> Mapping[str, Packed]:
        """Return what processors keep at this moment, by the name of a part of the checkpoint."""

    @abstractmethod
    def _open(self) -> None:
        """Make ready, before the first moment."""

    @abstractmethod
    def _settle(self) -> None:
        """Have all that was worked on booked."""

    @abstractmethod
    def _let_go(self) -> None:
        """Let go of what works on lines."""

    def close_intake(self) -> None:
        """Read no more; of what listens, no more than has come."""
        if self.reader is not None:
            if isinstance(self.source, Listening):
                self.source.stop_receiving()
            else:
                self.reader.close()
            self.reader.wake()

    @property
    def state(self) -> State:
        """Where it is: what its thread is at, unless that has to wait for something, or is to come to its end."""
        phase = self._phase
        if phase in ENDED:
            return phase
        if self.stopping.is_set():
            return "draining"
        return phase if self.waiting is None else "paused"

    # The way from beginning to end

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
            self._open()
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
        if self.apart and self.reader is not None:
            self._pump = threading.Thread(target=self.reader.pump, name="streamlab-reader", daemon=True)
            self._pump.start()
        self.first.set()
        return True

    def _go(self) -> None:
        """Work until the end, and save it."""
        self._phase = "running"
        ended = self._until_ended()
        self._phase = "draining"
        if ended or not self._saver.lasts:  # else whoever goes on with this run still needs what processors keep
            self._flush()
        self._settle()
        if isinstance(self._sink, Finishing):
            self._endurance.call(self._sink.finish)
        self.books.end()  # the uptime that is saved is the one that it has at the end
        self.books.tick(last=True)
        self._journal.ended = True
        self._save()
        self._saver.finish_saving()

    def _hold(self) -> None:
        """Wait while the run is paused."""
        if self.going.is_set():
            return
        self._settle()
        self._phase = "paused"
        while not self.going.wait(POLL_SECONDS) and not self.stopping.is_set():
            self._save_if_due()
            self.books.tick()
        self._phase = "running"

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
                f"pipeline {self.name!r} did not come to its end within {DRAIN_SECONDS:g} s after it was"
                " stopped; the lines that it did not get to are in run.unfinished"
            )

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

    def _tell_pickled(self, name: str) -> None:
        """Say once of a processor that what it keeps is pickled."""
        if name not in self._pickled:
            self._pickled.add(name)
            here = f"pipeline {self.name!r}, processor {name!r}"
            message = f"{here}: its state is more than plain data: it is pickled, and only read from a folder of one's own"
            self.books.say(Notice("pickled", name, message))

    def _save_if_due(self) -> None:
        """Save where the run is, if it is time."""
        if self._saver.due(self._host.clock()):
            self._settle()
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
        for step in (self._let_go, self._end_reading, self.give_up, self._close, self._say_last):
            try:
                step()
            except BaseException as error:  # the first is the one to tell of; the next step is done whatever happened
                self.exception, state = self.exception or error, "failed"
        self._phase, self.waiting = state, None
        self.first.set()
        self.done.set()

    def _end_reading(self) -> None:
        self.close_intake()
        if self._pump is not None and not self.source.blocking:
            self._pump.join(POLL_SECONDS)

    def _say_last(self) -> None:
        self.books.hear()
        if self.exception is not None:
            self.books.tick(last=True)
