"""``python -m benchmarks.notebook``: what a live view costs a run, how soon a cell is answered meanwhile, and what it keeps.

A run goes as fast as it can in a kernel of JupyterLab, in turns shown and not shown, with Chromium on the same machine.
Prints the rate shown over the rate not shown, by medians of the turns, and quantiles of the time from asking for ``1+1`` to
its answer. With ``--alone`` no browser looks, so that what the kernel does for the view is told from what the browser takes
of the machine. With ``--minutes N`` a view is left open for so long, and what kernel and page hold is told by the minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.browser import opened
from tests.lab import Notebook, open_notebook, served

#: Seconds of a turn, and of the beginning of it that does not count: a new view is 5 MB of script to the browser.
TURN, SETTLE = 4.0, 5.0
ROOT = Path(__file__).parents[1]

SETUP = f"""
import asyncio, itertools, json, sys, time
sys.path.insert(0, {str(ROOT)!r})
import streamlab
from IPython.display import clear_output, display
from data.generate import lines
pool = list(lines("app", 50_000, seed=7))

def begin():
    return streamlab.demo.start(itertools.cycle(pool), trace=True, output=lambda value: None)

async def turn(shown):
    run = begin()
    if shown:
        display(run)
    await asyncio.sleep({SETTLE})
    before, began = run.ledger["received"], time.perf_counter()
    await asyncio.sleep({TURN})
    rate = (run.ledger["received"] - before) / (time.perf_counter() - began)
    run.stop()
    await run
    clear_output()
    return rate
"""
TURNS = """
rates = []
for number in range({rounds}):
    order = (False, True) if number % 2 else (True, False)
    rates.append(dict([(str(shown), await turn(shown)) for shown in order]))
print("RATES", json.dumps(rates))
"""
ASK = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const times = [];
  for (let n = 0; n < 60; n++) {
    const began = performance.now();
    await kernel.requestExecute({ code: "1+1" }).done;
    times.push(performance.now() - began);
    await new Promise((done) => setTimeout(done, 120 + 7 * (n % 20)));
  }
  return times;
}"""


@contextmanager
def notebook(*cells: str) -> Iterator[Notebook]:
    """Open a notebook of these cells in JupyterLab."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as private,
        served(Path(folder), Path(private)) as lab,
        opened() as browser,
        open_notebook(browser, lab, lab.write("bench.ipynb", *cells)) as open_one,
    ):
        open_one.page.set_default_timeout(3_600_000)
        yield open_one


def rates(rounds: int, alone: bool) -> list[dict[str, float]]:
    """Return lines per second of each turn, shown and not shown."""
    turns = TURNS.format(rounds=rounds)
    if alone:
        cells = [nbformat.v4.new_code_cell(SETUP), nbformat.v4.new_code_cell(turns)]
        run = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(run, timeout=3600, store_widget_state=False).execute()
        said = "".join(output.get("text", "") for output in run.cells[1].outputs)
    else:
        with notebook(SETUP, turns) as page:
            page.run_cell(0)
            page.run_cell(1)
            page.until_said(1, "RATES")
            said = page.said(1)
    found: list[dict[str, float]] = json.loads(said.split("RATES")[1])
    return found


def answers() -> dict[str, list[float]]:
    """Return milliseconds to the answer of a cell: while a run is shown, while one is not, and with none."""
    with notebook(SETUP + "run = begin()", "run", "run.stop(); run.wait(); print('stopped')") as page:
        page.run_cell(0)
        page.page.wait_for_timeout(3_000)
        times: dict[str, list[float]] = {"a run, not shown": page.page.evaluate(ASK)}
        page.run_cell(1)
        page.until_points(2)
        page.page.wait_for_timeout(5_000)
        times["a run, shown"] = page.page.evaluate(ASK)
        page.run_cell(2)
        page.until_said(2, "stopped")
        page.page.wait_for_timeout(1_000)
        times["no run"] = page.page.evaluate(ASK)
    return times


MEMORY = """
import json, os
pages = int(open("/proc/self/statm").read().split()[1])
print("MEMORY", json.dumps({"MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6, "received": run.ledger["received"]}))
"""


def memory(minutes: int) -> Iterator[dict[str, Any]]:
    """Yield each minute what they hold, in MB: of the kernel all of it, of the page its objects after a collection."""
    with notebook(SETUP + "run = begin()\nrun", MEMORY) as page:
        page.run_cell(0)
        page.until_points(2)
        devtools = page.page.context.new_cdp_session(page.page)
        for minute in range(minutes + 1):
            devtools.send("HeapProfiler.collectGarbage")
            heap = devtools.send("Runtime.getHeapUsage")["usedSize"] / 1e6
            elements = page.page.evaluate("() => document.getElementsByTagName('*').length")
            page.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[1].model.clearExecution()")
            page.run_cell(1)
            page.until_said(1, "MEMORY")
            kernel = json.loads(page.said(1).split("MEMORY")[1])
            yield {"minute": minute, "kernel": kernel["MB"], "page": heap, "elements": elements} | {
                "lines": kernel["received"]
            }
            page.page.wait_for_timeout(60_000 if minute < minutes else 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--alone", action="store_true", help="no browser")
    parser.add_argument("--minutes", type=int, help="leave a view open, and tell of memory")
    asked = parser.parse_args(arguments)
    if asked.minutes is not None:
        for row in memory(asked.minutes):
            told = "minute {minute:3}: kernel {kernel:6.0f} MB, page {page:6.1f} MB, {elements} elements, {lines:,} lines"
            print(told.format(**row), flush=True)
        return
    began = time.perf_counter()
    turns = rates(asked.rounds, asked.alone)
    shown, hidden = ([turn[key] for turn in turns] for key in ("True", "False"))
    print(f"rate, not shown: {statistics.median(hidden):12,.0f} lines/s")
    print(f"rate, shown:     {statistics.median(shown):12,.0f} lines/s")
    print(f"ratio:           {statistics.median(shown) / statistics.median(hidden):12.3f}")
    print(f"ratio, by turns: {statistics.median(s / h for s, h in zip(shown, hidden, strict=True)):12.3f}")
    if not asked.alone:
        for what, times in answers().items():
            quantiles = statistics.quantiles(times, n=20)
            told = f"p50 {statistics.median(times):6.1f} ms   p95 {quantiles[18]:6.1f} ms   max {max(times):6.1f} ms"
            print(f"1+1, {what:18} {told}")
    print(f"({time.perf_counter() - began:.0f} s)")


if __name__ == "__main__":
    main()
