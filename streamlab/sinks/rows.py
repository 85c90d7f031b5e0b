"""Values as the rows of a Parquet file.

What a value becomes depends on it alone, but for the type of a column, which is found for a part as a whole: that of the
values, if they are of one type; floats, if they are integers and floats and none is changed by it; else text.

================================  ==========================================================
value                             in the file
================================  ==========================================================
``None``                          missing
``bool``, ``float``, ``bytes``    as it is
``int``                           64 bits; a larger one is text
``str``                           text; refused if it is not valid Unicode
``datetime``                      microseconds; with a time zone, the same instant in UTC
``date``                          days
dict, list, tuple, set, array     text, as compact JSON
anything else                     text, by ``str``
================================  ==========================================================

What is text beside ``bytes`` becomes bytes, as UTF-8.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column
from streamlab.texts import as_text, json_of

LINE_NO = "line_no"
VALUE = "value"

#: Positions, and why.
Refused = dict[int, BaseException]


def rows_of(values: Sequence[Any], line_no: NDArray[np.int64]) -> tuple[Any, list[tuple[int, BaseException]]]:
    """Return a ``pyarrow.Table`` of values: ``line_no``, and the fields of dicts, and ``value`` of what is no dict.

    A field that is named ``line_no``, perhaps with underscores at its end, gets one more. What is of several types has a
    column for each of them, all of the same name, until it is put `together`.

    Returns:
        The rows of those that are not refused, and the positions of the others, rising, with the reason.

    >>> table, refused = rows_of([{"a": 1}, "b", {"a": 2.5, "line_no": 7}], np.array([0, 1, -1]))
    >>> table.column_names, refused
    (['line_no', 'a', 'a', 'value', 'line_no_'], [])
    """
    native = _native(values) if isinstance(values, Column) else None
    if native is not None:
        return _table(native, line_no), []
    refused: Refused = {}
    columns = {renamed(name): _arrays(items, refused) for name, items in _columns(values, refused).items()}
    return _kept(_table(columns, line_no), refused)


def fitted(values: Sequence[Any], line_no: NDArray[np.int64], schema: Any) -> tuple[Any, list[tuple[int, BaseException]]]:
    """Return the same by a ``pyarrow.Schema``, of which ``line_no`` is the first; what does not fit in it is refused."""
    import pyarrow as pa

    refused: Refused = {}
    columns = {renamed(name): items for name, items in _columns(values, refused).items()}
    for name in columns.keys() - {*schema.names}:
        for position, item in enumerate(columns[name]):
            if item is not None:
                refused.setdefault(position, ValueError(f"the schema has no field {name!r}"))
    arrays = {field.name: [_fitted(field, columns.get(field.name), len(values), refused)] for field in [*schema][1:]}
    table, left = _kept(_table(arrays, line_no), refused)
    return pa.Table.from_arrays(table.columns, schema=schema), left


def together(tables: Sequence[Any]) -> Any:
    """Return tables of `rows_of` as one; each column has a type for all of them.

    >>> one, _ = rows_of([{"a": 1, "b": True}], np.array([0]))
    >>> two, _ = rows_of([{"a": 2.5, "b": "no"}], np.array([1]))
    >>> together([one, two]).to_pylist()
    [{'line_no': 0, 'a': 1.0, 'b': 'True'}, {'line_no': 1, 'a': 2.5, 'b': 'no'}]
    """
    import pyarrow as pa

    names = dict.fromkeys(name for table in tables for name in table.column_names)
    if all(table.schema == tables[0].schema for table in tables) and len(names) == tables[0].num_columns:
        return pa.concat_tables(tables)
    columns: dict[str, Any] = {}
    for name in names:
        parts = [[table.column(at) for at, other in enumerate(table.column_names) if other == name] for table in tables]
        kind = _common(array for arrays in parts for array in arrays)
        whole = [_one(arrays, kind, table.num_rows) for arrays, table in zip(parts, tables, strict=True)]
        columns[name] = pa.chunked_array([chunk for chunked in whole for chunk in chunked.chunks], type=kind)
    return pa.table(columns)


def renamed(name: str) -> str:
    """Return what the column of a field is called.

    >>> [renamed(name) for name in ("a", "line_no", "line_no_", "line_no_of")]
    ['a', 'line_no_', 'line_no__', 'line_no_of']
    """
    return f"{name}_" if name.rstrip("_") == LINE_NO else name


def _table(columns: Mapping[str, Sequence[Any]], line_no: NDArray[np.int64]) -> Any:
    import pyarrow as pa

    numbers = np.asarray(line_no, dtype=np.int64)
    named = [
        (LINE_NO, pa.array(numbers, mask=numbers < 0)),
        *((name, one) for name, many in columns.items() for one in many),
    ]
    return pa.Table.from_arrays([array for _, array in named], names=[name for name, _ in named])


def _kept(table: Any, refused: Refused) -> tuple[Any, list[tuple[int, BaseException]]]:
    if not refused:
        return table, []
    kept = np.delete(np.arange(table.num_rows), list(refused))
    return table.take(kept), sorted(refused.items())


def _columns(values: Sequence[Any], refused: Refused) -> dict[str, list[Any]]:
    """Return values by the names of their fields."""
    values = values.to_list() if isinstance(values, Column) else values
    if not any(isinstance(value, dict) for value in values):
        return {VALUE: [*values]}
    rows = [value if isinstance(value, dict) else {VALUE: value} for value in values]
    names = dict.fromkeys(name for row in rows for name in row)
    for name in [name for name in names if not _is_name(name)]:
        del names[name]
        for position, row in enumerate(rows):
            if name in row:
                refused.setdefault(position, TypeError(f"a field is named {name!r}: a name must be text, in valid Unicode"))
    return {name: [row.get(name) for row in rows] for name in names}


def _is_name(name: Hashable) -> bool:
    try:
        return isinstance(name, str) and name.encode() is not None
    except UnicodeEncodeError:
        return False


def _arrays(items: list[Any], refused: Refused) -> list[Any]:
    """Return items as an array for each of their types; in it the others are missing, and so is what is refused."""
    import pyarrow as pa

    kinds = {*map(type, items)} - {NoneType}
    if not kinds:
        return [pa.nulls(len(items))]
    kind = _plain().get(kinds.pop()) if len(kinds) == 1 else None
    try:
        if kind is not None:
            return [pa.array(items, kind)]
    except (OverflowError, UnicodeEncodeError, pa.ArrowException):
        pass  # some are not as plain as that
    cells: list[Any] = []
    for position, item in enumerate(items):
        try:
            cells.append(_cell(item))
        except Exception as error:  # the value's own code
            refused.setdefault(position, error)
            cells.append(None)
    of_cells = [*map(_kind, cells)]
    found = {id(kind): kind for kind in of_cells if kind is not _missing()} or {0: _missing()}
    return [
        pa.array([cell if of_cell is kind else None for cell, of_cell in zip(cells, of_cells, strict=True)], kind)
        for kind in found.values()
    ]


@cache
def _plain() -> dict[type, Any]:
    """Return the types of what is as it is."""
    import pyarrow as pa

    return {
        bool: pa.bool_(),
        int: pa.int64(),
        float: pa.float64(),
        str: pa.large_string(),
        bytes: pa.large_binary(),
        date: pa.date32(),
    }


@cache
def _times() -> tuple[Any, Any]:
    """Return the types of datetimes, without and with a time zone."""
    import pyarrow as pa

    return pa.timestamp("us"), pa.timestamp("us", "UTC")


@cache
def _missing() -> Any:
    import pyarrow as pa

    return pa.null()


def _kind(cell: Any) -> Any:
    """Return the type of a cell."""
    if cell is None:
        return _missing()
    return _times()[cell.tzinfo is not None] if isinstance(cell, datetime) else _plain()[type(cell)]


def _cell(value: Any) -> Any:
    """Return a value as what a file has a type for.

    Raises:
        Exception: it has no text, or its text is not valid Unicode.
    """
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    kind = type(value)
    if value is None or kind in (bool, bytes, date):
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return float(value)
    if kind is datetime:
        return value if value.tzinfo is None else value.astimezone(UTC)
    text = _text(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text that is not valid Unicode: {error.reason} at character {error.start}") from error
    return text


def _text(value: Any) -> str:
    nested = isinstance(value, (dict, list, tuple, set, frozenset, np.ndarray))
    return json_of(value) if nested else str(as_text(value))


def _common(arrays: Iterable[Any]) -> Any:
    """Return the type for all of some arrays."""
    import pyarrow as pa

    arrays = [array for array in arrays if array.null_count < len(array)]
    kinds = {array.type for array in arrays}
    if len(kinds) < 2:
        return kinds.pop() if kinds else pa.null()
    if kinds == {pa.int64(), pa.float64()} and all(_is_exact(array) for array in arrays):
        return pa.float64()
    return pa.large_binary() if pa.large_binary() in kinds else pa.large_string()


def _is_exact(array: Any) -> bool:
    """Tell whether numbers are the same as floats."""
    import pyarrow as pa

    try:
        array.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _as(cell: Any, kind: Any) -> Any:
    import pyarrow as pa

    if cell is None or _kind(cell) == kind:
        return cell
    if pa.types.is_floating(kind):
        return float(cell)
    text = _text(cell)
    return text if kind == pa.large_string() else text.encode()


def _one(arrays: list[Any], kind: Any, rows: int) -> Any:
    """Return arrays, of which one at most has something in each row, as one chunked array of a type."""
    import pyarrow as pa

    arrays = [array for array in arrays if array.null_count < len(array)]
    if not arrays:
        return pa.chunked_array([pa.nulls(rows, kind)])
    if len(arrays) == 1 and (arrays[0].type == kind or pa.types.is_floating(kind)):
        return arrays[0].cast(kind)
    found = (next((cell for cell in cells if cell is not None), None) for cells in zip(*map(_cells, arrays), strict=True))
    return pa.chunked_array([pa.array([_as(cell, kind) for cell in found], kind)])


def _cells(array: Any) -> list[Any]:
    cells: list[Any] = array.to_pylist()
    return cells


def _native(column: Column) -> dict[str, list[Any]] | None:
    """Return a column's values as arrays, without making Python objects of them; ``None`` where that is not the same."""
    import polars as pl

    series = list(column.frame.iter_columns())
    if column.exchange is not None or not all(_is_native(one) for one in series):
        return None
    arrays = {}
    for one in series:
        if one.dtype.is_integer():
            one = one.cast(pl.Int64)
        elif one.dtype.is_float():
            one = one.cast(pl.Float64)
        elif isinstance(one.dtype, pl.Datetime) and one.dtype.time_zone is not None:
            one = one.dt.convert_time_zone("UTC")
        name = renamed(one.name) if column.fields else VALUE
        empty = one.null_count() == len(one)
        arrays[name] = [(one.cast(pl.Null) if empty else one).to_arrow(compat_level=pl.CompatLevel.oldest())]
    return arrays


def _is_native(series: Any) -> bool:
    import polars as pl

    kind = series.dtype
    if isinstance(kind, pl.Datetime):
        return kind.time_unit == "us"
    if kind in (pl.UInt64, pl.Int128) or kind == getattr(pl, "UInt128", None):
        return False
    return kind.is_integer() or kind.is_float() or kind in (pl.String, pl.Boolean, pl.Binary, pl.Date, pl.Null)


def _fitted(field: Any, items: list[Any] | None, length: int, refused: Refused) -> Any:
    import pyarrow as pa

    items = [None] * length if items is None else items
    if not field.nullable:
        for position, item in enumerate(items):
            if item is None:
                refused.setdefault(position, ValueError(f"field {field.name!r} is missing, and must not be"))
    try:
        return pa.array(items, field.type)
    except Exception:  # of pyarrow and of what the values are; which ones do not fit?
        pass
    fit: list[Any] = []
    for position, item in enumerate(items):
        try:
            pa.array([item], field.type)
            fit.append(item)
        except Exception as error:
            refused.setdefault(position, ValueError(f"field {field.name!r} does not fit its type {field.type}: {error}"))
            fit.append(None)
    return pa.array(fit, field.type)
