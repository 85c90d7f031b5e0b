"""Lines from a JetStream stream of NATS, pulled by a durable consumer, acknowledged when what came of them is safe."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamlab.addresses import seconds, whole
from streamlab.batch import Chunk, Places
from streamlab.brokers import parse
from streamlab.brokers.nats import DEFAULT_URL, LOGIN, Connection, Lost, servers_of, subject_of
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.consuming.deliveries import LOOK_UP, Deliveries, Message, texts
from streamlab.sources.consuming.nats import PullConsumer, Wanted
from streamlab.sources.items import as_chunk

#: Messages that may wait to be read, at least and at most, and bytes of them.
FEWEST, MOST, MOST_BYTES = 8, 32_768, 16 * 1024 * 1024
#: Seconds after a `NatsSource.read` in which messages are got for the next one; else who stands still would keep them.
AHEAD = 1.0
#: Where a new consumer may begin, if not at a message's number.
STARTS = ("all", "new", "last", "last_per_subject")


class NatsSource:
    """The messages of a JetStream stream, pulled as a durable consumer; NATS server 2.9 or later.

    A line is the payload of a message. It stays one line whatever is in it; one line end at its end is left out.

    **At least once.** A message is acknowledged when the sink has what came of it, and after the commit, if there is a
    checkpoint. While it is under way the server is told so (``+WPI``), however long that takes. What was under way when a
    run was closed is given back and comes again at once; after a crash it comes again after ``ack_wait`` seconds, behind
    what has come meanwhile. With a checkpoint, messages that passed before it are recognised and left out: a consumer of
    its own neither loses nor doubles any. How often a message may be delivered is the consumer's ``max_deliver``; one that
    is made here has no limit.

    Servers that are away are waited for, and ``notices`` say so. If the consumer is gone, it is made again.

    Args:
        stream: name of the stream; it must be there.
        subject: which subjects of the stream, as ``logs.*``; ``None`` for all.
        url: of the server: ``nats://user:password@host:4222``, ``tls://`` for TLS; of several servers, by commas.
        durable: name of the consumer; it is made, if it is not there. The sources of a consumer share its messages.
        start: where a new consumer begins: ``"all"`` at the first message, ``"new"`` after the last one, ``"last"`` at it,
            ``"last_per_subject"``, or a number of a message.
        ack_wait: seconds after which messages come again if nothing is heard of them, for a new consumer.
        max_ack_pending: messages that may be under way at a time, for a new consumer and all who share it. Messages are
            acknowledged about once a second: this is the most that can pass in that time.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        timeout: seconds after which a server that does not answer is taken to be away.
        options: more arguments of ``nats.connect``, such as ``user_credentials``, ``tls``, ``token``.

    Attributes:
        blocking: always true.
        notices: what happened to the connection.

    Raises:
        SourceError: the server cannot be reached, the stream is not there, or the consumer is not as it must be.
    """

    kind = "JetStream stream"
    blocking = True

    def __init__(
        self,
        stream: str,
        *,
        subject: str | None = None,
        url: str = DEFAULT_URL,
        durable: str = "streamlab",
        start: str | int = "all",
        ack_wait: float = 30.0,
        max_ack_pending: int = 65_536,
        max_line_bytes: int = 1_048_576,
        timeout: float = 5.0,
        **options: Any,
    ) -> None:
        if isinstance(start, str) and start not in STARTS:
            raise SourceError(f"start={start!r} is none of {', '.join(STARTS)}, and no number of a message")
        self.name = f"{servers_of(url, SourceError)[0][0]}/{stream}"
        self.notices: deque[Notice] = deque()
        self._max_line_bytes = max_line_bytes
        self._deliveries = Deliveries()
        self._ready: deque[tuple[Message, bytes]] = deque()
        self._bytes = 0  # of what is ready
        self._target = 0  # how many may be ready
        self._wanted = -math.inf  # until when more are to come
        self._changed = threading.Condition()
        self._closed = False
        self._consumer = PullConsumer(
            Wanted(stream, durable, subject, start, ack_wait, max_ack_pending),
            name=self.name,
            notices=self.notices,
            timeout=timeout,
            deliveries=self._deliveries,
            take=self._take,
            room=self._room,
        )
        self._connection = Connection(
            url,
            name=self.name,
            notices=self.notices,
            timeout=timeout,
            error=SourceError,
            options=options,
            prepare=self._consumer.prepare,
            leave=self._consumer.leave,
        )

    @classmethod
    def of_address(cls, address: str, *, max_line_bytes: int = 1_048_576) -> NatsSource:
        """Return the source of an address: ``nats://user:password@host:4222/STREAM?subject=...&durable=...``.

        Options are those of the class that are text or numbers.

        Raises:
            SourceError: as of the class, or the address says what cannot be.
        """
        known: dict[str, Any] = dict.fromkeys(("subject", "durable", "user_credentials", "token"), str)
        known |= dict.fromkeys(("ack_wait", "timeout"), seconds) | {"max_ack_pending": whole}
        known["start"] = lambda text: int(text) if text.isdecimal() else text
        parsed = parse(address, known, SourceError, login=LOGIN)
        stream = subject_of(parsed, SourceError, "stream")
        return cls(stream, url=parsed.server, max_line_bytes=max_line_bytes, **parsed.options)

    # For the thread that reads

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines as soon as there are any; an empty chunk after `close`."""
        with self._changed:
            self._target = min(max(2 * limit, FEWEST), MOST)
            self._wanted = math.inf
            if not self._ready:
                self._connection.soon(self._consumer.ask)
            while not self._ready and not self._closed:
                self._changed.wait(LOOK_UP)  # with an end, so that Ctrl-C comes through
            if self._closed:
                return Chunk([], source=self.name)
            taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
            self._bytes -= sum(len(payload) for _, payload in taken)
            self._wanted = time.monotonic() + AHEAD
        self._connection.soon(self._consumer.ask)
        return self._chunk(taken)

    def _take(self, message: Message, payload: bytes) -> None:
        with self._changed:
            self._ready.append((message, payload))
            self._bytes += len(payload)
            self._changed.notify()

    def _room(self) -> int:
        with self._changed:
            if self._bytes >= MOST_BYTES // 2 or time.monotonic() > self._wanted:
                return 0
            return self._target - len(self._ready)

    def _chunk(self, taken: Sequence[tuple[Message, bytes]]) -> Chunk:
        messages = [message for message, _ in taken]
        chunk = as_chunk(texts([payload for _, payload in taken], self._max_line_bytes), self.name, self._max_line_bytes)
        chunk.places = Places(messages, [message.number for message in messages])
        return chunk

    # For the run's thread, and the one that saves

    def resume(self, position: Any) -> None:
        """Go on where the source was whose `position` this is: what has passed there is left out."""
        self._deliveries.resume(position)

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        self._deliveries.passed(places.within[places.first : places.first + count])

    def position(self) -> dict[str, Any]:
        """Return what has passed: how many messages; of each stretch of them first and last, a time, and when it ended."""
        return self._deliveries.position()

    def acknowledge(self, position: Any) -> None:
        """Acknowledge what had passed at a `position`; later, if the server is away. Not after `close`."""
        self._deliveries.acknowledge(position)
        with contextlib.suppress(Lost):
            self._connection.run(self._consumer.settle)

    def progress(self) -> None:
        """Return ``None``: how much will come is not known."""
        return None

    def close(self) -> None:
        """Let go of the connection; a `read` that waits ends at once. What is not acknowledged is given back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._connection.close()
