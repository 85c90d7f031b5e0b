"""The live view of a run: its ledger, graph, charts, latest traces and errors, and the buttons to hold it.

One thread owns the widgets once they are there: it looks at the run, at most four times a second, and ends with it. What
buttons call only asks things of the run, which any thread may, and wakes the thread; so does a browser that opens the view.

Before the widgets comes a still picture of the run. It is hidden where the widgets are; where they are not yet, or are gone
(the kernel was restarted, the notebook is opened anew, or was made a page) it is what there is to see.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import numpy as np
import pandas  # noqa: F401 - wholly, before the thread runs: plotly looks for it in every update
import plotly.graph_objects as go
from IPython.display import DisplayHandle, display

from streamlab.errors import StreamlabError
from streamlab.run import ENDED, Run
from streamlab.views import figures, markup
from streamlab.views.letters import escaped
from streamlab.views.notebook.picture import picture_of

#: Seconds between two looks at the run.
PERIOD = 0.25
#: How many times longer than a look the pause after it is, at least: looking costs a busy run some per cent at most.
REST = 30.0
#: Seconds after which a thread that computes lets another one go on, while a view follows a run. By Python's own 5 ms, a
#: cell that is run beside a busy run would wait that long a dozen times.
SWITCH_SECONDS = 0.0005
#: Moments in the charts, at most; and points of all lines together, at most.
MOMENTS = 600
POINTS = 4_800
#: Seconds between two still pictures: first, and at last; each is twice as long as the one before.
FIRST_PICTURE, LAST_PICTURE = 1.0, 60.0
#: Looks after a browser has opened the view in which the charts are drawn whether there is news or not: until then plotly
#: may have taken a width before it had one, and has what the charts were made with, not what they are now.
SETTLING = 8
#: Looks that may fail one after the other before the view gives up.
TRIES = 5
#: Still pictures of one view that are kept up to date: the last ones.
PICTURES = 8


Identity = tuple[str, str | None, str | None]

_views: weakref.WeakKeyDictionary[Run, View] = weakref.WeakKeyDictionary()
_views_lock = threading.RLock()  # a view that is made looks at the others


def view_of(run: Run) -> View:
    """Return the view of a run: one and the same, however often the run is displayed."""
    with _views_lock:
        view = _views.get(run)
        if view is None:
            view = _views[run] = View(run)
        return view


def _others(run: Run) -> list[Run]:
    """Return the other runs that were displayed and go on, as those do that a cell had started before it was run again."""
    with _views_lock:
        return [other for other in _views if other is not run and other.state not in ENDED]


class View:
    """The widgets of one run.

    Args:
        run: what to look at; it is kept from being forgotten only while it goes on.
    """

    def __init__(self, run: Run) -> None:
        self._run = weakref.ref(run)
        self._awake = threading.Event()
        # The lock guards what follows. Whoever wants something (a display, a browser that opens the view, a button) says so
        # here and wakes the thread, which is started if there is none; it ends when the run has ended and nothing is due.
        self._lock = threading.Lock()
        self._following = False
        self._due = 0  # looks that are to be taken even though the run has ended
        self._anew = False  # whether the charts are to be drawn from nothing
        self._pictures: list[DisplayHandle] = []
        self._shown: dict[tuple[int, str], Any] = {}
        self._ticks, self._drawn = -1, 0
        self._traces: list[Identity] = []
        self._around: Any = None
        self._head, self._graph, self._latest, self._said = (ipywidgets.HTML() for _ in range(4))
        self._progress = ipywidgets.FloatProgress(max=1.0, layout={"width": "16em"})
        self._progress.style.bar_color = figures.COLOURS[2]
        self._buttons = {
            "pause": self._button("Pause", "pause", "Take no more lines until Resume", Run.pause),
            "resume": self._button("Resume", "play", "Go on", Run.resume),
            "stop": self._button("Stop", "stop", "Bring what was read to its end, and end the run", Run.stop),
            "dashboard": self._button("Dashboard", "external-link", "Show the run in a tab of its own", self._serve),
            "others": self._button(
                "Stop other runs", "stop", "Stop the runs that go on in this kernel beside this", _stop_others
            ),
        }
        self._figure = go.FigureWidget(_prepared(run))
        self._figure._config = {"responsive": True, "displaylogo": False}
        tools = ipywidgets.HBox([*self._buttons.values(), self._progress, self._said], layout={"flex_flow": "row wrap"})
        style = ipywidgets.HTML(markup.STYLE, layout={"display": "none"})
        parts = [style, self._head, tools, self._graph, self._figure, self._latest]
        self._box = ipywidgets.VBox(parts, layout={"max_width": "1200px"})
        self._box.add_class("streamlab-live")
        self._look(run)
        self._figure.observe(self._opened, "_view_count")

    def show(self, picture: DisplayHandle) -> None:
        """Display it, after a picture that it is to keep up to date."""
        widget = {"model_id": self._box.model_id, "version_major": 2, "version_minor": 0}
        nothing = {"text/html": "<span></span>", "text/plain": ""}  # where there are no widgets
        display({"application/vnd.jupyter.widget-view+json": widget} | nothing, raw=True)
        with self._lock:
            self._pictures = [*self._pictures, picture][-PICTURES:]
            self._due = max(self._due, 1)
        run = self._run()
        if run is not None and run.state in ENDED:  # since the picture was drawn, perhaps; and while the cell still runs,
            self._draw_pictures(run)  # as programs that execute notebooks do not listen between two cells
        self._wake()

    # Buttons

    def _button(self, label: str, icon: str, hint: str, ask: Callable[[Run], object]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=label, icon=icon, tooltip=hint, layout={"width": "auto"})

        def clicked(_: object) -> None:
            run = self._run()
            if run is None:
                self._say("The run is no more.")
                return
            with contextlib.suppress(StreamlabError):  # it has ended meanwhile, as will be shown
                ask(run)
            self._wake()

        button.on_click(clicked)
        return button

    def _serve(self, run: Run) -> None:
        """Start the dashboard, and say where it is; the widget for that is the callbacks' own."""
        try:
            url = escaped(run.dashboard().url)
        except StreamlabError as error:
            self._say(f'<span class="bad">{escaped(str(error))}</span>')
        else:
            self._say(f'<a href="{url}" target="_blank" rel="noopener" style="text-decoration:underline">{url}</a>')

    def _say(self, text: str) -> None:
        self._said.value = markup.piece(text)

    def _opened(self, change: Any) -> None:
        """Note that a browser has opened the view, or closed it."""
        if (change.new or 0) > (change.old or 0):
            with self._lock:
                self._due, self._anew = SETTLING, True
            self._wake()

    def _wake(self) -> None:
        """Let the thread look now; start it if there is none and something to look at."""
        run = self._run()
        with self._lock:
            if not self._following and run is not None and (self._due or run.state not in ENDED):
                self._following = True
                threading.Thread(target=self._follow, args=(run,), name="streamlab-view", daemon=True).start()
        self._awake.set()

    # The thread

    def _follow(self, run: Run) -> None:
        """Keep the widgets up to date until the run has ended, and leave a picture of that."""
        failed, pause, next_picture = 0, FIRST_PICTURE, time.monotonic() + FIRST_PICTURE
        with _nimble:
            while True:
                began = time.monotonic()
                ended = run.state in ENDED  # before the look: it then sees the last of it
                failed = 0 if self._try_to_look(run) else failed + 1
                if began >= next_picture or (ended and self._due <= 1):
                    pause = min(2 * pause, LAST_PICTURE)
                    next_picture = began + pause
                    self._draw_pictures(run)
                with self._lock:
                    self._due = max(self._due - 1, 0)
                    if failed == TRIES or (ended and not self._due):
                        self._following = False
                        return
                self._awake.wait(max(PERIOD, REST * (time.monotonic() - began)))
                self._awake.clear()

    def _try_to_look(self, run: Run) -> bool:
        """Show what is new; or that it failed: a view that stands still, and says nothing, would be believed."""
        try:
            self._look(run)
        except Exception as error:
            self._head.value = markup.piece(f'<div class="bad">The view failed: {escaped(repr(error))}</div>')
            self._shown.clear()
            return False
        return True

    def _look(self, run: Run) -> None:
        """Show what is new."""
        overview = run.overview()
        state = overview["stats"]["state"]
        self._show_state(run, overview, state)
        if overview["ticks"] == self._ticks and state not in ENDED and not self._due:
            return
        self._set(self._graph, "value", markup.piece(markup.graph(overview)))
        rows = run.latest_traces(markup.ROWS), run.latest_errors(markup.ROWS)
        self._set(self._latest, "value", markup.piece(markup.latest(overview, *rows)))
        self._draw(run, overview, last=state in ENDED)
        self._ticks = overview["ticks"]  # at last: what fails is tried again

    def _show_state(self, run: Run, overview: Any, state: str) -> None:
        self._set(self._head, "value", markup.piece(markup.head(overview)))
        usable = {"pause": state in ("starting", "running"), "resume": state == "paused", "stop": state not in ENDED}
        for name, button in self._buttons.items():
            self._set(button, "disabled", not usable.get(name, True))
        others = _others(run)
        self._set(self._buttons["others"].layout, "display", "" if others and state not in ENDED else "none")
        self._set(self._buttons["others"], "description", f"Stop {len(others)} other run{'' if len(others) == 1 else 's'}")
        progress = run.progress
        self._set(self._progress.layout, "display", "none" if progress is None else "")
        self._set(self._progress, "value", progress or 0.0)

    def _set(self, widget: Any, name: str, value: Any) -> None:
        """Set a property if it is another; asking the widget would be slow. Widgets live as long as the view, so do ids."""
        key = id(widget), name
        if self._shown.get(key) != value:
            setattr(widget, name, value)
            self._shown[key] = value

    def _draw(self, run: Run, overview: Any, *, last: bool) -> None:
        """Bring the charts up to date, in one message."""
        figure, board = self._figure, _board(run, overview)
        with self._lock:
            anew, self._anew = self._anew, False
        traces = [_identity(trace) for trace in board["data"]]
        if anew or traces != self._traces:
            self._traces = traces
            hidden = {trace.legendgroup for trace in figure.data if trace.visible == "legendonly"}
            for trace in board["data"]:
                trace["visible"] = "legendonly" if trace.get("legendgroup") in hidden else True
            figure.data = []
            figure.add_traces(board["data"])
        self._drawn += 1
        with figure.batch_update():
            for shown, trace in zip(figure.data, board["data"], strict=True):
                shown.update({name: trace[name] for name in ("x", "y", "mode", "node", "link") if name in trace})
            around = board["layout"]["xaxis"].get("range")
            if around != self._around:  # and not each time: it would undo what somebody has zoomed into
                self._around = around
                figure.layout.xaxis = board["layout"]["xaxis"]
            figure.layout.meta = self._drawn  # a change of the layout: plotly then looks how wide it is
        if last:
            _keep(figure)

    def _draw_pictures(self, run: Run) -> None:
        with self._lock:
            pictures = list(self._pictures)
        with contextlib.suppress(Exception):  # the kernel may be ending; a picture less is no reason to stop
            still = {"text/html": picture_of(run), "text/plain": repr(run)}
            for picture in pictures:
                picture.update(still, raw=True)


def _stop_others(run: Run) -> None:
    for other in _others(run):
        other.stop()


class _Nimble:
    """Lets threads take turns more often, while it is entered, by however many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._usual = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._entered += 1
            if self._entered == 1:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(SWITCH_SECONDS)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered and sys.getswitchinterval() == SWITCH_SECONDS:  # else somebody else has set it since
                sys.setswitchinterval(self._usual)


_nimble = _Nimble()


def _prepared(run: Run) -> dict[str, Any]:
    board = _board(run, run.overview())
    return {"data": [], "layout": board["layout"] | {"height": 560, "template": "none"}}


def _board(run: Run, overview: Any) -> dict[str, Any]:
    """Return the charts, with columns as plotly sends them fastest."""
    processors = list(overview["stats"]["processors"])
    most = min(MOMENTS, POINTS // max(3 * min(len(processors), figures.MOST), 1))
    ticks, moments = run.moments(-most)
    board = figures.board(moments, overview["paths"], processors, since=ticks - len(moments))
    for trace in board["data"]:
        if trace["type"] == "scatter":
            # times stay text: plotly forgets that an axis is one of time when it gets numbers
            trace["y"] = np.array([np.nan if y is None else y for y in trace["y"]], dtype="float64")
    return board


def _identity(trace: Mapping[str, Any]) -> Identity:
    """Return what a trace shows; while that is the same, only its numbers change."""
    meta = trace["meta"]
    return trace["type"], meta.get("processor"), meta.get("column")


def _keep(figure: go.FigureWidget) -> None:
    """Let a figure be opened anew as it is now: what a new tab gets is what it was made with.

    These are plotly's own names for the two; should they be others one day, a new tab has an older chart, as before.
    """
    with contextlib.suppress(AttributeError):
        figure._widget_data = figure._data
        figure._widget_layout = figure._layout_obj._props
