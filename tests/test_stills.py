"""Still pictures: well-formed, nothing runs in them, all is inside, and they show what the figures and graphs say."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.views import figures
from streamlab.views.diagram import diagram
from streamlab.views.letters import breadth
from streamlab.views.numbers import compact
from streamlab.views.stills import NAMES, RIGHT, still
from tests.graphs import Enough, Plan, inputs, plans
from tests.payloads import payloads

Element = ElementTree.Element
Point = tuple[float, float]

ELEMENTS = {"svg", "g", "path", "rect", "circle", "text", "title"}
ATTRIBUTES = {"viewBox", "d", "x", "y", "width", "height", "rx", "cx", "cy", "r", "transform", "aria-label", "role", "class"}
ATTRIBUTES |= {"style", "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity"}
ATTRIBUTES |= {"font-family", "font-size", "font-weight", "text-anchor"}
SLACK = 1.0  # sizes are whole pixels, and what is thinner than one is drawn as thick as one

any_text = st.text(st.characters(exclude_categories=()), min_size=1, max_size=50)
wide = st.text(st.sampled_from("日本語の名前ｗ￥한글"), min_size=1, max_size=40)
hostile = [name for name in payloads() if name.strip() and " > " not in name]
names = any_text.filter(lambda name: name.strip() and " > " not in name) | wide | st.sampled_from([*hostile, "x" * 3000])
several_names = st.lists(names, min_size=1, max_size=6, unique=True)


def parsed(picture: str) -> Element:
    """Return a picture as a tree, and see that nothing in it runs or loads, and that all is inside."""
    root = ElementTree.fromstring(picture.removeprefix('<div style="overflow-x:auto">').removesuffix("</div>"))
    for element in root.iter():
        element.tag = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
        assert element.tag in ELEMENTS
        assert set(element.attrib) <= ATTRIBUTES
        assert not any("url" in value or "script" in value for name, value in element.items() if name != "aria-label")
    left, top, width, height = (float(number) for number in root.attrib["viewBox"].split())
    for x, y in (point for element in root.iter() for point in points(element)):
        assert left - SLACK <= x <= left + width + SLACK
        assert top - SLACK <= y <= top + height + SLACK
    return root


def points(element: Element) -> Iterator[Point]:
    """Yield the points of an element, those that only bend a path included."""
    if element.tag == "path":
        yield from walked(element.attrib["d"])
    elif element.tag == "circle":
        yield float(element.attrib["cx"]), float(element.attrib["cy"])
    elif element.tag in ("rect", "text"):
        x, y, width, height = (float(element.get(name, 0)) for name in ("x", "y", "width", "height"))
        yield from ((x, y), (x + width, y + height))


def walked(path: str) -> Iterator[Point]:
    assert re.fullmatch(r"M([MLHVhCz]|-?\d+(\.\d+)?| )+", path)
    x = y = 0.0
    for command, rest in re.findall(r"([MLHVhCz])([^MLHVhCz]*)", path):
        found = [float(text) for text in rest.split()]
        if command in "HhV":
            found = [x, found[0]] if command == "V" else [found[0] + x * (command == "h"), y]
        for x, y in zip(found[::2], found[1::2], strict=True):
            yield x, y


def texts(root: Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def told(element: Element) -> str:
    return element.findtext("title") or ""


def titled(root: Element, *tags: str) -> list[Element]:
    """Return what is drawn of the data, which is what has a title."""
    return [element for element in root.iter() if element.tag in tags and told(element)]


values = st.one_of(st.just(math.nan), st.integers(0, 10), st.integers(0, 10**12), st.floats(1e-3, 1e9))


@st.composite
def moments(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    shown = draw(several_names)
    time = 1_750_000_000 + draw(st.floats(0, 80_000))
    columns = ("lines_per_s", "mean_us", "p50_us", "p95_us", "p99_us")
    found = []
    for at in range(draw(st.integers(1, 12))):
        row = {"received": at + 1, "errors": at * 3, "retries": at // 2, "time": time}
        found.append([row | {"processor": name} | {column: draw(values) for column in columns} for name in shown])
        time += draw(st.floats(0.01, 2_000))
    return found


def assert_lines(figure: Mapping[str, Any]) -> None:
    log = figure["layout"]["yaxis"].get("type") == "log"
    known = [[y for y in trace["y"] if y is not None and (y > 0 or not log)] for trace in figure["data"]]
    drawn: list[Point] = []
    for line, ys in zip(titled(parsed(still(figure)), "path", "circle"), filter(None, known), strict=True):
        assert line.tag == ("circle" if len(ys) == 1 else "path")
        places = list(points(line))
        assert [x for x, _ in places] == sorted(x for x, _ in places)
        drawn += zip(ys, (y for _, y in places), strict=True)
    drawn.sort(key=lambda one: (one[0], -one[1]))
    heights = [-y for _, y in drawn]
    assert heights == sorted(heights)
    if drawn and drawn[-1][0] > 1.1 * drawn[0][0]:
        assert heights[-1] > heights[0]


@settings(max_examples=60)
@given(moments())
def test_a_line_has_a_point_for_each_known_value_in_order_and_more_is_higher(history: figures.Moments) -> None:
    for figure in (figures.throughput(history), figures.latency(history), figures.problems(history)):
        assert_lines(figure)


def at_once(names: list[str]) -> figures.Figure:
    """Return a chart of one moment."""
    return figures.throughput([[{"time": 1.75e9, "received": 1, "lines_per_s": 3.0, "processor": name} for name in names]])


@given(several_names)
def test_one_moment_is_a_circle_for_each_processor(shown: list[str]) -> None:
    assert [drawn.tag for drawn in titled(parsed(still(at_once(shown))), "path", "circle")] == ["circle"] * len(shown)


@given(st.lists(wide | st.text("abc", min_size=1, max_size=40), min_size=2, max_size=8, unique_by=lambda name: name[:10]))
def test_names_in_the_legend_are_beside_each_other(shown: list[str]) -> None:
    legend = list(parsed(still(at_once(shown), 380)).iter("text"))[: len(shown)]
    for text, following in pairwise(legend):
        (x, y), (beside, below) = next(points(text)), next(points(following))
        assert below > y or beside > x + 6 * breadth(text.text or "")


def test_a_title_is_the_name() -> None:
    shown = ["<b>warn</b>", "a & b", '"quoted"', "日本語", "\x1b[31m"]
    root = parsed(still(at_once(shown)))
    assert [told(circle) for circle in titled(root, "circle")] == [*shown[:4], "\\x1b[31m"]
    assert texts(root)[:4] == shown[:4]


stops = st.lists(st.sampled_from("ABCDE"), max_size=6)
fates = st.sampled_from(list(figures.FATE_COLOURS))


def rows_of(ways: list[tuple[list[str], str, int]]) -> list[dict[str, Any]]:
    return [{"path": " > ".join(way), "fate": fate, "count": count} for way, fate, count in ways]


def ribbons(root: Element) -> list[tuple[int, float, float, float]]:
    """Return of each ribbon its value, thickness, and where it begins and ends."""
    found = []
    for path in titled(root, "path"):
        (x, y), _, _, (to, to_y), (_, to_low), _, _, (_, low) = points(path)
        assert math.isclose(low - y, to_low - to_y, abs_tol=0.21)
        found.append((int(told(path).replace(",", "")), to_low - to_y, x, to))
    return found


@given(st.lists(st.tuples(stops, fates, st.integers(1, 10**6)), min_size=1, max_size=12))
@example([(["A", "B"], "emitted", 5), (["B", "A"], "emitted", 5)])
@example([(["A"] * 100, "emitted", 5)])
@example([(["A", f"p{n}"], "filtered", n + 1) for n in range(60)])
def test_a_ribbon_is_as_thick_as_its_link_is_large(ways: list[tuple[list[str], str, int]]) -> None:
    figure = figures.flow(rows_of(ways))
    root = parsed(still(figure, 1180, 260))
    drawn = sorted(ribbons(root))
    assert [value for value, *_ in drawn] == sorted(figure["data"][0]["link"]["value"])
    most, thickest, *_ = drawn[-1]
    for value, thick, *_ in drawn:
        assert math.isclose(thick, max(value * thickest / most, 1.0), abs_tol=0.25)
    assert len(titled(root, "rect")) == len(figure["data"][0]["node"]["label"])
    labels = sorted(point for text in root.iter("text") for point in {*points(text)})
    assert all(beside > x or below - y > 11 for (x, y), (beside, below) in pairwise(labels))


@given(st.lists(st.tuples(stops.map(set).map(sorted), fates, st.integers(1, 10**6)), min_size=1, max_size=12))
def test_without_loops_all_ribbons_lead_to_the_right(ways: list[tuple[list[str], str, int]]) -> None:
    assert all(begin < end for *_, begin, end in ribbons(parsed(still(figures.flow(rows_of(ways))))))


def test_of_a_loop_only_one_ribbon_leads_back() -> None:
    root = parsed(still(figures.flow(rows_of([(["A", "B"], "emitted", 5), (["B", "A"], "emitted", 5)]))))
    across = [float(rect.attrib["x"]) for rect in titled(root, "rect")]
    assert across == sorted(set(across))
    assert sum(end < begin for *_, begin, end in ribbons(root)) == 1


@given(several_names, fates)
def test_the_flow_says_names_as_text(shown: list[str], fate: str) -> None:
    rects = titled(parsed(still(figures.flow(rows_of([(shown, fate, 1234)])), 1180, 260)), "rect")
    assert len(rects) == len(shown) + 2
    assert (told(rects[0]), told(rects[-1])) == ("lines: 1,234", f"{fate.replace('_', ' ')}: 1,234")


hops = st.lists(st.tuples(st.sampled_from("ABC") | names, st.just(math.nan) | st.floats(0.1, 1e7)), max_size=6)


@settings(max_examples=60)
@given(st.lists(hops, max_size=8))
@example([[("A", 5.0)]])
def test_bars_are_as_wide_as_visits_were_long_and_the_slowest_line_is_on_top(lines: list[list[tuple[str, float]]]) -> None:
    rows = [[{"processor": name, "duration_us": us, "value": "x"} for name, us in line] for line in lines]
    figure = figures.timeline(list(enumerate(rows)))
    root = parsed(still(figure))
    visits = [visit for trace in figure["data"] for visit in zip(trace["y"], trace["base"], trace["x"], strict=True)]
    most = max((base + us for _, base, us in visits), default=0)
    full = 460 - NAMES - RIGHT
    heights: dict[str, str] = {}
    for bar, (row, base, us) in zip(titled(root, "rect"), visits, strict=True):
        assert math.isclose(float(bar.attrib["x"]), NAMES + base / most * full, abs_tol=0.06)
        assert math.isclose(float(bar.attrib["width"]), max(us / most * full, 0.5), abs_tol=0.06)
        assert heights.setdefault(row, bar.attrib["y"]) == bar.attrib["y"]
    spent = {f"line {at}": sum(us for _, us in line if not math.isnan(us)) for at, line in enumerate(lines)}
    down = sorted(heights, key=lambda row: float(heights[row]))
    assert [spent[row] for row in down] == sorted((spent[row] for row in down), reverse=True)
    assert [text for text in texts(root) if re.fullmatch(r"line \d+", text)] == down
    assert ("nothing" in texts(root)) is not bool(visits)


def test_of_nothing_it_says_nothing() -> None:
    unknown = [[{"time": 1.0, "processor": "A", "received": 0, "lines_per_s": math.nan}]]
    empty = [make([]) for make in (figures.throughput, figures.latency, figures.problems, figures.flow, figures.timeline)]
    for figure in (*empty, figures.throughput(unknown), figures.timeline([(0, [])])):
        assert "nothing" in texts(parsed(still(figure)))


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Draw a pipeline with any names and routes, loops among them."""
    shown, pipeline = draw(several_names), Pipeline(draw(any_text))
    for name in shown:
        pipeline.add(name, str, to=draw(st.lists(st.sampled_from(shown), max_size=3, unique=True)))
    return pipeline


def assert_graph(graph: Mapping[str, Any]) -> Element:
    root = parsed(diagram(graph))
    assert [node.get("class") for node in root.findall("g")] == ["node"] * len(graph["nodes"])
    paths = root.findall("path")  # of each edge, the line and then its head
    assert len(paths) == 2 * len({(None, graph["entry"]), *((edge["from"], edge["to"]) for edge in graph["edges"])})
    for line, head in zip(paths[::2], paths[1::2], strict=True):
        assert list(points(line))[-1] == list(points(head))[1]
    return root


@settings(max_examples=60)
@given(pipelines())
def test_a_graph_has_a_node_for_each_processor_and_a_head_for_each_edge(pipeline: Pipeline) -> None:
    root = assert_graph(pipeline.describe())
    assert texts(root).count(pipeline.describe()["nodes"][0]["kind"]) >= len(pipeline.processors)


@settings(max_examples=30)
@given(plans(), inputs())
def test_the_graph_of_a_run_says_how_many(plan: Plan, lines: list[str]) -> None:
    try:
        graph = plan.build(3_000)[0].run(lines).graph()
    except Enough:
        reject()
    root = assert_graph(graph)
    counts = [compact(edge["count"]) for edge in graph["edges"] if edge["count"]]
    said = [text.text or "" for text in root.findall("text")]
    assert sorted({*said} - {"lines", "output"}) == sorted(set(counts))
    assert len(said) == len(counts) + 2
    for node, group in zip(graph["nodes"], root.findall("g"), strict=True):
        rows = texts(group)
        assert f"{compact(node['received'])} in · {compact(node['emitted'])} out" in rows
        assert (f"{compact(node['errors'])} failed" in rows) is bool(node["errors"])
        assert told(group).startswith(f"{node['name']}: {node['kind']}")
        assert ("idle" in rows) is not bool(node["received"])


def test_what_fails_is_seen_as_a_whole_also_at_the_top() -> None:
    pipeline = Pipeline("p").add("start", lambda line: 1 / 0, on_error="take_it").add("take_it", str)
    root = parsed(diagram(pipeline.run(["a"]).graph()))
    assert "1 failed" in texts(root)
    assert [told(node).splitlines()[0].split(", on error ")[1] for node in root.findall("g")] == ["take_it", "dead letter"]
    assert min(y for rect in root.iter("rect") for _, y in points(rect)) >= float(root.attrib["viewBox"].split()[1])


def test_hostile_names_are_text_in_the_graph_of_a_run() -> None:
    pipeline = Pipeline("</svg><script>x</script>")
    for name, following in pairwise([*hostile, "end"]):
        pipeline.add(name, lambda value: value, to=following)
    root = assert_graph(pipeline.add("end", str).run(["a"]).graph())
    titles = [told(group) for group in root.findall("g")]
    assert sum(title.startswith(f"{name}: ") for name, title in zip(hostile, titles, strict=False)) > 100


def test_an_hour_is_drawn_with_fewer_points_and_all_its_peaks() -> None:
    history = [
        [
            {"processor": f"p{at}", "time": 1e9 + second, "lines_per_s": 1e6 if second == 1_234 else (second * 7 + at) % 91}
            for at in range(8)
        ]
        for second in range(3_600)
    ]
    figure = figures.throughput([[row | {"received": 1.0} for row in moment] for moment in history])
    picture = still(figure, 380, 210)
    assert len(picture) < 40_000
    highest = min(y for line in titled(parsed(picture), "path") for _, y in points(line))
    assert highest < 60  # the axis ends there, just below the legend


def test_a_graph_with_very_many_edges_is_drawn_in_part_and_says_so() -> None:
    thicket = Pipeline("thicket")
    names = [f"p{at}" for at in range(40)]
    for name in names:
        thicket.add(name, lambda value: None, to=names)
    drawn = diagram(thicket.describe())
    assert "400 edges" in drawn
    assert "1,200 more" in drawn
    assert len(drawn) < 1_000_000
