"""Columnar processors: what they take and give, so that a batch goes through native code and is still accounted for.

A processor written as a Polars expression is an `Expression`; the built-ins are the other classes with this shape, a
concept a file. Add yours by deriving from `Columnar`: `apply` takes a `Column` and returns an `Outcome` of the same length,
or several when the results are of several kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import LINE, Column
from streamlab.paths import Fate, Target

if TYPE_CHECKING:
    import polars as pl

#: Fields without a type for which all combinations of types are tried.
_UNTYPED = 4


@dataclass(slots=True)
class Outcome:
    """What became of a column, value by value.

    Attributes:
        column: the values as they go on; as many as came.
        keep: which of them go on at all; ``None`` for all.
        way: for each the position of its tag in the processor's ``ways``; ``None`` when there is one way for all.
        problems: those that failed, by position, and why; what the other attributes say of them does not matter.
    """

    column: Column
    keep: NDArray[np.bool_] | None = None
    way: NDArray[np.integer[Any]] | None = None
    problems: Mapping[int, BaseException] = field(default_factory=dict)


#: What became of a column: one outcome, or several with the positions that each is of; together they are all of them.
Outcomes = Outcome | Sequence[tuple[NDArray[np.int64], Outcome]]
Kernel = Callable[[Column], Outcomes]


class Columnar:
    """A processor over columns. The result for a value must not depend on how the values are cut into columns.

    Attributes:
        ways: the tags that it routes to by itself; without any its values go to the pipeline's ``to``.
        kept: the fate of the values that do not go on.
        ordered: whether it keeps state from one value to the next; then it gets all values in input order.
    """

    ways: tuple[Target, ...] = ()
    kept: Fate = Fate.FILTERED
    ordered: bool = False

    def bind(self) -> Kernel:
        """Return the function that is called with each column of one run, with state of its own if it keeps any.

        A function that has a method ``flush`` is asked, at the end of input, for the values that are left.
        """
        return self.apply

    def apply(self, column: Column) -> Outcomes:
        """Return what becomes of a column: several outcomes when the results do not fit into one.

        Raises:
            Exception: one of the values cannot be processed; it is then tried again with fewer, until that one is found.
        """
        raise NotImplementedError


def row_by_row(expression: pl.Expr) -> bool:
    """Tell whether Polars says that each row's result comes from this row alone; a Python function inside is believed.

    >>> import polars as pl
    >>> row_by_row(pl.col("ms") > 100), row_by_row(pl.col("ms") > pl.col("ms").shift())
    (True, False)
    """
    import polars as pl

    meta = expression.meta
    try:  # Polars answers for the outermost operation only
        alone = meta.is_literal() or (meta.is_row_separable() and (meta.is_length_preserving() or not meta.root_names()))
    except pl.exceptions.PolarsError:
        alone = True
    # What list.eval does with the elements of a list is done within a row.
    return alone and all(row_by_row(part) for part in meta.pop() if "element()" not in str(part))


def evaluated(expression: pl.Expr, column: Column) -> pl.Series:
    """Return the results of an expression over the column ``line``, or over the fields: as many as there are values.

    Where a field is ``None`` in all of the values nothing tells its type. So that the result for a value does not depend on
    the other ones it is text, as beside text, and only if that does not fit what fits everything.

    Raises:
        Exception: what Polars raises.
    """
    import polars as pl

    frame = column.frame
    names = [name for name in dict.fromkeys(expression.meta.root_names()) if name in frame.columns and _untyped(frame[name])]
    types: Iterable[tuple[Any, ...]] = product((pl.String, pl.Null), repeat=len(names))
    if len(names) > _UNTYPED:
        types = ((pl.String,) * len(names), (pl.Null,) * len(names))
    first: BaseException | None = None
    for dtypes in types:
        typed = [pl.lit(None, dtype).alias(name) for name, dtype in zip(names, dtypes, strict=True)]
        try:
            return frame.with_columns(typed).with_columns(expression.alias(LINE))[LINE]
        except Exception as error:
            first = first or error
    assert first is not None
    raise first


def _untyped(series: pl.Series) -> bool:
    import polars as pl

    return series.dtype in (pl.String, pl.Null) and series.null_count() == len(series)


class Expression(Columnar):
    """A Polars expression over the column ``line``, or over the fields; a null result filters the value."""

    def __init__(self, expression: pl.Expr) -> None:
        self._expression = expression

    def apply(self, column: Column) -> Outcome:
        """Evaluate the expression."""
        import polars as pl

        results = evaluated(self._expression, column)
        keep = results.is_not_null().to_numpy() if results.null_count() else None
        fields = results.dtype == pl.Struct
        frame = results.struct.unnest() if fields else results.to_frame()
        return Outcome(Column(frame, fields, exchange=column.exchange), keep)
