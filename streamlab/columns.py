"""Values as columns: what Polars works on, and how Python values become it and come back unchanged.

A `Column` is a sequence of values, all of them text or all of them dicts, kept as a Polars frame: text as the one column
``line``, dicts as a column for each field. It is what a batch is made of between two columnar processors, and between a
file and a file, without a Python object a line.

Polars strings are UTF-8, and lines may hold bytes that are not (lone surrogates, PEP 383). They are exchanged for
characters that Unicode leaves to private use, from a block that the text does not use, and exchanged back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

#: The column that text values are in.
LINE = "line"
_SURROGATE = re.compile("[\ud800-\udfff]")
_DEEP = 16  # levels of dicts and lists that become types; it takes Polars seconds where there are hundreds
_LARGEST = 2**31  # bytes of a text; Polars has 32 bits to count them
_WIDE = 127  # bits of the largest whole numbers that Polars has
_PRIVATE_USE = range(0xF0000, 0x10F800, 0x800)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A way to say surrogates in UTF-8: surrogate ``0xD800 + i`` is the character ``block + i``."""

    block: int

    @classmethod
    def for_values(cls, values: Sequence[Any]) -> Exchange | None:
        """Return one whose characters are in none of the values' texts; ``None`` when none of them holds a surrogate."""
        used: set[str] = set()

        def look(text: str) -> str:
            used.update(text)
            return text

        _on_texts(values, look)
        if not any(map(_SURROGATE.match, used)):
            return None
        return next(cls(b) for b in _PRIVATE_USE if not any(b <= ord(c) < b + 0x800 for c in used))

    def hide(self, value: Any) -> Any:
        """Return a value whose texts are UTF-8."""
        return _on_texts(value, lambda text: _SURROGATE.sub(lambda c: chr(ord(c[0]) - 0xD800 + self.block), text))

    def restore(self, value: Any) -> Any:
        """Return a value with its surrogates back."""
        hidden = re.compile(f"[{chr(self.block)}-{chr(self.block + 0x7FF)}]")
        return _on_texts(value, lambda text: hidden.sub(lambda c: chr(ord(c[0]) - self.block + 0xD800), text))


def _on_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with every text in it changed, keys of dicts too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_on_texts(key, change): _on_texts(item, change) for key, item in value.items()}
    return [_on_texts(item, change) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, eq=False)
class Column(Sequence[Any]):
    """Values in a Polars frame, one a row.

    Attributes:
        frame: the column ``line`` of text (or of what an expression made of it), or the fields of dicts.
        fields: whether the values are dicts.
        sparse: whether a missing field is no field at all; otherwise it is ``None``.
        exchange: how surrogates in it are hidden, if any are.

    Example:
        >>> import polars as pl
        >>> column = Column(pl.DataFrame({"level": ["warn", "info"], "ms": [7, None]}), fields=True)
        >>> column[0], list(column[1:])
        ({'level': 'warn', 'ms': 7}, [{'level': 'info', 'ms': None}])
    """

    frame: pl.DataFrame
    fields: bool = False
    sparse: bool = False
    exchange: Exchange | None = None

    def __len__(self) -> int:
        return self.frame.height

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Column: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return replace(self, frame=self.frame[index])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return replace(self, frame=self.frame[index % len(self) : index % len(self) + 1]).to_list()[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_list())

    def to_list(self) -> list[Any]:
        """Return the values as Python objects."""
        values: list[Any] = self.frame.to_dicts() if self.fields else self.frame.to_series().to_list()
        if self.sparse:
            values = [{name: item for name, item in value.items() if item is not None} for value in values]
        return values if self.exchange is None else [self.exchange.restore(value) for value in values]

    def take(self, rows: NDArray[Any]) -> Column:
        """Return some values: by a mask of booleans, or by positions."""
        import polars as pl

        if rows.dtype == np.bool_ and rows.all():
            return self
        # Other ways to say the same have Polars plan a query first, which takes longer than the work.
        if rows.dtype == np.bool_:
            mask = pl.Series(rows)
            return replace(self, frame=pl.DataFrame({s.name: s.filter(mask) for s in self.frame.iter_columns()}))
        return replace(self, frame=self.frame[pl.Series(rows.astype(np.uint32))])

    def text(self, field: str | None = None) -> pl.Series:
        """Return the text that a processor works on: the values themselves, or one field of them.

        Raises:
            TypeError: the values are dicts and no field is named, or they are no dicts and one is, or it is no text.
            KeyError: there is no such field.
        """
        import polars as pl

        series = self.field(field)
        if series.dtype == pl.String:
            return series
        if series.dtype == pl.Null:
            return series.cast(pl.String)
        raise TypeError(f"{'the value' if field is None else f'field {field!r}'} is {series.dtype}, not text")

    def field(self, field: str | None = None) -> pl.Series:
        """Return the values themselves, or one field of them; errors as for `text`."""
        if self.empty and field is not None:
            raise KeyError(f"no field {field!r}: the values have none")
        if self.fields != (field is not None):
            have = f"fields ({', '.join(self.frame.columns)}): name one with field=" if self.fields else "no fields"
            raise TypeError(f"the values have {have}" if self.fields else f"the values have no fields, and so no {field!r}")
        if field is not None and field not in self.frame.columns:
            raise KeyError(f"no field {field!r} among {', '.join(self.frame.columns)}")
        return self.frame[field or LINE]

    @property
    def empty(self) -> bool:
        """Whether the values are dicts without any fields; these are in one column, as other values are."""
        import polars as pl

        return not self.fields and isinstance(self.frame.dtypes[0], pl.Struct)

    def beside(self, texts: Sequence[str]) -> Column:
        """Return the same values, with surrogates hidden so that none of them looks like a character of these texts."""
        import polars as pl

        exchange = self.exchange
        if exchange is None or not any(exchange.block <= ord(c) < exchange.block + 0x800 for c in "".join(texts)):
            return self
        shown = [(exchange.restore(series.name), exchange.restore(series.to_list())) for series in self.frame.iter_columns()]
        other = Exchange.for_values([*shown, [*texts, "\ud800"]])
        assert other is not None
        frame = {
            other.hide(name): pl.Series(other.hide(items), dtype=series.dtype)
            for series, (name, items) in zip(self.frame.iter_columns(), shown, strict=True)
        }
        return replace(self, frame=pl.DataFrame(frame), exchange=other)

    def with_field(self, field: str | None, series: pl.Series) -> Column:
        """Return the values with others in their place, or in the place of one field of them."""
        if field is None:
            return replace(self, frame=series.alias(LINE).to_frame(), fields=False, sparse=False)
        return replace(self, frame=self.frame.with_columns(series.alias(field)))

    def encoded(self) -> memoryview | None:
        """Return text as lines of UTF-8, each with its ``\\n``; ``None`` when it cannot be done column-wise."""
        import polars as pl

        series = self.frame.to_series() if not self.fields else json_text(self)
        if self.exchange is not None or series is None or series.dtype != pl.String or series.null_count():
            return None
        if series.estimated_size() > _LARGEST:
            return None
        whole = pl.concat([series, pl.Series(series.name, [""])]).str.join("\n")
        return memoryview(whole.to_arrow(compat_level=pl.CompatLevel.oldest()).buffers()[2] or b"")


def json_text(column: Column) -> pl.Series | None:
    """Return dicts as compact JSON, the same text that Python's ``json`` gives.

    ``None`` when Polars would write it otherwise: where a missing field is no field, and floats that Python writes with an
    exponent.
    """
    import polars as pl

    frame = column.frame
    if column.sparse and any(frame[name].null_count() for name in frame.columns):
        return None
    for series in frame.iter_columns():
        if series.dtype.is_float():
            size = series.abs()
            if not ((size == 0) | ((size >= 1e-4) & (size < 1e16))).all():
                return None
        elif not (series.dtype.is_integer() or series.dtype in (pl.String, pl.Boolean, pl.Null)):
            return None
    return frame.select(pl.struct(pl.all()).struct.json_encode().alias(LINE)).to_series()


def column_of_lines(block: bytes) -> Column | None:
    """Return the lines of a block of bytes, by the rules of `streamlab.sources.lines`; ``None`` when they are not UTF-8."""
    import polars as pl

    try:
        return Column(pl.read_lines(block, name=LINE))
    except pl.exceptions.ComputeError:
        return None


def longest(column: Column) -> int:
    """Return the length of the longest line, in bytes of UTF-8; 0 without any."""
    return int(np.max(column.frame[LINE].str.len_bytes().to_numpy(), initial=0))


def text_size(lines: Sequence[str]) -> int:
    """Return how much text lines are: bytes of UTF-8 of a column, characters of a list."""
    if isinstance(lines, Column):
        return int(lines.frame[LINE].str.len_bytes().sum())
    return sum(map(len, lines))


def columns_of(values: Sequence[Any]) -> Iterator[tuple[NDArray[np.int64], Column]]:
    """Yield values as columns with their positions: likes with likes, so that none is changed by what stands beside it."""
    import polars as pl

    everything = np.arange(len(values), dtype=np.int64)
    if isinstance(values, Column):
        yield everything, values
        return
    if all(issubclass(kind, (str, NoneType)) for kind in set(map(type, values))):
        try:
            yield everything, Column(pl.DataFrame({LINE: pl.Series(values, dtype=pl.String, strict=True)}))
            return
        except UnicodeEncodeError:
            pass
    likes: dict[Hashable, list[int]] = {}
    for index, value in enumerate(values):
        try:
            signature = _signature(value)
        except RecursionError:  # it is nested deeper than anything can look into it
            yield everything[index : index + 1], Column(pl.DataFrame({LINE: pl.Series([value], dtype=pl.Object)}))
        else:
            likes.setdefault(signature, []).append(index)
    for signature, indexes in likes.items():
        yield from _alike([values[i] for i in indexes], everything[indexes], _raw(signature))


def _alike(values: list[Any], rows: NDArray[np.int64], raw: bool) -> Iterator[tuple[NDArray[np.int64], Column]]:
    """Yield values of one signature as one column, or as several where Polars sees no common type."""
    import polars as pl

    exchange = Exchange.for_values(values) if raw else None
    if exchange is not None:
        values = exchange.hide(values)
    try:
        fields = isinstance(values[0], dict) and len(values[0]) > 0
        frame = _frame(values) if fields else _series(LINE, values, _odd(values[0]), len(values) == 1).to_frame()
        yield rows, Column(frame, fields, exchange=exchange)
    except KeyboardInterrupt:
        raise
    except BaseException:  # Polars panics are no Exceptions
        if len(values) == 1:
            yield rows, Column(pl.DataFrame({LINE: pl.Series(values, dtype=pl.Object)}), exchange=exchange)
            return
        middle = len(values) // 2
        for half in (slice(None, middle), slice(middle, None)):
            yield from _alike(values[half] if exchange is None else exchange.restore(values[half]), rows[half], raw)


def _frame(values: list[dict[Any, Any]]) -> pl.DataFrame:
    """Return dicts of one signature as columns; what Polars has no type for stays Python objects, in its field.

    Raises:
        Exception: there are several dicts, and one of them has such a value.
    """
    import polars as pl

    odd = {name for name, item in values[0].items() if _odd(item)}
    try:
        if not odd:
            frame = pl.DataFrame(values, infer_schema_length=None)
            if any(frame[name].null_count() > [value[name] for value in values].count(None) for name in _with_nulls(frame)):
                raise ValueError("one of the values does not fit in the column of the others")
            return frame
    except KeyboardInterrupt:
        raise
    except BaseException:  # Polars panics are no Exceptions
        if len(values) > 1:
            raise
    fields = {name: [value[name] for value in values] for name in values[0]}
    return pl.DataFrame({name: _series(name, items, name in odd, len(values) == 1) for name, items in fields.items()})


def _with_nulls(frame: pl.DataFrame) -> list[str]:
    return [series.name for series in frame.iter_columns() if series.null_count()]


def _series(name: str, items: list[Any], odd: bool, alone: bool) -> pl.Series:
    """Return the values of a field; as Python objects if they are odd, or if Polars has no type for the one that is."""
    import polars as pl

    if not odd:
        try:
            return pl.Series(name, items, dtype=pl.String if items[0] is None else None, strict=True)
        except KeyboardInterrupt:
            raise
        except BaseException:  # Polars panics are no Exceptions
            if not alone:
                raise
    return pl.Series(name, items, dtype=pl.Object)


def _odd(value: Any, depth: int = 0) -> bool:
    """Tell whether Polars would change a value: a list of unlike values would become alike. Deep ones take it too long."""
    if isinstance(value, int):
        return value.bit_length() > _WIDE
    if isinstance(value, (Decimal, np.generic)):
        return not (isinstance(value, Decimal) and value.is_finite())
    if isinstance(value, list):
        return depth > _DEEP or len(set(map(_signature, value))) > 1 or any(_odd(item, depth + 1) for item in value)
    return isinstance(value, dict) and (depth > _DEEP or any(_odd(item, depth + 1) for item in value.values()))


def _signature(value: Any) -> Hashable:
    """Return the same for values that fit in one column without changing each other."""
    if isinstance(value, str):
        return str, not value.isascii() and _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return tuple([(key, _signature(item)) for key, item in value.items()])
    if isinstance(value, list):
        return ("list", *dict.fromkeys(map(_signature, value)))
    if isinstance(value, int) and value.bit_length() > _WIDE:
        return type(value), "wide"
    if isinstance(value, datetime):
        return datetime, str(value.tzinfo)
    if isinstance(value, Decimal):
        return Decimal, value.as_tuple().exponent
    return str if value is None else type(value), False  # none at all is a text that is missing, whatever stands beside it


def _raw(signature: Hashable) -> bool:
    """Tell whether values of a signature hold surrogates, in their texts or as keys."""
    waiting = [signature]
    while waiting:
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting += part
        elif part is True or (isinstance(part, str) and _SURROGATE.search(part)):
            return True
    return False


def joined(parts: Sequence[tuple[NDArray[np.int64], Column]]) -> tuple[NDArray[np.int64], Column] | None:
    """Return columns with their rising positions as one, in the order of the positions; ``None`` when they do not fit."""
    import polars as pl

    rows, first = parts[0]
    if len(parts) == 1:
        return rows, first
    kind = first.fields, first.sparse, first.exchange, first.frame.schema
    if any((other.fields, other.sparse, other.exchange, other.frame.schema) != kind for _, other in parts[1:]):
        return None
    rows = np.concatenate([rows for rows, _ in parts])
    if (np.diff(rows) > 0).all():
        return rows, replace(first, frame=pl.concat([other.frame for _, other in parts]))
    order = np.argsort(rows, kind="stable")
    whole = replace(first, frame=pl.concat([other.frame for _, other in parts], rechunk=True))
    return rows[order], whole.take(order)
