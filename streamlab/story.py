"""One line's story, for people: where it went, and what each processor made of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from streamlab.paths import Fate
from streamlab.tables import table
from streamlab.traces import Line

if TYPE_CHECKING:
    import pandas as pd

HOP_COLUMNS = ("processor", "value", "outputs", "duration_us", "attempts", "error")

_NOWHERE = (Fate.FILTERED.value, Fate.ABSORBED.value, Fate.DEAD_LETTER.value)


class LineTrace:
    """One line's story, with a rich repr in a notebook.

    Attributes:
        line_no: line number.
        line: the line.
        branches: its branches, the rows of the traces table, one dict each.
        ways: the processors that each branch went through, in order.
        processors: those of the pipeline, in order.
        recorded: whether its visits were recorded.
    """

    def __init__(self, line: Line, processors: Iterable[str]) -> None:
        self.line_no = line.number
        self.line = line.text
        self.branches: list[dict[str, Any]] = list(line.rows())
        self.ways = [line.paths.names(id) for id in line.ids]
        self.processors = tuple(processors)
        self.recorded = bool(line.hops)
        self._hops = line.hops

    def rows(self) -> list[dict[str, Any]]:
        """Return the branches with ``path`` as a list of names."""
        return [row | {"path": way} for row, way in zip(self.branches, self.ways, strict=True)]

    @property
    def hops(self) -> pd.DataFrame:
        """The visits in order: ``processor, value, outputs, duration_us, attempts, error``."""
        return table(self.hop_rows(), HOP_COLUMNS)

    def hop_rows(self) -> list[dict[str, Any]]:
        """Return the visits as plain rows; ``outputs`` is a list of ``{"to", "value"}``."""
        return [
            {
                "processor": hop.processor,
                "value": hop.value,
                "outputs": [{"to": to, "value": value} for to, value in hop.outs],
                "duration_us": math.nan if hop.duration is None else hop.duration * 1e6,
                "attempts": hop.attempts,
                "error": hop.error,
            }
            for hop in self._hops
        ]

    @property
    def note(self) -> str:
        """What to do when the visits were not recorded; empty when they were."""
        if self.recorded:
            return ""
        if not any(row["path"] for row in self.branches):
            return "It was turned away before the first processor: run.errors says why."
        return 'Its hops were not recorded: on fast input a sample is. Run with trace="hops" to record all.'

    def __repr__(self) -> str:
        lines = [f"line {self.line_no}: {self.line!r}"]
        for row in self.branches:
            output = f": {row['output']!r}" if row["fate"] == "emitted" else ""
            lines.append(f"  {row['path'] or '(before the pipeline)'} -> {row['fate']}{output}")
        for row in self.hop_rows():
            outs = ", ".join(map(_out_text, row["outputs"]))
            time = "" if math.isnan(row["duration_us"]) else f"  {row['duration_us']:.1f} us"
            failed = f"  failed: {row['error']}" if row["error"] else ""
            lines.append(f"    {row['processor']}({row['value']!r}) -> {outs}{time}{failed}")
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])

    def _repr_html_(self) -> str:
        from streamlab.views import markup

        return markup.line(self)


def _out_text(out: Mapping[str, Any]) -> str:
    """Return where a value went, and the value unless it went nowhere."""
    return str(out["to"]) if ended(out) else f"{out['to']}: {out['value']!r}"


def ended(out: Mapping[str, Any]) -> bool:
    """Tell whether what a hop made of a value left the graph there: filtered, absorbed, or a dead letter."""
    return out["to"] in _NOWHERE and out["value"] is None
