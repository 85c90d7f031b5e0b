"""Messages over TCP: connections, how many there may be and for how long, and who of them waits for room."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import socket
import ssl
import termios
from array import array
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from streamlab.batch import Chunk
from streamlab.notices import Notice
from streamlab.sources.listening.buffer import Buffer
from streamlab.sources.listening.framing import Framer
from streamlab.sources.listening.tls import Decryption

#: Bytes that are received, and connections that are accepted, before others have their turn.
BLOCK, MANY = 64 * 1024, 64
#: Seconds that a connection has to agree on its encryption.
HANDSHAKE_SECONDS = 10.0
#: Seconds without a word after which the other side is asked whether it is still there, between two such questions, and
#: how many of them may stay without an answer.
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
#: Seconds between two looks at connections that say nothing, and between two notices.
SWEEP_SECONDS = 1.0
#: Seconds that what has already been sent has to come in before the end, and without a word after which all of it has.
SETTLE_SECONDS, QUIET_SECONDS = 0.5, 0.05


class TcpReceiver:
    """Accepts connections on a socket and puts their messages into a buffer.

    While the buffer is full, what does not fit waits in the order in which it came, and nothing more is received from who
    sent it: its system, and in the end the sender itself, has to wait.

    Args:
        sock: listens; it is closed at the end.
        buffer: gets the messages.
        notices: is told what happened to connections.
        framer: makes what turns the bytes of one connection into messages.
        max_connections: how many there may be; others are refused.
        idle_timeout: seconds without a word after which a connection is closed.
        ssl_context: how to encrypt.
    """

    def __init__(
        self,
        sock: socket.socket,
        buffer: Buffer,
        notices: deque[Notice],
        *,
        framer: Callable[[], Framer],
        max_connections: int,
        idle_timeout: float,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.framer = framer
        self.block = memoryview(bytearray(BLOCK))  # one for all connections: what is in it is taken out at once
        self._sock = sock
        self._buffer = buffer
        self._notices = notices
        self._max_connections = max_connections
        self._idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[_Connection, Chunk]] = deque()
        self._none_waits = asyncio.Event()
        self._none_waits.set()
        self._heard = 0.0
        self._told: dict[str, int] = {}  # what happened to connections since the last notice, and how often

    async def receive(self, stopping: asyncio.Event) -> None:
        """Receive until the end is near, and take in what has been sent until then."""
        self._loop = asyncio.get_running_loop()
        self._listen()
        sweeping = asyncio.create_task(self._sweep())
        try:
            await stopping.wait()
            await self._settle()
        finally:
            sweeping.cancel()
            self._refuse()
            await self._hang_up()
            self._buffer.lose(sum(len(chunk.lines) for _, chunk in self._waiting))
            self._tell()

    # For the connections

    def heard(self) -> float:
        """Note that something has come, and return when that is."""
        self._heard = self._loop.time()
        return self._heard

    def put(self, connection: _Connection, chunk: Chunk) -> None:
        """Put messages into the buffer, behind those that wait."""
        self._none_waits.clear()
        self._waiting.append((connection, chunk))
        connection.waits += 1
        if len(self._waiting) == 1:
            self._place()
        else:
            connection.flow()

    def forget(self, connection: _Connection) -> None:
        """Count a connection no longer."""
        self._connections.discard(connection)

    def happened(self, message: str) -> None:
        """Have something told about a connection, with others of its kind."""
        self._told[message] = self._told.get(message, 0) + 1

    def _place(self) -> None:
        """Put what waits into the buffer, as far as there is room; when there is more, go on."""
        asked = False
        while self._waiting:
            connection, chunk = self._waiting[0]
            taken = self._buffer.offer(chunk)
            if taken == len(chunk.lines):
                self._waiting.popleft()
                connection.waits -= 1
                connection.flow()
                continue
            self._waiting[0] = connection, chunk.split(taken)[1]
            connection.flow()
            if asked:
                return
            self._buffer.when_room(self._room)
            asked = True  # and one more try: room may have come just before
        self._none_waits.set()

    def _room(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._place)

    def _listen(self) -> None:
        if self._sock.fileno() >= 0:  # it has not been closed meanwhile
            self._loop.add_reader(self._sock, self._accept)

    def _refuse(self) -> None:
        """Accept no connections any more; more than once is fine."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _accept(self) -> None:
        """Accept connections that wait for it."""
        for _ in range(MANY):
            try:
                sock = self._sock.accept()[0]
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.happened(f"a connection could not be accepted: {error.strerror}")
                    self._loop.remove_reader(self._sock)
                    self._loop.call_later(SWEEP_SECONDS, self._listen)
                return  # none waits any more, or it has gone
            if len(self._connections) >= self._max_connections:
                self.happened(f"a connection was refused, as {self._max_connections} are open (max_connections)")
                sock.close()
                continue
            sock.setblocking(False)
            connection = _Connection(self, self._ssl_context)
            self._connections.add(connection)
            opening = asyncio.create_task(self._open(connection, sock))
            self._opening.add(opening)
            opening.add_done_callback(partial(self._opened, connection, sock))

    async def _open(self, connection: _Connection, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has gone already
            _keep_alive(sock)
            await self._loop.connect_accepted_socket(lambda: connection, sock)

    def _opened(self, connection: _Connection, sock: socket.socket, opening: asyncio.Task[None]) -> None:
        self._opening.discard(opening)
        if not connection.is_made:  # it failed, or was given up, perhaps before it began
            self.forget(connection)
            sock.close()

    async def _sweep(self) -> None:
        """Close connections that say nothing, and tell what happened."""
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self._idle_timeout / 4))
            now = self._loop.time()
            for connection in list(self._connections):
                if connection.silence(now) > self._idle_timeout:
                    self.happened(f"a connection was closed, as nothing came for {self._idle_timeout:g} s (idle_timeout)")
                    connection.hang_up()
                elif connection.tries(now) > HANDSHAKE_SECONDS:
                    self.happened(f"a connection was closed, as it did not agree on TLS in {HANDSHAKE_SECONDS:g} s")
                    connection.hang_up()
            self._tell()

    async def _settle(self) -> None:
        """Take in what comes within a moment, and all that the system holds by then; wait until it is in the buffer."""
        began = self._heard = self._loop.time()
        while self._loop.time() < min(began + SETTLE_SECONDS, self._heard + QUIET_SECONDS):
            await asyncio.sleep(QUIET_SECONDS / 5)
        self._refuse()
        for connection in self._connections:
            connection.owe()
        while any(connection.owed > 0 for connection in self._connections):
            for connection in self._connections:
                if connection.owed <= 0:
                    connection.hang_up()
            await asyncio.sleep(QUIET_SECONDS / 5)
        await self._hang_up()
        await self._none_waits.wait()

    async def _hang_up(self) -> None:
        for opening in self._opening:
            opening.cancel()
        for connection in list(self._connections):
            connection.hang_up()
        for _ in range(3):  # rounds of the loop, in which their sockets are closed
            await asyncio.sleep(0)

    def _tell(self) -> None:
        self._buffer.tell()
        told, self._told = self._told, {}
        for message, count in told.items():
            self._notices.append(Notice("disconnected", self._buffer.where, message, count=count))


class _Connection(asyncio.BufferedProtocol):
    """What one sender sends.

    Attributes:
        waits: how many of its chunks wait for room.
        owed: how many bytes it has sent that are still to be received before the end; see `owe`.
    """

    def __init__(self, receiver: TcpReceiver, ssl_context: ssl.SSLContext | None) -> None:
        self.waits = self.owed = 0
        self._receiver = receiver
        self._framer = receiver.framer()
        self._tls = None if ssl_context is None else Decryption(ssl_context)
        self._transport: asyncio.Transport | None = None
        self._made = self._heard = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._made = self._heard = self._receiver.heard()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._receiver.block

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = self._receiver.heard()
        self.owed -= nbytes
        data = bytes(self._receiver.block[:nbytes])
        self._put(self._framer.feed(data if self._tls is None else self._decrypted(self._tls, data)))

    def _decrypted(self, tls: Decryption, data: bytes) -> bytes:
        assert self._transport is not None
        meant = tls.feed(data)
        self._transport.write(tls.answer())
        if tls.error is not None:
            self._receiver.happened(f"a connection was closed, as it is no good TLS: {tls.error.reason or tls.error}")
            self._transport.close()
        elif self._transport.get_write_buffer_size() > BLOCK:  # it makes us answer, and does not read that
            self._transport.abort()
        return meant

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.forget(self)
        self._put(self._framer.finish())  # it may have been cut off in the middle of a message

    def _put(self, chunk: Chunk) -> None:
        if chunk.lines:
            self._receiver.put(self, chunk)

    @property
    def is_made(self) -> bool:
        """Whether it has been established."""
        return self._transport is not None

    def flow(self) -> None:
        """Receive no more while something waits."""
        if self._transport is not None and not self._transport.is_closing():
            if self.waits:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def owe(self) -> None:
        """Take note of how many bytes the system holds of it by now."""
        if self._transport is not None and not self._transport.is_closing():
            count = array("i", [0])
            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
            self.owed = count[0]

    def silence(self, now: float) -> float:
        """Return for how many seconds nothing has come, though it would have been received."""
        if self.waits or self._transport is None:
            self._heard = now
        return now - self._heard

    def tries(self, now: float) -> float:
        """Return for how many seconds it has been trying to agree on TLS; 0 if it has not, or has done so."""
        return 0.0 if self._transport is None or self._tls is None or self._tls.agreed else now - self._made

    def hang_up(self) -> None:
        """Close the connection, without waiting for the other side."""
        if self._transport is not None:
            self._transport.abort()


def _keep_alive(sock: socket.socket) -> None:
    """Have the system ask now and then whether the other side is still there."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):  # not everywhere
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
