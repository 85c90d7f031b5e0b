"""Text: case, white space, replacement, templates."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamlab.columns import LINE, Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.pattern import check_references, check_regex, check_text

if TYPE_CHECKING:
    import polars as pl

#: What `str.isspace` says is white space; Unicode, and so Polars, does not count the four separators from U+001C.
_SPACES = (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
_SPACE = "".join(map(chr, _SPACES))
#: Letters that got their other case in Unicode 15 to 17, which Polars may know before Python does, or the other way round.
_NEW_CASES = "\u019b\u0264\u1c89\u1c8a\ua7cb-\ua7dc\U00010d50-\U00010d85\U00016ea0-\U00016ed3"
#: A capital sigma becomes what the letters around it say, and what is a letter depends on the version of Unicode too.
_CONTEXT = "Σ"


@dataclass(frozen=True)
class upper(Columnar):
    """Make text upper-case, as ``str.upper`` does.

    Args:
        field: the field to work on, when values are dicts; other fields stay as they are.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("loud", processors.upper()).run(["warn: hot"]).output["value"].tolist()
        ['WARN: HOT']
    """

    field: str | None = None

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        return _on_text(column, self.field, lambda text: _cased(text, text.str.to_uppercase(), _NEW_CASES, str.upper))


@dataclass(frozen=True)
class lower(Columnar):
    """Make text lower-case, as ``str.lower`` does.

    Args:
        field: the field to work on, when values are dicts; other fields stay as they are.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("calm", processors.lower()).run(["WARN: Hot"]).output["value"].tolist()
        ['warn: hot']
    """

    field: str | None = None

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        odd = _NEW_CASES + _CONTEXT
        return _on_text(column, self.field, lambda text: _cased(text, text.str.to_lowercase(), odd, str.lower))


@dataclass(frozen=True)
class strip(Columnar):
    """Remove white space, or other characters, from the ends of text, as ``str.strip`` does.

    Args:
        chars: the characters to remove; ``None`` for white space.
        side: ``"both"`` ends, the ``"start"`` (as ``str.lstrip``) or the ``"end"`` (as ``str.rstrip``).
        field: the field to work on, when values are dicts; other fields stay as they are.

    Raises:
        ValueError: there is no such side, or the characters are not UTF-8.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("bare", processors.strip()).run(["  warn: hot  "]).output["value"].tolist()
        ['warn: hot']
        >>> Pipeline("p").add("bare", processors.strip("#", side="start")).run(["## a #"]).output["value"].tolist()
        [' a #']
    """

    chars: str | None = None
    side: Literal["both", "start", "end"] = "both"
    field: str | None = None

    def __post_init__(self) -> None:
        if self.side not in ("both", "start", "end"):
            raise ValueError(f"side={self.side!r} must be 'both', 'start' or 'end'")
        if self.chars is not None:
            check_text("chars", self.chars)

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        chars = _SPACE if self.chars is None else self.chars
        way = {"both": "strip_chars", "start": "strip_chars_start", "end": "strip_chars_end"}[self.side]
        return _on_text(column.beside([chars]), self.field, lambda text: getattr(text.str, way)(chars))


@dataclass(frozen=True)
class replace(Columnar):
    """Replace every occurrence of a text, as ``str.replace`` does, or every match of a regular expression.

    Regular expressions are those of Rust's ``regex`` (https://docs.rs/regex/latest/regex/#syntax): as Python's for the most
    part, but without look-around and back-references, and in time that grows with the length of the text only. In ``by``
    ``$1``, ``${1}`` and ``${name}`` stand for what a group matched, ``$0`` for the whole match, and ``$$`` for a dollar
    sign; take the braces when a letter, digit or ``_`` follows.

    Args:
        pattern: the text to replace; the empty one is before, between and after all characters.
        by: what to put in its place.
        regex: whether the pattern is a regular expression.
        field: the field to work on, when values are dicts; other fields stay as they are.

    Raises:
        ValueError: the regular expression is wrong, or ``by`` names a group that it does not have.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("dots", processors.replace(",", ".")).run(["1,5 and 2,5"]).output["value"].tolist()
        ['1.5 and 2.5']
        >>> swap = processors.replace(r"(\\w+)=(?<value>\\w+)", "${value}=$1", regex=True)
        >>> Pipeline("p").add("swap", swap).run(["a=1 b=2"]).output["value"].tolist()
        ['1=a 2=b']
    """

    pattern: str
    by: str
    regex: bool = False
    field: str | None = None

    def __post_init__(self) -> None:
        check_text("pattern", self.pattern)
        check_text("by", self.by)
        if self.regex:
            check_regex(self.pattern)
            check_references(self.pattern, self.by)

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        column = column.beside([self.pattern, self.by])
        literal = not self.regex
        return _on_text(column, self.field, lambda text: text.str.replace_all(self.pattern, self.by, literal=literal))


@dataclass(frozen=True)
class template(Columnar):
    """Make text of fields: ``{level}: {message}``.

    Text goes in as it is, and numbers, booleans, dates and times as ``str`` writes them. A field that is missing or
    ``None`` leaves its place empty. Lists, dicts and bytes in a field that the template names fail.

    Args:
        text: the template: fields by name in braces, ``{line}`` for values that are text; ``{{`` and ``}}`` are braces.

    Raises:
        ValueError: it is no such template, or has a format such as ``{ms:.2f}``.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> read = lambda line: dict(zip(("level", "ms"), line.split()))
        >>> pipeline = Pipeline("p").add("read", read, to="write").add("write", processors.template("{level} took {ms} ms"))
        >>> pipeline.run(["warn 70"]).output["value"].tolist()
        ['warn took 70 ms']
    """

    text: str

    def __post_init__(self) -> None:
        check_text("template", self.text)
        list(self._parts())

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        import polars as pl

        column = column.beside([self.text])
        pieces: list[pl.Series | pl.Expr] = [pl.lit("")]
        for literal, name in self._parts():
            pieces.append(pl.lit(literal))
            if column.empty or (column.fields and name not in column.frame.columns):
                continue
            if name is not None:
                pieces.append(_rendered(column.field(None if name == LINE and not column.fields else name)))
        return Outcome(column.with_field(None, column.frame.with_columns(pl.concat_str(pieces).alias(LINE))[LINE]))

    def _parts(self) -> Iterator[tuple[str, str | None]]:
        """Yield the stretches of plain text, each with the field that follows it."""
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(f"template {self.text!r}: {error}; write {{{{ and }}}} for braces") from None
        for literal, name, form, conversion in parts:
            if name == "" or form or conversion:
                what = "".join(("{", name or "", f"!{conversion}" if conversion else "", f":{form}" if form else "", "}"))
                raise ValueError(f"template {self.text!r}: {what} must be the name of a field, such as {{level}}, no more")
            yield literal, name


def _on_text(column: Column, field: str | None, change: Callable[[pl.Series], pl.Series]) -> Outcome:
    """Return a column with its text, or one field of it, changed; what is no text fails, what is missing stays missing."""
    return Outcome(column.with_field(field, change(column.text(field))))


def _cased(text: pl.Series, native: pl.Series, odd: str, python: Callable[[str], str]) -> pl.Series:
    """Return text in its other case: as Polars says, but as Python does where it has odd characters."""
    import polars as pl

    it = text.to_frame("it").select(bytes=pl.col("it").str.len_bytes().sum(), characters=pl.col("it").str.len_chars().sum())
    if it["bytes"][0] == it["characters"][0]:  # all of it is ASCII
        return native
    mask = text.str.contains(f"[{odd}]").fill_null(False)
    if not mask.any():
        return native
    return native.scatter(np.flatnonzero(mask.to_numpy()), [python(value) for value in text.filter(mask)])


def _rendered(series: pl.Series) -> pl.Series:
    """Return values as ``str`` writes them, and nothing for those that are missing."""
    import polars as pl

    dtype = series.dtype
    if dtype == pl.String and not series.null_count():
        return series
    if dtype == pl.Boolean:
        texts = series.to_frame("it").select(pl.when("it").then(pl.lit("True")).when(~pl.col("it")).then(pl.lit("False")))
        series = texts.to_series()
    elif dtype.is_float():
        series = series.cast(pl.Float64)
        size, native = series.abs(), series.cast(pl.String)
        odd = ((size != 0) & ((size < 1e-4) | (size >= 1e16) | size.is_nan())).fill_null(False)
        # Python writes these with an exponent, or by name, in its own way.
        written = [repr(number) for number in series.filter(odd)]
        series = native.scatter(np.flatnonzero(odd.to_numpy()), written) if written else native
    elif dtype.is_temporal() or dtype.is_decimal():
        series = pl.Series([None if x is None else str(x) for x in series], dtype=pl.String)
    elif not (dtype.is_integer() or dtype in (pl.String, pl.Null)):
        what = "the value" if series.name == LINE else f"field {series.name!r}"
        raise TypeError(f"{what} is {dtype}: a template takes text, numbers, booleans, dates and times")
    return series.cast(pl.String).fill_null("")
