"""The server's side of TLS, over bytes that somebody else receives and sends.

Not asyncio's own (of Python 3.11), which drops what it holds when a sender that has to wait for room closes its connection.
"""

from __future__ import annotations

import ssl

#: Bytes that are taken out at a time.
BLOCK = 64 * 1024


class Decryption:
    """Turns what one connection receives into what was meant.

    Args:
        context: how to encrypt.

    Attributes:
        agreed: whether both sides have agreed on an encryption: until then, nothing can be meant.
        error: what is wrong with what was received: it is no TLS, or not of somebody who may send; nothing comes after it.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.agreed = False
        self.error: ssl.SSLError | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def feed(self, received: bytes) -> bytes:
        """Return what was meant by the next bytes; look at `error` and `answer` after it."""
        self._incoming.write(received)
        parts: list[bytes] = []
        try:
            if not self.agreed:
                self._tls.do_handshake()
                self.agreed = True
            while part := self._tls.read(BLOCK):
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):  # the rest is to come; or the sender has said goodbye
            pass
        except ssl.SSLError as error:
            self.error = error
        return b"".join(parts)

    def answer(self) -> bytes:
        """Return what to send to the other side, perhaps nothing."""
        return self._outgoing.read()
