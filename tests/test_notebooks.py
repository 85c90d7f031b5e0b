"""The notebooks that come with streamlab: each runs to its end, and a page made of it shows what it showed."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser

from tests.browser import new_context

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.name for path in NOTEBOOKS]


@cache
def executed(name: str) -> Any:
    """Return a notebook as it is after all of it was run, with the state of its widgets, as JupyterLab may save it."""
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()  # raises what a cell raises
    return notebook


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def without_widgets(notebook: Any) -> Any:
    bare = nbformat.from_dict(notebook)
    bare.metadata.pop("widgets", None)
    return bare


def test_those_that_were_promised_are_there() -> None:
    assert set(NAMES) >= {"explore.ipynb", "real_logs.ipynb", "debugging.ipynb"}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_committed_as_it_was_written_not_as_it_ran(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "nbstripout", "--verify", ROOT / "notebooks" / name], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_to_its_end_and_says_nothing_on_standard_error(name: str) -> None:
    said = [o.text for o in outputs(executed(name)) if o.output_type == "stream" and o.name == "stderr"]
    assert said == []


@pytest.mark.parametrize("name", NAMES)
def test_it_has_more_text_than_headings_and_ends_with_a_check(name: str) -> None:
    cells = executed(name).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    prose = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    assert "assert" in code[-1].source
    assert prose > 8 * len(code)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_shows_is_small_and_loads_nothing(name: str) -> None:
    shown = nbformat.writes(without_widgets(executed(name)))
    assert len(shown) < 1_000_000
    assert "cdn" not in shown.lower() and "<script" not in shown.lower()


@pytest.mark.parametrize("widgets", [True, False], ids=["saved with widgets", "saved without"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_made_of_it_shows_the_pictures(name: str, widgets: bool, tmp_path: Path, browser: Browser) -> None:
    """Offline, in a browser: where nothing can be loaded, no widget is there."""
    notebook = executed(name)
    runs = sum(
        'class="streamlab streamlab-picture"' in output.get("data", {}).get("text/html", "") for output in outputs(notebook)
    )
    plots = sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs(notebook))
    body, _ = HTMLExporter().from_notebook_node(notebook if widgets else without_widgets(notebook))
    file = tmp_path / "page.html"
    file.write_text(body, encoding="utf-8")
    with new_context(browser) as context:
        context.route("http*://**/*", lambda route: route.abort())
        page = context.new_page()
        page.goto(file.as_uri(), wait_until="domcontentloaded")
        pictures = page.locator(".streamlab-picture")
        assert pictures.count() == runs
        for at in range(runs):
            assert pictures.nth(at).is_visible()
            assert pictures.nth(at).locator("svg").count() >= 5  # the graph, three charts, the flow
        still = page.locator('img[src^="data:image/svg"], .jp-RenderedSVG svg, .jp-RenderedSVG img')
        shown = [box for at in range(still.count()) if (box := still.nth(at).bounding_box()) and box["width"] > 200]
        assert len(shown) == plots
        assert "Error displaying widget" not in page.locator("body").inner_text()
