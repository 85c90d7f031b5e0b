"""Charts as still pictures: a plotly figure in, an SVG of some kilobytes out. Pure, and without plotly.

For where no script runs: a saved notebook, a page made of it, a mail. It draws what `streamlab.views.figures` makes: lines
over time, bars from left to right, Sankey diagrams; on planes of any colour, as the figures do.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from streamlab.views.letters import breadth, escaped, fitted
from streamlab.views.numbers import short

#: Room for labels: to the left of numbers, and of names; above (the legend), to the right and below, in pixels.
LEFT, NAMES, ABOVE, RIGHT, BELOW = 52, 84, 26, 10, 22
#: A letter's width, and a legend's row, in pixels.
LETTER, ROW = 6.3, 16
#: Points of a line from which on it has at most two in each column of so many pixels.
POINTS, COLUMN = 300, 3
GRID, FAINT = "rgba(127,127,127,.25)", 'fill="currentColor" opacity=".65"'

Scale = Callable[[float], float]


def still(figure: Mapping[str, Any], width: int = 460, height: int = 240) -> str:
    """Return a figure as SVG, of so many pixels.

    Args:
        figure: ``{"data", "layout"}``, of one chart.
        width: of the picture.
        height: of the picture; the legend comes on top of it, as it needs, and a Sankey diagram takes what its names need.

    Example:
        >>> import streamlab
        >>> from streamlab.views.figures import throughput
        >>> still(throughput(streamlab.run(["warn: hot"]).moments()[1])).startswith("<svg")
        True
    """
    data, layout = [trace for trace in figure["data"] if trace.get("visible", True) is True], figure["layout"]
    kinds = {trace["type"] for trace in data}
    if kinds == {"sankey"}:
        parts, tall = _sankey(data[0], width, height)
        return _svg(parts, width, tall)
    legend, above = _legend(data, width)
    draw = _bars if kinds == {"bar"} else _lines
    box = (LEFT if draw is _lines else NAMES, above, width - RIGHT, above + height - BELOW)
    parts = draw(data, layout, box) if data else [_nothing(width, height)]
    return _svg([*legend, *parts], width, above + height)


def _svg(parts: Iterable[str], width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' style="max-width:100%;height:auto" font-family="system-ui,sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = FAINT) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{text}</text>'


def _shown(label: str, limit: int) -> str:
    """Return a figure's label, which is text escaped for plotly, cut and escaped for SVG."""
    return escaped(fitted(html.unescape(label), limit))


def _nothing(width: float, height: float) -> str:
    return _text(width / 2, height / 2, "nothing", "middle")


def _legend(data: Sequence[Mapping[str, Any]], width: float) -> tuple[list[str], float]:
    """Return the legend in rows, and the height that it takes."""
    x, y, parts = float(LEFT), 12.0, []
    shown = {trace["name"]: trace for trace in data if trace.get("showlegend", True)}
    for name, trace in shown.items():
        room = 28 + LETTER * min(breadth(html.unescape(name)), 24)
        if x > LEFT and x + room > width - RIGHT:
            x, y = LEFT, y + ROW
        line = trace.get("line", {})
        dash = ' stroke-dasharray="2 3"' if line.get("dash") == "dot" else ""
        colour = line.get("color") or trace["marker"]["color"]
        parts.append(
            f'<path d="M{x:.0f} {y - 4:.0f}h16" stroke="{colour}" stroke-width="2.4"{dash}'
            f' opacity="{trace.get("opacity", 1)}"/>'
        )
        parts.append(_text(x + 20, y, _shown(name, 24), more='fill="currentColor" opacity=".8"'))
        x += room
    return parts, y + ROW - 4 if shown else ABOVE / 2


# Lines over time

Box = tuple[float, float, float, float]


def _lines(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], box: Box) -> list[str]:
    times = {text: datetime.fromisoformat(text).timestamp() for trace in data for text in trace["x"]}
    points = [[(times[x], float(y)) for x, y in zip(trace["x"], trace["y"], strict=True) if y is not None] for trace in data]
    values = [y for line in points for _, y in line]
    if not values:
        return [_nothing(box[2], box[3])]
    first, last = min(times.values()), max(times.values())
    if first == last:
        first, last = first - 5, last + 5
    across = _scale(first, last, box[0], box[2])
    log = layout["yaxis"].get("type") == "log"
    up, ticks = _log_axis(values, box) if log else _axis(values, box)
    parts = _frame(box, [(up(tick), short(tick)) for tick in ticks], _times(first, last, across), layout)
    for trace, line in zip(data, points, strict=True):
        parts.append(_line(trace, [(across(x), up(y)) for x, y in line if not log or y > 0]))
    return parts


def _scale(first: float, last: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - first) / (last - first) * (end - start)


def _axis(values: Sequence[float], box: Box) -> tuple[Scale, list[float]]:
    """Return a linear axis from 0, and its ticks: 1, 2 or 5 times a power of ten apart."""
    most = max(*values, 1e-9)
    power = 10 ** math.floor(math.log10(most / 4))
    step = next(step * power for step in (1, 2, 5, 10) if most / (step * power) <= 4)
    top = math.ceil(most / step) * step
    return _scale(0, top, box[3], box[1]), [step * at for at in range(round(top / step) + 1)]


def _log_axis(values: Sequence[float], box: Box) -> tuple[Scale, list[float]]:
    """Return a logarithmic axis of whole powers of ten."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    plain = _scale(low, high, box[3], box[1])
    each = math.ceil((high - low) / 5)
    return lambda value: plain(math.log10(value)), [10.0**power for power in range(low, high + 1, each)]


def _times(first: float, last: float, across: Scale) -> list[tuple[float, str]]:
    """Return the labels of the axis of time: where, and what."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    step = next((step for step in steps if (last - first) / step <= 5), 7200)
    ticks = [step * at for at in range(math.ceil(first / step), math.floor(last / step) + 1)]
    form = "%H:%M:%S" if step < 60 else "%H:%M"
    return [(across(tick), datetime.fromtimestamp(tick).strftime(form)) for tick in ticks]


def _frame(
    box: Box, ups: list[tuple[float, str]], acrosses: list[tuple[float, str]], layout: Mapping[str, Any]
) -> list[str]:
    left, top, right, bottom = box
    parts = []
    for y, text in ups:
        parts += [f'<path d="M{left} {y:.1f}H{right}" stroke="{GRID}"/>', _text(left - 6, y + 4, escaped(text), "end")]
    for x, text in acrosses:
        parts += [f'<path d="M{x:.1f} {top}V{bottom}" stroke="{GRID}"/>']
        parts += [_text(min(max(x, left + 20), right - 20), bottom + 16, escaped(text), "middle")]
    unit = layout["yaxis"].get("title", {}).get("text", "")
    middle = (top + bottom) / 2
    if unit:
        turned = f'transform="rotate(-90 10 {middle:.1f})" {FAINT}'
        parts.append(_text(10, middle, escaped(unit), "middle", turned))
    return parts


def _line(trace: Mapping[str, Any], points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return ""
    colour, title = trace["line"]["color"], f"<title>{_shown(trace['name'], 60)}</title>"
    opacity = trace.get("opacity", 1)
    points = _thinned(points)
    if len(points) == 1:
        ((x, y),) = points
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" opacity="{opacity}">{title}</circle>'
    dash = ' stroke-dasharray="2 3"' if trace["line"].get("dash") == "dot" else ""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"{dash}'
        f' opacity="{opacity}">{title}</path>'
    )


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return no more points than can be told apart: of those that share a column of pixels the lowest and the highest."""
    if len(points) <= POINTS:
        return points
    kept: list[tuple[float, float]] = []
    for _, column in groupby(points, key=lambda point: point[0] // COLUMN):
        ends = sorted({min(among := list(column), key=_height), max(among, key=_height)})
        kept.extend(ends)
    return kept


def _height(point: tuple[float, float]) -> float:
    return point[1]


# Bars from left to right


def _bars(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], box: Box) -> list[str]:
    drawn = {row for trace in data for row in trace["y"]}
    rows = [row for row in layout["yaxis"]["categoryarray"] if row in drawn]
    left, top, right, bottom = box
    height = (bottom - top) / len(rows)
    ends = [base + x for trace in data for base, x in zip(trace["base"], trace["x"], strict=True)]
    most = max(*ends, 1e-9)
    across = _scale(0, most, left, right)
    _, ticks = _axis(ends, box)
    shown = [(across(tick), short(tick)) for tick in ticks if tick <= most]
    names = [(top + height * (at + 0.5), row) for at, row in enumerate(rows)] if height >= 11 else []
    parts = _frame(box, names, shown, {"yaxis": {}})
    for trace in data:
        for row, base, x in zip(trace["y"], trace["base"], trace["x"], strict=True):
            y, thick = top + height * (rows.index(row) + 0.15), height * 0.7
            title = f"<title>{_shown(trace['name'], 60)}: {short(x)}</title>"
            parts.append(
                f'<rect x="{across(base):.1f}" y="{y:.1f}" width="{max(across(base + x) - across(base), 0.5):.1f}"'
                f' height="{thick:.1f}" fill="{trace["marker"]["color"]}" rx="1.5">{title}</rect>'
            )
    parts.append(_text(right, bottom + 16, escaped(layout["xaxis"].get("title", {}).get("text", "")), "end"))
    return parts


# Sankey diagrams

THICK, PAD = 12, 14


def _sankey(trace: Mapping[str, Any], width: float, height: float) -> tuple[list[str], float]:
    """Return a Sankey diagram, and the height that it takes."""
    link, node = trace["link"], trace["node"]
    links = list(zip(link["source"], link["target"], link["value"], link["color"], strict=True))
    if not links:
        return [_nothing(width, height)], height
    columns = _columns(len(node["label"]), [(origin, target) for origin, target, _, _ in links])
    room = [
        max(
            sum(value for _, target, value, _ in links if target == at),
            sum(value for origin, _, value, _ in links if origin == at),
        )
        for at in range(len(columns))
    ]
    stacks = [[at for at, column in enumerate(columns) if column == which] for which in range(max(columns) + 1)]
    height = max(height, (PAD + 4) * (1 + max(map(len, stacks))))
    per = min((height - PAD * (len(stack) + 1)) / max(sum(room[at] for at in stack), 1) for stack in stacks)
    step = (width - THICK - 90) / max(len(stacks) - 1, 1)
    tops = _tops(stacks, room, per, height)
    left = [8 + columns[at] * step for at in range(len(columns))]
    parts = _ribbons(links, left, tops, per)
    for at, name in enumerate(node["label"]):
        tall = max(room[at] * per, 1.0)
        title = f"<title>{_shown(name, 60)}: {room[at]:,}</title>"
        parts.append(
            f'<rect x="{left[at]:.1f}" y="{tops[at]:.1f}" width="{THICK}" height="{tall:.1f}" rx="2"'
            f' fill="{node["color"][at]}">{title}</rect>'
        )
        bold = 'fill="currentColor" font-size="11.5"'
        parts.append(_text(left[at] + THICK + 5, tops[at] + tall / 2 + 4, _shown(name, 18), more=bold))
    return parts, height


def _columns(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return the column of each node: one after the last that leads to it, the ends in the last; loops lead back."""
    columns = [0] * count
    ways: list[tuple[int, int]] = []
    before = [{at} for at in range(count)]  # each node, and those that lead to it
    for origin, target in links:
        if target not in before[origin]:
            ways.append((origin, target))
            for those in before:
                if target in those:
                    those |= before[origin]
    for _ in range(count):
        reached = list(columns)
        for origin, target in ways:
            columns[target] = max(columns[target], columns[origin] + 1)
        if columns == reached:
            break
    leads = {origin for origin, _ in links}
    last = max(columns)
    return [column if at in leads else last for at, column in enumerate(columns)]


def _tops(stacks: Sequence[Sequence[int]], room: Sequence[float], per: float, height: float) -> list[float]:
    """Return the upper edge of each node; stacks are centred."""
    tops = [0.0] * len(room)
    for stack in stacks:
        y = (height - sum(room[at] * per for at in stack) - PAD * (len(stack) - 1)) / 2
        for at in stack:
            tops[at] = y
            y += room[at] * per + PAD
    return tops


def _ribbons(
    links: Sequence[tuple[int, int, float, str]], left: Sequence[float], tops: Sequence[float], per: float
) -> list[str]:
    parts = []
    out, into = list(tops), list(tops)
    for origin, target, value, colour in sorted(links, key=lambda link: (tops[link[0]], tops[link[1]])):
        thick = value * per
        x, to = left[origin] + THICK, left[target]
        y, to_y = out[origin], into[target]
        out[origin], into[target] = out[origin] + thick, into[target] + thick
        half, thick = (x + to) / 2, max(thick, 1.0)
        upper = f"M{x:.1f} {y:.1f}C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to:.1f} {to_y:.1f}"
        lower = f"V{to_y + thick:.1f}C{half:.1f} {to_y + thick:.1f} {half:.1f} {y + thick:.1f} {x:.1f} {y + thick:.1f}z"
        parts.append(f'<path d="{upper}{lower}" fill="{colour}"><title>{value:,}</title></path>')
    return parts
