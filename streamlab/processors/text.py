"""Text: case, white space, replacement, templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome

if TYPE_CHECKING:
    import polars as pl


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
        return _on_text(column, self.field, lambda text: text.str.to_uppercase())


def _on_text(column: Column, field: str | None, change: Callable[[pl.Series], pl.Series]) -> Outcome:
    """Return a column with its text, or one field of it, changed; what is no text fails, what is missing stays missing."""
    return Outcome(column.with_field(field, change(column.text(field))))
