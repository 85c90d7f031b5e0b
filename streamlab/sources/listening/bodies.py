"""Bodies of HTTP requests, piece by piece: bounded in time and size, unpacked where they are packed."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import Receive

#: Bytes of an unpacked piece, at most.
PIECE = 64 * 1024
#: Bytes a second, at least, that a body has to come at once the time for it is over.
SLOWEST = 1024
#: Bytes and seconds that a refused body is still taken in for, so that who sends first and reads then gets the answer.
DRAIN_BYTES, DRAIN_SECONDS = 1_048_576, 1.0
#: What bodies can be packed with.
ENCODINGS = ("", "identity", "gzip", "x-gzip")


class Refused(Exception):
    """A request is answered with something else than that its lines were taken.

    Attributes:
        status: of the answer.
        text: what is wrong and what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, dict(headers or {})


class Gone(Exception):
    """The client has gone, and waits for no answer."""


class Incoming:
    """The body of a request, as it comes.

    Args:
        receive: gives it.
        headers: of the request; what they say of the body has been looked at.

    Attributes:
        ended: whether all of it has come.
    """

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self.ended = False
        self._receive = receive
        self._headers = headers

    async def pieces(self, *, max_bytes: int, timeout: float) -> AsyncGenerator[bytes, None]:
        """Yield the body, unpacked.

        Args:
            max_bytes: how long it may be, packed and unpacked.
            timeout: seconds that it may take before it has to come at `SLOWEST` bytes a second. What is done with the
                pieces meanwhile is not counted.

        Raises:
            Refused: it is too long, too slow, or not packed as it says.
            Gone: the client has gone before its end.
        """
        gzip = _Gunzip() if self._headers.get("content-encoding", "").lower().endswith("gzip") else None
        size, unpacked, spent = 0, 0, 0.0
        while not self.ended:
            began = time.monotonic()
            try:
                async with asyncio.timeout(max(timeout + size / SLOWEST - spent, 0)):
                    block = await self._next()
            except TimeoutError:
                text = f"the body did not come within {timeout:g} s, or {SLOWEST:,} bytes a second: send it again"
                raise Refused(408, text) from None
            spent += time.monotonic() - began
            size += len(block)
            for piece in [block] if gzip is None else gzip.feed(block):
                unpacked += len(piece)
                if max(size, unpacked) > max_bytes:
                    raise too_long(max_bytes)
                yield piece
                await asyncio.sleep(0)  # a small body can be large when it is unpacked: others have their turn
            if size > max_bytes:
                raise too_long(max_bytes)
        if gzip is not None:
            gzip.finish()

    async def drain(self) -> None:
        """Take in some of a body that is refused, but where the client waits to be asked for it."""
        size = 0
        asks = self._headers.get("expect", "").lower() == "100-continue"
        with suppress(TimeoutError, Gone):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.ended and not asks and size < DRAIN_BYTES:
                    size += len(await self._next())

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self.ended = not message.get("more_body", False)
        return bytes(message.get("body", b""))


def too_long(max_bytes: int) -> Refused:
    """Return the answer to a body that is too long."""
    return Refused(413, f"the body is longer than {max_bytes:,} bytes, unpacked: send its lines in several requests")


class _Gunzip:
    """Unpacks gzip, of one or several members, never more than a piece at a time."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Yield what packed bytes say."""
        try:
            while True:
                if self._member.eof:
                    block = block.lstrip(b"\0")  # some fill up with them between members
                    if not block:
                        return
                    self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
                piece = self._member.decompress(block, PIECE)
                block = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
                if piece:
                    yield piece
                if not block and len(piece) < PIECE:
                    return
        except zlib.error as error:
            raise Refused(400, f"the body is not gzip, though its Content-Encoding says so: {error}") from error

    def finish(self) -> None:
        """Refuse a member that has not ended."""
        if not self._member.eof:
            raise Refused(400, "the body ends in the middle of its gzip stream: send it again, whole")
