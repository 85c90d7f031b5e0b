"""Options in an address, ``scheme://host:port/path?name=value&name=value``: which there are, and what they stand for."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

Kinds = Mapping[str, Callable[[str], Any]]


def is_address(text: object) -> bool:
    """Tell whether something is an address, and no path.

    >>> is_address("redis://localhost/logs"), is_address("logs/app.log")
    (True, False)
    """
    return isinstance(text, str) and re.match(r"[a-z][a-z0-9+.-]*://", text) is not None


def options_of(
    query: str, kinds: Kinds, where: str, error: type[Exception], *, passed: str | tuple[str, ...] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options of an address as values, and as text those that are left to somebody else.

    Args:
        query: what follows the ``?``.
        kinds: the options there are, and what makes a value of their text (a `ValueError` says what is wrong with it).
        where: the address, as far as it may be seen.
        error: what to raise.
        passed: what the names of options begin with that are left to somebody else.

    Raises:
        Exception: an ``error``; an option is unknown, is given twice, or has no such value.

    >>> options_of("limit=10&ack=yes", {"limit": whole, "ack": truth}, "http://localhost", ValueError)
    ({'limit': 10, 'ack': True}, {})
    """
    values: dict[str, Any] = {}
    rest: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise error(f"{where}: options are written ?name=value&name=value") from None
    for name, text in pairs:
        if name in values or name in rest:
            raise error(f"{where}: {name} is given twice")
        if name in kinds:
            try:
                values[name] = kinds[name](text)
            except ValueError as problem:
                raise error(f"{where}: {name}: {problem}") from None
        elif passed is not None and name.startswith(passed):
            rest[name] = text
        else:
            close = difflib.get_close_matches(name, kinds, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the options are {', '.join(sorted(kinds))}"
            raise error(f"{where}: there is no option {name!r}: {hint}")
    return values, rest


def whole(text: str) -> int:
    """Return a whole number.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds, above 0.

    Raises:
        ValueError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return number


def truth(text: str) -> bool:
    """Return what a yes or no says.

    Raises:
        ValueError: neither.

    >>> truth("true"), truth("no")
    (True, False)
    """
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"{text!r} is neither yes nor no")
