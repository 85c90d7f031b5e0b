"""Logfmt: ``key=value`` pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcomes
from streamlab.processors.parsed import parsed

if TYPE_CHECKING:
    import polars as pl

_SPACE = r"[\x00-\x20]"
_WORD = r'[^\x00-\x20="]'
_ESCAPE = r"""\\(?:["'/\\bfnrt]|u[0-9A-Fa-f]{4})"""
_QUOTED = rf'"(?:[^"\\]|{_ESCAPE})*"'
_PAIR = rf"{_WORD}+(?:=(?:{_QUOTED}|{_WORD}*))?"
#: Pairs up to the end, or as far as they go; what follows a closing quote need not be white space.
_PAIRS = rf"^{_SPACE}*(?:(?:{_WORD}+={_QUOTED}|{_WORD}+(?:={_WORD}*)?(?:{_SPACE}|$)){_SPACE}*)"
_ESCAPED = re.compile(r"((?:\\u[0-9A-Fa-f]{4})+)|\\(.)")
_MEANING = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class parse_logfmt(Columnar):
    """Make the pairs of a line of ``key=value key="quoted value" key`` fields, all of them text.

    The grammar is that of `go-logfmt <https://pkg.go.dev/github.com/go-logfmt/logfmt>`_::

        line   = *space 1*( pair *space )   ; white space between pairs, but for after a quote
        space  = %x00-20                    ; no other is white space
        pair   = key [ "=" [ bare / quoted ] ]
        key    = 1*word
        bare   = 1*word
        word   = any character but space, "=" and the double quote
        quoted = a double quote, characters and escapes as in JSON (and \\'), a double quote

    A key alone has the value ``""``, as one with nothing after its ``=`` has: the field is there, and has no text. Of a key
    that comes twice the last value counts. A ``\\u`` escape of half a surrogate pair is U+FFFD. A line with no pair fails.

    Args:
        fields: the keys to make fields, which are then there for every line, ``None`` if it has no such key; other keys
            are dropped. ``None`` makes all keys fields, for each line its own, in the order in which they first come; lines
            with the same keys are worked on together, so that this is slow when most lines have keys of their own.
        field: the field to work on, when values are dicts; the new fields come after the other ones, in its place.

    Raises:
        ValueError: one of the fields cannot be a key, or they are none, or one of them is there twice.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> pairs = processors.parse_logfmt(["level", "msg", "ms"])
        >>> run = Pipeline("p").add("pairs", pairs).run(['level=warn msg="so hot" urgent'])
        >>> run.output[["level", "msg", "ms"]].to_dict("records")
        [{'level': 'warn', 'msg': 'so hot', 'ms': None}]
    """

    fields: Sequence[str] | None = None
    field: str | None = None

    def __post_init__(self) -> None:
        if self.fields is None:
            return
        if isinstance(self.fields, str):
            raise ValueError(f"fields is {self.fields!r}; it must be a list of keys")
        object.__setattr__(self, "fields", tuple(self.fields))
        if not self.fields or len(set(self.fields)) < len(self.fields):
            raise ValueError(f"fields is {self.fields!r}; it must be at least one key, and each of them once")
        for key in self.fields:
            if not re.fullmatch(f"{_WORD}+", key):
                raise ValueError(f"{key!r} is no key: it is empty, or has white space, = or a double quote in it")

    def apply(self, column: Column) -> Outcomes:
        """Return what becomes of a column."""
        text = column.text(self.field)
        fine = text.str.contains(_PAIRS + r"+\z").fill_null(False)
        rows, pairs = _pairs(text.set(~fine, None))
        if self.fields is not None:
            fields = {key: _values_of(key, rows, pairs, len(text)) for key in self.fields}
            return parsed(column, self.field, fields, ~fine.to_numpy(), _why)
        outcomes = []
        for positions, own in _alike(rows, pairs):
            part = column.take(positions) if len(positions) < len(column) else column
            failed = np.full(len(positions), not own)
            outcomes.append((positions, parsed(part, self.field, own, failed, _why)))
        return outcomes


def _pairs(text: pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """Return the pairs of all texts, as they stand, and for each the row of its text."""
    pairs = text.str.extract_all(_PAIR)
    counts = pairs.list.len().fill_null(1).to_numpy()  # of no text one pair that is missing
    return np.repeat(np.arange(len(text)), counts), pairs.explode()


def _values_of(key: str, rows: NDArray[np.int64], pairs: pl.Series, count: int) -> pl.Series:
    """Return the last value of a key for each of ``count`` rows."""
    import polars as pl

    found = ((pairs == key) | pairs.str.starts_with(f"{key}=")).fill_null(False).arg_true()
    last = np.full(count, -1, dtype=np.int64)
    last[rows[found.to_numpy()]] = np.arange(len(found))
    values = _bare(pairs.gather(found).str.slice(len(key) + 1))
    return values.gather(pl.Series(last).replace(-1, None))


def _alike(rows: NDArray[np.int64], pairs: pl.Series) -> Iterator[tuple[NDArray[np.int64], dict[str, pl.Series]]]:
    """Yield the rows that have the same keys, with their values; those of no text have none."""
    import polars as pl

    halves = pairs.str.splitn("=", 2).struct.unnest()
    values = _bare(halves["field_1"].fill_null(""))
    start = np.searchsorted(rows, np.arange(rows[-1] + 1))  # where the pairs of each row begin
    frame = pl.DataFrame({"row": rows, "keys": halves["field_0"]})
    keys = frame.group_by("row", maintain_order=True).agg(pl.col("keys").str.join(" ", ignore_nulls=False))
    for names, alike in keys.group_by("keys", maintain_order=True).agg("row").iter_rows():
        positions = np.array(alike, dtype=np.int64)
        found = names.split(" ") if names is not None else []
        block = values.gather((start[positions] + np.arange(len(found))[:, None]).ravel())  # by key, then by row
        yield positions, {name: block.slice(at * len(positions), len(positions)) for at, name in enumerate(found)}


def _bare(values: pl.Series) -> pl.Series:
    """Return values without their quotes, and what their escapes stand for."""
    escaped = (values.str.starts_with('"') & values.str.contains("\\", literal=True)).arg_true()
    values = values.str.strip_prefix('"').str.strip_suffix('"')
    if not len(escaped):
        return values
    texts = values.gather(escaped)
    named = texts.str.contains(r"\\[a-z]").arg_true()  # others stand for themselves
    plain = texts.str.replace_all(r"\\([^a-z])", "$1")
    return values.scatter(escaped, plain.scatter(named, [_ESCAPED.sub(_meaning, text) for text in texts.gather(named)]))


def _meaning(escape: re.Match[str]) -> str:
    """Return what stands for an escape, or for ``\\u`` escapes in a row."""
    if escape[1] is None:
        return _MEANING.get(escape[2], escape[2])
    return bytes.fromhex(escape[1].replace("\\u", "")).decode("utf-16-be", "replace")


def _why(text: str) -> str:
    found = re.match(_PAIRS + "*", text)
    assert found is not None  # without any pair too
    return f"expected key=value at position {found.end()}"
