"""What all tasks of a run have in common, and what a worker keeps of it from task to task."""

from __future__ import annotations

import os
import pickle
import secrets
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from streamlab.engine import Engine
from streamlab.errors import PipelineError, RunError
from streamlab.failures import text_of
from streamlab.pipeline import Pipeline
from streamlab.redaction import Redact, Redactor
from streamlab.runners.cluster.partitions import Partitions
from streamlab.runners.host import LocalHost
from streamlab.segments.stages import Stage, stages_of
from streamlab.sinks import Parting, PartWriter, Sink
from streamlab.sinks.collect import Collect
from streamlab.traces import TraceMode

_PACKAGE = str(Path(__file__).parents[2])
#: Seconds after which a worker forgets a job that nobody has asked for.
FORGOTTEN = 600.0
#: What becomes of outputs: they come back as they are, with their lines, as text, or as bytes; or the worker writes them.
Returned = Literal["values", "lines", "text", "encoded", "parts"]


@dataclass(frozen=True)
class Job:
    """What to do with lines, wherever it is done.

    Attributes:
        pipeline: the pipeline.
        partitions: how many there are of each stage that keeps state.
        trace: what is kept of lines.
        trace_limit: how many of the last lines.
        redact: what is covered in traces and failures.
        returned: what becomes of outputs.
        writer: writes them on the worker.
    """

    pipeline: Pipeline
    partitions: int
    trace: TraceMode = False
    trace_limit: int = 1000
    redact: Redact | None = None
    returned: Returned = "values"
    writer: PartWriter | None = None

    @classmethod
    def of(cls, pipeline: Pipeline, partitions: int, sink: Sink, *, ordered: bool, **kept: Any) -> Job:
        """Return a job whose outputs go to a sink.

        Args:
            pipeline: as of the class.
            partitions: as of the class.
            sink: where outputs go.
            ordered: whether they must be in the order of their lines.
            kept: ``trace``, ``trace_limit`` and ``redact``, as of the class.

        Raises:
            RunError: they cannot be in order there.
        """
        if isinstance(sink, Parting):
            if ordered:
                raise RunError(
                    f"ordered=True, and workers write the parts of {sink.name} each in its own order: give a file, a sink or"
                    " a function, or leave ordered out"
                )
            return cls(pipeline, partitions, returned="parts", writer=sink.writer(), **kept)
        how: Returned = "values" if isinstance(sink, Collect) else "lines"
        if getattr(sink, "takes_encoded", False):  # of several stages they are to be put in order
            how = "encoded" if len(stages_of(pipeline)) == 1 else "text"
        return cls(pipeline, partitions, returned=how, **kept)

    @cached_property
    def stages(self) -> list[Stage]:
        """The stages of the pipeline."""
        return stages_of(self.pipeline)

    def homes(self, number: int) -> Mapping[str, int | None]:
        """Return where each processor that is placed in a stage is: its partition, or ``None`` for all of them."""
        stage, processors = self.stages[number], self.pipeline.processors
        return {
            name: Partitions(processors[name], self.partitions, stage.loops.get(name)).home
            for name in processors
            if name in stage.placed
        }

    def here(self, number: int, partition: int) -> list[str]:
        """Return the processors of a stage whose values come to a partition."""
        return [name for name, home in self.homes(number).items() if home is None or home == partition]

    def used(self, number: int) -> list[int]:
        """Return the partitions of a stage that values come to."""
        homes = self.homes(number).values()
        return [p for p in range(self.partitions) if any(home is None or home == p for home in homes)]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A job on its way.

    Attributes:
        id: tells it from all others, also from those of other runs of the same pipeline.
        data: the job.
    """

    id: str
    data: bytes

    @classmethod
    def of(cls, job: Job) -> Sealed:
        """Return a job to be sent.

        Raises:
            PipelineError: a processor cannot be sent.
            RunError: something else of it cannot.
        """
        import cloudpickle  # functions and classes of a notebook, too

        with _by_value(job.pipeline):
            for processor in job.pipeline.processors.values():
                try:
                    pickle.loads(cloudpickle.dumps(processor))
                except Exception as error:  # of the user's objects
                    raise PipelineError(
                        f"pipeline {job.pipeline.name!r}, processor {processor.name!r}: it cannot be sent to a worker:"
                        f" {type(error).__name__}: {text_of(error)}; take what it refers to (a connection, a lock, an open"
                        " file) out of it, and make it in the function or class itself"
                    ) from error
            try:
                data = cloudpickle.dumps(job)
            except Exception as error:
                raise RunError(f"the run cannot be sent to workers: {type(error).__name__}: {text_of(error)}") from error
        return cls(secrets.token_hex(8), data)


@contextmanager
def _by_value(pipeline: Pipeline) -> Iterator[None]:
    """Have modules sent whole that are the user's own, and not installed: workers may not have them."""
    import cloudpickle

    paths = sysconfig.get_paths()
    known = (*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), _PACKAGE)
    installed = tuple(os.path.realpath(path) + os.sep for path in known)
    named = {
        getattr(target if hasattr(target, "__module__") else type(target), "__module__", "")
        for processor in pipeline.processors.values()
        for target in (processor.target, processor.key)
    }
    own = [
        module
        for name in named
        if (module := sys.modules.get(name or "")) is not None
        and name != "__main__"
        and (file := getattr(module, "__file__", None)) is not None
        and not os.path.realpath(file).startswith(installed)
    ]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


class Site:
    """What a worker keeps of a job: engines, which know by now how lines usually go, and the state of partitions.

    Attributes:
        job: the job.
        redactor: covers texts.
        asked: when it was asked for the last time, or done with.
        busy: how many tasks use it now.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.redactor = None if job.redact is None else Redactor(job.redact)
        self._free: dict[bool, list[Engine]] = {False: [], True: []}
        self._kept: dict[tuple[int, int], tuple[str, Engine]] = {}
        self._hosts: dict[Engine, LocalHost] = {}
        self.asked = 0.0
        self.busy = 0

    def close(self) -> None:
        """Let go of threads and processes."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    def _drop(self, engine: Engine) -> None:
        """Let go of the threads and processes of an engine that nobody will use."""
        self._hosts.pop(engine).close()

    @contextmanager
    def reader(self, careful: bool) -> Iterator[Engine]:
        """Lend an engine of the first stage; a ``careful`` one runs functions in a process of their own."""
        try:
            engine = self._free[careful].pop()
        except IndexError:
            engine = self._engine(0, parallel=careful)
        engine.reset_clock()
        try:
            yield engine
        except BaseException:
            self._drop(engine)
            raise
        self._free[careful].append(engine)

    def _engine(self, number: int, *, parallel: bool = False, kept: Mapping[str, Any] | None = None) -> Engine:
        host = LocalHost(threading.Event())  # one an engine: it has threads and an event loop, and is not for two at a time
        engine = Engine(
            self.job.pipeline,
            host,
            observe_all=self.job.trace == "hops",
            parallel=parallel,
            kept=kept,
            only=self.job.stages[number].processors,
            tracked=number > 0,
        )
        self._hosts[engine] = host
        return engine

    def take(self, number: int, partition: int, tip: str) -> Engine | None:
        """Take the engine of a partition away, if it is where ``tip`` says; whoever has it brings it back with `keep`."""
        kept = self._kept.pop((number, partition), None)
        if kept is None:
            return None
        if kept[0] != tip:
            self._drop(kept[1])
            return None
        kept[1].reset_clock()
        return kept[1]

    def restored(self, number: int, kept: Mapping[str, Any]) -> Engine:
        """Return an engine of a stage with what its processors keep."""
        return self._engine(number, kept=kept)

    def keep(self, number: int, partition: int, tip: str, engine: Engine) -> None:
        """Keep the engine of a partition for the next task."""
        if (other := self._kept.get((number, partition))) is not None:
            self._drop(other[1])
        self._kept[number, partition] = tip, engine


_sites: dict[str, Site] = {}
_lock = threading.Lock()


@contextmanager
def at_site(sealed: Sealed) -> Iterator[Site]:
    """Give what this process keeps of a job, for a task of it."""
    now = time.monotonic()
    with _lock:
        site = _sites.get(sealed.id) or Site(pickle.loads(sealed.data))
        _sites[sealed.id] = site
        site.asked = now
        site.busy += 1
        for id, other in list(_sites.items()):
            if not other.busy and now - other.asked > FORGOTTEN:
                _sites.pop(id).close()
    try:
        yield site
    finally:
        with _lock:
            site.asked = time.monotonic()
            site.busy -= 1
