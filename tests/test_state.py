"""What processors keep comes back as it was, type by type; plain data is not pickled."""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from copy import copy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import CheckpointError
from streamlab.state import packed, state_of, unpacked, with_state

KEYS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.datetimes(timezones=st.sampled_from([None, UTC, ZoneInfo("Europe/Berlin")]))
    | st.dates()
    | st.timedeltas()
)
KEYS = KEYS | st.tuples(KEYS, KEYS) | st.frozensets(KEYS, max_size=3)


def containers(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(of, max_size=20)
        | st.lists(of).map(tuple)
        | st.lists(of, max_size=5).map(lambda items: deque(items, 7))
        | st.dictionaries(KEYS, of, max_size=12)
        | st.dictionaries(KEYS, of, max_size=3).map(OrderedDict)
        | st.dictionaries(KEYS, of, max_size=3).map(lambda items: defaultdict(list, items))
        | st.lists(st.fixed_dictionaries({"a": of, "b": of}), max_size=12)
        | st.lists(st.lists(of, max_size=2), max_size=12)
        | st.sets(KEYS, max_size=5)
        | st.dictionaries(KEYS, st.integers(), max_size=3).map(Counter)
    )


def like(one: Any, other: Any) -> bool:
    """Tell whether two values are equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        factories = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return len(one) == len(other) and factories and all(like(a, b) for pair in pairs for a, b in zip(*pair, strict=True))
    if isinstance(one, (list, tuple, deque)):
        limits = getattr(one, "maxlen", None) == getattr(other, "maxlen", None)
        return len(one) == len(other) and limits and all(like(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, datetime):
        return one == other and one.tzinfo == other.tzinfo and one.fold == other.fold
    return bool(one == other)


@given(st.recursive(KEYS, containers, max_leaves=60))
def test_plain_data_comes_back_as_it_was_and_is_not_pickled(value: Any) -> None:
    made = packed(value)
    assert not made.pickled
    assert like(unpacked(made), value)


def test_what_cannot_be_plain_is_pickled_and_comes_back() -> None:
    shared: list[int] = []
    circle: dict[str, Any] = {}
    circle["self"] = circle
    deep: Any = 0
    for _ in range(70):
        deep = [deep]
    for value in (Point(1, 2), {"p": Point(1, 2)}, range(3), deep, timezone(timedelta(hours=1)), 1j, bytearray(b"a")):
        made = packed(value)
        assert made.pickled
        assert unpacked(made) == value
    both = unpacked(packed([shared, shared]))
    both[0].append(1)
    assert both[1] == [1]
    again = unpacked(packed(circle))
    assert again["self"] is again
    assert unpacked(packed([float("nan")]))[0] != unpacked(packed([float("nan")]))[0]
    assert unpacked(packed(defaultdict(lambda: 7)))["x"] == 7


@dataclass(frozen=True)
class Point:
    x: int
    y: int


def test_what_nobody_can_save_says_so() -> None:
    with pytest.raises((TypeError, pickle.PicklingError)):
        packed({"lines": iter([1]).__iter__, "made": (n for n in [1])})


class Plain:
    def __init__(self) -> None:
        self.n, self.made = 0, "new"


class Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Words(dict[str, int]):
    pass


class Connected:
    def __init__(self) -> None:
        self.n, self.connection = 0, object()

    def __getstate__(self) -> dict[str, int]:
        return {"n": self.n}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.n = state["n"]


@pytest.mark.parametrize("kind", [Plain, Slotted, Connected])
def test_objects_keep_their_attributes(kind: Any) -> None:
    one = kind()
    one.n = 7
    made = packed(state_of(one))
    assert not made.pickled
    other = with_state(kind(), unpacked(made))
    assert other.n == 7


def test_objects_that_are_containers_are_saved_whole() -> None:
    words = Words(a=1)
    made = packed(state_of(words))
    assert made.pickled
    assert with_state(Words(), unpacked(made)) == {"a": 1}


def test_dates_are_no_datetimes() -> None:
    assert like(unpacked(packed([date(2024, 2, 29), datetime(2024, 2, 29)])), [date(2024, 2, 29), datetime(2024, 2, 29)])


class Bare:
    pass


class Defaults:
    a = 1
    b: Any = None


class Guesses:
    def __getattr__(self, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return 1


class Halved(Slotted):
    """Attributes in slots, and others."""


NAMES = st.sampled_from(["a", "b", "n", "of", "a b", "a.b"])
VALUES = st.none() | st.integers(0, 2) | st.text()


@pytest.mark.parametrize("kind", [Bare, Defaults, Guesses, Halved])
@given(
    objects=st.lists(st.tuples(st.dictionaries(NAMES, st.none() | st.integers(0, 2) | st.text()), st.booleans()), max_size=8)
)
def test_objects_are_saved_by_the_attributes_that_each_has(kind: Any, objects: list[tuple[dict[str, Any], bool]]) -> None:
    made = []
    for attributes, looked_at in objects:
        one = kind()
        for name, value in attributes.items():
            setattr(one, name, value)
        if looked_at:
            vars(one)["of"] = 7
        made.append(one)
    for _ in range(2):
        assert [state_of(one) for one in made] == [object.__getstate__(one) for one in map(copy, made)]
    for one in made[::2]:
        if hasattr(one, "b") and kind is Bare:
            del one.b
    assert [state_of(one) for one in made] == [object.__getstate__(one) for one in made]


class Proud(Plain):
    def __setstate__(self, state: Any) -> None:
        raise ValueError("not mine")


def test_state_that_is_not_taken_back_is_told() -> None:
    with pytest.raises(CheckpointError, match="its state could not be given back: ValueError: not mine; mend its class"):
        with_state(Proud(), state_of(Plain()))
