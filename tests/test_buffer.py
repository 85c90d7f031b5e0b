"""The buffer between who receives lines and who reads them, against a list, and with threads on both sides."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamlab.batch import Chunk, Rejected
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.listening.buffer import WHEN_FULL, Buffer, WhenFull
from tests.waiting import until

MODES = pytest.mark.parametrize("when_full", WHEN_FULL)


def buffer_of(when_full: WhenFull = "block", lines: int = 10, size: int = 1000) -> tuple[Buffer, deque[Notice]]:
    notices: deque[Notice] = deque()
    return Buffer("here", notices, max_lines=lines, max_bytes=size, when_full=when_full), notices


def length(lines: list[str]) -> int:
    return sum(len(line.encode("utf-8", "surrogateescape")) for line in lines)


class AsAList(RuleBasedStateMachine):
    """A buffer does what a list would that is looked at line by line."""

    @initialize(when_full=st.sampled_from(WHEN_FULL), lines=st.integers(1, 8), size=st.integers(1, 40))
    def begin(self, when_full: WhenFull, lines: int, size: int) -> None:
        self.buffer, self.notices = buffer_of(when_full, lines, size)
        self.lines, self.size = lines, size
        self.held: list[tuple[str, bool]] = []
        self.given = self.dropped = self.received = 0

    def fits(self, held: list[tuple[str, bool]]) -> bool:
        return len(held) <= 1 or (len(held) <= self.lines and length([line for line, _ in held]) <= self.size)

    @rule(lines=st.lists(st.tuples(st.text("aé\udcff", max_size=12), st.booleans()), max_size=12), whole=st.booleans())
    def offer(self, lines: list[tuple[str, bool]], whole: bool) -> None:
        rejected = [Rejected(at, "oversize", line) for at, (line, bad) in enumerate(lines) if bad]
        taken = self.buffer.offer(Chunk([line for line, _ in lines], rejected), whole=whole)
        if whole and not self.fits(self.held + lines):
            assert taken == 0
            return
        fit = max(n for n in range(len(lines) + 1) if self.fits(self.held + lines[:n]) or n == 0)
        if self.buffer.when_full == "block" or whole:
            assert taken == fit
            self.received += fit
            self.held += lines[:fit]
            return
        assert taken == len(lines)
        self.received += len(lines)
        if self.buffer.when_full == "drop_newest":
            self.held += lines[:fit]
            self.dropped += len(lines) - fit
        else:
            self.held += lines
            while not self.fits(self.held):
                self.held.pop(0)
                self.dropped += 1

    @precondition(lambda self: self.held)
    @rule(limit=st.integers(1, 10))
    def take(self, limit: int) -> None:
        chunk = self.buffer.take(limit)
        expected, self.held = self.held[:limit], self.held[limit:]
        assert chunk.lines == [line for line, _ in expected]
        assert [(mark.position, mark.message) for mark in chunk.rejected] == [
            (at, line) for at, (line, bad) in enumerate(expected) if bad
        ]
        assert chunk.source == "here"
        self.given += len(expected)

    @invariant()
    def adds_up(self) -> None:
        if not hasattr(self, "buffer"):
            return
        buffer = self.buffer
        assert (buffer.received, buffer.given, buffer.dropped) == (self.received, self.given, self.dropped)
        assert buffer.held == len(self.held) and buffer.held_bytes == length([line for line, _ in self.held])
        assert buffer.received == buffer.given + buffer.dropped + buffer.held
        assert sum(notice.lost_lines for notice in self.notices) <= self.dropped

    def teardown(self) -> None:
        if hasattr(self, "buffer"):
            self.buffer.close()
            assert sum(notice.lost_lines for notice in self.notices) == self.buffer.dropped
            assert self.buffer.received == self.buffer.given + self.buffer.dropped


TestAsAList = AsAList.TestCase


@given(st.data())
def test_what_does_not_fit_can_be_offered_again(data: st.DataObject) -> None:
    buffer, notices = buffer_of("block", 5, 20)
    lines = data.draw(st.lists(st.text("abc", max_size=20), max_size=50))
    left, out = Chunk(list(lines)), list[str]()
    while left.lines or buffer.held:
        left = left.split(buffer.offer(left))[1]
        assert buffer.held <= 5 and buffer.held_bytes <= 20
        if buffer.held:
            out += buffer.take(data.draw(st.integers(1, 10))).lines
    assert out == lines and not notices and not buffer.dropped


@MODES
def test_threads_on_both_sides(when_full: WhenFull) -> None:
    """Each sender's lines stay in order; what is dropped is counted, and nothing else is missing."""
    buffer, notices = buffer_of(when_full, 50, 400)
    senders, count = 4, 5_000

    def send(sender: int) -> None:
        left = Chunk([f"{sender} {number}" for number in range(count)])
        while left.lines:
            part, left = left.split(7)
            while taken := buffer.offer(part):
                part = part.split(taken)[1]
                if not part.lines:
                    break
            if part.lines:
                room = threading.Event()
                buffer.when_room(room.set)
                part = part.split(buffer.offer(part))[1]
                if part.lines:
                    assert room.wait(30)
                left = Chunk([*part.lines, *left.lines])

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    ender = threading.Thread(target=lambda: ([thread.join() for thread in threads], buffer.end()))
    ender.start()
    out: list[str] = []
    while (chunk := buffer.take(20)).lines:
        assert buffer.held <= 50 and buffer.held_bytes <= 400
        out += chunk.lines
    ender.join()
    assert buffer.received == senders * count == len(out) + buffer.dropped
    assert sum(notice.lost_lines for notice in notices) == buffer.dropped
    for _, lines in groupby(sorted(out, key=lambda line: line[0]), key=lambda line: line[0]):
        numbers = [int(line[2:]) for line in lines]
        assert numbers == sorted(set(numbers))
        assert when_full != "block" or numbers == list(range(count))


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest"])
def test_what_is_dropped_is_told_about_once_a_second(when_full: WhenFull) -> None:
    buffer, notices = buffer_of(when_full, 10)
    began = time.monotonic()
    for number in range(3_000):
        buffer.offer(Chunk([str(number)]))
    assert notices[0].lost_lines == 1  # the first at once
    assert len(notices) <= 1 + (time.monotonic() - began)
    buffer.take(100)
    reader = threading.Thread(target=buffer.take, args=(1,))  # the rest within a second, though nothing more comes
    reader.start()
    until(lambda: sum(notice.lost_lines for notice in notices) == 2_990, 5)
    buffer.end()
    reader.join()
    assert {(notice.kind, notice.where) for notice in notices} == {("dropped", "here")}
    assert when_full in notices[0].message


def test_the_end() -> None:
    buffer, notices = buffer_of()
    buffer.offer(Chunk(["a", "b", "c"]))
    called = threading.Event()
    buffer.when_room(called.set)
    buffer.end()
    assert called.is_set()
    assert buffer.offer(Chunk(["d"])) == 0
    assert [buffer.take(2).lines, buffer.take(2).lines, buffer.take(2).lines] == [["a", "b"], ["c"], []]
    buffer.close()
    assert not notices and not buffer.dropped


def test_what_is_held_when_it_is_closed_is_lost_and_said() -> None:
    buffer, notices = buffer_of()
    buffer.offer(Chunk(["a", "b", "c"]))
    buffer.close()
    buffer.close()
    assert buffer.take(10).lines == []
    assert [(notice.kind, notice.lost_lines) for notice in notices] == [("dropped", 3)]
    assert (buffer.received, buffer.dropped, buffer.held) == (3, 3, 0)


@pytest.mark.parametrize("way", ["end", "close"])
def test_a_reader_that_waits_is_woken(way: str) -> None:
    buffer, _ = buffer_of()
    read: list[list[str]] = []
    reader = threading.Thread(target=lambda: read.append(list(buffer.take(10).lines)))
    reader.start()
    time.sleep(0.02)
    getattr(buffer, way)()
    reader.join(5)
    assert read == [[]]


def test_who_waits_for_room_is_called_when_there_is_some_and_not_for_each_line() -> None:
    buffer, _ = buffer_of(lines=100)
    buffer.offer(Chunk(["x"] * 100))
    called: list[int] = []
    buffer.when_room(lambda: called.append(buffer.held))
    while buffer.held:
        buffer.take(1)
    assert called == [75]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_lines": 0, "max_bytes": 1}, "0 lines"),
        ({"max_lines": 1, "max_bytes": 0}, "0 bytes"),
        ({"max_lines": 1, "max_bytes": 1, "when_full": "drop"}, "'block', 'drop_newest' or 'drop_oldest'"),
    ],
)
def test_arguments_that_are_wrong(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Buffer("here", deque(), **arguments)  # type: ignore[arg-type]
