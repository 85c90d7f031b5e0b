"""The graph: build it, check it, describe it, draw it. Nothing runs here."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, overload

from streamlab.errors import PipelineError
from streamlab.paths import EMIT, Target
from streamlab.policy import ON_ERROR, Limits, Retry
from streamlab.processors import Processor, is_async, kind_of
from streamlab.processors.columnar import Columnar, row_by_row
from streamlab.runnable import Runnable

F = TypeVar("F")
#: Seconds that a timeout may be; a thread cannot wait for much longer ones.
MAX_TIMEOUT = 1e6


class Pipeline(Runnable):
    """Processors by name; the first one added is the entry. Building is not running.

    Args:
        name: what to call it in messages, tables and the dashboard.
        max_hops: processors that one branch may visit.
        max_emits: values that a processor may make of one.
        max_line_bytes: length of a line, in bytes.

    Example:
        >>> logs = Pipeline("logs")
        >>> @logs.processor(to=("warn", "end"))
        ... def start(line):
        ...     return ("warn" if line.startswith("warn") else "end"), line
        >>> @logs.processor(to="end")
        ... def warn(line):
        ...     return line.upper()
        >>> @logs.processor
        ... def end(line):
        ...     return f"[{line}]"
        >>> logs
        Pipeline('logs': start, warn, end)
        >>> logs.run(["info: ok", "warn: hot"]).output["value"].tolist()
        ['[info: ok]', '[WARN: HOT]']
    """

    def __init__(
        self,
        name: str = "pipeline",
        *,
        max_hops: int = 100,
        max_emits: int = 10_000,
        max_line_bytes: int = 1_048_576,
    ) -> None:
        self.name = name
        try:
            self.limits = Limits(max_hops, max_emits, max_line_bytes)
        except ValueError as error:
            raise PipelineError(f"pipeline {name!r}: {error}") from error
        self._processors: dict[str, Processor] = {}

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}: {', '.join(self._processors) or 'no processors yet'})"

    def __getitem__(self, name: str) -> Processor:
        """Return the processor of a name.

        Raises:
            PipelineError: there is none; the message names the nearest.
        """
        if name not in self:
            known = nearest(str(name), self._processors)
            raise PipelineError(f"pipeline {self.name!r}: there is no processor {name!r}{known}")
        return self._processors[name]

    __iter__ = None  # who passes a pipeline for lines is told so, instead of being asked for processor 0

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._processors

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._processors)

    def _repr_html_(self) -> str | None:
        from streamlab.views import markup

        try:
            return markup.pipeline(self.describe())
        except PipelineError:  # it is still being built; there is its text
            return None

    # Building

    @overload
    def processor(self, target: F, /, *, name: str | None = None, **options: Any) -> F: ...

    @overload
    def processor(self, /, *, name: str | None = None, **options: Any) -> Callable[[F], F]: ...

    def processor(self, target: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Add a function, class or Polars expression, and give it back unchanged. A decorator, with or without options.

        Args:
            target: what to run on each value.
            name: its name; by default the function's own.
            options: those of `add`.
        """
        if target is None:
            return functools.partial(self._decorate, name, options)
        return self._decorate(name, options, target)

    def _decorate(self, name: str | None, options: dict[str, Any], target: F) -> F:
        own = getattr(target, "__name__", None)
        if name is None and (own is None or own == "<lambda>"):
            raise PipelineError(f"pipeline {self.name!r}: a {type(target).__name__} has no name of its own; give name=")
        self.add(name or str(own), target, **options)
        return target

    def add(
        self,
        name: str,
        target: Any,
        *,
        to: Target | Iterable[Target] = (),
        retry: Retry | None = None,
        on_error: str = "dead_letter",
        timeout: float | None = None,
        key: Callable[[Any], Any] | str | None = None,
        concurrency: int = 64,
    ) -> Pipeline:
        """Add a processor, and return the pipeline.

        Args:
            name: unique in the pipeline.
            target: a function of one value, a class with ``__call__(self, value)``, or a Polars expression over the
                column ``line`` (or over the fields, when values are dicts).
            to: the processors that it may route to (`EMIT` among them if it may emit as well). Without any, its values
                are emitted. With several, each value must say where: ``return tag, value``.
            retry: how often to try a value again.
            on_error: ``"dead_letter"``, ``"skip"``, ``"stop"``, or the name of a processor that takes failed values.
            timeout: seconds for one attempt.
            key: of a class: one instance a key, which is ``key(value)``, or ``value[key]`` for the name of a field.
            concurrency: of an ``async def``: how many values at a time.

        Raises:
            PipelineError: the name is taken, or an option does not fit.

        Example:
            >>> import polars as pl
            >>> Pipeline("loud").add("upper", pl.col("line").str.to_uppercase()).run(["a"]).output["value"].tolist()
            ['A']
        """
        here = f"pipeline {self.name!r}, processor {name!r}"
        if not isinstance(name, str) or not name.strip() or " > " in name:
            raise PipelineError(f"{here}: a name must be text, not empty and without ' > ', which separates a path")
        if name in self._processors and not _redefined(self._processors[name].target, target):
            raise PipelineError(f"{here}: there is one of this name already; give another with name=")
        targets = (to,) if isinstance(to, str) or not isinstance(to, Iterable) else tuple(to)
        if any(not isinstance(tag, str) and tag is not EMIT for tag in targets):
            raise PipelineError(f"{here}: to={to!r} must be names of processors, or EMIT")
        if not isinstance(on_error, str):
            raise PipelineError(f"{here}: on_error={on_error!r} must be {', '.join(ON_ERROR)} or the name of a processor")
        if not targets and isinstance(target, Columnar):
            targets = target.ways
        names = tuple(str.__str__(tag) if isinstance(tag, str) else tag for tag in targets)  # a StrEnum's text
        processor = Processor(name, target, names, retry, str.__str__(on_error), timeout, key, concurrency)
        _check_options(processor, here)
        self._processors[name] = processor
        return self

    # Checking and describing

    @property
    def processors(self) -> Mapping[str, Processor]:
        """The processors by name, in the order in which they were added."""
        return MappingProxyType(self._processors)

    @property
    def entry(self) -> Processor:
        """The processor that every line goes to first."""
        if not self._processors:
            raise PipelineError(f"pipeline {self.name!r} has no processors; add one with @{self.name}.processor")
        return next(iter(self._processors.values()))

    def check(self) -> None:
        """Check that every route leads somewhere.

        Raises:
            PipelineError: there is no processor, or one names another that is not there; the message names the nearest.
        """
        self.entry  # noqa: B018 - raises when there is none
        for processor in self._processors.values():
            for target in processor.to:
                self._known(processor, target, "to")
            if processor.on_error not in ON_ERROR:
                self._known(processor, processor.on_error, "on_error")

    def _known(self, processor: Processor, target: Target, option: str) -> None:
        if target is EMIT or target in self._processors:
            return
        known = [*self._processors, *(ON_ERROR if option == "on_error" else ())]
        raise PipelineError(
            f"pipeline {self.name!r}, processor {processor.name!r}: {option}={target!r} is no processor"
            f"{nearest(str(target), known)}"
        )

    def edges(self) -> Iterator[tuple[str, Target]]:
        """Yield every declared way from one processor to the next, or to `EMIT`, ``on_error`` ways included."""
        for processor in self._processors.values():
            yield from ((processor.name, target) for target in processor.to or (EMIT,))
            if processor.on_error in self._processors and processor.on_error not in ON_ERROR:
                yield processor.name, processor.on_error

    def describe(self) -> dict[str, Any]:
        """Return the graph as plain data, ready for JSON: ``{"pipeline", "entry", "nodes", "edges"}``.

        ``state`` of a node says where it keeps what it keeps, which matters on a cluster: in ``"one"`` place, or
        ``"by key"`` in several (but in one if it is in a loop); ``None`` if it keeps nothing.
        """
        self.check()
        nodes = [
            {"name": p.name, "kind": p.kind, "state": p.state, "to": [_plain(t) for t in p.to], "on_error": p.on_error}
            for p in self._processors.values()
        ]
        edges = [{"from": origin, "to": _plain(target)} for origin, target in dict.fromkeys(self.edges())]
        return {"pipeline": self.name, "entry": self.entry.name, "nodes": nodes, "edges": edges}

    def mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html).

        What keeps state has a second line that says where: in one place, or by key.

        >>> print(Pipeline("one").add("end", str.upper).mermaid())
        flowchart LR
            source([source]) --> p0["end"]
            p0 --> output([output])
        """
        self.check()
        ids = {name: f"p{index}" for index, name in enumerate(self._processors)}
        where = {"one": "<br/>in one place", "by key": "<br/>by key", None: ""}
        shape = {name: f'{ids[name]}["{_mermaid_text(name)}{where[p.state]}"]' for name, p in self._processors.items()}
        lines = [f"    source([source]) --> {shape[self.entry.name]}"]
        reached = {self.entry.name, *(target for _, target in self.edges())}
        lines += [f"    {shape[name]}" for name in ids if name not in reached]
        for origin, target in dict.fromkeys(self.edges()):
            lines.append(f"    {ids[origin]} --> {'output([output])' if target is EMIT else shape[target]}")
        return "\n".join(["flowchart LR", *lines])

    def explain(self) -> str:
        """Return how the pipeline will run: its segments, and the loops generated for the Python ones."""
        from streamlab.segments import explain

        self.check()
        return explain(self)

    def copy(self) -> Pipeline:
        """Return one that stays as this is now: a run has its own, as in a notebook a pipeline is built on while it runs."""
        other = copy.copy(self)
        other._processors = self._processors.copy()
        return other


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that helps with an unknown name.

    >>> nearest("wran", ["start", "warn"])
    "; did you mean 'warn'?"
    >>> nearest("x", ["start", "warn"])
    '; known: start, warn'
    """
    import difflib  # only for who has made a mistake

    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _redefined(old: Any, new: Any) -> bool:
    """Tell whether a function or class is a notebook's cell run again: the same name, defined anew by hand."""
    places = {(getattr(target, "__module__", None), getattr(target, "__qualname__", None)) for target in (old, new)}
    interactive = not hasattr(sys.modules.get("__main__"), "__file__")
    return interactive and len(places) == 1 and places.pop()[0] == "__main__"


def _check_options(processor: Processor, here: str) -> None:
    """Refuse options that are wrong, or that this kind of processor has no use for."""
    try:
        kind = kind_of(processor.target)
    except TypeError as error:
        raise PipelineError(f"{here}: {error}") from None
    if processor.key is not None and not processor.stateful:
        raise PipelineError(f"{here}: key= is for classes, which keep state; this is a {kind} processor")
    if kind == "columnar":
        _check_columnar(processor, here)
    if processor.stateful and is_async(getattr(processor.target, "flush", None)):
        raise PipelineError(f"{here}: flush must be a plain function or generator; an async one is not awaited")
    timeout, concurrency = processor.timeout, processor.concurrency
    if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout <= MAX_TIMEOUT):
        raise PipelineError(f"{here}: timeout={timeout!r} must be a number of seconds, more than 0, or None for no limit")
    if not isinstance(concurrency, int) or concurrency < 1:
        raise PipelineError(f"{here}: concurrency={concurrency!r} must be a whole number, at least 1")
    if processor.retry is not None and not isinstance(processor.retry, Retry):
        raise PipelineError(f"{here}: retry= takes a streamlab.Retry, not {processor.retry!r}")


def _check_columnar(processor: Processor, here: str) -> None:
    """Refuse what cannot be done with whole columns."""
    for option in ("retry", "timeout"):
        if getattr(processor, option) is not None:
            raise PipelineError(f"{here}: {option}= does not apply to a columnar processor: it runs on whole batches")
    ways = processor.columnar.ways if processor.columnar is not None else ()
    if not ways and len(processor.to) > 1:
        raise PipelineError(f"{here}: its values have no tags: they can go to one processor, not to {processor.to}")
    if ways and set(processor.to) != set(ways):
        raise PipelineError(f"{here}: to={processor.to!r} is not where it routes to, {ways!r}; leave to= out")
    if not isinstance(processor.target, Columnar):
        _check_expression(processor, here)


def _check_expression(processor: Processor, here: str) -> None:
    """Refuse expressions whose result for a line would depend on the batch that it came in."""
    if processor.target.meta.has_multiple_outputs():
        raise PipelineError(f"{here}: the expression gives several columns; make one of them with pl.struct(...)")
    if not row_by_row(processor.target):
        raise PipelineError(
            f"{here}: the expression looks at other lines than its own ({processor.target}), so that its result would"
            " depend on the batch size; use a class to keep state from line to line"
        )


def _plain(target: Target) -> str | None:
    """Return a target for JSON, where leaving the pipeline is ``null``."""
    return None if target is EMIT else target


def _mermaid_text(text: str) -> str:
    """Return text that Mermaid shows as it is: everything but letters, digits and a few marks as entity codes."""
    return "".join(c if c.isalnum() or c in " _-." else f"#{ord(c)};" for c in text)
