"""Keys: what stateful built-ins keep their state by. The values themselves, or one field of them.

Keys are equal when Python says so (``1`` and ``1.0`` are), and what is not a number is equal to itself. They are found
column by column in native code; what is done for each of them in Python is done once for each distinct one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a column.

    Attributes:
        codes: for each value the position of its key in ``distinct``; -1 where it has none. Shape ``(n,)``.
        distinct: the keys, in order of first appearance.
        problems: the values without a key, by position, and why.
    """

    codes: NDArray[np.int64]
    distinct: list[Hashable]
    problems: Mapping[int, BaseException] = field(default_factory=dict)

    def first(self) -> NDArray[np.int64]:
        """Return where each key appears first, rising."""
        return _first(self.codes)

    def counts(self) -> NDArray[np.int64]:
        """Return how often each key appears."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.distinct))

    def of_each(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return for each value the number of its key; 0 where it has none."""
        return np.append(numbers, np.zeros(1, numbers.dtype))[self.codes]


def keys_of(column: Column, by: str | None) -> Keys:
    """Return the keys of a column: the values themselves, or one field of them.

    Raises:
        TypeError: the values are dicts and no field is named, or they are no dicts and one is.
        KeyError: none of the values has that field.
    """
    series = column.field(by)
    missing = np.zeros(len(series), dtype=np.bool_)
    if column.sparse and by is not None:
        missing = series.is_null().to_numpy()
    problems: dict[int, BaseException] = {row: KeyError(f"no field {by!r}") for row in np.flatnonzero(missing).tolist()}
    if series.dtype.is_nested() or series.dtype.is_object():
        return _one_by_one(column, series.to_list(), problems)
    codes = _codes(series)
    codes[missing] = -1
    first = _first(codes)
    numbers = np.full(int(codes.max(initial=-1)) + 2, -1, dtype=np.int64)  # without the one that stands for missing
    numbers[codes[first]] = np.arange(len(first))
    distinct = series.gather(first).to_list()
    return Keys(numbers[codes], [_alone(key, column) for key in distinct], problems)


def before(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many of the codes before each one are equal to it.

    >>> before(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    small = codes.astype(np.int16) if codes.max(initial=0) < 2**15 else codes  # which numpy sorts in linear time
    order = np.argsort(small, kind="stable")
    ordered = codes[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    lengths = np.diff(begins, append=len(codes))
    places = np.empty(len(codes), dtype=np.int64)
    places[order] = np.arange(len(codes)) - np.repeat(begins, lengths)
    return places


def _first(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where codes appear first, which are numbered in order of first appearance."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1) > 0)


def _codes(series: pl.Series) -> NDArray[np.int64]:
    """Return a number for each value, in order of first appearance; nothing at all is a value too."""
    import polars as pl

    if series.dtype == pl.Null:
        return np.zeros(len(series), dtype=np.int64)
    if series.dtype.is_float():
        series = series.set(series == 0, 0.0)  # of the two zeros one
    elif series.dtype in (pl.Categorical, pl.Enum, pl.Int128, pl.UInt128):  # Arrow has none of them, or more than one
        series = series.cast(pl.String)
    array = series.to_arrow(compat_level=pl.CompatLevel.oldest())
    return np.asarray(array.dictionary_encode(null_encoding="encode").indices, dtype=np.int64).copy()


def _one_by_one(column: Column, values: list[Any], problems: dict[int, BaseException]) -> Keys:
    """Return the keys of objects; lists and dicts, and what else cannot be hashed, are none."""
    known: dict[Hashable, int] = {}
    codes = np.full(len(values), -1, dtype=np.int64)
    for row, value in enumerate(values):
        if row not in problems:
            try:
                codes[row] = known.setdefault(_alone(value, column), len(known))
            except Exception as error:  # its __hash__ is the user's code
                problems[row] = error
    return Keys(codes, list(known), problems)


def _alone(key: Any, column: Column) -> Any:
    """Return a key as it is, whatever else was in its column."""
    if isinstance(key, float) and math.isnan(key):
        return math.nan
    return key if column.exchange is None else column.exchange.restore(key)
