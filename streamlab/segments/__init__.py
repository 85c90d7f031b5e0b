"""How a batch moves through the graph. A pipeline is cut into segments of one kind; each advances the rows that stand at it.

``python``      functions and classes that follow each other, line by line, in one walk
``concurrent``  an async processor, many values at a time
``columnar``    Polars expressions and built-ins, over the whole column
``parallel``    functions that follow each other, in several processes, when a run has them

A batch is a table of `Rows`, one a branch: the number of the path node where it stands, and its value. A segment takes the
rows that stand at its processors and leaves each where it ended, or where another segment takes it on. Rows keep the
order that a plain depth-first loop over the lines would give them: whoever makes several of one puts them in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from streamlab.batch import Rows
from streamlab.failures import Failure
from streamlab.paths import EMIT
from streamlab.processors import Processor

if TYPE_CHECKING:
    from streamlab.pipeline import Pipeline

SegmentKind = Literal["python", "concurrent", "columnar", "parallel"]


class Stopped(Exception):
    """Ends a batch early: a processor with ``on_error="stop"`` has failed. The rows after it stay where they stand."""

    def __init__(self, failure: Failure, cause: BaseException) -> None:
        super().__init__(failure)
        self.failure = failure
        self.cause = cause


class Segment(Protocol):
    """Advances rows, see the module.

    A segment that has a method ``begin(rows)`` can do for rows that have entered the pipeline a part of this before their
    turn. The method gives what `Rows.begun` is for: a function, to be called in any thread, whose result `advance` takes.
    """

    names: frozenset[str]

    def advance(self, rows: Rows) -> None:
        """Move every row that stands at one of ``names`` on, until it has ended or stands elsewhere.

        Raises:
            Stopped: a processor with ``on_error="stop"`` failed; the rows are left consistent.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """A segment before it is bound to a run."""

    kind: SegmentKind
    processors: tuple[Processor, ...]


def cut(pipeline: Pipeline, *, parallel: bool = False, only: Collection[str] | None = None) -> list[Cut]:
    """Cut a pipeline into segments, in an order in which no value ever has to go back; ``parallel`` for several processes.

    With ``only``, the part of the pipeline that has these processors is cut: values that come to others stay there.

    Within a segment a processor comes after those that lead to it. Processors in a loop belong together, and are walked
    line by line whatever their kinds, so that each still sees its values in input order. Of the rest, neighbours of one
    kind share a segment, as long as no way between them leads through another kind.
    """
    graph = graph_of(pipeline, pipeline.processors if only is None else only)
    level: dict[str, int] = {}
    kinds: dict[str, SegmentKind] = {}
    components = components_of(graph)
    for component in components:
        loop = len(component) > 1 or component[0] in graph[component[0]]
        own = "python" if loop else _segment_kind(pipeline.processors[component[0]])
        if own == "python" and parallel and all(pipeline.processors[name].keeps is None for name in component):
            own = "parallel"
        inside = set(component)
        before = [o for o, targets in graph.items() if o not in inside and inside.intersection(targets)]
        height = max((level[o] + (kinds[o] != own or own == "concurrent") for o in before), default=0)
        for name in component:
            level[name], kinds[name] = height, own
    groups: dict[tuple[int, str, str], list[Processor]] = {}
    for name in (name for component in components for name in component):
        alone = name if kinds[name] == "concurrent" else ""
        groups.setdefault((level[name], kinds[name], alone), []).append(pipeline.processors[name])
    ordered = sorted(groups.values(), key=lambda members: level[members[0].name])
    return [Cut(kinds[members[0].name], tuple(members)) for members in ordered]


def _segment_kind(processor: Processor) -> SegmentKind:
    if processor.kind == "columnar":
        return "columnar"
    return "concurrent" if processor.kind == "async" and not processor.stateful else "python"


def graph_of(pipeline: Pipeline, only: Collection[str]) -> dict[str, list[str]]:
    """Return where values go from each of some processors, among them."""
    edges = [(origin, target) for origin, target in pipeline.edges() if target is not EMIT]
    return {
        name: [target for origin, target in edges if origin == name and target in only]
        for name in pipeline.processors
        if name in only
    }


def components_of(graph: dict[str, list[str]]) -> list[list[str]]:
    """Return the strongly connected components, each after all that lead to it (Kosaraju's algorithm)."""
    order: list[str] = []
    _visit_all(graph, graph, lambda component: order.extend(component))
    back: dict[str, list[Any]] = {name: [] for name in graph}
    for name, targets in graph.items():
        for target in targets:
            back[target].append(name)
    found: list[list[str]] = []
    _visit_all(reversed(order), back, found.append)
    position = {name: index for index, name in enumerate(graph)}
    return [sorted(component, key=position.__getitem__) for component in found]


def _visit_all(names: Any, graph: dict[str, list[Any]], finished: Callable[[list[str]], Any]) -> None:
    """Call ``finished`` with the names newly reached from each name, in depth-first postorder; no recursion."""
    seen: set[str] = set()
    for root in names:
        if root in seen:
            continue
        seen.add(root)
        reached: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(root, iter(graph[root]))]
        while stack:
            name, targets = stack[-1]
            for target in targets:
                if target not in seen:
                    seen.add(target)
                    stack.append((target, iter(graph[target])))
                    break
            else:
                reached.append(name)
                stack.pop()
        finished(reached)


def explain(pipeline: Pipeline) -> str:
    """Return the segments of a pipeline as text, with the source of the loops generated for Python ones."""
    from streamlab.segments.loop import source_of

    parts = []
    for number, part in enumerate(cut(pipeline), 1):
        names = ", ".join(p.name for p in part.processors)
        parts.append(f"# segment {number}, {part.kind}: {names}")
        if part.kind == "python":
            parts.append(source_of(pipeline, part))
        elif part.kind == "columnar":
            parts.extend(f"#   {p.name}: {p.target}" for p in part.processors)
    return "\n".join(parts)
