"""`throttle` lets so many values through in each window of event time."""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from streamlab.columns import Column, columns_of
from streamlab.processors.throttle import WINDOWS
from tests.meaning import GONE, Reference, assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def ticks(time: Any) -> int:
    """Return a time in microseconds since 1970."""
    if isinstance(time, dt.datetime):
        return (time.replace(tzinfo=time.tzinfo or dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        raise TypeError
    if not abs(time) <= 9_000_000_000_000:
        raise ValueError
    return round(time * 1e6) if isinstance(time, float) else time * 1_000_000


def windows(limit: int, every: int, by: str | None = None) -> Reference:
    """Return the reference: a count for each key and window, and the newest window of each key."""
    gone: defaultdict[Any, int] = defaultdict(int)
    newest: dict[Any, int] = {}

    def throttle(value: dict[str, Any]) -> Any:
        key = None if by is None else value[by]
        window = ticks(value["t"]) // every
        newest[key] = max(window, newest.get(key, window))
        if window <= newest[key] - WINDOWS or gone[key, window] == limit:
            return GONE
        gone[key, window] += 1
        return value

    return throttle


SECONDS = (
    st.integers(-30, 30) | st.floats(-30, 30) | st.sampled_from([math.nan, math.inf, 10**13, 1e300, 0.3, None, "1", True])
)
FIELDS = st.fixed_dictionaries({"n": st.integers(0, 3)}, optional={"t": SECONDS, "k": st.sampled_from(["a", "b", 1, None])})
LIMITS = st.integers(0, 3)


@given(st.lists(FIELDS, max_size=40), SIZES, LIMITS, st.sampled_from([1, 0.1, 2.5]))
def test_throttle_of_numbers(values: list[dict[str, Any]], sizes: list[int], limit: int, every: float) -> None:
    """In any order, also with those that are no times, which fail."""
    assert_means(processors.throttle(limit, every, time="t"), windows(limit, int(every * 1e6)), values, sizes)


@given(st.lists(FIELDS, max_size=40), SIZES, LIMITS)
def test_throttle_of_keys(values: list[dict[str, Any]], sizes: list[int], limit: int) -> None:
    processor = processors.throttle(limit, "1s", by="k", time="t")
    assert_means(processor, windows(limit, 1_000_000, "k"), values, sizes)


@given(
    st.lists(st.tuples(st.integers(-12, 12), st.sampled_from("ab")).map(lambda it: {"t": it[0], "k": it[1]}), min_size=15),
    st.integers(1, 2),
    st.sampled_from([1, 2.5]),
)
def test_keys_have_times_of_their_own(values: list[dict[str, Any]], limit: int, every: float) -> None:
    for size in (1, len(values)):
        processor = processors.throttle(limit, every, by="k", time="t")
        assert_means(processor, windows(limit, int(every * 1e6), "k"), values, [size])


@pytest.mark.parametrize("limit", [0, 2])
def test_fields_that_are_missing_in_a_sparse_column(limit: int) -> None:
    column = Column(pl.DataFrame({"t": [1, None, 1, 1], "k": ["a", "a", None, "a"]}), fields=True, sparse=True)
    came = processors.throttle(limit, 1, by="k", time="t").bind()(column)
    assert {row: str(error) for row, error in sorted(came.problems.items())} == {
        1: "\"no field 't'\"",
        2: "\"no field 'k'\"",
    }
    assert came.keep is not None
    assert came.keep[[0, 3]].tolist() == [limit > 0] * 2


@given(st.lists(st.floats(0, 12).map(lambda t: {"t": t}), min_size=20, max_size=60), st.integers(1, 3))
def test_late_values_belong_to_their_own_windows(values: list[dict[str, Any]], limit: int) -> None:
    for size in (1, len(values)):
        assert_means(processors.throttle(limit, 1, time="t"), windows(limit, 1_000_000), values, [size])


ZONES = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=2))])
TIMES = st.datetimes(dt.datetime(1969, 12, 31, 23), dt.datetime(1970, 1, 1, 1), timezones=ZONES)


@given(st.lists(st.fixed_dictionaries({"t": TIMES}), max_size=30), SIZES, st.sampled_from(["100ms", "1s", "5m", "1h", "1d"]))
def test_throttle_of_datetimes(values: list[dict[str, Any]], sizes: list[int], every: str) -> None:
    length = {"100ms": 100_000, "1s": 10**6, "5m": 300 * 10**6, "1h": 3600 * 10**6, "1d": 86400 * 10**6}[every]
    assert_means(processors.throttle(2, every, time="t"), windows(2, length), values, sizes)


def test_state_does_not_grow_with_time() -> None:
    processor = processors.throttle(1, 1, by="k", time="t")
    kernel: Any = processor.bind()
    for start in range(0, 1000, 50):
        [(_, column)] = columns_of([{"k": n % 2, "t": start + n} for n in range(50)])
        kernel(column)
    assert [len(counts) <= WINDOWS for counts in kernel.gone.values()] == [True, True]


def test_what_has_no_time() -> None:
    values: list[Any] = ["text", {}, {"u": 1}, {"t": 1}]
    pipeline = Pipeline("p").add("make", lambda line: values[int(line)], to="calm")
    run = pipeline.add("calm", processors.throttle(1, 1, time="t")).run(["0", "1", "2", "3"])
    assert run.errors["error"].tolist() == ["TypeError", "KeyError", "KeyError"]
    assert run.output["line_no"].tolist() == [3]


@pytest.mark.parametrize("every", ["", "1", "1 week", "s", "-1s", 0, -1, float("nan"), 1e-7])
def test_a_length_of_time_that_is_none(every: Any) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        processors.throttle(1, every, time="t")


def test_there_must_be_a_time_and_a_limit() -> None:
    with pytest.raises(ValueError, match="time= must name the field"):
        processors.throttle(1, 1)
    with pytest.raises(ValueError, match="limit=-1 must be 0 or more"):
        processors.throttle(-1, 1, time="t")
