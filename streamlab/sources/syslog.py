"""Syslog: messages that are sent to a port, over TCP or UDP."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from functools import partial
from typing import Any, Literal

from streamlab.addresses import seconds, whole
from streamlab.batch import Chunk
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.listening.background import Background
from streamlab.sources.listening.buffer import Buffer, WhenFull
from streamlab.sources.listening.framing import FRAMINGS, Framer, Framing
from streamlab.sources.listening.sockets import bind, check_positive, in_url, parsed
from streamlab.sources.listening.tcp import TcpReceiver
from streamlab.sources.listening.udp import UdpReceiver

#: Where to listen when nothing is said. The port that syslog has, 514, is for the system's administrator alone.
PORT = 5514

#: Options in an address, and what makes a value of their text.
_OPTIONS: dict[str, Any] = {
    "when_full": str,
    "framing": str,
    "buffer_lines": whole,
    "buffer_bytes": whole,
    "max_connections": whole,
    "idle_timeout": seconds,
}


class SyslogSource:
    """The messages that are sent to a port, from the moment the source is made: each is a line, as it comes.

    To take them apart is for the built-in processor `streamlab.processors.parse_syslog`.

    Over TCP, messages are told apart as RFC 6587 has it: counted or ended by a newline (or NUL), each as it is. A connection
    that ends in the middle of a message has sent one. Over UDP, each datagram is a message (RFC 5426), without the newlines
    and NULs at its end.

    **What is promised: best effort.** Syslog has no receipts: what has been sent and not been read when the program ends
    is lost, and no run can go on with it (lines have no `Chunk.places`). What is known to be lost is in `notices`. Nor
    does syslog know passwords: who can reach the port can send. That is only this machine, unless another ``host`` is
    asked for; over TCP, an ``ssl_context`` can ask senders for certificates.

    Args:
        host: where to listen: an address or name of this machine; ``0.0.0.0`` or ``::`` for all of its addresses.
        port: 0 is any that is free.
        transport: ``"tcp"`` or ``"udp"``.
        when_full: what happens when more has come than is read: ``"block"``: senders wait, over TCP; over UDP, the system
            holds some, and loses the rest. ``"drop_newest"`` and ``"drop_oldest"``: that is dropped, and said.
        framing: over TCP, ``"newline"`` if a number at the beginning of a message never says how many bytes it has.
        max_line_bytes: a longer message is cut there and rejected as ``oversize``.
        buffer_lines: how many messages are held until they are read.
        buffer_bytes: how many bytes.
        max_connections: how many senders there may be over TCP; others are refused, and that is said.
        idle_timeout: seconds without a word after which a connection is closed. Whoever has vanished without a word is
            found out after two minutes in any case.
        ssl_context: for TLS over TCP: made with `ssl.create_default_context` for ``ssl.Purpose.CLIENT_AUTH``. Its
            ``num_tickets`` are set to 0: a sender of syslog never reads them, and what it sent last could be lost by that.

    Attributes:
        port: the port it listens on.
        name: its address, such as ``syslog+tcp://127.0.0.1:5514``; the `Chunk.source` of its lines.
        blocking: always true.
        notices: what was lost, and which senders were turned away.

    Raises:
        SourceError: the port is taken, the host is not this machine, or an argument is wrong.

    >>> source = SyslogSource(port=0)
    >>> with socket.create_connection(("127.0.0.1", source.port)) as sender:
    ...     sender.sendall(b"<34>Oct 11 22:14:15 mine su: failed\\n")
    >>> source.read(10).lines
    ['<34>Oct 11 22:14:15 mine su: failed']
    >>> source.close()
    """

    kind = "syslog"
    blocking = True

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        transport: Literal["tcp", "udp"] = "tcp",
        when_full: WhenFull = "block",
        framing: Framing = "auto",
        max_line_bytes: int = 1_048_576,
        buffer_lines: int = 100_000,
        buffer_bytes: int = 67_108_864,
        max_connections: int = 256,
        idle_timeout: float = 3600.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if transport not in ("tcp", "udp"):
            raise SourceError(f"transport={transport!r}: use 'tcp' or 'udp'")
        if framing not in FRAMINGS:
            raise SourceError(f"framing={framing!r}: use {' or '.join(map(repr, FRAMINGS))}")
        if ssl_context is not None:
            _check_tls(ssl_context, transport)
        check_positive(max_line_bytes=max_line_bytes, max_connections=max_connections, idle_timeout=idle_timeout)
        self.notices: deque[Notice] = deque()
        self._buffer = Buffer("", self.notices, max_lines=buffer_lines, max_bytes=buffer_bytes, when_full=when_full)
        self._error: BaseException | None = None
        sock = bind(host, port, socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM)
        self.port: int = sock.getsockname()[1]
        self.name = self._buffer.where = f"syslog+{transport}://{in_url(host)}:{self.port}"
        receiver: TcpReceiver | UdpReceiver
        if transport == "tcp":
            receiver = TcpReceiver(
                sock,
                self._buffer,
                self.notices,
                framer=partial(Framer, max_line_bytes, framing),
                max_connections=max_connections,
                idle_timeout=idle_timeout,
                ssl_context=ssl_context,
            )
        else:
            receiver = UdpReceiver(sock, self._buffer, self.notices, max_line_bytes=max_line_bytes)
        self._background = Background(f"streamlab-syslog-{self.port}", receiver.receive, self._ended)

    @classmethod
    def of_address(cls, address: str, *, max_line_bytes: int) -> SyslogSource:
        """Return the source that an address stands for: ``syslog+tcp://127.0.0.1:5514``, ``syslog+udp://...``.

        Options of `SyslogSource` follow a question mark: ``?when_full=drop_oldest&buffer_lines=1000``.

        Raises:
            SourceError: it is no such address, or as of `SyslogSource`.

        >>> source = SyslogSource.of_address("syslog+udp://127.0.0.1:0?when_full=drop_oldest", max_line_bytes=1_048_576)
        >>> source.close()
        """
        found = parsed(address, _OPTIONS, port=PORT)
        if found.scheme not in ("syslog+tcp", "syslog+udp"):
            raise SourceError(
                f"{found.scheme}:// is no address of syslog: use syslog+tcp://HOST:PORT or syslog+udp://HOST:PORT"
            )
        if found.path not in ("", "/"):
            raise SourceError(
                f"{address}: nothing can follow the port of syslog but options, such as ?when_full=drop_oldest"
            )
        transport: Literal["tcp", "udp"] = "tcp" if found.scheme == "syslog+tcp" else "udp"
        source = cls(found.host, found.port, transport=transport, max_line_bytes=max_line_bytes, **found.options)
        source.notices.append(Notice("listening", source.name, f"listening at {source.name}"))
        return source

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` messages as soon as there are any; an empty chunk after the last ones.

        Raises:
            SourceError: nothing can be received any more.
        """
        chunk = self._buffer.take(limit)
        if not chunk.lines and self._error is not None:
            raise SourceError(f"{self.name} receives nothing any more: {self._error}") from self._error
        return chunk

    def progress(self) -> None:
        """Return ``None``: how much will come is not known."""
        return None

    def stop_receiving(self) -> None:
        """Take in what has been sent, and no more: connections are closed, and `read` gives the rest and comes to an end."""
        self._background.stop()

    def close(self) -> None:
        """Receive no more; what has come and has not been read is lost. The port is free then; more than once is fine."""
        self._background.close()
        self._buffer.close()

    def _ended(self, error: BaseException | None) -> None:
        self._error = error
        self._buffer.end()


def _check_tls(context: ssl.SSLContext, transport: str) -> None:
    """Refuse what cannot be encrypted with; see to it that nothing is sent that senders do not read.

    Raises:
        SourceError: the context is for clients, or the transport is UDP.
    """
    if transport == "udp":
        raise SourceError("there is no TLS over UDP: use transport='tcp', or no ssl_context")
    try:
        context.num_tickets = 0
    except ValueError as error:
        what = "make it with ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), and load_cert_chain"
        raise SourceError(f"the ssl_context is one for clients: {what}") from error
