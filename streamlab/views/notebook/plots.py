"""Plots on demand: `Run.plot`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from streamlab.errors import NotebookError
from streamlab.pipeline import nearest
from streamlab.views import figures
from streamlab.views.stills import still

if TYPE_CHECKING:
    from streamlab.run import Run

#: Lines in the timeline, at most, and how many are looked through for the slowest.
SLOWEST, LOOKED_AT = 20, 2_000


class Figure(go.Figure):
    """A plotly figure that in a notebook has a still picture too, for where plotly does not run: on a page made of it."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        plain = self.to_dict()
        bundle = {
            "application/vnd.plotly.v1+json": plain | {"config": {"responsive": True, "displaylogo": False}},
            "text/plain": repr(self),
        }
        try:
            return bundle | {"image/svg+xml": self._still()}
        except (
            ArithmeticError,
            KeyError,
            TypeError,
            ValueError,
        ):  # somebody has added to the figure what only plotly can draw
            return bundle

    def _still(self) -> str:
        """Return the picture, with the title if there is one; there is none of a figure with shapes, notes or subplots."""
        figure = self.to_plotly_json()
        layout = figure["layout"]
        if any(layout.get(part) for part in ("shapes", "annotations", "images", "xaxis2", "yaxis2")):
            raise ValueError("only plotly can draw this")
        return still(figure, 860, 340)


class Plots:
    """The plots of a run, live or ended, each as a plotly figure of what the tables say now.

    Example:
        >>> import streamlab
        >>> run = streamlab.run(["warn: hot", "info: ok"], trace=True)
        >>> run.plot.throughput().data[0].name
        'start'
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __repr__(self) -> str:
        return "plots: .throughput() .latency() .errors() .paths() .timeline()"

    def throughput(self, processor: str | None = None) -> go.Figure:
        """Return lines per second over time, from `Run.history`: of the busiest eight processors, or of one."""
        return _plotly(figures.throughput(self._moments(), self._known(processor)))

    def latency(self, processor: str | None = None) -> go.Figure:
        """Return the time of one value over time: p99 of the slowest eight processors, or p50, p95 and p99 of one.

        In microseconds, on a logarithmic axis; of the timed sample of each second.
        """
        return _plotly(figures.latency(self._moments(), self._known(processor)))

    def errors(self, processor: str | None = None) -> go.Figure:
        """Return errors and retries of each second, of all processors that had any, or of one."""
        ticks, moments = self._run.moments()
        return _plotly(figures.problems(moments, self._known(processor), since=ticks - len(moments)))

    def paths(self) -> go.Figure:
        """Return where lines go, from `Run.paths`, as a Sankey diagram."""
        return _plotly(figures.flow(self._run.overview()["paths"], self._processors))

    def timeline(self, line_no: int | None = None) -> go.Figure:
        """Return where lines spent their time: visits of the slowest twenty lines that are kept with hops, or of one line.

        Raises:
            TraceError: the line is not kept; the message says why.
            NotebookError: the run keeps no traces, or has recorded no hops.
        """
        if line_no is not None:
            lines = [self._run.trace(line_no)]
        else:
            lines, _, _ = self._run.recorded(most=LOOKED_AT)
        timed = [(line.line_no, line.hop_rows()) for line in lines if line.recorded]
        if not timed:
            raise NotebookError(
                f"pipeline {self._run.pipeline.name!r}: no hops are recorded of "
                f'{"any line" if line_no is None else f"line {line_no}"}; run with trace="hops" to record all'
            )
        timed.sort(key=lambda line: -sum(us for hop in line[1] if not math.isnan(us := hop["duration_us"])))
        return _plotly(figures.timeline(timed[:SLOWEST], self._processors))

    @property
    def _processors(self) -> list[str]:
        return list(self._run.pipeline.processors)

    def _moments(self) -> figures.Moments:
        return self._run.moments()[1]

    def _known(self, processor: str | None) -> str | None:
        if processor is not None and processor not in self._processors:
            raise NotebookError(f"there is no processor {processor!r}{nearest(str(processor), self._processors)}")
        return processor


def _plotly(figure: figures.Figure) -> go.Figure:
    return Figure(figure["data"], figure["layout"] | {"template": "none"})
