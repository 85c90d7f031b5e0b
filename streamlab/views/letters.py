"""Text for HTML and SVG: escaped, and cut to a width. Pure."""

from __future__ import annotations

import html
import re
import unicodedata

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text: str) -> str:
    r"""Return text for HTML and SVG; what XML has no character for, as bytes of a log that were not UTF-8, as escapes.

    >>> escaped("<b>caf\udce9</b>\x1b")
    '&lt;b&gt;caf\\udce9&lt;/b&gt;\\x1b'
    """
    return html.escape(_NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text))


def fitted(text: str, limit: int) -> str:
    """Return text cut to a width in letters; wide ones count twice.

    >>> fitted("a long name of a processor", 10), fitted("日本語の名前", 8)
    ('a long na…', '日本語…')
    """
    width = 0
    for at, letter in enumerate(text):
        width += breadth(letter)
        if width > limit:
            kept = text[:at]
            while kept and breadth(kept) > limit - 1:
                kept = kept[:-1]
            return kept + "…"
    return text


def breadth(text: str) -> int:
    """Return the width of text in letters; wide ones count twice.

    >>> breadth("name"), breadth("名前")
    (4, 4)
    """
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
