"""Rows become DataFrames, and DataFrames files."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamlab.errors import SinkError

if TYPE_CHECKING:
    import pandas as pd

#: What a cell begins with that a spreadsheet runs.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_INTEGERS = ("line_no", "branch", "attempts")


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a DataFrame of these columns.

    ``line_no``, ``branch`` and ``attempts`` are nullable integers, ``time`` and what ends in ``_at`` (seconds since the
    epoch) are timestamps in UTC, and text that is not valid Unicode (bytes of a log that were not UTF-8) is kept, in a
    column of objects.
    """
    rows = list(rows)
    return frame_of({name: [row.get(name) for row in rows] for name in columns})


def frame_of(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Return columns as a DataFrame, see `table`."""
    import pandas as pd

    return pd.DataFrame({name: _column(name, values) for name, values in columns.items()})


def _column(name: str, values: Any) -> pd.Series[Any]:
    import pandas as pd

    if name in _INTEGERS:
        return pd.Series(values, dtype="Int64")
    if name == "time" or name.endswith("_at"):
        return pd.Series(pd.to_datetime(pd.Series(values, dtype="float64"), unit="s", utc=True))
    if name.endswith("_us"):
        return pd.Series(values, dtype="float64")
    return pd.Series(values, dtype=object) if name == "output" else _objects(values)


def _objects(values: Any) -> pd.Series[Any]:
    """Return values as pandas sees them fit, except that text need not be valid Unicode, and whole numbers stay whole."""
    import pandas as pd

    try:
        if {type(value) for value in values} == {int, type(None)}:  # else pandas makes floats of them
            return pd.Series(values, dtype="Int64")
        return pd.Series(values, dtype=None if len(values) else "str")
    except (UnicodeEncodeError, OverflowError):
        return pd.Series(values, dtype=object)


def outputs(line_no: Sequence[int | None], values: Sequence[Any]) -> pd.DataFrame:
    """Return outputs as a DataFrame: ``line_no, value``, or when all are dicts, their fields instead of ``value``.

    A field that is named ``line_no`` becomes ``line_no_`` (or ``line_no__``, if there is that too); one that a dict lacks is
    missing.

    >>> outputs([0, 1], [{"a": 1}, {"a": 2, "b": 3}]).columns.tolist()
    ['line_no', 'a', 'b']
    """
    import pandas as pd

    frame = frame_of({"line_no": line_no})
    if not values or not all(isinstance(value, dict) for value in values):
        return frame.assign(value=_objects(list(values)))
    fields = dict.fromkeys(name for value in values for name in value)
    other = "line_no_"
    while other in fields:
        other += "_"
    columns = {other if name == "line_no" else name: [v.get(name) for v in values] for name in fields}
    return pd.concat([frame, pd.DataFrame({name: _objects(column) for name, column in columns.items()})], axis=1)


def plain(value: Any, depth: int = 20) -> Any:
    """Return a value as JSON can say it: NaN is ``None``, tuples are lists, what JSON has no word for is its ``repr``.

    So is what is nested more than ``depth`` deep, which may have no end. One odd value never spoils a whole table.

    >>> plain({"a": float("nan"), "b": (1, {2})})
    {'a': None, 'b': [1, '{2}']}
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and value.bit_length() < 4096:  # Python refuses to write out much larger ones
        return value
    if depth and isinstance(value, Mapping):
        return {key if isinstance(key, str) else _said(key, str): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value]
    return _said(value, repr)


def _said(value: Any, say: Callable[[Any], str]) -> str:
    """Return a value as its own code says it, if that works."""
    try:
        return say(value)
    except Exception as error:  # the value's own code; also what is too deep, or too large
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def export(frame: pd.DataFrame, path: str | Path, *, raw: bool = False) -> Path:
    """Write a table to a file: ``.csv``, ``.jsonl`` (or ``.ndjson``) or ``.parquet``; an index that has a name is a column.

    A text cell of a CSV file that a spreadsheet would run as a formula (it begins with ``= + - @``, tab or CR) gets an
    apostrophe in front, unless ``raw``; numbers stay numbers. See OWASP, *CSV Injection*. Bytes that were not UTF-8 come
    out of CSV as they went in, and of the others as U+FFFD.

    Returns:
        The path.

    Raises:
        SinkError: the ending is another, or the file cannot be written.
    """
    path = Path(path).expanduser()
    if frame.index.name is not None:
        frame = frame.reset_index()
    writers: dict[str, Callable[[], object]] = {
        ".csv": lambda: _neutral(frame, raw).to_csv(path, index=False, errors="surrogateescape", quoting=_quoting(frame)),
        ".jsonl": lambda: _valid(frame).to_json(path, orient="records", lines=True, force_ascii=False),
        ".parquet": lambda: _valid(frame, text=True).to_parquet(path, index=False),
    }
    writers[".ndjson"] = writers[".jsonl"]
    write = writers.get(path.suffix.lower())
    if write is None:
        raise SinkError(f"{path}: cannot tell the format from {path.suffix!r}; use .csv, .jsonl, .ndjson or .parquet")
    try:
        write()
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
    except Exception as error:  # what pandas or pyarrow have no way to write
        raise SinkError(f"{path}: cannot be written: {type(error).__name__}: {error}") from error
    return path


def _neutral(frame: pd.DataFrame, raw: bool) -> pd.DataFrame:
    """Return the table with formulas made text."""

    def neutral(value: Any) -> Any:
        value = _utf8(value) if isinstance(value, str) else value if value is None else _printable(value)
        return f"'{value}" if not raw and isinstance(value, str) and value[:1] in _FORMULA else value

    return _each_text(frame, neutral).rename(columns=neutral)


def _printable(value: Any) -> Any:
    """Return a value that can be printed: as it is, or what `plain` makes of it."""
    return value if isinstance(value, (int, float, dict, list)) or _is_missing(value) else _said(value, str)


def _is_missing(value: Any) -> bool:
    """Tell whether a value stands for none: ``None``, NaN, ``pandas.NA``, NaT."""
    import pandas as pd

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _utf8(text: str) -> str:
    """Return text that can be written with ``surrogateescape``: halves of characters that stand for no byte are U+FFFD."""
    return _NO_BYTE.sub("\ufffd", text)


def _valid(frame: pd.DataFrame, text: bool = False) -> pd.DataFrame:
    """Return the table with text that is UTF-8, and nothing but what JSON has; with ``text``, nothing but text."""

    def valid(value: Any) -> Any:
        if _is_missing(value):
            return None
        value = value if isinstance(value, str) else _said(value, str) if text else plain(value)
        return _deep_valid(value)

    return _each_text(frame, valid).rename(columns=lambda name: _deep_valid(name if isinstance(name, str) else str(name)))


def _deep_valid(value: Any) -> Any:
    """Return plain data with each text in it as UTF-8."""
    if isinstance(value, str):
        return _utf8(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_deep_valid(key): _deep_valid(item) for key, item in value.items()}
    return [_deep_valid(item) for item in value] if isinstance(value, list) else value


def _texts(frame: pd.DataFrame) -> list[int]:
    """Return the positions of the columns of text and objects; names need not be unique."""
    return [at for at, dtype in enumerate(frame.dtypes) if str(dtype) in ("object", "str")]


def _each_text(frame: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """Return the table with each value of its columns of text and objects changed."""
    import pandas as pd

    changed = frame.copy(deep=False)
    for at in _texts(frame):
        values = [change(value) for value in frame.iloc[:, at].tolist()]
        changed.isetitem(at, pd.Series(values, index=frame.index, dtype=object))  # type: ignore[arg-type]  # it takes one
    return changed


def _quoting(frame: pd.DataFrame) -> Literal[0, 2]:
    """Return how CSV fields are quoted: Python's writer leaves a lone CR bare, which readers take for a line end."""
    bare = any(isinstance(value, str) and "\r" in value for at in _texts(frame) for value in frame.iloc[:, at].tolist())
    return csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
