"""The page at ``/``: state, ledger, and the way to everything else. It needs no script, no style and no network."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

_LINKS = {
    "stats": "state, ledger and metrics",
    "trace": "the last lines, and where they went; trace/NUMBER is one line's story",
    "errors": "the last failures",
    "graph": "the pipeline, with counts",
    "healthz": "whether the run is well",
}


def page(stats: Mapping[str, Any], reason: str | None) -> bytes:
    """Return the page as HTML in UTF-8.

    Args:
        stats: what `streamlab.Run.stats` returns.
        reason: why the run failed, if it did.
    """
    name, state = html.escape(stats["pipeline"]), html.escape(stats["state"])
    why = f": {html.escape(reason)}" if reason else ""
    ledger = "".join(f"<tr><th>{html.escape(key)}</th><td>{count}</td></tr>" for key, count in stats["lines"].items())
    links = "".join(f'<li><a href="{path}">{path}</a>: {html.escape(text)}</li>' for path, text in _LINKS.items())
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name} - streamlab</title>'
        '<link rel="icon" href="data:,"></head>'
        f"<body><h1>{name}</h1><p>{state}, {stats['uptime_s']:.1f} s{why}</p>"
        f"<table>{ledger}</table><ul>{links}</ul></body></html>\n"
    )
    return text.encode("utf-8", "backslashreplace")  # a reason may quote bytes of a log that were not UTF-8
