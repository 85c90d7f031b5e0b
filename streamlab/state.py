"""What a processor keeps, as bytes: as plain data where it is that, so that reading it runs nobody's code; else pickled.

Plain are ``None``, booleans, numbers, text and bytes, dates and times, and lists, tuples, dicts, sets, deques, counters and
default dicts of such: they come back as they were, type by type, in MessagePack (https://msgpack.org). A list is written as
``[LIST, items]`` and the like, as MessagePack has only lists and maps; many alike (lists of lists, dicts with the same keys)
are written as columns, so that a million of them take a second and not ten.
"""

from __future__ import annotations

import gc
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum, auto
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter, is_, itemgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from streamlab.errors import CheckpointError


class Packed(NamedTuple):
    """A value as bytes.

    Attributes:
        data: the bytes.
        pickled: whether reading them may run code, as they are a pickle.
    """

    data: bytes
    pickled: bool


class Whole(NamedTuple):
    """Stands for the state of an object that is more than its attributes, such as one of a class made from ``dict``."""

    instance: Any


class _Code(IntEnum):
    """What a list in the packed data stands for. The numbers are part of the format."""

    LIST = 0
    FLAT = auto()  # a list of scalars only
    ROWS = auto()  # a list of lists, or of tuples, as one long list
    RECORDS = auto()  # a list of dicts that have the same keys, as columns
    TUPLE = auto()
    DICT = auto()
    SET = auto()
    FROZENSET = auto()
    DEQUE = auto()
    COUNTER = auto()
    ORDERED = auto()
    DEFAULT = auto()
    INTEGER = auto()
    TEXT = auto()
    DATETIME = auto()
    DATE = auto()
    TIMEDELTA = auto()


class _NotPlain(Exception):
    """A value is not plain data."""


_SCALARS = frozenset({type(None), bool, float, bytes, str})
#: Factories of default dicts that have a name which means the same everywhere.
_FACTORIES: dict[str | None, Any] = {None: None, **{kind.__name__: kind for kind in (int, float, str, list, dict, set)}}
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
#: Containers of one kind that are worth looking for what they have in common.
_MANY = 8
#: Containers in containers beyond which a value is pickled.
_DEPTH = 64


def packed(value: Any) -> Packed:
    """Return a value as bytes.

    Raises:
        Exception: whatever pickle raises, if it is not plain and cannot be pickled.

    >>> unpacked(packed({"seen": {("a", 1)}, "last": [1.5, None]}))
    {'seen': {('a', 1)}, 'last': [1.5, None]}
    >>> packed(range(3)).pickled
    True
    """
    for careful in (False, True):
        try:
            return Packed(msgspec.msgpack.encode(_Writer(careful).written(value)), pickled=False)
        except UnicodeEncodeError:
            continue  # text with lone surrogates: once more, and look at each
        except _NotPlain:
            break
    import cloudpickle  # functions and classes of a notebook, too

    return Packed(cloudpickle.dumps(value), pickled=True)


def saved(pipeline: str, processor: str, kept: Callable[[], Any]) -> Packed:
    """Return what a processor keeps as bytes.

    Args:
        pipeline: its name.
        processor: its name.
        kept: gives it.

    Raises:
        CheckpointError: it cannot be pickled, or cannot be given.
    """
    try:
        return packed(kept())
    except Exception as error:  # of the user's code, or of values that cannot be saved
        raise CheckpointError(
            f"pipeline {pipeline!r}, processor {processor!r}: its state cannot be saved: {type(error).__name__}: {error};"
            " leave out what cannot be with __getstate__, and make it anew in __setstate__"
        ) from error


def unpacked(stored: Packed) -> Any:
    """Return the value that was packed; a pickle may run code, and must be from where only its owner can write."""
    if stored.pickled:
        import pickle

        return pickle.loads(stored.data)
    return _read(msgspec.msgpack.decode(stored.data))


class _Writer:
    """Turns one value into what MessagePack can have.

    Args:
        careful: whether to look at each text.
    """

    def __init__(self, careful: bool) -> None:
        self._careful = careful
        self._seen: set[int] = set()  # containers: two that are one would come back as two
        self._depth = 0

    def written(self, value: Any) -> Any:
        """Return a value for MessagePack.

        Raises:
            _NotPlain: there is no way to write it.
        """
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind in _SCALARS:
            return value
        if kind is int:
            return value if _LOWEST <= value <= _HIGHEST else [_Code.INTEGER, str(value)]
        write = _WRITERS.get(kind)
        if write is None or self._depth == _DEPTH or (id(value) in self._seen and kind not in _CONSTANT):
            raise _NotPlain
        self._seen.add(id(value))
        self._depth += 1
        made = write(self, value)
        self._depth -= 1
        return made

    def _text(self, value: str) -> Any:
        if self._careful and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            return [_Code.TEXT, value.encode("utf-8", "surrogatepass")]
        return value

    def _items(self, values: Iterable[Any]) -> list[Any]:
        """Return a list in the way that is fastest for it."""
        items = list(values)
        kinds = set(map(type, items))
        if int in kinds:
            numbers = items if len(kinds) == 1 else [item for item in items if type(item) is int]
            if min(numbers) >= _LOWEST and max(numbers) <= _HIGHEST:
                kinds.discard(int)
        if kinds <= _SCALARS and not (self._careful and str in kinds):
            return [_Code.FLAT, items]
        if len(items) >= _MANY and len(kinds) == 1 and self._depth < _DEPTH:
            alike = self._alike(kinds.pop(), items)
            if alike is not None:
                return alike
        return [_Code.LIST, [self.written(item) for item in items]]

    def _alike(self, kind: type, items: list[Any]) -> list[Any] | None:
        """Return many containers of one kind as columns; ``None`` if they are not alike."""
        shapes = set(map(tuple, items)) if kind is dict and type(items[0]) is dict else set()
        if kind not in (list, tuple) and len(shapes) != 1:
            return None
        if (
            any(type(key) is not str for shape in shapes for key in shape)
            and len({tuple(map(type, item)) for item in items}) > 1
        ):
            return None  # 1, 1.0 and True are the same key, and of three types
        ids = set(map(id, items))
        if kind is not tuple and (len(ids) < len(items) or not ids.isdisjoint(self._seen)):
            raise _NotPlain
        self._seen |= ids
        self._depth += 1
        if kind is dict:
            keys = shapes.pop()
            made = [_Code.RECORDS, len(items), self._items(keys), [self._items(map(itemgetter(key), items)) for key in keys]]
        else:
            made = [_Code.ROWS, kind is tuple, list(map(len, items)), self._items(chain.from_iterable(items))]
        self._depth -= 1
        return made

    def _pairs(self, values: dict[Any, Any]) -> list[Any]:
        return [self._items(values.keys()), self._items(values.values())]

    def _default(self, value: defaultdict[Any, Any]) -> Any:
        name = getattr(value.default_factory, "__name__", None)
        if _FACTORIES.get(name) is not value.default_factory:
            raise _NotPlain
        return [_Code.DEFAULT, name, *self._pairs(value)]

    def _datetime(self, value: datetime) -> Any:
        zone = value.tzinfo
        if zone is None or zone is UTC:
            name = zone and "UTC"
        elif type(zone) is ZoneInfo and zone.key is not None:
            name = f"/{zone.key}"
        else:
            raise _NotPlain
        return [_Code.DATETIME, value.replace(tzinfo=None).isoformat(), name, value.fold]


_CONSTANT = frozenset({tuple, frozenset, datetime, date, timedelta})
_WRITERS: dict[type, Callable[[_Writer, Any], Any]] = {
    list: lambda writer, value: writer._items(value),
    tuple: lambda writer, value: [_Code.TUPLE, writer._items(value)],
    dict: lambda writer, value: [_Code.DICT, *writer._pairs(value)],
    set: lambda writer, value: [_Code.SET, writer._items(value)],
    frozenset: lambda writer, value: [_Code.FROZENSET, writer._items(value)],
    deque: lambda writer, value: [_Code.DEQUE, writer._items(value), value.maxlen],
    Counter: lambda writer, value: [_Code.COUNTER, *writer._pairs(value)],
    OrderedDict: lambda writer, value: [_Code.ORDERED, *writer._pairs(value)],
    defaultdict: lambda writer, value: writer._default(value),
    datetime: lambda writer, value: writer._datetime(value),
    date: lambda writer, value: [_Code.DATE, value.isoformat()],
    timedelta: lambda writer, value: [_Code.TIMEDELTA, value.days, value.seconds, value.microseconds],
}


def _read(node: Any) -> Any:
    if type(node) is not list:
        return node
    code, *rest = node
    return _READERS[code](*rest)


def _dict(keys: Any, values: Any) -> dict[Any, Any]:
    return dict(zip(_read(keys), _read(values), strict=True))


def _rows(tuples: bool, lengths: list[int], flat: Any) -> list[Any]:
    items = iter(_read(flat))
    make: Callable[[Iterable[Any]], Any] = tuple if tuples else list
    return [make(islice(items, length)) for length in lengths]


def _records(count: int, keys: Any, columns: list[Any]) -> list[Any]:
    names = _read(keys)
    if not names:
        return [{} for _ in range(count)]
    return [dict(zip(names, row, strict=True)) for row in zip(*map(_read, columns), strict=True)]


def _moment(text: str, name: str | None, fold: int) -> datetime:
    zone = None if name is None else UTC if name == "UTC" else ZoneInfo(name[1:])
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


_READERS: dict[int, Callable[..., Any]] = {
    _Code.LIST: lambda items: [_read(item) for item in items],
    _Code.FLAT: lambda items: items,
    _Code.ROWS: _rows,
    _Code.RECORDS: _records,
    _Code.TUPLE: lambda items: tuple(_read(items)),
    _Code.DICT: _dict,
    _Code.SET: lambda items: set(_read(items)),
    _Code.FROZENSET: lambda items: frozenset(_read(items)),
    _Code.DEQUE: lambda items, most: deque(_read(items), most),
    _Code.COUNTER: lambda keys, values: Counter(_dict(keys, values)),
    _Code.ORDERED: lambda keys, values: OrderedDict(_dict(keys, values)),
    _Code.DEFAULT: lambda name, keys, values: defaultdict(_FACTORIES[name], _dict(keys, values)),
    _Code.INTEGER: int,
    _Code.TEXT: lambda data: data.decode("utf-8", "surrogatepass"),
    _Code.DATETIME: _moment,
    _Code.DATE: date.fromisoformat,
    _Code.TIMEDELTA: timedelta,
}


def joined(changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a processor keeps, from what had changed of it at one time after the other.

    >>> first, then = {"of": "count", "keys": ["a", "b"], "states": [1, 1]}, {"of": "count", "keys": ["a"], "states": [2]}
    >>> joined([first, then])
    {'of': 'count', 'keys': ['a', 'b'], 'states': [2, 1]}
    """
    of: Any = None
    states: dict[Any, Any] = {}
    for change in changes:
        of = change["of"]
        states.update(zip(change["keys"], change["states"], strict=True))
    return {"of": of, "keys": list(states), "states": list(states.values())}


def state_of(instance: Any) -> Any:
    """Return what an object keeps: what its ``__getstate__`` says, by default its attributes; or the object, as `Whole`."""
    kind: Any = type(instance)
    return _kind(kind).state_of(instance)


@lru_cache(maxsize=64)
def _kind(of: Any) -> _Kind:
    return _Kind(of)


class _Kind:
    """A class, and how to get at what its objects keep.

    An object whose ``__dict__`` has been asked for is slower from then on, before Python 3.13: its attributes are not in
    itself any more. So that this happens to few of many, attributes are got by the names that those of another one had.
    """

    def __init__(self, kind: type) -> None:
        own = getattr(kind, "__getstate__", None) is not object.__getstate__
        looks = any({"__getattribute__", "__getattr__"} & vars(base).keys() for base in kind.__mro__[:-1])
        self._whole = not own and any(base in _BUILT for base in kind.__mro__)
        self._plain = not own and not looks
        self._kind = kind
        self._names: Sequence[str] = ()
        self._values: Callable[[Any], tuple[Any, ...]] | None = None

    def state_of(self, instance: Any) -> Any:
        """Return what an object keeps."""
        if self._values is not None:
            try:
                values = self._values(instance)
            except AttributeError:
                values = ()
            # What an object refers to are its attributes and its class, unless there is more to it.
            held = gc.get_referents(instance)
            if len(held) == len(values) and all(map(is_, held, values)):
                return dict(zip(self._names, values, strict=False))
        state = Whole(instance) if self._whole else instance.__getstate__()
        if self._plain and type(state) is dict:
            self._learn(tuple(state))
        return state

    def _learn(self, names: Sequence[str]) -> None:
        """Take note of the names of attributes, if an object that has them has them itself."""
        if names and all(name.isidentifier() and not hasattr(self._kind, name) for name in names):
            self._names, self._values = names, attrgetter(*names, "__class__")  # a tuple, as it is two at least
        else:
            self._values = None


_BUILT = frozenset({dict, list, set, deque, bytearray})


def with_state(instance: Any, state: Any) -> Any:
    """Return a new object as the one was whose `state_of` this is; attributes that it did not have are left as they are.

    Raises:
        CheckpointError: its class does not take it.
    """
    if isinstance(state, Whole):
        return state.instance
    try:
        if hasattr(instance, "__setstate__"):
            instance.__setstate__(state)
            return instance
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        for name, value in {**(attributes or {}), **(slots or {})}.items():
            setattr(instance, name, value)
    except Exception as error:  # of the class's own code
        raise CheckpointError(
            f"its state could not be given back: {type(error).__name__}: {error}; mend its class, or begin anew with another"
            " checkpoint and another output"
        ) from error
    return instance
