"""Connections to message brokers, for the sources and sinks of each; here is what they share: addresses, and patience.

An address on the command line is the URL of the server, then the stream, then how to use it:
``redis://user:password@host:6379/0/logs?group=streamlab``. User and password are for the broker alone: `shown` is what may
be seen of a URL.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

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
    address: str, options: Mapping[str, Callable[[str], Any]], error: type[Exception], *, passed: str | None = None
) -> Address:
    """Take an address apart.

    Args:
        address: what the user wrote.
        options: the names of the options, and what makes a value of their text.
        error: what to raise.
        passed: what the names of options begin with that are left to the library.

    Raises:
        Exception: an ``error``; the address is not complete, or an option is unknown or has no such value.

    >>> address = parse("redis://me:secret@localhost:6379/0/a%2Fb?maxlen=10", {"maxlen": int}, ValueError)
    >>> address.path, dict(address.options)
    (('0', 'a/b'), {'maxlen': 10})
    """
    parts = _split(address, error)
    path = tuple(unquote(part) for part in parts.path.split("/") if part)
    values: dict[str, Any] = {}
    rest: dict[str, str] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in options:
            try:
                values[name] = options[name](text)
            except ValueError:
                raise error(f"{shown(address)}: {name}={text} is no value that this option can have") from None
        elif passed is not None and name.startswith(passed):
            rest[name] = text
        else:
            _unknown(address, name, options, error)
    return Address(f"{parts.scheme}://{parts.netloc}", path, values, rest)


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


def is_true(text: str) -> bool:
    """Return what a yes or no in an address says.

    Raises:
        ValueError: neither.

    >>> is_true("yes"), is_true("0")
    (True, False)
    """
    if text.lower() in ("1", "true", "yes", "on", ""):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{text} is neither yes nor no")


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


def _malformed(error: type[Exception]) -> NoReturn:
    raise error(
        "this is no address of a broker: write scheme://user:password@host:port/..., and in a user, a password or the name"
        " of a stream %40 for @, %2F for /, %3F for ?, %23 for #, %25 for %"
    ) from None


def _unknown(address: str, name: str, options: Mapping[str, Any], error: type[Exception]) -> NoReturn:
    near = difflib.get_close_matches(name, options, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(options)}"
    raise error(f"{shown(address)}: there is no option {name!r}: {hint}")
