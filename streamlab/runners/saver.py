"""Saves where a run is, about once a second, while it goes on: what is saved is of one moment, between two batches.

The moment is taken in the run's thread; that it lasts is seen to in another one: first output and dead letters, then the
checkpoint's transaction, then the sink is told of it that holds outputs back until then, and then the source that it need
not keep the lines.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from streamlab.checkpoint import Checkpoint, Moment
from streamlab.dead_letters import DeadLetterQueue
from streamlab.engine import Engine
from streamlab.errors import CheckpointError
from streamlab.journal import Journal
from streamlab.notices import Notice
from streamlab.runners.endurance import Endurance
from streamlab.runners.hands import Hands
from streamlab.sinks import Durable, Settling, Sink
from streamlab.sources import Acknowledging, Resumable, Source
from streamlab.state import Packed, packed

#: Share of the time, at most, that taking moments may take of the run's thread; where one takes long, they are rarer.
SHARE = 0.02
#: Seconds between two moments, without a checkpoint that says so.
INTERVAL = 1.0


class Saver:
    """Takes moments and sees to it that they last.

    Args:
        checkpoint: where to; without one the source is still told what the sink has.
        engine: whose processors' state is saved.
        source: how far it is read.
        sink: how far it is written.
        letters: the dead letter queue, if there is one.
        journal: the books.
        writing: says what to do when the sink, in the run's thread, cannot be written for now.
        endurance: the same of the checkpoint, and of what it rests on, in the other thread.
        tell: takes a notice.

    Attributes:
        lasts: whether what is saved lasts, so that another run can go on with it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        engine: Engine,
        source: Source,
        sink: Sink,
        letters: DeadLetterQueue | None,
        journal: Journal,
        writing: Endurance,
        endurance: Endurance,
        tell: Callable[[Notice], None],
    ) -> None:
        self.lasts = checkpoint is not None
        self._checkpoint = checkpoint
        self._engine = engine
        self._source = source
        self._sink = sink
        self._letters = letters
        self._journal = journal
        self._writing = writing
        self._endurance = endurance
        self._tell = tell
        self._interval = INTERVAL if checkpoint is None else checkpoint.interval
        self._needed = self.lasts or isinstance(source, Acknowledging)
        self._hands: Hands | None = None
        self._lasting: Future[None] | None = None
        self._next = 0.0
        self._changed = True
        self._ticks = journal.history.ticks
        self._told: set[str] = set()

    def changed(self) -> None:
        """Take note that a batch has been booked since the last moment."""
        self._changed = True

    def due(self, now: float) -> bool:
        """Tell whether it is time for a moment.

        Raises:
            CheckpointError, SinkError: the last one could not be made to last.
        """
        if not self._changed or not self._needed or now < self._next:
            return False
        if self._lasting is None:
            return True
        if not self._lasting.done():
            return False
        self._lasting.result()
        return True

    def save(self, clock: Callable[[], float], uptime: float) -> None:
        """Take a moment; another thread sees to it that it lasts, see `finish_saving`."""
        if not self._needed:
            return
        start = clock()
        self.finish_saving()
        last = self._moment(uptime)
        if self._hands is None:
            self._hands = Hands(1, "streamlab-saver")
        self._lasting = self._hands.begin(last)
        self._changed = False
        now = clock()
        self._next = now + max(self._interval, (now - start) / SHARE)

    def finish_saving(self) -> None:
        """Wait until the last moment lasts; errors as of `due`."""
        if self._lasting is not None:
            lasting, self._lasting = self._lasting, None
            lasting.result()

    def close(self) -> None:
        """Let go of everything; a moment that has to wait is given up, see `finish_saving`."""
        self._endurance.end()
        try:
            self.finish_saving()
        finally:
            if self._hands is not None:
                self._hands.close()
            if self._checkpoint is not None:
                self._checkpoint.close()

    def _moment(self, uptime: float) -> Callable[[], None]:
        """Return what makes the moment last."""
        position = self._source.position() if isinstance(self._source, Resumable) else None
        sink = self._writing.call(self._sink.mark) if isinstance(self._sink, Durable) else None
        moment = None
        if self._checkpoint is not None:
            letters = None if self._letters is None else self._letters.mark()
            plain = {"source": position, "sink": sink, "letters": letters, "uptime": uptime, "books": self._journal.saved()}
            parts = {name: packed(value) for name, value in plain.items()} | self._states()
            history = self._journal.history
            oldest = history.ticks - len(history.since(0))
            rows = dict(enumerate(history.since(self._ticks), max(self._ticks, oldest)))
            self._ticks = history.ticks
            moment = Moment(parts, rows, oldest)
        return partial(self._last, moment, position, sink, self._journal.failures.dead)

    def _last(self, moment: Moment | None, position: Any, mark: Any, dead: int) -> None:
        """Make a moment last: whoever is told that lines need not be kept must be able to rely on it."""
        self._endurance.call(partial(self._written, moment, dead))
        if moment is not None and isinstance(self._sink, Settling):
            self._endurance.call(partial(self._sink.settle, mark))
        if isinstance(self._source, Acknowledging):
            self._source.acknowledge(position)

    def _written(self, moment: Moment | None, dead: int) -> None:
        if isinstance(self._sink, Durable):
            self._sink.sync()
        if self._letters is not None:
            self._letters.sync()
        if self._checkpoint is not None and moment is not None:
            self._checkpoint.save(moment)
            if self._letters is not None:
                self._letters.settle(dead)

    def _states(self) -> dict[str, Packed]:
        return {f"state/{name}": self._state(name, kept) for name, kept in self._engine.kept().items()}

    def _state(self, name: str, kept: Callable[[], Any]) -> Packed:
        here = f"pipeline {self._engine.pipeline.name!r}, processor {name!r}"
        try:
            state = packed(kept())
        except Exception as error:  # of the user's code, or of values that cannot be saved
            raise CheckpointError(
                f"{here}: its state cannot be saved: {type(error).__name__}: {error}; leave out what cannot be with"
                " __getstate__, and make it anew in __setstate__"
            ) from error
        if state.pickled and name not in self._told:
            self._told.add(name)
            message = f"{here}: its state is more than plain data: it is pickled, and only read from a folder of one's own"
            self._tell(Notice("pickled", name, message))
        return state
