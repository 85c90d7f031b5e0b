"""Charts of a run: tables in, plotly figures (as dicts, ``{"data", "layout"}``) out. Pure, and without plotly.

Backgrounds are transparent, text and grid are greys that can be read on light and on dark. A trace's ``meta`` says which
processor and column of the history it shows, and whether as the change from tick to tick (and what it was last), so that a
live view can add to it instead of asking for all of it again.

What people's lines and names say is text: plotly takes it for markup, so it is escaped here.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

#: Colours of processors, by their place in the pipeline; who is colour-blind can tell them apart too. Red is for failures.
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#8b5cf6", "#06b6d4", "#ec4899", "#84cc16", "#a16207")
FATE_COLOURS = {
    "emitted": "#10b981",
    "filtered": "#94a3b8",
    "absorbed": "#8b5cf6",
    "dead_letter": "#ef4444",
    "in_flight": "#f59e0b",
}
FAILED = "#ef4444"
#: Lines in one chart at most; more cannot be told apart.
MOST = 8
#: Stops at the beginning, and at the end, of a path in the flow, at most.
STOPS = 12

Figure = dict[str, Any]
Moments = Sequence[Sequence[Mapping[str, Any]]]


def label(name: str, limit: int = 40) -> str:
    """Return a name as plotly shows it: as it is, not as markup, and not longer than ``limit``.

    >>> label("<b>warn</b>")
    '&lt;b&gt;warn&lt;/b&gt;'
    """
    shown = name if len(name) <= limit else name[: limit - 1] + "…"
    return html.escape(shown.encode("utf-8", "replace").decode("utf-8"))


def time_text(seconds: float) -> str:
    """Return a time (seconds since the epoch) as plotly takes it: in the zone of this machine, as its clock shows it."""
    return datetime.fromtimestamp(seconds).isoformat(timespec="milliseconds")


def colour(processors: Sequence[str], name: str) -> str:
    """Return the colour of a processor, the same in all views."""
    return COLOURS[processors.index(name) % len(COLOURS)]


def throughput(moments: Moments, focus: str | None = None) -> Figure:
    """Return lines per second over time, by processor; of the busiest `MOST`, or of one.

    Args:
        moments: as `streamlab.Run.moments` gives them: of each tick, a row by processor.
        focus: the one processor to show.

    Example:
        >>> import streamlab
        >>> figure = throughput(streamlab.run(["warn: hot"]).moments()[1])
        >>> [trace["name"] for trace in figure["data"]]
        ['start', 'warn', 'end']
    """
    names = _names(moments)
    data = [_line(moments, name, "lines_per_s", colour(names, name)) for name in _chosen(moments, focus, "received")]
    return _figure(data, "lines/s")


def latency(moments: Moments, focus: str | None = None) -> Figure:
    """Return the time of one value over time: p99 of the `MOST` processors that take longest, or p50, p95, p99 of one.

    Quantiles are those of the timed sample of each second, in microseconds; arguments are those of `throughput`.
    """
    names = _names(moments)
    if focus is None:
        chosen = _chosen(moments, None, "mean_us")
        data = [_line(moments, name, "p99_us", colour(names, name)) for name in chosen]
        return _figure(data, "p99, µs", log=True)
    shades = {"p50_us": 0.45, "p95_us": 0.7, "p99_us": 1.0}
    data = []
    for column, opacity in shades.items():
        line = _line(moments, focus, column, colour(names, focus)) if focus in names else None
        if line is not None:
            data.append(line | {"name": column.removesuffix("_us"), "opacity": opacity})
    return _figure(data, "µs", log=True)


def problems(moments: Moments, focus: str | None = None, *, since: int = 0) -> Figure:
    """Return errors and retries of each second, by processor.

    Args:
        moments: as for `throughput`.
        focus: as for `throughput`.
        since: the tick of the first moment; of one that is not the run's first, what came before is not known.
    """
    names = _names(moments)
    data = []
    for column, dash in (("errors", "solid"), ("retries", "dot")):
        for name in _chosen(moments, focus, column, least=1):
            line = _line(moments, name, column, colour(names, name), change=True)
            if since:
                line["y"][0] = None
            line["name"] = f"{line['name']} {column}"
            line["line"]["dash"] = dash
            data.append(line)
    return _figure(data, "a second")


def flow(paths: Iterable[Mapping[str, Any]], processors: Sequence[str] = ()) -> Figure:
    """Return how branches flow, as a Sankey diagram: from the source through the processors to their fates.

    Args:
        paths: the rows of `streamlab.Run.paths`: ``path, fate, count``.
        processors: those of the pipeline in order, for their colours.

    Example:
        >>> import streamlab
        >>> figure = flow(streamlab.run(["warn: hot", "info: ok"]).paths.to_dict("records"))
        >>> figure["data"][0]["node"]["label"]
        ['lines', 'start', 'warn', 'end', 'emitted']
    """
    figure = _figure([flow_trace(paths, processors)], "")
    figure["layout"]["margin"] = {"l": 8, "r": 8, "t": 8, "b": 8}
    return figure


def flow_trace(paths: Iterable[Mapping[str, Any]], processors: Sequence[str] = ()) -> dict[str, Any]:
    """Return the one trace of `flow`; ``meta`` says how many columns it has at most.

    A processor that a branch visits again is drawn again, so that it does not go round.
    """
    nodes: dict[tuple[str, str, int], int] = {}
    links: dict[tuple[int, int], int] = {}
    columns = 0
    for row in paths:
        stops = [("source", "lines", 0), *_visits(row["path"].split(" > ") if row["path"] else []), ("fate", row["fate"], 0)]
        columns = max(columns, len(stops))
        numbers = [nodes.setdefault(stop, len(nodes)) for stop in stops]
        for link in pairwise(numbers):
            links[link] = links.get(link, 0) + row["count"]
    order = list(dict.fromkeys([*processors, *(name for kind, name, _ in nodes if kind == "processor")]))
    colours = [_stop_colour(kind, name, order) for kind, name, _ in nodes]
    return {
        "type": "sankey",
        "arrangement": "snap",
        "node": {
            "label": [label(name.replace("_", " ") if kind == "fate" else name) for kind, name, _ in nodes],
            "color": colours,
            "pad": 18,
            "thickness": 14,
            "line": {"width": 0},
            "hovertemplate": "%{label}: %{value:,}<extra></extra>",
        },
        "link": {
            "source": [origin for origin, _ in links],
            "target": [target for _, target in links],
            "value": list(links.values()),
            "color": [_faint(colours[target]) for _, target in links],
            "hovertemplate": "%{source.label} → %{target.label}: %{value:,}<extra></extra>",
        },
        "textfont": {"color": TEXT, "size": 12, "shadow": "none"},
        "valueformat": ",",
        "meta": {"columns": columns},
    }


def timeline(lines: Iterable[tuple[int, Sequence[Mapping[str, Any]]]], processors: Sequence[str] = ()) -> Figure:
    """Return where lines spent their time: a row a line, a bar a visit, in microseconds; the slowest line on top.

    Visits are drawn one after the other. What they waited between them is not in it.

    Args:
        lines: of each line its number and hops, as `streamlab.story.LineTrace.hop_rows` gives them.
        processors: those of the pipeline in order, for their colours.

    Example:
        >>> import streamlab
        >>> line = streamlab.run(["warn: hot"], trace="hops").trace(0)
        >>> figure = timeline([(line.line_no, line.hop_rows())])
        >>> [(bar["name"], bar["y"]) for bar in figure["data"]]
        [('start', ['line 0']), ('warn', ['line 0']), ('end', ['line 0'])]
    """
    bars: dict[str, list[tuple[str, float, float, str]]] = {name: [] for name in processors}
    spent: dict[str, float] = {}
    for number, hops in lines:
        row, at = f"line {number}", 0.0
        for hop in hops:
            if not math.isnan(hop["duration_us"]):
                bars.setdefault(hop["processor"], []).append((row, at, hop["duration_us"], label(str(hop["value"]), 80)))
                at += hop["duration_us"]
        spent[row] = at
    names = list(bars)
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(name),
            "y": [row for row, _, _, _ in visits],
            "base": [begin for _, begin, _, _ in visits],
            "x": [length for _, _, length, _ in visits],
            "customdata": [value for _, _, _, value in visits],
            "marker": {"color": colour(names, name)},
            "hovertemplate": "%{x:,.1f} µs: %{customdata}",
        }
        for name, visits in bars.items()
        if visits
    ]
    figure = _figure(data, "")
    rows = sorted(spent, key=lambda row: -spent[row])
    figure["layout"]["xaxis"] = figure["layout"]["yaxis"] | {"title": {"text": "µs"}, "rangemode": "tozero"}
    figure["layout"]["yaxis"] = {
        "categoryorder": "array",
        "categoryarray": rows,
        "autorange": "reversed",
        "automargin": True,
    }
    return figure | {"layout": figure["layout"] | {"barmode": "overlay", "hovermode": "closest", "bargap": 0.3}}


def board(moments: Moments, paths: Iterable[Mapping[str, Any]], processors: Sequence[str], *, since: int = 0) -> Figure:
    """Return throughput, latency, problems and flow as one figure, for views that can afford only one.

    Processors have one legend: who is hidden there is hidden in all three charts.

    Args:
        moments: as for `throughput`.
        paths: as for `flow`.
        processors: as for `flow`.
        since: as for `problems`.
    """
    whole = _figure([], "")
    layout = whole["layout"] | {"annotations": [], "margin": {"l": 8, "r": 8, "t": 60, "b": 8}, "hovermode": "x"}
    layout["legend"] = layout["legend"] | {"y": 1.1, "traceorder": "normal"}
    charts = (
        ("Lines per second", throughput(moments), [0, 0.29]),
        ("Latency of one value (p99)", latency(moments), [0.355, 0.645]),
        ("Errors, retries (dotted) a second", problems(moments, since=since), [0.71, 1]),
    )
    listed: set[str] = set()
    for at, (title, figure, across) in enumerate(charts, 1):
        number = "" if at == 1 else str(at)
        for trace in figure["data"]:
            processor = trace["meta"]["processor"]
            group = {"legendgroup": label(processor, 200), "showlegend": processor not in listed}
            listed.add(processor)
            whole["data"].append(trace | group | {"xaxis": f"x{number}", "yaxis": f"y{number}"})
        short = {"tickangle": 0, "nticks": 4, "tickformat": "%H:%M:%S"}
        own = short | {"domain": across, "anchor": f"y{number}"} | ({} if at == 1 else {"matches": "x"})
        layout[f"xaxis{number}"] = figure["layout"]["xaxis"] | own
        layout[f"yaxis{number}"] = figure["layout"]["yaxis"] | {"domain": [0.55, 1], "anchor": f"x{number}", "nticks": 5}
        layout["annotations"].append(_heading(title, across[0], 1))
    whole["data"].append(flow_trace(paths, processors) | {"domain": {"x": [0, 1], "y": [0, 0.38]}})
    layout["annotations"].append(_heading("Where lines go", 0, 0.4))
    return whole | {"layout": layout}


def _heading(text: str, x: float, y: float) -> dict[str, Any]:
    place = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 4}
    return {"text": f"<b>{text}</b>", "showarrow": False, "font": {"size": 13}} | place


def _visits(names: Iterable[str]) -> list[tuple[str, str, int]]:
    """Return the stops of a path: each processor, and the how manieth visit it is; of a long one its ends."""
    seen: Counter[str] = Counter()
    stops: list[tuple[str, str, int]] = []
    for name in names:
        stops.append(("processor", name, seen[name]))
        seen[name] += 1
    if len(stops) > 2 * STOPS:
        stops[STOPS:-STOPS] = [("more", f"… {len(stops) - 2 * STOPS:,} more …", 0)]
    return stops


def _stop_colour(kind: str, name: str, processors: Sequence[str]) -> str:
    if kind == "fate":
        return FATE_COLOURS[name]
    return colour(processors, name) if kind == "processor" else GREY


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.28)"


GREY, TEXT, GRID = "#94a3b8", "#7f7f7f", "rgba(127,127,127,.25)"


def _names(moments: Moments) -> list[str]:
    return [row["processor"] for row in moments[-1]] if moments else []


def _chosen(moments: Moments, focus: str | None, column: str, least: float = 0) -> list[str]:
    """Return the processors to show, in order of the pipeline: the one, or those that had most in a column at any moment."""
    names = _names(moments)
    if focus is not None:
        return [focus] if focus in names else []
    had = {
        name: max((moment[at][column] for moment in moments if not math.isnan(moment[at][column])), default=0)
        for at, name in enumerate(names)
    }
    most = sorted(names, key=lambda name: -had[name])[:MOST]
    return [name for name in names if name in most and had[name] >= least]


def _line(moments: Moments, name: str, column: str, colour: str, change: bool = False) -> dict[str, Any]:
    """Return a processor's column over time, as it is or as the change since the tick before."""
    at = _names(moments).index(name)  # all moments have the same rows
    rows = [moment[at] for moment in moments]
    times = [time_text(row["time"]) for row in rows]
    values = [row[column] for row in rows]
    if change:
        values = [value - before for before, value in zip([0, *values], values, strict=False)]
    return {
        "type": "scatter",
        "mode": "lines" if len(times) > 1 else "markers",
        "name": label(name),
        "x": times,
        "y": [None if math.isnan(value) else value for value in values],
        "line": {"color": colour, "width": 1.8, "shape": "linear"},
        "connectgaps": True,
        "meta": {"processor": name, "column": column, "change": change, "last": rows[-1][column] if change else None},
        "hovertemplate": "%{y:,.3~s}",
    }


def _around(data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the range of an axis on which there is one moment only: some seconds; else plotly finds one."""
    times = {time for trace in data if trace["type"] == "scatter" for time in trace["x"]}
    if len(times) != 1:
        return {}
    moment = datetime.fromisoformat(times.pop()).timestamp()
    return {"range": [time_text(moment - 5), time_text(moment + 5)]}


def _figure(data: list[dict[str, Any]], unit: str, *, log: bool = False) -> Figure:
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "tickformat": "~s", "title": {"text": unit}}
    layout = {
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": TEXT, "size": 12},
        "xaxis": {"gridcolor": GRID, "zeroline": False, "automargin": True, "type": "date", **_around(data)},
        "yaxis": axis | ({"type": "log"} if log else {"rangemode": "tozero"}),
        "hovermode": "x unified",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "uirevision": "keep",
    }
    return {"data": data, "layout": layout}
