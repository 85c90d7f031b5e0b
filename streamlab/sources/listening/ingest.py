"""Lines that are sent as bodies of HTTP requests: the application, which knows no socket and no thread.

As with the dashboard, a page of another site that is open in the user's browser must not get at it: a request has to use a
name of this server, must not come from another site and, as it writes, has to have the token.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import deque
from collections.abc import Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from streamlab.batch import Chunk, Rejected
from streamlab.sources.lines import LineSplitter
from streamlab.sources.listening.bodies import ENCODINGS, Gone, Incoming, Refused, too_long
from streamlab.sources.listening.buffer import Buffer, size_of

#: Names of this machine that clients give in ``Host``.
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
#: What bodies can be.
TYPES = ("text/plain", "application/x-ndjson")
#: Seconds after which to try again.
RETRY = {"Retry-After": "1"}
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]+)', re.IGNORECASE)
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be sent by whom.

    Attributes:
        path: where to.
        token: what requests must know; ``None`` for none.
        names: allowed in ``Host`` beside `LOCAL_NAMES`; ``*`` is the address that a request came in at.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``.
        max_body_bytes: how long a body may be, unpacked.
        read_timeout: seconds that a body has.
        full_timeout: seconds that it waits for room in the buffer.
        ack_timeout: seconds that it waits until its lines are safe; ``None`` if it does not.
    """

    path: str
    token: str | None
    names: Collection[str]
    max_line_bytes: int
    max_body_bytes: int
    read_timeout: float
    full_timeout: float
    ack_timeout: float | None


@dataclass(slots=True)
class _Body:
    """What has come of a body.

    Attributes:
        lines: those that are held back until all have come, so that all of them or none are taken.
        rejected: which of those must not enter the pipeline.
        size: how many bytes they have.
        accepted: how many lines have been taken.
        last: number of the last of them.
    """

    lines: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    size: int = 0
    accepted: int = 0
    last: int = 0


class Ingest:
    """The ASGI application that puts the lines of bodies into a buffer.

    The lines of one body are held back until all have come, and are put into the buffer together, when there is room for
    all. What is held back by all bodies together is bounded as the buffer is. Only a body that is larger than the whole
    buffer is taken in parts.

    Attributes:
        safe: which lines are safe, see `Acknowledgements`.
    """

    def __init__(self, buffer: Buffer, rules: Rules) -> None:
        self.safe = Acknowledgements()
        self._buffer = buffer
        self._rules = rules
        self._names = {name.lower() for name in (*LOCAL_NAMES, *rules.names)} - {"", "*"}
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._asked = False  # whether the buffer will tell when there is room
        self._lines = self._size = 0  # held back by all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers, body = Headers(scope=scope), _Body()
        incoming = Incoming(receive, headers)
        try:
            self._check(scope, headers)
            answer = await self._take(incoming, body)
        except Refused as refused:
            answer = await self._refusal(refused, body)
        except Gone:
            return
        await incoming.drain()
        if not incoming.ended:
            answer.headers["Connection"] = "close"
        await answer(scope, receive, send)

    def end(self) -> None:
        """Have all answered who wait."""
        self.safe.end()

    # What may be sent

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Refuse what must not be taken, by what stands before the body."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(_name(hosts[0]), scope):
            raise Refused(400, "this is not a name of this server: use localhost, or allow the name (names=)")
        origin = headers.get("origin")
        foreign = origin is not None and _authority(origin) != hosts[0].lower()
        if foreign or headers.get("sec-fetch-site", "").lower() == "cross-site":
            raise Refused(403, "a page of another site asked for this, and none may")
        if not self._is_admitted(headers):
            what = "send the token of this server as Authorization: Bearer"
            raise Refused(401, what, {"WWW-Authenticate": "Bearer"})
        if scope["path"] != self._rules.path:
            raise Refused(404, f"nothing is here: send lines to {self._rules.path}")
        if scope["method"] != "POST":
            raise Refused(405, "lines can only be sent here: use POST", {"Allow": "POST"})
        self._check_body(headers)

    def _check_body(self, headers: Headers) -> None:
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            raise Refused(411, "there is no body: give its Content-Length, or send it chunked")
        if length is not None and int(length) > self._rules.max_body_bytes:
            raise too_long(self._rules.max_body_bytes)
        kind = headers.get("content-type", "text/plain")
        if kind.partition(";")[0].strip().lower() not in TYPES:
            raise Refused(415, f"the body is of type {kind!r}: send lines, as {' or '.join(TYPES)}")
        charset = _CHARSET.search(kind)
        if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
            raise Refused(415, f"the body is encoded as {charset[1]!r}: send it as UTF-8")
        if headers.get("content-encoding", "").lower() not in ENCODINGS:
            raise Refused(
                415, "the body is packed in a way that is not known: use gzip, or nothing", {"Accept-Encoding": "gzip"}
            )

    def _knows(self, name: str, scope: Scope) -> bool:
        """Tell whether a name is this server's."""
        if name in self._names:
            return True
        server = scope.get("server")
        # of an IPv4 address, a socket for both kinds tells as of an IPv6 one
        here = None if server is None else str(server[0]).removeprefix("::ffff:")
        return "*" in self._rules.names and name.strip("[]") == here

    def _is_admitted(self, headers: Headers) -> bool:
        if self._rules.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = self._rules.token.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given.strip().encode("latin-1"), known) and scheme.lower() == "bearer"

    # What becomes of it

    async def _take(self, incoming: Incoming, body: _Body) -> JSONResponse:
        """Take the lines of a body, and return the answer."""
        rules, splitter = self._rules, LineSplitter(self._rules.max_line_bytes)
        pieces = incoming.pieces(max_bytes=rules.max_body_bytes, timeout=rules.read_timeout)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await self._hold(body, splitter.feed(piece))
            await self._hold(body, splitter.finish())
            await self._put(body, Chunk(body.lines, body.rejected), whole=True)
        finally:
            self._lines -= len(body.lines)
            self._size -= body.size
            body.lines = []
        await self._confirm(body)
        return _answer(202, body.accepted)

    async def _hold(self, body: _Body, chunk: Chunk) -> None:
        """Hold lines back; if the body is larger than the buffer, take what has come of it."""
        buffer, count, size = self._buffer, len(chunk.lines), sum(map(size_of, chunk.lines))
        if body.accepted or len(body.lines) + count > buffer.max_lines or body.size + size > buffer.max_bytes:
            held = Chunk(body.lines, body.rejected)
            self._lines -= len(body.lines)
            self._size -= body.size
            body.lines, body.rejected, body.size = [], [], 0
            await self._put(body, held, whole=False)
            await self._put(body, chunk, whole=False)
            return
        if self._lines + count > buffer.max_lines or self._size + size > buffer.max_bytes:
            raise Refused(429, "too much is being sent at once: send it again later", RETRY)
        body.rejected += [mark._replace(position=mark.position + len(body.lines)) for mark in chunk.rejected]
        body.lines += chunk.lines
        body.size += size
        self._lines += count
        self._size += size

    async def _put(self, body: _Body, chunk: Chunk, *, whole: bool) -> None:
        """Put lines into the buffer, when there is room; each is counted as soon as it is there."""
        while chunk.lines:
            taken = await self._place(chunk, whole=whole)
            body.accepted += taken
            body.last = self._buffer.received  # nobody else puts lines there
            chunk = chunk.split(taken)[1]

    async def _place(self, chunk: Chunk, *, whole: bool) -> int:
        try:
            async with asyncio.timeout(self._rules.full_timeout), self._turn:
                while not (taken := self._buffer.offer(chunk, whole=whole)):
                    if self._buffer.ended:
                        raise Refused(503, "no more lines are taken, as the run is ending: send it again later", RETRY)
                    if self._asked:
                        await self._room.wait()
                    self._room.clear()
                    self._ask()
                return taken
        except TimeoutError:
            text = "lines come faster than they are worked on: send those that were not accepted again later"
            raise Refused(429, text, RETRY) from None

    def _ask(self) -> None:
        """See to it that there being room again is noticed."""
        if not self._asked:
            self._asked = True
            self._buffer.when_room(partial(self._call, asyncio.get_running_loop()))

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(self._answered)

    def _answered(self) -> None:
        self._asked = False
        self._room.set()

    async def _confirm(self, body: _Body) -> None:
        """Wait until the lines that were taken are safe, if that is asked for."""
        if self._rules.ack_timeout is None or not body.accepted:
            return
        try:
            async with asyncio.timeout(self._rules.ack_timeout):
                known = await self.safe.wait(body.last)
        except TimeoutError:
            known = False
        if not known:
            body.accepted = 0
            raise Refused(503, "the lines came, but it is not known that they are safe: send them again", RETRY)

    async def _refusal(self, refused: Refused, body: _Body) -> JSONResponse:
        """Return the answer to a request that is not accepted as a whole; of what was taken it tells when that is safe."""
        try:
            await self._confirm(body)
        except Refused as unknown:
            refused = unknown
        answer = _answer(refused.status, body.accepted, refused.text)
        answer.headers.update(refused.headers)
        return answer


class Acknowledgements:
    """Which lines are safe, and who waits for that; used in one event loop."""

    def __init__(self) -> None:
        self._upto = 0
        self._waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()

    async def wait(self, last: int) -> bool:
        """Return whether all lines up to a number are safe, as soon as that is known."""
        if last <= self._upto:
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((last, future))
        return await future

    def reach(self, upto: int) -> None:
        """Take note that all lines up to a number are safe."""
        self._upto = max(self._upto, upto)
        while self._waiting and self._waiting[0][0] <= self._upto:
            self._answer(True)

    def end(self) -> None:
        """Take note that no more will be known."""
        while self._waiting:
            self._answer(False)

    def _answer(self, known: bool) -> None:
        _, future = self._waiting.popleft()
        if not future.done():  # it may have waited too long
            future.set_result(known)


def _answer(status: int, accepted: int, error: str | None = None) -> JSONResponse:
    content = {"accepted": accepted} if error is None else {"accepted": accepted, "error": error}
    return JSONResponse(content, status, dict(_HEADERS))


def _name(host: str) -> str:
    """Return a ``Host`` without its port; of what is not one, what no allowed name is equal to.

    >>> _name("LocalHost:8000"), _name("[::1]:8000"), _name("localhost:8000@evil.example")
    ('localhost', '[::1]', 'localhost:8000@evil.example')
    """
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isascii() and port.isdigit() else host).lower()


def _authority(origin: str) -> str:
    """Return host and port of an ``Origin``; of ``null`` and other nonsense ``""``."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
