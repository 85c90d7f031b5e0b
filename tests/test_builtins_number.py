"""`number` numbers values in order."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamlab import processors
from tests.meaning import Reference, assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
TEXTS = st.text(max_size=4) | st.sampled_from(["\udcff", "a\tb"])
FIELDS = st.dictionaries(st.sampled_from(["a", "number", "z"]), st.integers(0, 3) | st.text(max_size=2), max_size=3)


def numbered(field: str, start: int) -> Reference:
    numbers = count(start)

    def number(value: Any) -> Any:
        if isinstance(value, int):
            raise TypeError
        n = next(numbers)
        return f"{n}\t{value}" if isinstance(value, str) else value | {field: n}

    return number


@given(st.lists(TEXTS | FIELDS, max_size=20), SIZES, st.sampled_from(["number", "n"]), st.integers(-3, 10**12))
def test_number(values: list[Any], sizes: list[int], field: str, start: int) -> None:
    """Text and dicts in one stream have one count; a field that is there is replaced in its place."""
    assert_means(processors.number(field, start), numbered(field, start), values, sizes)


@given(st.lists(TEXTS, max_size=20), SIZES)
def test_number_of_text(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.number(), numbered("number", 0), values, sizes)


def test_what_can_not_be_numbered_has_no_number() -> None:
    assert_means(processors.number(), numbered("number", 0), ["a", 5, 6, "b", {"c": 1}, {}], [6])
