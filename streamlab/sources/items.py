"""Python objects to lines: what lists, generators and async iterators have in common."""

from __future__ import annotations

from collections.abc import Sequence

from streamlab.batch import Chunk, Rejected
from streamlab.sources.lines import BYTES_A_CHARACTER, decoded, oversize

#: Items that are looked at together: so many that it costs little, so few that their text stays in the processor's cache.
LOOK = 256


def as_chunk(items: Sequence[object], source: str, max_line_bytes: int) -> Chunk:
    r"""Return items as lines, one each: text as it is but for one line end, bytes decoded, all else rejected.

    The usual case, text without line ends and not too long, is recognised for many items at once. A list becomes the
    chunk's own: the caller must not change it any more.

    >>> as_chunk(["a\n", b"b\r\n", "two\nlines"], "list", 100).lines
    ['a', 'b', 'two\nlines']
    >>> as_chunk(["a", 7], "list", 100).rejected
    [Rejected(position=1, kind='decode', message='is an int, not text: 7')]
    """
    ended = False
    for start in range(0, len(items), LOOK):
        block = items[start : start + LOOK]
        try:
            together = "".join(block)  # type: ignore[arg-type]  # what is not text shows here
        except TypeError:
            return _look_at_each(items, source, max_line_bytes)
        ended = ended or "\n" in together
        if len(together) * BYTES_A_CHARACTER > max_line_bytes and _any_long(block, max_line_bytes):
            return _look_at_each(items, source, max_line_bytes)
    lines: list[str] = items if isinstance(items, list) else list(items)  # type: ignore[arg-type]
    if ended:
        lines = [line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line for line in lines]
    return Chunk(lines, source=source)


def size_of(item: object) -> int:
    """Return the length of text or bytes; 0 of what is neither, and is kept short."""
    return len(item) if isinstance(item, (str, bytes, bytearray, memoryview)) else 0


def _any_long(texts: Sequence[object], max_line_bytes: int) -> bool:
    return any(len(text) * BYTES_A_CHARACTER > max_line_bytes for text in texts)  # type: ignore[arg-type]


def _look_at_each(items: Sequence[object], source: str, max_line_bytes: int) -> Chunk:
    lines: list[str] = []
    rejected: list[Rejected] = []
    for index, item in enumerate(items):
        line, mark = _line(index, item, max_line_bytes)
        lines.append(line)
        if mark is not None:
            rejected.append(mark)
    return Chunk(lines, rejected, source)


def _line(index: int, item: object, max_line_bytes: int) -> tuple[str, Rejected | None]:
    """Return what of an item is kept as its line, and why it is rejected, if it is."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        raw = bytes(item)
    elif isinstance(item, str):
        if len(item) * BYTES_A_CHARACTER <= max_line_bytes:
            return _without_end(item), None
        raw = item.encode("utf-8", "surrogatepass")
    else:
        kind = type(item).__name__
        text = _described(item)[: max_line_bytes // BYTES_A_CHARACTER]
        message = f"is {'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}, not text: {text[:100]}"
        return text, Rejected(index, "decode", message)
    raw = raw[:-1].removesuffix(b"\r") if raw.endswith(b"\n") else raw
    if len(raw) > max_line_bytes:
        return decoded(raw[:max_line_bytes]), oversize(index, len(raw), max_line_bytes)
    return (_without_end(item) if isinstance(item, str) else decoded(raw)), None


def _without_end(line: str) -> str:
    return line[:-1].removesuffix("\r") if line.endswith("\n") else line


def _described(item: object) -> str:
    try:
        return str(item)
    except Exception as error:  # its __str__ is the user's code
        return f"<{type(item).__name__} whose str() raises {type(error).__name__}>"
