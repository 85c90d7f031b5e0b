"""`dedupe` lets through what is not among the last keys that were."""

from __future__ import annotations

import math
import time
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, Run, processors
from streamlab.columns import Column
from tests.meaning import GONE, Reference, assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
LIMITS = st.integers(1, 6) | st.just(1000)
#: Keys of all kinds, few of each so that they come again; texts with surrogates, and numbers that are equal to others.
KEYS = st.sampled_from(
    ["a", "b", "c", "d", "e", "f", "g", "", "\udcff", "a\udcff", "\U000f00ff", None, 1, 1.0, True, -0.0, 0]
)


def fifo(limit: int, key: Any = lambda value: value) -> Reference:
    """Return the reference: a list of the keys that were let through."""
    through: list[Any] = []

    def dedupe(value: Any) -> Any:
        which = key(value)
        if which in through[-limit:]:
            return GONE
        through.append(which)
        return value

    return dedupe


@given(st.lists(st.sampled_from("abcdefgh") | st.text(max_size=3), max_size=40), SIZES, LIMITS)
def test_dedupe_of_text(values: list[str], sizes: list[int], limit: int) -> None:
    assert_means(processors.dedupe(limit=limit), fifo(limit), values, sizes)


@given(st.lists(st.sampled_from("abcdefghijkl"), min_size=20, max_size=60), st.integers(1, 12))
def test_dedupe_forgets_within_a_batch_as_between_batches(values: list[str], limit: int) -> None:
    assert_means(processors.dedupe(limit=limit), fifo(limit), values, [len(values)])
    assert_means(processors.dedupe(limit=limit), fifo(limit), values, [1])


@given(st.lists(st.fixed_dictionaries({"n": st.integers(0, 9)}, optional={"k": KEYS}), max_size=30), SIZES, LIMITS)
def test_dedupe_by_a_field(values: list[dict[str, Any]], sizes: list[int], limit: int) -> None:
    """A dict without it fails, and the others go on."""
    assert_means(processors.dedupe(by="k", limit=limit), fifo(limit, lambda value: value["k"]), values, sizes)


def over(values: list[Any], by: str | None) -> Run:
    pipeline = Pipeline("p").add("make", lambda line: values[int(line)], to="once").add("once", processors.dedupe(by=by))
    return pipeline.run([str(n) for n in range(len(values))])


def test_what_is_no_number_is_equal_to_itself() -> None:
    run = over([{"k": math.nan}, {"k": 1.0}, {"k": math.nan}], "k")
    assert run.output["line_no"].tolist() == [0, 1]


@pytest.mark.parametrize("limit", [1, 10])
def test_a_field_that_is_missing_in_a_sparse_column(limit: int) -> None:
    """There nothing at all is no field; where all have the field it is a key as others are."""
    frame = pl.DataFrame({"k": [None, "a", None, "b", "a"], "n": range(5)})
    sparse = processors.dedupe("k", limit).bind()(Column(frame, fields=True, sparse=True))
    assert {row: type(error) for row, error in sparse.problems.items()} == {0: KeyError, 2: KeyError}
    assert sparse.keep is not None
    assert sparse.keep[[1, 3, 4]].tolist() == [True, True, limit == 1]
    dense = processors.dedupe("k").bind()(Column(frame, fields=True))
    assert not dense.problems
    assert dense.keep is not None
    assert dense.keep.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("by", "value", "error"),
    [
        ("k", {"k": [1]}, "TypeError"),  # a list is no key
        ("k", {"k": {"a": 1}}, "TypeError"),
        ("k", {}, "KeyError"),
        ("k", "text", "TypeError"),
        (None, {"k": 1}, "TypeError"),
    ],
)
def test_what_is_no_key_fails(by: str | None, value: Any, error: str) -> None:
    good: list[Any] = [{"k": 1}, {"k": 1}] if by else ["a", "a"]
    run = over([good[0], value, good[1]], by)
    assert run.errors[["line_no", "error"]].to_numpy().tolist() == [[1, error]]
    assert run.output["line_no"].tolist() == [0]


def test_a_limit_is_at_least_1() -> None:
    with pytest.raises(ValueError, match="limit=0 must be at least 1"):
        processors.dedupe(limit=0)


def test_forgetting_takes_no_time_for_each_key_that_is_kept() -> None:
    """Keys of which each makes an older one go: a list, or a dict's oldest key, would take minutes."""
    lines = [str(n) for n in range(300_000)]
    start = time.monotonic()
    run = Pipeline("p").add("once", processors.dedupe(limit=100_000)).run(lines, output=lambda value: None)
    assert time.monotonic() - start < 20
    assert run.metrics.loc["once", "emitted"] == len(lines)
