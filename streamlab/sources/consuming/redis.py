"""A consumer of a group at a Redis stream: what is asked of the server, in which order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import Redis

#: Milliseconds that the server waits for an entry before it says that there is none.
BLOCK = 100
#: Seconds after an interruption after which to look a second time for what this consumer has had.
AGAIN = 2.0
#: Ids that are sent in one command.
IDS = 1000
#: Bits of the second half of an entry's id.
HALF = 64

#: An entry as the library gives it: its id, and its fields; none of an entry that is not there any more.
Entry = tuple[bytes, dict[bytes, bytes]]


class Consumer:
    """Reads as a consumer of a group: first what it has had and not acknowledged, then what others have left, then new ones.

    Args:
        client: the connection.
        stream: name of the stream.
        group: name of the group.
        name: of the consumer in it.
        claim_after: seconds after which entries of another consumer are taken over; 0 for never.
        block: milliseconds to wait for new entries.

    Attributes:
        vanished: how many entries were found to be removed before they were acknowledged.

    Whatever the library raises is passed on.
    """

    def __init__(
        self, client: Redis, stream: str, group: str, name: str, claim_after: float = 60.0, block: int = BLOCK
    ) -> None:
        self.vanished = 0
        self._client = client
        self._stream = stream
        self._group = group
        self._name = name
        self._claim_after = claim_after
        self._block = block
        self._claimed = time.monotonic()
        self.begin()

    def begin(self) -> None:
        """Look again, from the start, for what this consumer has had, and what others have left."""
        self._backlog: str | None = "0-0"  # after which to look; None when that is done
        # A server that stood still may yet come to what was asked before, in a connection that nobody listens to any more.
        self._again: float | None = time.monotonic() + AGAIN
        self._claim: str | None = "0-0" if self._claim_after else None

    def make_group(self, start: str) -> bool:
        """Make the group, and the stream, if they are not there; tell whether the group was not."""
        import redis

        try:
            self._client.xgroup_create(self._stream, self._group, start, mkstream=True)
        except redis.ResponseError as problem:
            if str(problem).startswith("BUSYGROUP"):
                return False
            raise
        return True

    def reaches(self, number: int) -> bool:
        """Tell whether the stream has ever had an entry of this number; if not, it is another one than the one that had."""
        if not self._client.exists(self._stream):
            return False
        info: Any = self._client.xinfo_stream(self._stream)
        return number_of(info["last-generated-id"]) >= number

    def read(self, count: int) -> tuple[Sequence[Entry], bool]:
        """Return at most ``count`` entries, perhaps none, and whether they are new: then there are no others in between."""
        if self._backlog is not None:
            entries = self._delivered(count, self._backlog, None)
            self._backlog = entries[-1][0].decode() if entries else None
            return entries, False
        if self._again is not None and time.monotonic() > self._again:
            self._backlog, self._again = "0-0", None
        if self._claim is None and self._claim_after and time.monotonic() - self._claimed > self._claim_after / 4:
            self._claim = "0-0"
        if self._claim is not None:
            return self._taken_over(count, self._claim), False
        return self._delivered(count, ">", self._block), True

    def _delivered(self, count: int, after: str, block: int | None) -> Sequence[Entry]:
        answer: Any = self._client.xreadgroup(self._group, self._name, {self._stream: after}, count=count, block=block)
        return answer[0][1] if answer else ()

    def _taken_over(self, count: int, after: str) -> Sequence[Entry]:
        idle = int(self._claim_after * 1000)
        answer: Any = self._client.xautoclaim(self._stream, self._group, self._name, idle, after, count)
        after = answer[0].decode()
        self._claim = None if after == "0-0" else after
        self._claimed = time.monotonic()
        if len(answer) > 2:  # since Redis 7 it drops those itself that are not there any more
            self.vanished += len(answer[2])
        return [entry for entry in answer[1] if entry[0] is not None]

    def acknowledge(self, ids: list[Any]) -> None:
        """Tell that entries are done with: at most `IDS`."""
        self._client.xack(self._stream, self._group, *ids)

    def touch(self, ids: list[Any]) -> None:
        """Tell that entries are under way, so that no other consumer takes them over."""
        for at in range(0, len(ids), IDS):
            self._client.xclaim(self._stream, self._group, self._name, 0, ids[at : at + IDS], justid=True)


def is_gone(problem: BaseException) -> bool:
    """Tell whether an error says that the group, or the stream with it, is not there any more."""
    return str(problem).startswith(("NOGROUP", "UNBLOCKED the stream key"))


def number_of(id: bytes | str) -> int:
    """Return an entry's id as a number.

    >>> number_of(b"2-1") - number_of("2-0")
    1
    """
    time, _, count = (id.decode() if isinstance(id, bytes) else id).partition("-")
    return (int(time) << HALF) + int(count)


def id_of(number: int) -> str:
    """Return the id that a number stands for.

    >>> id_of(number_of("1700000000000-3"))
    '1700000000000-3'
    """
    return f"{number >> HALF}-{number & ((1 << HALF) - 1)}"
