"""Values to lines of text: one function for all sinks that write lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from streamlab.columns import Column
from streamlab.texts import as_bytes, as_text

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")  # all but tab; C1 and raw bytes drive terminals too


class Encoded(Sequence[Any]):
    """Values that are lines of bytes already; only how many there are can be asked.

    Args:
        data: the lines.
        count: of the values.
    """

    def __init__(self, data: bytes, count: int) -> None:
        self.data = data
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("a value may have several lines: they cannot be told apart any more")


def encoded(
    values: Sequence[Any], finish: Callable[[str], str] | None = None
) -> tuple[bytes | memoryview, list[tuple[int, BaseException]]]:
    """Return values as lines of bytes, and what is refused of them, see `as_lines`; columns go the native way."""
    if isinstance(values, Encoded):
        return values.data, []
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
