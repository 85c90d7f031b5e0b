"""Where messages of syslog over TCP begin and end, however they are cut."""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamlab.batch import Chunk
from streamlab.sources.listening.framing import Framer, Framing

LIKE_A_COUNT = re.compile(rb"[1-9][0-9]{0,8}( |\Z)")


def framed(data: bytes, cuts: list[int], limit: int = 1000, framing: Framing = "auto") -> Chunk:
    """Return all messages of a connection that sends data in such pieces."""
    framer, places = Framer(limit, framing), sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [framer.feed(data[start:stop]) for start, stop in pairwise(places)] + [framer.finish()]
    lines: list[str] = []
    rejected = []
    for chunk in chunks:
        rejected += [mark._replace(position=mark.position + len(lines)) for mark in chunk.rejected]
        lines += chunk.lines
    return Chunk(lines, rejected)


def raw(chunk: Chunk) -> list[bytes]:
    return [line.encode("utf-8", "surrogateescape") for line in chunk.lines]


def counted(message: bytes) -> bytes:
    return b"%d %b" % (len(message), message)


plain = st.binary(min_size=1, max_size=30).filter(
    lambda data: not LIKE_A_COUNT.match(data) and b"\n" not in data and b"\0" not in data and not data.endswith(b"\r")
)
anything = st.binary(min_size=1, max_size=30).filter(lambda data: not data.endswith((b"\n", b"\0", b"\r")))
ends = st.sampled_from([b"\n", b"\0", b"\r\n"])
#: Messages, and how they are sent: ended; counted; counted with what ends it counted too, or sent besides.
messages = st.lists(
    st.one_of(
        st.builds(lambda data, end: (data, data + end), plain, ends | st.sampled_from([b"\0\n", b"\n\0"])),
        st.builds(lambda data: (data, counted(data)), anything),
        st.builds(lambda data, end: (data, counted(data + end)), anything, ends),
        st.builds(lambda data, end: (data, counted(data) + end), anything, st.sampled_from([b"\n", b"\0"])),
    ),
    max_size=12,
)
cuts = st.lists(st.integers(0, 300), max_size=20)


@given(messages, cuts)
def test_messages_of_all_kinds_come_out_as_they_went_in(sent: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    assert raw(framed(b"".join(data for _, data in sent), cuts)) == [message for message, _ in sent]


@given(st.binary(max_size=300), cuts, st.sampled_from([1, 5, 1000]), st.sampled_from(["auto", "newline"]))
@example(b"12 half a message", [1], 1000, "auto")
@example(b"12", [1], 1000, "auto")
@example(b"5 abc\r\nx\r\n", [7], 5, "auto")
def test_where_the_bytes_are_cut_makes_no_difference(data: bytes, cuts: list[int], limit: int, framing: Framing) -> None:
    whole, pieces = framed(data, [], limit, framing), framed(data, cuts, limit, framing)
    assert whole == pieces
    assert all(len(line) <= limit for line in raw(whole))


@given(st.lists(st.from_regex(rb"[0-9 a<\r]{0,6}", fullmatch=True), max_size=20), cuts)
def test_without_counts_every_line_is_a_line(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    assert raw(framed(data, cuts, framing="newline")) == [line.removesuffix(b"\r") for line in lines]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"17 <34>1 - - - - - -7 <34>two", [b"<34>1 - - - - - -", b"<34>two"]),
        (b"<34>one\n<34>two\n", [b"<34>one", b"<34>two"]),
        (b"<34>one\0<34>two\0", [b"<34>one", b"<34>two"]),  # as Python's own handler sends them
        (b"7 <34>one\n7 <34>two\n", [b"<34>one", b"<34>two"]),  # counted, and ended too
        (b"8 <34>one\n8 <34>two\n", [b"<34>one", b"<34>two"]),
        (b"7 <34>one<34>two\n7 <34>six", [b"<34>one", b"<34>two", b"<34>six"]),  # each as it is
        (b"10 <34>two\nlinext\n", [b"<34>two\nli", b"next"]),
        (b"2024-11-26 a date\n1700000000 a time\n007 a name\n0 nothing\n", None),  # no counts
        (b"one\n\ntwo\n", [b"one", b"", b"two"]),
        (b"100 too short", [b"too short"]),  # what came is a line
        (b"<34>half a line", [b"<34>half a line"]),
        (b"123", [b"123"]),
        (b"", []),
    ],
)
def test_examples(data: bytes, expected: list[bytes] | None) -> None:
    assert raw(framed(data, [])) == (data.splitlines() if expected is None else expected)


@pytest.mark.parametrize("start", [b"", b"90000000 "])
def test_an_endless_message_costs_no_memory_and_those_after_it_come(start: bytes) -> None:
    framer, block = Framer(10_000), b"x" * 65_536
    tracemalloc.start()
    try:
        framer.feed(start)
        for _ in range(90_000_000 // len(block)):
            assert not framer.feed(block).lines
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1_000_000
    rest = b"x" * (90_000_000 % len(block)) if start else b"\n"
    chunk = framer.feed(rest + b"short\n")
    assert chunk.lines == ["x" * 10_000, "short"]
    assert [(mark.position, mark.kind) for mark in chunk.rejected] == [(0, "oversize")]
    length = 90_000_000 if start else 90_000_000 // len(block) * len(block)
    assert f"{length:,} bytes" in chunk.rejected[0].message
