"""The graph as a picture: an SVG of some kilobytes, for HTML. Pure: a graph in, text out.

It follows the page's theme: text is ``currentColor``, planes and rules are JupyterLab's own colours where it has them. It
has no ids and no script, so that any number of them can be on one page, and all text in it is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streamlab.views.drawing import OUTPUT, SOURCE, Drawing, Edge, draw
from streamlab.views.figures import FAILED, colour
from streamlab.views.letters import escaped, fitted
from streamlab.views.numbers import compact, micros, percent

#: Below this part of its size a graph is scrolled rather than made smaller.
SMALLEST = 0.5
PLANE = "var(--jp-layout-color1, Canvas)"
SUNK = "var(--jp-layout-color2, rgba(127,127,127,.12))"
RULE = "rgba(127,127,127,.55)"
#: Edges that are drawn, at most: more are a thicket that takes seconds.
EDGES = 400
#: Room above and below for what sticks out: of the first node, and of the lowest edge.
AROUND = 10
#: Where processors keep what they keep, in words.
WHERE: dict[Any, str] = {"one": "in one place", "by key": "by key"}


def diagram(graph: Mapping[str, Any]) -> str:
    """Return a graph as SVG; with counts and times if it is one of a run.

    Args:
        graph: as `streamlab.Pipeline.describe` or `streamlab.Run.graph` gives it.

    Example:
        >>> from streamlab.demo import demo
        >>> diagram(demo.describe()).count('class="node"')
        3
    """
    edges = sorted(graph["edges"], key=lambda edge: -edge.get("count", 0))[:EDGES]
    left_out = len(graph["edges"]) - len(edges)
    drawing = draw({**graph, "edges": edges} if left_out else graph)
    names = [node["name"] for node in graph["nodes"]]
    whole = sum(node.get("time_s", 0.0) for node in graph["nodes"])
    parts = _edges(drawing, graph)
    for place, word in ((SOURCE, "lines"), (OUTPUT, "output")):
        if place in drawing.nodes:
            parts.append(_end(drawing.nodes[place], word))
    for node in graph["nodes"]:
        parts.append(_node(drawing.nodes[node["name"]], node, colour(names, node["name"]), whole))
    title = f"The graph of pipeline {graph['pipeline']}: {', '.join(names)}"
    note = f"<div>The {EDGES} edges that carried most are drawn; {left_out:,} more are not.</div>" if left_out else ""
    return (
        f'<div style="overflow-x:auto"><svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escaped(title)}"'
        f' viewBox="0 {-AROUND} {drawing.width:.0f} {drawing.height + 2 * AROUND:.0f}" width="{drawing.width:.0f}"'
        f' style="max-width:100%;min-width:{drawing.width * SMALLEST:.0f}px;height:auto;display:block"'
        f' font-family="system-ui,sans-serif" font-size="12" fill="currentColor">{"".join(parts)}</svg></div>{note}'
    )


def _edges(drawing: Drawing, graph: Mapping[str, Any]) -> list[str]:
    counts: dict[Edge, int] = {
        (SOURCE if edge["from"] is None else edge["from"], OUTPUT if edge["to"] is None else edge["to"]): edge["count"]
        for edge in graph["edges"]
        if "count" in edge
    }
    most = max(counts.values(), default=0) or 1
    lines, labels = [], []
    for edge, (path, x, y, _) in drawing.edges.items():
        count = counts.get(edge)
        width = 1.5 if count is None else 1.2 + 4.5 * math.sqrt(count / most)
        dash = ' stroke-dasharray="2 4"' if count == 0 else ""
        lines.append(f'<path d="{path}" fill="none" stroke="{RULE}" stroke-width="{width:.1f}"{dash}/>{_arrow(path)}')
        if count:
            label = compact(count)
            half = 3.6 * len(label) + 4
            labels.append(
                f'<rect x="{x - half:.1f}" y="{y - 9:.1f}" width="{2 * half:.1f}" height="18" rx="9" fill="{PLANE}"/>'
                f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="11" opacity=".8">{label}</text>'
            )
    return [*lines, *labels]


def _arrow(path: str) -> str:
    """Return the head of an edge, which arrives from the left."""
    x, y = (float(number) for number in path.split("C")[-1].split()[-2:])
    return f'<path d="M{x - 8:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 8:.1f} {y + 4:.1f}z" fill="rgba(127,127,127,.9)"/>'


def _end(box: tuple[float, float, float, float], word: str) -> str:
    x, y, width, height = box
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{height / 2:.1f}" fill="{SUNK}"/>'
        f'<text x="{x + width / 2:.1f}" y="{y + height / 2 + 4:.1f}" text-anchor="middle" opacity=".75">{word}</text>'
    )


def _node(box: tuple[float, float, float, float], node: Mapping[str, Any], own: str, whole: float) -> str:
    x, y, width, height = box
    counted = "received" in node
    share = node["time_s"] / whole if counted and whole else 0.0
    said = escaped(percent(share))
    rows = _counted(node) if counted else _declared(node)
    texts = "".join(
        f'<text x="{x + 14:.1f}" y="{y + 42 + 18 * at:.1f}" opacity=".75">{escaped(fitted(text, 25))}</text>'
        for at, text in enumerate(rows)
    )
    if counted:
        texts += f'<text x="{x + width - 10:.1f}" y="{y + 22:.1f}" text-anchor="end" opacity=".7">{said}</text>'
        texts += f'<rect x="{x:.1f}" y="{y + height - 4:.1f}" width="{width * share:.1f}" height="4" rx="2" fill="{own}"/>'
    if node.get("errors"):
        texts += _failed(x + width, y, node["errors"])
    name = escaped(fitted(node["name"], 17 if counted else 21))
    return (
        f'<g class="node"><title>{escaped(_told(node))}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8" fill="{PLANE}" stroke="{RULE}"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="5" height="{height:.1f}" rx="2.5" fill="{own}"/>'
        f'<text x="{x + 14:.1f}" y="{y + 22:.1f}" font-weight="600">{name}</text>'
        f"{texts}</g>"
    )


def _failed(right: float, top: float, errors: int) -> str:
    label = f"{compact(errors)} failed"
    width = 6.4 * len(label) + 10
    return (
        f'<rect x="{right - width - 6:.1f}" y="{top - 9:.1f}" width="{width:.1f}" height="18" rx="9" fill="{FAILED}"/>'
        f'<text x="{right - width / 2 - 6:.1f}" y="{top + 4:.1f}" text-anchor="middle" font-size="11" font-weight="600"'
        f' fill="#fff">{label}</text>'
    )


def _counted(node: Mapping[str, Any]) -> list[str]:
    time = f"{micros(node['mean_us'])} · p99 {micros(node['p99_us'])}" if node["received"] else "idle"
    return [f"{compact(node['received'])} in · {compact(node['emitted'])} out", time]


def _declared(node: Mapping[str, Any]) -> list[str]:
    on_error = {"dead_letter": "", "skip": "skips errors", "stop": "stops on errors"}
    where = WHERE.get(node.get("state"))
    return [
        f"{node['kind']}, {where}" if where else node["kind"],
        on_error.get(node["on_error"], f"errors → {node['on_error']}"),
    ]


def _told(node: Mapping[str, Any]) -> str:
    """Return what the pointer is told: all of it, in words."""
    targets = ", ".join("output" if target is None else target for target in node["to"]) or "output"
    on_error = "dead letter" if node["on_error"] == "dead_letter" else node["on_error"]
    said = [f"{node['name']}: {node['kind']}, to {targets}, on error {on_error}"]
    if node.get("state"):
        said.append(f"keeps state {WHERE[node['state']]}")
    if "received" in node:
        fields = ("received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight", "errors", "retries")
        said.append(
            ", ".join(f"{field.replace('_', ' ')} {node[field]:,}" for field in fields if node[field]) or "nothing yet"
        )
        quantiles = ", ".join(f"p{percent} {micros(node[f'p{percent}_us'])}" for percent in (50, 95, 99))
        said.append(f"{node['time_s']:.3f} s; {quantiles} of {node['timed']:,} timed")
    return "\n".join(said)
