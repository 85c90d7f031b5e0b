"""Cells are those that Python's ``csv`` finds."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
CELL = st.text("a,\"\r\né;' \ud800", max_size=4)
QUOTED = CELL.map(lambda text: '"' + text.replace('"', '""') + '"')
RECORDS = st.lists(CELL | QUOTED | st.text("abé ", max_size=3), max_size=4).map(",".join)


@pytest.fixture(autouse=True)
def long_cells() -> Iterator[None]:
    before = csv.field_size_limit(10**9)
    yield
    csv.field_size_limit(before)


def read(names: list[str], **options: Any) -> Any:
    """Return the reference: ``csv.reader`` on the one text."""

    def cells(text: str) -> dict[str, str]:
        [row] = csv.reader([text], strict=True, **options)
        if len(row) != len(names):
            raise ValueError
        return dict(zip(names, row, strict=True))

    def record(text: str) -> dict[str, str]:
        try:
            return cells(text)
        except csv.Error as error:
            raise ValueError from error

    return record


@given(st.lists(RECORDS, max_size=20), st.integers(1, 3), SIZES)
def test_cells(values: list[str], count: int, sizes: list[int]) -> None:
    names = ["a", "b", "line"][:count]
    assert_means(processors.parse_csv(names), read(names), values, sizes)


@given(st.lists(RECORDS, max_size=20), st.integers(1, 3), SIZES)
def test_other_characters(values: list[str], count: int, sizes: list[int]) -> None:
    names = ["a", "b", "c"][:count]
    for delimiter, quote in ((";", "'"), ("é", '"'), ("|", "a"), (" ", "^"), ("^", "]"), ("-", "\\")):
        values = [value.replace(",", delimiter).replace('"', quote) for value in values]
        options = {"delimiter": delimiter, "quotechar": quote}
        assert_means(processors.parse_csv(names, delimiter, quote), read(names, **options), values, sizes)


@given(st.lists(RECORDS, max_size=20), st.integers(1, 3), SIZES)
def test_without_quotes(values: list[str], count: int, sizes: list[int]) -> None:
    names = ["a", "b", "c"][:count]
    assert_means(processors.parse_csv(names, quote=None), read(names, quoting=csv.QUOTE_NONE), values, sizes)


@given(st.lists(st.fixed_dictionaries({"f": RECORDS | st.none(), "n": st.integers(-5, 5)}), max_size=9), SIZES)
def test_of_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def added(value: dict[str, Any]) -> dict[str, Any]:
        if value["f"] is None:
            raise ValueError
        return {"n": value["n"]} | read(["n", "f"])(value["f"])

    assert_means(processors.parse_csv(["n", "f"], field="f"), added, values, sizes)


def test_line_ends() -> None:
    """At the end they are none of the text, in quotes they are; anywhere else they end what should go on."""
    values = [
        "a,b\r",
        "a,b\n",
        "a,\r\n",
        "a,b\r\r",
        "\ra,b",
        "a\r,b",
        'a,"b"\r',
        'a,"b\r"',
        'a,"b\n',
        '"a\n",b\n',
        "\n",
        "a,b\nc",
    ]
    assert_means(processors.parse_csv(["a", "b"]), read(["a", "b"]), values, [3])
    assert_means(processors.parse_csv(["a"], quote=None), read(["a"], quoting=csv.QUOTE_NONE), values, [3])


def test_very_long_cells_and_many_of_them() -> None:
    long = ["x" * 2_000_000 + ",y", '"' + 'x"",' * 500_000 + '",y', '"' + "x" * 2_000_000, "x" * 2_000_000]
    assert_means(processors.parse_csv(["a", "b"]), read(["a", "b"]), long, [4])
    names = [f"c{number}" for number in range(500)]
    many = [",".join(names), ",".join(f'"{name}"' for name in names), "," * 499, "," * 500]
    assert_means(processors.parse_csv(names), read(names), many, [3])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "expected 2 cells, found 0, got ''"),
        ("a", "expected 2 cells, found 1, got 'a'"),
        ('"a,b",c,d', "expected 2 cells, found 3, got '\"a,b\",c,d'"),
        ('a,"b', "expected 2 cells: unexpected end of data, got 'a,\"b'"),
        ('"a"b,c', "expected 2 cells: ',' expected after '\"', got '\"a\"b,c'"),
        ("a" * 100, f"expected 2 cells, found 1, got '{'a' * 80}' ..."),
    ],
)
def test_messages(line: str, message: str) -> None:
    run = Pipeline("p").add("it", processors.parse_csv(["a", "b"])).run([line])
    assert run.errors["message"].tolist() == [message]


@pytest.mark.parametrize(
    "options",
    [
        {"names": []},
        {"names": "ab"},
        {"names": ["a", "a"]},
        {"names": [1]},
        {"names": ["a"], "delimiter": ""},
        {"names": ["a"], "delimiter": "ab"},
        {"names": ["a"], "delimiter": "\n"},
        {"names": ["a"], "delimiter": '"'},
        {"names": ["a"], "quote": ""},
        {"names": ["a"], "quote": "\r"},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        processors.parse_csv(**options)
