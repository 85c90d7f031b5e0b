"""The loop generated for a graph: the general walk with everything known beforehand written out.

For the places of the path tree that are visited most, each becomes a call and a few tests in nested ``if`` statements; where
a branch ends, a value and a path number are appended, and nothing else is kept. ``Pipeline.explain`` prints the source.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamlab.paths import EMIT, Node, Paths, Target
from streamlab.processors import Processor

if TYPE_CHECKING:
    from streamlab.pipeline import Pipeline
    from streamlab.segments import Cut
    from streamlab.segments.steps import Step
    from streamlab.segments.walk import Walk

#: Visits that are written out; more would make the source long and gain little.
MAX_VISITS = 96
#: Visits that may follow each other; Python allows 100 levels of indentation.
MAX_DEPTH = 16
#: Rows after which a loop is written anew, with the frequent ways first.
LEARNED = 8_192
#: Times that this may happen in one run.
MAX_REWRITES = 8
#: Loops that are kept, by where their rows stand.
MAX_LOOPS = 32

Loop = Callable[[Iterable[Any], "Walk"], None]


class Loops:
    """The generated loops of one segment, by the one place where their rows stand, or ``None``; written when needed."""

    def __init__(self, steps: Mapping[str, Step], paths: Paths, max_hops: int) -> None:
        self._steps = steps
        self._paths = paths
        self._max_hops = max_hops
        self._loops: dict[int | None, Loop] = {}
        self._entries: set[int] = set()
        self._hits: Counter[int] = Counter()
        self._rows = 0
        self._unusual = 0
        self._rewrites = 0
        self._learning = True

    def for_rows(self, entries: Set[int], paired: bool) -> Loop:
        """Return a loop for rows that stand at these nodes: values, or if ``paired`` pairs of node number and value."""
        if paired:  # one loop for all places that rows have stood at, as they differ from batch to batch
            if not entries <= self._entries:
                self._entries |= entries
                self._loops.pop(None, None)
            place, entries = None, self._entries
        else:
            [place] = entries
        loop = self._loops.get(place)
        if loop is None:
            if len(self._loops) >= MAX_LOOPS:
                self._loops.clear()
            loop = self._loops[place] = self._write(sorted(entries), paired)
        return loop

    def learn(self, walk: Walk) -> None:
        """Take note of what came of a batch; write the loops anew, frequent ways first, until few rows are unusual."""
        self._rows += len(walk.ids)
        self._unusual += walk.unusual
        if self._learning:
            self._hits.update(walk.ids)
        if self._rows < LEARNED:
            return
        if self._learning:
            self._loops.clear()
            self._rewrites += 1
        self._learning = self._unusual > self._rows // 20 and self._rewrites < MAX_REWRITES
        self._rows = self._unusual = 0

    def _write(self, entries: Sequence[int], paired: bool) -> Loop:
        processors = {name: step.processor for name, step in self._steps.items()}
        shapes = {name: step.shapes for name, step in self._steps.items()}
        bare = {name: step.bare for name, step in self._steps.items()}
        nodes = [self._paths.nodes[id] for id in entries]
        weights = _passed(self._paths, self._hits)
        source = LoopSource(self._paths, processors, self._max_hops, shapes, bare, weights)
        text = source.write(nodes, paired)
        tags = {tag: sys.intern(tag) for tag in source.tags}
        scope: dict[str, Any] = {"__name__": __name__, "EMIT": EMIT, "own": tags.get}
        scope.update((source.tags[tag], own) for tag, own in tags.items())
        for name, step in self._steps.items():
            scope[source.call(name)] = step.call
            scope[source.types(name)] = step.bare
        for id in source.written:
            scope[f"n{id}"] = self._paths.nodes[id]
        exec(compile(text, f"<streamlab loop {', '.join(self._steps)}>", "exec"), scope)
        return scope["loop"]  # type: ignore[no-any-return]


def _passed(paths: Paths, hits: Counter[int]) -> dict[int, int]:
    """Return how many rows went through each node, from where they came to."""
    passed = dict(hits)
    for node in reversed(paths.nodes):
        if node.parent is not None and passed.get(node.id):
            passed[node.parent.id] = passed.get(node.parent.id, 0) + passed[node.id]
    return passed


@dataclass
class LoopSource:
    """Writes the source of one loop.

    Attributes:
        shapes: by processor the shapes of its results so far, see `Step`; empty: as its ``to`` suggests.
        bare: by processor the types of its bare values so far; empty: text.
        weights: rows by node; the most frequent are written first, and when not all fit, only they are.
        written: the nodes that the source names.
        tags: the names in the source of the tags in it.
    """

    paths: Paths
    processors: Mapping[str, Processor]
    max_hops: int
    shapes: Mapping[str, set[str]] = field(default_factory=dict)
    bare: Mapping[str, set[type]] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)
    _inside: set[int] = field(default_factory=set)
    _visited: dict[str, None] = field(default_factory=dict)

    def call(self, name: str) -> str:
        """Return the name of a processor's function in the source."""
        return self._identifier("call", name)

    def types(self, name: str) -> str:
        """Return the name of the set of types that count as a bare value of a processor."""
        return self._identifier("types", name)

    def _identifier(self, prefix: str, name: str) -> str:
        if name.isascii() and name.isidentifier():
            return f"{prefix}_{name}"
        return f"{prefix}_{self._numbers.setdefault(name, len(self._numbers))}_"

    def write(self, entries: Sequence[Node], paired: bool) -> str:
        """Return the source for rows that stand at ``entries``: values, or if ``paired`` pairs of node number and value."""
        self._inside = self._choose(entries)
        line = self._line
        line(1, "ids, values, failed, unusual = walk.ids, walk.values, walk.loop_failed, walk.loop_unusual")
        if not paired:
            line(1, "for v0 in rows:")
            self._arrive(entries[0], 0, 2)
        else:
            line(1, "for at, v0 in rows:")
            for number, node in enumerate(self._by_weight(entries)):
                line(2, f"{'if' if number == 0 else 'elif'} at == {node.id}:")
                self._arrive(node, 0, 3)
            line(2, "else:")
            line(3, "ids.append(at); values.append(v0)")
        # Names that a function was given with its arguments are found faster than those around it.
        names = ["type", "tuple", "str", *map(self.call, self._visited), *self.tags.values()]
        head = f"def loop(rows, walk, {', '.join(f'{name}={name}' for name in names)}):"
        return "\n".join([head, *self._lines]) + "\n"

    def _choose(self, entries: Sequence[Node]) -> set[int]:
        """Return the visits to write out: the most frequent first, and of equals those nearest to the entry."""
        chosen: set[int] = set()
        waiting = [(-self.weights.get(node.id, 0), 0, node.id) for node in entries]
        heapq.heapify(waiting)
        while waiting and len(chosen) < MAX_VISITS:
            _, depth, id = heapq.heappop(waiting)
            node = self.paths.nodes[id]
            if node.processor not in self.processors or node.kind != "visit":
                continue
            chosen.add(id)
            if depth < MAX_DEPTH:
                for child in self._ways(node):
                    heapq.heappush(waiting, (-self.weights.get(child.id, 0), depth + 1, child.id))
        return chosen

    def _ways(self, node: Node) -> list[Node]:
        """Return where a visit may lead, the most frequent first."""
        processor = self.processors[node.processor or ""]
        targets: list[Target] = [t for t in processor.to if t is EMIT or node.hops < self.max_hops]
        if EMIT not in targets:
            targets.append(EMIT)
        return self._by_weight([self.paths.to(node, target) for target in targets])

    def _by_weight(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(nodes, key=lambda node: -self.weights.get(node.id, 0))

    def _line(self, indent: int, text: str) -> None:
        self._lines.append("    " * indent + text)

    def _arrive(self, node: Node, depth: int, indent: int) -> None:
        """Write what is done with the value ``v{depth}`` at a node."""
        value = f"v{depth}"
        if node.id in self._inside:
            self._visit(node, depth, indent)
        elif node.processor in self.processors and node.kind == "visit":
            self.written.add(node.id)
            self._line(indent, f"walk.row([(n{node.id}, {value})])")
        else:
            self._end(node, indent, value)

    def _end(self, node: Node, indent: int, value: str) -> None:
        comment = f"{self.paths.text(node.id)}: {node.fate.value}" if node.kind == "leaf" else self.paths.text(node.id)
        self._line(indent, f"ids.append({node.id}); values.append({value})  # {comment.encode('unicode_escape').decode()}")

    def _visit(self, node: Node, depth: int, indent: int) -> None:
        """Write a visit: the call, and where its result may lead."""
        processor = self.processors[node.processor or ""]
        self.written.add(node.id)
        self._visited[processor.name] = None
        shapes = self.shapes.get(processor.name) or {"tuple" if processor.default is None else "bare"}
        if processor.default is None:
            shapes = {"tuple"}
        result = "result" if "tuple" in shapes else f"v{depth + 1}"
        trail = f"({', '.join(f'v{i}' for i in range(depth + 1))},)"
        unusual = f"unusual(n{node.id}, {trail}, {result})"
        line = self._line
        line(indent, "try:")
        line(indent + 1, f"{result} = {self.call(processor.name)}(v{depth})")
        line(indent, "except BaseException as error:")
        line(indent + 1, f"failed(n{node.id}, {trail}, error)")
        line(indent + 1, "continue")
        if "tuple" not in shapes:
            assert processor.default is not None
            word = "if"
            if processor.default is EMIT or node.hops < self.max_hops:
                line(indent, f"if {self._is_bare(processor, result)}:")
                self._arrive(self.paths.to(node, processor.default), depth + 1, indent + 1)
                word = "elif"
            line(indent, f"{word} {result} is None:")
            self._none(node, processor, indent + 1)
            line(indent, "else:")
            line(indent + 1, unusual)
            return
        line(indent, "if type(result) is tuple:")
        line(indent + 1, "try:")
        line(indent + 2, f"tag, v{depth + 1} = result")
        line(indent + 1, "except ValueError:")
        line(indent + 2, unusual)
        line(indent + 2, "continue")
        line(indent, "elif result is None:")
        self._none(node, processor, indent + 1)
        line(indent + 1, "continue")
        if "bare" in shapes:
            line(indent, f"elif {self._is_bare(processor, result)}:")
            line(indent + 1, f"tag, v{depth + 1} = {self._tag(processor.default)}, result")
        line(indent, "else:")
        line(indent + 1, unusual)
        line(indent + 1, "continue")
        if "computed" in shapes:
            line(indent, "if type(tag) is str:")  # what else it may be could do anything when it is compared
            line(indent + 1, "tag = own(tag, tag)")
        self._tags(node, depth, indent, unusual)

    def _is_bare(self, processor: Processor, result: str) -> str:
        """Return the test for a bare value: one of the types that there have been."""
        types = self.bare.get(processor.name) or {str}
        return f"type({result}) is str" if types == {str} else f"type({result}) in {self.types(processor.name)}"

    def _none(self, node: Node, processor: Processor, indent: int) -> None:
        self._end(self.paths.end(node, processor.kept), indent, "None")

    def _tags(self, node: Node, depth: int, indent: int, unusual: str) -> None:
        """Write the tests for the tags that a visit may give; by identity, which no odd object can answer to."""
        for number, way in enumerate(self._ways(node)):
            self._line(indent, f"{'if' if number == 0 else 'elif'} tag is {self._tag(way.processor)}:")
            self._arrive(way, depth + 1, indent + 1)
        self._line(indent, "else:")
        self._line(indent + 1, unusual)

    def _tag(self, target: Target | None) -> str:
        """Return the name of a tag in the source."""
        if target is None or target is EMIT:
            return "EMIT"
        self.tags[target] = self._identifier("tag", target)
        return self.tags[target]


def source_of(pipeline: Pipeline, part: Cut) -> str:
    """Return the source of the loop for a segment, as it is before anything has run."""
    paths = Paths()
    processors = {processor.name: processor for processor in part.processors}
    inside = [p.name for p in part.processors]
    first = pipeline.entry.name
    entered = [name for name in inside if name == first] or [
        name for name in inside if any(o not in processors and t == name for o, t in pipeline.edges())
    ]
    nodes = [paths.to(paths.root, name) for name in entered or inside]
    return LoopSource(paths, processors, pipeline.limits.max_hops).write(nodes, paired=len(nodes) > 1)
