"""streamlab: build, watch and debug pipelines over streams of lines. Every line is accounted for.

>>> import streamlab
>>> run = streamlab.run(["info: system booted", "warn: disk space low"], trace=True)
>>> run.traces[["path", "fate", "output"]].values.tolist()
[['start > end', 'emitted', '[info: system booted]'], ['start > warn > end', 'emitted', '[WARN: DISK SPACE LOW]']]
"""

from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.demo import demo
from streamlab.errors import (
    CheckpointError,
    DashboardError,
    NotebookError,
    PipelineError,
    ProcessorFailed,
    RunError,
    SinkError,
    SourceError,
    StreamlabError,
    TelemetryError,
    TraceError,
)
from streamlab.launch import run
from streamlab.paths import EMIT
from streamlab.pipeline import Pipeline
from streamlab.policy import Retry
from streamlab.run import Run
from streamlab.tables import export

__version__ = "0.1.0"


def load_ipython_extension(shell: object) -> None:
    """Add ``%%streamlab`` and ``%streamlab`` to a notebook; what ``%load_ext streamlab`` does."""
    from streamlab import magics

    magics.load(shell)


__all__ = [
    "EMIT",
    "Checkpoint",
    "CheckpointError",
    "DashboardError",
    "DeadLetterQueue",
    "NotebookError",
    "Pipeline",
    "PipelineError",
    "ProcessorFailed",
    "Retry",
    "Run",
    "RunError",
    "SinkError",
    "SourceError",
    "StreamlabError",
    "TelemetryError",
    "TraceError",
    "demo",
    "export",
    "run",
]
