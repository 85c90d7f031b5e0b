"""Values as text, and text as bytes: what is written is said once, for processors and sinks."""

from __future__ import annotations

import json
import re
from typing import Any

_NO_BYTE = re.compile("([\ud800-\udc7f\udd00-\udfff]+)")  # halves of characters that stand for no byte


def as_text(value: object) -> str:
    r"""Return a value as it is written: text as it is, a dict as compact JSON, anything else by ``str``.

    Raises:
        Exception: what the value's own ``str`` raises, or ``json`` on a dict that is not JSON.

    >>> as_text("warn: disk"), as_text({"level": "warn", "free": 0.5, "é": None}), as_text(7)
    ('warn: disk', '{"level":"warn","free":0.5,"é":null}', '7')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return json_of(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def as_bytes(text: str) -> bytes:
    r"""Return text as UTF-8; bytes that were not UTF-8 when they were read come out as they went in.

    >>> as_bytes("caf\udce9")
    b'caf\xe9'
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character that a program made, not a byte: kept in the one way that can be undone
        parts = enumerate(_NO_BYTE.split(text))
        return b"".join(part.encode("utf-8", "surrogatepass" if at % 2 else "surrogateescape") for at, part in parts)


def json_of(value: Any) -> str:
    r"""Return a dict, or the like, as compact JSON; what JSON has no word for by its text, NaN and infinities as null.

    >>> json_of({"a": {2, 1}, "b": float("nan")})
    '{"a":[1,2],"b":null}'
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    except ValueError:  # NaN and infinities are not JSON: other programs could not read the line
        return json.dumps(_without_nan(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """Return what JSON knows instead of a value it does not: numpy and arrow have their own way, else its text."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return value.tolist() if hasattr(value, "tolist") else as_text(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value
