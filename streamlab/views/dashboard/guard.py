"""Who may ask, and what every answer says about itself. Outermost, so that no answer goes around it.

A server on this machine can be reached by every page that the user's browser has open: by its address, and under any
name that somebody makes point to 127.0.0.1 (DNS rebinding). So a request must use a name that is known to be this
machine's, must not come from another site, and can only read.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of this machine that a browser gives in ``Host``.
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")

#: On every answer that does not say otherwise itself.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware that refuses what is not a same-site read of this machine, and adds `HEADERS` to every answer.

    Args:
        app: what it guards.
        names: allowed in ``Host`` beside `LOCAL_NAMES`.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = {name.lower() for name in (*LOCAL_NAMES, *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
        else:
            bodiless = scope["method"] == "HEAD"
            answer = self._refusal(scope["method"], Headers(scope=scope)) or self._app
            # HEAD is GET without the body, whatever the route
            await answer({**scope, "method": "GET"} if bodiless else scope, receive, _labelled(send, bodiless))

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        """Return the answer to a request that must not go further."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _name(hosts[0]) not in self._names:
            return _says(400, "This is not a name of this server: use http://localhost, with its port.")
        origin = headers.get("origin")
        foreign = origin is not None and _authority(origin) != hosts[0].lower()
        if foreign or headers.get("sec-fetch-site", "").lower() == "cross-site":
            return _says(403, "Another site asked for this, and only this server's own pages may: type the address.")
        if method not in ("GET", "HEAD"):
            return _says(405, "This server can only be read: use GET or HEAD.", {"Allow": "GET, HEAD"})
        return None


def _says(status: int, text: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status, headers)


def _name(host: str) -> str:
    """Return a ``Host`` without its port; of what is not one, what no allowed name is equal to.

    >>> _name("LocalHost:8000"), _name("[::1]:8000"), _name("localhost:8000@evil.example")
    ('localhost', '[::1]', 'localhost:8000@evil.example')
    """
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        host = name
    return host.lower()


def _authority(origin: str) -> str:
    """Return host and port of an ``Origin``; of ``null`` and other nonsense ``""``."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _labelled(send: Send, bodiless: bool) -> Send:
    """Return ``send`` that adds the headers, and leaves out the body if the request was for the head only."""

    async def labelled(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        elif bodiless and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return labelled
