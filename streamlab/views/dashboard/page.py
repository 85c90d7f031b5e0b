"""The page's files: they come with streamlab, and plotly.js with plotly, so that nothing is asked of any other server."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.resources import files

#: Names below the page, with their media types.
ASSETS = {
    "style.css": "text/css; charset=utf-8",
    "main.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
    "ledger.js": "text/javascript; charset=utf-8",
    "graph.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "traces.js": "text/javascript; charset=utf-8",
    "workers.js": "text/javascript; charset=utf-8",
    "errors.js": "text/javascript; charset=utf-8",
    "notices.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "plotly-policy.js": "text/javascript; charset=utf-8",
    "plotly.js": "text/javascript; charset=utf-8",
    "plotly.css": "text/css; charset=utf-8",
}


@lru_cache
def asset(name: str, zipped: bool = False) -> bytes:
    """Return a file of the page, ``index.html`` or one of `ASSETS`, perhaps compressed."""
    if zipped:
        return gzip.compress(asset(name), compresslevel=6, mtime=0)
    if name == "plotly.js":
        return files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return files(__package__ or "").joinpath("static", name).read_bytes()
