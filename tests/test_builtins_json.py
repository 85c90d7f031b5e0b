"""JSON does what Python's ``json`` does, whatever stands beside a value."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.driver import Driven
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
KEYS = st.sampled_from(["s", "i", "f", "b", "é x", "other"])
NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=4), st.sampled_from(["1", "true", "{", '"s": 1']))
VALUES = st.one_of(LEAVES, LEAVES, LEAVES, st.lists(LEAVES, max_size=2), st.dictionaries(KEYS, LEAVES, max_size=2))
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
TEXTS = st.one_of(
    st.builds(json.dumps, OBJECTS, ensure_ascii=st.booleans(), indent=st.sampled_from([None, None, 0])),
    st.builds(lambda one, other: one[:-1] + "," + other[1:], st.builds(json.dumps, OBJECTS), st.builds(json.dumps, OBJECTS)),
    st.sampled_from(
        ["", "{}", " {} ", "[1]", "null", "7", "{", '{"s": NaN}', '{"i": 1}x', '{"i": 01}', '{"i": -0}', "{'i': 1}"]
    ),
    st.sampled_from(
        [
            '{"f": 1e400}',
            '{"i": 1.0}',
            '{"i": 1e2}',
            '{"s": "\\ud800"}',
            '{"\\u0069": 7}',
            '{"i":1}{"i":2}',
            '{"s":"\udcff"}',
        ]
    ),
    st.text(max_size=5),
)
FIELDS = {"s": "str", "i": "int", "f": "float", "b": "bool", "é x": "str"}
TYPES: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool}


def refuse(name: str) -> Any:
    raise ValueError(name)


def any_fields(text: str) -> dict[str, Any]:
    value = json.loads(text, parse_constant=refuse)
    if not isinstance(value, dict):
        raise ValueError
    return value


def own_error(text: str) -> dict[str, Any]:
    """Do the same; all that json raises is a ValueError."""
    try:
        return any_fields(text)
    except ValueError:
        raise ValueError from None


def whole(value: str, text: str) -> str:
    """Refuse halves of characters that the text itself does not have."""
    if any("\ud800" <= character < "\ue000" and character not in text for character in value):
        raise ValueError
    return value


def known_fields(text: str) -> dict[str, Any]:
    value = own_error(text)
    found: dict[str, Any] = {}
    for name, kind in FIELDS.items():
        item = value.get(name)
        if kind == "float" and type(item) is int:
            item = float(item) if abs(item) < 2**1023 else refuse(name)
        if item is not None and type(item) is not TYPES[kind]:
            raise ValueError(name)
        if kind == "int" and item is not None and not -(2**63) < item < 2**63:
            raise ValueError(name)
        if kind == "str" and item is not None:
            whole(item, text)
        found[name] = item
    return found


@given(st.lists(TEXTS, max_size=12), SIZES)
@example(['{"i": 1}', '{"i": 1.5}', '{"i": "x"}', '{"i": null}', '{"j": 1}'], [5])
def test_parse_json(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.parse_json(), own_error, values, sizes)


@given(st.lists(TEXTS, max_size=12), SIZES)
@example(['{"i": 1, "i": 2}', '{"i": true}', '{"s": 1}', '{"f": 3}', '{"i": 9223372036854775808}'], [5])
def test_parse_json_of_known_fields(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.parse_json(FIELDS), known_fields, values, sizes)


@given(st.lists(st.builds(json.dumps, OBJECTS), min_size=40, max_size=60), st.integers(0, 39))
def test_one_bad_line_among_many(values: list[str], bad: int) -> None:
    """The others are still read natively: in halves, until the bad one stands alone."""
    values[bad] = values[bad][:-1]
    assert_means(processors.parse_json(FIELDS), known_fields, values, [100])


@given(st.lists(st.fixed_dictionaries({"a": st.integers(0, 9), "f": TEXTS}), max_size=9), SIZES)
def test_in_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def beside(read: Any) -> Any:
        return lambda value: {"a": value["a"], **read(value["f"])}

    assert_means(processors.parse_json(field="f"), beside(own_error), values, sizes)
    assert_means(processors.parse_json({"s": "str"}, "f"), beside(lambda t: {"s": one_text(t)}), values, sizes)


def one_text(text: str) -> Any:
    value = own_error(text).get("s")
    if value is not None and not isinstance(value, str):
        raise ValueError
    return None if value is None else whole(value, text)


def written(value: Any) -> str:
    if not isinstance(value, dict):
        raise TypeError
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(st.lists(st.one_of(OBJECTS, st.text(max_size=3)), max_size=9), SIZES)
def test_to_json(values: list[Any], sizes: list[int]) -> None:
    assert_means(processors.to_json(), written, values, sizes)


def test_what_could_break_a_parser_costs_its_line() -> None:
    """Nesting 100,000 deep, a number of 5,000 digits, NaN: the next line runs."""
    lines = ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5_000 + "}", '{"a": NaN}', '{"a": 1}']
    for parser in (processors.parse_json(), processors.parse_json({"a": "int"})):
        run = Pipeline("p").add("parse", parser).run(lines)
        assert run.state == "finished"
        assert run.output["a"].tolist() == [1]
        assert run.errors["line_no"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("fields", [{}, {"a": "text"}, {"a": list}, ["a"], "a"])
def test_fields_that_are_none(fields: Any) -> None:
    with pytest.raises(ValueError, match="fields"):
        processors.parse_json(fields)


def test_types_may_be_pythons_own() -> None:
    assert processors.parse_json({"a": int}) == processors.parse_json({"a": "int"})  # type: ignore[dict-item]


def test_types_may_be_those_of_polars() -> None:
    own: dict[str, Any] = {"a": pl.String, "b": pl.Int64(), "c": pl.Float64, "d": pl.Boolean}
    assert processors.parse_json(own) == processors.parse_json({"a": "str", "b": "int", "c": "float", "d": "bool"})
    with pytest.raises(ValueError, match="'a' has the type 'Int8'; there are str, int, float, bool"):
        processors.parse_json({"a": pl.Int8})


def test_a_name_that_json_can_write_in_several_ways() -> None:
    texts = ['{"a/b": "x"}', '{"a\\/b": "y"}', '{"a\\/b": 7}', '{"a/b": "x", "a\\/b": "z"}', '{"a\\u002fb": "u"}']
    run = Pipeline("p").add("parse", processors.parse_json({"a/b": "str"})).run(texts)
    assert run.output["a/b"].tolist() == ["x", "y", "z", "u"]
    assert run.errors["line_no"].tolist() == [2]


def test_fields_beside_text_that_is_no_utf8() -> None:
    values = [{"a": "\udcff\U000f0080", "f": '{"s": "x"}'}, {"a": "\udcff", "f": '{"s": "\\udb80\\udc80"}'}]
    assert_means(processors.parse_json(field="f"), lambda v: {"a": v["a"], **json.loads(v["f"])}, values, [9])

    def known(value: dict[str, Any]) -> dict[str, Any]:
        if value is values[1]:
            raise ValueError
        return {"a": value["a"], "s": "x"}

    hides = {"a": "\udcff", "f": '{"s": "\\udbc0\\udc80"}'}  # a character of private use that nothing stands for
    assert_means(processors.parse_json({"s": "str"}, "f"), lambda v: {"a": v["a"], "s": "\U00100080"}, [hides], [9])
    values[1]["f"] = '{"s": "\\udb80\\udc80"}'
    values[0]["a"] = "\udcff"
    assert_means(processors.parse_json({"s": "str"}, "f"), known, values, [9])


@given(st.lists(TEXTS, max_size=12))
def test_types_stay_what_json_makes_of_them(values: list[str]) -> None:
    """``1 == 1.0 == True`` for Python, and so for the other tests."""
    output = Driven(Pipeline("p").add("parse", processors.parse_json())).run(values, [5]).output
    expected = []
    for number, value in enumerate(values):
        with suppress(ValueError):
            expected.append((number, any_fields(value)))
    assert repr(output) == repr(expected)


@given(st.lists(st.fixed_dictionaries({"a": st.text("a\udc80", max_size=2), "f": VALUES | OBJECTS}), max_size=9), SIZES)
def test_to_json_of_a_field(values: list[Any], sizes: list[int]) -> None:
    def reference(value: dict[str, Any]) -> dict[str, Any]:
        return value | {"f": None if value["f"] is None else written(value["f"])}

    assert_means(processors.to_json("f"), reference, values, sizes)


@pytest.mark.parametrize("depth", [10, 20, 200, 5000])
def test_depth(depth: int) -> None:
    """What is nested deep is read as it is, or fails for itself."""
    deep = '{"a":' * depth + "[" * depth + "]" * depth + "}" * depth
    driven = Driven(Pipeline("p").add("parse", processors.parse_json())).run([deep, "{}", deep], [3])
    assert (1, {}) in driven.output
    assert all(value == json.loads(deep) for number, value in driven.output if number != 1)
    assert len(driven.output) == (1 if depth == 5000 else 3)


@pytest.mark.parametrize(
    "text",
    [
        '{"f":-0}',
        '{"f":-0.0}',
        '{"f":1e400}',
        f'{{"f":1{"0" * 310}}}',
        f'{{"f":1,"z":{"9" * 5000}}}',
        f'{{"i":{-(2**63)}}}',
    ],
)
def test_a_text_means_the_same_beside_others(text: str) -> None:
    fields = {"f": "float", "i": "int"}
    [alone] = [repr(Driven(Pipeline("p").add("it", processors.parse_json(fields))).run([text], [1]).output)]
    for other in ('{"f":"no"}', '{"f":1.5}', "{"):
        beside = Driven(Pipeline("p").add("it", processors.parse_json(fields))).run([text, other], [2])
        assert repr([item for item in beside.output if item[0] == 0]) == alone
