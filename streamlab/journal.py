"""What a run keeps of itself: the ledger, history, traces and failures, booked batch by batch, all or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from streamlab.batch import Batch, Chunk
from streamlab.crew import WorkerInfo
from streamlab.failures import Failure, Failures
from streamlab.metrics import History, Ledger, Snapshot
from streamlab.notices import Notices
from streamlab.redaction import Redactor
from streamlab.traces import Traces


@dataclass(slots=True)
class Journal:
    """The books of a run. Whoever reads them while it is running holds the runner's lock.

    Attributes:
        received: lines booked so far, which is the number of the next one.
        notices: what happened beside the lines.
        flushed: whether processors have given what was left, and no line came since.
        ended: whether the run has come to its end, and writes nothing more.
        resumed: lines that were booked by the runs that this one goes on with.
        earlier: seconds that these took.
        lineage: tells the run, and those that it goes on with, from all others.
        version: of its pipeline.
        redactor: covers what nobody is to read, before anything is kept.
        unfinished: lines that were read and not brought to an end, with their numbers.
        workers: on a cluster, the ledger of each worker, by name; their sum is the ledger, but for what a sink refused.
        on_cluster: whether there are workers, or were before.
        crew: the workers that are there now.
        estimates: by worker how many lines it says that it has worked on; some of them may have to be done once more.
    """

    ledger: Ledger
    history: History
    traces: Traces
    failures: Failures
    received: int = 0
    notices: Notices = field(default_factory=Notices)
    flushed: bool = False
    ended: bool = False
    resumed: int = 0
    earlier: float = 0.0
    lineage: str = ""
    version: str = ""
    redactor: Redactor | None = None
    unfinished: list[tuple[int, str]] = field(default_factory=list)
    workers: dict[str, Ledger] = field(default_factory=dict)
    on_cluster: bool = False
    crew: Sequence[WorkerInfo] = ()
    estimates: dict[str, int] = field(default_factory=dict)

    def begin(self, chunk: Chunk) -> None:
        """Book lines that are handed to the engine: those that enter are in flight until their batch is booked."""
        self.ledger.pending += chunk.entering

    def give_back(self, chunk: Chunk) -> None:
        """Forget lines that were handed to the engine, and that it has not begun with."""
        self.ledger.pending -= chunk.entering

    def leave(self, lines: Sequence[str]) -> None:
        """Keep lines that were read after all others, and that nobody will work on."""
        first = max(self.received, self.unfinished[-1][0] + 1 if self.unfinished else 0)
        self._keep_unfinished(enumerate(lines, first))

    def book(self, batch: Batch, seconds: float | None = None) -> list[Failure]:
        """Book what came of them, and how long it took since they were taken from the source; return the dead letters."""
        self.ledger.book(batch, seconds)
        kept = batch
        if self.redactor is not None:
            kept = self.redactor.batch(batch, traced=self.traces.mode is not False)
        self.traces.book(kept)
        dead = self.failures.extend(kept.failures)
        self.received += len(batch.lines)
        self.flushed = self.flushed and batch.first < 0
        if batch.stopped is not None and batch.first >= 0:
            standing = [node.kind == "visit" for node in batch.paths.nodes]
            rows = [row for row, id in enumerate(batch.ids.tolist()) if standing[id]]
            lines = dict.fromkeys(row if batch.origin is None else int(batch.origin[row]) for row in rows)
            self._keep_unfinished((batch.first + index, batch.lines[index]) for index in lines)
        return dead

    def covered(self, text: str) -> str:
        """Return a text as it may be shown."""
        return text if self.redactor is None else self.redactor.texts([text])[0]

    def _keep_unfinished(self, lines: Iterable[tuple[int, str]]) -> None:
        """Keep lines that were not brought to an end, with their numbers."""
        kept = list(lines)
        if self.redactor is not None:
            texts = self.redactor.texts([line for _, line in kept])
            kept = [(number, text) for (number, _), text in zip(kept, texts, strict=True)]
        self.unfinished += kept

    def saved(self) -> dict[str, Any]:
        """Return what counts on in a run that goes on with this one, as plain data, without what is under way."""
        settled = copy(self.ledger)
        settled.pending = 0
        return {
            "received": self.received,
            "flushed": self.flushed,
            "ended": self.ended,
            "ledger": settled.saved(),
            "failures": [self.failures.total, self.failures.dead],
            "lost": [self.notices.lost_lines, self.notices.lost_bytes],
            "workers": {name: ledger.saved() for name, ledger in self.workers.items()},
        }

    def restore(self, saved: Mapping[str, Any], history: Iterable[tuple[int, Any]], uptime: float) -> None:
        """Go on where another journal was when it was `saved`, after so many seconds."""
        self.received = self.resumed = saved["received"]
        self.flushed, self.earlier = saved["flushed"], uptime
        self.ledger.restore(saved["ledger"])
        self.failures.total, self.failures.dead = saved["failures"]
        self.notices.lost_lines, self.notices.lost_bytes = saved["lost"]
        self.on_cluster |= bool(saved.get("workers"))
        for name, ledger in saved.get("workers", {}).items():
            self.workers[name] = Ledger("")
            self.workers[name].restore(ledger)
        self.history.restore(history, self.ledger.snapshot(uptime))

    def tick(self, time: float, uptime: float) -> Snapshot:
        """Book the moment in the history."""
        snapshot = self.ledger.snapshot(uptime)
        self.history.tick(time, snapshot)
        return snapshot
