"""From a pipeline and a source to a run: how it is to be done, and everything that does it, put together."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from streamlab import resumption
from streamlab.appending import Appending
from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.dead_letters.files import queue_in
from streamlab.engine import Engine
from streamlab.errors import RunError
from streamlab.failures import KEPT_LETTERS, Failures
from streamlab.fingerprint import version
from streamlab.journal import Journal
from streamlab.metrics import History, Ledger
from streamlab.pipeline import Pipeline
from streamlab.redaction import Redact, Redactor
from streamlab.run import Run
from streamlab.runners import Runner
from streamlab.runners.embedded import EmbeddedWork
from streamlab.runners.endurance import OnOutage
from streamlab.runners.host import LocalHost
from streamlab.runners.local import LocalRunner
from streamlab.runners.work import Work
from streamlab.sinks import InFolder, OnFiles, Sink, open_sink
from streamlab.sinks.collect import Collect
from streamlab.sinks.folder import remove_if_empty
from streamlab.sources import Source, Sparing, open_source
from streamlab.sources.own import Own
from streamlab.traces import TRACE_MODES, TraceMode, Traces

#: Outputs that a live run without a sink keeps.
LIVE_OUTPUTS = 10_000
#: Partitions of a run, unless it is told otherwise.
MAX_PARTITIONS = 64
#: Processes of a run.
MAX_WORKERS = 1024

Output = str | Path | Sink | Callable[[Any], object] | None
Folder = str | os.PathLike[str]
#: ``"local"``, a scheduler's address, a `dask.distributed.Client`, or a `streamlab.runners.cluster.backend.Backend`.
Cluster = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run a pipeline; see `Pipeline.run`.

    Raises:
        RunError: one of them is wrong.
    """

    trace: TraceMode = False
    trace_limit: int = 1000
    output: Output = None
    workers: int | None = None
    isolation: Literal["thread", "process"] = "thread"
    follow: bool = False
    checkpoint: Folder | Checkpoint | None = None
    dead_letters: Folder | DeadLetterQueue | None = None
    on_outage: OnOutage = "fail"
    redact: Redact | None = None
    watchdog: float | None = 10.0
    cluster: Cluster = None
    partitions: int | None = None
    epoch_lines: int = 200_000
    max_in_flight: int = 4
    ordered: bool = False

    #: Options that say something with ``cluster`` only.
    OF_CLUSTERS: ClassVar[tuple[str, ...]] = ("partitions", "epoch_lines", "max_in_flight", "ordered")

    def __post_init__(self) -> None:
        if not any(self.trace is mode or (isinstance(self.trace, str) and self.trace == mode) for mode in TRACE_MODES):
            raise RunError(f"trace={self.trace!r}: use False, True, 'all' or 'hops'")
        for name in ("trace_limit", "workers", "partitions", "epoch_lines", "max_in_flight"):
            value = getattr(self, name)
            if value is None and name in ("workers", "partitions"):
                continue
            if not isinstance(value, int) or value < 1:
                raise RunError(f"{name}={value!r}: it must be a whole number, at least 1")
        if self.cluster is None:
            for field in fields(self):
                if field.name in self.OF_CLUSTERS and getattr(self, field.name) != field.default:
                    value = getattr(self, field.name)
                    raise RunError(f"{field.name}={value!r} is about a cluster: give cluster=, too, or leave it out")
        if self.workers is not None and self.workers > MAX_WORKERS:
            raise RunError(
                f"workers={self.workers!r}: these are processes, at most {MAX_WORKERS}; as many as there are cores do"
            )
        if self.isolation not in ("thread", "process"):
            raise RunError(f"isolation={self.isolation!r}: use 'thread' or 'process'")
        if self.on_outage not in ("fail", "wait"):
            raise RunError(f"on_outage={self.on_outage!r}: use 'fail' or 'wait'")
        if self.watchdog is not None and not (isinstance(self.watchdog, (int, float)) and self.watchdog > 0):
            raise RunError(f"watchdog={self.watchdog!r}: it must be a number of seconds, more than 0, or None for no watch")


def run(
    source: Any = None,
    pipeline: Pipeline | None = None,
    *,
    trace: TraceMode = False,
    trace_limit: int = 1000,
    output: Output = None,
    workers: int | None = None,
    isolation: Literal["thread", "process"] = "thread",
    follow: bool = False,
    checkpoint: Folder | Checkpoint | None = None,
    dead_letters: Folder | DeadLetterQueue | None = None,
    on_outage: OnOutage = "fail",
    redact: Redact | None = None,
    watchdog: float | None = 10.0,
    cluster: Cluster = None,
    partitions: int | None = None,
    epoch_lines: int = 200_000,
    max_in_flight: int = 4,
    ordered: bool = False,
) -> Run:
    """Run a pipeline, by default the demo, over a source to its end, and return the finished run.

    Args:
        source: a path, glob or folder, ``"-"`` for standard input, or any iterable of lines; by default the demo's lines.
        pipeline: the pipeline.
        trace: as for `Pipeline.run`.
        trace_limit: as for `Pipeline.run`.
        output: as for `Pipeline.run`.
        workers: as for `Pipeline.run`.
        isolation: as for `Pipeline.run`.
        follow: as for `Pipeline.run`.
        checkpoint: as for `Pipeline.run`.
        dead_letters: as for `Pipeline.run`.
        on_outage: as for `Pipeline.run`.
        redact: as for `Pipeline.run`.
        watchdog: as for `Pipeline.run`.
        cluster: as for `Pipeline.run`.
        partitions: as for `Pipeline.run`.
        epoch_lines: as for `Pipeline.run`.
        max_in_flight: as for `Pipeline.run`.
        ordered: as for `Pipeline.run`.

    Example:
        >>> import streamlab
        >>> run = streamlab.run(["info: system booted", "warn: disk space low"], trace=True)
        >>> run.output["value"].tolist()
        ['[info: system booted]', '[WARN: DISK SPACE LOW]']
        >>> run.traces["path"].tolist()
        ['start > end', 'start > warn > end']
    """
    from streamlab.demo import LINES, demo

    options = Options(
        trace=trace,
        trace_limit=trace_limit,
        output=output,
        workers=workers,
        isolation=isolation,
        follow=follow,
        checkpoint=checkpoint,
        dead_letters=dead_letters,
        on_outage=on_outage,
        redact=redact,
        watchdog=watchdog,
        cluster=cluster,
        partitions=partitions,
        epoch_lines=epoch_lines,
        max_in_flight=max_in_flight,
        ordered=ordered,
    )
    return execute(demo if pipeline is None else pipeline, LINES if source is None else source, options)


def execute(pipeline: object, source: Any, options: Options) -> Run:
    """Do what `Pipeline.run` does."""
    with _no_file_left(options.output):
        made, runner = _prepare(pipeline, source, options, live=False)
        runner.run()
    return made


def launch(pipeline: object, source: Any, options: Options) -> Run:
    """Do what `Pipeline.start` does."""
    with _no_file_left(options.output):
        made, runner = _prepare(pipeline, source, options, live=True)
        runner.start()
    return made


@contextmanager
def _no_file_left(output: Output) -> Iterator[None]:
    """Remove the output file or folder again that was made for a run which is refused after all."""
    path = os.path.expanduser(output) if isinstance(output, str | Path) else None
    made = path is not None and not os.path.lexists(path)
    try:
        yield
    except Exception:
        if path is not None and made and os.path.isfile(path):
            with suppress(OSError), closing(Appending(path)) as file:
                if not file.length and file.alone():  # else another run has begun to write it meanwhile
                    os.unlink(path)
        elif path is not None and made and os.path.isdir(path):
            remove_if_empty(path)
        raise


def _prepare(pipeline: object, source: Any, options: Options, *, live: bool) -> tuple[Run, Runner]:
    if not isinstance(pipeline, Pipeline):
        raise RunError(f"pipeline={pipeline!r} is a {type(pipeline).__name__}: pass a streamlab.Pipeline")
    pipeline = pipeline.copy()
    with ExitStack() as opened:  # is closed, should the rest not come about
        checkpoint = _checkpoint(options)
        saved, kept = None, {}
        if checkpoint is not None:
            checkpoint.begin()
            opened.callback(checkpoint.close)
            saved = checkpoint.load()
            kept = {} if saved is None else resumption.states(checkpoint, saved, pipeline)
        stopping = threading.Event()
        how: _Embedded | _OnCluster
        how = (_Embedded if options.cluster is None else _OnCluster)(options, pipeline, kept, stopping)
        opened.callback(how.close)
        lines = how.open_source(source)
        opened.callback(lines.close)
        sink = Collect(LIVE_OUTPUTS if live else None) if options.output is None else open_sink(options.output)
        if sink is not options.output:  # else another run may have it, which is told when it begins
            opened.callback(sink.close)
        letters = _letters(options, checkpoint)
        keep = None if options.output is None and not live and letters is None else KEPT_LETTERS
        traces = Traces(options.trace, options.trace_limit)
        journal = Journal(Ledger(pipeline.entry.name), History(pipeline.processors), traces, Failures(keep))
        journal.version = version(pipeline)
        journal.redactor = None if options.redact is None else Redactor(options.redact)
        if checkpoint is not None:
            resumption.check_facts(checkpoint, saved, pipeline, lines, sink, letters)
            checkpoint.facts["asked"] = resumption.asked(source, options)
        if isinstance(lines, Sparing):
            lines.leave_out(_own(checkpoint, sink, letters))
        journal.lineage = str(checkpoint.facts["lineage"]) if checkpoint is not None else secrets.token_hex(6)
        if checkpoint is None or saved is None:
            resumption.begin(opened, sink, letters, journal)
        else:
            resumption.resume(opened, saved, lines, sink, letters, journal)
            journal.restore(saved["books"], checkpoint.history(), saved["uptime"])
        work = how.work(lines, sink, journal, letters, checkpoint)
        opened.pop_all()
    runner = LocalRunner(work)
    return Run(pipeline, runner, sink), runner


class _Embedded:
    """How a run is done in this process."""

    def __init__(self, options: Options, pipeline: Pipeline, kept: Mapping[str, Any], stopping: threading.Event) -> None:
        workers = options.workers or 1
        self._options = options
        self._stopping = stopping
        self._host = LocalHost(stopping, workers)
        processes = workers > 1 or options.isolation == "process"
        self._engine = Engine(pipeline, self._host, observe_all=options.trace == "hops", parallel=processes, kept=kept)

    def close(self) -> None:
        """Let go of threads and processes."""
        self._host.close()

    def open_source(self, source: Any) -> Source:
        """Return the source."""
        engine = self._engine
        longest = engine.pipeline.limits.max_line_bytes
        return open_source(source, max_line_bytes=longest, columns=engine.takes_columns, follow=self._options.follow)

    def work(
        self, source: Source, sink: Sink, journal: Journal, letters: DeadLetterQueue | None, checkpoint: Checkpoint | None
    ) -> Work:
        """Return the work."""
        return EmbeddedWork(
            self._engine,
            source,
            sink,
            journal,
            self._host,
            self._stopping,
            letters=letters,
            checkpoint=checkpoint,
            on_outage=self._options.on_outage,
            watchdog=self._options.watchdog,
        )


class _OnCluster:
    """How a run is done by workers."""

    def __init__(self, options: Options, pipeline: Pipeline, kept: Mapping[str, Any], stopping: threading.Event) -> None:
        from streamlab.runners.cluster import backend_of

        pipeline.check()
        self._options = options
        self._pipeline = pipeline
        self._kept = kept
        self._stopping = stopping
        self._backend = backend_of(options.cluster, options.workers)

    def close(self) -> None:
        """Let go of the cluster."""
        self._backend.close()

    def open_source(self, source: Any) -> Source:
        """Return the source, one that can be split if it is made of files."""
        longest = self._pipeline.limits.max_line_bytes
        return open_source(source, max_line_bytes=longest, follow=self._options.follow, split=True)

    def work(
        self, source: Source, sink: Sink, journal: Journal, letters: DeadLetterQueue | None, checkpoint: Checkpoint | None
    ) -> Work:
        """Return the work."""
        from streamlab.runners.cluster.driving import ClusterWork
        from streamlab.runners.cluster.job import Job
        from streamlab.runners.cluster.planning import Scale

        options = self._options
        threads = sum(worker.threads for worker in self._backend.workers())
        job = Job.of(
            self._pipeline,
            options.partitions or min(max(threads, 1), MAX_PARTITIONS),
            sink,
            trace=options.trace,
            trace_limit=options.trace_limit,
            redact=options.redact,
            ordered=options.ordered,
        )
        return ClusterWork(
            self._backend,
            job,
            Scale(epoch_lines=options.epoch_lines, max_in_flight=options.max_in_flight),
            self._kept,
            source,
            sink,
            journal,
            self._stopping,
            letters=letters,
            checkpoint=checkpoint,
            on_outage=options.on_outage,
            careful=options.isolation == "process",
            watchdog=options.watchdog,
        )


def _checkpoint(options: Options) -> Checkpoint | None:
    given = options.checkpoint
    return given if given is None or isinstance(given, Checkpoint) else Checkpoint(given)


def _letters(options: Options, checkpoint: Checkpoint | None) -> DeadLetterQueue | None:
    """Return the dead letter queue: what was given, or one in the checkpoint."""
    given = options.dead_letters
    if isinstance(given, DeadLetterQueue):
        return given
    if given is not None:
        return DeadLetterQueue(given)
    return None if checkpoint is None else DeadLetterQueue(queue_in(checkpoint.folder))


def _own(checkpoint: Checkpoint | None, sink: Sink, letters: DeadLetterQueue | None) -> Own:
    """Return what the run itself writes."""
    folders = [] if checkpoint is None else [(checkpoint.folder, checkpoint.writes)]
    folders += [] if letters is None else [(letters.name, letters.writes)]
    folders += [(sink.folder, sink.writes)] if isinstance(sink, InFolder) else []
    return Own(sink.files() if isinstance(sink, OnFiles) else [], folders)
