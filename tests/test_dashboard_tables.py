"""What the dashboard answers is what the tables of its run say, whatever the pipeline did."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pandas as pd
from hypothesis import assume, given, settings

from streamlab import Pipeline, Run
from streamlab.tables import plain
from streamlab.views.dashboard import create_app
from tests.graphs import Enough, Plan, inputs, plans

LIMIT = 1000


def answers(run: Run, *paths: str) -> list[Any]:
    async def ask() -> list[Any]:
        transport = httpx.ASGITransport(create_app(run))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", verify=False) as client:
            return [(await client.get(path)).raise_for_status().json() for path in paths]

    return asyncio.run(ask())


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as JSON says it: what is missing is null, a time is in seconds, a path is a list of names."""
    result: list[dict[str, Any]] = []
    for row in frame.to_dict("records"):
        made: dict[str, Any] = {}
        for name, value in row.items():
            if value is pd.NA or value is pd.NaT:
                value = None
            elif name == "time":
                value = value.timestamp()
            elif name == "path":
                value = value.split(" > ") if value else []
            made[str(name)] = value
        result.append(plain(made))
    return result


def ran(plan: Plan, lines: list[str]) -> Run:
    try:
        return plan.build(5_000)[0].run(lines, trace=True, trace_limit=LIMIT)
    except Enough:
        assume(False)
        raise


def close(one: Any, other: Any) -> bool:
    """Tell whether two answers are equal but for the last digits of a time."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-6 * max(1.0, abs(one))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    return bool(one == other)


@settings(max_examples=40)
@given(plan=plans(), lines=inputs())
def test_every_answer_is_the_table_of_its_name(plan: Plan, lines: list[str]) -> None:
    run = ran(plan, lines)
    asked = ("/stats", f"/trace?limit={LIMIT}", f"/errors?limit={LIMIT}", "/paths", "/graph")
    stats, traces, errors, paths, graph = answers(run, *asked)
    metrics = {str(name): plain(dict(row)) for name, row in run.metrics.to_dict("index").items()}
    assert stats["state"] == run.state
    assert stats["lines"] == run.ledger
    assert stats["processors"] == metrics
    assert close(errors["errors"], rows(run.errors)[::-1])
    assert paths["paths"] == plain(run.paths.to_dict("records"))
    for node in graph["nodes"]:
        assert {name: node[name] for name in metrics[node["name"]]} == metrics[node["name"]]
        assert node["timed"] == run.metrics.attrs["timed"].get(node["name"], 0)
    by_line: dict[int, list[dict[str, Any]]] = {}
    for row in rows(run.traces):
        by_line.setdefault(row["line_no"], []).append(row)
    newest = [row for line_no in sorted(by_line, reverse=True) for row in by_line[line_no]]
    assert traces["traces"] == newest[:LIMIT]


@settings(max_examples=20)
@given(plan=plans(), lines=inputs())
def test_every_line_has_the_story_that_the_run_tells_of_it(plan: Plan, lines: list[str]) -> None:
    run = ran(plan, lines)
    numbers = sorted(set(run.traces["line_no"].tolist()))[:20]
    for number, told in zip(numbers, answers(run, *(f"/trace/{number}" for number in numbers)), strict=True):
        trace = run.trace(number)
        assert (told["line_no"], told["line"], told["note"]) == (number, trace.line, trace.note)
        assert told["branches"] == plain(trace.rows())
        assert told["hops"] == plain(trace.hop_rows())
        assert told["branches"] == [row for row in rows(run.traces) if row["line_no"] == number]


def test_what_is_asked_for_is_what_is_answered() -> None:
    pipeline = Pipeline("p").add("start", lambda line: ("odd" if int(line) % 2 else "even", line), to=("odd", "even"))
    pipeline.add("odd", lambda line: 1 // (int(line) % 3)).add("even", lambda line: None if line == "4" else line)
    run = pipeline.run([*map(str, range(12)), "no number"], trace=True)
    odd, filtered, failed, searched, errors, few = answers(
        run,
        "/trace?processor=odd",
        "/trace?fate=filtered",
        "/trace?fate=dead_letter&processor=odd",
        "/trace?search=NUMBER",
        "/errors?processor=odd&kind=processing",
        "/trace?limit=3",
    )
    assert [row["line_no"] for row in odd["traces"]] == [11, 9, 7, 5, 3, 1]
    assert [row["line_no"] for row in filtered["traces"]] == [4]
    assert [row["line_no"] for row in failed["traces"]] == [9, 3]
    assert [row["line_no"] for row in searched["traces"]] == [12]
    assert [row["line_no"] for row in errors["errors"]] == [9, 3]
    assert [row["line_no"] for row in few["traces"]] == [12, 11, 10]


def test_the_chart_of_the_flow_has_the_paths_with_their_counts() -> None:
    run = Pipeline("p").add("start", lambda line: line if line != "b" else None).run(["a", "b", "a"])
    (charts,) = answers(run, "/figures")
    link = charts["flow"]["data"][0]["link"]
    labels = charts["flow"]["data"][0]["node"]["label"]
    carried = {
        (labels[one], labels[other]): n
        for one, other, n in zip(*(link[k] for k in ("source", "target", "value")), strict=True)
    }
    assert carried == {("lines", "start"): 3, ("start", "emitted"): 2, ("start", "filtered"): 1}
