"""Lines of access logs are read as by a reader that goes from one part to the next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
EXAMPLE = '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'


def read(text: str) -> dict[str, Any]:
    """Return the fields of a line."""
    host, ident, user, rest = [*text.split(" ", 3), "", "", ""][:4]
    if not (host and ident and user and rest.startswith("[")):
        raise ValueError
    time, _, rest = rest[1:].partition("] ")
    if not time or set(time) & set("[]"):
        raise ValueError
    request, rest = quoted(rest)
    numbers, quote, agents = rest.partition(' "')
    nothing, status, size = numbers.split(" ")
    if nothing or len(status) != 3 or not digits(status) or len(size) > 18 or not (size == "-" or digits(size)):
        raise ValueError
    referer = agent = "-"
    if quote:
        referer, rest = quoted('"' + agents)
        if rest[:1] != " ":
            raise ValueError
        agent, rest = quoted(rest[1:])
        if rest:
            raise ValueError
    words: list[str | None] = list(request.split(" "))
    if len(words) != 3 or not all(words):
        words = [None, None, None]
    fields = {"ident": ident, "user": user, "request": request, "referer": referer, "user_agent": agent}
    return {
        **{name: None if item == "-" else item for name, item in fields.items()},
        **dict(zip(("method", "path", "protocol"), words, strict=True)),
        "host": host,
        "time": time,
        "status": int(status),
        "size": None if size == "-" else int(size),
    }


def digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def quoted(text: str) -> tuple[str, str]:
    """Return what is between quotes, and what is after them."""
    if not text.startswith('"'):
        raise ValueError
    at = 1
    while text[at : at + 1] != '"':
        if at >= len(text):
            raise ValueError
        at += 2 if text[at] == "\\" else 1
    return text[1:at], text[at + 1 :]


def one_of(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


AGENT = one_of("-", "", "Mozilla/4.08 [en]", 'a \\"b\\"', "\\\\", "\\", "é", "\\x22\\", 'a" b', "a\nb", "\ud800")
NAME = one_of("-", "frank", "h.example.org", "::1", "é", "", "two words")
LINE = st.builds(
    "{} {} {} [{}] {}{}{} {} {}{}".format,
    *(NAME, NAME, NAME),
    one_of("10/Oct/2000:13:55:36 -0700", "10/Oct/2000:13:55:36 -0700", "", "[", "é"),
    *(
        one_of('"', '"', '"', "'"),
        one_of("GET / HTTP/1.1", "-", "", "GET /", "GET  / HTTP/1.1", 'GET /\\"é\\" HTTP/1.1', "a b c d"),
    ),
    one_of('"', '"', '"', "\\", '\\"'),
    one_of("200", "404", "200", "99", "2000", "٢٠٠", "-"),
    one_of("0", "2326", "-", "", "-1", "9" * 18, "9" * 19, "1.5"),
    st.just("") | st.builds(' "{}" "{}"'.format, AGENT, AGENT) | one_of(" ", ' "-"', '  "-" "-"', ' "-" "-" ', "x"),
)
GOOD = st.builds(
    '{} {} {} [10/Oct/2000:13:55:36 -0700] "{}" {} {}{}'.format,
    *[one_of("-", "frank", "::1", "é")] * 3,
    one_of("GET / HTTP/1.1", "-", "", "GET /", "GET  / HTTP/1.1", 'GET /\\"é\\" HTTP/1.1', "a b c d", "\\\\"),
    one_of("200", "404"),
    one_of("0", "2326", "-"),
    st.just("") | st.builds(' "{}" "{}"'.format, AGENT, AGENT),
)


@given(st.lists(LINE | GOOD | st.text(max_size=5), max_size=20), SIZES)
def test_lines(values: list[str], sizes: list[int]) -> None:
    assert_means(processors.parse_access_log(), read, values, sizes)


@given(st.lists(st.fixed_dictionaries({"f": st.none() | GOOD, "size": st.just("x"), "n": st.integers(0, 3)})), SIZES)
def test_of_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def instead(value: dict[str, Any]) -> dict[str, Any]:
        if value["f"] is None:
            raise ValueError
        return {"n": value["n"]} | read(value["f"])

    assert_means(processors.parse_access_log("f"), instead, values, sizes)


def test_the_example_of_apache() -> None:
    common = {
        "host": "127.0.0.1",
        "ident": None,
        "user": "frank",
        "time": "10/Oct/2000:13:55:36 -0700",
        "request": "GET /apache_pb.gif HTTP/1.0",
        "method": "GET",
        "path": "/apache_pb.gif",
        "protocol": "HTTP/1.0",
        "status": 200,
        "size": 2326,
        "referer": None,
        "user_agent": None,
    }
    page, agent = "http://www.example.com/start.html", "Mozilla/4.08 [en] (Win98; I ;Nav)"
    answers = {EXAMPLE: common, f'{EXAMPLE} "{page}" "{agent}"': common | {"referer": page, "user_agent": agent}}
    assert_means(processors.parse_access_log(), answers.__getitem__, list(answers), [2])


def test_edges() -> None:
    sizes = [EXAMPLE.replace("2326", size) for size in ("9" * 18, "9" * 19, "0" * 18, "1" + "0" * 18, "-0", "+1", "١", "")]
    times = [EXAMPLE.replace("10/Oct", time) for time in ("[", "]", "[]", "é", '"')]
    agents = [f'{EXAMPLE} "{one}" "{two}"' for one in ("", "-", "\\", '\\"', "--") for two in ("", "-", "\\\\", '"', '\\"')]
    assert_means(processors.parse_access_log(), read, sizes + times + agents, [5])


def test_very_long_lines() -> None:
    long = "x" * 1_000_000
    values = [
        EXAMPLE.replace("/apache", f"/{long}"),
        f'{EXAMPLE} "{long}" "{long}"',
        f'{EXAMPLE} "{long}',
        long,
        long + EXAMPLE,
    ]
    assert_means(processors.parse_access_log(), read, values, [3])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "expected a host at position 0"),
        (EXAMPLE.replace("[", ""), "expected a time in brackets at position 18"),
        (EXAMPLE.replace("GET", 'G"ET'), "expected a request in quotes at position 47"),
        (EXAMPLE.replace("200", "2OO"), "expected a status of three digits at position 77"),
        (EXAMPLE.replace("2326", "big"), "expected a size, or - at position 81"),
        (EXAMPLE + ' "-"', "expected the end at position 85"),
    ],
)
def test_what_is_no_such_line_fails_and_says_where(line: str, message: str) -> None:
    run = Pipeline("p").add("it", processors.parse_access_log()).run([line])
    [said] = run.errors["message"].tolist()
    assert said.startswith(f"{message}, got {line[:80]!r}")
