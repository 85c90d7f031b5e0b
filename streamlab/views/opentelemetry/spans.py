"""Lines become spans."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode, TracerProvider, set_span_in_context

from streamlab import __version__
from streamlab.paths import Fate
from streamlab.story import LineTrace
from streamlab.views.points import clean

#: Hops of a line that have a span; a line that fans out may have many thousand.
MOST_HOPS = 100


class Tracer:
    """Makes the spans of lines.

    Args:
        provider: where spans go.
        pipeline: its name, which is that of each line's span.
        content: whether they have the line and the values.
    """

    def __init__(self, provider: TracerProvider, pipeline: str, *, content: bool) -> None:
        self._tracer = provider.get_tracer("streamlab", __version__)
        self._pipeline = clean(pipeline)
        self._content = content

    def export(self, lines: Sequence[LineTrace]) -> int:
        """Make the spans of lines that are through by now, and return how many lines those were."""
        now = time.time_ns()
        for line in lines:
            self._line(line, now)
        return len(lines)

    def _line(self, line: LineTrace, end: int) -> None:
        hops = line.hop_rows()
        start = end - sum(map(_nanoseconds, hops))
        fates = list(dict.fromkeys(row["fate"] for row in line.branches))
        attributes: dict[str, Any] = {
            "streamlab.pipeline": self._pipeline,
            "streamlab.line_no": line.line_no,
            "streamlab.fate": fates,
            "streamlab.path": list(dict.fromkeys(clean(row["path"]) for row in line.branches)),
            "streamlab.hops": len(hops),
        }
        if self._content:
            attributes["streamlab.line"] = clean(line.line)
        # An empty context: a line is nobody's child.
        root = self._tracer.start_span(self._pipeline, Context(), attributes=attributes, start_time=start)
        if Fate.DEAD_LETTER in fates:
            root.set_status(Status(StatusCode.ERROR, "dead letter"))
        context, at = set_span_in_context(root, Context()), start
        for hop in hops[:MOST_HOPS]:
            at = self._hop(hop, context, at)
        root.end(end)

    def _hop(self, hop: Mapping[str, Any], context: Context, start: int) -> int:
        """Make the span of a hop, and return when it ended."""
        end = start + _nanoseconds(hop)
        name = clean(hop["processor"])
        attributes: dict[str, Any] = {"streamlab.processor": name, "streamlab.attempts": hop["attempts"]}
        attributes["streamlab.timed"] = not math.isnan(hop["duration_us"])
        if self._content:
            attributes["streamlab.value"] = clean(repr(hop["value"]))
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=start)
        if hop["error"] is not None:
            said = clean(hop["error"])
            kind, _, message = said.partition(": ")
            span.set_status(Status(StatusCode.ERROR, said))
            span.add_event("exception", {"exception.type": kind, "exception.message": message}, end)
        span.end(end)
        return end


def _nanoseconds(hop: Mapping[str, Any]) -> int:
    return 0 if math.isnan(hop["duration_us"]) else round(hop["duration_us"] * 1e3)
