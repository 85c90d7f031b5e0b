"""Messages over UDP (RFC 5426): a datagram each; and what the system lost of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections import deque

from streamlab.batch import Chunk, Rejected
from streamlab.notices import Notice
from streamlab.sources.lines import decoded, oversize
from streamlab.sources.listening.buffer import Buffer

#: Bytes that a datagram may have, and how many are received before other work has its turn.
LARGEST, MANY = 65_536, 256
#: Seconds between two looks at what the system lost.
LOOK_SECONDS = 1.0
#: Seconds that datagrams which have been sent already have to be taken in before the end.
SETTLE_SECONDS = 0.5
#: What Linux tells of a socket's memory: nine numbers, of which the last is how many datagrams it had no room for.
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("=9I")


class UdpReceiver:
    """Receives datagrams and puts each into a buffer as a message.

    While the buffer is full, nothing is received: then the system holds what comes, as far as it has room, and loses the
    rest, as UDP has no way to make a sender wait.

    Args:
        sock: gets the datagrams; it is closed at the end.
        buffer: gets the messages.
        notices: is told what the system lost, where it says so (Linux).
        max_line_bytes: a longer message is cut there and rejected as ``oversize``.
    """

    def __init__(self, sock: socket.socket, buffer: Buffer, notices: deque[Notice], *, max_line_bytes: int) -> None:
        self._sock = sock
        self._buffer = buffer
        self._notices = notices
        self._limit = max_line_bytes
        self._waiting = Chunk([])
        self._none_waits = asyncio.Event()
        self._none_waits.set()
        self._lost = 0

    async def receive(self, stopping: asyncio.Event) -> None:
        """Receive until the end is near, and take in what has been sent until then."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._readable)
        try:
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)
                self._tell()
            await self._settle()
        finally:
            self._loop.remove_reader(self._sock)
            self._buffer.lose(len(self._waiting.lines) + self._left())
            self._tell()
            self._sock.close()

    async def _settle(self) -> None:
        until = self._loop.time() + SETTLE_SECONDS
        while self._loop.time() < until and (not self._none_waits.is_set() or self._readable()):
            await asyncio.sleep(0 if self._none_waits.is_set() else 0.01)
        self._loop.remove_reader(self._sock)
        await self._none_waits.wait()

    def _readable(self) -> bool:
        """Take in what has come; tell whether there was anything."""
        lines: list[str] = []
        rejected: list[Rejected] = []
        with contextlib.suppress(OSError):  # nothing more has come
            while len(lines) < MANY:
                raw = message_of(self._sock.recv(LARGEST))
                if len(raw) > self._limit:
                    rejected.append(oversize(len(lines), len(raw), self._limit))
                lines.append(decoded(raw[: self._limit]))
        if lines:
            self._waiting = Chunk(lines, rejected)
            self._place()
        return bool(lines)

    def _left(self) -> int:
        """Return how many datagrams the system still holds; then it holds none of them any more."""
        count, until = 0, self._loop.time() + SETTLE_SECONDS
        with contextlib.suppress(OSError):  # nothing more has come
            while self._loop.time() < until:
                self._sock.recv(LARGEST)
                count += 1
        return count

    def _place(self) -> None:
        """Put what waits into the buffer; as long as there is no room for all of it, receive nothing."""
        asked = False
        while (taken := self._buffer.offer(self._waiting)) < len(self._waiting.lines):
            self._waiting = self._waiting.split(taken)[1]
            if asked:
                return
            self._none_waits.clear()
            self._loop.remove_reader(self._sock)
            self._buffer.when_room(self._room)
            asked = True  # and one more try: room may have come just before
        self._waiting = Chunk([])
        if not self._none_waits.is_set():
            self._none_waits.set()
            self._loop.add_reader(self._sock, self._readable)

    def _room(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._place)

    def _tell(self) -> None:
        self._buffer.tell()
        total = lost_by(self._sock)
        lost = (total - self._lost) % 2**32  # it begins anew there
        self._lost = total
        if lost:
            message = f"the system had no room for {lost:,} datagrams: they are lost (net.core.rmem_max is what it may hold)"
            self._notices.append(Notice("dropped", self._buffer.where, message, lost_lines=lost))


def message_of(datagram: bytes) -> bytes:
    """Return what a datagram says: all but the newlines, and NULs, at its end.

    >>> message_of(b"<34>two\\nlines\\r\\n\\x00")
    b'<34>two\\nlines'
    """
    end = len(datagram)
    while end and datagram[end - 1] in b"\n\0":
        end -= 2 if datagram[end - 2 : end] == b"\r\n" else 1
    return datagram[:end]


def lost_by(sock: socket.socket) -> int:
    """Return how many datagrams the system had no room for since a socket was made; 0 where it does not say."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1])
    except (OSError, struct.error):  # before Linux 4.12
        return 0
