"""Every exception that streamlab raises.

::

    StreamlabError
    ├── PipelineError        the graph does not hold together; raised while building
    ├── SourceError          lines cannot be read
    ├── SinkError            output cannot be written
    │   └── Outage           not for now: what was to be written can be given again
    ├── CheckpointError      a run cannot go on where another one ended, or its progress cannot be saved
    ├── RunError             a run failed, or was asked for what it cannot do
    │   └── ProcessorFailed  a processor with ``on_error="stop"`` failed on a line
    ├── TraceError           a trace was asked for that was not kept
    ├── DashboardError       the dashboard cannot be started
    ├── TelemetryError       a run cannot be exported
    └── NotebookError        a notebook asked for what is not there: a plot without data, a package, a pipeline

What goes wrong with *one line* is not an exception but a row in ``run.errors``: its ``kind`` is one of
``streamlab.policy.FAILURE_KINDS``.
"""


class StreamlabError(Exception):
    """The base of all of them: ``except streamlab.StreamlabError`` catches what streamlab raises."""


class PipelineError(StreamlabError):
    """The graph does not hold together: a duplicate name, an unknown processor, an option that does not fit."""


class SourceError(StreamlabError):
    """Lines cannot be read: a missing file, a damaged archive, an iterable that raised."""


class BrokenOff(SourceError):
    """A part of a source ends before its end, as a file is damaged; what comes before has been given.

    Attributes:
        end: where that ends, as of `streamlab.sources.Part.chunks`.
    """

    def __init__(self, message: str, end: object = None) -> None:
        super().__init__(message, end)
        self.end = end

    def __str__(self) -> str:
        return str(self.args[0])


class SinkError(StreamlabError):
    """Output cannot be written: a full disk, a missing folder, a file that is there already."""


class Outage(SinkError):
    """Output cannot be written for now: a full disk, a broker that is away. The same batch may be written again later.

    Attributes:
        waits: whether a run waits for the end of it even if it was not told to (``on_outage``).
    """

    def __init__(self, message: str, *, waits: bool = False) -> None:
        super().__init__(message)
        self.waits = waits


class CheckpointError(StreamlabError):
    """A run cannot go on where another one ended, or its progress cannot be saved."""


class RunError(StreamlabError):
    """A run failed, or was asked for what it cannot do in its state."""


class ProcessorFailed(RunError):
    """A processor with ``on_error="stop"`` failed on a line; ``__cause__`` is what it raised."""


class TraceError(StreamlabError):
    """A trace was asked for that was not kept."""


class DashboardError(StreamlabError):
    """The dashboard cannot be started: its packages are missing, or the port is taken."""


class TelemetryError(StreamlabError):
    """A run cannot be exported: the packages of OpenTelemetry are missing, or an argument is wrong."""


class NotebookError(StreamlabError):
    """A notebook asked for what is not there: a plot of nothing, a package that is not installed, an unknown pipeline."""
