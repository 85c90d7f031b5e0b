"""The tree of paths: where branches went, as one small integer each.

Every way that a branch took through the graph is a node of this tree, and the node's number is all that is kept of it.
How many branches ended at each node (a histogram) gives every counter of every processor, so that counters, traces and
ledger cannot disagree: they are the same numbers, added up differently.

::

    root ── start ── end ── emitted            "start > end"
               └──── warn ── end ── emitted    "start > warn > end"
                        └─── dead_letter

A branch that fan-out makes beyond the value it came from hangs below a *fork* node, and what a processor gives at
``flush`` below a *flush* node, so that nobody counts it as received.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray


class Emit(Enum):
    """The type of `EMIT`: an enum, so that it stays itself through pickle and copy."""

    EMIT = "emit"

    __hash__ = object.__hash__  # that of Enum is written in Python, and tags are looked up for every value

    def __repr__(self) -> str:
        return "EMIT"


#: The tag that leaves the pipeline: ``return EMIT, value``.
EMIT: Final = Emit.EMIT

Target = str | Literal[Emit.EMIT]


class Fate(StrEnum):
    """How a branch ended."""

    EMITTED = "emitted"
    FILTERED = "filtered"
    ABSORBED = "absorbed"
    DEAD_LETTER = "dead_letter"
    IN_FLIGHT = "in_flight"


Kind = Literal["root", "visit", "leaf", "fork", "flush"]
#: A node as plain data: its number and its parent's, what it is, processor, fate, failure.
Twig = tuple[int, int, Kind, str | None, str, str | None]
#: The processors that a branch went through, and its fate.
Way = tuple[tuple[str, ...], Fate]


class Node:
    """A place in the tree.

    Attributes:
        id: its number, rising as the tree grows; a parent's is smaller than its children's.
        kind: ``visit`` (a branch stands at ``processor``), ``leaf`` (it has ended), ``fork``, ``flush`` or ``root``.
        processor: of a visit or flush node its processor, else ``None``.
        fate: of a leaf how the branch ended; else ``IN_FLIGHT``, which is what a branch that stands there is.
        failure: the failure kind that led here from the parent, if one did.
        hops: processors visited down to here.
        ways: children by the target that leads there; being here says that the target may be routed to.
        children: the other children, by what led to them.
    """

    __slots__ = ("children", "failure", "fate", "hops", "id", "kind", "parent", "processor", "ways")

    def __init__(
        self,
        id: int,
        parent: Node | None,
        kind: Kind,
        processor: str | None = None,
        fate: Fate = Fate.IN_FLIGHT,
        failure: str | None = None,
    ) -> None:
        self.id = id
        self.parent = parent
        self.kind = kind
        self.processor = processor
        self.fate = fate
        self.failure = failure
        self.hops: int = (parent.hops if parent else 0) + (kind in ("visit", "flush"))
        self.ways: dict[Target, Node] = {}
        self.children: dict[Hashable, Node] = {}


@dataclass(slots=True)
class Counts:
    """What a processor, or the run, did with values so far. Exact."""

    received: int = 0
    forked: int = 0
    emitted: int = 0
    filtered: int = 0
    absorbed: int = 0
    dead_lettered: int = 0
    in_flight: int = 0
    errors: int = 0

    def balances(self) -> bool:
        """Tell whether the ledger holds: ``received + forked = emitted + filtered + ... + in_flight``."""
        ended = self.emitted + self.filtered + self.absorbed + self.dead_lettered
        return self.received + self.forked == ended + self.in_flight

    def values(self) -> list[int]:
        """Return the numbers in order."""
        return [getattr(self, name) for name in self.__slots__]

    def add(self, other: Counts, times: int = 1) -> None:
        """Add another's numbers to these, so many times."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + times * getattr(other, name))


_ENDED: Mapping[Fate, str] = {
    Fate.EMITTED: "emitted",
    Fate.FILTERED: "filtered",
    Fate.ABSORBED: "absorbed",
    Fate.DEAD_LETTER: "dead_lettered",
    Fate.IN_FLIGHT: "in_flight",
}


@dataclass(slots=True)
class Totals:
    """The histogram of a tree, added up.

    Attributes:
        run: the whole run's counts, in lines and branches.
        processors: each processor's counts, in values.
        edges: values that went from one processor to the next; from ``None`` they came from the source, to `EMIT` they
            left the pipeline.
        failures: values that failed, by processor (``None``: before the entry), kind, and what came of them: their fate,
            ``in_flight`` where another processor took them.
    """

    run: Counts = field(default_factory=Counts)
    processors: dict[str, Counts] = field(default_factory=dict)
    edges: dict[tuple[str | None, Target], int] = field(default_factory=dict)
    failures: dict[tuple[str | None, str, Fate], int] = field(default_factory=dict)

    def of(self, processor: str) -> Counts:
        """Return the counts of one processor, made when missing."""
        return self.processors.setdefault(processor, Counts())

    def carried(self, origin: str | None, target: Target, count: int) -> None:
        """Count values on an edge."""
        self.edges[origin, target] = self.edges.get((origin, target), 0) + count

    def saved(self) -> dict[str, Any]:
        """Return them as plain data, for `restored`."""
        return {
            "run": self.run.values(),
            "processors": {name: counts.values() for name, counts in self.processors.items()},
            "edges": [[origin, None if target is EMIT else target, n] for (origin, target), n in self.edges.items()],
            "failures": [[name, kind, fate.value, n] for (name, kind, fate), n in self.failures.items()],
        }

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Totals:
        """Return the totals that were `saved`."""
        return cls(
            Counts(*saved["run"]),
            {name: Counts(*values) for name, values in saved["processors"].items()},
            {(origin, EMIT if target is None else target): n for origin, target, n in saved["edges"]},
            {(name, kind, Fate(fate)): n for name, kind, fate, n in saved["failures"]},
        )

    def add(self, other: Totals, times: int = 1) -> None:
        """Add another tree's totals to these, so many times."""
        self.run.add(other.run, times)
        for name, counts in other.processors.items():
            self.of(name).add(counts, times)
        for (origin, target), count in other.edges.items():
            self.carried(origin, target, times * count)
        for key, count in other.failures.items():
            self.failures[key] = self.failures.get(key, 0) + times * count


class Paths:
    """The tree. It only grows; a node's number means the same for as long as the tree is kept.

    >>> paths = Paths()
    >>> start = paths.to(paths.root, "start")
    >>> paths.text(paths.to(paths.to(start, "end"), EMIT).id)
    'start > end'
    """

    def __init__(self) -> None:
        self.root = Node(0, None, "root")
        self.nodes: list[Node] = [self.root]
        self._emitted: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.nodes)

    def to(self, node: Node, target: Target) -> Node:
        """Return the place that a value reaches from ``node`` with the tag ``target``."""
        way = node.ways.get(target)
        if way is None:
            way = self._new(node, "leaf", fate=Fate.EMITTED) if target is EMIT else self._new(node, "visit", target)
            node.ways[target] = way
        return way

    def end(self, node: Node, fate: Fate, failure: str | None = None) -> Node:
        """Return the leaf for a branch that ends at ``node``, because of ``failure`` if there is one."""
        key = ("end", fate, failure)
        return node.children.get(key) or self._grow(node, key, "leaf", fate=fate, failure=failure)

    def divert(self, node: Node, handler: str, failure: str) -> Node:
        """Return the visit to the ``on_error`` processor that takes the value which failed at ``node``."""
        key = ("divert", handler, failure)
        return node.children.get(key) or self._grow(node, key, "visit", processor=handler, failure=failure)

    def fork(self, node: Node) -> Node:
        """Return the node below which the branches hang that fan-out at ``node`` made beyond the first."""
        return node.children.get(("fork",)) or self._grow(node, ("fork",), "fork")

    def flush(self, processor: str) -> Node:
        """Return the node below which values hang that ``processor`` gave at end of input."""
        key = ("flush", processor)
        return self.root.children.get(key) or self._grow(self.root, key, "flush", processor=processor)

    def arrival(self, names: Sequence[str], key: Hashable) -> Node:
        """Return the visit where branches arrive that went through ``names`` in another tree; one for each ``key``."""
        node = self.root
        for name in names[:-1]:
            node = self.to(node, name)
        return node.children.get(("arrival", key)) or self._grow(node, ("arrival", key), "visit", processor=names[-1])

    def like(self, node: Node, other: Node) -> Node:
        """Return the place that a branch reaches from ``node`` when it does what leads to ``other`` in another tree."""
        if other.kind == "fork":
            return self.fork(node)
        if other.kind == "leaf":
            return self.to(node, EMIT) if other.fate is Fate.EMITTED else self.end(node, other.fate, other.failure)
        assert other.processor is not None
        if other.failure is not None:
            return self.divert(node, other.processor, other.failure)
        return self.to(node, other.processor)

    def pruned(self, ids: Iterable[int]) -> list[Twig]:
        """Return the nodes on the way to some, parents first, as plain data for `graft`."""
        wanted: set[int] = set()
        for id in ids:
            node: Node | None = self.nodes[id]
            while node is not None and node.id not in wanted:
                wanted.add(node.id)
                node = node.parent
        nodes = [self.nodes[id] for id in sorted(wanted)]
        return [(n.id, n.parent.id, n.kind, n.processor, n.fate.value, n.failure) for n in nodes if n.parent is not None]

    def graft(self, twigs: Iterable[Twig]) -> dict[int, Node]:
        """Return the places in this tree of nodes of another one, which was `pruned`, by their numbers there."""
        known = {0: self.root}
        for id, parent, kind, processor, fate, failure in twigs:
            if kind == "flush":
                known[id] = self.flush(processor or "")
            else:
                known[id] = self.like(known[parent], Node(id, None, kind, processor, Fate(fate), failure))
        return known

    def _grow(
        self,
        parent: Node,
        key: Hashable,
        kind: Literal["visit", "leaf", "fork", "flush"],
        processor: str | None = None,
        fate: Fate = Fate.IN_FLIGHT,
        failure: str | None = None,
    ) -> Node:
        node = parent.children[key] = self._new(parent, kind, processor, fate, failure)
        return node

    def _new(
        self,
        parent: Node,
        kind: Literal["visit", "leaf", "fork", "flush"],
        processor: str | None = None,
        fate: Fate = Fate.IN_FLIGHT,
        failure: str | None = None,
    ) -> Node:
        node = Node(len(self.nodes), parent, kind, processor, fate, failure)
        self.nodes.append(node)
        return node

    def emitted(self) -> NDArray[np.bool_]:
        """Return for every node whether a branch that came to it was emitted, shape ``(len(self),)``."""
        known = len(self._emitted)
        if known < len(self.nodes):
            more = [node.fate is Fate.EMITTED for node in self.nodes[known:]]
            self._emitted = np.concatenate([self._emitted, np.array(more, dtype=np.bool_)])
        return self._emitted

    def names(self, id: int) -> list[str]:
        """Return the processors on the way to a node, in order."""
        names = []
        node: Node | None = self.nodes[id]
        while node is not None:
            if node.processor is not None:
                names.append(node.processor)
            node = node.parent
        return names[::-1]

    def text(self, id: int) -> str:
        """Return the path to a node as text, ``start > warn > end``."""
        return " > ".join(self.names(id))

    def ways(self, histogram: NDArray[np.int64], limit: int) -> dict[Way, int]:
        """Return how many branches went the ways that most went, at most ``limit`` places in the tree.

        Args:
            histogram: as for `totals`.
            limit: places to look at; two may be of one way, where it came about in two manners.
        """
        ids = np.flatnonzero(histogram)
        if len(ids) > limit:
            ids = ids[np.argpartition(histogram[ids], -limit)[-limit:]]
        ways: dict[Way, int] = {}
        for id in ids.tolist():
            way = (tuple(self.names(id)), self.nodes[id].fate)
            ways[way] = ways.get(way, 0) + int(histogram[id])
        return ways

    def totals(self, histogram: NDArray[np.int64]) -> Totals:
        """Add up how many branches ended (or stand) at each node.

        Args:
            histogram: shape ``(n,)``, ``n <= len(self)``: branches by node number.
        """
        passed = histogram.tolist()
        totals = Totals()
        for node in reversed(self.nodes[: len(passed)]):
            count = passed[node.id]
            if node.kind == "visit":
                own = int(histogram[node.id])
                totals.of(node.processor or "").received += count
                totals.of(node.processor or "").in_flight += own
                totals.run.in_flight += own
            parent = node.parent
            if parent is None or not count:
                continue
            self._count_arrival(totals, node, count)
            if node.kind not in ("fork", "flush"):
                passed[parent.id] += count
        totals.run.received = passed[0] if passed else 0
        return totals

    def on_the_way(self, histogram: NDArray[np.int64]) -> Totals:
        """Return what branches did on their way to where they stand, without what is done there; as of `totals`."""
        totals = self.totals(histogram)
        for id in np.flatnonzero(histogram).tolist():
            node, count = self.nodes[id], int(histogram[id])
            if node.kind == "visit":
                counts = totals.of(node.processor or "")
                counts.received -= count
                counts.in_flight -= count
                totals.run.in_flight -= count
        return totals

    @staticmethod
    def _count_arrival(totals: Totals, node: Node, count: int) -> None:
        """Book ``count`` values that came to ``node`` with the processor that sent them."""
        if node.kind in ("fork", "flush"):
            sender = node.processor if node.kind == "flush" else node.parent and node.parent.processor
            totals.of(sender or "").forked += count
            totals.run.forked += count
            return
        origin = node.parent
        while origin is not None and origin.kind == "fork":
            origin = origin.parent
        sender = origin.processor if origin is not None else None
        if node.kind == "visit" or node.fate is Fate.EMITTED:
            totals.carried(sender, node.processor or EMIT, count)
        if node.kind == "leaf":
            name = _ENDED[node.fate]
            setattr(totals.run, name, getattr(totals.run, name) + count)
        if sender is not None:
            counts = totals.of(sender)
            name = _ENDED[node.fate] if node.kind == "leaf" else "emitted"
            setattr(counts, name, getattr(counts, name) + count)
        if node.failure:
            key = (sender, node.failure, node.fate)
            totals.failures[key] = totals.failures.get(key, 0) + count
            totals.run.errors += count
            if sender is not None:
                totals.of(sender).errors += count
