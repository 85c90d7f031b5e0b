"""Groups of a regular expression are what Python's ``re`` finds, where both read the pattern alike."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import processors
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
PATTERNS = st.sampled_from(
    [
        "(?P<a>a+)(?P<b>b)?",
        "^(?P<a>[^ ]*) (?P<b>.*)\\b",
        "(?P<a>x)|(?P<b>ab)|(c)",
        "(?P<a>x)?(?P<b>y)?b",
        "(?s)(?P<a>.)\\n(?P<b>.)?",
        "(?P<a>)",
        "(?P<a>é|ß)(b)(?P<line>\\w)",
        "(?P<a>a){2}",
    ]
)
TEXTS = st.lists(st.text("ab xycéß\n\ud800", max_size=8), max_size=20)


def found(pattern: str, text: str) -> dict[str, Any]:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError
    return match.groupdict()


@given(PATTERNS, TEXTS, SIZES)
def test_groups_are_fields(pattern: str, values: list[str], sizes: list[int]) -> None:
    assert_means(processors.extract(pattern), lambda text: found(pattern, text), values, sizes)
    kept = processors.extract(pattern, keep=True)
    assert_means(kept, lambda text: {"line": text} | found(pattern, text), values, sizes)


FIELDS = st.fixed_dictionaries({"f": st.text("ab xy", max_size=5) | st.none(), "a": st.integers(-5, 5), "n": st.booleans()})


@given(PATTERNS, st.lists(FIELDS, max_size=9), SIZES)
def test_groups_are_added_to_the_fields(pattern: str, values: list[dict[str, Any]], sizes: list[int]) -> None:
    def added(value: dict[str, Any]) -> dict[str, Any]:
        if value["f"] is None:
            raise ValueError
        return value | found(pattern, value["f"])

    def instead(value: dict[str, Any]) -> dict[str, Any]:
        return {name: item for name, item in added(value).items() if name != "f"}

    assert_means(processors.extract(pattern, field="f"), instead, values, sizes)
    assert_means(processors.extract(pattern, field="f", keep=True), added, values, sizes)


def test_a_group_may_have_the_name_of_its_field() -> None:
    values = [{"f": "key=1", "n": 3}]
    for keep in (False, True):
        processor = processors.extract("=(?P<f>.)", field="f", keep=keep)
        assert_means(processor, lambda _: {"n": 3, "f": "1"}, values, [1])


def test_the_very_end() -> None:
    """Where Rust's dialect is another one: ``$`` is not before a last line end."""
    assert_means(processors.extract("(?P<a>b)$"), lambda text: found("(?P<a>b)\\Z", text), ["ab", "ab\n", "b\n\n", ""], [2])


def test_very_long_text() -> None:
    values = ["a" * 3_000_000 + "b", "", "a" * 3_000_000]
    assert_means(processors.extract("^(?P<a>a+)b"), lambda text: found("^(?P<a>a+)b", text), values, [2])


def test_other_values_fail() -> None:
    def no_text(_: object) -> None:
        raise TypeError

    assert_means(processors.extract("(?P<a>.)"), no_text, [1, {"f": "a"}, ["a"]], [3])
    assert_means(processors.extract("(?P<a>.)", field="f"), no_text, ["a", {"f": 1}], [2])


@pytest.mark.parametrize("pattern", ["(", "a", "(a)", "(?P<a>b)(?=c)", "(?P<a>b)\\1", "(?P<a>.)(?P<a>.)", ""])
def test_patterns_that_cannot_be(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is not valid|has no named group"):
        processors.extract(pattern)
