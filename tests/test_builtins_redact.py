"""Redaction covers what Python's re finds, and what the names stand for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from streamlab.processors.redact import NAMED
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
# Pieces of what the names stand for, so that matches and near misses come together.
NUMBERS = ["10", "0.", "255", "256", "1.2.3.4", "4111", " 1111", "-1111", "3782 822463 10005"]
WORDS = ["anna", "example.org", "Bearer ", "eyJh", ".eyJh.", "abcdefgh", "ghp_" + "a" * 36, "AKIA" + "B" * 16, "$1"]
PIECE = st.sampled_from([*" .-_@,=é1", *NUMBERS, *WORDS, "\udc80", "\U000f0080"])
TEXT = st.lists(PIECE, max_size=6).map("".join)


def covers(patterns: list[str], by: str) -> Callable[[str], str]:
    """Return the reference: the patterns in Python's dialect."""
    made = [re.compile(NAMED.get(pattern, pattern).replace(r"(?-u:\b)", r"(?a:\b)")) for pattern in patterns]

    def covered(text: str) -> str:
        for pattern in made:
            text = pattern.sub(lambda _: by, text)
        return text

    return covered


@given(st.lists(TEXT, max_size=12), SIZES, st.permutations(["email", "ipv4", "credit_card", "token", "a+", "\U000f0080"]))
def test_redact(values: list[str], sizes: list[int], patterns: list[str]) -> None:
    for some, by in ((patterns, "***"), (patterns[:1], ""), (patterns[:2], "$1${0}$$")):
        assert_means(processors.redact(*some, by=by), covers(some, by), values, sizes)


@given(st.lists(st.fixed_dictionaries({"f": TEXT | st.none() | st.integers(), "g": TEXT}), max_size=6), SIZES)
def test_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def reference(value: dict[str, Any]) -> dict[str, Any]:
        if isinstance(value["f"], int):
            raise TypeError
        return value | {"f": None if value["f"] is None else covers(["ipv4", "a"], "***")(value["f"])}

    assert_means(processors.redact("ipv4", "a", field="f"), reference, values, sizes)


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-_"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("email", "to <anna.b+c@mail.example.org>.", "to <*>."),
        ("email", "user=o'neil@x-y.de, zoë@müller.de", "user=*, *"),
        ("email", "anna@localhost @ a@ @b.c", None),
        ("email", "mail a@b.org.", "mail *."),
        ("ipv4", "from 10.0.0.1:80 and [255.255.255.255]", "from *:80 and [*]"),
        ("ipv4", "é1.2.3.4", "é*"),
        ("ipv4", "1.2.3.4.5", "*.5"),
        (
            "ipv4",
            "256.1.1.1 1.2.3 a1.2.3.4 1.2.3.400 01.2.3.4 _1.2.3.4",
            "256.1.1.1 1.2.3 a1.2.3.4 1.2.3.400 01.2.3.4 _1.2.3.4",
        ),
        ("credit_card", "4111111111111111 5500-0000-0000-0004 3782 822463 10005", "* * *"),
        (
            "credit_card",
            "1700000000000 1700000000000000 41111111111111112",
            "1700000000000 1700000000000000 41111111111111112",
        ),
        ("token", f"jwt={JWT};", "jwt=*;"),
        ("token", "Authorization: Bearer abc.DEF-123== ok", "Authorization: * ok"),
        ("token", "the bearer of news", None),
        ("token", "ghp_" + "x" * 36 + " AKIAABCDEFGHIJKLMNOP xoxb-1234567890-ab sk_live_" + "9" * 16, "* * * *"),
        ("token", "d41d8cd98f00b204e9800998ecf8427e", None),
    ],
)
def test_what_the_names_stand_for(name: str, text: str, expected: str | None) -> None:
    run = Pipeline("p").add("it", processors.redact(name, by="*")).run([text])
    assert run.output["value"].tolist() == [text if expected is None else expected]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: processors.redact(), "there are no patterns; give regular expressions, or some of email, ipv4"),
        (lambda: processors.redact("emails"), "did you mean 'email'"),
        (lambda: processors.redact("credit-card"), "did you mean 'credit_card'"),
        (lambda: processors.redact("Token"), "did you mean 'token'"),
        (lambda: processors.redact("("), "unclosed group"),
        (lambda: processors.redact("a*"), "matches text without any characters"),
        (lambda: processors.redact(""), "matches text without any characters"),
        (lambda: processors.redact(7), "pattern=7 must be text"),
        (lambda: processors.redact("a", by=None), "by=None must be text"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
