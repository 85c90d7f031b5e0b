"""A processor bound to a run: one callable, whatever it was written as."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import GeneratorType
from typing import Any

from streamlab.host import Host
from streamlab.paths import EMIT, Target
from streamlab.policy import ON_ERROR, Limits, Refusal
from streamlab.processors import Processor
from streamlab.processors.columnar import Kernel
from streamlab.state import state_of, with_state


class Step:
    """What a walk needs to know of a processor.

    Attributes:
        attempt: the function itself, which gets a copy of the value where it may be needed again.
        call: gives the result for a value, or raises; within the timeout, and awaited.
        targets: where it may route: by tag, the tag as literals have it.
        default: where a bare value goes, ``None`` when it must say.
        handler: the processor that takes the values it fails on, if it has one.
        shapes: what it has returned so far, for the loop generator: ``"bare"`` values, ``"tuple"``, and ``"computed"`` when
            a tag was equal to a processor's name but another object, which a literal is not.
        bare: the types of its bare values so far.
        seconds: its time so far, where a segment measures its processors one by one.
        kernel: of a columnar processor the function over columns.
        ways: of a columnar processor where its results may go, as it numbers them.
        ordered: whether it is columnar and keeps state from value to value.
        touched: keys whose instances have seen values since somebody emptied it; ``None`` when nobody wants to know.
    """

    __slots__ = (
        "_instances",
        "attempt",
        "bare",
        "call",
        "default",
        "handler",
        "kernel",
        "name",
        "ordered",
        "processor",
        "seconds",
        "shapes",
        "targets",
        "touched",
        "ways",
    )

    def __init__(
        self,
        processor: Processor,
        host: Host,
        limits: Limits,
        kept: Mapping[str, Any] | None = None,
        *,
        tracked: bool = False,
    ) -> None:
        self.processor = processor
        self.name = processor.name
        self.targets: dict[Target, Target] = {tag: sys.intern(tag) if isinstance(tag, str) else tag for tag in processor.to}
        self.targets[EMIT] = EMIT
        self.default = processor.default
        self.handler = processor.on_error if processor.on_error not in ON_ERROR else None
        self.shapes: set[str] = set()
        self.seconds: float | None = None
        self.bare: set[type] = set()
        self.touched: set[Any] | None = set() if tracked and processor.key is not None else None
        self._instances: dict[Any, Any] = {}
        columnar = processor.columnar
        self.kernel = columnar.bind() if columnar is not None else None
        if kept is not None:
            self._restore(kept)
        self.ways: tuple[Target, ...] = processor.ways
        self.ordered = columnar is not None and columnar.ordered
        if self.kernel is not None:
            call = _one_by_one(self.kernel, self.ways)
            self._instances.setdefault(None, self.kernel)
        else:
            call = _bind(processor, self._instances, self.touched)
        if processor.retry is not None or self.handler is not None:
            call = _on_a_copy(call)
        self.attempt = call
        if processor.kind == "async":
            call = _awaited(call, host, processor.timeout, limits.max_emits)
        elif processor.timeout is not None:
            call = _within(call, host, processor.timeout, f"processor {processor.name!r}", limits.max_emits)
        self.call = call

    def kept(self) -> dict[str, Any]:
        """Return the state of its instances, for another step that goes on with it."""
        return self._kept(self._instances)

    def changed(self) -> dict[str, Any]:
        """Return the state of the instances that have seen values since this was asked for before; see `kept`."""
        if self.touched is None:
            return self.kept()
        made = self._kept({key: self._instances[key] for key in self.touched})
        self.touched.clear()
        return made

    def _kept(self, instances: Mapping[Any, Any]) -> dict[str, Any]:
        states = [state_of(instance) for instance in instances.values()]
        return {"of": self.processor.keeps, "keys": list(instances), "states": states}

    def _restore(self, kept: Mapping[str, Any]) -> None:
        for key, state in zip(kept["keys"], kept["states"], strict=True):
            new = self.processor.target() if self.kernel is None else self.kernel
            self._instances[key] = with_state(new, state)
        if self.kernel is not None:
            self.kernel = self._instances[None]

    def flushers(self) -> Iterator[Callable[[], Iterator[Any]]]:
        """Yield, for each instance that has a ``flush``, the function that gives what it has left."""
        for instance in list(self._instances.values()):
            if hasattr(instance, "flush"):
                yield functools.partial(_flushed, instance)


def _flushed(instance: Any) -> Iterator[Any]:
    left = instance.flush()
    if left is not None:
        yield from left if isinstance(left, (list, GeneratorType)) else (left,)


def consume(result: Any, max_emits: int) -> Any:
    """Return a result that is whole: a generator's values as a list.

    Raises:
        Refusal: there are more than ``max_emits``.
    """
    if isinstance(result, GeneratorType):
        result = list(islice(result, max_emits + 1))
    if isinstance(result, list) and len(result) > max_emits:
        raise Refusal("max_emits", f"made more than max_emits={max_emits} values of one")
    return result


def copied(value: Any) -> Any:
    """Return the value as it is now, whatever is done to it later; itself, when it cannot change or not be copied."""
    if type(value) is str:
        return value
    try:
        return copy.deepcopy(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # its __deepcopy__ is the user's code
        return value


def _one_by_one(kernel: Kernel, ways: Sequence[Target]) -> Callable[[Any], Any]:
    """Return a columnar processor as a function of one value, which returns routes: a list that it gives is one value."""
    from streamlab.segments.columnar import evaluate_one

    return lambda value: evaluate_one(kernel, ways, value)


def _bind(processor: Processor, instances: dict[Any, Any], touched: set[Any] | None) -> Callable[[Any], Any]:
    """Return the function for a value; instances of a class are kept by key in ``instances``, and those used noted."""
    target = processor.target
    if not processor.stateful:
        return target  # type: ignore[no-any-return]
    if processor.key is None:
        instance = instances[None] = instances[None] if None in instances else target()
        return instance.__call__  # type: ignore[no-any-return]
    key = processor.key if callable(processor.key) else _field(processor.key)

    def keyed(value: Any) -> Any:
        which = key(value)
        instance = instances.get(which)
        if instance is None:
            instance = instances[which] = target()
        if touched is not None:
            touched.add(which)
        return instance(value)

    return keyed


def _field(name: str) -> Callable[[Any], Any]:
    def field(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"key={name!r} names a field, and the value is a {type(value).__name__}: give key= a function")
        return value[name]

    return field


def _within(call: Callable[[Any], Any], host: Host, seconds: float, what: str, max_emits: int) -> Callable[[Any], Any]:
    """Bound each call in time, with what a generator does before it has given its last value."""
    return lambda value: host.within(seconds, lambda given: consume(call(given), max_emits), value, what)


def _on_a_copy(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give every attempt a copy, so that the next one, or the handler, gets the value as it was."""
    return lambda value: call(value if type(value) is str else copied(value))


def _awaited(call: Callable[[Any], Any], host: Host, timeout: float | None, max_emits: int) -> Callable[[Any], Any]:
    """Make an async processor callable from a line-by-line walk, one value at a time."""

    def awaited(value: Any) -> Any:
        result, error = host.gather([lambda: outcome(call, value, timeout, max_emits)], 1)[0]
        if error is not None:
            raise error
        return result

    return awaited


async def outcome(
    call: Callable[[Any], Any], value: Any, timeout: float | None, max_emits: int
) -> tuple[Any, BaseException | None]:
    """Return what a coroutine function, or an async generator function, makes of a value, or what it raises.

    Even Ctrl-C is returned: an event loop that it went through could not be closed.
    """
    import asyncio  # takes long to import: only for who awaits

    try:
        async with asyncio.timeout(timeout) as limit:
            result = call(value)
            if not inspect.isasyncgen(result):
                return consume(await result, max_emits), None
            items: list[Any] = []
            async for item in result:
                items.append(item)
                consume(items, max_emits)
            return items, None
    except TimeoutError as error:
        return None, Refusal("timeout", f"took longer than {timeout:g} s") if limit.expired() else error
    except BaseException as error:
        return None, error
