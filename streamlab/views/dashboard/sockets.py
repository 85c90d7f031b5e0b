"""Which addresses and ports the dashboard listens on."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket

from streamlab.errors import DashboardError

FIRST_PORT, MORE_PORTS = 8000, 100
#: "localhost" is both of these, and browsers choose either.
BOTH = ("127.0.0.1", "::1")


def listen(host: str = "127.0.0.1", port: int | None = None, *, token: str | None = None) -> list[socket.socket]:
    """Return sockets that listen; until somebody serves them, who connects waits.

    Args:
        host: an address or name of this machine. ``127.0.0.1`` and ``localhost`` stand for ``::1`` too, if there is IPv6.
        port: ``None`` is 8000, or the next one that is free; 0 is any that is free.
        token: what whoever looks must know.

    Raises:
        DashboardError: the host is not loopback and there is no token, or the port is taken or not allowed.
    """
    check(host, token)
    addresses = BOTH if host in ("127.0.0.1", "localhost") else (host.strip("[]"),)
    if port is not None and not 0 <= port <= 65535:
        raise DashboardError(f"port {port} does not exist: ports are numbers from 0 (any that is free) to 65535")
    last = FIRST_PORT + MORE_PORTS
    # two addresses must have the same port: one that is free on the first may be taken on the second
    candidates = range(FIRST_PORT, last + 1) if port is None else [port] * (20 if port == 0 else 1)
    error: OSError | None = None
    for candidate in candidates:
        try:
            return _bind(addresses, candidate)
        except OSError as found:
            error = found
            if found.errno != errno.EADDRINUSE:
                break
    raise _refusal(port, host, last, error) from error


def url_of(host: str, port: int) -> str:
    """Return the address to open in a browser on this machine.

    >>> url_of("127.0.0.1", 8000), url_of("::1", 8000)
    ('http://localhost:8000', 'http://[::1]:8000')
    """
    return f"http://{name_of(host)}:{port}"


def name_of(host: str) -> str:
    """Return a host as it stands in an address."""
    if host in ("127.0.0.1", "localhost") or _is_any(host):
        return "localhost"
    bare = host.strip("[]")
    return f"[{bare}]" if ":" in bare else bare


def names_of(host: str) -> tuple[str, ...]:
    """Return what a server on a host may be called beside localhost: ``*`` is the address that a request came in at."""
    return ("*", socket.gethostname()) if _is_any(host) else (name_of(host),)


def check_token(token: str | None) -> None:
    """Refuse a token that is none.

    Raises:
        DashboardError: it is empty.
    """
    if token is not None and not token.strip():
        raise DashboardError("the dashboard's token is empty: give one that cannot be guessed, or none")


def check(host: str, token: str | None) -> None:
    """Refuse to be open to other machines without a token.

    Raises:
        DashboardError: the host is not loopback and there is no token, or it is empty.
    """
    check_token(token)
    if token is None and not _is_loopback(host):
        raise DashboardError(
            f"host {host!r} would open the dashboard to other machines, and that needs a token: give one"
            f" (token=, --token, or STREAMLAB_TOKEN), such as {secrets.token_urlsafe(16)}; or use 127.0.0.1, and from"
            " elsewhere a tunnel (ssh -L 8000:localhost:8000 HOST)"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    """Tell whether a host stands for all addresses of the machine."""
    return host.strip("[]") in ("", "0.0.0.0", "::")


def _bind(addresses: tuple[str, ...], port: int) -> list[socket.socket]:
    """Return a socket for each address, all on one port; a second one only where the machine has such addresses."""
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            try:
                bound.append(_bind_one(address, port))
            except OSError as error:
                if not bound or error.errno == errno.EADDRINUSE:
                    raise
            else:
                port = bound[0].getsockname()[1]
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    return bound


def _bind_one(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sends at once on what is known to be TCP; else each answer's second part waits 40 ms for the first's receipt
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # there it would let two programs have one port; here, a port be had again at once
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(128)  # not later: until then another program could bind to it as well
    except BaseException:
        sock.close()
        raise
    return sock


def _refusal(port: int | None, host: str, last: int, error: OSError | None) -> DashboardError:
    if error is not None and error.errno != errno.EADDRINUSE:
        return DashboardError(f"the dashboard cannot listen on {host}, port {port}: {error.strerror}")
    if port is None:
        return DashboardError(f"all ports from {FIRST_PORT} to {last} are taken: give another as port (--port)")
    return DashboardError(
        f"port {port} is taken by another program: give another as port (--port), or none for the next that is free"
    )
