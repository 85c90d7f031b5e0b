"""Outputs as messages of a JetStream stream of NATS."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.addresses import seconds
from streamlab.brokers import parse
from streamlab.brokers.nats import DEFAULT_URL, LOGIN, Connection, Lost, servers_of, subject_of, text_of
from streamlab.errors import Outage, SinkError
from streamlab.notices import Notice
from streamlab.texts import as_bytes, as_text

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

#: Messages that may be on their way without having been acknowledged.
UNDER_WAY = 1000
#: What a message has before its payload, besides its id.
HEADER = len("NATS/1.0\r\nNats-Msg-Id: \r\n\r\n")
#: What JetStream says to a message that is larger than its stream takes; to one that the stream has no room for now.
TOO_LARGE, NO_ROOM = 10054, 10077

#: Positions of outputs, with the reason why they were refused.
Refused = list[tuple[int, BaseException]]


class NatsSink:
    """Publishes a message for each output: text as it is, a dict as compact JSON, other values by ``str``.

    A batch is written when JetStream has acknowledged all of it.

    **At least once, and mostly once.** Each message has an id (``Nats-Msg-Id``): the session, its number in it, and a digest
    of the payload. When a batch is written again after an interruption, or by a run that goes on from a checkpoint, the
    same outputs have the same ids, and JetStream drops what it has already, within the ``duplicate_window`` of the stream
    (2 minutes, if nothing else was said). Outputs that come in another order than before the crash, or later than that, are
    written twice; none is lost.

    A message that is too large for the server or the stream is refused. A server that is away, and a stream that is full
    and takes nothing new, is an `Outage`.

    Args:
        subject: what to publish to; a stream must have it.
        url: of the server: ``nats://user:password@host:4222``, ``tls://`` for TLS; of several servers, by commas.
        timeout: seconds after which a server that does not answer is taken to be away.
        options: more arguments of ``nats.connect``, such as ``user_credentials``, ``tls``, ``token``.

    Attributes:
        notices: what happened to the connection.

    Raises:
        SinkError: the server cannot be reached, or no stream has the subject.
    """

    def __init__(self, subject: str, *, url: str = DEFAULT_URL, timeout: float = 5.0, **options: Any) -> None:
        if not re.fullmatch(r"[^\s.*>]+(\.[^\s.*>]+)*", subject):
            raise SinkError(f"{subject!r} is no subject to publish to: it is words with dots between them, without * and >")
        self.name = f"{servers_of(url, SinkError)[0][0]}/{subject}"
        self.notices: deque[Notice] = deque()
        self._subject = subject
        self._timeout = timeout
        self._session = uuid.uuid4().hex[:16]
        self._count = 0
        self._known = False  # whether there was a stream
        self._connection = Connection(
            url,
            name=self.name,
            notices=self.notices,
            timeout=timeout,
            error=SinkError,
            options=options,
            prepare=self._prepare,
        )

    @classmethod
    def of_address(cls, address: str) -> NatsSink:
        """Return the sink of an address: ``nats://user:password@host:4222/SUBJECT``.

        Options are ``timeout``, ``user_credentials`` and ``token``.

        Raises:
            SinkError: as of the class, or the address says what cannot be.
        """
        known: dict[str, Any] = {"timeout": seconds, "user_credentials": str, "token": str}
        parsed = parse(address, known, SinkError, login=LOGIN)
        return cls(subject_of(parsed, SinkError, "subject"), url=parsed.server, **parsed.options)

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Refused:
        """Publish a batch; return what is too large or could not be made text.

        Raises:
            Outage: the server is away, or the stream is full; some of the batch may be there.
            SinkError: JetStream refuses all of it, as the stream is sealed.
        """
        messages, refused = self._messages(values)
        try:
            if messages:
                refused += self._connection.run(lambda client: self._publish(client, messages))
        except Lost as lost:
            raise Outage(f"{self.name} cannot be written for now: {lost}", waits=True) from lost
        self._count += len(values)
        return sorted(refused, key=lambda refusal: refusal[0])

    def begin(self) -> None:
        """Begin after what is there."""

    def mark(self) -> Any:
        """Return by what the ids of the next messages are made."""
        return {"session": self._session, "count": self._count}

    def sync(self) -> None:
        """Do nothing: what JetStream has acknowledged it has stored."""

    def resume(self, mark: Any, *, ended: bool = False) -> None:
        """Go on with the ids of an earlier sink, so that JetStream drops what that has written after the `mark`."""
        self._session, self._count = mark["session"], mark["count"]

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _messages(self, values: Sequence[Any]) -> tuple[list[tuple[int, bytes, str]], Refused]:
        """Return position, payload and id of each message, and what has none."""
        messages: list[tuple[int, bytes, str]] = []
        refused: Refused = []
        for position, value in enumerate(values):
            try:
                payload = as_bytes(as_text(value))
            except Exception as error:  # the value's own code
                refused.append((position, error))
            else:
                digest = hashlib.blake2b(payload, digest_size=8).hexdigest()
                messages.append((position, payload, f"{self._session}:{self._count + position}:{digest}"))
        return messages, refused

    async def _prepare(self, connection: Connection, client: Client) -> None:
        """Begin with a new connection; see that there is a stream, if it is the first one.

        Raises:
            SinkError: there is none.
        """
        import nats.errors
        from nats.js.errors import NotFoundError, ServiceUnavailableError

        self._inbox = client.new_inbox()
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        if self._known:
            return
        try:
            await client.jetstream(timeout=self._timeout).find_stream_name_by_subject(self._subject)
        except NotFoundError:
            raise SinkError(f"{self.name}: {_no_stream(self._subject)}") from None
        except ServiceUnavailableError:
            raise SinkError(f"{self.name}: the server has no JetStream; start it with nats-server -js") from None
        except nats.errors.TimeoutError:
            pass  # who may only publish gets no answer
        self._known = True

    async def _answered(self, msg: Msg) -> None:
        waiting = self._answers.pop(msg.subject, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(msg)

    async def _publish(self, client: Client, messages: list[tuple[int, bytes, str]]) -> Refused:
        refused: Refused = []
        for start in range(0, len(messages), UNDER_WAY):
            sent: dict[asyncio.Future[Msg], int] = {}
            for position, payload, id in messages[start : start + UNDER_WAY]:
                size = len(payload) + len(id) + HEADER
                if size > client.max_payload:
                    most = f"{self.name} takes at most {client.max_payload:,} (max_payload)"
                    refused.append((position, ValueError(f"it has {size:,} bytes with its header, and {most}")))
                else:
                    sent[await self._send(client, payload, id)] = position
            await self._until_answered(client, sent)
            for future, position in sent.items():
                if problem := self._problem(future.result()):
                    refused.append((position, problem))
        return refused

    async def _send(self, client: Client, payload: bytes, id: str) -> asyncio.Future[Msg]:
        """Publish a message; return what will be the answer. The library's way waits for ever for one that says no."""
        import nats.errors

        reply = f"{self._inbox}.{id}"
        waiting = self._answers[reply] = asyncio.get_running_loop().create_future()
        try:
            await client.publish(self._subject, payload, reply=reply, headers={"Nats-Msg-Id": id})
        except nats.errors.Error as problem:
            raise Lost(text_of(problem)) from problem
        return waiting

    async def _until_answered(self, client: Client, sent: Iterable[asyncio.Future[Msg]]) -> None:
        waiting = set(sent)
        while waiting:
            before = len(waiting)
            _, waiting = await asyncio.wait(waiting, timeout=self._timeout)
            if len(waiting) == before:
                self._connection.drop(client, "no answer came to what was published")
                raise Lost("no answer came to what was published")

    def _problem(self, answer: Msg) -> Exception | None:
        """Return why a message was refused for good, if it was.

        Raises:
            Lost: it was refused for now.
            SinkError: it was, and so will be all others.
        """
        if (answer.headers or {}).get("Status") == "503":
            raise Lost(_no_stream(self._subject))
        error = json.loads(answer.data).get("error")
        if not error:
            return None
        code, number, text = error.get("code", 0), error.get("err_code"), error.get("description", "it was refused")
        if number == TOO_LARGE:
            return ValueError(text)
        if number != NO_ROOM and 400 <= code < 500:
            raise SinkError(f"{self.name} cannot be written: {text}")
        raise Lost(text)


def _no_stream(subject: str) -> str:
    return f"no stream has the subject {subject}; make one: nats stream add NAME --subjects={subject}"
