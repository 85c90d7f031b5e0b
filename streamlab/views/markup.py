"""Runs, pipelines and lines as HTML, for notebooks and pages made of them. Pure: plain data in, text out.

Nothing in it runs and nothing is loaded; all text is escaped. Where a viewer takes away its style and its pictures, what is
left are tables that say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from streamlab.story import LineTrace, ended
from streamlab.views import figures
from streamlab.views.crew import Card, cards, counted, estimated
from streamlab.views.diagram import diagram
from streamlab.views.letters import escaped, fitted
from streamlab.views.numbers import clock, compact, micros, percent, short
from streamlab.views.stills import still
from streamlab.views.values import LONG, SHORT, changed, cut, short_value, value

#: Notices that a picture shows.
NOTICES = 3

STYLE = f"<style>{resources.files(__package__).joinpath('markup.css').read_text(encoding='utf-8')}</style>"

LEDGER = ("received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight")
_FATES = dict(zip(LEDGER[2:], ("emitted", "filtered", "absorbed", "dead_letter", "in_flight"), strict=True))
#: Rows of a table, and of a line's story, at most.
ROWS, HOPS = 10, 100
#: Workers that are shown, at most.
WORKERS = 40
#: Stops at the beginning and at the end of a path, at most.
STOPS = 8
#: Pixels of a chart, and of the flow.
CHART, FLOW = (380, 210), (1180, 260)


def page(*parts: str, kind: str = "") -> str:
    """Return parts as one piece of HTML that has its style; ``kind`` is a class of its own."""
    return piece(STYLE, *parts, kind=kind)


def piece(*parts: str, kind: str = "") -> str:
    """Return parts as one piece of HTML for a page that has the style."""
    return f'<div class="streamlab {kind}">{"".join(parts)}</div>'


# A pipeline


def pipeline(description: Mapping[str, Any]) -> str:
    """Return a pipeline, as `streamlab.Pipeline.describe` gives it: its name and its graph."""
    count = len(description["nodes"])
    several = f'<span class="faint">{count} processor{"" if count == 1 else "s"}</span>'
    name = f'<span class="name">{escaped(description["pipeline"])}</span>'
    return page(f'<div class="row">{name}{several}</div>', folded("Graph", diagram(description)))


# A run


def run(overview: Mapping[str, Any], moments: figures.Moments, traces: Sequence[Any], errors: Sequence[Any]) -> str:
    """Return a still and complete picture of a run.

    Args:
        overview: as `streamlab.Run.overview` gives it.
        moments: as `streamlab.Run.moments` gives them.
        traces: rows, as `streamlab.Run.latest_traces` gives them.
        errors: rows, as `streamlab.Run.latest_errors` gives them.
    """
    return page(
        head(overview),
        graph(overview),
        folded("Charts", charts(overview, moments)),
        folded("Processors", metrics(overview["stats"]["processors"])),
        latest(overview, traces, errors),
        kind="streamlab-picture",
    )


def head(overview: Mapping[str, Any]) -> str:
    """Return the name, state and ledger of a run."""
    stats = overview["stats"]
    state = stats["state"]
    received, uptime = stats["lines"]["received"], stats["uptime_s"]
    rate = f"{short(received / uptime)} lines/s" if uptime > 0 else ""
    why = f'<div class="bad">{cut(overview["reason"], LONG)}</div>' if overview["reason"] else ""
    state_row = (
        f'<div class="row"><span class="name">{escaped(stats["pipeline"])}</span><span class="state {state}">{state}</span>'
        f'<span class="faint">{clock(uptime)}</span><span class="faint">{rate}</span></div>'
    )
    return f"{state_row}{why}{_ledger(stats['lines'])}{crew(overview)}{_notices(overview['notices'][:NOTICES])}"


def crew(overview: Mapping[str, Any]) -> str:
    """Return the workers of a run on a cluster, and how far they are, about; nothing of any other run."""
    rows = overview["workers"]
    if not rows:
        return ""
    about = estimated(overview)
    said = f'<div class="row faint"><span>{counted(rows)}</span>{f"<span>{about}</span>" if about else ""}</div>'
    shown = "".join(map(_worker, cards(rows)[:WORKERS]))
    listed = f'<div class="crew" role="list" aria-label="Workers">{shown}</div>'
    return f"{said}{listed}{_more(len(rows), WORKERS, 'run.workers')}"


def _worker(card: Card) -> str:
    kind, state = ("", card["work"]) if card["here"] else (" gone", f"gone · {card['work']}")
    facts = [f"<span><b>{card['lines'].split()[0]}</b> {card['lines'].split()[1]}</span>"]
    facts += [f"<span>{card['memory']}</span>"] if card["memory"] else []
    facts += [f'<span class="bad">{card["errors"]}</span>'] if card["errors"] else []
    return (
        f'<div class="worker{kind}" role="listitem" title="{escaped(card["told"])}">'
        f'<div><b>{escaped(fitted(card["name"], SHORT))}</b><span class="faint">{escaped(state)}</span></div>'
        f"<div>{''.join(facts)}</div>"
        f'<span class="share" style="width:{100 * card["share"]:.1f}%"></span></div>'
    )


def _notices(notices: Sequence[Mapping[str, Any]]) -> str:
    """Return what happened beside the lines."""
    return "".join(f"<div><code>{escaped(notice['kind'])}</code> {cut(notice['message'], LONG)}</div>" for notice in notices)


def _ledger(lines: Mapping[str, int]) -> str:
    left, right = ([_term(name, lines[name]) for name in names] for names in (LEDGER[:2], LEDGER[2:]))
    whole = sum(lines[name] for name in LEDGER[2:])
    bar = "".join(
        f'<span style="background:{figures.FATE_COLOURS[of]};width:{100 * lines[name] / whole:.2f}%"></span>'
        for name, of in _FATES.items()
        if lines[name]
    )
    plus = '<span class="faint">+</span>'
    equals = '<span class="faint">=</span>'
    return f'<div class="row sum">{plus.join(left)}{equals}{plus.join(right)}</div><div class="bar">{bar}</div>'


def _term(name: str, count: int) -> str:
    of = _FATES.get(name)
    dot = f'<i style="background:{figures.FATE_COLOURS[of]}"></i>' if of else ""
    return f'<span><b>{count:,}</b><span class="faint">{dot}{name.replace("_", " ")}</span></span>'


def graph(overview: Mapping[str, Any]) -> str:
    """Return the graph of a run, with its counts."""
    return folded("Graph", diagram(overview["graph"]))


def charts(overview: Mapping[str, Any], moments: figures.Moments) -> str:
    """Return the charts of a run as still pictures."""
    names = list(overview["stats"]["processors"])
    pictures = (
        ("Lines per second", figures.throughput(moments)),
        ("Latency of one value (p99)", figures.latency(moments)),
        ("Errors and retries a second", figures.problems(moments)),
    )
    cards = "".join(f"<div><h4>{title}</h4>{still(figure, *CHART)}</div>" for title, figure in pictures)
    flow = still(figures.flow(overview["paths"], names), *FLOW)
    return f'<div class="charts">{cards}</div><h4>Where lines go</h4>{flow}'


def metrics(processors: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the metrics table of a run."""
    counts = ("received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight", "errors", "retries")
    columns = ("processor", *counts, "mean", "p50", "p95", "p99", "lines/s")
    rows = [
        (
            name,
            *(compact(row[column]) for column in counts),
            *(micros(row[f"{column}_us"]) for column in ("mean", "p50", "p95", "p99")),
            short(row["lines_per_s"]),
        )
        for name, row in processors.items()
    ]
    return table(columns, [[escaped(cell) for cell in row] for row in rows], numbers=range(1, len(columns)))


def latest(overview: Mapping[str, Any], traces: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the ways that branches went, and the latest traces and errors."""
    parts = [folded("Paths", paths(overview["paths"]))] if overview["paths"] else []
    if overview["traced"]:
        parts.append(folded("Latest traces", trace_rows(traces)))
    if errors:
        parts.append(folded("Latest errors", error_rows(errors)))
    return "".join(parts)


def paths(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the ways that most branches went."""
    cells = [
        (
            f"{row['count']:,}",
            escaped(percent(row["share"])),
            way(row["path"].split(" > ") if row["path"] else []),
            fate(row["fate"]) + f'<span class="share" style="width:{80 * row["share"]:.0f}px"></span>',
        )
        for row in rows[:ROWS]
    ]
    return table(("count", "share", "path", "fate"), cells, numbers=(0, 1)) + _more(len(rows), ROWS, "run.paths")


def trace_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the traces table."""
    cells = [
        (
            str(row["line_no"]),
            short_value(row["line"]),
            way(row["path"]),
            fate(row["fate"]),
            short_value(row["output"]) if row["fate"] == "emitted" else "",
            micros(row["duration_us"]),
        )
        for row in rows[:ROWS]
    ]
    return table(("line_no", "line", "path", "fate", "output", "time"), cells, numbers=(0, 5), kind="one")


def error_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the errors table."""
    cells = [
        (
            "" if row["line_no"] is None else str(row["line_no"]),
            escaped(row["processor"] or ""),
            escaped(row["kind"]),
            f'<span class="bad">{escaped(row["error"])}</span>: {short_value(row["message"])}',
            short_value(row["line"]),
        )
        for row in rows[:ROWS]
    ]
    return table(("line_no", "processor", "kind", "error", "line"), cells, numbers=(0,), kind="one")


# A line


def line(trace: LineTrace) -> str:
    """Return the story of a line: where it went, its hops, and what each changed."""
    rows = trace.hop_rows()
    ends = [
        f'<div class="row">{_dot(row["fate"])}<span>{way(names)} → <b>{row["fate"].replace("_", " ")}</b></span></div>'
        for row, names in list(zip(trace.branches, trace.ways, strict=True))[:ROWS]
    ]
    title = f'<div class="row"><span class="name">line {trace.line_no}</span>{value(trace.line)}</div>'
    most = max((row["duration_us"] for row in rows if not math.isnan(row["duration_us"])), default=0.0) or 1.0
    hops = [_hop(row, figures.colour(trace.processors, row["processor"]), most) for row in rows[:HOPS]]
    columns = ("processor", "value", "made of it", "time", "attempts")
    note = f'<div class="faint">{escaped(trace.note)}</div>' if trace.note else ""
    story = table(columns, hops, numbers=(4,)) + _more(len(rows), HOPS, "trace.hops") if hops else ""
    return page(title, *ends, _more(len(trace.branches), ROWS, "trace.branches"), story, note)


def _hop(row: Mapping[str, Any], own: str, most: float) -> tuple[str, ...]:
    us = row["duration_us"]
    width = 0.0 if math.isnan(us) else 60 * us / most
    made = "<br>".join(_out(row["value"], out) for out in row["outputs"][:ROWS])
    made += _more(len(row["outputs"]), ROWS, "trace.hops")
    if row["error"]:
        made += f'<div class="bad">{cut(row["error"], LONG)}</div>'
    return (
        f'<span class="own" style="--own:{own}">{escaped(row["processor"])}</span>',
        value(row["value"]),
        made,
        f'{micros(us)}<span class="share" style="--own:{own};width:{width:.0f}px"></span>',
        str(row["attempts"]),
    )


def _out(before: Any, out: Mapping[str, Any]) -> str:
    """Return where a value went, and what it is now, with what is new marked."""
    if ended(out):
        return f'<span class="faint">{out["to"].replace("_", " ")}</span>'
    return f'<span class="faint">→ {escaped(out["to"])}</span> {changed(before, out["value"])}'


# Pieces


def way(names: Sequence[str]) -> str:
    """Return a path; of a long one its beginning and its end.

    >>> way(["start", "end"]), way([])
    ('start → end', '(before the pipeline)')
    """
    shown = [escaped(fitted(name, SHORT)) for name in names]
    if len(shown) > 2 * STOPS:
        shown = [*shown[:STOPS], f"… {len(shown) - 2 * STOPS:,} more …", *shown[-STOPS:]]
    return " → ".join(shown) or "(before the pipeline)"


def fate(name: str) -> str:
    """Return how a branch ended, with its colour."""
    return f"{_dot(name)} {name.replace('_', ' ')}"


def _dot(fate: str) -> str:
    return f'<span style="color:{figures.FATE_COLOURS[fate]}">●</span>'


def folded(title: str, content: str) -> str:
    """Return content that can be folded away, and is not."""
    return f"<details open><summary>{title}</summary>{content}</details>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = (), kind: str = "") -> str:
    """Return a table; cells are HTML, columns of numbers are set to the right, ``kind`` is a class of its own."""
    numbers = set(numbers)
    side = ['class="n"' if at in numbers else "" for at in range(len(columns))]
    heads = "".join(f"<th {side[at]}>{name.replace('_', ' ')}</th>" for at, name in enumerate(columns))
    body = "".join(f"<tr>{''.join(f'<td {side[at]}>{cell}</td>' for at, cell in enumerate(row))}</tr>" for row in rows)
    return f'<div class="wide {kind}"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _more(count: int, most: int, where: str) -> str:
    return f'<div class="faint">{count - most:,} more in <code>{where}</code></div>' if count > most else ""
