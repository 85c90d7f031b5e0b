"""OpenTelemetry: a run's counters, durations and traces over OTLP, or through providers that a program has.

The packages of OpenTelemetry are imported only when a `Telemetry` is made.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamlab.errors import TelemetryError
from streamlab.run import Run
from streamlab.runners import ENDED

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from streamlab.views.opentelemetry.otlp import Sender

__all__ = ["Telemetry", "check"]

#: Traces that are exported at most in one interval, and at the end.
MOST_TRACES, LAST_TRACES = 500, 5_000
#: Seconds that `Telemetry.stop` waits for the last export, and then for one that was broken off.
STOP_SECONDS, BREAK_SECONDS = 5.0, 1.0
#: Seconds between two looks at whether the run has ended.
LOOK_SECONDS = 0.1

_logger = logging.getLogger(__name__)


def check(endpoint: str | None) -> None:
    """Refuse what cannot be: to be asked before a run begins.

    Raises:
        TelemetryError: the packages are not installed, or the endpoint is no address.
    """
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise TelemetryError(f"endpoint={endpoint!r}: it must be like http://localhost:4318")
    try:
        importlib.import_module("streamlab.views.opentelemetry.otlp")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("streamlab"):
            raise
        raise TelemetryError(
            f'telemetry needs the OpenTelemetry SDK and its OTLP exporter ({error}): pip install "streamlab[otel]"'
        ) from error


class Telemetry:
    """Exports a run in the background, from the moment it is made until the run has ended, or `stop`.

    Counters are those of `Run.metrics`, by ``pipeline``, ``component_id`` and ``component_kind`` (``source``,
    ``processor`` or ``sink``): ``streamlab.component.received_events``, ``sent_events``, ``discarded_events``,
    ``errors``, ``retries``, ``dead_lettered_events``, ``absorbed_events``, ``forked_events``, and ``in_flight_events``.
    ``output`` of what was sent is the ``component_id`` that it went to, and dead letters are among what was discarded. What
    is in flight counts as received once it has come to its end, or the run has. Histograms, in seconds, are
    ``streamlab.component.processing_duration``, of the timed sample, and ``streamlab.pipeline.end_to_end_duration``.

    Each line that the run keeps with its hops becomes one trace: a span for the line, named like the pipeline, and below
    it one for each hop, 100 at most. Durations are exact; of start times all that is known is that the line was through
    when the exporter saw it, so hops are laid end to end before that moment. What an exception says is part of a trace;
    line and values are only with ``content=True``.

    An endpoint that does not answer costs the run nothing: it is told of once, as a warning of the logger
    ``streamlab.views.opentelemetry``, and tried again at each interval. Global providers are never set.

    Args:
        run: live or finished.
        endpoint: the collector's address, ``http://localhost:4318``; by default what the environment variables
            ``OTEL_EXPORTER_OTLP_*`` say. Other settings come from there in any case; without a timeout, it is 3 seconds.
        interval: seconds between two exports.
        headers: to be sent along, for example a token.
        content: whether spans have the line, and the value that came to each hop.
        meter_provider: takes the metrics instead of the endpoint, when its readers collect. All runs that it is given for
            are added up. An SDK takes durations one by one, so that it gets a share of them when more than 10,000 of a kind
            have come since it collected last.
        tracer_provider: takes the traces instead of the endpoint. With one of the two providers, and no endpoint, the
            other half is not exported.

    Attributes:
        traces_exported: how many traces were.
        traces_dropped: how many were not: more than 500 came in an interval (failed lines are the last to be dropped), or
            the endpoint did not take them.

    Raises:
        TelemetryError: the packages are not installed, or an argument is wrong.

    Example:
        >>> import streamlab
        >>> from opentelemetry.sdk.metrics import MeterProvider
        >>> from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        >>> reader = InMemoryMetricReader()
        >>> provider = MeterProvider([reader], shutdown_on_exit=False)
        >>> with streamlab.run(["warn: hot"]).telemetry(meter_provider=provider):
        ...     pass
        >>> [metrics] = reader.get_metrics_data().resource_metrics[0].scope_metrics
        >>> received = next(metric for metric in metrics.metrics if metric.name == "streamlab.component.received_events")
        >>> {point.attributes["component_id"]: point.value for point in received.data.data_points}
        {'source': 1, 'sink': 1, 'start': 1, 'warn': 1, 'end': 1}
    """

    def __init__(
        self,
        run: Run,
        endpoint: str | None = None,
        *,
        interval: float = 5.0,
        headers: Mapping[str, str] | None = None,
        content: bool = False,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        if not 0 < interval < math.inf:
            raise TelemetryError(f"interval={interval!r}: it must be a number of seconds, more than 0")
        check(endpoint)
        from streamlab.views.opentelemetry import instruments, otlp, spans

        self._run = run
        self._interval = interval
        self._next = 0  # the first line that was not looked at
        self.traces_exported = 0
        self.traces_dropped = 0
        self._warned = False
        self._sender: Sender | None = None
        if endpoint is not None or (meter_provider is None and tracer_provider is None):
            self._sender = otlp.Sender(
                run, endpoint, headers, metrics=meter_provider is None, traces=tracer_provider is None
            )
            tracer_provider = tracer_provider or self._sender.tracer_provider
        self._tracer = spans.Tracer(tracer_provider, run.pipeline.name, content=content) if tracer_provider else None
        self._instruments = instruments.shared(meter_provider) if meter_provider else None
        if self._instruments is not None:
            self._instruments.begin(run)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="streamlab-telemetry", daemon=True)
        atexit.register(self.stop)  # a program that ends with its run has its last counts exported
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still exports."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Export what there is, and return when that is done, or has taken 6 seconds; more than once is fine."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive() and self._sender is not None:
            self._sender.close()
            self._thread.join(BREAK_SECONDS)

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        told = f"{self.traces_exported} traces exported, {self.traces_dropped} dropped"
        return f"Telemetry({self._run.pipeline.name!r}: {told}{'' if self.running else '; ended'})"

    def _work(self) -> None:
        ending = False
        try:
            while not ending:
                ending = self._pause()
                self._export(LAST_TRACES if ending else MOST_TRACES)
        finally:
            if self._instruments is not None:
                self._instruments.end(self._run)
            if self._sender is not None:
                self._sender.close()
            atexit.unregister(self.stop)

    def _pause(self) -> bool:
        """Wait for the next export, and tell whether it is the last one."""
        until = time.monotonic() + self._interval
        while (left := until - time.monotonic()) > 0:
            if self._run.state in ENDED or self._stopping.wait(min(left, LOOK_SECONDS)):
                return True
        return False

    def _export(self, most: int) -> None:
        made = dropped = 0
        if self._tracer is not None:
            lines, dropped, self._next = self._run.recorded(self._next, most)
            made = self._tracer.export(lines)
        if self._sender is not None:
            lost = self._sender.send()
            made, dropped = made - lost, dropped + lost
            self._warn()
        self.traces_exported += made
        self.traces_dropped += dropped

    def _warn(self) -> None:
        """Say once that the endpoint does not take what it is sent."""
        if self._sender is not None and self._sender.problem and not self._warned:
            self._warned = True
            name, sender = self._run.pipeline.name, self._sender
            _logger.warning("telemetry of pipeline %r does not arrive at %s: %s", name, sender.where, sender.problem)
