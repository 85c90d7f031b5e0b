"""JSON: objects to fields, and fields to objects (RFC 8259)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import LINE, Column, columns_of, json_text
from streamlab.processors.columnar import Columnar, Outcome, Outcomes
from streamlab.texts import json_of

if TYPE_CHECKING:
    import polars as pl

#: Texts that are read one by one rather than split in two once more, to find the one that Polars cannot read.
FEW = 16
#: Brackets in a text that may be more than Python's own reader can follow.
DEEP = 500
#: Words that are numbers to some readers.
_NUMBERLESS = r"[:\[,][ \t\r\n]*-?(?:NaN|Inf)"
#: Numbers that Python may refuse for their length.
_ENDLESS = "[0-9]{1000}"
#: The types that fields may have: what Python calls them, and a pattern for the first characters of any other JSON value.
_KINDS: Mapping[str, tuple[type, str]] = {
    "str": (str, r'[^"n\s]'),
    "int": (int, r'(?:["tf\[{]|-?[0-9]+[.eE]|-?[0-9]{19})'),
    "float": (float, r'["tf\[{]'),
    "bool": (bool, r"[^tfn\s]"),
}
_POLARS = {"String": "str", "Int64": "int", "Float64": "float", "Boolean": "bool"}


@dataclass(frozen=True)
class parse_json(Columnar):
    r"""Take a JSON object apart into fields. A text that is no JSON object fails, and so do NaN and infinities.

    Args:
        fields: the fields to take, with their types: ``"str"``, ``"int"``, ``"float"`` (which takes whole numbers too) or
            ``"bool"``, or these types themselves, or Polars' ``String``, ``Int64``, ``Float64`` and ``Boolean``. Each is
            always there, ``None`` when it is absent or null; a value of another type fails. This is native. Without
            ``fields`` all that the object has is taken, of whatever type, text by text.
        field: the field to work on, when values are dicts; the new fields take its place, and win over others.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> parse = processors.parse_json({"level": "str", "ms": "int"})
        >>> run = Pipeline("p").add("parse", parse).run(['{"level": "warn", "ms": 7}', '{"ms": null}', "{", '{"ms": 1.5}'])
        >>> run.output["level"].tolist()
        ['warn', nan]
        >>> run.errors["message"].str.slice(0, 24).tolist()
        ['is no JSON: Expecting pr', "field 'ms' is 1.5, no in"]
    """

    fields: Mapping[str, str | type | pl.DataType | type[pl.DataType]] | None = None
    field: str | None = None

    def __post_init__(self) -> None:
        if self.fields is None:
            return
        if not isinstance(self.fields, Mapping) or not self.fields:
            raise ValueError(f"fields is {self.fields!r}; it must give at least one field its type")
        named = {name: getattr(kind, "__name__", None) or str(kind) for name, kind in self.fields.items()}
        kinds = {name: _POLARS.get(kind, kind) for name, kind in named.items()}
        for name, kind in kinds.items():
            if kind not in _KINDS:
                raise ValueError(f"fields: {name!r} has the type {kind!r}; there are {', '.join(_KINDS)}")
        object.__setattr__(self, "fields", kinds)

    def apply(self, column: Column) -> Outcomes:
        """Return what becomes of a column."""
        text = column.text(self.field)
        others = column.frame.drop(self.field) if self.field is not None else None
        if self.fields is None:
            return _each(column, others, text)
        return _typed(column, others, text, {name: str(kind) for name, kind in self.fields.items()})


@dataclass(frozen=True)
class to_json(Columnar):
    """Write a dict as a JSON object: compact, as ``json.dumps(value, ensure_ascii=False, separators=(",", ":"))`` does.

    What JSON has no word for (dates and the like) is written as text; NaN and infinities as null.

    Args:
        field: the field whose dicts are written, in their place; what is missing stays missing. ``None`` for the values.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> made = Pipeline("p").add("parse", processors.extract(r"(?<level>\\w+): (?<text>.*)"), to="write")
        >>> made.add("write", processors.to_json()).run(["warn: hot"]).output["value"].tolist()
        ['{"level":"warn","text":"hot"}']
    """

    field: str | None = None

    def apply(self, column: Column) -> Outcomes:
        """Return what becomes of a column."""
        if self.field is not None:
            return Outcome(column.with_field(self.field, _inner(column, self.field)))
        text = json_text(column) if column.fields and column.exchange is None else None
        if text is not None:
            return Outcome(Column(text.alias(LINE).to_frame()))
        values = column.to_list()
        if not all(isinstance(value, dict) for value in values):
            raise TypeError("the values have no fields to write as a JSON object")
        return [(at, Outcome(made)) for at, made in columns_of([json_of(value) for value in values])]


def _inner(column: Column, field: str) -> pl.Series:
    """Return the dicts in a field as JSON."""
    import polars as pl

    series = column.field(field)
    if isinstance(series.dtype, pl.Struct) and series.dtype.fields and not series.null_count():
        text = json_text(Column(series.struct.unnest(), fields=True))
        if text is not None:
            return text
    values = Column(series.alias(LINE).to_frame(), exchange=column.exchange).to_list()
    if not all(isinstance(value, (dict, NoneType)) for value in values):
        raise TypeError(f"field {field!r} is no dict to write as a JSON object")
    texts = [None if value is None else json_of(value) for value in values]
    return pl.Series(texts if column.exchange is None else column.exchange.hide(texts), dtype=pl.String)


# All that there is, text by text


def _each(column: Column, others: pl.DataFrame | None, text: pl.Series) -> Outcomes:
    """Return what becomes of texts whose objects may have any fields: columns of those that are alike."""
    beside = replace(column, frame=others).to_list() if others is not None else [{}] * len(text)
    good: list[int] = []
    values: list[dict[str, Any]] = []
    problems: dict[int, BaseException] = {}
    for row, line in enumerate(Column(text.alias(LINE).to_frame(), exchange=column.exchange).to_list()):
        try:
            values.append({**beside[row], **loaded(line)})
            good.append(row)
        except (ValueError, RecursionError) as error:
            problems[row] = _problem(error, line)
    rows = np.array(good, dtype=np.int64)
    outcomes: list[tuple[NDArray[np.int64], Outcome]] = []
    if values:
        outcomes += [(rows[at], Outcome(made)) for at, made in columns_of(values)]
    if problems:
        bad = np.array(list(problems), dtype=np.int64)
        outcomes.append((bad, Outcome(column.take(bad), problems=dict(enumerate(problems.values())))))
    return outcomes


def loaded(text: str | None) -> dict[str, Any]:
    """Return the object that a text is.

    Raises:
        ValueError: it is none.
        RecursionError: it is too deep.
    """
    if text is None:
        raise ValueError("expected text, got None")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("is JSON, but no object")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"is no JSON: there is no {name} in it")


_DECODER = json.JSONDecoder(parse_constant=_constant)


def _problem(error: BaseException, line: str | None) -> ValueError:
    got = "" if line is None else f", got {line[:80]!r}{' ...' if len(line) > 80 else ''}"
    return ValueError(f"{'is nested too deep' if isinstance(error, RecursionError) else error}{got}")


# Fields of known types, natively


def _typed(column: Column, others: pl.DataFrame | None, text: pl.Series, fields: Mapping[str, str]) -> Outcome:
    """Return what becomes of texts of whose objects some fields are wanted.

    Where all is as declared, Arrow reads it at once. Else Polars reads what it is sure to read as Python does, and the
    rest is read by Python.
    """
    import polars as pl

    frames: list[pl.DataFrame] = []
    rows: list[NDArray[np.int64]] = []
    objects = np.flatnonzero(_objects(text).to_numpy())
    sure = text if len(objects) == len(text) else text.gather(objects)
    frame = _strictly(sure, fields) if column.exchange is None else None
    if frame is not None:
        if len(objects) == len(text) and others is None:
            return Outcome(Column(frame, fields=True, exchange=column.exchange))
        frames.append(frame)
        rows.append(objects)
    else:
        for at, frame in _read(text, objects[_plain(sure, fields).to_numpy()], fields):
            frames.append(frame)
            rows.append(at)
    done = np.concatenate([*rows, np.zeros(0, dtype=np.int64)])
    rest = np.setdiff1d(np.arange(len(text)), done, assume_unique=True)
    problems: dict[int, BaseException] = {}
    if len(rest):
        lines = Column(text.gather(pl.Series(rest)).alias(LINE).to_frame(), exchange=column.exchange).to_list()
        values = [_fitting(row, line, fields, problems, column) for row, line in zip(rest.tolist(), lines, strict=True)]
        frames.append(pl.DataFrame(values, schema=_schema(fields)))
        rows.append(rest)
    whole = pl.concat(frames, rechunk=True)
    order = np.concatenate(rows)
    if len(frames) > 1:
        whole = whole[pl.Series(np.argsort(order).astype(np.uint32))]
    if others is not None:
        whole = others.drop(*(name for name in fields if name in others.columns)).hstack(whole)
    return Outcome(Column(whole, fields=True, exchange=column.exchange), problems=problems)


def _schema(fields: Mapping[str, str]) -> dict[str, Any]:
    import polars as pl

    types = {"str": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
    return {name: types[kind] for name, kind in fields.items()}


def _objects(text: pl.Series) -> pl.Series:
    """Return which texts may be one object each, without what only some readers take: NaN, and great depth."""
    import polars as pl

    it = pl.col("it")
    odd = it.str.contains(_NUMBERLESS)
    if (text.str.len_bytes().max() or 0) > 2 * DEEP:  # type: ignore[operator]  # a number
        odd |= (it.str.count_matches(r"[\[{]") > DEEP) | it.str.contains(_ENDLESS)
    return text.to_frame("it").select((it.str.starts_with("{") & it.str.ends_with("}") & ~odd).fill_null(False)).to_series()


def _strictly(text: pl.Series, fields: Mapping[str, str]) -> pl.DataFrame | None:
    """Return the fields of texts that may be objects, or ``None`` if there is anything in one that is not as declared."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.json

    data = Column(text.alias(LINE).to_frame()).encoded()
    if not data:
        return None
    types = {"str": pa.large_string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in fields.items()])
    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1)
    try:
        found = pyarrow.json.read_json(pa.BufferReader(data), read_options=read, parse_options=parse)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    # Each text ends with a brace and the next begins with one: none can go on in the next, but two objects may be in one.
    if len(found) != len(text):
        return None
    frame = pl.DataFrame(dict(zip(fields, pl.DataFrame(found).iter_columns(), strict=True)))
    floats = [frame[name] for name, kind in fields.items() if kind == "float"]
    # A whole number may be a zero without a sign, or too large, to other readers.
    return None if any((one.is_infinite() | (1 / one == -math.inf)).any() for one in floats) else frame


def _plain(text: pl.Series, fields: Mapping[str, str]) -> pl.Series:
    """Return which texts Polars reads as Python does, or cannot read at all.

    It takes values of another type for the declared one, the first value of a key that is there twice, and has its own way
    with escapes of half a character.
    """
    names = {name: re.escape(json.dumps(name, ensure_ascii=False)) for name in fields}
    odd = [rf"{names[name]}\s*:\s*{_KINDS[kind][1]}" for name, kind in fields.items()]
    twice = [rf"{name}\s*:.*{name}\s*:" for name in names.values()]
    escapes = [r"\\[u/]" if "/" in "".join(fields) else r"\\u"]  # other ways to write a name
    return ~text.str.contains("|".join([*odd, *twice, *escapes, "\n"]))


def _read(
    text: pl.Series, rows: NDArray[np.int64], fields: Mapping[str, str]
) -> Iterator[tuple[NDArray[np.int64], pl.DataFrame]]:
    """Yield the rows that Polars can read, with their fields; those that it cannot are left out."""
    import polars as pl

    waiting = [rows] if len(rows) else []
    looked = False
    while waiting:
        now = waiting.pop()
        lines = text if len(now) == len(text) else text.gather(pl.Series(now.astype(np.uint32)))
        data = Column(lines.alias(LINE).to_frame()).encoded()
        assert data is not None
        try:
            frame = pl.read_ndjson(bytes(data), schema=_schema(fields))
        except pl.exceptions.PolarsError:
            frame = None
        if frame is not None and frame.height == len(now):
            fine = _whole(lines, frame, fields)
            yield now[fine], frame if fine.all() else frame.filter(pl.Series(fine))
        elif not looked:  # this takes as long as reading them does
            looked = True
            sound = now[lines.str.json_path_match("$").is_not_null().to_numpy()]
            waiting += [sound] if len(sound) else []
        elif len(now) > FEW:
            waiting += [now[len(now) // 2 :], now[: len(now) // 2]]


def _whole(lines: pl.Series, frame: pl.DataFrame, fields: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return for which texts nothing was lost: a number that is too large for its type is read as if it was missing."""
    fine = np.ones(len(lines), dtype=np.bool_)
    for name, kind in fields.items():
        if kind in ("int", "float") and frame[name].null_count():
            key = re.escape(json.dumps(name, ensure_ascii=False))
            fine &= ~(frame[name].is_null() & lines.str.contains(rf"{key}\s*:\s*[-0-9]")).to_numpy()
    return fine


def _fitting(
    row: int, line: str | None, fields: Mapping[str, str], problems: dict[int, BaseException], column: Column
) -> dict[str, Any]:
    """Return the wanted fields of a text, or note why it has failed."""
    try:
        value = loaded(line)
        return {name: _fit(name, value.get(name), kind, line or "", column) for name, kind in fields.items()}
    except (ValueError, RecursionError) as error:
        problems[row] = _problem(error, line)
        return {}


def _fit(name: str, value: Any, kind: str, line: str, column: Column) -> Any:
    if value is None:
        return None
    if kind == "str" and isinstance(value, str):
        return _hidden(name, value, line, column)
    if kind == "int" and type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"field {name!r} is a number of {value.bit_length()} bits, more than an int of 64 has")
    if type(value) is _KINDS[kind][0]:
        return value
    if kind == "float" and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"field {name!r} is a number of {value.bit_length()} bits, too large for a float") from None
    raise ValueError(f"field {name!r} is {json.dumps(value, ensure_ascii=False)[:80]}, no {kind}")


def _hidden(name: str, value: str, line: str, column: Column) -> str:
    """Return text as the column has it: bytes of the line that are not UTF-8 are hidden."""
    if value.isascii():
        return value
    if any("\ud800" <= character < "\ue000" and character not in line for character in value):
        raise ValueError(f"field {name!r} has half a character in it, by a \\u escape")
    if column.exchange is None:
        return value
    if column.exchange.restore(value) != value:
        raise ValueError(f"field {name!r} has a character for private use in it that bytes of this text stand for")
    return str(column.exchange.hide(value))
