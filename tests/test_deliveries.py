"""What a broker has delivered, against a model of a broker that delivers again whenever it may."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamlab.sources.consuming.deliveries import UNKNOWN, Deliveries, Message


class Delivering(RuleBasedStateMachine):
    """One reader of a stream that others read too; it crashes, and goes on from what it has committed.

    The broker has messages 1, 2, 3 and so on; it delivers each one to somebody, and what was not acknowledged again to
    anybody. Every message must pass here, or at somebody else, and none may pass here twice.
    """

    @initialize(kept=st.integers(1, 5))
    def begin(self, kept: int) -> None:
        self.deliveries = Deliveries(kept)
        self.kept = kept
        self.next = 1
        self.last: int | None = None  # the last new one that came here, if no other has had one since
        self.pending: set[int] = set()  # delivered here, and not acknowledged
        self.under_way: list[Message] = []
        self.written: list[int] = []  # by the sink, which lasts
        self.committed: tuple[Any, int] = (self.deliveries.position(), 0)
        self.here: set[int] = set()  # all that ever came here
        self.lost: set[int] = set()  # of what is pending, what has not come again since the last crash

    def take(self, number: int, before: int | None) -> None:
        self.pending.add(number)
        self.lost.discard(number)
        self.here.add(number)
        message = Message(number, number, before=before)
        what = self.deliveries.take(message)
        if what == "new":
            self.under_way.append(message)
        elif what == "passed":
            assert number in self.written
        else:
            assert number in self.written or number in [message.number for message in self.under_way]

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.take(self.next, self.last)
            self.last = self.next
            self.next += 1

    @rule(count=st.integers(1, 3))
    def deliver_to_others(self, count: int) -> None:
        self.next += count
        self.last = None

    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        if self.pending:
            self.take(data.draw(st.sampled_from(sorted(self.pending))), None)

    @rule(count=st.integers(1, 4))
    def deliver_what_others_have_lost(self, count: int) -> None:
        others = sorted(set(range(1, self.next)) - self.here)
        for number in others[:count]:
            self.take(number, None)

    @rule(count=st.integers(1, 5))
    def pass_on(self, count: int) -> None:
        passed, self.under_way = self.under_way[:count], self.under_way[count:]
        if passed:
            self.written += [message.number for message in passed]
            self.deliveries.passed(passed)

    @rule(tells=st.booleans())
    def commit(self, tells: bool) -> None:
        self.committed = self.deliveries.position(), len(self.written)
        if tells:
            self.deliveries.acknowledge(self.committed[0])

    @rule(limit=st.integers(1, 4))
    def acknowledge(self, limit: int) -> None:
        tokens = self.deliveries.due(limit)
        assert set(tokens) <= set(self.written[: self.committed[1]])
        self.pending -= set(tokens)
        self.deliveries.settled(len(tokens))

    @rule()
    def crash(self) -> None:
        position, length = self.committed
        del self.written[length:]
        self.under_way = []
        self.last = None
        self.deliveries = Deliveries(self.kept)
        self.deliveries.resume(position)
        self.lost = set(self.pending)  # they come again at some time

    @invariant()
    def nothing_is_doubled(self) -> None:
        if hasattr(self, "written"):
            assert len(self.written) == len(set(self.written))

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "written"):
            known = set(self.written) | {message.number for message in self.under_way}
            assert self.here <= known | self.pending
            assert self.pending - set(self.written) - self.lost == {message.number for message in self.under_way}

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        if hasattr(self, "deliveries"):
            stretches = self.deliveries.position()["stretches"]
            unknown = sum(count == UNKNOWN for *_, count in stretches)
            assert len(stretches) - unknown <= self.kept + len(self.pending & set(self.written)) + 1
            assert all(number in self.written for stretch in stretches for number in stretch[:2])


TestDelivering = Delivering.TestCase


def test_a_message_in_the_place_of_a_lost_one_is_another_one() -> None:
    deliveries = Deliveries()
    old = [Message(number, str(number), stamp=100 + number) for number in (1, 2, 3)]
    assert [deliveries.take(message) for message in old] == ["new"] * 3
    deliveries.passed(old[:2])
    assert deliveries.take(Message(2, "again", stamp=102)) == "held"
    deliveries.acknowledge(deliveries.position())
    assert deliveries.due(10) == ["1", "again"]
    assert deliveries.take(Message(2, "again", stamp=102)) == "passed"
    assert deliveries.take(Message(2, "another", stamp=205)) == "new"
    assert deliveries.take(Message(3, "another", stamp=206)) == "new"  # though the old one is under way


def test_stretches_of_a_consumer_of_its_own_are_few() -> None:
    deliveries = Deliveries()
    messages = [Message(number * 10, number, before=(number - 1) * 10 or None) for number in range(1, 5000)]
    for message in messages:
        assert deliveries.take(message) == "new"
    deliveries.passed(messages)
    assert deliveries.position() == {"passed": 4999, "acknowledged": 0, "stretches": [[10, 49_990, 0, 4999]]}
