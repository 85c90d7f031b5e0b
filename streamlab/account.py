"""`Account`: what a run tells of itself at any moment: its state, its tables, and plain data for views. It only reads."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamlab import report
from streamlab.dead_letters.letter import LETTER_COLUMNS, letters_of
from streamlab.errors import RunError, TraceError
from streamlab.failures import CLUSTER_COLUMNS, ERROR_COLUMNS
from streamlab.journal import Journal
from streamlab.metrics import Snapshot
from streamlab.notices import NOTICE_COLUMNS
from streamlab.pipeline import Pipeline, nearest
from streamlab.runners import Runner, State
from streamlab.sinks import Sink
from streamlab.sinks.collect import Collect
from streamlab.story import LineTrace
from streamlab.tables import export, frame_of, outputs, plain, table
from streamlab.traces import Line, missing

if TYPE_CHECKING:
    import pandas as pd


WORKER_COLUMNS = ("worker", "here", "address", "threads", "memory", "lines", "errors", "time_s", "estimate")
#: Notices that a view shows.
OVERVIEW_NOTICES = 20


class Account:
    """What can be asked of a run while it goes on and after.

    Attributes:
        id: tells it from every other run.
        pipeline: what it executes, as it was when the run began.
    """

    def __init__(self, pipeline: Pipeline, runner: Runner, sink: Sink) -> None:
        self.id = secrets.token_hex(6)
        self.pipeline = pipeline
        self._runner = runner
        self._sink = sink

    # State

    @property
    def state(self) -> State:
        """``starting``, ``running``, ``paused``, ``draining``, ``finished``, ``stopped`` or ``failed``."""
        return self._runner.state

    @property
    def exception(self) -> BaseException | None:
        """Why the run failed; ``None`` unless it did."""
        return self._runner.exception

    @property
    def reason(self) -> str | None:
        """Why the run failed, or what it waits for, in one line; ``None`` unless it did or does."""
        return self._runner.waiting if self.exception is None else f"{type(self.exception).__name__}: {self.exception}"

    @property
    def uptime_s(self) -> float:
        """Seconds since the run began, to its end if it has ended."""
        return self._runner.uptime()

    @property
    def progress(self) -> float | None:
        """The share of the source that has been read and worked on, from 0.0 to 1.0; ``None`` when its size is not known."""
        return self._runner.progress()

    # Tables

    @property
    def output(self) -> pd.DataFrame:
        """What left the pipeline, in order: ``line_no, value``; of dicts, the fields as columns instead of ``value``.

        ``line_no`` is missing for what came from a ``flush``. With a sink it went there, and this raises.

        Raises:
            RunError: the run was given ``output=``.
        """
        if not isinstance(self._sink, Collect):
            raise RunError(f"the output of this run went to {self._sink.name}; without output= the run keeps it")
        chunks = self._sink.chunks()
        numbers = [None if n < 0 else n for line_no, _ in chunks for n in line_no.tolist()]
        values = [value for _, part in chunks for value in part]
        return outputs(numbers, values)

    @property
    def metrics(self) -> pd.DataFrame:
        """Counters and times by processor; ``attrs["timed"]`` says how many visits the quantiles come from."""
        return self.snapshot().table(list(self.pipeline.processors))

    def metrics_by(self, by: Literal["processor", "worker"] = "worker") -> pd.DataFrame:
        """Counters and times as in `metrics`, by processor, or by worker of a cluster and processor.

        What workers have adds up to the whole, but for outputs that a sink refused, which no worker knows of. Without a
        cluster there is one worker, ``"local"``.

        Raises:
            RunError: ``by`` is something else.
        """
        if by not in ("processor", "worker"):
            raise RunError(f"by={by!r}: use 'processor' or 'worker'")
        if by == "processor":
            return self.metrics
        import pandas as pd

        names = list(self.pipeline.processors)
        with self._journal() as journal:
            uptime = self.uptime_s
            workers = journal.workers or {"local": journal.ledger}
            snapshots = {name: ledger.snapshot(uptime) for name, ledger in sorted(workers.items())}
        return pd.concat({name: snapshot.table(names) for name, snapshot in snapshots.items()}, names=["worker"])

    @property
    def workers(self) -> pd.DataFrame:
        """The workers of a cluster, also those that are gone, one row each; no rows without a cluster.

        Columns are ``worker, here, address, threads, memory`` (bytes), ``lines`` (committed), ``errors, time_s`` and
        ``estimate``: the lines that it says that it has worked on, some of which may have to be done once more.
        """
        rows = self.crew()
        return frame_of({name: [row[name] for row in rows] for name in WORKER_COLUMNS})

    @property
    def estimate(self) -> int:
        """How many lines have been worked on, about: on a cluster with those that are not committed yet, else `ledger`'s."""
        with self._journal() as journal:
            return max(journal.received, journal.resumed + sum(journal.estimates.values()))

    def crew(self) -> list[dict[str, Any]]:
        """Return the rows of `workers` as plain data."""
        with self._journal() as journal:
            crew = {info.name: info for info in journal.crew}
            counted = {name: ledger.snapshot(0.0) for name, ledger in journal.workers.items()}
            said = dict(journal.estimates)
        rows = []
        for name in sorted({*crew, *counted}):
            info, own = crew.get(name), counted.get(name)
            rows.append(
                {
                    "worker": name,
                    "here": info is not None,
                    "address": info.address if info is not None else "",
                    "threads": info.threads if info is not None else 0,
                    "memory": info.memory if info is not None else 0,
                    "lines": own.totals.run.received if own is not None else 0,
                    "errors": own.totals.run.errors if own is not None else 0,
                    "time_s": sum(own.seconds.values()) if own is not None else 0.0,
                    "estimate": said.get(name, 0),
                }
            )
        return rows

    def __getitem__(self, processor: str) -> pd.Series[Any]:
        """Return the metrics of one processor: ``run["warn"].received``.

        Raises:
            RunError: there is none of this name; the message names the nearest.
        """
        if processor not in self:
            raise RunError(f"there is no processor {processor!r}{nearest(str(processor), self.pipeline.processors)}")
        import pandas as pd

        return pd.Series(self.snapshot().row(processor), name=processor, dtype=object)  # whole numbers stay whole

    __iter__ = None  # as of a pipeline

    def __contains__(self, processor: object) -> bool:
        return isinstance(processor, str) and processor in self.pipeline.processors

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.pipeline.processors)

    @property
    def ledger(self) -> dict[str, int]:
        """The run's ledger: ``received + forked = emitted + filtered + absorbed + dead_lettered + in_flight``."""
        return self.snapshot().lines()

    @property
    def history(self) -> pd.DataFrame:
        """Metrics over time, one row a processor and second; the last hour."""
        with self._journal() as journal:
            return journal.history.table()

    @property
    def paths(self) -> pd.DataFrame:
        """The ways that most branches went, at most 200: ``path, fate, count, share``; share is of all branches, 0 to 1."""
        rows = report.paths(self.snapshot())
        frame = frame_of({name: [row[name] for row in rows] for name in report.PATH_COLUMNS})
        return frame.astype({"count": "int64", "share": "float64"})

    @property
    def traces(self) -> pd.DataFrame:
        """What happened to each line that is kept, one row a line and branch."""
        with self._journal() as journal:
            traces, where = journal.traces.copy(), CLUSTER_COLUMNS if journal.on_cluster else ()
        return traces.table(where)

    @property
    def errors(self) -> pd.DataFrame:
        """What failed, the last 10,000 of it; ``attrs["total"]`` says how many there were."""
        with self._journal() as journal:
            rows, total = [failure.row() for failure in journal.failures.recent], journal.failures.total
            where = CLUSTER_COLUMNS if journal.on_cluster else ()
        frame = table(rows, (*ERROR_COLUMNS, *where))
        frame.attrs["total"] = total
        return frame

    @property
    def dead_letters(self) -> pd.DataFrame:
        """The lines that failed for good, whole; of a live run or one with a sink the last 10,000.

        Columns are those of the dead letter queue; `Pipeline.replay` takes such a table.
        """
        with self._journal() as journal:
            failures, total = list(journal.failures.letters), journal.failures.dead
            lineage, version = journal.lineage, journal.version
        letters = zip(letters_of(failures, lineage, version), failures, strict=True)
        frame = table((letter | {"line": failure.line} for letter, failure in letters), LETTER_COLUMNS)
        frame.attrs["total"] = total
        return frame

    @property
    def notices(self) -> pd.DataFrame:
        """What happened beside the lines, the last 1,000 of it.

        Columns are ``time, kind, where, message, lost_lines, lost_bytes, count``. Files that were truncated, brokers that
        were away, buffers that were full, processors that hang; ``attrs["lost_lines"]`` and ``attrs["lost_bytes"]`` say
        what is known to be lost in all.
        """
        with self._journal() as journal:
            rows = [asdict(notice) for notice in journal.notices.recent]
            lost = {"lost_lines": journal.notices.lost_lines, "lost_bytes": journal.notices.lost_bytes}
        frame = table(rows, NOTICE_COLUMNS)
        frame.attrs.update(lost)
        return frame

    @property
    def resumed(self) -> int:
        """How many lines were done by the runs that this one goes on with, from its checkpoint; 0 if it began anew."""
        with self._journal() as journal:
            return journal.resumed

    @property
    def unfinished(self) -> pd.DataFrame:
        """Lines that were read and not brought to an end: ``line_no, line``. The run failed, or a stop left them no time."""
        with self._journal() as journal:
            numbers, lines = [n for n, _ in journal.unfinished], [line for _, line in journal.unfinished]
        return frame_of({"line_no": numbers, "line": lines})

    def trace(self, line_no: int) -> LineTrace:
        """Return one line's story: where it went, and what each processor made of it.

        Raises:
            TraceError: the line is not kept; the message says why.
        """
        try:
            line_no = operator.index(line_no)
        except TypeError:
            raise TraceError(f"a line has a whole number, counted from 0; {line_no!r} is none") from None
        with self._journal() as journal:
            line = journal.traces.find(line_no)
            if line is None:
                raise missing(line_no, journal.received, journal.traces)
            return self._told(line)

    def _told(self, line: Line) -> LineTrace:
        return LineTrace(line, self.pipeline.processors)

    def export_traces(self, path: str | Path, *, raw: bool = False) -> Path:
        """Write the traces table to a ``.csv``, ``.jsonl`` or ``.parquet`` file, see `streamlab.export`."""
        return export(self.traces, path, raw=raw)

    # Plain data, for views

    def stats(self) -> dict[str, Any]:
        """Return state, ledger and metrics as plain data, as ``GET /stats`` gives them."""
        return self._stats(self.state, self.snapshot())

    def _stats(self, state: State, snapshot: Snapshot) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline.name,
            "state": state,
            "uptime_s": snapshot.uptime,
            "lines": snapshot.lines(),
            "processors": report.metrics(self.pipeline.processors, snapshot),
        }

    def latest_traces(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the rows of the last lines, newest first, with ``path`` as a list of names."""
        rows = (row for line in self.latest_lines(limit) for row in line.rows())
        return [plain(row) for row in islice(rows, limit)]

    def latest_lines(
        self, limit: int = 100, *, search: str = "", processor: str | None = None, fate: str | None = None
    ) -> list[LineTrace]:
        """Return the last lines, newest first.

        Args:
            limit: lines at most.
            search: text, in whatever case, that the line, one of its paths or fates has, or a line number.
            processor: where one of its branches was.
            fate: how that branch ended.
        """
        with self._journal() as journal:
            traces = journal.traces.copy()
        found = (line for line in traces.newest() if line.matches(search) and line.went(processor, fate))
        return [self._told(line) for line in islice(found, limit)]

    def latest_errors(
        self, limit: int = 100, *, processor: str | None = None, kind: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of the last failures, newest first; perhaps only those of one processor, or of one kind."""
        with self._journal() as journal:
            recent = journal.failures.recent.copy()
            names = {*ERROR_COLUMNS, *(CLUSTER_COLUMNS if journal.on_cluster else ())}
        found = (f for f in reversed(recent) if processor in (None, f.processor) and kind in (None, f.kind))
        return [plain({name: value for name, value in f.row().items() if name in names}) for f in islice(found, limit)]

    def latest_notices(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the rows of the last notices, newest first."""
        with self._journal() as journal:
            rows = [asdict(notice) for notice in islice(reversed(journal.notices.recent), limit)]
        return [plain({name: row[name] for name in NOTICE_COLUMNS}) for row in rows]

    def new_notices(self, since: int) -> tuple[list[str], int]:
        """Return what notices told after number ``since`` say, oldest first, and the number of the last."""
        with self._journal() as journal:
            return [notice.text for notice in journal.notices.recent if notice.number > since], journal.notices.total

    def graph(self) -> dict[str, Any]:
        """Return nodes and edges with their counts as plain data; ``null`` is the source or the way out."""
        return report.graph(self.pipeline.describe(), self.snapshot())

    def recorded(self, since: int = 0, most: int = 1000) -> tuple[list[LineTrace], int, int]:
        """Return lines whose hops are kept, from number ``since`` on, by number, for exporters.

        Returns:
            The lines, ``most`` at most: those that failed, then the last; how many more there are; and the number to ask
            from the next time.
        """
        with self._journal() as journal:
            traces = journal.traces.copy()
        lines, more, following = traces.recorded(since, most)
        return [self._told(line) for line in lines], more, following

    def overview(self) -> dict[str, Any]:
        """Return what a live view shows, all of one moment, as plain data.

        Returns:
            ``stats`` (as `stats`), ``graph`` (as `graph`), ``paths`` (the rows of `paths`), ``failures`` (how many, by
            processor, kind and what came of them), ``ticks`` (of the history so far, see `moments`), ``reason`` (why the run
            failed, or what it waits for, or ``None``), ``notices`` (the last ones, newest first), ``traced`` (whether it
            keeps traces), ``workers`` (the rows of `workers`) and ``estimate`` (as `estimate`).
        """
        state = self.state  # before the counters: once the run has ended, they are the last ones
        with self._journal() as journal:
            snapshot = journal.ledger.snapshot(self.uptime_s)
            ticks, traced = journal.history.ticks, journal.traces.mode is not False
        return {
            "stats": self._stats(state, snapshot),
            "graph": report.graph(self.pipeline.describe(), snapshot),
            "paths": report.paths(snapshot),
            "failures": report.failures(snapshot),
            "ticks": ticks,
            "reason": self.reason,
            "notices": self.latest_notices(OVERVIEW_NOTICES),
            "traced": traced,
            "workers": self.crew(),
            "estimate": self.estimate,
        }

    def moments(self, since: int = 0) -> tuple[int, list[list[dict[str, Any]]]]:
        """Return the history from a tick on (negative: the last ones): the number of the next tick, and each tick's rows.

        They are those of `history`, one by processor, with ``p50_us`` and ``p95_us``; what is not known is NaN.
        """
        with self._journal() as journal:
            return journal.history.ticks, journal.history.since(since)

    def snapshot(self) -> Snapshot:
        """Return all counters of one moment, for exporters."""
        with self._journal() as journal:
            snapshot = journal.ledger.snapshot(self.uptime_s)
            snapshot.lost_lines = journal.notices.lost_lines
        return snapshot

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        with self._runner.reading() as journal:
            yield journal

    def summary(self) -> str:
        """Return state and ledger in one line."""
        ledger = self.ledger
        said = [f"{count} {name}" for name, count in ledger.items() if count or name in ("received", "emitted")]
        why = f" ({self.reason})" if self.reason is not None else ""
        return f"{self.state} after {self.uptime_s:.2f} s: {', '.join(said)}{why}"
