"""A pull consumer of a JetStream stream: what is asked of the server; it lives in the event loop of its connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from streamlab.brokers.nats import Connection, Lost, text_of
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.consuming.deliveries import Deliveries, Message

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext
    from nats.js.api import ConsumerConfig

#: Seconds that a request for messages lasts: what comes then goes to who asked, though others may have the time for it.
EXPIRES = 1.0
#: Bytes that one request may bring, if the server's largest message is smaller.
BYTES = 8 * 1024 * 1024
#: Messages that one request may bring.
BATCH = 32_768
#: Messages that are acknowledged at a time.
ACKNOWLEDGED = 4096
#: Seconds between two looks at what is under way.
TICK = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The consumer that is wanted.

    Attributes:
        stream: name of the stream.
        durable: name of the consumer.
        subject: which subjects of the stream; ``None`` for all.
        start: where it begins, if it has to be made: a policy of JetStream, or a number of a message.
        ack_wait: seconds, likewise.
        max_ack_pending: messages, likewise.
    """

    stream: str
    durable: str
    subject: str | None
    start: str | int
    ack_wait: float
    max_ack_pending: int


class PullConsumer:
    """Pulls messages, says of those under way that they are, and acknowledges them.

    Args:
        wanted: which consumer.
        name: whose it is, for messages.
        notices: where to put what happens.
        timeout: seconds that the server has for an answer.
        deliveries: the messages that were delivered.
        take: is called with each message that is to be read, and its payload.
        room: tells for how many there is room.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        name: str,
        notices: deque[Notice],
        timeout: float,
        deliveries: Deliveries,
        take: Callable[[Message, bytes], None],
        room: Callable[[], int],
    ) -> None:
        self._wanted = wanted
        self._name = name
        self._notices = notices
        self._timeout = timeout
        self._deliveries = deliveries
        self._take = take
        self._room = room
        self._ack_wait = wanted.ack_wait
        self._created: datetime | None = None  # when the stream was
        self._last = 0  # number of the last message that came for the first time
        self._most = BATCH
        self._leaving = False
        self._again = False  # whether a message came again that had passed
        self._settling = asyncio.Lock()

    async def prepare(self, connection: Connection, client: Client) -> None:
        """Begin with a new connection.

        Raises:
            SourceError: the stream is not there, or the consumer is not as it must be.
        """
        self._connection, self._client = connection, client
        config = await self._consumer(client.jetstream(timeout=self._timeout))
        self._ack_wait = config.ack_wait or self._ack_wait
        self._asked = 0  # messages that were asked for and have not come
        self._asked_at = 0.0
        self._delivery = 0  # number of the last delivery
        self._fresh: int | None = None  # the last message that was new, if nobody else had a delivery since
        self._inbox = client.new_inbox()
        await client.subscribe(self._inbox, cb=self._arrived)
        connection.do(client, self._keep(client))
        self.ask()

    async def leave(self, client: Client) -> None:
        """Give back what is not acknowledged, so that it comes again at once, to whoever asks."""
        self._leaving = True
        if self._deliveries.lowest() is None:
            return
        while self._asked:  # else the server would send them to who asks no more
            await asyncio.sleep(0.02)
        for token in self._deliveries.tokens():
            await client.publish(token, b"-NAK")
        await client.flush()

    def ask(self) -> None:
        """Ask for as many messages as there is room for, if that is worth it."""
        if self._leaving or not self._client.is_connected:
            return
        room = self._room()
        count = min(room - self._asked, self._most)
        if count > 0 and count * 2 >= min(room, self._most):
            self._asked += count
            self._asked_at = time.monotonic()
            self._connection.do(self._client, self._request(self._client, count))

    async def settle(self, client: Client) -> None:
        """Acknowledge what is to be, and wait until the server knows.

        Raises:
            Lost: it may not know.
        """
        import nats.errors

        async with self._settling:
            while tokens := self._deliveries.due(ACKNOWLEDGED):
                try:
                    for token in tokens[:-1]:
                        await client.publish(token, b"")
                    await client.request(tokens[-1], b"", timeout=self._timeout)
                except nats.errors.Error as problem:
                    raise Lost(text_of(problem)) from problem
                self._deliveries.settled(len(tokens))

    async def _request(self, client: Client, count: int) -> None:
        request = {"batch": count, "expires": int(EXPIRES * 1e9), "max_bytes": max(BYTES, 2 * client.max_payload)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._wanted.stream}.{self._wanted.durable}"
        await client.publish(subject, json.dumps(request).encode(), reply=self._inbox)

    async def _arrived(self, msg: Msg) -> None:
        if msg.subject == self._inbox:
            self._ended(msg.headers or {})
            return
        self._asked = max(self._asked - 1, 0)
        about = msg.metadata
        number, delivery, fresh = about.sequence.stream, about.sequence.consumer, about.num_delivered == 1
        if delivery != self._delivery + 1:
            self._fresh = None
        before = self._fresh if fresh else None
        self._delivery = delivery
        if fresh:
            self._fresh = self._last = number
        stamp = int(about.timestamp.timestamp() * 1e6)
        message = Message(number, msg.reply, stamp, before, time.monotonic())
        what = self._deliveries.take(message)
        if what == "new":
            self._take(message, msg.data)
        else:  # nobody reads it and asks for another one: a server that forgot what was acknowledged may have many such
            self.ask()
        self._again = self._again or what == "passed"

    def _ended(self, headers: dict[str, str]) -> None:
        """Take note that a request has ended, and why."""
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return
        self._asked = max(self._asked - int(headers.get("Nats-Pending-Messages", self._asked)), 0)
        if "Consumer Deleted" in description or "consumer not found" in description.lower():
            self._connection.drop(self._client, f"the consumer {self._wanted.durable!r} was removed")
        elif "MaxRequestBatch" in description:
            self._most = max(self._most // 2, 1)
            self.ask()
        elif status in ("404", "408") or "MaxBytes" in description:
            self.ask()
        # else it is asked again at the next tick: another answer is not to be expected sooner

    async def _keep(self, client: Client) -> None:
        """Say of what is under way that it is, and see to it that requests are answered."""
        while True:
            await asyncio.sleep(min(TICK, self._ack_wait / 6))
            for token in self._deliveries.touch(time.monotonic(), self._ack_wait / 3):
                await client.publish(token, b"+WPI")
            if self._again:
                self._again = False
                try:
                    await self.settle(client)
                except Lost:
                    self._again = True
            if self._asked and time.monotonic() - self._asked_at > EXPIRES + self._timeout:
                await client.jetstream(timeout=self._timeout).consumer_info(self._wanted.stream, self._wanted.durable)
                self._asked = 0  # the end of a request was lost: it is long over
            self.ask()

    async def _consumer(self, jetstream: JetStreamContext) -> ConsumerConfig:
        """Return how the consumer is configured; make it, if it is not there."""
        from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

        wanted = self._wanted
        try:
            stream = await jetstream.stream_info(wanted.stream)
        except NotFoundError:
            hint = f"make it: nats stream add {wanted.stream} --subjects=..."
            raise SourceError(f"{self._name}: there is no stream {wanted.stream!r}; {hint}") from None
        except ServiceUnavailableError:
            raise SourceError(f"{self._name}: the server has no JetStream; start it with nats-server -js") from None
        created: Any = stream.created
        before, self._created = self._created, created
        if before not in (None, created):
            self._deliveries.forget()
            self._last = 0
        try:
            return self._checked((await jetstream.consumer_info(wanted.stream, wanted.durable)).config)
        except NotFoundError:
            pass
        try:
            made = await jetstream.add_consumer(wanted.stream, self._new(again=before is not None))
        except APIError as problem:
            raise SourceError(
                f"{self._name}: the consumer {wanted.durable!r} cannot be made: {problem.description}"
            ) from problem
        if before is not None:
            text = f"{self._name}: the consumer {wanted.durable!r} was gone; it was made again, and goes on with what comes"
            self._notices.append(Notice("vanished", self._name, text))
        return made.config

    def _new(self, *, again: bool) -> ConsumerConfig:
        """Return the configuration of a consumer that is to be made, perhaps in place of one that was lost."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        wanted = self._wanted
        start = wanted.start
        if again:
            lowest = self._deliveries.lowest()
            start = lowest if lowest is not None else self._last + 1
        policy = DeliverPolicy.BY_START_SEQUENCE if isinstance(start, int) else DeliverPolicy(start)
        return ConsumerConfig(
            durable_name=wanted.durable,
            deliver_policy=policy,
            opt_start_seq=max(start, 1) if isinstance(start, int) else None,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=wanted.ack_wait,
            max_ack_pending=wanted.max_ack_pending,
            filter_subject=wanted.subject,
        )

    def _checked(self, config: ConsumerConfig) -> ConsumerConfig:
        wanted = self._wanted
        subjects = config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])
        if config.deliver_subject:
            wrong = "pushes messages, and here they are pulled"
        elif config.ack_policy != "explicit":
            wrong = f"has the acknowledgement policy {config.ack_policy!s}, and must have 'explicit'"
        elif wanted.subject is not None and subjects != [wanted.subject]:
            wrong = f"has the subjects {', '.join(subjects) or '>'}, not {wanted.subject}"
        else:
            return config
        hint = f"give another name, or remove it: nats consumer rm {wanted.stream} {wanted.durable}"
        raise SourceError(f"{self._name}: the consumer {wanted.durable!r} is there already and {wrong}; {hint}")
