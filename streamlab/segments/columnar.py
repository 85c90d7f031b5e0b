"""The columnar segment: Polars expressions, over all rows that stand at them at once.

Values become a column when they enter, and values again when they leave. Each is evaluated among its likes (text with
text, dicts with dicts of the same fields and types), so that the result for a line cannot depend on its neighbours; when an
evaluation fails it is done again by halves, until the rows that are to blame stand alone.

Polars strings are UTF-8, and lines may hold bytes that are not (lone surrogates, PEP 383). They are exchanged for
characters that Unicode leaves to private use, from a block that the text does not use, and exchanged back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Rows
from streamlab.host import Host
from streamlab.paths import EMIT, Node, Paths
from streamlab.policy import Limits, Refusal
from streamlab.segments.steps import Step
from streamlab.segments.walk import Walk

if TYPE_CHECKING:
    import polars as pl

_SURROGATE = re.compile("[\ud800-\udfff]")
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


@dataclass(slots=True)
class Piece:
    """Rows of one kind that stand at the same processor.

    Attributes:
        rows: their positions in the batch, shape ``(n,)``.
        frame: their values, ``n`` rows: the column ``line``, or the fields of dicts.
        exchange: how surrogates in it are hidden, if any are.
        fields: whether the values are dicts, and the columns their fields.
    """

    rows: NDArray[np.int64]
    frame: pl.DataFrame
    exchange: Exchange | None = None
    fields: bool = False

    def values(self, column: pl.Series) -> list[Any]:
        """Return a column of this piece as Python values."""
        values = column.to_list()
        return values if self.exchange is None else [self.exchange.restore(value) for value in values]

    def inputs(self, indexes: NDArray[np.integer[Any]]) -> list[Any]:
        """Return some of the rows as Python values."""
        rows = self.frame[indexes]
        if not self.fields:
            return self.values(rows["line"])
        return [row if self.exchange is None else self.exchange.restore(row) for row in rows.to_dicts()]

    def of_results(self, column: pl.Series, going: NDArray[np.bool_]) -> Piece:
        """Return some of the rows, with the results as their values."""
        import polars as pl

        column = column.filter(pl.Series(going))
        frame = column.struct.unnest() if column.dtype == pl.Struct else column.alias("line").to_frame()
        return Piece(self.rows[going], frame, self.exchange, fields=column.dtype == pl.Struct)


def pieces_of(values: Sequence[Any], rows: NDArray[np.int64]) -> Iterator[Piece]:
    """Yield the values as columns, likes with likes."""
    import polars as pl

    try:
        yield Piece(rows, pl.DataFrame({"line": pl.Series(values, dtype=pl.String, strict=True)}))
        return
    except Exception:  # not all are text, or UTF-8; with odd objects Polars raises all kinds
        likes: dict[Hashable, list[int]] = {}
        for index, value in enumerate(values):
            likes.setdefault(_signature(value), []).append(index)
    for indexes in likes.values():
        yield from _alike([values[i] for i in indexes], rows[indexes])


def _alike(values: list[Any], rows: NDArray[np.int64]) -> Iterator[Piece]:
    """Yield values of one signature as one piece, or one each where Polars sees no common type."""
    import polars as pl

    exchange = Exchange.for_values(values)
    if exchange is not None:
        values = exchange.hide(values)
    try:
        if isinstance(values[0], dict) and values[0]:
            yield Piece(rows, pl.DataFrame(values, infer_schema_length=None), exchange, fields=True)
        else:
            dtype = pl.String if isinstance(values[0], (str, type(None))) else None
            yield Piece(rows, pl.DataFrame({"line": pl.Series(values, dtype=dtype, strict=True)}), exchange)
    except Exception:
        if len(values) == 1:
            yield Piece(rows, pl.DataFrame({"line": pl.Series(values, dtype=pl.Object)}), exchange)
            return
        for value, row in zip(values, rows, strict=True):
            yield from _alike([value], np.array([row]))


def _signature(value: Any) -> Hashable:
    """Return the same for values that fit in one column without changing each other."""
    if isinstance(value, dict):
        return tuple((key, _signature(item)) for key, item in value.items())
    if isinstance(value, list):
        return ("list", *dict.fromkeys(map(_signature, value)))
    text = isinstance(value, str) or value is None  # none at all is a text that is missing, whatever stands beside it
    return str if text else type(value), isinstance(value, str) and _SURROGATE.search(value) is not None


def evaluate(expression: pl.Expr, frame: pl.DataFrame) -> list[tuple[int, int, pl.Series | BaseException]]:
    """Return ``(first row, last row + 1, their results)`` in order; an exception stands for one row."""
    results: list[tuple[int, int, pl.Series | BaseException]] = []
    waiting = [(0, frame.height)]
    while waiting:
        first, end = waiting.pop()
        try:
            column = frame[first:end].with_columns(expression.alias("line"))["line"]
            results.append((first, end, column))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # Polars panics are no Exceptions
            if end - first == 1:
                results.append((first, end, error))
            else:
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]
    return results


def evaluate_one(expression: pl.Expr, value: Any) -> Any:
    """Return an expression's result for one value; for expressions in a loop of the graph, which is walked line by line."""
    piece = next(pieces_of([value], np.zeros(1, dtype=np.int64)))
    [(_, _, came)] = evaluate(expression, piece.frame)
    if isinstance(came, BaseException):
        raise came
    return piece.values(came)[0]


class ColumnarSegment:
    """Evaluates each expression over the rows that stand at it. No row becomes several, so all stay in their places."""

    def __init__(self, steps: Sequence[Step], paths: Paths, host: Host, limits: Limits) -> None:
        self._steps = {step.name: step for step in steps}
        self.names = frozenset(self._steps)
        self._paths = paths
        self._host = host
        self._limits = limits

    def advance(self, rows: Rows) -> None:
        """Take every row through the segment, as columns all the way."""
        ids = np.asarray(rows.ids, dtype=np.int64)
        waiting = self._enter(rows, ids)
        if not waiting:
            return
        rows.values, rows.together = list(rows.values), None  # so far they may be the source's own list
        walk = Walk(self._steps, self._paths, self._host, self._limits)
        lines = np.arange(len(ids)) if rows.origin is None else rows.origin
        batch = _Batch(rows, ids, walk, np.isin(lines, np.asarray(rows.observed, dtype=np.int64)), waiting)
        for name, step in self._steps.items():
            for piece in waiting.pop(name, []):
                start = self._host.clock()
                results = evaluate(step.processor.target, piece.frame)
                seconds = self._host.clock() - start
                step.seconds = (step.seconds or 0.0) + seconds
                for first, end, came in results:
                    part = replace(piece, rows=piece.rows[first:end], frame=piece.frame[first:end])
                    self._take(batch, step, part, came, seconds / len(piece.rows))
        rows.ids = ids.tolist()
        walk.report(rows)
        if walk.stopped is not None:
            raise walk.stopped

    def _enter(self, rows: Rows, ids: NDArray[np.int64]) -> dict[str, list[Piece]]:
        """Return the rows that stand here as columns, by processor."""
        standing: dict[str, list[int]] = {}
        for id in np.unique(ids).tolist():
            name = self._paths.nodes[id].processor
            if name in self.names:
                standing.setdefault(str(name), []).append(id)
        waiting: dict[str, list[Piece]] = {}
        for name, places in standing.items():
            here = np.flatnonzero(np.isin(ids, places))
            values = rows.values if len(here) == len(ids) else [rows.values[row] for row in here.tolist()]
            waiting[name] = list(pieces_of(values, here))
        return waiting

    def _take(self, batch: _Batch, step: Step, piece: Piece, came: pl.Series | BaseException, seconds: float) -> None:
        """Move the rows of a piece to where their results lead."""
        target = step.default
        assert target is not None  # checked at build: an expression has one way
        nodes = [self._paths.nodes[id] for id in np.unique(batch.ids[piece.rows]).tolist()]
        if isinstance(came, BaseException):
            for node in nodes:
                batch.fail(step, piece, node, came, seconds)
            return
        going = came.is_not_null().to_numpy()
        for node in nodes:
            here = batch.ids[piece.rows] == node.id
            batch.ids[piece.rows[here & ~going]] = self._paths.end(node, step.processor.kept).id
            if target is not EMIT and node.hops >= self._limits.max_hops:
                limit = f"went through max_hops={self._limits.max_hops} processors and on to {target!r}"
                batch.fail(step, piece, node, Refusal("max_hops", limit), seconds)
                batch.observe(step, piece, came, here & ~going, seconds)
                going = going & ~here
                continue
            batch.ids[piece.rows[here & going]] = self._paths.to(node, target).id
            batch.observe(step, piece, came, here, seconds)
        self._hand_on(batch, step, piece, came, going)

    def _hand_on(self, batch: _Batch, step: Step, piece: Piece, came: pl.Series, going: NDArray[np.bool_]) -> None:
        """Give the results to the next expression as a column, or to the batch as values."""
        values = batch.rows.values
        if step.default in self.names:
            if going.any():
                batch.waiting.setdefault(str(step.default), []).append(piece.of_results(came, going))
            going = np.zeros_like(going)
        elif going.all() and len(going) == len(values):
            batch.rows.values = piece.values(came)
            return
        for row, goes, value in zip(piece.rows.tolist(), going.tolist(), piece.values(came), strict=True):
            values[row] = value if goes else None


@dataclass(slots=True)
class _Batch:
    """The batch on its way through the segment.

    Attributes:
        ids: path node of each row.
        observed: of each row, whether its visits are to be kept.
        waiting: the pieces that wait, by processor.
    """

    rows: Rows
    ids: NDArray[np.int64]
    walk: Walk
    observed: NDArray[np.bool_]
    waiting: dict[str, list[Piece]]

    def fail(self, step: Step, piece: Piece, node: Node, error: BaseException, seconds: float) -> None:
        """Settle the rows of a piece that came to ``node`` as failed."""
        failed = np.flatnonzero(self.ids[piece.rows] == node.id)
        for row, value in zip(piece.rows[failed].tolist(), piece.inputs(failed), strict=True):
            placed = self.walk.settle(step, node, value, error, 1, row)
            self.walk.saw(step, node, value, placed, seconds, 1, True, row)
            [(to, out)] = placed
            self.ids[row] = to.id
            self.rows.values[row] = out
            if to.processor in self.walk.steps:
                entering = pieces_of([out], np.array([row]))
                self.waiting.setdefault(str(to.processor), []).extend(entering)

    def observe(self, step: Step, piece: Piece, came: pl.Series, here: NDArray[np.bool_], seconds: float) -> None:
        """Keep the visits of observed lines."""
        seen = np.flatnonzero(here & self.observed[piece.rows])
        if not len(seen):
            return
        for row, value, out in zip(
            piece.rows[seen].tolist(), piece.inputs(seen), piece.values(came.gather(seen)), strict=True
        ):
            to = self.walk.paths.nodes[int(self.ids[row])]
            node = to.parent
            assert node is not None  # every place that a visit leads to hangs below it
            self.walk.saw(step, node, value, [(to, out)], seconds, 1, True, row)
