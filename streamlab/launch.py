"""From a pipeline and a source to a run: how it is to be done, and everything that does it, put together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from streamlab.engine import Engine
from streamlab.errors import RunError
from streamlab.failures import Failures
from streamlab.journal import Journal
from streamlab.metrics import History, Ledger
from streamlab.pipeline import Pipeline
from streamlab.run import Run
from streamlab.runners import Runner
from streamlab.runners.host import LocalHost
from streamlab.runners.local import LocalRunner
from streamlab.sinks import Sink, open_sink
from streamlab.sinks.collect import Collect
from streamlab.sources import open_source
from streamlab.traces import TRACE_MODES, TraceMode, Traces

#: Outputs that a live run without a sink keeps, and dead letters that a run with one does.
LIVE_OUTPUTS = 10_000
DEAD_LETTERS = 10_000

Output = str | Path | Sink | Callable[[Any], object] | None


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a pipeline; see `Pipeline.run`.

    Raises:
        RunError: one of them is wrong.
    """

    trace: TraceMode = False
    trace_limit: int = 1000
    output: Output = None
    workers: int = 1
    isolation: Literal["thread", "process"] = "thread"

    def __post_init__(self) -> None:
        if not any(self.trace is mode or (isinstance(self.trace, str) and self.trace == mode) for mode in TRACE_MODES):
            raise RunError(f"trace={self.trace!r}: use False, True, 'all' or 'hops'")
        for name in ("trace_limit", "workers"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise RunError(f"{name}={getattr(self, name)!r}: it must be a whole number, at least 1")
        if self.isolation not in ("thread", "process"):
            raise RunError(f"isolation={self.isolation!r}: use 'thread' or 'process'")


def run(
    source: Any = None,
    pipeline: Pipeline | None = None,
    *,
    trace: TraceMode = False,
    trace_limit: int = 1000,
    output: Output = None,
    workers: int = 1,
    isolation: Literal["thread", "process"] = "thread",
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

    Example:
        >>> import streamlab
        >>> run = streamlab.run(["info: system booted", "warn: disk space low"], trace=True)
        >>> run.output["value"].tolist()
        ['[info: system booted]', '[WARN: DISK SPACE LOW]']
        >>> run.traces["path"].tolist()
        ['start > end', 'start > warn > end']
    """
    from streamlab.demo import LINES, demo

    options = Options(trace, trace_limit, output, workers, isolation)
    return execute(demo if pipeline is None else pipeline, LINES if source is None else source, options)


def execute(pipeline: Pipeline, source: Any, options: Options) -> Run:
    """Do what `Pipeline.run` does."""
    made, runner = _prepare(pipeline, source, options, live=False)
    runner.run()
    return made


def launch(pipeline: Pipeline, source: Any, options: Options) -> Run:
    """Do what `Pipeline.start` does."""
    made, runner = _prepare(pipeline, source, options, live=True)
    runner.start()
    return made


def _prepare(pipeline: Pipeline, source: Any, options: Options, *, live: bool) -> tuple[Run, Runner]:
    if not isinstance(pipeline, Pipeline):
        raise RunError(f"pipeline={pipeline!r} is a {type(pipeline).__name__}: pass a streamlab.Pipeline")
    pipeline = pipeline.copy()
    stopping = threading.Event()
    host = LocalHost(stopping, options.workers)
    processes = options.workers > 1 or options.isolation == "process"
    engine = Engine(pipeline, host, observe_all=options.trace == "hops", parallel=processes)
    opened = open_source(source, max_line_bytes=pipeline.limits.max_line_bytes, columns=engine.takes_columns)
    try:
        sink = Collect(LIVE_OUTPUTS if live else None) if options.output is None else open_sink(options.output)
    except BaseException:
        opened.close()
        raise
    keep = None if options.output is None and not live else DEAD_LETTERS
    traces = Traces(options.trace, options.trace_limit)
    journal = Journal(Ledger(pipeline.entry.name), History(pipeline.processors), traces, Failures(keep))
    runner = LocalRunner(engine, opened, sink, journal, host, stopping)
    return Run(pipeline, runner, sink), runner
