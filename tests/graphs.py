"""Random pipelines for hypothesis: drawn as plain data (`Plan`), built as often as a test needs them.

What a processor does with a value is chosen from its list of actions by a checksum of the value: so it is a function of
the value alone (and, of a stateful one, of how many it has seen), the same in the engine and in the reference.
"""

from __future__ import annotations

import asyncio
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl
from hypothesis import strategies as st

from streamlab import EMIT, Pipeline, Retry

RAISED = (ValueError, OSError, SystemExit, RecursionError, GeneratorExit, MemoryError, StopIteration, AssertionError)
RETRY = Retry(maximum_attempts=3, initial_interval=0.0)
KINDS = (
    "function",
    "function",
    "function",
    "stateful",
    "keyed",
    "by field",
    "async",
    "async stateful",
    "columnar",
    "columnar",
)


class Enough(KeyboardInterrupt):
    """Ends an example that would take too long; a Ctrl-C, as nothing else gets through."""


@dataclass(frozen=True)
class Node:
    """One processor of a plan.

    Attributes:
        actions: what it may do with a value: a verb, and for fan-out the actions of each branch.
        expression: which of `EXPRESSIONS`, for a columnar one.
    """

    name: str
    kind: str
    to: tuple[Any, ...]
    actions: tuple[Any, ...]
    on_error: str
    retry: bool
    flushes: tuple[Any, ...]
    expression: int
    concurrency: int


@dataclass(frozen=True)
class Plan:
    """A pipeline as data."""

    nodes: tuple[Node, ...]
    max_hops: int
    max_emits: int

    def build(self, budget: int = 1_000_000) -> tuple[Pipeline, dict[str, Callable[[Any], Any]]]:
        """Return a fresh pipeline, and for each processor the plain function or class that does the same.

        Args:
            budget: calls after which the plain ones raise `Enough`.
        """
        pipeline = Pipeline("random", max_hops=self.max_hops, max_emits=self.max_emits)
        plain: dict[str, Callable[[Any], Any]] = {}
        calls = iter(range(budget))
        for node in self.nodes:
            key = {"keyed": by_checksum, "by field": "v"}.get(node.kind)
            options: dict[str, Any] = {"to": node.to, "on_error": node.on_error, "key": key}
            if node.retry and node.kind != "columnar":
                options["retry"] = RETRY
            pipeline.add(node.name, target(node), **options, concurrency=node.concurrency)
            plain[node.name] = counted(plain_target(node), calls)
        return pipeline, plain


def counted(call: Callable[[Any], Any], calls: Iterator[int]) -> Callable[..., Any]:
    """Return a function or class that counts how often it is used."""

    def counting(*values: Any) -> Any:
        if next(calls, None) is None:
            raise Enough
        return call(*values)

    return counting


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def checksum(*texts: str) -> int:
    return zlib.crc32("\0".join(texts).encode("utf-8", "surrogatepass"))


def by_checksum(value: Any) -> int:
    """Return the key of a value: one of three, or none at all."""
    number = checksum("key", text_of(value)) % 7
    if number == 6:
        raise LookupError("no key")
    return number % 3


# What processors do


def act(node: Node, value: Any, seen: str, tries: Counter[str]) -> Any:
    """Do what a node does with a value."""
    text = text_of(value)
    return perform(node, node.actions[checksum(node.name, text, seen) % len(node.actions)], text + seen, tries)


def perform(node: Node, action: Any, text: str, tries: Counter[str]) -> Any:
    """Return what an action returns, or raise what it raises."""
    verb, *rest = action
    match verb:
        case "bare":
            return text + node.name[-1]
        case "same":
            return text
        case "number":
            return len(text)
        case "fields":
            return {"v": text}
        case "none":
            return None
        case "tag":
            return tag_of(node, rest[0]), text + "."
        case "computed tag":
            tag = tag_of(node, rest[0])
            return tag if tag is EMIT else "".join(list(tag)), text + ","
        case "tag with nothing":
            return (node.to[0] if node.to else EMIT), None
        case "emit":
            return EMIT, text
        case "hash":
            return (node.to[-1] if node.to else EMIT), f"{checksum(text):08x}"
        case "raise":
            raise RAISED[rest[0]]("on purpose")
        case "stumble":  # works at every third attempt
            tries[text] += 1
            if tries[text] % 3:
                raise OSError("stumbled")
            return (node.to[0] if node.to else EMIT), text
        case "list":
            return [perform(node, one, f"{text}{i}", tries) for i, one in enumerate(rest[0])]
        case "generator":
            return generated(node, rest[0], text, tries)
        case "endless":
            return iter_endless(text)
        case "wrong":
            return [("nowhere", text), (EMIT, text, text), ([], text), (), (7, text)][rest[0]]
    raise AssertionError(verb)


def tag_of(node: Node, number: int) -> Any:
    """Return one of a node's tags: the object that a literal would be."""
    tag = node.to[number % len(node.to)] if node.to else EMIT
    return tag if tag is EMIT else sys.intern(tag)


def generated(node: Node, actions: Any, text: str, tries: Counter[str]) -> Iterator[Any]:
    for i, one in enumerate(actions):
        yield perform(node, one, f"{text}{i}", tries)


def iter_endless(text: str) -> Iterator[Any]:
    while True:
        yield EMIT, text


class Stateful:
    """Counts the values that it has seen, and acts on the last ones at the end."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.seen = 0
        self.last = ""
        self.tries: Counter[str] = Counter()

    def __call__(self, value: Any) -> Any:
        self.seen += 1
        self.last = text_of(value)
        return act(self.node, value, str(self.seen % 3), self.tries)

    def flush(self) -> Any:
        if not self.node.flushes:
            return None
        return [perform(self.node, one, f"{self.last}#{i}", self.tries) for i, one in enumerate(self.node.flushes)]


class Trickling(Stateful):
    """Its flush is a generator, which may raise after some values were taken."""

    def flush(self) -> Any:
        last, tries = self.last, Counter[str]()  # as it is now, whatever a loop brings back meanwhile
        for i, one in enumerate(self.node.flushes):
            yield perform(self.node, one, f"{last}#{i}", tries)


def stateful(node: Node) -> type[Stateful]:
    """Return a class of its own for a node, as a pipeline instantiates it without arguments."""
    base = Trickling if len(node.flushes) % 2 else Stateful
    return type(f"Stateful_{node.name}", (base,), {"__init__": lambda self: Stateful.__init__(self, node)})


def async_stateful(node: Node) -> type:
    """Return a class whose ``__call__`` is a coroutine function."""

    class Async(stateful(node)):  # type: ignore[misc]
        async def __call__(self, value: Any) -> Any:
            await asyncio.sleep(0)
            return super().__call__(value)

    return Async


def target(node: Node) -> Any:
    """Return what the pipeline runs."""
    if node.kind == "columnar":
        return EXPRESSIONS[node.expression][0]
    if node.kind == "async stateful":
        return async_stateful(node)
    if node.kind != "async":
        return plain_target(node)
    tries: Counter[str] = Counter()

    async def asynchronous(value: Any) -> Any:
        for _ in range(checksum(text_of(value)) % 3):
            await asyncio.sleep(0)
        return act(node, value, "", tries)

    return asynchronous


def plain_target(node: Node) -> Any:
    """Return what the reference runs."""
    if node.kind == "columnar":
        return EXPRESSIONS[node.expression][1]
    if node.kind in ("stateful", "keyed", "by field", "async stateful"):
        return stateful(node)
    return partial(act, node, seen="", tries=Counter())


# Expressions, and the same in Python


def _column(value: Any) -> str | None:
    """Return the value of the column ``line``: rows of dicts have none."""
    if not isinstance(value, (str, type(None))):
        raise LookupError("line")
    return value


def _mark(value: Any) -> str | None:
    text = _column(value)
    return None if text is None else text + "!"


def _without_a(value: Any) -> str | None:
    text = _column(value)
    return None if text is None or "a" in text else text


def _length(value: Any) -> int | None:
    text = _column(value)
    return None if text is None else len(text)


def _integer(value: Any) -> str | None:
    text = _column(value)
    if text is None:
        return None
    if not re.fullmatch("[+-]?[0-9]{1,18}", text):
        raise ValueError("no integer")
    return str(int(text))


def _fields(value: Any) -> dict[str, Any]:
    text = _column(value)
    return {"v": text, "n": None if text is None else text + "n"}


_LINE = pl.col("line")
EXPRESSIONS: tuple[tuple[pl.Expr, Callable[[Any], Any]], ...] = (
    (_LINE + "!", _mark),
    (pl.when(~_LINE.str.contains("a", literal=True)).then(_LINE), _without_a),
    (_LINE.str.to_integer().cast(pl.String), _integer),
    (pl.struct(v=_LINE, n=_LINE + "n"), _fields),
    (_LINE.str.len_chars().cast(pl.String), lambda value: None if _length(value) is None else str(_length(value))),
)

# How plans are drawn

_plain = st.one_of(
    st.sampled_from([("bare",), ("bare",), ("same",), ("none",), ("emit",), ("hash",), ("fields",), ("tag with nothing",)]),
    st.tuples(st.just("tag"), st.integers(0, 3)),
    st.tuples(st.just("tag"), st.integers(0, 3)),
    st.tuples(st.just("computed tag"), st.integers(0, 3)),
)
_trouble = st.one_of(
    st.tuples(st.just("raise"), st.integers(0, len(RAISED) - 1)),
    st.tuples(st.just("wrong"), st.integers(0, 4)),
    st.just(("stumble",)),
)
_branches = st.lists(st.one_of(_plain, _plain, _plain, _trouble), max_size=4).map(tuple)
_actions = st.one_of(
    _plain,
    _plain,
    _plain,
    _trouble,
    st.just(("endless",)),
    st.tuples(st.sampled_from(["list", "generator"]), _branches),
)
_flushed = st.one_of(_plain, _plain, _trouble, st.tuples(st.sampled_from(["list", "generator"]), _branches))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a pipeline of one to seven processors, with any routes between them."""
    names = [f"p{i}" for i in range(draw(st.integers(1, 7)))]
    nodes = []
    for name in names:
        kind = draw(st.sampled_from(KINDS))
        # Most graphs are to lead on: few processors have no `to`, and the next one is among the candidates twice.
        ahead = names[names.index(name) + 1 :][:1] * 2
        ends = name == names[-1] or draw(st.integers(0, 4)) == 0
        most = 1 if kind == "columnar" else 3
        to = draw(st.lists(st.sampled_from([*ahead, *names, EMIT]), min_size=not ends, max_size=most, unique=True))
        nodes.append(
            Node(
                name=name,
                kind=kind,
                to=tuple(to),
                actions=tuple(draw(st.lists(_actions, min_size=1, max_size=5))),
                on_error=draw(st.sampled_from(["dead_letter", "dead_letter", "skip", *names])),
                retry=draw(st.booleans()),
                flushes=tuple(draw(st.lists(_flushed, max_size=3))),
                expression=draw(st.integers(0, len(EXPRESSIONS) - 1)),
                concurrency=draw(st.integers(1, 4)),
            )
        )
    return Plan(tuple(nodes), max_hops=draw(st.integers(1, 12)), max_emits=draw(st.integers(1, 5)))


_characters = st.one_of(st.characters(exclude_categories=()), st.sampled_from("a1 \r\n\0\x1b\x85\u2028\udc80\U000f0000"))
_line = st.one_of(st.text(_characters, max_size=5), st.integers(-99, 99).map(str))


@st.composite
def inputs(draw: st.DrawFn) -> list[str]:
    """Draw lines: some of any text, and a longer series, so that what is usual becomes usual."""
    few = draw(st.lists(_line, max_size=8))
    return few + [f"{i}{draw(_line) if i % 8 == 0 else ''}" for i in range(draw(st.integers(0, 40)))] + few
