"""The live view in a real kernel, without a browser: what is saved, what goes on, what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

SETUP = f"""
import asyncio, gc, sys, threading, time, weakref
sys.path.insert(0, {str(ROOT)!r})
from streamlab import demo, Pipeline
from streamlab.views.notebook import live as views
from tests.waiting import until

def lines(count, pause):
    for n in range(count):
        yield f"warn: {{n}}"
        time.sleep(pause)

def threads():
    return [thread for thread in threading.enumerate() if thread.name == "streamlab-view"]

def ended():
    until(lambda: not threads())
"""


def run(*cells: str) -> list[list[Any]]:
    """Run cells in a kernel of their own, and return the outputs of each."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SETUP, *cells)])
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False).execute()
    return [cell.outputs for cell in notebook.cells[1:]]


def pictures(outputs: list[Any]) -> list[str]:
    shown = [output.get("data", {}).get("text/html", "") for output in outputs]
    return ["".join(html) for html in shown if "streamlab-picture" in html]


@pytest.mark.parametrize(("count", "pause"), [(0, 0), (1, 0), (40, 0.01), (300, 0.01)])
def test_the_picture_that_is_saved_is_the_last(count: int, pause: float) -> None:
    """Whether the run ends before its view is there, while it is made, or long after."""
    shown, _ = run(f"run = demo.start(lines({count}, {pause}), trace=True)\nrun", "await run; ended(); time.sleep(0.5)")
    (picture,) = pictures(shown)
    assert 'class="state finished"' in picture
    assert f"<b>{count:,}</b>" in picture


def test_a_run_has_one_view_and_one_thread_however_often_it_is_shown() -> None:
    first, second, said = run(
        "run = demo.start(lines(10_000, 0.01), trace=True)\nrun",
        "run",
        "print(len(threads()), views.view_of(run) is views.view_of(run))\n"
        "run.stop(); _ = run.wait(); ended(); time.sleep(0.5)\n"
        "print(sys.getswitchinterval() > 0.004)",
    )
    assert "".join(output["text"] for output in said).split() == ["1", "True", "True"]
    assert pictures(first) == pictures(second)
    assert 'class="state stopped"' in pictures(first)[0]


def test_a_view_keeps_neither_its_run_nor_its_thread() -> None:
    (*_, said) = run(
        "from IPython.display import display\n"
        "def once():\n"
        "    run = demo.start(lines(20, 0.01), trace=True)\n"
        "    display(run)\n"
        "    run.wait()\n"
        "    return weakref.ref(run)\n"
        "gone = once()",
        "ended(); gc.collect(); print(gone() is None, len(threads()))",
    )
    assert said[0]["text"].split() == ["True", "0"]


def test_what_cannot_be_drawn_is_said_and_tried_again() -> None:
    (*_, said) = run(
        "run = demo.start(lines(10_000, 0.005), trace=True)\nrun",
        "view = views.view_of(run); board = views._board\n"
        "def fails(*_): raise ZeroDivisionError('no chart today')\n"
        "views._board = fails\n"
        "until(lambda: 'no chart today' in view._head.value)\n"
        "views._board = board\n"
        "drawn = view._drawn; until(lambda: view._drawn > drawn and 'no chart' not in view._head.value); print('mended')\n"
        "views._board = fails; until(lambda: not threads()); print('given up', 'no chart today' in view._head.value)\n"
        "run.stop(); _ = run.wait()",
    )
    assert "".join(output["text"] for output in said).split("\n")[:2] == ["mended", "given up True"]


def test_who_opens_a_view_while_it_is_drawn_has_the_charts_drawn_anew() -> None:
    (*_, said) = run(
        "run = demo.start(lines(10_000, 0.005), trace=True)\nrun",
        "view = views.view_of(run); draw = view._draw; added = []; add = view._figure.add_traces\n"
        "def draw_and_open(*given, **more):\n"
        "    draw(*given, **more)\n"
        "    view._figure._view_count = 1\n"
        "view._draw = draw_and_open\n"
        "view._figure.add_traces = lambda data: (added.append(1), add(data))\n"
        "until(lambda: added); print('anew')\n"
        "run.stop(); _ = run.wait()",
    )
    assert said[0]["text"].startswith("anew")


def test_the_workers_of_a_cluster_are_shown_and_how_far_they_are_until_it_is_known() -> None:
    shown, alone, said = run(
        "from tests.inline import Inline\n"
        "class Count:\n"
        "    def __call__(self, line): return line\n"
        "cluster, apart = Inline(2), Pipeline('apart').add('count', Count, key=str)\n"
        "run = apart.start(lines(10_000, 0.005), cluster=cluster, epoch_lines=5)\nrun",
        "other = demo.start(lines(5, 0))\nother",
        "view = views.view_of(run); head = view._head\n"
        "until(lambda: 'w0</b>' in head.value and '≈' in head.value and all(row['time_s'] for row in run.crew()))\n"
        "cluster.count = 1; until(lambda: 'gone · ' in head.value and '1 worker, 1 gone' in head.value)\n"
        "run.stop(); _ = run.wait(); ended(); time.sleep(0.5)\n"
        "print([row['lines'] for row in run.crew()], '≈' in head.value)",
    )
    counts, estimated = "".join(output["text"] for output in said).strip("\n[").split("] ")
    assert estimated == "False"
    (picture,), (other,) = pictures(shown), pictures(alone)
    assert picture.count('role="listitem"') == 2
    assert all(f"<b>{count}</b> line" in picture for count in counts.split(", "))
    assert "≈" not in picture
    assert 'aria-label="Workers"' not in other


def test_an_await_that_is_interrupted_leaves_the_run_going() -> None:
    (said,) = run(
        "run = demo.start(lines(10_000, 0.005), trace=True)\n"
        "task = asyncio.ensure_future(asyncio.wait_for(run, 0.2))\n"
        "try: await task\n"
        "except TimeoutError: print(run.state)\n"
        "run.stop(); await run; print(run.state)",
    )
    assert "".join(output["text"] for output in said).split() == ["running", "stopped"]


def test_without_widgets_there_is_the_picture() -> None:
    (shown,) = run(
        "import importlib.util\nimportlib.util.find_spec = lambda name: None\ndemo.run(['warn: hot'], trace=True)"
    )
    assert len(pictures(shown)) == 1
    assert not any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in shown)
