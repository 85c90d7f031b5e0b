"""Patterns: what is said of a text by a regular expression or an expression, checked when a processor is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column
from streamlab.processors.columnar import evaluated, row_by_row

if TYPE_CHECKING:
    import polars as pl

#: What a pattern may be.
By = Literal["contains", "matches", "equals", "expression"]
#: Where Polars goes on to say what the user did not write.
_WHERE = "\n\nThis error occurred"
_QUOTED = re.compile(r"""('[^']*'|"[^"]*")""")
_POINT = re.compile(r"(?<![\w.])([0-9]+\.[0-9]*|\.[0-9]+)(?![\w.])")
_REFERENCE = re.compile(r"\$(?:\$|\{([^}]*)\}|(\w+))", re.ASCII)


def check_text(what: str, text: object) -> None:
    """Refuse what is no text, or none that Polars can hold.

    Raises:
        ValueError: it is not; ``what`` is how the message calls it.
    """
    if not isinstance(text, str):
        raise ValueError(f"{what}={text!r} must be text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}={text!r} must be UTF-8, without surrogates") from None


def check_regex(pattern: str) -> None:
    """Refuse a regular expression that Rust's ``regex`` does not know.

    >>> check_regex("(?=x)")
    Traceback (most recent call last):
    ValueError: ...

    """
    import polars as pl

    check_text("pattern", pattern)
    try:
        pl.Series(["x"]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise ValueError(
            f"{pattern!r} is no regular expression of Rust's regex, which has no look-around and no back-references:"
            f" {str(error).partition(_WHERE)[0]}"
        ) from None


def check_references(pattern: str, by: str) -> None:
    """Refuse a replacement that names a group which the pattern does not have; it would be replaced by nothing."""
    import polars as pl

    names = [field.name for field in pl.Series(["x"]).str.extract_groups(pattern).dtype.fields]  # type: ignore[attr-defined]
    known = {*names, *map(str, range(len(names) + 1))}
    for found in _REFERENCE.finditer(by):
        name = found[1] if found[1] is not None else found[2]
        if name is not None and name not in known:
            have = ", ".join(sorted(known))
            raise ValueError(f"by={by!r}: the pattern has no group {name!r}, only {have}; write $$ for a dollar sign")


def expression_of(what: str, given: Any) -> pl.Expr:
    """Return a Polars expression that was given as such, or as SQL.

    >>> print(expression_of("test", "ms > 100"))
    [(col("ms")) > (dyn int: 100)]

    Raises:
        ValueError: it is neither, or it looks at other rows than its own; ``what`` is how the message calls it.
    """
    import polars as pl

    if isinstance(given, str):
        try:
            expression = pl.sql_expr(_with_floats(given))
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"{what}: {given!r} is no SQL expression that Polars knows: {error}") from None
    elif isinstance(given, pl.Expr):
        expression = given
    else:
        raise ValueError(f"{what}: {given!r} must be a Polars expression, or one as SQL text; pl.lit(...) for a constant")
    if expression.meta.has_multiple_outputs():
        raise ValueError(f"{what}: {given!s} gives several columns; make one of them with pl.struct(...)")
    if not row_by_row(expression):
        raise ValueError(
            f"{what}: {given!s} looks at other lines than its own, so that its result would depend on the batch size;"
            " use a class to keep state from line to line"
        )
    return expression


def _with_floats(sql: str) -> str:
    """Return SQL whose numbers with a point are floats; Polars has decimals for them, and cuts what is made of these.

    >>> _with_floats("ms / 1000.0 > .5 AND name = '1.5'")
    "ms / 1000.0e0 > .5e0 AND name = '1.5'"
    """
    parts = _QUOTED.split(sql)
    return "".join(part if at % 2 else _POINT.sub(r"\1e0", part) for at, part in enumerate(parts))


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a value passes or does not; made by `condition_of`."""

    pattern: str | pl.Expr
    by: By
    field: str | None

    def __call__(self, column: Column) -> NDArray[np.bool_]:
        """Return which values pass; what is missing does not.

        Raises:
            TypeError: it is about text, and the values are none, or the expression is neither true nor false.
            KeyError: there is no such field.
        """
        import polars as pl

        if not isinstance(self.pattern, str):
            passed = evaluated(self.pattern, column)
            if passed.dtype not in (pl.Boolean, pl.Null):
                raise TypeError(f"{self.pattern!s} is {passed.dtype}, and must be true or false")
            if passed.dtype == pl.Null:
                return np.zeros(len(passed), dtype=np.bool_)
        else:
            text = column.beside([self.pattern]).text(self.field)
            if self.by == "equals":
                passed = text == self.pattern
            else:
                passed = text.str.contains(self.pattern, literal=self.by == "contains")
        return (passed.fill_null(False) if passed.null_count() else passed).to_numpy()


def condition_of(pattern: Any, by: By, field: str | None) -> Condition:
    """Return a condition, checked.

    Raises:
        ValueError: the pattern is wrong, there is no such kind of it, or an expression is to look at one field.

    >>> import polars as pl
    >>> condition_of("a", "contains", None)(Column(pl.DataFrame({"line": ["cat", "dog", None]}))).tolist()
    [True, False, False]
    """
    if by not in get_args(By):
        raise ValueError(f"by={by!r} must be {', '.join(map(repr, get_args(By)))}")
    if by == "expression":
        if field is not None:
            raise ValueError(f"field={field!r} is not for expressions, which name their fields: {field} > 100, for example")
        return Condition(expression_of("expression", pattern), by, None)
    check_text("pattern", pattern)
    if by == "matches":
        check_regex(pattern)
    return Condition(pattern, by, field)
