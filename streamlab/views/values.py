"""Values as HTML: cut to a length, and with what a processor changed in them marked. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamlab.tables import plain
from streamlab.views.letters import escaped, fitted

#: Letters of a value, and of one in a table of many, at most.
LONG, SHORT = 1_000, 72
#: Letters of a field, at most.
FIELD = 200
#: Fields of a dict whose changes are marked; pairs of words that are compared to mark the changes of text.
FIELDS, PAIRS = 100, 10_000


def value(of: Any, limit: int = LONG) -> str:
    """Return a value as code, cut to some letters."""
    return f"<code>{cut(_text(of, limit), limit)}</code>"


def short_value(of: Any) -> str:
    """Return the beginning of a value, for a table with a row for each; the pointer is told more."""
    text = _text(of, LONG)
    return f'<code title="{escaped(text[:LONG])}">{escaped(fitted(text, SHORT))}</code>'


def _text(of: Any, limit: int | None = None, depth: int = 20) -> str:
    """Return a value as text: text as it is, dicts by their fields, whatever else as Python writes it.

    Of what has parts there may be no more than a limit of letters asks for.
    """
    if isinstance(of, str):
        return of
    if isinstance(of, float):
        return repr(float(of))  # for JSON, NaN would be nothing
    if depth and isinstance(of, dict):
        return f"{{{_listed((f'{_text(n)}: {_text(v, limit, depth - 1)}' for n, v in of.items()), limit)}}}"
    if depth and type(of) in (list, tuple):
        items = (repr(v) if isinstance(v, str) else _text(v, limit, depth - 1) for v in of)
        return f"[{_listed(items, limit)}]" if type(of) is list else f"({_listed(items, limit)})"
    said = plain(of, depth)
    return said if isinstance(said, str) else repr(said)


def _listed(texts: Iterable[str], limit: int | None) -> str:
    """Return texts one after the other, up to a limit of letters or a little more."""
    parts, length = [], 0
    for text in texts:
        parts.append(text)
        length += len(text)
        if limit is not None and length > limit:
            break
    return ", ".join(parts)


def cut(text: str, limit: int) -> str:
    """Return text for HTML, cut to some letters."""
    return escaped(text) if len(text) <= limit else f'{escaped(text[:limit])}<span class="faint">…</span>'


def changed(before: Any, after: Any) -> str:
    """Return a value with what was not in the one before marked, and what is gone struck out.

    >>> changed("warn: hot", "WARN: hot")
    '<code><s>warn</s><mark>WARN</mark>: hot</code>'
    >>> changed({"a": 1, "b": 2}, {"a": 1, "b": 3})
    '<code>{a: 1, b: <mark>3</mark>}</code>'
    """
    if isinstance(before, dict) and isinstance(after, dict):
        return f"<code>{_fields(before, after)}</code>"
    if isinstance(before, str) and isinstance(after, str):
        return f"<code>{_words(before, after)}</code>"
    text = value(after)
    return text if _same(before, after) else f"<mark>{text}</mark>"


def _same(before: Any, after: Any) -> bool:
    if type(before) is not type(after):
        return False
    return before is after or _text(before) == _text(after)


def _fields(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> str:
    parts = []
    for name, item in list(after.items())[:FIELDS]:
        text, key = cut(_text(item, FIELD), FIELD), cut(_text(name), FIELD)
        same = name in before and _same(before[name], item)
        parts.append(
            f"{key}: {text}" if same else f"{key}: <mark>{text}</mark>" if name in before else f"<mark>{key}: {text}</mark>"
        )
    if len(after) > FIELDS:
        parts.append(f'<span class="faint">… ({len(after) - FIELDS:,} more fields)</span>')
    gone = [name for name in before if name not in after]
    parts += [f"<s>{cut(_text(name), FIELD)}</s>" for name in gone[:FIELDS]]
    return f"{{{', '.join(parts)}}}"


def _words(before: str, after: str) -> str:
    """Return text with the words that changed marked; of long ones, or if too many did, all from the first to the last."""
    if max(len(before), len(after)) > LONG:
        text = cut(after, LONG)
        return text if before == after else f"<mark>{text}</mark>"
    old, new = (re.findall(r"\w+|\s+|[^\w\s]", text) for text in (before, after))
    first = _alike(old, new)
    last = _alike(old[first:][::-1], new[first:][::-1])
    begin, end = escaped("".join(new[:first])), escaped("".join(new[len(new) - last :]))
    old, new = old[first : len(old) - last], new[first : len(new) - last]
    if len(old) * len(new) > PAIRS:
        return begin + _exchanged(old, new) + end
    steps = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    parts = [escaped("".join(new[k:m])) if kind == "equal" else _exchanged(old[i:j], new[k:m]) for kind, i, j, k, m in steps]
    return begin + "".join(parts) + end


def _alike(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many words both begin with."""
    return next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


def _exchanged(old: Sequence[str], new: Sequence[str]) -> str:
    gone, come = escaped("".join(old)), escaped("".join(new))
    return (f"<s>{gone}</s>" if gone else "") + (f"<mark>{come}</mark>" if come else "")
