"""What a broker has delivered: which messages are under way, which have passed, and which are not to be read again.

A broker delivers a message again when it does not know that it has been dealt with: after a crash of the reader between the
commit and the acknowledgement, after one of its own, after a silence. So a source keeps the numbers of the messages that
have passed through it, saves them with its position, and leaves out those that come again. Only what has passed through
*this* source counts: another consumer of the group may have had, and lost, any message between two of them.

Kept are stretches, from one message to another one, such that every message between them has passed as well. A broker that
delivers in order makes few of them: one, where the numbers show that there is nothing in between. How many are kept is
bounded: of those that the broker has been told of, the oldest are forgotten, as it will hardly deliver them again; and of
those that a run before may have told it of, or not, the oldest when there are as many of these alone.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any, Literal

from streamlab.sources.lines import BYTES_A_CHARACTER, decoded

#: Stretches that are kept, beside those that the broker does not know of yet.
KEPT = 1000
#: Seconds after which whoever waits looks up, so that Ctrl-C comes through.
LOOK_UP = 0.2
#: Stands for a count that is never reached: nobody knows whether the broker was told.
UNKNOWN = 1 << 62


@dataclass(slots=True)
class Message:
    """A message that is under way.

    Attributes:
        number: its place in the stream: greater than that of all before it.
        token: what the broker knows the delivery by.
        stamp: when it was stored, as a number, if the broker says so: one that is stored in its place later, after the
            stream was lost, is another one.
        before: number of the message directly before it, if that is known.
        touched: the clock's time at which the broker last heard of it.
    """

    number: int
    token: Any
    stamp: int = 0
    before: int | None = None
    touched: float = 0.0


@dataclass(slots=True)
class _Stretch:
    """Messages that have passed.

    Attributes:
        first: number of the first.
        last: number of the last.
        stamp: the latest of their stamps.
        count: how many had passed in all when the last of them had: the broker knows of them when it knows of so many.
    """

    first: int
    last: int
    stamp: int
    count: int


class Deliveries:
    """The messages of one stream that were delivered to one source; safe to use from several threads.

    Args:
        kept: how many stretches to keep, beside those that the broker does not know of yet.

    >>> deliveries = Deliveries()
    >>> messages = [Message(number, f"token {number}") for number in (1, 2, 3)]
    >>> [deliveries.take(message) for message in messages]
    ['new', 'new', 'new']
    >>> deliveries.passed(messages[:2])
    >>> deliveries.acknowledge(deliveries.position())
    >>> deliveries.due(100)
    ['token 1', 'token 2']
    >>> deliveries.settled(2)
    >>> deliveries.take(messages[1]), deliveries.take(messages[2])
    ('passed', 'held')
    >>> deliveries.due(100)
    ['token 2']
    >>> deliveries.position()
    {'passed': 2, 'acknowledged': 2, 'stretches': [[1, 2, 0, 2]]}
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._lock = threading.Lock()
        self._kept = kept
        self._clear()
        self._count = 0  # of those that have passed
        self._acknowledged = 0  # how many of them the broker knows of

    def _clear(self) -> None:
        self._held: dict[int, Message] = {}  # not to be acknowledged yet
        self._through: deque[tuple[int, Sequence[Message]]] = deque()  # those of them that have passed, with the count then
        self._due: deque[tuple[int, Any]] = deque()  # tokens of what is to be acknowledged, with the count of those before
        self._stretches: list[_Stretch] = []  # by rising first
        self._by_last: dict[int, _Stretch] = {}
        self._highest = -1  # number of any that has passed

    def take(self, message: Message) -> Literal["new", "held", "passed"]:
        """Take note of a delivery.

        Returns:
            ``"new"`` if the message is to be read; ``"held"`` if it was delivered before, and is under way; ``"passed"``
            if it has passed, and the broker is to be told again, see `due`.
        """
        number = message.number
        with self._lock:
            held = self._held.get(number)
            if held is not None and held.stamp == message.stamp:
                held.token, held.touched = message.token, message.touched
                return "held"
            if number <= self._highest and self._has_passed(number, message.stamp):
                self._due.append((0, message.token))
                return "passed"
            self._held[number] = message
            return "new"

    def passed(self, messages: Sequence[Message]) -> None:
        """Take note that the sink has what came of messages."""
        with self._lock:
            self._count += len(messages)
            self._through.append((self._count, messages))
            for message in messages:
                self._extend(message)

    def position(self) -> dict[str, Any]:
        """Return what has passed, as plain data."""
        with self._lock:
            stretches = [[s.first, s.last, s.stamp, s.count] for s in self._stretches]
            return {"passed": self._count, "acknowledged": self._acknowledged, "stretches": stretches}

    def resume(self, position: dict[str, Any]) -> None:
        """Go on where the source was whose `position` this is."""
        with self._lock:
            self._count = self._acknowledged = position["passed"]
            for first, last, stamp, count in position["stretches"]:
                self._add(_Stretch(first, last, stamp, count if count <= position["acknowledged"] else UNKNOWN))

    def acknowledge(self, position: dict[str, Any]) -> None:
        """Take note that the broker is to be told of what had passed at a `position`."""
        with self._lock:
            while self._through and self._through[0][0] <= position["passed"]:
                count, messages = self._through.popleft()
                for message in messages:
                    if self._held.get(message.number) is message:
                        del self._held[message.number]
                    self._due.append((0, message.token))
                if messages:
                    self._due[-1] = count, self._due[-1][1]

    def due(self, limit: int) -> list[Any]:
        """Return the tokens of what the broker is to be told of, the first ones."""
        with self._lock:
            return [token for _, token in islice(self._due, limit)]

    def settled(self, number: int) -> None:
        """Take note that the broker has been told of so many of what was `due`, the first ones."""
        with self._lock:
            for _ in range(min(number, len(self._due))):
                count, _ = self._due.popleft()
                self._acknowledged = max(self._acknowledged, count)
            if len(self._stretches) > self._kept:
                self._forget_some()

    def touch(self, now: float, age: float) -> list[Any]:
        """Return the tokens of messages that the broker has not heard of for ``age`` seconds; now it has."""
        with self._lock:
            stale = [message for message in self._held.values() if now - message.touched >= age]
            for message in stale:
                message.touched = now
        return [message.token for message in stale]

    def tokens(self) -> list[Any]:
        """Return the tokens of all that is not to be acknowledged yet, in the order in which it was delivered."""
        with self._lock:
            return [message.token for message in self._held.values()]

    def lowest(self) -> int | None:
        """Return the lowest number of a message that is not to be acknowledged yet."""
        with self._lock:
            return min(self._held, default=None)

    def forget(self) -> None:
        """Take note that the stream is another one now: what was delivered says nothing about what will be."""
        with self._lock:
            self._clear()

    def _has_passed(self, number: int, stamp: int) -> bool:
        at = bisect_right(self._stretches, number, key=attrgetter("first")) - 1
        if at < 0:
            return False
        stretch = self._stretches[at]
        return number <= stretch.last and stamp <= stretch.stamp

    def _extend(self, message: Message) -> None:
        number = message.number
        stretch = None if message.before is None else self._by_last.pop(message.before, None)
        stretch = stretch or self._by_last.pop(number - 1, None)
        if stretch is None:
            self._add(_Stretch(number, number, message.stamp, self._count))
            return
        stretch.last, stretch.count = number, max(stretch.count, self._count)  # what is unknown stays so
        stretch.stamp = max(stretch.stamp, message.stamp)
        self._by_last[number] = stretch
        self._highest = max(self._highest, number)

    def _add(self, stretch: _Stretch) -> None:
        insort(self._stretches, stretch, key=attrgetter("first"))
        self._by_last[stretch.last] = stretch
        self._highest = max(self._highest, stretch.last)

    def _forget_some(self) -> None:
        """Forget the lowest stretches that the broker knows of, and a few more than needed: so it is rare."""
        known = [stretch for stretch in self._stretches if stretch.count <= self._acknowledged]
        unknown = [stretch for stretch in self._stretches if stretch.count == UNKNOWN]
        surplus = max(len(self._stretches) - len(unknown) - self._kept + self._kept // 10, 0)
        gone = {id(stretch) for stretch in (*known[:surplus], *unknown[: max(len(unknown) - KEPT, 0)])}
        for stretch in self._stretches:
            if id(stretch) in gone:
                self._by_last.pop(stretch.last, None)
        self._stretches = [stretch for stretch in self._stretches if id(stretch) not in gone]


def texts(payloads: Sequence[bytes], max_line_bytes: int) -> list[Any]:
    r"""Return payloads as text, if none can be too long; else as they are, for each to be looked at.

    >>> texts([b"caf\xc3\xa9", b"\xff"], 100), texts([b"caf\xc3\xa9", b"\xff"], 10)
    (['café', '\udcff'], [b'caf\xc3\xa9', b'\xff'])
    """
    if max(map(len, payloads), default=0) * BYTES_A_CHARACTER > max_line_bytes:
        return list(payloads)
    return [decoded(payload) for payload in payloads]
