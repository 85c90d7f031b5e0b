"""What rotated files are called, and in which order they were rotated."""

from __future__ import annotations

import os
import re
from bisect import bisect_left

from streamlab.sources.compressed import extension
from streamlab.sources.locate import natural

#: What rotation puts behind a name, or before its end: numbers, dates and times, or a word, each behind a separator.
_INFIX = re.compile(r"(?:[-._~@]+(?:\d[\dTZ:+]*|old|bak|backup|prev|previous|orig|save|copy))*~?", re.IGNORECASE)
#: Digits of the number of a generation, at most; a longer one is a date.
_DIGITS = 5


def is_rotated(name: str, base: str) -> bool:
    """Tell whether a file name is one that rotation gives to what was called ``base``.

    >>> [is_rotated(name, "app.log") for name in ("app.log.3", "app.log-20250101.gz", "app-2025-01-01.log", "app.log.gz")]
    [True, True, True, True]
    >>> [is_rotated(name, "app.log") for name in ("app.log", "app-errors.log", "application.log", "app2.log")]
    [False, False, False, False]
    """
    return name != base and _infix(name, base) is not None


def begins_with(name: str, base: str) -> bool:
    """Tell whether the rotated name has the whole of ``base`` at its beginning: then it is not that of another log."""
    return name.startswith(base)


def rotated_names(names: list[str], base: str) -> list[str]:
    """Return those of the sorted names that rotation gives to what was called ``base``."""
    stem = os.path.splitext(base)[0]
    found: list[str] = []
    for index in range(bisect_left(names, stem), len(names)):
        name = names[index]
        if not name.startswith(stem):
            break
        if is_rotated(name, base):
            found.append(name)
    return found


def age(name: str, base: str) -> tuple[int, list[tuple[int, str]]]:
    """Return a key that sorts the rotated names of ``base``, oldest first: ``.3, .2, .1``, but ``-20250101, -20250102``.

    >>> sorted(["app.log.2", "app.log.10.gz", "app.log.1"], key=lambda name: age(name, "app.log"))
    ['app.log.10.gz', 'app.log.2', 'app.log.1']
    """
    infix = (_infix(name, base) or "").lstrip("-._~@")
    if infix.isdecimal() and len(infix) <= _DIGITS:
        return -int(infix), []
    return 0, natural(infix)


def _infix(name: str, base: str) -> str | None:
    """Return what rotation has put into a name; ``None`` if the name is not made of ``base``."""
    plain = name.removesuffix(extension(name)) if extension(name) else name
    stem, end = os.path.splitext(base)
    if plain.startswith(base):
        infix = plain[len(base) :]
    elif end and plain.startswith(stem) and plain.endswith(end):
        infix = plain[len(stem) : len(plain) - len(end)]
    else:
        return None
    return infix if _INFIX.fullmatch(infix) else None
