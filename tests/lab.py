"""A real JupyterLab in a real Chromium, with folders of its own; as a program, it takes the pictures of the documentation.

    python -m tests.lab [FOLDER]

runs explore.ipynb and writes ``notebook-live.png``, ``notebook-line.png`` and ``notebook-dark.png``, by default to ``docs``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Page, expect

from tests.browser import Visit, new_context, opened

#: Seconds for the server to be there.
START_SECONDS = 60.0
_FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)


@dataclass
class Lab:
    """A JupyterLab that runs.

    Attributes:
        url: its address.
        token: what it asks for.
        folder: of the notebooks.
    """

    url: str
    token: str
    folder: Path

    def write(self, name: str, *cells: str) -> str:
        """Write a notebook, and return its name."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)
        return name


@contextmanager
def served(folder: Path, private: Path) -> Iterator[Lab]:
    """Serve a folder's notebooks; ``private`` is for what JupyterLab keeps to itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"),
        *("--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None", "--LabApp.extension_manager=readonly"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    quiet = private / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True, exist_ok=True)
    quiet.write_text('{"fetchNews": "false"}')
    environment = os.environ | {name: str(private / name.lower()) for name in _FOLDERS}
    with (private / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/api?token={token}", private / "lab.log")
        yield Lab(url, token, folder)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_for(url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, log.read_text(errors="replace")
            time.sleep(0.1)


@dataclass
class Notebook:
    """A notebook that is open in a browser."""

    page: Page

    def ready(self) -> None:
        """Wait until its kernel can be asked."""
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )

    def command(self, name: str) -> None:
        """Give JupyterLab a command, without waiting for what comes of it."""
        self.page.evaluate("(name) => { window.jupyterapp.commands.execute(name); }", name)

    def run_all(self) -> None:
        """Run all cells."""
        self.command("notebook:run-all-cells")

    def go_to(self, index: int) -> None:
        """Make a cell the one that is meant."""
        self.page.evaluate("(at) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = at; }", index)

    def run_cell(self, index: int) -> None:
        """Run one cell."""
        self.go_to(index)
        self.command("notebook:run-cell")

    def last(self) -> int:
        """Wait until the last cell has been run, and return its index."""
        last: int = self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length - 1")
        self.page.wait_for_function(
            "(at) => window.jupyterapp.shell.currentWidget.content.widgets[at].model.executionCount !== null", arg=last
        )
        return last

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """Return what a cell has given, as it would be saved."""
        found: list[dict[str, Any]] = self.page.evaluate(
            "(at) => window.jupyterapp.shell.currentWidget.content.widgets[at].model.sharedModel.toJSON().outputs", index
        )
        return found

    def said(self, index: int) -> str:
        """Return what a cell has printed and returned, as text."""
        texts = []
        for output in self.outputs(index):
            text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("traceback") or ""
            texts.append("".join(text) if isinstance(text, list) else text)
        return "".join(texts)

    def until_said(self, index: int, text: str) -> None:
        """Wait until a cell has said something."""
        self.page.wait_for_function(
            """([at, text]) => JSON.stringify(
              window.jupyterapp.shell.currentWidget.content.widgets[at].model.sharedModel.toJSON().outputs).includes(text)""",
            arg=[index, text],
        )

    def failures(self) -> list[dict[str, Any]]:
        """Return the errors of all cells."""
        count = self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length")
        return [
            output
            for at in range(count)
            if "execution_count" in self._json(at)
            for output in self._json(at)["outputs"]
            if output["output_type"] == "error"
        ]

    def _json(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(
            "(at) => window.jupyterapp.shell.currentWidget.content.widgets[at].model.sharedModel.toJSON()", index
        )
        return found

    def points(self) -> int:
        """Return how many points the first line of the live chart has."""
        count: int = self.page.evaluate(POINTS)
        return count

    def until_points(self, more_than: int) -> None:
        """Wait until the live chart has more points."""
        self.page.wait_for_function(f"(least) => ({POINTS})() > least", arg=more_than)

    def save(self) -> None:
        """Save it, and wait until it is."""
        self.command("docmanager:save")
        self.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")

    def restart_kernel(self) -> None:
        """Restart the kernel."""
        self.page.evaluate(
            "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
        )
        self.ready()


POINTS = """() => {
  const plot = document.querySelector(".streamlab-live .js-plotly-plot");
  return plot?._fullData?.[0]?.x?.length ?? 0;
}"""


@contextmanager
def open_notebook(browser: Browser, lab: Lab, name: str, **options: Any) -> Iterator[Notebook]:
    """Open a notebook in JupyterLab."""
    with new_context(browser, **{"viewport": {"width": 1440, "height": 1100}} | options) as context:
        seen = Visit(context.new_page())
        context.expose_binding("__hit", lambda _, *arguments: seen.hits.append(arguments))
        page = seen.page
        page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}&reset")
        notebook = Notebook(page)
        expect(page.locator(".jp-Notebook")).to_be_visible()
        notebook.ready()
        yield notebook
        page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        assert not seen.hits, seen.hits


# Pictures


def take_pictures(folder: Path) -> list[Path]:
    """Write the pictures of the documentation, of explore.ipynb, and return where they are."""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as private, opened() as browser:
        for name in ("notebooks", "data"):
            shutil.copytree(root / name, Path(place) / name)
        with (
            served(Path(place) / "notebooks", Path(private)) as lab,
            open_notebook(browser, lab, "explore.ipynb") as notebook,
        ):
            notebook.command("application:toggle-left-area")
            notebook.run_all()
            notebook.until_points(6)
            pictures = [_shot(notebook, ".streamlab-live", folder / "notebook-live.png")]
            notebook.page.wait_for_selector(".streamlab-live .state.finished")
            notebook.last()
            story = notebook.page.locator(".streamlab:has(.own)").first
            story.scroll_into_view_if_needed()
            story.screenshot(path=folder / "notebook-line.png")
            pictures.append(folder / "notebook-line.png")
            notebook.save()
            notebook.restart_kernel()
            notebook.page.evaluate(
                "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
            )
            notebook.page.reload()
            notebook.ready()
            notebook.page.wait_for_timeout(2000)
            pictures.append(_shot(notebook, ".streamlab-picture", folder / "notebook-dark.png"))
    return pictures


def _shot(notebook: Notebook, selector: str, path: Path) -> Path:
    for _ in range(3):  # what is above may still grow
        notebook.page.locator(selector).first.evaluate("(node) => node.scrollIntoView()")
        notebook.page.wait_for_timeout(500)
    notebook.page.screenshot(path=path)
    return path


if __name__ == "__main__":
    for picture in take_pictures(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(f"{picture}  {picture.stat().st_size // 1024} kB")
