"""Built-ins for fields do what Python does with dicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from streamlab.columns import Column, columns_of
from streamlab.processors.columnar import Outcome
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
ITEMS = st.none() | st.integers(-3, 3) | st.text("ab\udc80", max_size=3) | st.lists(st.integers() | st.text("a"), max_size=2)
DICTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), ITEMS)
VALUES = st.lists(DICTS | st.text(max_size=2) | st.integers(), max_size=10)


def kinds(processor: Any, values: list[Any]) -> list[Any]:
    """Return what a processor makes of values, column by column."""
    made: list[Any] = [None] * len(values)
    for rows, column in columns_of(values):
        came = processor.apply(column)
        parts = [(range(len(rows)), came)] if isinstance(came, Outcome) else came
        for positions, outcome in parts:
            for position, value in zip(positions, outcome.column.to_list(), strict=True):
                made[rows[position]] = value
    return made


def renamed(names: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
    for old, new in names.items():
        value[old]
        if new in value and new not in names:
            raise ValueError
    return {names.get(name, name): item for name, item in value.items()}


def only_dicts(change: Callable[[dict[str, Any]], Any]) -> Callable[[Any], Any]:
    """Return the reference that fails for what is no dict."""

    def changed(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError
        return change(value)

    return changed


@given(VALUES, SIZES)
def test_select(values: list[Any], sizes: list[int]) -> None:
    for names in (["a"], ["b", "a"], ["c", "a", "b"]):
        reference = only_dicts(lambda value, names=names: {name: value[name] for name in names})
        assert_means(processors.select(*names), reference, values, sizes)


@given(VALUES, SIZES)
def test_rename(values: list[Any], sizes: list[int]) -> None:
    for names in ({"a": "b"}, {"a": "b", "b": "a"}, {"b": "x"}, {"a": "c", "c": "d"}, {"a": "a"}):
        reference = only_dicts(lambda value, names=names: renamed(names, value))
        assert_means(processors.rename(names), reference, values, sizes)


def test_the_order_of_fields() -> None:
    values = [{"a": 1, "b": 2, "c": 3}]
    assert list(kinds(processors.select("c", "a"), values)[0]) == ["c", "a"]
    assert list(kinds(processors.rename({"b": "x"}), values)[0]) == ["a", "x", "c"]
    assert list(kinds(processors.with_fields(d="a", b="c"), values)[0].items()) == [("a", 1), ("b", 3), ("c", 3), ("d", 1)]


NUMBERS = st.fixed_dictionaries({"a": st.integers(-3, 3), "t": st.text("ab\udc80", max_size=3) | st.none()})


@given(st.lists(NUMBERS, max_size=9), SIZES)
def test_with_fields(values: list[dict[str, Any]], sizes: list[int]) -> None:
    made = processors.with_fields(a="a + 1", twice=pl.col("a") * 2, loud=pl.col("t").str.to_uppercase(), one=pl.lit(1))

    def reference(value: dict[str, Any]) -> dict[str, Any]:
        loud = None if value["t"] is None else value["t"].upper()
        return value | {"a": value["a"] + 1, "twice": value["a"] * 2, "loud": loud, "one": 1}

    assert_means(made, reference, values, sizes)


@given(st.lists(st.text("ab1\udc80", max_size=4), max_size=9), SIZES)
def test_with_fields_of_text(values: list[str], sizes: list[int]) -> None:
    made = processors.with_fields(size=pl.col("line").str.len_chars(), number=pl.col("line").cast(pl.Int64))

    def reference(value: str) -> dict[str, Any]:
        if not value or set(value) - {"1"}:
            raise pl.exceptions.InvalidOperationError
        return {"line": value, "size": len(value), "number": int(value)}

    assert_means(made, reference, values, sizes)
    changed = processors.with_fields(line="upper(line)")
    assert_means(changed, lambda value: {"line": value.upper()}, values, sizes)


def test_fields_of_values_without_any() -> None:
    def fails(_: Any) -> Any:
        raise pl.exceptions.ColumnNotFoundError

    assert_means(processors.with_fields(one=pl.lit(1)), lambda _: {"one": 1}, [{}, {}], [1])
    assert_means(processors.with_fields(one="a"), fails, [{}, {}], [1])

    def no_text(_: Any) -> Any:
        raise TypeError

    assert_means(processors.with_fields(one=pl.lit(1)), no_text, [1, 2], [2])


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (processors.with_fields(c=pl.lit(None)), [{"a": 1, "b": 2, "c": None}, {"a": 3, "c": None}]),
        (processors.rename({"a": "x"}), [{"x": 1, "b": 2}, {"x": 3}]),
        (processors.select("a"), [{"a": 1}, {"a": 3}]),
    ],
)
def test_a_field_that_is_missing_in_a_sparse_column(processor: Any, expected: list[Any]) -> None:
    column = Column(pl.DataFrame({"a": [1, 3], "b": [2, None]}), fields=True, sparse=True)
    assert kinds(processor, column) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: processors.select(), "must be at least one field"),
        (lambda: processors.select("a", "a"), "each of them once"),
        (lambda: processors.select(1), "field=1 must be text"),
        (lambda: processors.rename({}), "must be at least one"),
        (lambda: processors.rename({"a": "x", "b": "x"}), "no two fields can have the same new name"),
        (lambda: processors.rename({"a": 1}), "field=1 must be text"),
        (lambda: processors.with_fields(), "there are no expressions; give at least one"),
        (lambda: processors.with_fields(a="b +"), "a: 'b \\+' is no SQL expression"),
        (lambda: processors.with_fields(a=1), "a: 1 must be a Polars expression, or one as SQL text; pl.lit"),
        (lambda: processors.with_fields(a=pl.col("b").sum() + pl.col("b")), "a: .* looks at other lines than its own"),
        (lambda: processors.with_fields(a=pl.all()), "a: .* gives several columns"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_numbers_with_a_point_in_sql_are_floats() -> None:
    pipeline = Pipeline("p").add("read", lambda line: {"size": int(line)}, to="more")
    pipeline.add("more", processors.with_fields(kb="size / 1024.0", half="size * .5"), to="write")
    pipeline.add("write", processors.to_json())
    assert pipeline.run(["1"]).output["value"].tolist() == ['{"size":1,"kb":0.0009765625,"half":0.5}']
