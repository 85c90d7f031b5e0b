"""Saves where a run is, about once a second, while it goes on: what is saved is of one moment, between two batches.

The moment is taken in the run's thread; that it lasts is seen to in another one: first output and dead letters, then the
checkpoint's transaction, then output is shown or written that was held back until then, and the source is told that it
need not keep the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from streamlab.checkpoint import Checkpoint, Moment
from streamlab.dead_letters import DeadLetterQueue
from streamlab.journal import Journal
from streamlab.runners.endurance import Endurance
from streamlab.runners.hands import Hands
from streamlab.sinks import Durable, Publishing, Settling, Sink
from streamlab.sources import Acknowledging, Resumable, Source
from streamlab.state import Packed, packed

#: Share of the time, at most, that taking moments may take of the run's thread; where one takes long, they are rarer.
SHARE = 0.02
#: Seconds between two moments, without a checkpoint that says so.
INTERVAL = 1.0


class Saver:
    """Takes moments and sees to it that they last.

    Args:
        checkpoint: where to; without one the source is still told what the sink has, and the sink what it may show.
        states: gives what processors keep, by the name of a part of the checkpoint.
        source: how far it is read.
        sink: how far it is written.
        letters: the dead letter queue, if there is one.
        journal: the books.
        writing: says what to do when the sink, in the run's thread, cannot be written for now.
        endurance: the same of the checkpoint, and of what it rests on, in the other thread.

    Attributes:
        lasts: whether what is saved lasts, so that another run can go on with it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        states: Callable[[], Mapping[str, Packed]],
        source: Source,
        sink: Sink,
        letters: DeadLetterQueue | None,
        journal: Journal,
        writing: Endurance,
        endurance: Endurance,
    ) -> None:
        self.lasts = checkpoint is not None
        self._checkpoint = checkpoint
        self._states = states
        self._source = source
        self._sink = sink
        self._letters = letters
        self._journal = journal
        self._writing = writing
        self._endurance = endurance
        self._interval = INTERVAL if checkpoint is None else checkpoint.interval
        self._needed = self.lasts or isinstance(source, Acknowledging) or isinstance(sink, Publishing)
        self._hands: Hands | None = None
        self._lasting: Future[None] | None = None
        self._next = 0.0
        self._changed = True
        self._ticks = journal.history.ticks

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
            try:
                lasting.result()
            except BaseException:
                self._changed = True
                raise

    def close(self) -> None:
        """Let go of everything; a moment that has to wait is given up, see `finish_saving`."""
        self._endurance.end()
        try:
            try:
                self.finish_saving()
            finally:
                self._show_rest()
        finally:
            if self._hands is not None:
                self._hands.close()
            if self._checkpoint is not None:
                self._checkpoint.close()

    def _show_rest(self) -> None:
        """Of a run that has failed, show what was written since the last moment, if nobody goes on there."""
        changed, self._changed = self._changed, False
        if changed and not self.lasts and isinstance(self._sink, Publishing):
            self._moment(0.0)()

    def _moment(self, uptime: float) -> Callable[[], None]:
        """Return what makes the moment last."""
        position = self._source.position() if isinstance(self._source, Resumable) else None
        sink = self._writing.call(self._sink.mark) if isinstance(self._sink, Durable) else None
        moment = None
        if self._checkpoint is not None:
            letters = None if self._letters is None else self._letters.mark()
            plain = {"source": position, "sink": sink, "letters": letters, "uptime": uptime, "books": self._journal.saved()}
            parts = {name: packed(value) for name, value in plain.items()} | dict(self._states())
            history = self._journal.history
            oldest = history.ticks - len(history.since(0))
            rows = dict(enumerate(history.since(self._ticks), max(self._ticks, oldest)))
            self._ticks = history.ticks
            moment = Moment(parts, rows, oldest)
        return partial(self._last, moment, position, sink, self._journal.failures.dead)

    def _last(self, moment: Moment | None, position: Any, sink: Any, dead: int) -> None:
        """Make a moment last: whoever is told that lines need not be kept must be able to rely on it."""
        self._endurance.call(partial(self._written, moment, dead))
        if isinstance(self._sink, Publishing):
            self._endurance.call(partial(self._sink.publish, sink))
        if moment is not None and isinstance(self._sink, Settling):
            self._endurance.call(partial(self._sink.settle, sink))
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
