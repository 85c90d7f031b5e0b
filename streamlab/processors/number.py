"""Numbering values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import LINE, Column
from streamlab.processors.columnar import Columnar, Kernel, Outcome


@dataclass(frozen=True)
class number(Columnar):
    """Number the values in the order in which they come: text as the number, a tab, the text; dicts get a field.

    State: the next number.

    Args:
        field: the field for the number, when values are dicts; one of that name is replaced.
        start: the first number.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("n", processors.number(start=1)).run(["hot", "cold"]).output["value"].tolist()
        ['1\\thot', '2\\tcold']
    """

    field: str = "number"
    start: int = 0

    ordered = True

    def bind(self) -> Kernel:
        """Return what numbers the values of one run."""
        return _Number(self.field, self.start)


class _Number:
    """The next number."""

    def __init__(self, field: str, start: int) -> None:
        self.field = field
        self.next = start

    def __call__(self, column: Column) -> Outcome:
        """Return the values with their numbers."""
        import polars as pl

        numbers = np.arange(self.next, self.next + len(column))
        if column.fields or column.empty:
            numbered = with_numbers(column, self.field, numbers)
        else:
            numbered = column.with_field(None, pl.Series(numbers).cast(pl.String) + "\t" + column.text())
        self.next += len(column)
        return Outcome(numbered)


def with_numbers(column: Column, field: str, numbers: NDArray[np.int64]) -> Column:
    """Return values as dicts that have numbers in one field; what is no dict is in the field ``line``."""
    import polars as pl

    column = column.beside([field])
    series = pl.Series(field, numbers, dtype=pl.Int64)
    if column.fields:
        return column.with_field(field, series)
    if column.empty:
        return Column(series.to_frame(), fields=True)
    return Column(column.frame.select(pl.all().alias(LINE)).with_columns(series), fields=True, exchange=column.exchange)
