"""What every built-in must do: the same as its plain Python meaning, one value at a time, however the values are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streamlab import EMIT, Pipeline
from tests.driver import Driven, Every

#: What a reference gives for a value that does not go on, or fails: `GONE`, or an exception (its type is compared).
GONE = object()

Reference = Callable[[Any], Any]


def assert_means(
    processor: Any, reference: Reference, values: Sequence[Any], sizes: Sequence[int], left: Iterable[Any] = ()
) -> None:
    """Run values through a built-in, and through its reference.

    Args:
        processor: the built-in.
        reference: takes one value (in order) and returns what becomes of it: a value, ``(tag, value)`` for a built-in that
            routes, `GONE`, or raises what the built-in fails with.
        values: text or dicts.
        sizes: how many values a batch has, over and over.
        left: what it has left at the end of input.
    """
    table = {f"line {number}": value for number, value in enumerate(values)}
    pipeline = Pipeline("p").add("make", lambda line: ("it", table[line]), to="it").add("it", processor)
    routes = bool(pipeline.processors["it"].columnar.ways)
    for tag in pipeline.processors["it"].to:
        if tag is not EMIT:
            pipeline.add(tag, lambda value, tag=tag: (EMIT, (tag, value)))
    driven = Driven(pipeline, Every(0)).run(list(table), list(sizes))
    expected, failed = [], []
    for number, value in enumerate(values):
        try:
            came = reference(value)
        except Exception as error:
            failed.append((number, type(error).__name__))
            continue
        if came is not GONE:
            expected.append((number, came if not routes or came[0] is not EMIT else came[1]))
    assert [(n, value) for n, value in driven.output if n is not None] == expected
    assert [value for n, value in driven.output if n is None] == list(left)
    assert sorted(driven.errors) == failed
