"""Lines that are sent by HTTP: each request has some as its body."""

from __future__ import annotations

import os
import secrets
import socket
from collections import deque
from collections.abc import Collection
from functools import partial
from types import ModuleType
from typing import Any, Literal

from streamlab.addresses import seconds, truth, whole
from streamlab.batch import Chunk, Places
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.listening.background import Background
from streamlab.sources.listening.buffer import Buffer
from streamlab.sources.listening.sockets import bind, check_positive, in_url, is_loopback, parsed

#: Where to listen when nothing is said.
PORT = 8080
#: The variable of the environment that has the token of an address.
TOKEN_VARIABLE = "STREAMLAB_INGEST_TOKEN"


def _no_token(text: str) -> Literal[False]:
    if text != "false":
        raise ValueError(f"what is in an address can be seen by others: put the token into {TOKEN_VARIABLE}")
    return False


#: Options in an address, and what makes a value of their text.
_OPTIONS: dict[str, Any] = {
    "token": _no_token,
    "when_full": str,
    "full_timeout": seconds,
    "ack": truth,
    "ack_timeout": seconds,
    "names": lambda text: text.split(","),
    "max_body_bytes": whole,
    "buffer_lines": whole,
    "buffer_bytes": whole,
    "max_connections": whole,
    "read_timeout": seconds,
}


class HttpSource:
    r"""The lines of the bodies that are sent to an address with POST, from the moment the source is made.

    A body is ``text/plain`` or ``application/x-ndjson``, in UTF-8, packed with gzip if its ``Content-Encoding`` says so:
    lines that end with ``\n``, and perhaps a last one that does not. The answer is 202 with ``{"accepted": 3}``, the number
    of lines that were taken, all of the body's; or another one with an ``error`` beside it, that says what to do.

    **All or nothing.** Lines of a body are taken when all of it has come and there is room for all, so a client that gets
    any other answer, or none, has to send all of it again. Only a body that is larger than the whole buffer is taken in
    parts: then ``accepted`` says how many lines, from the first on, a client has to leave out when it sends the rest.

    **What is promised: best effort; with ``ack``, at least once.** Without ``ack``, lines are answered for when they are in
    the buffer, and lost if the program ends by force before they are read. With it, they are answered for when the sink has
    what came of them and, of a run with a checkpoint, when that is on disk. That takes a second or so; a client that sends
    again what it got no 202 for loses nothing, but lines may come twice.

    **Who may send.** Whoever sends lines writes into the run: so a token is needed, always, and is sent as ``Authorization:
    Bearer``; it is not encrypted on its way, so for other machines put a server with TLS in front. Requests have to use a
    name of this server, and must not come from a page of another site.

    Args:
        host: where to listen: an address or name of this machine; ``0.0.0.0`` or ``::`` for all of its addresses.
        port: 0 is any that is free.
        path: where lines are to be sent.
        token: what requests must know; ``False`` if everybody on this machine may send, on a loopback host only.
        when_full: what a request does for which there is no room: ``"block"``: it waits for ``full_timeout`` seconds, then
            it is refused (429); ``"refuse"``: at once.
        full_timeout: seconds that a request waits for room.
        ack: answer only when lines are safe.
        ack_timeout: seconds that a request waits for that; then the answer is 503.
        names: what clients may call this server in ``Host``, beside localhost and ``host``.
        max_line_bytes: a longer line is cut there and rejected as ``oversize``; it counts as accepted.
        max_body_bytes: how long a body may be, unpacked.
        buffer_lines: how many lines are held until they are read.
        buffer_bytes: how many bytes.
        max_connections: how many clients there may be at a time; others are refused, and that is said.
        read_timeout: seconds in which a request has to begin, and its body has to come, or at least 1 KiB a second of it.

    Attributes:
        port: the port it listens on.
        name: its address, such as ``http://127.0.0.1:8080/ingest``; the `Chunk.source` of its lines.
        blocking: always true.
        notices: what was lost, and which clients were turned away.

    Raises:
        SourceError: there is no token, the port is taken, the host is not this machine, an argument is wrong, or a package
            is missing.

    >>> from urllib.request import Request, urlopen
    >>> source = HttpSource(port=0, token="secret")
    >>> headers = {"Authorization": "Bearer secret", "Content-Type": "text/plain"}
    >>> urlopen(Request(source.name, b"info: a\nwarn: b\n", headers)).read()
    b'{"accepted":2}'
    >>> source.read(10).lines
    ['info: a', 'warn: b']
    >>> source.close()
    """

    kind = "HTTP"
    blocking = True

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        path: str = "/",
        token: str | Literal[False] | None = None,
        when_full: Literal["block", "refuse"] = "block",
        full_timeout: float = 5.0,
        ack: bool = False,
        ack_timeout: float = 60.0,
        names: Collection[str] = (),
        max_line_bytes: int = 1_048_576,
        max_body_bytes: int = 16_777_216,
        buffer_lines: int = 250_000,
        buffer_bytes: int = 67_108_864,
        max_connections: int = 128,
        read_timeout: float = 20.0,
    ) -> None:
        _check_token(token, host)
        if when_full not in ("block", "refuse"):
            raise SourceError(f"when_full={when_full!r}: use 'block' or 'refuse'")
        if not path.startswith("/"):
            raise SourceError(f"path={path!r}: it must begin with /")
        check_positive(
            full_timeout=full_timeout,
            ack_timeout=ack_timeout,
            max_line_bytes=max_line_bytes,
            max_body_bytes=max_body_bytes,
            max_connections=max_connections,
            read_timeout=read_timeout,
        )
        ingest, serving = _modules()
        self.notices: deque[Notice] = deque()
        self._buffer = Buffer("", self.notices, max_lines=buffer_lines, max_bytes=buffer_bytes)
        self._ack = ack
        self._begun = 0  # number of the first line of this source, if it goes on with another one
        self._read = self._passed = 0
        self._error: BaseException | None = None
        rules = ingest.Rules(
            path=path,
            token=token or None,
            names=(*_names(host), *((names,) if isinstance(names, str) else names)),
            max_line_bytes=max_line_bytes,
            max_body_bytes=max_body_bytes,
            read_timeout=read_timeout,
            full_timeout=full_timeout if when_full == "block" else 0.0,
            ack_timeout=ack_timeout if ack else None,
        )
        sock = bind(host, port, socket.SOCK_STREAM)
        self.port: int = sock.getsockname()[1]
        self.name = self._buffer.where = f"http://{in_url(host)}:{self.port}{path}"
        self._ingest = ingest.Ingest(self._buffer, rules)
        receiver = serving.HttpReceiver(
            sock,
            self._ingest,
            self._ingest.end,
            partial(self._refused, max_connections),
            max_connections=max_connections,
            head_timeout=read_timeout,
        )
        self._background = Background(f"streamlab-http-{self.port}", receiver.receive, self._ended)

    @classmethod
    def of_address(cls, address: str, *, max_line_bytes: int) -> HttpSource:
        """Return the source that an address stands for: ``http://127.0.0.1:8080/ingest``.

        Options of `HttpSource` follow a question mark: ``?when_full=refuse&ack=true``. The token is what the variable
        ``STREAMLAB_INGEST_TOKEN`` of the environment says, never part of the address; ``?token=false`` is for none.

        Raises:
            SourceError: it is no such address, or as of `HttpSource`.
        """
        found = parsed(address, _OPTIONS, port=PORT)
        if found.scheme != "http":
            raise SourceError(f"{found.scheme}:// is no address to listen on: use http://HOST:PORT/PATH")
        options = {"token": os.environ.get(TOKEN_VARIABLE)} | found.options
        source = cls(found.host, found.port, path=found.path or "/", max_line_bytes=max_line_bytes, **options)
        source.notices.append(Notice("listening", source.name, f"listening at {source.name}"))
        return source

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines as soon as there are any; an empty chunk after the last ones.

        Raises:
            SourceError: nothing can be received any more.
        """
        chunk = self._buffer.take(limit)
        if not chunk.lines and self._error is not None:
            raise SourceError(f"{self.name} receives nothing any more: {self._error}") from self._error
        first = self._begun + self._read
        self._read += len(chunk.lines)
        if self._ack:
            chunk.places = Places(self.name, range(first, first + len(chunk.lines) + 1))
        return chunk

    def progress(self) -> None:
        """Return ``None``: how much will come is not known."""
        return None

    def resume(self, position: Any) -> None:
        """Go on with the numbers of lines; what was not answered for is sent again by those who sent it."""
        self._begun = self._passed = position

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        self._passed = places.start(count)

    def position(self) -> int:
        """Return how many lines are through, counted from the first run that this one goes on with."""
        return self._passed

    def acknowledge(self, position: Any) -> None:
        """Answer for the lines that were through at a position."""
        self._background.call(partial(self._ingest.safe.reach, position - self._begun))

    def stop_receiving(self) -> None:
        """Take in no more lines, and say so to who sends some; `read` gives those that were taken and comes to an end."""
        self._buffer.end()

    def close(self) -> None:
        """Answer those who wait, and serve no more; lines that were not read are lost. More than once is fine."""
        self._buffer.end()
        self._background.close()
        self._buffer.close()

    def _refused(self, max_connections: int, count: int) -> None:
        message = f"a connection was refused, as {max_connections} are open (max_connections)"
        self.notices.append(Notice("disconnected", self.name, message, count=count))

    def _ended(self, error: BaseException | None) -> None:
        self._error = error
        self._buffer.end()


def _check_token(token: str | Literal[False] | None, host: str) -> None:
    """Refuse to take lines from whoever can reach the port.

    Raises:
        SourceError: there is no token, and either that was not asked for or the host is not loopback.
    """
    if token is False and is_loopback(host):
        return
    if isinstance(token, str) and token.strip():
        return
    why = f"host {host!r} can be reached by other machines" if token is False else "whoever sends lines writes into the run"
    but = "" if not is_loopback(host) else "; or token=False, and everybody on this machine may send"
    raise SourceError(
        f"{why}, and that needs a token: give one that cannot be guessed (token=, or {TOKEN_VARIABLE} for an address),"
        f" such as {secrets.token_urlsafe(16)}{but}"
    )


def _modules() -> tuple[ModuleType, ModuleType]:
    """Return the application and the server, whose packages not everybody has.

    Raises:
        SourceError: one is missing.
    """
    try:
        from streamlab.sources.listening import ingest, serving
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("streamlab"):
            raise
        what = "pip install 'streamlab[dashboard]'"
        raise SourceError(f"lines by HTTP need Starlette and uvicorn ({error}): {what}") from error
    return ingest, serving


def _names(host: str) -> tuple[str, ...]:
    """Return what a server on a host may be called beside localhost: ``*`` is the address that a request came in at."""
    return ("*", socket.gethostname()) if host in ("0.0.0.0", "::") else (in_url(host),)
