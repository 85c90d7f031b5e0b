"""Values that fit the types that a function declares for its arguments, so that a file can call it."""

from __future__ import annotations

import builtins
import collections.abc
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union

from streamlab.paths import EMIT

#: What types are called in messages. None of them is a kind of another here: ``True`` is no number.
TEXT = "text"
_NAMES: dict[Any, str] = {
    str: TEXT,
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
    type: "the name of an exception",
}


def hints_of(target: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the types that a function, or a class, declares for its arguments; none when they cannot be found."""
    import polars as pl

    own = vars(target).get("__init__", target) if isinstance(target, type) else target
    for source in (own, target):
        try:
            hints = typing.get_type_hints(source, localns={"pl": pl})
        except (NameError, TypeError, AttributeError):  # of what is imported for type checkers only
            continue
        if hints:
            return hints
    return {}


def fitted(value: Any, hint: Any) -> Any:
    """Return a value of a file as a type wants it. Types that are not known here take any.

    Raises:
        TypeError: it is of another; the message says which it should be.
        ValueError: it is text that says nothing.

    >>> fitted("EMIT", str | Literal[EMIT]), fitted(["a"], str | list[str]), fitted(1, float)
    (EMIT, ['a'], 1)
    """
    origin: Any = typing.get_origin(hint)
    of = typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(value, sorted(of, key=_is_open))
    if origin is Literal:
        return _literal(value, of)
    if hint is type or origin is type:
        return _exception(value)
    if _is_expression(hint):
        return _expression(value)
    if hint in _NAMES:
        if type(value) is hint or (hint is float and type(value) is int):
            return value
        raise TypeError(_NAMES[hint])
    if origin is collections.abc.Callable:
        raise TypeError("a function")
    return _collected(value, origin, of) if isinstance(origin, type) and issubclass(origin, Iterable) else value


def _collected(value: Any, origin: type, of: tuple[Any, ...]) -> Any:
    """Return a list or mapping with items as they are wanted."""
    if issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise TypeError("a mapping")
        keys, items = _all(value, of[0], "a mapping with each key"), _all(value.values(), of[1], "a mapping with each value")
        return dict(zip(keys, items, strict=True))
    if not isinstance(value, list):
        raise TypeError("a list")
    if origin is not tuple or of[1:] == (...,):
        return _all(value, of[0], "a list with each item")
    if len(value) != len(of):
        raise TypeError(f"a list of {len(of)}")
    return tuple(fitted(item, hint) for item, hint in zip(value, of, strict=True))


def _all(values: Iterable[Any], hint: Any, what: str) -> list[Any]:
    try:
        return [fitted(value, hint) for value in values]
    except TypeError as error:
        raise TypeError(f"{what} {error}") from None


def _is_open(hint: Any) -> bool:
    """Tell whether it admits more than some values: the few are tried first."""
    origin: Any = typing.get_origin(hint)
    return origin is not Literal


def _one_of(value: Any, hints: Iterable[Any]) -> Any:
    wanted = []
    for hint in hints:
        try:
            return fitted(value, hint)
        except TypeError as error:
            wanted.append(str(error))
    raise TypeError(" or ".join(text for text in wanted if text != "a function"))


def _literal(value: Any, allowed: tuple[Any, ...]) -> Any:
    for one in allowed:
        if value == one and type(value) is type(one):
            return one
        if one is EMIT and value == "EMIT":
            return EMIT
    raise TypeError(" or ".join(map(repr, allowed)))


def _exception(value: Any) -> Any:
    found = getattr(builtins, value, None) if isinstance(value, str) else None
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    raise TypeError(_NAMES[type])


def _is_expression(hint: Any) -> bool:
    return getattr(hint, "__module__", "").startswith("polars.") and getattr(hint, "__name__", "") == "Expr"


def _expression(value: Any) -> Any:
    """Return SQL as an expression."""
    import polars as pl

    if not isinstance(value, str):
        raise TypeError("an expression, in SQL")
    try:
        return pl.sql_expr(value)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{value!r} is no expression in SQL: {error}") from error
