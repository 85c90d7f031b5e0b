"""Built-ins for text do what Python's methods do."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamlab import processors
from tests.builtins import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
TEXTS = st.lists(st.text(max_size=8), max_size=20)


def in_field(change: Any) -> Any:
    """Return the reference for one field of a dict; what is no dict fails."""

    def changed(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError
        return value | {"f": change(value["f"])}

    return changed


@given(TEXTS, SIZES)
def test_upper(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.upper(), str.upper, values, sizes)


@given(st.lists(st.fixed_dictionaries({"f": st.text(max_size=4), "n": st.integers(-5, 5)}), max_size=9), SIZES)
def test_upper_of_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    assert_means(processors.upper("f"), in_field(str.upper), values, sizes)
    assert_means(processors.upper("none"), in_field(lambda _: {}["none"]), values, sizes)
