"""`count` and `top` count, whatever the batches."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from streamlab.columns import Column
from tests.meaning import GONE, Reference, assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
TEXTS = st.lists(st.sampled_from(["a", "b", "\udcff", ""]) | st.text(max_size=2), max_size=40)
KEYS = st.sampled_from(["a", "b", "\udcff", "", None, 1, 1.0, 2, 0.0, -0.0])
FIELDS = st.lists(st.fixed_dictionaries({"n": st.integers(0, 9)}, optional={"k": KEYS, "count": st.text()}), max_size=40)


def absorbing(by: str | None) -> Reference:
    """Return the reference for what is absorbed: nothing goes on, and a dict without the key fails."""

    def absorb(value: Any) -> Any:
        _ = value if by is None else value[by]
        return GONE

    return absorb


def tally(values: list[dict[str, Any]], by: str) -> Counter[Any]:
    return Counter(value[by] for value in values if by in value)


def rows(counts: Any) -> list[dict[str, Any]]:
    return [{"key": key, "count": n} for key, n in counts]


@given(TEXTS, SIZES)
def test_count_of_all(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.count(), absorbing(None), values, sizes, left=[{"count": len(values)}])


@given(FIELDS, SIZES)
def test_count_of_keys(values: list[dict[str, Any]], sizes: list[int]) -> None:
    counts = tally(values, "k")
    assert_means(processors.count(by="k"), absorbing("k"), values, sizes, left=rows(counts.items()))


@given(FIELDS, SIZES, st.integers(0, 5))
def test_top_of_keys(values: list[dict[str, Any]], sizes: list[int], n: int) -> None:
    counts = tally(values, "k")
    assert_means(processors.top(n, by="k"), absorbing("k"), values, sizes, left=rows(counts.most_common(n)))


@given(TEXTS, SIZES, st.integers(0, 5))
def test_top_of_texts(values: list[str], sizes: list[int], n: int) -> None:
    assert_means(processors.top(n), absorbing(None), values, sizes, left=rows(Counter(values).most_common(n)))


def so_far(by: str | None) -> Reference:
    seen: Counter[Any] = Counter()

    def running(value: Any) -> Any:
        key = None if by is None else value[by]
        seen[key] += 1
        return (value if isinstance(value, dict) else {"line": value}) | {"count": seen[key]}

    return running


@given(st.lists(st.text(max_size=2) | st.sampled_from(["\udcff", 1, 2.5, {}]), max_size=20), FIELDS, SIZES)
def test_running_count_of_all(values: list[Any], fields: list[Any], sizes: list[int]) -> None:
    assert_means(processors.count(running=True), so_far(None), [*values, *fields], sizes)


@given(FIELDS, SIZES)
def test_running_count_of_keys(values: list[dict[str, Any]], sizes: list[int]) -> None:
    assert_means(processors.count(by="k", running=True), so_far("k"), values, sizes)


@pytest.mark.parametrize("kinds", [10, 100_000])
def test_running_counts_of_many_keys(kinds: int) -> None:
    keys = [str(n * 7919 % kinds) for n in range(200_000)]
    count = so_far("k")
    column = Column(pl.DataFrame({"k": keys}), fields=True)
    came = processors.count(by="k", running=True).bind()(column)
    assert came.column.to_list() == [count({"k": key}) for key in keys]


def test_fields_that_are_missing_in_a_sparse_column() -> None:
    column = Column(pl.DataFrame({"k": ["a", None, "a"], "n": [1, 2, None]}), fields=True, sparse=True)
    came = processors.count(by="k", running=True).bind()(column)
    assert list(came.problems) == [1]
    assert came.column.to_list()[::2] == [{"k": "a", "n": 1, "count": 1}, {"k": "a", "count": 2}]
    kernel: Any = processors.count(by="k").bind()
    assert list(kernel(column).problems) == [1]
    assert list(kernel.flush()) == [{"key": "a", "count": 2}]


def test_what_is_counted_is_absorbed_and_what_is_left_goes_on() -> None:
    pipeline = Pipeline("p").add("count", processors.count(), to="say").add("say", lambda value: f"{value['count']} lines")
    run = pipeline.run(["a", "b"])
    assert run.metrics.loc["count", ["received", "absorbed", "forked", "emitted"]].tolist() == [2, 2, 1, 1]
    assert run.output["value"].tolist() == ["2 lines"]


def test_each_run_counts_anew() -> None:
    pipeline = Pipeline("p").add("count", processors.count())
    assert [pipeline.run(["a", "b"]).output["count"].tolist() for _ in range(2)] == [[2], [2]]


def test_top_of_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="n=-1 must be 0 or more"):
        processors.top(-1)
