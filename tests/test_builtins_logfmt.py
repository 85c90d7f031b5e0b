"""Logfmt is read as by a reader that goes from character to character."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.driver import Driven
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
NAMED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"} | {c: c for c in "\"'\\/"}


def read(line: str) -> dict[str, str]:
    """Return the pairs of a line, by the grammar of go-logfmt."""
    pairs: dict[str, str] = {}
    at = 0

    def word() -> str:
        nonlocal at
        start = at
        while at < len(line) and line[at] > " " and line[at] not in '="':
            at += 1
        return line[start:at]

    while at < len(line):
        if line[at] <= " ":
            at += 1
            continue
        key, value = word(), ""
        if not key:
            raise ValueError(f"no key at {at}")
        if line[at : at + 2] == '="':
            value, at = quoted(line, at + 2)
        else:
            if line[at : at + 1] == "=":
                at += 1
                value = word()
            if at < len(line) and line[at] > " ":
                raise ValueError(f"{line[at]} at {at}")
        pairs[key] = value
    if not pairs:
        raise ValueError("no pair")
    return pairs


def quoted(line: str, at: int) -> tuple[str, int]:
    """Return the text up to a closing quote, and where it ends. Its units are those of UTF-16, as in JSON."""
    units: list[str | int] = []  # halves of characters are numbers
    while at < len(line) and line[at] != '"':
        if line[at] != "\\":
            units.append(line[at])
            at += 1
        elif line[at + 1 : at + 2] == "u":
            digits = line[at + 2 : at + 6]
            if len(digits) < 4 or set(digits) - set("0123456789abcdefABCDEF"):
                raise ValueError(f"no escape at {at}")
            unit = int(digits, 16)
            if 0xDC00 <= unit < 0xE000 and units and isinstance(units[-1], int) and units[-1] < 0xDC00:
                units[-1] = chr(0x10000 + (units[-1] - 0xD800) * 0x400 + unit - 0xDC00)
            else:
                units.append(unit if 0xD800 <= unit < 0xE000 else chr(unit))
            at += 6
        elif line[at + 1 : at + 2] in NAMED:
            units.append(NAMED[line[at + 1]])
            at += 2
        else:
            raise ValueError(f"no escape at {at}")
    if at == len(line):
        raise ValueError("no closing quote")
    return "".join("\ufffd" if isinstance(unit, int) else unit for unit in units), at + 1


def some(keys: list[str]) -> Any:
    def chosen(line: str) -> dict[str, str | None]:
        pairs = read(line)
        return {key: pairs.get(key) for key in keys}

    return chosen


PART = st.sampled_from(
    [
        *["a", "b", "level", "é", "a b", "=", '="', '"', '" ', " ", "\t", "\x00", "\u2028", "\x85", "x=y"],
        *["\\", '\\"', "\\\\", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\q", "\\u12", "\\'", "\\/", "\n"],
    ]
)
VALUE = st.text('a é"\\\n', max_size=6).map(lambda v: '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"')
PAIRED = st.builds(
    lambda key, value, after: f"{key}={value}{after}", st.sampled_from("abcé"), VALUE, st.sampled_from(["", " "])
)
LINES = st.lists(st.lists(PART | PAIRED, max_size=8).map("".join), max_size=15)


@given(LINES, SIZES)
def test_all_keys(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.parse_logfmt(), read, values, sizes)


@given(LINES, SIZES, st.lists(st.sampled_from(["a", "b", "level", "é", "none", "."]), min_size=1, unique=True))
def test_some_keys(values: list[str], sizes: list[int], keys: list[str]) -> None:
    assert_means(processors.parse_logfmt(keys), some(keys), values, sizes)


@given(
    st.lists(st.builds(lambda f, n: {"f": f, "n": n, "b": None}, st.none() | st.just("a=1 f=2"), st.integers(0, 9))), SIZES
)
def test_of_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def added(value: dict[str, Any]) -> dict[str, Any]:
        if value["f"] is None:
            raise ValueError
        return {"n": value["n"], "b": None, "a": "1", "f": "2"}

    assert_means(processors.parse_logfmt(field="f"), added, values, sizes)
    assert_means(processors.parse_logfmt(["a", "f"], "f"), added, values, sizes)


def test_escapes() -> None:
    escapes = [chr(code) for code in range(0x20, 0x7F)]
    escapes += [
        "u00e9",
        "uD83D\\uDE00",
        "ud83d",
        "ude00",
        "ud83d\\u0041",
        "ud83dx\\ude00",
        "u00e",
        "u00g0",
        "\\u0041",
        "é",
        "\n",
    ]
    values = [f'a="<\\{escape}>"' for escape in escapes]
    assert_means(processors.parse_logfmt(), read, values, [200])
    assert_means(processors.parse_logfmt(["a"]), some(["a"]), values, [9])


def test_keys_keep_their_order() -> None:
    lines = ["b=1 a=2", "a=1 b=2", "b=3 a=4 b=5"]
    output = Driven(Pipeline("p").add("it", processors.parse_logfmt())).run(lines, [3]).output
    assert [list(value) for _, value in output] == [["b", "a"], ["a", "b"], ["b", "a"]]


def test_bytes_that_are_no_text() -> None:
    values = ["a=\udcff b", "\udcff=1", 'a="\udcff\\n"', "a=b", 'a=\udcff"']
    assert_means(processors.parse_logfmt(), read, values, [5])
    assert_means(processors.parse_logfmt(["a"]), some(["a"]), values, [2])


def test_very_long_values() -> None:
    values = ['a="' + "x\\n" * 500_000 + '" b=' + "y" * 1_000_000, 'a="' + "x" * 1_000_000, "a=1 " * 200_000]
    assert_means(processors.parse_logfmt(), read, values, [3])
    assert_means(processors.parse_logfmt(["b", "a"]), some(["b", "a"]), values, [3])


@pytest.mark.parametrize(
    ("line", "position"),
    [
        ("a=b=c", 0),
        ("b =", 2),
        ('a="1"=', 5),
        ('a="1" b c"', 8),
        ('a="\\"', 0),
        ("", 0),
        (" \t", 2),
        ("é a=\\ =", 6),
        ("\udcff = ", 2),
    ],
)
def test_what_is_no_logfmt_fails_and_says_where(line: str, position: int) -> None:
    run = Pipeline("p").add("it", processors.parse_logfmt(["a"])).run([line])
    assert run.errors["message"].tolist() == [f"expected key=value at position {position}, got {line!r}"]


@pytest.mark.parametrize("fields", ["level", [], ["a", "a"], [""], ["a b"], ["a="], ['"'], ["\t"]])
def test_fields_that_cannot_be(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|is no key"):
        processors.parse_logfmt(fields)
