"""Rows become DataFrames, and DataFrames files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamlab.errors import SinkError

if TYPE_CHECKING:
    import pandas as pd

_INTEGERS = ("line_no", "branch", "attempts")


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a DataFrame of these columns.

    ``line_no``, ``branch`` and ``attempts`` are nullable integers, ``time`` (seconds since the epoch) is a timestamp in UTC,
    and text that is not valid Unicode (bytes of a log that were not UTF-8) is kept, in a column of objects.
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
    if name == "time":
        return pd.Series(pd.to_datetime(pd.Series(values, dtype="float64"), unit="s", utc=True))
    if name.endswith("_us"):
        return pd.Series(values, dtype="float64")
    return _objects(values)


def _objects(values: Any) -> pd.Series[Any]:
    """Return values as pandas sees them fit, except that text need not be valid Unicode."""
    import pandas as pd

    try:
        return pd.Series(values, dtype=None if len(values) else "str")
    except UnicodeEncodeError:
        return pd.Series(values, dtype=object)


def outputs(line_no: Sequence[int | None], values: Sequence[Any]) -> pd.DataFrame:
    """Return outputs as a DataFrame: ``line_no, value``, or when all are dicts, their fields instead of ``value``.

    A field that is named ``line_no`` becomes ``line_no_``; one that a dict lacks is missing.

    >>> outputs([0, 1], [{"a": 1}, {"a": 2, "b": 3}]).columns.tolist()
    ['line_no', 'a', 'b']
    """
    import pandas as pd

    frame = frame_of({"line_no": line_no})
    if not values or not all(isinstance(value, dict) for value in values):
        return frame.assign(value=_objects(list(values)))
    fields = dict.fromkeys(name for value in values for name in value)
    columns = {f"{name}_" if name == "line_no" else name: [v.get(name) for v in values] for name in fields}
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
    """Write a table to a file: ``.csv``, ``.jsonl`` (or ``.ndjson``) or ``.parquet``.

    A text cell of a CSV file that a spreadsheet would run as a formula (it begins with ``= + - @``, tab or CR) gets an
    apostrophe in front, unless ``raw``; numbers stay numbers. See OWASP, *CSV Injection*. Bytes that were not UTF-8 come
    out of CSV as they went in, and of the others as U+FFFD.

    Returns:
        The path.

    Raises:
        SinkError: the ending is another, or the file cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[], object]] = {
        ".csv": lambda: _neutral(frame, raw).to_csv(path, index=False, errors="surrogateescape", quoting=_quoting(frame)),
        ".jsonl": lambda: _valid(frame).to_json(path, orient="records", lines=True, force_ascii=False),
        ".parquet": lambda: _valid(frame, text=True).to_parquet(path, index=False),
    }
    writers[".ndjson"] = writers[".jsonl"]
    if path.suffix not in writers:
        raise SinkError(f"{path}: cannot tell the format from {path.suffix!r}; use .csv, .jsonl, .ndjson or .parquet")
    try:
        writers[path.suffix]()
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _texts(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.columns if frame[name].dtype == object or str(frame[name].dtype) == "str"]


def _neutral(frame: pd.DataFrame, raw: bool) -> pd.DataFrame:
    """Return the table with formulas made text."""
    if raw:
        return frame

    def neutral(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value

    return _each_text(frame, neutral)


def _valid(frame: pd.DataFrame, text: bool = False) -> pd.DataFrame:
    """Return the table with text that is UTF-8; with ``text``, other objects as their text."""

    def valid(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return str(value) if text and value is not None and value == value else value

    return _each_text(frame, valid)


def _each_text(frame: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """Return the table with each value of its columns of text and objects changed."""
    import pandas as pd

    columns = {n: pd.Series([change(v) for v in frame[n].tolist()], index=frame.index, dtype=object) for n in _texts(frame)}
    return frame.assign(**columns)


def _quoting(frame: pd.DataFrame) -> Literal[0, 2]:
    """Return how CSV fields are quoted: Python's writer leaves a lone CR bare, which readers take for a line end."""
    bare = any(isinstance(v, str) and "\r" in v for name in _texts(frame) for v in frame[name].tolist())
    return csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
