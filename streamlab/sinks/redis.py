"""Outputs as entries of a Redis stream."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.addresses import seconds, truth, whole
from streamlab.brokers import parse, shown
from streamlab.brokers.redis import DEFAULT_URL, LIBRARY_OPTIONS, LOGIN, connect, is_away, stream_of
from streamlab.errors import Outage, SinkError
from streamlab.notices import Notice
from streamlab.texts import as_bytes, as_text

#: Entries, and bytes of them, that are sent before the answers are looked at.
SENT, SENT_BYTES = 1000, 8 * 1024 * 1024
#: Bytes that a server takes as one value, if it does not say.
LARGEST = 512 * 1024 * 1024
#: What the server says to an entry whose id is not greater than that of the last one.
NOT_GREATER = "The ID specified in XADD is equal or smaller"

#: Positions of outputs, with the reason why they were refused.
Refused = list[tuple[int, BaseException]]


class RedisSink:
    """Adds an entry (``XADD``) for each output: text as it is, a dict as compact JSON, other values by ``str``.

    **At least once.** When the connection is lost in the middle of a batch, the batch is written again; when a run goes on
    from a checkpoint, what came after it is. If nobody else writes to the stream, `ExclusiveRedisSink` does better. How much
    a crash of the server leaves is for its settings to say (``appendonly``, ``appendfsync``).

    A value that is too large for the server (``proto-max-bulk-len``) is refused. A server that is away, starting, out of
    memory, or a replica for now is an `Outage`.

    Args:
        stream: name of the stream; it is made, if it is not there.
        url: of the server: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS.
        field: the field to put the text in; ``None`` to make of a dict an entry with its fields, and of anything else one
            with the field ``line``.
        maxlen: how many entries to keep in the stream, about (``MAXLEN ~``); ``None`` for all.
        timeout: seconds after which a server that does not answer is taken to be away.
        options: more arguments of ``redis.Redis.from_url``, as for TLS.

    Attributes:
        notices: what happened to the connection.

    Raises:
        SinkError: the server cannot be reached, or what is there is no stream.
    """

    def __init__(
        self,
        stream: str,
        *,
        url: str = DEFAULT_URL,
        field: str | None = "line",
        maxlen: int | None = None,
        timeout: float = 5.0,
        **options: Any,
    ) -> None:
        self._client: Any = connect(url, timeout, SinkError, options)
        self.name = f"{shown(url)}/{stream}"
        self.notices: deque[Notice] = deque()
        self._stream = stream
        self._field = field
        self._maxlen = maxlen
        self._away = False
        try:
            self._largest = self._largest_value()
            self._begin()
        except Outage as outage:
            raise SinkError(str(outage)) from outage
        except BaseException:
            self._client.close()
            raise

    @classmethod
    def of_address(cls, address: str) -> RedisSink:
        """Return the sink of an address: ``redis://user:password@host:6379/0/STREAM?field=...&maxlen=...&exclusive=yes``.

        Options are those of the class, and ``ssl_...`` of the library; ``exclusive`` makes it an `ExclusiveRedisSink`;
        ``field=`` without a value makes the fields of a dict those of the entry.

        Raises:
            SinkError: as of the class, or the address says what cannot be.
        """
        known: dict[str, Any] = {"field": lambda text: text or None, "maxlen": whole, "timeout": seconds, "exclusive": truth}
        parsed = parse(address, known, SinkError, login=LOGIN, passed=LIBRARY_OPTIONS)
        url, stream = stream_of(parsed, SinkError)
        options = dict(parsed.options)
        made = ExclusiveRedisSink if options.pop("exclusive", cls is ExclusiveRedisSink) else RedisSink
        return made(stream, url=url, **options)

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Refused:
        """Add a batch; return what is too large or could not be made text.

        Raises:
            Outage: the server is away; some of the batch may be there.
            SinkError: the server refuses all of it, as something else than a stream is there.
        """
        entries, refused = self._entries(values)
        start = 0
        for some in _portions(entries):
            self._send(some, start)
            start += len(some)
        self._written(len(entries))
        return refused

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _begin(self) -> None:
        """See that the stream is one."""
        import redis

        try:
            kind = self._client.type(self._stream)
        except (redis.RedisError, OSError) as problem:
            raise self._trouble(problem) from problem
        if kind not in (b"stream", b"none"):
            raise SinkError(f"{self.name} is no stream, but of the type {kind.decode()}: give another name")

    def _entries(self, values: Sequence[Any]) -> tuple[list[dict[bytes, bytes]], Refused]:
        entries: list[dict[bytes, bytes]] = []
        refused: Refused = []
        for position, value in enumerate(values):
            try:
                entry = self._entry(value)
                size = max(map(len, entry.values()))
                if size > self._largest:
                    raise ValueError(
                        f"it has {size:,} bytes, and {self.name} takes at most {self._largest:,} (proto-max-bulk-len)"
                    )
                entries.append(entry)
            except Exception as error:  # the value's own code, too
                refused.append((position, error))
        return entries, refused

    def _entry(self, value: Any) -> dict[bytes, bytes]:
        if self._field is not None:
            return {as_bytes(self._field): as_bytes(as_text(value))}
        if isinstance(value, dict) and value:
            return {as_bytes(as_text(name)): as_bytes(as_text(item)) for name, item in value.items()}
        return {b"line": as_bytes(as_text(value))}

    def _send(self, entries: Sequence[dict[bytes, bytes]], start: int) -> None:
        """Add some entries of a batch, of which ``start`` have been added.

        Raises:
            Outage, SinkError: as of `write`.
        """
        import redis

        try:
            if self._away:
                self._look_again()
            pipeline = self._client.pipeline(transaction=self._whole)
            for at, entry in enumerate(entries, start):
                pipeline.xadd(self._stream, entry, id=self._id(at), maxlen=self._maxlen)
            for problem in pipeline.execute(raise_on_error=False):
                if isinstance(problem, Exception) and not self._is_there(problem):
                    raise problem
        except (redis.RedisError, OSError) as problem:
            raise self._trouble(problem) from problem

    def _look_again(self) -> None:
        """See how things are after the server was away."""
        self._client.ping()
        self._away = False
        self.notices.append(Notice("reconnected", self.name, f"{self.name} is there again"))

    _whole = False  # whether some entries are added all or not at all

    def _id(self, at: int) -> str:
        """Return the id that an entry of the batch is to have."""
        return "*"

    def _is_there(self, problem: Exception) -> bool:
        """Tell whether an entry was refused because it is there already."""
        return False

    def _written(self, count: int) -> None:
        """Take note that all entries of a batch are there."""

    def _trouble(self, problem: Exception) -> SinkError:
        if not is_away(problem):
            return SinkError(f"{self.name} cannot be written: {problem}")
        import redis

        if isinstance(problem, (redis.ConnectionError, redis.TimeoutError, OSError)) and not self._away:
            self._away = True
            self.notices.append(Notice("disconnected", self.name, f"{self.name} is away ({problem})"))
        return Outage(f"{self.name} cannot be written for now: {problem}", waits=True)

    def _largest_value(self) -> int:
        import redis

        try:
            limits: Any = self._client.config_get("proto-max-bulk-len")
        except redis.ResponseError:  # not every server lets everybody ask
            return LARGEST
        except (redis.RedisError, OSError) as problem:
            raise self._trouble(problem) from problem
        return int(limits.get("proto-max-bulk-len", LARGEST))


class ExclusiveRedisSink(RedisSink):
    """Adds an entry for each output to a stream that nobody else writes to: nothing in it is doubled or lost.

    It numbers the entries itself: the ids are ``T-1``, ``T-2`` and so on, where T is the time in milliseconds when it was
    opened. So Redis refuses an entry that is there already when a batch is written again. And a run that goes on from a
    checkpoint takes back what was written after it (``XDEL``), and sees to it that nothing of the run before can come in
    any more (``XSETID``). Who has read entries that are taken back will read them again with other ids: for who reads the
    stream as it grows it is at least once, for who reads it later each output is there once.

    Arguments and errors are those of `RedisSink`.
    """

    def begin(self) -> None:
        """Begin after what is there."""

    def mark(self) -> str:
        """Return the id of the last entry."""
        return self._last

    def sync(self) -> None:
        """Do nothing: whether entries survive a crash of the server is for its settings to say."""

    def resume(self, mark: str, *, ended: bool = False) -> None:
        """Take back the entries after a `mark`.

        Raises:
            SinkError: the stream does not reach as far as the mark: it is another one, or the server has lost entries.
        """
        import redis

        try:
            last = self._last_of_stream()
            if _halves(last) < _halves(mark):
                raise SinkError(
                    f"{self.name} does not reach as far as the checkpoint: there was an entry {mark}, the last one now"
                    f" is {last}; start anew without the checkpoint, or give another stream"
                )
            if last != "0-0":
                self._client.execute_command("XSETID", self._stream, f"{self._opened}-0")
            while entries := self._client.xrange(self._stream, f"({mark}", "+", SENT):
                self._client.xdel(self._stream, *[id for id, _ in entries])
        except (redis.RedisError, OSError) as problem:
            raise SinkError(f"{self.name} cannot be taken back to the checkpoint: {problem}") from problem
        self._last = mark

    # All or none: an entry that was left out could not be added after the ones behind it.
    _whole = True

    def _begin(self) -> None:
        super()._begin()
        self._last = self._last_of_stream()
        self._opened: int = max(int(time.time() * 1000), _halves(self._last)[0] + 1)
        self._count = 0

    def _last_of_stream(self) -> str:
        import redis

        try:
            if not self._client.exists(self._stream):
                return "0-0"
            info: Any = self._client.xinfo_stream(self._stream)
        except (redis.RedisError, OSError) as problem:
            raise self._trouble(problem) from problem
        id: bytes = info["last-generated-id"]
        return id.decode()

    def _id(self, at: int) -> str:
        return f"{self._opened}-{self._count + at + 1}"

    def _is_there(self, problem: Exception) -> bool:
        if not str(problem).startswith(NOT_GREATER):
            return False
        last = self._last_of_stream()
        if _halves(last)[0] != self._opened:
            raise SinkError(
                f"{self.name} has an entry {last} of another writer: only this sink may write to it, or use RedisSink"
            )
        return True

    def _written(self, count: int) -> None:
        if count:
            self._count += count
            self._last = f"{self._opened}-{self._count}"


def _halves(id: str) -> tuple[int, int]:
    time, _, count = id.partition("-")
    return int(time), int(count)


def _portions(entries: Sequence[dict[bytes, bytes]]) -> Iterator[Sequence[dict[bytes, bytes]]]:
    """Cut entries into portions that are sent at a time."""
    start = size = 0
    for at, entry in enumerate(entries):
        size += sum(map(len, entry.values()))
        if at + 1 - start == SENT or size >= SENT_BYTES:
            yield entries[start : at + 1]
            start, size = at + 1, 0
    if start < len(entries):
        yield entries[start:]
