"""A still and complete picture of a run: what a saved notebook keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.views import markup

if TYPE_CHECKING:
    from streamlab.run import Run


def picture_of(run: Run) -> str:
    """Return the picture of a run, as HTML."""
    return markup.run(run.overview(), run.moments()[1], run.latest_traces(markup.ROWS), run.latest_errors(markup.ROWS))
