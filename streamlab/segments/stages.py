"""Where a pipeline is cut so that its parts can run apart: at the processors that must see their values in one place.

A processor that keeps nothing gives the same wherever it runs, so every stage has all of those. One that keeps state is
in one stage only, behind all others that lead to it; so is a whole loop that has one in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.segments import components_of, graph_of

if TYPE_CHECKING:
    from streamlab.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a pipeline.

    Attributes:
        processors: those that run in it.
        placed: those of them that run in no other stage: values come to them from the stages before.
        loops: of those that are in a loop, its name: they are in one place, whatever their keys.
    """

    processors: frozenset[str]
    placed: frozenset[str]
    loops: Mapping[str, str]


def stages_of(pipeline: Pipeline) -> list[Stage]:
    """Return the stages of a pipeline, in an order in which no value has to go back; the first one has lines coming in.

    >>> import streamlab
    >>> class count:
    ...     def __call__(self, line): ...
    >>> pipeline = streamlab.Pipeline("p").add("start", str.strip).add("count", count).add("end", str.upper)
    >>> [sorted(stage.placed) for stage in stages_of(pipeline)]
    [[], ['count']]
    """
    graph = graph_of(pipeline, pipeline.processors)
    height: dict[str, int] = {}
    levels: dict[int, set[str]] = {0: set()}
    loops: dict[str, str] = {}
    for component in components_of(graph):
        before = [height[origin] for origin in height if set(component).intersection(graph[origin])]
        level = max(before, default=0)
        if any(pipeline.processors[name].keeps is not None for name in component):
            level += 1
            levels.setdefault(level, set()).update(component)
            if len(component) > 1 or component[0] in graph[component[0]]:
                loops |= dict.fromkeys(component, component[0])
        height |= dict.fromkeys(component, level)
    anywhere = frozenset(pipeline.processors).difference(*levels.values())
    return [
        Stage(anywhere | placed, frozenset(placed), {name: loops[name] for name in placed if name in loops})
        for _, placed in sorted(levels.items())
    ]
