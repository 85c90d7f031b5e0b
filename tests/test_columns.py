"""Values become columns and come back as they were, whatever stands beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from streamlab.columns import Column, columns_of

NUMBERS = st.integers() | st.sampled_from([2**63, -(2**63) - 1, 2**127, 2**200]) | st.floats(allow_nan=False)
TEXT = st.text("ab\udc80\U000f0080", max_size=3)
KEYS = st.sampled_from(["a", "b", "", "line"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def back(values: list[Any]) -> list[Any]:
    """Return the values of columns in their places."""
    made: list[Any] = [None] * len(values)
    for rows, column in columns_of(values):
        some = column.take(rows >= 0).take(rows[rows >= 0] * 0 + range(len(rows)))  # as if on the way through a pipeline
        for row, value in zip(rows.tolist(), some.to_list(), strict=True):
            made[row] = value
    return made


@given(st.lists(VALUES | st.dictionaries(KEYS, VALUES, max_size=3), max_size=6))
def test_values_come_back_as_they_were(values: list[Any]) -> None:
    assert repr(back(values)) == repr(values)  # 1, 1.0 and True are equal


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
def test_dicts_have_fields_whatever_is_in_them(value: dict[str, Any]) -> None:
    [(_, column)] = columns_of([value])
    assert column.fields
    assert column.frame.columns == [name if column.exchange is None else column.exchange.hide(name) for name in value]


def test_a_list_of_unlike_values_leaves_the_other_fields_native() -> None:
    [(_, column)] = columns_of([{"a": [1, 2.5], "b": "x"}, {"a": [1, 2.5], "b": "y"}])
    assert [str(dtype) for dtype in column.frame.dtypes] == ["Object", "String"]


@given(st.lists(TEXT, max_size=6), TEXT.filter(lambda text: "\udc80" not in text))
def test_surrogates_are_hidden_beside_a_text(values: list[str], text: str) -> None:
    for _, column in columns_of([{"a": value, "\udc81": [value]} for value in values]):
        other = column.beside([text, "x"])
        assert isinstance(other, Column)
        assert other.to_list() == column.to_list()
        block = other.exchange.block if other.exchange is not None else 0
        assert not any(block <= ord(character) < block + 0x800 for character in text) or other.exchange is None
        assert (other is column) == (column.exchange is None or "\U000f0080" not in text or block == column.exchange.block)


WIDE = 2**128 - 1


@pytest.mark.parametrize(
    "values",
    [
        [1, WIDE, -WIDE, 2],
        [{"id": 1}, {"id": WIDE}, {"id": [WIDE, 1]}, {"id": {"id": WIDE}}],
        [Decimal("1"), Decimal("1.10"), Decimal("1E-30"), Decimal("NaN"), Decimal("Infinity")],
        [{"a": Decimal("1")}, {"a": Decimal("1E-30")}, {"a": Decimal("99999999999999999999")}],
        [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)],
        [{"ok": np.True_}, {"ok": np.False_}],
    ],
)
def test_what_does_not_fit_beside_others_stays_as_it_is(values: list[Any]) -> None:
    back: dict[int, Any] = {}
    for rows, column in columns_of(values):
        back.update(zip(rows.tolist(), column.to_list(), strict=True))
    assert [repr(back[row]).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc") for row in sorted(back)] == [
        repr(value) for value in values
    ]


def test_keys_wider_than_64_bits() -> None:
    pipeline = Pipeline("p").add("it", lambda line: {"id": int(line)}, to="count").add("count", processors.count(by="id"))
    run = pipeline.run(["1", str(2**64 - 1), str(WIDE), "1", str(2**64 - 1)])
    assert run.output[["key", "count"]].values.tolist() == [[1, 2], [2**64 - 1, 2], [WIDE, 1]]
    assert run.errors.empty
