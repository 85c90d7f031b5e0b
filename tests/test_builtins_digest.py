"""Digests are those of Python's hashlib and hmac, of the bytes that were read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
TEXT = st.text(max_size=3) | st.binary(max_size=4).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
VALUES = st.lists(TEXT, max_size=15)
DIGESTS: list[tuple[dict[str, Any], Callable[[bytes], str]]] = [
    ({}, lambda raw: hashlib.sha256(raw).hexdigest()),
    ({"algorithm": "md5"}, lambda raw: hashlib.md5(raw).hexdigest()),
    ({"algorithm": "blake2b", "length": 16}, lambda raw: hashlib.blake2b(raw).hexdigest()[:16]),
    ({"key": "sécret"}, lambda raw: hmac.new("sécret".encode(), raw, "sha256").hexdigest()),
    ({"key": "k", "algorithm": "md5"}, lambda raw: hmac.new(b"k", raw, "md5").hexdigest()),
    ({"key": "k" * 64, "algorithm": "blake2b"}, lambda raw: hashlib.blake2b(raw, key=b"k" * 64).hexdigest()),
]


@given(VALUES, SIZES, st.sampled_from(DIGESTS))
def test_text(values: list[str], sizes: list[int], case: tuple[dict[str, Any], Callable[[bytes], str]]) -> None:
    options, digest = case

    def reference(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        return digest(value.encode("utf-8", "surrogateescape"))

    assert_means(processors.hash(**options), reference, [*values, 7], sizes)


@given(st.lists(st.fixed_dictionaries({"f": TEXT | st.none() | st.integers(), "g": TEXT}), max_size=9), SIZES)
def test_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def reference(value: dict[str, Any]) -> dict[str, Any]:
        text = value["f"]
        if isinstance(text, int):
            raise TypeError
        raw = None if text is None else text.encode("utf-8", "surrogateescape")
        return value | {"f": None if raw is None else hashlib.sha256(raw).hexdigest()}

    assert_means(processors.hash("f"), reference, values, sizes)
    assert_means(processors.hash("x"), lambda value: value["x"], values, sizes)


def test_half_a_character_has_a_digest() -> None:
    expected = hashlib.sha256("\ud800".encode("utf-8", "surrogatepass")).hexdigest()
    assert_means(processors.hash(), lambda _: expected, ["\ud800"], [1])


def test_bytes_as_they_were_in_the_file(tmp_path: Any) -> None:
    (tmp_path / "log").write_bytes(b"caf\xe9\ncaf\xc3\xa9\n")
    run = Pipeline("p").add("it", processors.hash()).run(tmp_path / "log")
    expected = [hashlib.sha256(raw).hexdigest() for raw in (b"caf\xe9", b"caf\xc3\xa9")]
    assert run.output["value"].tolist() == expected


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(processors.hash(key="secret"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "sha1"}, "algorithm='sha1' must be 'sha256', 'blake2b', 'md5'"),
        ({"key": ""}, "key must be text, and not empty"),
        ({"key": b"k"}, "key must be text"),
        ({"key": "é" * 33, "algorithm": "blake2b"}, "key is 66 bytes long, and blake2b takes 64 at most"),
        ({"length": 0}, "length=0 must be a whole number from 1 to 64, as sha256 has"),
        ({"length": 33, "algorithm": "md5"}, "length=33 must be a whole number from 1 to 32"),
        ({"length": True}, "length=True must be"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processors.hash(**options)
