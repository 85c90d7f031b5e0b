"""Comma-separated values: one record a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.parsed import parsed, together

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class parse_csv(Columnar):
    """Take the cells of a line of comma-separated values apart: a field for each, all of them text.

    As RFC 4180, section 2, and as Python's ``csv.reader`` with ``strict=True`` on the one line: a cell that begins with a
    quote ends with one, may hold delimiters and line ends, and says a quote twice; in another cell a quote is a character
    like others; white space counts. A line without anything has no cells. A line with another number of cells than there
    are names fails, and so does one with a quote that is not closed, or with text after the closing one.

    Args:
        names: of the fields, in the order of the cells.
        delimiter: one character between cells.
        quote: one character around cells; ``None`` when cells are never quoted.
        field: the field to work on, when values are dicts; the cells come after the other fields, in its place.

    Raises:
        ValueError: there is no name, or one twice; the delimiter or the quote is not one character, or both are the same.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> cells = processors.parse_csv(["level", "text"])
        >>> run = Pipeline("p").add("cells", cells).run(['warn,"very ""hot"", so"'])
        >>> run.output[["level", "text"]].to_dict("records")
        [{'level': 'warn', 'text': 'very "hot", so'}]
    """

    names: Sequence[str]
    delimiter: str = ","
    quote: str | None = '"'
    field: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in self.names):
            raise ValueError(f"names is {self.names!r}; it must be a list of names")
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"names is {self.names!r}; it must be at least one, and each of them once")
        marks = [self.delimiter] if self.quote is None else [self.delimiter, self.quote]
        if any(len(mark) != 1 or mark in "\r\n" for mark in marks) or len(set(marks)) < len(marks):
            raise ValueError(f"delimiter {self.delimiter!r} and quote {self.quote!r} must be two different characters")

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        text = column.text(self.field).str.strip_chars_end("\r\n")
        quoted = np.zeros(len(text), dtype=np.bool_)
        if self.quote is not None:
            quoted = text.str.contains(self.quote, literal=True).fill_null(False).to_numpy()
        kinds = (np.flatnonzero(~quoted), self._plain), (np.flatnonzero(quoted), self._quoted)
        cells = together([(rows, cut(text.gather(rows))) for rows, cut in kinds if len(rows)], len(text))
        return parsed(column, self.field, cells.to_dict(), cells[self.names[0]].is_null().to_numpy(), self._why)

    def _plain(self, text: pl.Series) -> pl.DataFrame:
        """Return the cells of texts without quotes, nothing in rows that are not as expected."""
        import polars as pl

        count = text.str.count_matches(self.delimiter, literal=True)
        fine = (count == len(self.names) - 1) & (text != "") & ~text.str.contains("[\r\n]")
        text = text.set(~fine, None)
        if len(self.names) == 1:
            return pl.DataFrame({self.names[0]: text})
        cells = text.str.split_exact(self.delimiter, len(self.names) - 1)
        return cells.struct.rename_fields(list(self.names)).struct.unnest()

    def _quoted(self, text: pl.Series) -> pl.DataFrame:
        """Return the cells of texts in which there are quotes, nothing in rows that are not as expected."""
        import polars as pl

        assert self.quote is not None
        between, mark = re.escape(self.delimiter), re.escape(self.quote)
        inside = f"{mark}(?:[^{mark}]|{mark}{mark})*{mark}"
        cell = f"{between}(?:{inside}|[^{between}{mark}\r\n][^{between}\r\n]*|)"
        text = self.delimiter + text  # so that every cell begins with one, and none is empty
        cells = text.set(~text.str.contains(rf"^(?:{cell})+\z"), None).str.extract_all(cell)
        cells = cells.set(cells.list.len() != len(self.names), None)
        return pl.DataFrame({name: self._bare(cells.list.get(at)) for at, name in enumerate(self.names)})

    def _bare(self, cells: pl.Series) -> pl.Series:
        """Return cells without the delimiter that they begin with, and without their quotes."""
        assert self.quote is not None
        cells = cells.str.slice(1)
        bare = cells.str.slice(1, cells.str.len_chars() - 2).str.replace_all(self.quote * 2, self.quote, literal=True)
        return bare.zip_with(cells.str.starts_with(self.quote), cells)

    def _why(self, text: str) -> str:
        never = {"quoting": csv.QUOTE_NONE} if self.quote is None else {"quotechar": self.quote}
        try:
            [cells] = csv.reader([text], delimiter=self.delimiter, strict=True, **never)
        except csv.Error as error:
            return f"expected {len(self.names)} cells: {error}"
        return f"expected {len(self.names)} cells, found {len(cells)}"
