"""`Run`: the handle that users hold, while a run goes on and after it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from streamlab.account import Account
from streamlab.pipeline import Pipeline
from streamlab.runners import ENDED, Runner
from streamlab.sinks import Sink
from streamlab.sinks.collect import Collect

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from streamlab.views.dashboard import Dashboard
    from streamlab.views.notebook.plots import Plots
    from streamlab.views.opentelemetry import Telemetry

#: Seconds between two looks of who awaits a run.
AWAIT_SECONDS = 0.05


class Run(Account):
    """One execution of a pipeline over a source: its state, its tables, its output.

    Made by `Pipeline.run`, `Pipeline.start` and `streamlab.run`; the same while it goes on and after. As a context manager
    it is stopped at the end of the block.

    Attributes:
        id: tells it from every other run.
        pipeline: what it executes, as it was when the run began.

    Example:
        >>> from streamlab.demo import demo
        >>> with demo.start(["warn: hot"]) as live:
        ...     _ = live.wait()
        >>> live.state, live.metrics.loc["warn", "received"].item()
        ('finished', 1)
    """

    def __init__(self, pipeline: Pipeline, runner: Runner, sink: Sink) -> None:
        super().__init__(pipeline, runner, sink)
        self._dashboard: Dashboard | None = None

    # Holding it

    def pause(self) -> None:
        """Take no more lines from the source until `resume`.

        Raises:
            RunError: the run has ended.
        """
        self._runner.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._runner.resume()

    def stop(self) -> None:
        """Ask for the end and return at once; lines that were read are brought to theirs, state is flushed. See `wait`."""
        self._runner.stop()

    def wait(self, timeout: float | None = None) -> Run:
        """Wait for the end, at most ``timeout`` seconds, and return the run; Ctrl-C stops it, and is raised again."""
        try:
            self._runner.wait(timeout)
        except KeyboardInterrupt:
            self._runner.stop()
            self._runner.wait(10.0)
            raise
        return self

    def __await__(self) -> Generator[Any, None, Run]:
        """Wait for the end: in a notebook, ``await run`` lets buttons be answered meanwhile, as `wait` does not."""
        while self.state not in ENDED:
            yield from asyncio.sleep(AWAIT_SECONDS).__await__()
        return self.wait()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self.wait()
        if self._dashboard is not None:
            self._dashboard.stop()

    # Looking at it, and showing itself

    @property
    def plot(self) -> Plots:
        """Plots, as plotly figures: ``.throughput() .latency() .errors() .paths() .timeline()``.

        Raises:
            NotebookError: plotly is not installed.
        """
        from streamlab.views import notebook

        return notebook.plots_of(self)

    def dashboard(
        self,
        port: int | None = None,
        host: str = "127.0.0.1",
        *,
        token: str | None = None,
        names: Collection[str] = (),
    ) -> Dashboard:
        """Show this run in a browser: return its dashboard, served in the background.

        A server of this process that is up on the port (or, without a port, any on that host) is used, and shows this run
        first; so a cell can be run again. It stops with `Dashboard.stop`, at the end of ``with run``, and with the process.

        Args:
            port: by default 8000, or the next one that is free; 0 is any that is free.
            host: the address to listen on; any other than this machine's own needs a token.
            token: what whoever looks must know; it is part of `Dashboard.url`.
            names: what the server may be called in a browser's address, beside localhost and the host.

        Raises:
            DashboardError: its packages are not installed, the port that was asked for is taken by another program, or
                another host has no token.

        Example:
            >>> import streamlab
            >>> with streamlab.run(["warn: hot"]) as run:
            ...     dashboard = run.dashboard(port=0)
            ...     dashboard.running
            True
            >>> dashboard.running
            False
        """
        from streamlab.views.dashboard import Dashboard

        if self._dashboard is None or not self._dashboard.fits(port, host, token, names):
            self._dashboard = Dashboard.of(self, port, host, token=token, names=names)
        return self._dashboard

    def telemetry(
        self,
        endpoint: str | None = None,
        *,
        interval: float = 5.0,
        headers: Mapping[str, str] | None = None,
        content: bool = False,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> Telemetry:
        """Export this run with OpenTelemetry, in the background, until it has ended; see `Telemetry` for the arguments.

        Raises:
            TelemetryError: its packages are not installed, or an argument is wrong.
        """
        from streamlab.views.opentelemetry import Telemetry

        return Telemetry(
            self,
            endpoint,
            interval=interval,
            headers=headers,
            content=content,
            meter_provider=meter_provider,
            tracer_provider=tracer_provider,
        )

    def __repr__(self) -> str:
        sink = self._sink
        note = ""
        if isinstance(sink, Collect) and sink.keep is not None and sink.total > sink.keep:
            note = f"; the last {sink.keep} outputs are kept"
        return f"Run({self.pipeline.name!r}: {self.summary()}{note})"

    def _repr_html_(self) -> str:
        from streamlab.views import notebook

        return notebook.picture_of(self)

    def _ipython_display_(self) -> None:
        from streamlab.views import notebook

        notebook.show(self)


__all__ = ["ENDED", "Run"]
