"""One moment of a run as plain data, ready for JSON: what views show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamlab.metrics import Snapshot
from streamlab.paths import EMIT
from streamlab.tables import plain

PATH_COLUMNS = ("path", "fate", "count", "share")


def metrics(processors: Iterable[str], snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Return the rows of the metrics table by processor."""
    return {name: plain(snapshot.row(name)) for name in processors}


def graph(description: Mapping[str, Any], snapshot: Snapshot) -> dict[str, Any]:
    """Return what `streamlab.Pipeline.describe` gave, with the metrics of the nodes and the counts of the edges.

    Edges that nobody declared, and that values took nevertheless (to the output, to who handles errors), come last.
    """
    rows = metrics((node["name"] for node in description["nodes"]), snapshot)
    timed = {name: histogram.count for name, histogram in snapshot.timed.items()}
    nodes = [node | rows[node["name"]] | {"timed": timed.get(node["name"], 0)} for node in description["nodes"]]
    declared = [(None, description["entry"]), *((edge["from"], edge["to"]) for edge in description["edges"])]
    seen = {(o, None if t is EMIT else t): count for (o, t), count in snapshot.totals.edges.items()}
    edges = [{"from": o, "to": t, "count": seen.get((o, t), 0)} for o, t in dict.fromkeys([*declared, *seen])]
    return {**description, "nodes": nodes, "edges": edges}


def paths(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the ways that most branches went, with `PATH_COLUMNS`; ``share`` is of all branches."""
    branches = snapshot.totals.run.received + snapshot.totals.run.forked
    return [
        {"path": " > ".join(names), "fate": fate.value, "count": count, "share": count / branches}
        for (names, fate), count in snapshot.ways.items()
    ]


def failures(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return how many values failed, by processor, kind, and what came of them: ``processor, kind, fate, count``."""
    return [
        {"processor": processor, "kind": kind, "fate": fate.value, "count": count}
        for (processor, kind, fate), count in snapshot.totals.failures.items()
    ]
