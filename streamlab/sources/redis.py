"""Lines from a Redis stream, shared out by a consumer group, acknowledged when what came of them is safe."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamlab.addresses import seconds
from streamlab.batch import Chunk, Places, Rejected
from streamlab.brokers import back_off, parse, shown
from streamlab.brokers.redis import DEFAULT_URL, LIBRARY_OPTIONS, LOGIN, connect, is_away, stream_of
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.consuming.deliveries import LOOK_UP, Deliveries, Message, texts
from streamlab.sources.consuming.redis import BLOCK, IDS, Consumer, Entry, id_of, is_gone, number_of
from streamlab.sources.items import as_chunk
from streamlab.sources.lines import decoded
from streamlab.texts import as_bytes, json_of

#: Bytes that one answer should have, about; entries are asked for by number, after the size of those before.
ANSWER = 4 * 1024 * 1024
#: Entries that are asked for before one was seen.
FIRST = 16


class RedisSource:
    """The entries of a Redis stream, read as a consumer of a group; Redis 6.2 or later.

    A line is the value of one field of an entry. It stays one line whatever is in it; one line end at its end is left
    out. An entry without the field is rejected (``decode``), a long one as well (``oversize``).

    **At least once.** An entry is acknowledged (``XACK``) when the sink has what came of it, and after the commit, if there
    is a checkpoint. On start, and after each interruption, come first the entries that this consumer has had and not
    acknowledged, then those that another one has left for ``claim_after`` seconds, then new ones. With a checkpoint, entries
    that passed before it are recognised and left out: a consumer of its own neither loses nor doubles any. How often an
    entry has been delivered is counted by Redis (``XPENDING``); nothing is done about it here.

    A server that is away is waited for, and ``notices`` say so. If the group is gone, as after a restart of a server that
    saves nothing, it is made again.

    Args:
        stream: name of the stream; it is made, if it is not there.
        url: of the server: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS.
        group: the consumer group; it is made, if it is not there. The sources of a group share the entries of the stream.
        consumer: name in the group, by default that of this host. Two at the same time need two names; whoever goes on where
            this one ended needs the same.
        field: the field that has the line; ``None`` to get all fields as JSON.
        start: where a new group begins: ``"0"`` at the first entry, ``"$"`` after the last one, or an id.
        claim_after: seconds after which entries of another consumer are taken over, if it neither acknowledges them nor says
            that it has them, as a source does all along; 0 for never.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        timeout: seconds after which a server that does not answer is taken to be away.
        options: more arguments of ``redis.Redis.from_url``, as for TLS.

    Attributes:
        blocking: always true.
        notices: what happened to the connection.

    Raises:
        SourceError: the server cannot be reached, or what is there is no stream.
    """

    kind = "Redis stream"
    blocking = True

    def __init__(
        self,
        stream: str,
        *,
        url: str = DEFAULT_URL,
        group: str = "streamlab",
        consumer: str | None = None,
        field: str | None = "line",
        start: str = "0",
        claim_after: float = 60.0,
        max_line_bytes: int = 1_048_576,
        timeout: float = 5.0,
        **options: Any,
    ) -> None:
        self._client = connect(url, timeout, SourceError, options)
        self.name = f"{shown(url)}/{stream}"
        self.notices: deque[Notice] = deque()
        self._group = group
        self._field = field
        self._start = start
        self._touch_every = claim_after / 4 or None
        self._max_line_bytes = max_line_bytes
        block = max(min(BLOCK, int(timeout * 500)), 1)
        self._consumer = Consumer(self._client, stream, group, consumer or socket.gethostname(), claim_after, block)
        self._deliveries = Deliveries()
        self._acknowledging = threading.Lock()
        self._highest: int | None = None  # number of an entry that was delivered
        self._size = ANSWER / FIRST  # bytes of an entry, about
        self._seen = False
        self._closed = threading.Event()
        self._there = threading.Event()  # the server, as far as is known
        self._there.set()
        self._wanted = threading.Event()  # the keeper
        self._reason = ""
        self._keeper: threading.Thread | None = None
        self._made = self._make_group()

    @classmethod
    def of_address(cls, address: str, *, max_line_bytes: int = 1_048_576) -> RedisSource:
        """Return the source of an address: ``redis://user:password@host:6379/0/STREAM?group=...&consumer=...&field=...``.

        Options are those of the class, and ``ssl_...`` of the library; ``field=`` without a value gives all fields as JSON.

        Raises:
            SourceError: as of the class, or the address says what cannot be.
        """
        known: dict[str, Any] = dict.fromkeys(("group", "consumer", "start"), str)
        known |= {"field": lambda text: text or None, "claim_after": seconds, "timeout": seconds}
        parsed = parse(address, known, SourceError, login=LOGIN, passed=LIBRARY_OPTIONS)
        url, stream = stream_of(parsed, SourceError)
        return cls(stream, url=url, max_line_bytes=max_line_bytes, **parsed.options)

    # For the thread that reads

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines as soon as there are any; an empty chunk after `close`.

        Raises:
            SourceError: the server refuses to give them.
        """
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="streamlab-redis", daemon=True)
            self._keeper.start()
        while not self._closed.is_set():
            try:
                chunk = self._chunk(*self._consumer.read(max(min(limit, int(ANSWER / self._size)), 1)))
            except Exception as problem:  # whatever a connection raises that another thread closes
                self._overcome(problem)
                continue
            if chunk.lines and not self._closed.is_set():
                return chunk
        self._client.close()
        return Chunk([], source=self.name)

    def _chunk(self, entries: Sequence[Entry], fresh: bool) -> Chunk:
        now = time.monotonic()
        messages: list[Message] = []
        kept: list[dict[bytes, bytes]] = []
        removed: list[bytes] = []
        again = False
        before: int | None = None
        for id, fields in entries:
            if not fields:
                removed.append(id)
                continue
            message = Message(number_of(id), id, 0, before, now)
            before = message.number if fresh else None
            what = self._deliveries.take(message)
            if what == "new":
                messages.append(message)
                kept.append(fields)
            again = again or what == "passed"
        if entries:
            self._highest = max(self._highest or 0, number_of(entries[-1][0]))
        with contextlib.suppress(Exception):  # it is tried again: the lines here are not to be lost by that
            if removed:
                self._consumer.acknowledge(removed)
                self._consumer.vanished += len(removed)
            if again:
                self._settle()
        self._tell_of_vanished()
        chunk = self._lines(kept)
        chunk.places = Places(messages, [message.token.decode() for message in messages])
        return chunk

    def _lines(self, entries: Sequence[dict[bytes, bytes]]) -> Chunk:
        """Return the lines of entries."""
        marks: list[Rejected] = []
        if self._field is None:
            values = [_as_json(fields) for fields in entries]
        else:
            name = as_bytes(self._field)
            values = [fields.get(name, b"") for fields in entries]
            for at, fields in enumerate(entries):
                if name not in fields:
                    values[at] = _as_json(fields)[: self._max_line_bytes]
                    marks.append(Rejected(at, "decode", self._without_field(fields)))
        if values:
            mean = sum(map(len, values)) / len(values) + 64
            self._size = max(mean, self._size / 2) if self._seen else mean
            self._seen = True
        chunk = as_chunk(texts(values, self._max_line_bytes), self.name, self._max_line_bytes)
        if marks:
            chunk.rejected = sorted([*chunk.rejected, *marks])
        return chunk

    def _without_field(self, fields: dict[bytes, bytes]) -> str:
        has = ", ".join(repr(decoded(name)) for name in list(fields)[:10])[:200]
        return f"the entry has no field {self._field!r}: it has {has}; say field=... to read another one"

    def _tell_of_vanished(self) -> None:
        count, self._consumer.vanished = self._consumer.vanished, 0
        if count:
            text = f"{self.name}: {count:,} entries were removed before they were acknowledged, as by MAXLEN; they are lost"
            self.notices.append(Notice("dropped", self.name, text, lost_lines=count))

    # When something is wrong

    def _overcome(self, problem: Exception) -> None:
        """Wait until the server is there again, or make the group again.

        Raises:
            SourceError: that is not what is wrong.
        """
        import redis

        if self._closed.is_set():
            return
        if is_gone(problem):
            try:
                self._make_group_again()
            except (redis.RedisError, OSError) as another:  # the server may be gone in this very moment
                self._overcome(another)
        elif is_away(problem):
            self._reason = str(problem)
            self._there.clear()
            self._wanted.set()
            while not self._there.wait(LOOK_UP):
                pass
            self._consumer.begin()  # an answer may have been lost: what was in it is this consumer's now
        elif isinstance(problem, redis.RedisError):
            raise SourceError(f"{self.name} cannot be read: {problem}") from problem
        else:
            raise problem

    def _make_group(self) -> bool:
        import redis

        try:
            return self._consumer.make_group(self._start)
        except (redis.RedisError, OSError) as problem:
            self._client.close()
            raise SourceError(f"{self.name}: the group {self._group!r} cannot be made: {problem}") from problem

    def _make_group_again(self) -> None:
        start = self._start
        if self._highest is not None:
            if self._consumer.reaches(self._highest):
                lowest = self._deliveries.lowest()
                start = id_of(self._highest if lowest is None else lowest - 1)
            else:
                self._deliveries.forget()
                self._highest, start = None, "0"
        if self._consumer.make_group(start):
            text = f"{self.name}: the group {self._group!r} was gone, as after a restart of a server that saves nothing"
            self.notices.append(Notice("vanished", self.name, f"{text}; it was made again, and goes on with what comes"))

    # The keeper: a thread that waits for the server, and tells it what is under way

    def _keep(self) -> None:
        every = self._touch_every
        due = time.monotonic() + (every or 0.0)
        while not self._closed.is_set():
            if self._wanted.wait(None if every is None else max(due - time.monotonic(), 0.0)):
                self._wanted.clear()
                self._reconnect()
            if every is not None and time.monotonic() >= due:
                due = time.monotonic() + every
                self._touch(every)
        self._client.close()

    def _reconnect(self) -> None:
        import tenacity

        if self._there.is_set():
            return
        message = f"{self.name} is away ({self._reason}): it is tried until it is there"
        self.notices.append(Notice("disconnected", self.name, message))
        self._client.connection_pool.disconnect(inuse_connections=False)
        attempts = tenacity.Retrying(
            wait=back_off(),
            sleep=tenacity.sleep_using_event(self._closed),
            stop=tenacity.stop_when_event_set(self._closed),
        )
        try:
            attempts(self._client.ping)
        except tenacity.RetryError:  # closed
            return
        self.notices.append(Notice("reconnected", self.name, f"{self.name} is there again"))
        self._there.set()

    def _touch(self, age: float) -> None:
        if self._there.is_set():
            with contextlib.suppress(Exception):  # who reads will find out what is wrong
                self._consumer.touch(self._deliveries.touch(time.monotonic(), age))

    # For the run's thread, and the one that saves

    def resume(self, position: Any) -> None:
        """Go on where the source was whose `position` this is: what has passed there is left out.

        Raises:
            SourceError: the server has gone away meanwhile.
        """
        import redis

        stretches = [[number_of(first), number_of(last), 0, count] for first, last, count in position["stretches"]]
        highest = max((stretch[1] for stretch in stretches), default=None)
        try:
            another = highest is not None and self._made and not self._consumer.reaches(highest)
        except (redis.RedisError, OSError) as problem:
            raise SourceError(f"{self.name} cannot be reached: {problem}") from problem
        if another:
            message = f"{self.name}: the stream is another one than the run before has read: it is read from its start"
            self.notices.append(Notice("vanished", self.name, message))
            stretches = []
        self._deliveries.resume(position | {"stretches": stretches})

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        self._deliveries.passed(places.within[places.first : places.first + count])

    def position(self) -> dict[str, Any]:
        """Return what has passed: how many entries; of each stretch of them the first and last id, and when it ended."""
        position = self._deliveries.position()
        return position | {
            "stretches": [[id_of(first), id_of(last), count] for first, last, _, count in position["stretches"]]
        }

    def acknowledge(self, position: Any) -> None:
        """Acknowledge (``XACK``) what had passed at a `position`; later, if the server is away. Not after `close`.

        Raises:
            SourceError: the server refuses.
        """
        self._deliveries.acknowledge(position)
        try:
            self._settle()
        except Exception as problem:
            if not is_away(problem) and not self._closed.is_set():
                raise SourceError(f"{self.name}: entries cannot be acknowledged: {problem}") from problem

    def _settle(self) -> None:
        """Acknowledge what is to be."""
        with self._acknowledging:
            while self._there.is_set() and not self._closed.is_set() and (some := self._deliveries.due(IDS)):
                self._consumer.acknowledge(some)
                self._deliveries.settled(len(some))

    def progress(self) -> None:
        """Return ``None``: how much will come is not known."""
        return None

    def close(self) -> None:
        """Let go of the connection; a `read` that waits ends at once. What is not acknowledged stays this consumer's."""
        self._closed.set()
        self._there.set()
        self._wanted.set()
        self._client.connection_pool.disconnect()  # whoever waits for an answer gets an error
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join(0.2)
        self._client.close()


def _as_json(fields: dict[bytes, bytes]) -> bytes:
    return as_bytes(json_of({decoded(name): decoded(value) for name, value in fields.items()}))
