"""The live view in a real JupyterLab and a real Chromium."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser import PATIENCE
from tests.lab import Lab, Notebook, open_notebook, served
from tests.payloads import payloads

ROOT = Path(__file__).parents[1]

SETUP = f"""
import sys, threading
sys.path.insert(0, {str(ROOT)!r})
from tests.browser import Lines, access_log, web_shop
"""
LIVE = "source = Lines(access_log())\nlive = web_shop().start(source, trace=True)\nlive"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("lab")
    for folder in ("notebooks", "data"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("generated", "__pycache__"))
    with served(root / "notebooks", tmp_path_factory.mktemp("private")) as lab:
        yield lab


def view(notebook: Notebook) -> Locator:
    return notebook.page.locator(".streamlab-live").first


def button(notebook: Notebook, name: str) -> Locator:
    return view(notebook).locator("button.widget-button", has_text=re.compile(rf"^\s*{name}\s*$"))


def state(of: Locator) -> Locator:
    return of.locator(".state").first


def ledger(of: Locator) -> dict[str, int]:
    """Return the ledger that is shown."""
    counts, names = (of.locator(f".sum > span > {part}").all_text_contents() for part in ("b", ".faint"))
    return {name.replace(" ", "_"): int(count.replace(",", "")) for count, name in zip(counts, names, strict=True)}


def evaluated(notebook: Notebook, index: int) -> Any:
    """Run a cell that prints JSON, and return that."""
    notebook.page.evaluate("(at) => window.jupyterapp.shell.currentWidget.content.widgets[at].model.clearExecution()", index)
    notebook.run_cell(index)
    notebook.until_said(index, "}")
    return json.loads(notebook.said(index))


SHOWN = """() => {
  const plot = document.querySelector(".streamlab-live .js-plotly-plot");
  const hidden = plot._fullData.filter((trace) => trace.visible === "legendonly").map((trace) => trace.name);
  return { range: plot._fullLayout.xaxis.range, hidden };
}"""


def zoom(notebook: Notebook) -> None:
    """Choose a part of the time in the first chart, as a mouse does."""
    plot = view(notebook).locator(".nsewdrag.drag").first
    plot.scroll_into_view_if_needed()
    before = notebook.page.evaluate(SHOWN)["range"]
    box = plot.bounding_box()
    assert box is not None
    notebook.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    notebook.page.mouse.down()
    notebook.page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=8)
    notebook.page.mouse.up()
    notebook.page.wait_for_function(f"(before) => ({SHOWN})().range[0] !== before[0]", arg=before)


def test_explore_runs_from_the_first_cell_to_the_last(browser: Browser, lab: Lab) -> None:
    with open_notebook(browser, lab, "explore.ipynb") as notebook:
        notebook.run_all()
        notebook.until_points(2)
        expect(state(view(notebook))).to_have_text("finished", timeout=2 * PATIENCE)
        notebook.last()
        assert notebook.failures() == []
        assert ledger(view(notebook))["received"] == 10_000
        assert notebook.page.locator(".jp-OutputArea-output .js-plotly-plot .main-svg").count() >= 5


def test_a_run_is_held_by_its_buttons_and_other_cells_go_on(browser: Browser, lab: Lab) -> None:
    name = lab.write(
        "held.ipynb",
        SETUP + LIVE,
        "40 + 2",
        "import json; print(json.dumps({'state': live.state, 'ledger': live.ledger, "
        "'threads': [thread.name for thread in threading.enumerate()]}))",
    )
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_cell(0)
        notebook.until_points(2)
        before = notebook.points()
        notebook.run_cell(1)
        notebook.until_said(1, "42")
        notebook.until_points(before)
        assert "streamlab-view" in evaluated(notebook, 2)["threads"]

        zoom(notebook)
        chosen = notebook.page.evaluate(SHOWN)
        view(notebook).locator(".legendtoggle").first.click()
        notebook.page.wait_for_function(f"() => ({SHOWN})().hidden.length === 3")  # of lines/s, latency, errors
        notebook.until_points(notebook.points() + 2)
        assert notebook.page.evaluate(SHOWN)["range"] == chosen["range"]
        assert len(notebook.page.evaluate(SHOWN)["hidden"]) == 3

        button(notebook, "Pause").click()
        expect(state(view(notebook))).to_have_text("paused")
        expect(button(notebook, "Pause")).to_be_disabled()
        paused = evaluated(notebook, 2)["ledger"]["received"]
        notebook.page.wait_for_timeout(2500)
        assert evaluated(notebook, 2)["ledger"]["received"] == paused == ledger(view(notebook))["received"]

        points = notebook.points()
        button(notebook, "Resume").click()
        expect(state(view(notebook))).to_have_text("running")
        notebook.until_points(points)

        button(notebook, "Dashboard").click()
        link = view(notebook).locator("a")
        expect(link).to_have_attribute("href", re.compile(r"http://localhost:\d+"))
        with notebook.page.context.new_page() as page:
            page.goto(str(link.get_attribute("href")))
            expect(page.locator("#link")).to_have_attribute("data-link", "live")

        button(notebook, "Stop").click()
        expect(state(view(notebook))).to_have_text("stopped")
        notebook.page.wait_for_timeout(500)
        ended = evaluated(notebook, 2)
        assert ended["state"] == "stopped"
        assert ledger(view(notebook)) == ended["ledger"]
        assert not {
            name for name in ended["threads"] if name in ("streamlab-view", "streamlab-web shop", "streamlab-reader")
        }
        for name in ("Pause", "Resume", "Stop"):
            expect(button(notebook, name)).to_be_disabled()


@pytest.mark.parametrize("ended", [True, False], ids=["after the run", "during the run"])
def test_the_picture_stays_when_the_kernel_is_gone(browser: Browser, lab: Lab, ended: bool) -> None:
    name = lab.write("gone.ipynb", SETUP + LIVE, "source.end(); live.wait(); live.ledger")
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_cell(0)
        notebook.until_points(2)
        picture = notebook.page.locator(".streamlab-picture")
        expect(picture).to_be_hidden()
        if ended:
            notebook.run_cell(1)
        else:
            button(notebook, "Pause").click()
        expect(state(view(notebook))).to_have_text("finished" if ended else "paused")
        shown = ledger(view(notebook))
        notebook.page.wait_for_function(
            "(text) => document.querySelector('.streamlab-picture').textContent.includes(text)",
            arg=f"{shown['received']:,}received",
        )
        notebook.save()
        notebook.restart_kernel()
        notebook.page.reload()
        expect(picture).to_be_visible()
        notebook.ready()
        assert ledger(picture) == shown
        expect(state(picture)).to_have_text("finished" if ended else "paused")
        assert picture.locator("svg").count() == 5
        expect(notebook.page.get_by_text("Error displaying widget")).to_be_hidden()
        assert notebook.page.locator(".streamlab-live").count() == 0


def test_a_tab_that_was_closed_shows_the_run_again(browser: Browser, lab: Lab) -> None:
    name = lab.write("closed.ipynb", SETUP + LIVE)
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_cell(0)
        notebook.until_points(3)
        notebook.save()
        notebook.page.reload()
        notebook.ready()
        notebook.until_points(5)
        before = notebook.points()
        notebook.until_points(before)
        width = "() => { const p = document.querySelector('.js-plotly-plot'); return p._fullLayout.width - p.clientWidth; }"
        notebook.page.wait_for_function(f"() => ({width})() === 0")
        button(notebook, "Stop").click()
        expect(state(view(notebook))).to_have_text("stopped")


def test_two_views_of_a_run_and_cells_that_are_run_again(browser: Browser, lab: Lab) -> None:
    name = lab.write("twice.ipynb", SETUP + LIVE, "live", "{name: len(threading.enumerate()) for name in ('threads',)}")
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_cell(0)
        notebook.until_points(1)
        notebook.run_cell(1)
        views = notebook.page.locator(".streamlab-live")
        expect(views).to_have_count(2)
        expect(views.nth(1).locator(".main-svg").first).to_be_attached()
        views.nth(1).locator("button", has_text="Pause").click()
        for at in (0, 1):
            expect(state(views.nth(at))).to_have_text("paused")
        assert ledger(views.nth(0)) == ledger(views.nth(1))
        notebook.run_cell(0)  # another run in the place of the first, which goes on in the other cell
        expect(state(views.nth(0))).to_have_text("running")
        expect(state(views.nth(1))).to_have_text("paused")
        notebook.until_points(1)
        button(notebook, "Stop 1 other run").click()
        expect(state(views.nth(1))).to_have_text("stopped")
        expect(state(views.nth(0))).to_have_text("running")
        expect(button(notebook, "Stop 1 other run")).to_be_hidden()
        assert notebook.failures() == []


def test_a_file_shows_how_far_it_is(browser: Browser, lab: Lab) -> None:
    slow = """
import time
from data.generate import lines
from streamlab import Pipeline
with open("large.log", "w") as file:
    file.writelines(f"{line}\\n" for line in lines("app", 100_000))
slow = Pipeline("slow")
@slow.processor
def wait(line):
    time.sleep(0.0005)
    return line
run = slow.start("large.log")
run
"""
    name = lab.write("file.ipynb", SETUP + slow)
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_cell(0)
        bar = view(notebook).locator(".widget-hprogress .progress-bar")
        expect(bar).to_be_visible()
        part = "() => parseFloat(document.querySelector('.streamlab-live .progress-bar').style.width)"
        notebook.page.wait_for_function(f"() => {{ const width = ({part})(); return 0 < width && width < 100; }}")
        before = notebook.page.evaluate(part)
        notebook.page.wait_for_function(f"(before) => ({part})() > before", arg=before)
        button(notebook, "Stop").click()
        expect(state(view(notebook))).to_have_text("stopped")


def test_buttons_are_answered_while_a_cell_awaits_the_run(browser: Browser, lab: Lab) -> None:
    name = lab.write("awaited.ipynb", SETUP + LIVE, "await live\nprint('ended:', live.state)")
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_cell(0)
        notebook.until_points(1)
        notebook.run_cell(1)
        button(notebook, "Stop").click()
        notebook.until_said(1, "ended: stopped")


def test_a_run_that_has_ended_is_shown_whole_and_why_it_failed(browser: Browser, lab: Lab) -> None:
    failing = """
from streamlab import Pipeline
import time
strict = Pipeline("strict")
@strict.processor(on_error="stop")
def first(line):
    if line == "5": raise ValueError("five is too many")
    return line
run = strict.run((str(n) for n in range(9)), trace=True)
run
"""
    name = lab.write("failed.ipynb", SETUP + failing)
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_cell(0)
        expect(state(view(notebook))).to_have_text("failed")
        expect(view(notebook)).to_contain_text("five is too many")
        assert notebook.points() >= 0
        expect(view(notebook).locator(".main-svg").first).to_be_attached()
        expect(button(notebook, "Stop")).to_be_disabled()
        expect(button(notebook, "Dashboard")).to_be_enabled()


def test_markup_in_names_lines_fields_and_errors_is_text(browser: Browser, lab: Lab) -> None:
    (lab.folder / "payloads.json").write_text(json.dumps(payloads()))
    hostile = """
import json
from pathlib import Path
from streamlab import Pipeline
payloads = json.loads(Path("payloads.json").read_text())
names = [p for p in dict.fromkeys(payloads) if p.strip() and " > " not in p][:20]
odd = Pipeline(payloads[0])
for name, following in zip(names, names[1:]):
    odd.add(name, lambda value: value, to=following)
def last(value):
    if len(value) % 2: raise ValueError(value)
    return {value: value}
odd.add(names[-1], last)
run = odd.run([p for p in payloads for _ in range(3)], trace="hops")
run
"""
    name = lab.write(
        "hostile.ipynb",
        SETUP + hostile,
        "odd",
        "run.latest_lines(1)[0]",
        "run.plot.throughput()",
        "run.plot.paths()",
        "run.plot.timeline()",
        "run.plot.errors()",
    )
    with open_notebook(browser, lab, name) as notebook:
        notebook.run_all()
        expect(state(view(notebook))).to_have_text("finished")
        expect(notebook.page.locator(".jp-Cell .js-plotly-plot .main-svg").nth(6)).to_be_attached()
        assert notebook.failures() == []
        hovered = 0
        for plot in notebook.page.locator(".jp-Cell .js-plotly-plot").all()[1:]:
            plot.scroll_into_view_if_needed()
            box = plot.bounding_box()
            assert box is not None
            for across in range(1, 8):  # over what is drawn there
                notebook.page.mouse.move(box["x"] + box["width"] * across / 8, box["y"] + box["height"] * 0.45, steps=3)
                notebook.page.wait_for_timeout(60)
                hovered += plot.locator(".hoverlayer .hovertext, .hoverlayer .legend").count()
        assert hovered > 5
        assert notebook.page.locator(".jp-Cell-outputWrapper :is(script, iframe, object, embed)").count() == 0
        assert notebook.page.evaluate("() => document.title").endswith("JupyterLab")
