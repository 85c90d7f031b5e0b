"""Routes and filters do what comparing each value in Python does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import EMIT, Pipeline, processors
from streamlab.processors.pattern import By
from tests.meaning import GONE, assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
TEXT = st.text("abc\U000f0080é.", max_size=5) | st.text("ab\udc80\U000f0080", max_size=4)
DICTS = st.fixed_dictionaries({"f": TEXT | st.none() | st.integers(-5, 5)}, optional={"n": st.integers(-3, 3)})
CASES = {"a": "x", "b": EMIT, "\U000f0080": "y", "^ab*$": "x", ".": "z"}
WAYS: dict[By, Callable[[str, str], bool]] = {
    "contains": lambda pattern, text: pattern in text,
    "equals": lambda pattern, text: pattern == text,
    "matches": lambda pattern, text: re.search(pattern, text) is not None,
}


def tagged(by: By, default: Any, field: str | None = None) -> Callable[[Any], Any]:
    """Return the reference of a route."""

    def reference(value: Any) -> Any:
        if isinstance(value, dict) != (field is not None):
            raise TypeError
        text = value if field is None else value[field]
        if text is not None and not isinstance(text, str):
            raise TypeError
        met = [tag for pattern, tag in CASES.items() if text is not None and WAYS[by](pattern, text)]
        if not met and default is None:
            return GONE
        return (met[0] if met else default), value

    return reference


@pytest.mark.parametrize("by", list(WAYS))
@pytest.mark.parametrize("default", [None, "x", "other", EMIT])
@given(values=st.lists(TEXT | DICTS | st.integers(), max_size=12), sizes=SIZES)
def test_route(by: By, default: Any, values: list[Any], sizes: list[int]) -> None:
    assert_means(processors.route(CASES, by=by, default=default), tagged(by, default), values, sizes)
    made = processors.route(list(CASES.items()), by=by, default=default, field="f")
    assert_means(made, tagged(by, default, "f"), values, sizes)


@pytest.mark.parametrize("by", list(WAYS))
@given(values=st.lists(TEXT | st.integers(), max_size=12), sizes=SIZES, pattern=st.sampled_from(list(CASES)))
def test_keep_and_drop(by: By, values: list[Any], sizes: list[int], pattern: str) -> None:
    def met(value: Any) -> bool:
        if not isinstance(value, str):
            raise TypeError
        return WAYS[by](pattern, value)

    assert_means(processors.keep(pattern, by=by), lambda value: value if met(value) else GONE, values, sizes)
    assert_means(processors.drop(pattern, by=by), lambda value: GONE if met(value) else value, values, sizes)


@given(st.lists(st.fixed_dictionaries({"f": TEXT | st.none(), "n": st.integers(-3, 3)}), max_size=12), SIZES)
def test_expressions(values: list[dict[str, Any]], sizes: list[int]) -> None:
    cases = [("n > 1", "high"), (pl.col("f").str.contains("a"), EMIT), ("f = 'b'", "b"), ("true", "high")]

    def reference(value: dict[str, Any]) -> Any:
        text = value["f"] or ""
        return "high" if value["n"] > 1 else EMIT if "a" in text else "b" if text == "b" else "high", value

    assert_means(processors.route(cases, by="expression"), reference, values, sizes)
    low = processors.route({"n < 0": "low"}, by="expression", default="rest")
    assert_means(low, lambda value: ("low" if value["n"] < 0 else "rest", value), values, sizes)
    a = processors.keep(pl.col("f") == "a", by="expression")
    assert_means(a, lambda value: value if value["f"] == "a" else GONE, values, sizes)
    not_a = processors.drop("f = 'a'", by="expression")
    assert_means(not_a, lambda value: GONE if value["f"] == "a" else value, values, sizes)


@given(st.lists(st.fixed_dictionaries({"f": TEXT | st.none(), "n": st.integers(0, 3) | st.none()}), max_size=6), SIZES)
def test_a_field_without_any_value_fits_every_expression(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def reference(value: dict[str, Any]) -> Any:
        return value if "a" in (value["f"] or "") and (value["n"] or 0) > 1 else GONE

    made = processors.keep(pl.col("f").str.contains("a") & (pl.col("n") > 1), by="expression")
    assert_means(made, reference, values, sizes)


def test_an_expression_over_lines() -> None:
    long = processors.keep("length(line) > 3", by="expression")
    assert Pipeline("p").add("long", long).run(["abc", "abcd"]).output["value"].tolist() == ["abcd"]


def test_an_expression_that_is_no_condition_fails() -> None:
    def fails(value: Any) -> Any:
        raise TypeError

    assert_means(processors.keep("n + 1", by="expression"), fails, [{"n": 1}, {"n": 2}], [2])


def test_missing_text_meets_no_case_and_is_not_dropped() -> None:
    values = [{"f": None}, {"f": "a"}, {"f": None}, {"f": ""}]
    assert_means(processors.keep("", field="f"), lambda v: GONE if v["f"] is None else v, values, [9])
    assert_means(processors.drop("", field="f"), lambda v: v if v["f"] is None else GONE, values, [9])
    assert_means(processors.drop("f = f", by="expression"), lambda v: v if v["f"] is None else GONE, values, [9])


def test_the_ways_are_the_tags_in_order() -> None:
    made = processors.route({"a": "x", "b": EMIT, "c": "x"}, default="rest")
    assert made.ways == ("x", EMIT, "rest")
    assert Pipeline("p").add("it", made).processors["it"].to == ("x", EMIT, "rest")
    assert processors.route({"a": "x"}).ways == ("x",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: processors.route({}), "there are no cases; give at least one pattern"),
        (lambda: processors.route(["ab", "cd"]), "must be patterns with their tags: a dict, or a list of pairs"),
        (lambda: processors.route({"a": None}), "tag None must be the name of a processor, or EMIT"),
        (lambda: processors.route({"a": "x"}, default=7), "tag 7 must be the name"),
        (lambda: processors.route({"a": "x"}, by="regex"), "by='regex' must be 'contains', 'matches', 'equals', 'exp"),
        (lambda: processors.route({"(": "x"}, by="matches"), "(?s)'\\(' is no regular expression.*unclosed group"),
        (lambda: processors.route([(7, "x")]), "pattern=7 must be text"),
        (lambda: processors.keep("\udc80"), "must be UTF-8"),
        (lambda: processors.keep("a >", by="expression"), "'a >' is no SQL expression"),
        (lambda: processors.keep(7, by="expression"), "7 must be a Polars expression, or one as SQL text"),
        (lambda: processors.keep("a > 1", by="expression", field="a"), "field='a' is not for expressions"),
        (lambda: processors.keep(pl.col("a").shift() > 1, by="expression"), "looks at other lines than its own"),
        (lambda: processors.drop("a > sum(a)", by="expression"), "looks at other lines than its own"),
        (lambda: processors.drop(pl.col("a", "b"), by="expression"), "gives several columns"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
