"""Where the processors of a graph are drawn, and how the edges go between them. Pure: a graph in, positions out.

Layers from the source to the output, as Sugiyama, Tagawa and Toda have it (*Methods for Visual Understanding of Hierarchical
System Structures*, IEEE Trans. SMC 1981): loops are opened, each node comes one layer after the last that leads to it, edges
over several layers get a bend in each, nodes are ordered by the mean place of their neighbours, then moved towards it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

#: Ends of the graph that are no processors.
SOURCE, OUTPUT = ("source",), ("output",)

#: A processor, an end of the graph, or a bend ``(edge, layer)``.
Place = str | tuple[Any, ...]
Edge = tuple[Place, Place]

#: Pixels: of a processor, of an end; between layers, and between neighbours; a bend takes less than a node.
NODE, END = (176.0, 82.0), (64.0, 34.0)
BETWEEN, BESIDE, BEND = 84.0, 26.0, 18.0
#: Rounds of ordering, and of moving.
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Drawing:
    """A graph with places, ready for JSON by `plain`; pixels, from the upper left corner.

    Attributes:
        width: of the whole.
        height: of the whole.
        nodes: upper left corner and size of each, ``(x, y, width, height)``.
        edges: of each edge an SVG path, where its label is centred, and whether it leads back.
    """

    width: float
    height: float
    nodes: Mapping[Place, tuple[float, float, float, float]]
    edges: Mapping[Edge, tuple[str, float, float, bool]]

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, where ``null`` is the source as ``from``, the way out as ``to``."""
        nodes = [
            {"name": _name(place), "end": None if isinstance(place, str) else place[0]}
            | dict(zip(("x", "y", "width", "height"), box, strict=True))
            for place, box in self.nodes.items()
        ]
        edges = [
            {"from": _name(origin), "to": _name(target), "path": path, "x": x, "y": y, "back": back}
            for (origin, target), (path, x, y, back) in self.edges.items()
        ]
        return {"width": self.width, "height": self.height, "nodes": nodes, "edges": edges}


def _name(place: Place) -> str | None:
    return place if isinstance(place, str) else None


def draw(graph: Mapping[str, Any], *, down: bool = False) -> Drawing:
    """Return the drawing of a graph, as `streamlab.Run.graph` or `streamlab.Pipeline.describe` gives it.

    Args:
        graph: ``nodes`` with ``name``, and ``edges`` with ``from`` and ``to``.
        down: from top to bottom, for a narrow screen, instead of from left to right.

    Example:
        >>> from streamlab.demo import demo
        >>> drawing = draw(demo.describe())
        >>> sorted((name, round(x)) for name, (x, *_) in drawing.nodes.items() if isinstance(name, str))
        [('end', 668), ('start', 148), ('warn', 408)]
    """
    edges = _edges(graph)
    names: list[Place] = [node["name"] for node in graph["nodes"]]
    places = [SOURCE, *names, OUTPUT]
    back = _loops(places, edges)
    forward = [(b, a) if (a, b) in back else (a, b) for a, b in edges if a != b]
    layers = _layers(places, forward)
    rows, chains = _with_bends(places, layers, forward)
    _order(rows, chains)
    across = _across(rows, chains, down)
    return _drawn(rows, across, edges, back, chains, down)


def _edges(graph: Mapping[str, Any]) -> list[Edge]:
    """Return the edges, each once, with the ends in place of ``None``; what nothing leads out of leads to no output."""
    found: dict[Edge, None] = {(SOURCE, graph["entry"]): None}
    for edge in graph["edges"]:
        origin = SOURCE if edge["from"] is None else edge["from"]
        found[origin, OUTPUT if edge["to"] is None else edge["to"]] = None
    return list(found)


def _loops(places: Sequence[Place], edges: Sequence[Edge]) -> set[Edge]:
    """Return the edges that lead back to where they come from: without them, there are no loops."""
    ways: dict[Place, list[Place]] = {place: [] for place in places}
    for origin, target in edges:
        ways[origin].append(target)
    back: set[Edge] = set()
    done: set[Place] = set()
    for root in places:
        trail: dict[Place, None] = {}
        stack = [] if root in done else [(root, iter(ways[root]))]
        while stack:
            place, left = stack[-1]
            trail[place] = None
            following = next(left, None)
            if following is None:
                stack.pop()
                del trail[place]
                done.add(place)
            elif following in trail:
                back.add((place, following))
            elif following not in done:
                stack.append((following, iter(ways[following])))
    return back


def _layers(places: Sequence[Place], forward: Sequence[Edge]) -> dict[Place, int]:
    """Return the layer of each place: after all that lead to it; the output comes last."""
    before: dict[Place, list[Place]] = {place: [] for place in places}
    for origin, target in forward:
        before[target].append(origin)
    layers: dict[Place, int] = {}
    for root in places:
        stack: list[Place] = [root]
        while stack:
            place = stack[-1]
            missing = [other for other in before[place] if other not in layers]
            if missing:
                stack += missing
            else:
                layers[stack.pop()] = max((layers[other] + 1 for other in before[place]), default=int(place != SOURCE))
    layers[OUTPUT] = max(layer for place, layer in layers.items() if place != OUTPUT) + 1
    return layers


def _with_bends(
    places: Sequence[Place], layers: Mapping[Place, int], forward: Iterable[Edge]
) -> tuple[list[list[Place]], dict[Edge, list[Place]]]:
    """Return the places of each layer, bends among them, and the places that each edge goes through."""
    rows: list[list[Place]] = [[] for _ in range(max(layers.values()) + 1)]
    for place in places:
        rows[layers[place]].append(place)
    chains: dict[Edge, list[Place]] = {}
    for origin, target in dict.fromkeys(forward):
        bends: list[Place] = [((origin, target), layer) for layer in range(layers[origin] + 1, layers[target])]
        for layer, bend in enumerate(bends, layers[origin] + 1):
            rows[layer].append(bend)
        chains[origin, target] = [origin, *bends, target]
    return rows, chains


def _neighbours(chains: Mapping[Edge, Sequence[Place]]) -> tuple[dict[Place, list[Place]], dict[Place, list[Place]]]:
    """Return what stands before and what after each place, on the edges' way."""
    before: dict[Place, list[Place]] = {}
    after: dict[Place, list[Place]] = {}
    for chain in chains.values():
        for place, following in pairwise(chain):
            after.setdefault(place, []).append(following)
            before.setdefault(following, []).append(place)
    return before, after


def _order(rows: list[list[Place]], chains: Mapping[Edge, Sequence[Place]]) -> None:
    """Order the places of each layer by the mean position of their neighbours, forth and back."""
    before, after = _neighbours(chains)
    position = {place: float(at) for row in rows for at, place in enumerate(row)}
    for step in range(ROUNDS):
        beside, turn = (before, rows) if step % 2 == 0 else (after, rows[::-1])
        for row in turn:
            row.sort(key=lambda place: _mean([position[other] for other in beside.get(place, ())], position[place]))
            position.update({place: float(at) for at, place in enumerate(row)})


def _mean(numbers: Sequence[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default


def _size(place: Place, down: bool) -> float:
    """Return how much of its layer a place takes."""
    if isinstance(place, str) or place in (SOURCE, OUTPUT):
        return (NODE if isinstance(place, str) else END)[0 if down else 1]
    return BEND


def _across(rows: Sequence[Sequence[Place]], chains: Mapping[Edge, Sequence[Place]], down: bool) -> dict[Place, float]:
    """Return the middle of each place, across the direction: near its neighbours, in order, and none upon another."""
    before, after = _neighbours(chains)
    middle: dict[Place, float] = {}
    for row in rows:
        middle |= _apart(row, dict.fromkeys(row, 0.0), down)
    for step in range(ROUNDS):
        for row in rows if step % 2 == 0 else rows[::-1]:
            sides = (before, after) if step >= ROUNDS - 2 else (before,) if step % 2 == 0 else (after,)
            wished = {
                place: _mean([middle[other] for side in sides for other in side.get(place, ())], middle[place])
                for place in row
            }
            middle |= _apart(row, wished, down)
    least = min(middle[place] - _size(place, down) / 2 for place in middle)
    return {place: at - least for place, at in middle.items()}


def _apart(row: Sequence[Place], wished: Mapping[Place, float], down: bool) -> dict[Place, float]:
    """Return places for a layer as near to the wished ones as can be without overlap: blocks that touch move as one."""
    blocks: list[tuple[list[Place], float, float]] = []  # its places, wished middle of the block, its extent
    for place in row:
        block, at, extent = [place], wished[place], _size(place, down)
        while blocks and blocks[-1][1] + blocks[-1][2] / 2 + BESIDE > at - extent / 2:
            other, there, width = blocks.pop()
            whole = width + BESIDE + extent
            # each half would have the block where its own places want to be: weigh them by their number
            left, right = there + (whole - width) / 2, at - (whole - extent) / 2
            at = (left * len(other) + right * len(block)) / (len(other) + len(block))
            block, extent = other + block, whole
        blocks.append((block, at, extent))
    middles = {}
    for block, at, extent in blocks:
        edge = at - extent / 2
        for place in block:
            middles[place] = edge + _size(place, down) / 2
            edge += _size(place, down) + BESIDE
    return middles


def _drawn(
    rows: Sequence[Sequence[Place]],
    across: Mapping[Place, float],
    edges: Sequence[Edge],
    back: set[Edge],
    chains: Mapping[Edge, Sequence[Place]],
    down: bool,
) -> Drawing:
    """Return the drawing, with layers in their places along the direction."""
    along: dict[Place, tuple[float, float]] = {}  # where it begins and ends
    start = 0.0
    for row in rows:
        depth = {p: (NODE if isinstance(p, str) else END)[1 if down else 0] for p in row if _is_node(p)}
        thick = max(depth.values(), default=0.0)
        for place in row:
            own = depth.get(place, 0.0)
            along[place] = (start + (thick - own) / 2, start + (thick + own) / 2)
        start += thick + BETWEEN
    nodes = {}
    for place, (begin, end) in along.items():
        if _is_node(place):
            size = _size(place, down)
            box = (begin, across[place] - size / 2, end - begin, size)
            nodes[place] = (box[1], box[0], box[3], box[2]) if down else box
    drawn: dict[Edge, tuple[str, float, float, bool]] = {}
    for edge in edges:
        points = _points(edge, edge in back, chains, along, across, down)
        drawn[edge] = (*_curve([(y, x) if down else (x, y) for x, y in points], down), edge in back or edge[0] == edge[1])
    # loops swing out below (or to the right of) their nodes
    swing = BESIDE if any(looping for *_, looping in drawn.values()) else 0.0
    long, wide = start - BETWEEN, max(at + _size(place, down) / 2 for place, at in across.items()) + swing
    return Drawing(wide if down else long, long if down else wide, nodes, drawn)


def _is_node(place: Place) -> bool:
    return isinstance(place, str) or place in (SOURCE, OUTPUT)


def _points(
    edge: Edge,
    back: bool,
    chains: Mapping[Edge, Sequence[Place]],
    along: Mapping[Place, tuple[float, float]],
    across: Mapping[Place, float],
    down: bool,
) -> list[tuple[float, float]]:
    """Return the points that an edge goes through, along and across the direction."""
    origin, target = edge
    if origin == target or back:
        low = max(across[origin], across[target]) + _size(origin, down) / 2 + BESIDE * 0.8
        if origin == target:
            begin, end = along[origin]
            return [(end, across[origin]), (end + BESIDE, low), (begin - BESIDE, low), (begin, across[origin])]
        bends = [(along[p][0], across[p]) for p in chains[target, origin][1:-1][::-1]]
        begin, end = along[origin][1], along[target][0]
        around = bends or [((begin + end) / 2, low)]
        return [(begin, across[origin]), (begin + BESIDE, low), *around, (end - BESIDE, low), (end, across[target])]
    chain = chains[edge]
    return [
        (along[chain[0]][1], across[chain[0]]),
        *((along[p][0], across[p]) for p in chain[1:-1]),
        (along[chain[-1]][0], across[chain[-1]]),
    ]


def _curve(points: Sequence[tuple[float, float]], down: bool) -> tuple[str, float, float]:
    """Return an SVG path through points that leaves and arrives along the direction, and where its middle is."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(points):
        half_x, half_y = (x + to_x) / 2, (y + to_y) / 2
        first, second = ((x, half_y), (to_x, half_y)) if down else ((half_x, y), (half_x, to_y))
        path += f"C{first[0]:.1f} {first[1]:.1f} {second[0]:.1f} {second[1]:.1f} {to_x:.1f} {to_y:.1f}"
    # at a bend, if there is one: there it is clear of nodes and of most other edges
    (x, y), (to_x, to_y) = points[(len(points) - 1) // 2], points[len(points) // 2]
    return path, (x + to_x) / 2, (y + to_y) / 2
