"""Runs in a notebook: the live view, and plots on demand.

``picture``  a still picture of a run
``live``     the live view of a run: widgets, and the one thread that keeps them up to date
``plots``    plotly figures of a run, and the still pictures beside them

plotly and ipywidgets are imported here and nowhere else, and only when somebody looks.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from streamlab.errors import NotebookError
from streamlab.views.notebook.picture import picture_of

if TYPE_CHECKING:
    from streamlab.run import Run
    from streamlab.views.notebook.plots import Plots

__all__ = ["picture_of", "plots_of", "show"]

#: What the live view is made with.
NEEDED = ("ipywidgets", "anywidget", "plotly")


def show(run: Run) -> None:
    """Display a run where IPython can: in a kernel as a still picture and, with widgets, live; else in one line."""
    if not _in_kernel():
        print(repr(run))
        return
    from IPython.display import display

    still = display({"text/html": picture_of(run), "text/plain": repr(run)}, raw=True, display_id=True)
    if all(importlib.util.find_spec(name) for name in NEEDED):
        from streamlab.views.notebook.live import view_of  # takes a while the first time; there is the picture

        view_of(run).show(still)


def plots_of(run: Run) -> Plots:
    """Return the plots of a run.

    Raises:
        NotebookError: plotly is not installed.
    """
    try:
        from streamlab.views.notebook.plots import Plots
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("streamlab"):
            raise
        raise NotebookError(f'plots need plotly ({error}): pip install "streamlab[notebook]"') from error
    return Plots(run)


def _in_kernel() -> bool:
    """Tell whether there is a frontend that shows more than text."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
