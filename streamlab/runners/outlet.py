"""What goes out: outputs to the sink, in order; large columns in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch
from streamlab.columns import Column
from streamlab.runners.endurance import Endurance
from streamlab.runners.host import LocalHost
from streamlab.sinks import Sink

#: Outputs of a column that are worth a thread to write them.
LARGE = 8_192

#: Positions of the outputs that the sink refused, and why.
Refused = Sequence[tuple[int, BaseException]]


class Outlet:
    """Hands outputs to the sink, in the run's thread or, while the next batch is worked on, in one for that.

    Args:
        sink: takes the outputs.
        host: has the thread.
        endurance: says what to do when the sink takes nothing for now.
        book: is called with each batch, in order, once the sink has taken its outputs, and with what it has refused.
    """

    def __init__(self, sink: Sink, host: LocalHost, endurance: Endurance, book: Callable[[Batch, Refused], None]) -> None:
        self._sink = sink
        self._host = host
        self._endurance = endurance
        self._book = book
        self._writing: tuple[Batch, Future[Refused]] | None = None

    @property
    def writing(self) -> bool:
        """Whether a batch is being written in the other thread."""
        return self._writing is not None

    @property
    def lines(self) -> int:
        """How many lines that batch has; 0 without any."""
        return 0 if self._writing is None else len(self._writing[0].lines)

    def hand_on(self, batch: Batch) -> None:
        """Give the outputs of a batch to the sink.

        Raises:
            SinkError: it takes nothing any more: nothing of this batch, or nothing of the one before.
        """
        values, line_no = batch.emitted()
        if isinstance(values, Column) and not getattr(self._sink, "columns", False):
            values = values.to_list()
        write: Callable[[], Refused] = partial(self._write, values, line_no) if len(values) else tuple
        self.finish_writing()
        apart = isinstance(values, Column) and len(values) >= LARGE and getattr(self._sink, "any_thread", False)
        if apart and batch.stopped is None:
            self._writing = batch, self._host.aside(write)
        else:
            self._book(batch, write())

    def _write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Refused:
        return self._endurance.call(partial(self._sink.write, values, line_no))

    def finish_writing(self) -> None:
        """Wait for the batch that is being written, and book it; errors as of `hand_on`."""
        if self._writing is not None:
            batch, written = self._writing
            refused = written.result()
            self._writing = None
            self._book(batch, refused)

    def give_up(self) -> Sequence[str]:
        """Book the batch that is being written, if that succeeds; else return its lines."""
        if self._writing is None:
            return ()
        (batch, written), self._writing = self._writing, None
        if written.exception() is not None:
            return batch.lines
        self._book(batch, written.result())
        return ()
