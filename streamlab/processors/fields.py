"""Fields of dicts: which there are, what they are called, and what others follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamlab.columns import LINE, Column, columns_of
from streamlab.processors.columnar import Columnar, Outcome, Outcomes, evaluated
from streamlab.processors.pattern import check_text, expression_of

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, init=False)
class select(Columnar):
    """Keep only some fields, in this order; a value without one of them fails.

    Args:
        names: the names of the fields.

    Raises:
        ValueError: there is none, or one twice.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> read = Pipeline("p").add("read", lambda line: {"line": line, "size": len(line), "x": 0}, to="few")
        >>> read.add("few", processors.select("size", "line")).run(["hot"]).output[["size", "line"]].to_dict("records")
        [{'size': 3, 'line': 'hot'}]
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        for name in names:
            check_text("field", name)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"names={names!r} must be at least one field, and each of them once")
        object.__setattr__(self, "names", names)

    def apply(self, column: Column) -> Outcomes:
        """Return what becomes of a column."""
        return _of_each_kind(column, self._select)

    def _select(self, column: Column) -> Outcome:
        import polars as pl

        return Outcome(replace(column, frame=pl.DataFrame({name: column.field(name) for name in self.names})))


@dataclass(frozen=True)
class rename(Columnar):
    """Give fields other names, all at once, so that two can change places; a value without one of them fails.

    So does a value that would have two fields of one name. Fields stay in their order.

    Args:
        names: the new name of each field, by its old one.

    Raises:
        ValueError: there is none, or two would have one name.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> read = Pipeline("p").add("read", lambda line: {"lvl": line}, to="names")
        >>> read.add("names", processors.rename({"lvl": "level"})).run(["warn"]).output[["level"]].to_dict("records")
        [{'level': 'warn'}]
    """

    names: Mapping[str, str]

    def __post_init__(self) -> None:
        for name in (*self.names, *self.names.values()):
            check_text("field", name)
        if not self.names or len(set(self.names.values())) < len(self.names):
            raise ValueError(f"names={self.names!r} must be at least one, and no two fields can have the same new name")

    def apply(self, column: Column) -> Outcomes:
        """Return what becomes of a column."""
        return _of_each_kind(column, self._rename)

    def _rename(self, column: Column) -> Outcome:
        for name in self.names:
            column.field(name)
        for new in self.names.values():
            if new in column.frame.columns and new not in self.names:
                raise ValueError(f"there is a field {new!r} already; drop it before, or rename it too")
        return Outcome(replace(column, frame=column.frame.rename(dict(self.names))))


@dataclass(frozen=True, init=False, eq=False)
class with_fields(Columnar):
    """Add fields that follow from those that are there, or change some; text becomes the field ``line`` of a dict.

    Args:
        expressions: for each field a Polars expression, or one as SQL, over the fields, or over ``line`` where values are
            text. All of them see the value as it came. They look at their own value only, not at the ones around it.

    Raises:
        ValueError: there is none, one is wrong, or it looks at other values than its own.

    Example:
        >>> import polars as pl
        >>> from streamlab import Pipeline, processors
        >>> more = processors.with_fields(size="length(line)", loud=pl.col("line").str.to_uppercase())
        >>> Pipeline("p").add("more", more).run(["hot"]).output[["line", "size", "loud"]].to_dict("records")
        [{'line': 'hot', 'size': 3, 'loud': 'HOT'}]
    """

    expressions: Mapping[str, pl.Expr]

    def __init__(self, /, **expressions: str | pl.Expr) -> None:
        if not expressions:
            raise ValueError('there are no expressions; give at least one, such as seconds="ms / 1000"')
        made = {name: expression_of(name, expression) for name, expression in expressions.items()}
        object.__setattr__(self, "expressions", made)

    def apply(self, column: Column) -> Outcomes:
        """Return what becomes of a column."""
        return _of_each_kind(column, self._with_fields)

    def _with_fields(self, column: Column) -> Outcome:
        import polars as pl

        if not (column.fields or column.empty):
            column = replace(column, frame=column.text().alias(LINE).to_frame())
        frame = {} if column.empty else {series.name: series for series in column.frame.iter_columns()}
        results = {name: evaluated(expression, column) for name, expression in self.expressions.items()}
        return Outcome(replace(column, frame=pl.DataFrame(frame | results), fields=True))


def _of_each_kind(column: Column, change: Callable[[Column], Outcome]) -> Outcomes:
    """Return what becomes of the values that have the same fields, apart from those that have others."""
    if not column.sparse:
        return change(column)
    return [(rows, change(part)) for rows, part in columns_of(column.to_list())]
