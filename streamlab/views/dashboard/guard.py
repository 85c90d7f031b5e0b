"""Who may ask, and what every answer says about itself. Outermost, so that no answer goes around it.

A server on this machine can be reached by every page that the user's browser has open: by its address, and under any
name that somebody makes point to 127.0.0.1 (DNS rebinding). So a request must use a name that is known to be this
machine's, must not come from another site, and can only read. Where there is a token, it must have that too: in
``Authorization: Bearer``, or once as ``?token=``, for which a browser gets a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
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


NO_TOKEN = (
    "This server asks for its token: open the address that was shown when it started, with ?token=,"
    " or send it as Authorization: Bearer."
)


class Guard:
    """ASGI middleware that refuses what is not a same-site read of this machine, and adds `HEADERS` to every answer.

    Args:
        app: what it guards.
        names: allowed in ``Host`` beside `LOCAL_NAMES`; ``*`` stands for the address that a request came in at, which no
            other site's name can be.
        token: what requests must know; ``None`` for none.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = (), token: str | None = None) -> None:
        self._app = app
        self._names = {name.lower() for name in (*LOCAL_NAMES, *names)} - {"", "*"}
        self._by_address = "*" in names
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
        else:
            bodiless = scope["method"] == "HEAD"
            answer, more = self._checked(scope)
            # HEAD is GET without the body, whatever the route
            asked = {**scope, "method": "GET", "streamlab.bodiless": True} if bodiless else scope
            await (answer or self._app)(asked, receive, _labelled(send, bodiless, HEADERS | more))

    def _checked(self, scope: Scope) -> tuple[Response | None, dict[str, str]]:
        """Return the answer to a request that must not go further, and headers beside `HEADERS`."""
        refusal = self._refusal(scope)
        if refusal is not None or self._token is None or self._is_admitted(scope):
            return refusal, {}
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not any(self._is_token(word.encode("utf-8", "replace")) for word in query.pop("token", ())):
            return _says(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"}), {}
        cookie = {"Set-Cookie": f"{_cookie_name(scope)}={self._pass()}; HttpOnly; Path=/; SameSite=Strict"}
        if Headers(scope=scope).get("sec-fetch-mode") != "navigate":
            return None, cookie
        # a browser goes to the same page, so that the token does not stay in its address; relative, it may be behind a proxy
        page = scope["path"].rpartition("/")[2]
        return RedirectResponse(f"./{page}?{urlencode(query, doseq=True)}" if query else f"./{page}", 303), cookie

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that must not go further."""
        method, headers = scope["method"], Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(_name(hosts[0]), scope):
            return _says(400, "This is not a name of this server: use http://localhost, or allow the name (--allow-host).")
        origin = headers.get("origin")
        foreign = origin is not None and _authority(origin) != hosts[0].lower()
        if foreign or headers.get("sec-fetch-site", "").lower() == "cross-site":
            return _says(403, "Another site asked for this, and only this server's own pages may: type the address.")
        if method not in ("GET", "HEAD"):
            return _says(405, "This server can only be read: use GET or HEAD.", {"Allow": "GET, HEAD"})
        return None

    def _knows(self, name: str, scope: Scope) -> bool:
        """Tell whether a name is this server's."""
        if name in self._names:
            return True
        server = scope.get("server")
        # of an IPv4 address, a socket for both kinds tells as of an IPv6 one
        return self._by_address and server is not None and name.strip("[]") == server[0].removeprefix("::ffff:")

    def _is_admitted(self, scope: Scope) -> bool:
        """Tell whether a request has the token, or the cookie that was had for it."""
        headers = Headers(scope=scope)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip().encode("latin-1")):
            return True
        # not the stricter parser of http.cookies: browsers send cookies of all servers of this host, whatever is in them
        cookie = cookie_parser(headers.get("cookie", "")).get(_cookie_name(scope), "")
        return hmac.compare_digest(cookie.encode("utf-8", "replace"), self._pass().encode())

    def _is_token(self, word: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(word, self._token.encode())

    def _pass(self) -> str:
        """Return what the cookie has: it cannot be had without the token, and does not tell it."""
        return hmac.new((self._token or "").encode(), b"streamlab dashboard", hashlib.sha256).hexdigest()


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


def _cookie_name(scope: Scope) -> str:
    """Return the name of the cookie; it has the port, because browsers do not tell the ports of a host apart."""
    server = scope.get("server")
    return f"streamlab-{server[1] if server else 0}"


def _authority(origin: str) -> str:
    """Return host and port of an ``Origin``; of ``null`` and other nonsense ``""``."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _labelled(send: Send, bodiless: bool, more: Mapping[str, str]) -> Send:
    """Return ``send`` that adds the headers, and leaves out the body if the request was for the head only."""

    async def labelled(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in more.items():
                headers.setdefault(name, value)
        elif bodiless and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return labelled
