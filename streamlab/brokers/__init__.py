"""Connections to message brokers, for the sources and sinks of each; here is what they share: addresses, and patience.

An address on the command line is the URL of the server, then the stream, then how to use it:
``redis://user:password@host:6379/0/logs?group=streamlab``. User and password are for the broker alone: `shown` is what may
be seen of a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from streamlab.addresses import Kinds, options_of

if TYPE_CHECKING:
    from tenacity.wait import wait_base

#: Seconds between two attempts to reach a broker that is away: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

_HOSTS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\],]+)(:[0-9]{1,5})?(,(\[[0-9a-fA-F:.]+\]|[^\s:\[\],]+)(:[0-9]{1,5})?)*")


@dataclass(frozen=True, slots=True)
class Address:
    """What an address says.

    Attributes:
        server: URL of the server, with user and password, without a path.
        path: the parts of the path.
        options: how to use it, each as the type that it has.
        rest: options that are the library's own.
    """

    server: str = field(repr=False)
    path: tuple[str, ...]
    options: Mapping[str, Any]
    rest: Mapping[str, str] = field(repr=False)

    @property
    def query(self) -> str:
        """The library's own options, as they are written in a URL, with their ``?``."""
        return f"?{urlencode(self.rest)}" if self.rest else ""


def parse(
    address: str, kinds: Kinds, error: type[Exception], *, login: str, passed: str | tuple[str, ...] | None = None
) -> Address:
    """Take an address apart.

    Args:
        address: what the user wrote.
        kinds: the options there are, and what makes a value of their text.
        error: what to raise.
        login: what the variables of the environment begin with that have user and password, if the address has none: what
            is on a command line can be seen by others.
        passed: what the names of options begin with that are left to the library.

    Raises:
        Exception: an ``error``; the address is not complete, or an option is unknown or has no such value.

    >>> text = "redis://me:secret@localhost:6379/0/a%2Fb?maxlen=10"
    >>> address = parse(text, {"maxlen": int}, ValueError, login="STREAMLAB_REDIS")
    >>> address.path, dict(address.options)
    (('0', 'a/b'), {'maxlen': 10})
    """
    parts = _split(address, error)
    path = tuple(unquote(part) for part in parts.path.split("/") if part)
    values, rest = options_of(parts.query, kinds, shown(address), error, passed=passed)
    netloc = parts.netloc if "@" in parts.netloc else _login(login) + parts.netloc
    return Address(f"{parts.scheme}://{netloc}", path, values, rest)


def shown(url: str) -> str:
    """Return what may be seen of a URL: all but user, password and options.

    >>> shown("rediss://me:secret@localhost:6379/0?ssl_cert_reqs=none")
    'rediss://localhost:6379/0'
    """
    parts = _split(url, ValueError)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{quote(unquote(parts.path), safe='/~:')}".rstrip("/")


def checked(url: str, error: type[Exception]) -> str:
    """Return a URL that `shown` can show.

    Raises:
        Exception: an ``error`` that does not say what the URL is, as it is not known what in it is a password.
    """
    _split(url, error)
    return url


def back_off() -> wait_base:
    """Return how long to wait between attempts, for ``tenacity``: longer each time, and not for all at the same time."""
    from tenacity import wait_exponential, wait_random

    return wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE - FIRST_PAUSE) + wait_random(0, FIRST_PAUSE)


def _split(url: str, error: type[Exception]) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        _malformed(error)
    users, _, hosts = parts.netloc.rpartition("@")
    # A "/", "?" or "#" in a password ends what it is in: what follows is then not to be seen either.
    if not _HOSTS.fullmatch(hosts) or "@" in parts.path + parts.query or parts.fragment or any(c.isspace() for c in users):
        _malformed(error)
    return parts


def _login(variables: str) -> str:
    """Return user and password as the environment has them, as they are written before a host; a user alone is a token."""
    user, password = (os.environ.get(f"{variables}_{name}", "") for name in ("USER", "PASSWORD"))
    return quote(user, safe="") + (f":{quote(password, safe='')}" if password else "") + ("@" if user or password else "")


def _malformed(error: type[Exception]) -> NoReturn:
    raise error(
        "this is no address of a broker: write scheme://user:password@host:port/..., and in a user, a password or the name"
        " of a stream %40 for @, %2F for /, %3F for ?, %23 for #, %25 for %"
    ) from None
