"""Values to lines of text: one function for all sinks that write lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from streamlab.columns import Column

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tab; C1 and raw bytes drive terminals too
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
        return _as_json(value)
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


def encoded(
    values: Sequence[Any], finish: Callable[[str], str] | None = None
) -> tuple[bytes | memoryview, list[tuple[int, BaseException]]]:
    """Return values as lines of bytes, and what is refused of them, see `as_lines`; columns go the native way."""
    if isinstance(values, Column):
        data = values.encoded() if finish is None else None
        if data is not None:
            return data, []
        values = values.to_list()
    text, refused = as_lines(values, finish)
    return as_bytes(text), refused


def visible(text: str) -> str:
    r"""Return text in which control characters, other than tab, are shown as escapes: safe on a terminal.

    >>> visible("red \x1b[31m, a byte \udc9b, and\ta tab")
    'red \\x1b[31m, a byte \\x9b, and\ta tab'
    """
    return _CONTROL.sub(_escape, text)


def as_lines(
    values: Sequence[Any], finish: Callable[[str], str] | None = None
) -> tuple[str, list[tuple[int, BaseException]]]:
    r"""Return values as text, a line each with its ``\n``, and those that have none: their positions, with the reason.

    Args:
        values: what to write.
        finish: what to do with each text at the end, such as `visible`.

    >>> as_lines(["a", {"b": 1}])
    ('a\n{"b":1}\n', [])
    """
    if finish is None:
        try:
            return "\n".join((*values, "")), []
        except TypeError:
            pass  # not all of them are text
    texts: list[str] = []
    refused: list[tuple[int, BaseException]] = []
    for position, value in enumerate(values):
        try:
            text = as_text(value)
            texts.append(finish(text) if finish else text)
        except Exception as error:  # the value's own code
            refused.append((position, error))
    return "\n".join((*texts, "")), refused


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # the byte that it stands for
    return {0x0A: "\\n", 0x0D: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _as_json(value: dict[Any, Any]) -> str:
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
