"""Outputs as Parquet: a folder of files, which readers take for one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import SinkError
from streamlab.sinks.folder import hidden_name
from streamlab.sinks.parts import PART_BYTES, PART_ROWS, Parts
from streamlab.sinks.rows import LINE_NO, fitted, renamed, rows_of, together
from streamlab.sinks.writers import Writer, outage

ENDING = ".parquet"


class ParquetWriter(Writer):
    """Writes parts of rows: keeps them until a part is complete, as only then all of its types are known.

    Arguments as of `Writer`, and the ``pyarrow.Schema`` of the parts, if they are to have one.
    """

    def __init__(self, folder: str, lineage: str, part_bytes: int, part_rows: int, schema: Any = None) -> None:
        super().__init__(folder, lineage, part_bytes, part_rows)
        self._schema = schema
        self._tables: list[Any] = []
        self._bytes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        kind, arguments = super().__reduce__()
        return kind, (*arguments, self._schema)

    def _full(self, part_bytes: int, part_rows: int) -> bool:
        return self._rows >= part_rows or self._bytes >= part_bytes

    def _take(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        table, refused = rows_of(values, line_no) if self._schema is None else fitted(values, line_no, self._schema)
        if table.num_rows:
            if not self._rows:
                self._names.append(hidden_name(self._lineage))
            self._tables.append(table)
            self._rows += table.num_rows
            self._bytes += table.nbytes
        return refused

    def _end(self) -> None:
        import pyarrow.parquet as pq

        path = self._folder.path_of(self._names[-1])
        table = together(self._tables)
        try:
            with open(path, "wb") as file:
                pq.write_table(table, file, compression="zstd")
        except OSError as error:
            raise outage(path, error) from error
        self._let_go()
        self._rows = 0

    def _let_go(self) -> None:
        self._tables, self._bytes = [], 0


class ParquetSink(Parts):
    """Writes rows to a folder of Parquet files, one a part: see `streamlab.sinks.parts.FileParts` for when they are seen.

    The fields of dicts are columns, what is no dict is in a column ``value``, and ``line_no`` is the line that it came from;
    see `streamlab.sinks.rows` for what values become. Each file has the columns and types of its own outputs, unless a
    schema says which all of them have.

    Args:
        folder: where to write; made if it is not there.
        schema: a ``pyarrow.Schema`` of all fields (without ``line_no``); what does not fit in it is refused, and becomes a
            dead letter.
        overwrite: replace the parts in a folder that has some; otherwise that is refused.
        part_bytes: bytes, before they are compressed, after which the next file begins.
        part_rows: rows of a file after which it does.

    Raises:
        SinkError: Parquet has no way to write the schema, or a number is not at least 1.

    Example:
        >>> import os, tempfile
        >>> import pandas as pd
        >>> from streamlab import Pipeline
        >>> folder = os.path.join(tempfile.mkdtemp(), "words.parquet")
        >>> sizes = Pipeline("sizes").add("size", lambda line: {"word": line, "size": len(line)})
        >>> run = sizes.run(["one", "three"], output=folder)
        >>> pd.read_parquet(folder).to_dict("list")
        {'line_no': [0, 1], 'word': ['one', 'three'], 'size': [3, 5]}
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        schema: Any = None,
        overwrite: bool = False,
        part_bytes: int = PART_BYTES,
        part_rows: int = PART_ROWS,
    ) -> None:
        super().__init__(folder, ENDING, overwrite=overwrite, part_bytes=part_bytes, part_rows=part_rows)
        self._schema = None if schema is None else _checked(schema)

    def _new_writer(self, folder: str, lineage: str, part_bytes: int, part_rows: int) -> ParquetWriter:
        return ParquetWriter(folder, lineage, part_bytes, part_rows, self._schema)


def _checked(schema: Any) -> Any:
    """Return the schema of the files; refuse it if Parquet has no way to write it."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(schema, pa.Schema):
        raise SinkError(f"schema={schema!r} is a {type(schema).__name__}: give a pyarrow.Schema")
    if LINE_NO in schema.names:
        raise SinkError(f"schema: {LINE_NO} is in each file by itself; a field of that name is {renamed(LINE_NO)} there")
    if len({*schema.names}) < len(schema.names):
        raise SinkError("schema: two fields have the same name")
    schema = schema.insert(0, pa.field(LINE_NO, pa.int64()))
    try:
        pq.write_table(schema.empty_table(), io.BytesIO())
    except (pa.ArrowException, NotImplementedError) as error:
        raise SinkError(f"schema: Parquet has no way to write it: {error}") from error
    return schema
