"""Where processors and edges are drawn, for any graph."""

from __future__ import annotations

import math
import re
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.views.drawing import OUTPUT, SOURCE, Drawing, draw

Graph = dict[str, Any]
SLACK = 0.1  # paths are written with one decimal


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph with loops, nodes that lead to themselves, and some that nothing leads to."""
    count = draw(st.integers(1, 40))
    names = [f"p{number}" for number in range(count)]
    some = st.lists(st.tuples(st.sampled_from(names), st.sampled_from([*names, None])), max_size=draw(st.integers(0, 80)))
    chain = draw(st.booleans())
    pairs = [*pairwise(names), (names[-1], None)] * chain + draw(some)
    entry = draw(st.sampled_from(names))
    declared = draw(st.booleans())  # as `Pipeline.describe` has it, or as `Run.graph`
    edges = [{"from": None, "to": entry}] * declared + [{"from": origin, "to": target} for origin, target in pairs]
    return {"nodes": [{"name": name} for name in names], "entry": entry, "edges": edges}


def wanted(graph: Graph) -> set[Any]:
    """Return the edges that a graph has."""
    pairs = {(edge["from"], edge["to"]) for edge in graph["edges"]} | {(None, graph["entry"])}
    return {(SOURCE if origin is None else origin, OUTPUT if to is None else to) for origin, to in pairs}


def numbers(path: str) -> list[tuple[float, float]]:
    """Return the points of a path, those that only bend it included."""
    found = [float(number) for number in re.findall(r"-?\d+\.\d", path)]
    return list(zip(found[::2], found[1::2], strict=True))


def assert_drawn(graph: Graph, drawing: Drawing) -> None:
    places = [SOURCE, *(node["name"] for node in graph["nodes"]), OUTPUT]
    assert sorted(map(str, drawing.nodes)) == sorted(map(str, places))
    assert set(drawing.edges) == wanted(graph)


@settings(max_examples=60)
@given(graphs(), st.booleans())
def test_every_node_and_every_edge_is_drawn_once(graph: Graph, down: bool) -> None:
    drawing = draw(graph, down=down)
    assert_drawn(graph, drawing)
    plain = drawing.plain()
    names = [place["name"] for place in plain["nodes"] if place["end"] is None]
    assert sorted(names) == sorted(node["name"] for node in graph["nodes"])
    assert sorted(place["end"] for place in plain["nodes"] if place["name"] is None) == ["output", "source"]
    pairs = [(edge["from"], edge["to"]) for edge in plain["edges"]]
    assert len(pairs) == len(set(pairs)) == len(wanted(graph))


@settings(max_examples=60)
@given(graphs(), st.booleans())
def test_no_node_is_upon_another(graph: Graph, down: bool) -> None:
    for one, other in combinations(draw(graph, down=down).nodes.values(), 2):
        (x, y, width, height), (to_x, to_y, to_width, to_height) = one, other
        beside = x + width <= to_x + 1e-6 or to_x + to_width <= x + 1e-6
        assert beside or y + height <= to_y + 1e-6 or to_y + to_height <= y + 1e-6


@settings(max_examples=60)
@given(graphs(), st.booleans())
def test_all_is_inside(graph: Graph, down: bool) -> None:
    drawing = draw(graph, down=down)
    assert all(math.isfinite(size) and size > 0 for size in (drawing.width, drawing.height))
    points = [(x, y) for x, y, *_ in drawing.nodes.values()]
    points += [(x + width, y + height) for x, y, width, height in drawing.nodes.values()]
    for path, x, y, _ in drawing.edges.values():
        points += [(x, y), *numbers(path)]
    for x, y in points:
        assert -SLACK <= x <= drawing.width + SLACK
        assert -SLACK <= y <= drawing.height + SLACK


@settings(max_examples=60)
@given(graphs(), st.booleans())
def test_what_does_not_lead_back_leads_forward_from_edge_to_edge(graph: Graph, down: bool) -> None:
    drawing = draw(graph, down=down)
    along = 1 if down else 0
    for (origin, target), (path, *_, back) in drawing.edges.items():
        begin, end = drawing.nodes[origin], drawing.nodes[target]
        leaves, arrives = begin[along] + begin[along + 2], end[along]
        if back:
            assert arrives <= leaves
            continue
        assert leaves < arrives
        stops = [point[along] for point in numbers(path)]
        assert stops == sorted(stops)
        assert (stops[0], stops[-1]) == pytest.approx((leaves, arrives), abs=SLACK)


@settings(max_examples=60)
@given(graphs())
def test_a_graph_without_loops_has_nothing_that_leads_back(graph: Graph) -> None:
    order = [node["name"] for node in graph["nodes"]]
    onward = [e for e in graph["edges"] if None in e.values() or order.index(e["from"]) < order.index(e["to"])]
    assert not any(back for *_, back in draw(graph | {"edges": onward}).edges.values())


@settings(max_examples=60)
@given(graphs(), st.booleans())
def test_the_same_graph_is_drawn_the_same(graph: Graph, down: bool) -> None:
    assert draw(graph, down=down) == draw(graph, down=down)


@pytest.mark.parametrize("down", [False, True])
def test_a_loop_goes_around_its_node_with_its_label_beside_it(down: bool) -> None:
    pipeline = Pipeline("p").add("again", str, to=("again", "end")).add("end", str)
    drawing = draw(pipeline.describe(), down=down)
    x, y, width, height = drawing.nodes["again"]
    _, label_x, label_y, back = drawing.edges["again", "again"]
    assert back
    assert label_x > x + width if down else label_y > y + height


@pytest.mark.parametrize("down", [False, True])
def test_a_way_back_to_the_layer_before_is_clear_of_both_its_nodes(down: bool) -> None:
    pipeline = Pipeline("p").add("one", str, to="two").add("two", str, to=("one", "end")).add("end", str)
    drawing = draw(pipeline.describe(), down=down)
    _, label_x, label_y, back = drawing.edges["two", "one"]
    assert back
    for name in ("one", "two"):
        x, y, width, height = drawing.nodes[name]
        assert label_x > x + width if down else label_y > y + height


def test_many_processors_are_drawn_in_good_time() -> None:
    names = [f"p{number}" for number in range(300)]
    pairs = [(names[n], names[m]) for n in range(300) for m in (n + 1, n + 7, n - 20) if 0 <= m < 300]
    edges = [{"from": origin, "to": target} for origin, target in pairs]
    graph = {"nodes": [{"name": name} for name in names], "entry": "p0", "edges": edges}
    assert_drawn(graph, draw(graph))


def test_an_endless_chain_is_no_recursion() -> None:
    names = [f"p{number}" for number in range(3000)]
    edges = [{"from": origin, "to": target} for origin, target in pairwise(names)]
    graph = {"nodes": [{"name": name} for name in names], "entry": "p0", "edges": edges}
    assert_drawn(graph, draw(graph))
