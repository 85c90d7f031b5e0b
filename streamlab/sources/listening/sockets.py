"""Where sources listen: sockets, and the addresses that stand for such sources on a command line."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from streamlab.addresses import Kinds, options_of
from streamlab.errors import SourceError

#: Connections that the system holds until they are accepted.
BACKLOG = 128
#: Bytes asked for as the receive buffer of a socket for datagrams; the system gives what it allows.
RECEIVE_BUFFER = 64 * 1024 * 1024


class Address(NamedTuple):
    """What an address to listen at says.

    Attributes:
        scheme: what stands before ``://``.
        host: where to listen, without brackets.
        port: 0 for any that is free.
        path: ``""`` or what begins with ``/``.
        options: arguments by name.
    """

    scheme: str
    host: str
    port: int
    path: str
    options: dict[str, Any]


def parsed(address: str, kinds: Kinds, *, port: int) -> Address:
    """Take an address apart: ``scheme://host:port/path?option=value&option=value``.

    Args:
        address: the address; a host that is missing is 127.0.0.1.
        kinds: the options there are, and what makes a value of their text (a `ValueError` says what is wrong with it).
        port: where none is given.

    Raises:
        SourceError: it is no such address.

    >>> parsed("syslog+udp://[::1]:5514?buffer_lines=10", {"buffer_lines": int}, port=514)
    Address(scheme='syslog+udp', host='::1', port=5514, path='', options={'buffer_lines': 10})
    """
    shown = _shown(address)
    try:
        parts = urlsplit(address)
        given = parts.port
    except ValueError as error:
        raise SourceError(f"{shown} is no address, as scheme://HOST:PORT?option=value is: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise SourceError(f"{shown} has a user or password before it: no source takes one from its address")
    if parts.fragment:
        raise SourceError(f"{shown}: nothing is meant by what follows the #")
    options, _ = options_of(parts.query, kinds, shown, SourceError)
    return Address(parts.scheme, parts.hostname or "127.0.0.1", port if given is None else given, parts.path, options)


def check_positive(**numbers: float) -> None:
    """Refuse arguments that are not above zero.

    Raises:
        SourceError: one is not.
    """
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < float("inf"):
            raise SourceError(f"{name}={number!r}: it must be a number above 0")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on a host.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def in_url(host: str) -> str:
    """Return a host as it stands in an address.

    >>> in_url("::1"), in_url("127.0.0.1")
    ('[::1]', '127.0.0.1')
    """
    return f"[{host}]" if ":" in host else host


def bind(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """Return a socket that does not block and listens (``SOCK_STREAM``), or gets datagrams (``SOCK_DGRAM``).

    Args:
        host: an address or name of this machine; ``0.0.0.0`` or ``::`` for all of its addresses.
        port: 0 is any that is free.
        kind: what it is for.

    Raises:
        SourceError: the port is taken or not allowed, or the host is not this machine.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise SourceError(f"port {port} does not exist: ports are numbers from 0 (any that is free) to 65535")
    try:
        family, _, protocol, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise SourceError(f"host {host!r} cannot be found: give an address of this machine, such as 127.0.0.1") from error
    sock = socket.socket(family, kind, protocol)
    try:
        if host == "::":  # all addresses, also those of IPv4
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM and os.name != "nt":  # there it would let two programs have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)  # not later: until then another program could bind to it as well
        else:
            _widen(sock)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _refusal(host, port, error) from error
    return sock


def _widen(sock: socket.socket) -> None:
    """Make the receive buffer as large as the system allows."""
    size = RECEIVE_BUFFER
    while size > sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)  # Linux takes any size, and gives what it allows
        except OSError:
            size //= 2
        else:
            return


def _refusal(host: str, port: int, error: OSError) -> SourceError:
    if error.errno == errno.EADDRINUSE:
        return SourceError(
            f"port {port} of {host} is taken by another program: give another one, or 0 for any that is free, or end that"
            " program"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return SourceError(
            f"port {port} of {host} may not be had by this user: give one from 1024 on, such as {port + 5000}, and let"
            " senders use that"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return SourceError(f"{host} is no address of this machine: use one of its own, or 0.0.0.0 for all of them")
    return SourceError(f"it is not possible to listen on port {port} of {host}: {error.strerror}")


def _shown(address: str) -> str:
    """Return an address without what may be secret in it.

    >>> _shown("http://me:secret@localhost:80/path?token=secret")
    'http://localhost:80/path'
    """
    scheme, mark, rest = address.partition("://")
    return scheme + mark + rest.partition("?")[0].partition("#")[0].rpartition("@")[2]
