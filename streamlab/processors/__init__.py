"""What happens to a value: the kinds of processors, all of them described by `Processor`; and the built-in ones.

=============  ===================================================================================
``function``   any callable, once a value
``stateful``   a class: one instance a run, or one a key; ``flush`` gives what is left at the end
``async``      a coroutine function (or a class whose ``__call__`` is one): many values at a time
``columnar``   a Polars expression, or a built-in made of such, over the whole batch, in native code
=============  ===================================================================================
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from streamlab.paths import EMIT, Fate, Target
from streamlab.policy import Retry
from streamlab.processors.access_log import parse_access_log
from streamlab.processors.columnar import Columnar, Expression
from streamlab.processors.count import count, top
from streamlab.processors.csv import parse_csv
from streamlab.processors.dedupe import dedupe
from streamlab.processors.digest import hash  # noqa: A004 - used as processors.hash
from streamlab.processors.extract import extract
from streamlab.processors.fields import rename, select, with_fields
from streamlab.processors.head import head
from streamlab.processors.json import parse_json, to_json
from streamlab.processors.logfmt import parse_logfmt
from streamlab.processors.number import number
from streamlab.processors.redact import redact
from streamlab.processors.route import drop, keep, route
from streamlab.processors.sample import sample
from streamlab.processors.syslog import parse_syslog
from streamlab.processors.text import lower, replace, strip, template, upper
from streamlab.processors.throttle import throttle
from streamlab.processors.timestamp import parse_timestamp

Kind = Literal["function", "stateful", "async", "columnar"]
Kept = Literal["one", "by key"]


@dataclass(frozen=True, slots=True)
class Processor:
    """A named node of the graph: what it runs, where its values may go, and what happens when it fails.

    Attributes:
        name: unique in its pipeline.
        target: the callable, class or expression.
        to: where it may route. Without any, values are emitted.
        retry: ``None`` for one attempt.
        on_error: ``"dead_letter"``, ``"skip"``, ``"stop"``, or the processor that takes the failed value.
        timeout: seconds for one attempt; ``None`` for no limit.
        key: of a stateful processor what its instances are per: a function of the value, or the name of a field.
        concurrency: of an async processor, how many values at a time.
    """

    name: str
    target: Any
    to: tuple[Target, ...] = ()
    retry: Retry | None = None
    on_error: str = "dead_letter"
    timeout: float | None = None
    key: Callable[[Any], Any] | str | None = None
    concurrency: int = 64

    @property
    def kind(self) -> Kind:
        """How it runs."""
        return kind_of(self.target)

    @property
    def stateful(self) -> bool:
        """Whether it is a class, so that it has instances which keep what they see."""
        return is_stateful(self.target)

    @property
    def keeps(self) -> str | None:
        """What it is that keeps something from value to value, to be compared with another's; ``None`` if nothing does."""
        if self.stateful:
            return f"{self.target.__qualname__}{'' if self.key is None else ', one a key'}"
        return repr(self.target) if self.columnar is not None and self.columnar.ordered else None

    @property
    def state(self) -> Kept | None:
        """Whether what it keeps is in ``"one"`` place, or in one ``"by key"``; ``None`` if it keeps nothing."""
        if self.keeps is None:
            return None
        return "one" if self.key is None else "by key"

    @property
    def columnar(self) -> Columnar | None:
        """Of a columnar processor what it runs."""
        if is_expression(self.target):
            return Expression(self.target)
        return self.target if isinstance(self.target, Columnar) else None

    @property
    def ways(self) -> tuple[Target, ...]:
        """Of a columnar processor where its results may go, as it numbers them."""
        columnar = self.columnar
        if columnar is None or columnar.ways:
            return columnar.ways if columnar is not None else ()
        return self.to or (EMIT,)

    @property
    def kept(self) -> Fate:
        """The fate of a value for which it returns ``None``."""
        if isinstance(self.target, Columnar):
            return self.target.kept
        return Fate.ABSORBED if self.stateful else Fate.FILTERED

    @property
    def default(self) -> Target | None:
        """Where a bare value goes; ``None`` when there are several places and a tag must say."""
        if not self.to:
            return EMIT
        return self.to[0] if len(self.to) == 1 else None


def is_expression(target: object) -> bool:
    """Tell whether it is a Polars expression, without importing Polars for who uses none."""
    polars = sys.modules.get("polars")
    expression = getattr(polars, "Expr", None)  # it may be that another thread is just importing it
    return expression is not None and isinstance(target, expression)


def kind_of(target: object) -> Kind:
    """Return the kind of processor that a target makes.

    >>> kind_of(str.upper)
    'function'

    Raises:
        TypeError: it is nothing that can process values.
    """
    if is_expression(target) or isinstance(target, Columnar):
        return "columnar"
    call = getattr(target, "__call__", None) if not inspect.isfunction(target) else target  # noqa: B004 - unbound
    if inspect.isclass(target) and target.__module__ != "builtins" and not is_stateful(target):
        raise TypeError(f"class {target.__name__} has no __call__(self, value)")
    if is_async(target) or is_async(call):
        return "async"
    if is_stateful(target):
        return "stateful"
    if callable(target):
        return "function"
    raise TypeError(f"{target!r} is a {type(target).__name__}: neither a function, a class nor a Polars expression")


def is_async(function: object) -> bool:
    """Tell whether it is a coroutine function or an async generator function, by itself or as a partial."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_stateful(target: object) -> bool:
    """Tell whether it is a class whose instances can be called; ``int`` and the like are functions that make values."""
    return inspect.isclass(target) and any("__call__" in vars(base) for base in target.__mro__)


__all__ = [
    "Columnar",
    "Processor",
    "count",
    "dedupe",
    "drop",
    "extract",
    "hash",
    "head",
    "keep",
    "lower",
    "number",
    "parse_access_log",
    "parse_csv",
    "parse_json",
    "parse_logfmt",
    "parse_syslog",
    "parse_timestamp",
    "redact",
    "rename",
    "replace",
    "route",
    "sample",
    "select",
    "strip",
    "template",
    "throttle",
    "to_json",
    "top",
    "upper",
    "with_fields",
]
