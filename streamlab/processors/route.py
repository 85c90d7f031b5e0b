"""Routes and filters: a value goes on by what is in it, or does not go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamlab.columns import Column
from streamlab.paths import EMIT, Target
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.pattern import By, Condition, condition_of

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class route(Columnar):
    """Send each value to the processor of the first case that it meets.

    Leave ``to=`` out when you add it: it goes to the tags of its cases, and to the default.

    Args:
        cases: the pattern of each case, with the tag that it leads to: the name of a processor, or `EMIT`. For expressions
            also a list of pairs.
        by: what the patterns are: text that the value ``"contains"``, regular expressions that it ``"matches"`` somewhere
            (see `replace` for their dialect), text that it ``"equals"``, or each an ``"expression"`` that is true or false:
            a Polars one, or SQL, over the column ``line``, or over the fields. What is missing meets no case.
        field: the field to look at, when values are dicts; expressions name their fields themselves.
        default: the tag of values that meet no case; ``None`` filters them.

    Raises:
        ValueError: there is no case, one of them is wrong, or ``by`` is none of these; or an expression looks at other
            lines than its own.

    Example:
        >>> from streamlab import EMIT, Pipeline, processors
        >>> logs = Pipeline("logs").add("level", processors.route({"warn": "loud", "info": EMIT}))
        >>> logs.add("loud", processors.upper()).run(["warn: hot", "info: ok", "?"]).output["value"].tolist()
        ['WARN: HOT', 'info: ok']
    """

    cases: Mapping[str, Target] | Sequence[tuple[str | pl.Expr, Target]]
    _: KW_ONLY
    by: By = "contains"
    field: str | None = None
    default: Target | None = None
    ways: tuple[Target, ...] = dataclasses.field(init=False, repr=False)
    conditions: tuple[tuple[Condition, int], ...] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        cases = list(self.cases.items() if isinstance(self.cases, Mapping) else self.cases)
        if not cases:
            raise ValueError("there are no cases; give at least one pattern with its tag, such as {'warn': 'loud'}")
        if any(not isinstance(case, (tuple, list)) or len(case) != 2 for case in cases):
            raise ValueError(f"cases={self.cases!r} must be patterns with their tags: a dict, or a list of pairs")
        tags: list[Any] = [tag for _, tag in cases] + ([] if self.default is None else [self.default])
        for tag in tags:
            if not isinstance(tag, str) and tag is not EMIT:
                raise ValueError(f"tag {tag!r} must be the name of a processor, or EMIT")
        ways = tuple(dict.fromkeys(tags))
        conditions = tuple((condition_of(pattern, self.by, self.field), ways.index(tag)) for pattern, tag in cases)
        object.__setattr__(self, "ways", ways)
        object.__setattr__(self, "conditions", conditions)

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        way = np.full(len(column), -1 if self.default is None else self.ways.index(self.default), dtype=np.int32)
        for condition, number in reversed(self.conditions):
            way[condition(column)] = number
        return Outcome(column, way=way)


@dataclass(frozen=True, eq=False)
class keep(Columnar):
    """Let only those values through that pass a test.

    Args:
        pattern: the text, regular expression or expression of the test.
        by: which of them it is, as for `route`: ``"contains"``, ``"matches"``, ``"equals"`` or ``"expression"``. What is
            missing does not pass.
        field: the field to look at, when values are dicts; expressions name their fields themselves.

    Raises:
        ValueError: as for `route`.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("warn", processors.keep("warn")).run(["warn: hot", "info: ok"]).output["value"].tolist()
        ['warn: hot']
        >>> long = processors.keep("length(line) > 3", by="expression")
        >>> Pipeline("p").add("long", long).run(["hot", "cold"]).output["value"].tolist()
        ['cold']
    """

    pattern: str | pl.Expr
    _: KW_ONLY
    by: By = "contains"
    field: str | None = None
    condition: Condition = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "condition", condition_of(self.pattern, self.by, self.field))

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        return Outcome(column, keep=self.condition(column))


@dataclass(frozen=True, eq=False)
class drop(Columnar):
    """Let only those values through that do not pass a test; what is missing does not pass it, and goes on.

    Args:
        pattern: the text, regular expression or expression of the test.
        by: which of them it is, as for `route`: ``"contains"``, ``"matches"``, ``"equals"`` or ``"expression"``.
        field: the field to look at, when values are dicts; expressions name their fields themselves.

    Raises:
        ValueError: as for `route`.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> calm = processors.drop("^(debug|trace)", by="matches")
        >>> Pipeline("p").add("calm", calm).run(["debug: x", "info: ok"]).output["value"].tolist()
        ['info: ok']
    """

    pattern: str | pl.Expr
    _: KW_ONLY
    by: By = "contains"
    field: str | None = None
    condition: Condition = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "condition", condition_of(self.pattern, self.by, self.field))

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        return Outcome(column, keep=~self.condition(column))
