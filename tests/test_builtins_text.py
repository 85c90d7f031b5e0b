"""Built-ins for text do what Python's methods do."""

from __future__ import annotations

import re
import sys
from datetime import date
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import processors
from streamlab.columns import columns_of
from streamlab.processors.text import _SPACE
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
RAW = st.sampled_from(["caf\udce9", "\udc80 \udcff", "\udce9\U000f0080"])  # bytes that are no UTF-8
ODD = st.text("aΣσςİıŉßǅΆ\u0301\u0345\u2160\u1c89\ua7cb\ua7da\U00010d50\U00016ea0 .'", max_size=6)
TEXTS = st.lists(st.text(max_size=8) | ODD | RAW, max_size=20)
EVERY_CHARACTER = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i < 0xE000]


def in_field(change: Any) -> Any:
    """Return the reference for one field of a dict; what is no dict fails."""

    def changed(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError
        text = value["f"]
        if text is not None and not isinstance(text, str):
            raise TypeError
        return value | {"f": None if text is None else change(text)}

    return changed


def results(processor: Any, values: list[Any]) -> list[Any]:
    """Return what a processor makes of values that fit into one column."""
    [(_, column)] = columns_of(values)
    return list(processor.apply(column).column.to_list())


@given(TEXTS, SIZES)
def test_case(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.upper(), str.upper, values, sizes)
    assert_means(processors.lower(), str.lower, values, sizes)


@pytest.mark.parametrize("context", ["{}", "aΣ{}", "aΣ{}b", "a{}Σ"])
def test_case_of_every_character(context: str) -> None:
    texts = [context.format(c) for c in EVERY_CHARACTER]
    assert results(processors.upper(), texts) == [text.upper() for text in texts]
    assert results(processors.lower(), texts) == [text.lower() for text in texts]


def test_white_space_is_what_python_says() -> None:
    assert sorted(_SPACE) == [c for c in EVERY_CHARACTER if c.isspace()]


DICTS = st.fixed_dictionaries({"f": st.text(max_size=4) | st.none() | st.integers(-5, 5) | RAW, "n": st.integers(-5, 5)})
VALUES = st.lists(DICTS | st.just({}) | st.text(max_size=3) | st.integers(), max_size=9)


@given(VALUES, SIZES)
def test_a_field(values: list[Any], sizes: list[int]) -> None:
    for processor, change in (
        (processors.upper("f"), str.upper),
        (processors.lower("f"), str.lower),
        (processors.strip(field="f"), str.strip),
        (processors.replace("a", "b", field="f"), lambda text: text.replace("a", "b")),
    ):
        reference = in_field(change)
        assert_means(processor, reference, values, sizes)
    dicts = [value for value in values if isinstance(value, dict)]
    assert_means(processors.upper("none"), lambda _: {}["none"], dicts, sizes)
    assert_means(processors.upper(), lambda value: value.upper() if isinstance(value, str) else int([]), values, sizes)


PADDED = st.text(" \t\x1c\x1f\x85\xa0\u2003\u200b#ab\udce9", max_size=8)


@given(st.lists(PADDED, max_size=15), SIZES, st.none() | st.text(" #a\x1c\u0301", max_size=3))
def test_strip(values: list[str], sizes: list[int], chars: str | None) -> None:
    assert_means(processors.strip(chars), lambda text: text.strip(chars), values, sizes)
    assert_means(processors.strip(chars, side="start"), lambda text: text.lstrip(chars), values, sizes)
    assert_means(processors.strip(chars, side="end"), lambda text: text.rstrip(chars), values, sizes)


SHORT = st.text("ab$1\\é\U000f0080", max_size=3)


@given(st.lists(st.text("ab$1\\é\udc80\U000f0080", max_size=8), max_size=15), SIZES, SHORT, SHORT)
def test_replace(values: list[str], sizes: list[int], pattern: str, by: str) -> None:
    assert_means(processors.replace(pattern, by), lambda text: text.replace(pattern, by), values, sizes)


@given(TEXTS, SIZES)
def test_replace_by_a_regular_expression(values: list[str], sizes: list[int]) -> None:
    for pattern, by, python in (
        ("(a)(.)", "$2$1", r"\2\1"),
        ("(a)(.)", "${2}x$$", r"\2x$"),
        ("(?P<first>a)(.)", "${first}$2$0", r"\g<first>\2\g<0>"),
        ("[^a]+", "", ""),
        ("(?i)A|ss", "\\1", r"\\1"),
    ):
        processor = processors.replace(pattern, by, regex=True)
        assert_means(processor, partial(re.sub, pattern, python), dotted(values), sizes)


def dotted(values: list[str]) -> list[str]:
    """Return texts in which a dot and a letter mean the same to both dialects."""
    return [re.sub("[\nıİſK]", "a", value) for value in values]


def said(item: Any) -> str:
    """Return what a template writes for one field."""
    if isinstance(item, (list, dict)):
        raise TypeError
    return "" if item is None else str(item)


ITEMS = (
    st.none()
    | st.text(max_size=3)
    | RAW
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0.0001, 0.00009, 1e16, 9999999999999998.0, -0.0])
    | st.dates()
    | st.datetimes()
    | st.lists(st.integers(), max_size=1)
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b c"]), ITEMS), max_size=9), SIZES)
def test_template(values: list[Any], sizes: list[int]) -> None:
    def reference(value: dict[str, Any]) -> str:
        return f"\U000f0080{{{said(value.get('a'))}}}: {said(value.get('b c'))}{said(value.get('a'))} ."

    assert_means(processors.template("\U000f0080{{{a}}}: {b c}{a} ."), reference, values, sizes)
    assert_means(processors.template("same"), lambda _: "same", values, sizes)
    assert_means(processors.template(""), lambda _: "", values, sizes)


@given(st.lists(st.text(max_size=5) | RAW | st.integers() | st.floats(), max_size=9), SIZES)
def test_template_of_text(values: list[Any], sizes: list[int]) -> None:
    assert_means(processors.template("[{line}]"), lambda value: f"[{value}]", values, sizes)
    assert_means(processors.template("[{level}]"), lambda _: int([]), values, sizes)


def test_floats_are_written_as_python_does() -> None:
    values = [{"x": x / 7 * 10.0 ** (x % 23 - 5)} for x in range(-20_000, 20_000)]
    assert results(processors.template("{x}"), values) == [repr(value["x"]) for value in values]
    assert results(processors.template("{x}"), [{"x": date(2026, 1, 2)}]) == ["2026-01-02"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: processors.strip(side="left"), "side='left' must be 'both', 'start' or 'end'"),
        (lambda: processors.strip("\udc80"), "chars='\\\\udc80' must be UTF-8"),
        (lambda: processors.strip(7), "chars=7 must be text, not int"),
        (lambda: processors.replace("(", "", regex=True), "(?s)'\\(' is no regular expression .* unclosed group"),
        (lambda: processors.replace("(?=a)", "", regex=True), "look-around"),
        (lambda: processors.replace("(a)", "$2", regex=True), "no group '2', only 0, 1; write \\$\\$ for a dollar"),
        (lambda: processors.replace("(?P<x>a)", "$y", regex=True), "no group 'y', only 0, 1, x"),
        (lambda: processors.replace("", "$1", regex=True), "no group '1', only 0"),
        (lambda: processors.replace("a", "\udc80"), "by='\\\\udc80' must be UTF-8"),
        (lambda: processors.template("{"), "write {{ and }} for braces"),
        (lambda: processors.template("{}"), "{} must be the name of a field"),
        (lambda: processors.template("{ms:.2f}"), "{ms:.2f} must be the name"),
        (lambda: processors.template("{ms!r}"), "{ms!r} must be the name"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_text_stays_missing() -> None:
    none = [{"f": None}, {"f": None}]
    for processor in (processors.upper("f"), processors.lower("f"), processors.strip(field="f")):
        assert results(processor, none) == none
    assert_means(processors.upper("f"), in_field(str.upper), [*none, {"f": "a"}, {"f": 1}], [3])
