"""Regular expressions: the named groups of a pattern become fields."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.parsed import parsed


@dataclass(frozen=True)
class extract(Columnar):
    """Make the named groups of a regular expression fields; text in which it is not found fails.

    The pattern is found anywhere in the text, as with ``re.search``; anchor it with ``^`` and ``$``. It is in the dialect
    of Rust's `regex <https://docs.rs/regex/latest/regex/#syntax>`_, which Polars uses: much as Python's, but without
    look-around and back-references, in return for which the time it takes grows only with the length of the text; ``$``
    is the very end (before no last ``\\n``), and ``(?P<name>...)`` may be written ``(?<name>...)``.

    Args:
        pattern: a pattern with at least one named group. Groups without a name only group.
        field: the field to work on, when values are dicts; the groups are added to the other fields, and take the place
            of those with their name.
        keep: whether the text stays as well: in its field, or as the field ``line``.

    A group that took no part in the match is ``None``.

    Raises:
        ValueError: the pattern is not valid, or has no named group.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> ms = processors.extract(r"^(?P<path>/\\S*) (?P<ms>\\d+) ms$")
        >>> Pipeline("p").add("it", ms).run(["/a 17 ms", "/b 3 ms"]).output[["path", "ms"]].to_dict("records")
        [{'path': '/a', 'ms': '17'}, {'path': '/b', 'ms': '3'}]
    """

    pattern: str
    _: KW_ONLY
    field: str | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        import polars as pl

        try:
            groups = pl.Series([""]).str.extract_groups(self.pattern).struct.fields
        except pl.exceptions.ComputeError as error:
            raise ValueError(f"pattern {self.pattern!r} is not valid: {error}") from None
        if all(name.isdigit() for name in groups):
            raise ValueError(f"pattern {self.pattern!r} has no named group: write (?P<name>...)")

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        text = column.text(self.field)
        groups = {
            series.name: series
            for series in text.str.extract_groups(self.pattern).struct.unnest().iter_columns()
            if not series.name.isdigit()  # those without a name are numbered
        }
        failed = np.logical_and.reduce([series.is_null().to_numpy() for series in groups.values()])
        if failed.any():  # not found, or found without any of them
            failed[failed] = ~text.filter(failed).str.contains(self.pattern).fill_null(False).to_numpy()
        return parsed(column, self.field, groups, failed, self._why, keep=self.keep)

    def _why(self, text: str) -> str:
        return f"expected text that matches {self.pattern!r}"
