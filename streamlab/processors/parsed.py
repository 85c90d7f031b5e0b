"""What the parsers share: text becomes fields, and a text that is not as expected fails and says where.

A parser describes its text as `Part` after part. Polars matches all of them at once over the whole column; only for the
texts that do not match they are tried one by one, to find the part that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import LINE, Column
from streamlab.processors.columnar import Outcome

if TYPE_CHECKING:
    import polars as pl

#: How much of a text a message shows, in characters.
SHOWN = 80


class Part(NamedTuple):
    """A stretch of a text: what a person calls it, and a regular expression that Python and Rust read alike."""

    what: str
    pattern: str


def pattern_of(parts: Sequence[Part]) -> str:
    """Return one pattern for text that begins with these parts, ``.`` standing for any character.

    >>> pattern_of([Part("a number", "([0-9]+)"), Part("a point", "[.]")])
    '(?s)^([0-9]+)[.]'
    """
    return "(?s)^" + "".join(part.pattern for part in parts)


def missing(parts: Sequence[Part], text: str) -> str:
    """Return which part a text does not have, and where; the end, when it has all of them.

    >>> missing([Part("a number", "([0-9]+)"), Part("a point", "[.]")], "17,5")
    'expected a point at position 2'
    """
    end = 0
    for count, part in enumerate(parts, 1):
        found = re.match(pattern_of(parts[:count]), text)
        if found is None:
            return f"expected {part.what} at position {end}"
        end = found.end()
    return f"expected the end at position {end}"


def parsed(
    column: Column,
    field: str | None,
    fields: Mapping[str, pl.Series],
    failed: NDArray[np.bool_],
    why: Callable[[str], str],
    *,
    keep: bool = False,
) -> Outcome:
    """Return what becomes of a column whose text was taken apart.

    Args:
        column: what came.
        field: where its text is; the new fields come after the other ones, in its place. ``None``: the values are text.
        fields: what was made of it, by name, each as long as the column.
        failed: which of the texts are not as expected.
        why: tells what was expected in one of those.
        keep: whether the text stays, in its field, or as ``line``; a new field of that name wins.
    """
    import polars as pl

    text = column.text(field)
    if field is not None:
        frame = {series.name: series for series in column.frame.iter_columns() if keep or series.name != field}
    else:
        frame = {LINE: text} if keep else {}
    problems = {row: ValueError(_message(column, text[row], why)) for row in np.flatnonzero(failed).tolist()}
    whole = pl.DataFrame([series.alias(name) for name, series in {**frame, **fields}.items()])
    return Outcome(replace(column, frame=whole, fields=True), problems=problems)


def _message(column: Column, text: str | None, why: Callable[[str], str]) -> str:
    """Return what is wrong with a text, and how the text begins."""
    if text is None:
        return "expected text, got None"
    if column.exchange is not None:
        text = str(column.exchange.restore(text))
    return f"{why(text)}, got {text[:SHOWN]!r}{' ...' if len(text) > SHOWN else ''}"


def together(parts: Sequence[tuple[NDArray[np.int64], pl.DataFrame]], count: int) -> pl.DataFrame:
    """Return frames of like columns as one of ``count`` rows, each row at its position; nothing at the other positions."""
    import polars as pl

    rows = np.concatenate([rows for rows, _ in parts])
    if len(parts) == 1 and len(rows) == count:
        return parts[0][1]
    at = np.full(count, -1, dtype=np.int64)
    at[rows] = np.arange(len(rows))
    whole = pl.concat([frame for _, frame in parts], rechunk=True)
    return whole.select(pl.all().gather(pl.Series(at).replace(-1, None)))
