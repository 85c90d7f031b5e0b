"""`head` lets the first values through, of all or of each key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import processors
from tests.meaning import GONE, Reference, assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
N = st.integers(0, 5)


def first(n: int, key: Any = lambda value: None) -> Reference:
    seen: Counter[Any] = Counter()

    def head(value: Any) -> Any:
        seen[key(value)] += 1
        return value if seen[key(value)] <= n else GONE

    return head


@given(st.lists(st.text(max_size=3) | st.fixed_dictionaries({"a": st.integers()}), max_size=20), SIZES, N)
def test_head_of_all(values: list[Any], sizes: list[int], n: int) -> None:
    assert_means(processors.head(n), first(n), values, sizes)


KEYS = st.sampled_from(["a", "b", "\udcff", None, 1, 1.0, 2])


@given(st.lists(st.fixed_dictionaries({"n": st.integers(0, 9)}, optional={"k": KEYS}), max_size=40), SIZES, N)
def test_head_of_each_key(values: list[dict[str, Any]], sizes: list[int], n: int) -> None:
    assert_means(processors.head(n, by="k"), first(n, lambda value: value["k"]), values, sizes)


def test_head_of_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="n=-1 must be 0 or more"):
        processors.head(-1)
