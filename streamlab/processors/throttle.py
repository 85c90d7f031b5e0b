"""Letting so many values through and no more."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Kernel, Outcome
from streamlab.processors.keys import Keys, before, keys_of

if TYPE_CHECKING:
    import polars as pl

#: Windows that are remembered of each key: the newest that it had a value of, and those right before.
WINDOWS = 8
#: Seconds that a time may be away from 1970; more microseconds would not fit in 64 bits.
MOST = 9_000_000_000_000
_NEVER = -(2**63) + WINDOWS
_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


@dataclass(frozen=True)
class throttle(Columnar):
    """Let at most ``limit`` values through in any ``every`` seconds of event time, or so many of each key; drop the others.

    Time is cut into windows, from 1970-01-01 on, and a value belongs to the one that its time is in, also when it comes
    late. State: of each key that ever came the counts of 8 windows, up to the newest that it had a value of; what belongs
    to an older one is dropped.

    Args:
        limit: how many, 0 or more.
        every: length of a window: seconds, or text as ``"100ms"``, ``"1s"``, ``"5m"``, ``"1h"``, ``"1d"``.
        by: the field that is the key; without it all values share the limit.
        time: the field with the time: a datetime (UTC, if it does not say otherwise), or a number of seconds.

    Raises:
        ValueError: there is no ``time``, ``every`` is no length of time, or the limit is negative.

    Example:
        >>> import json
        >>> from streamlab import Pipeline, processors
        >>> calm = Pipeline("p").add("fields", json.loads, to="calm")
        >>> calm = calm.add("calm", processors.throttle(1, every="1s", time="t"))
        >>> calm.run(['{"t": 0.1}', '{"t": 0.9}', '{"t": 1.0}']).output["t"].tolist()
        [0.1, 1.0]
    """

    limit: int
    every: float | str
    by: str | None = None
    time: str | None = None

    ordered = True

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(f"limit={self.limit!r} must be 0 or more")
        if self.time is None:
            raise ValueError("time= must name the field that has the time; there is no throttling by the clock")
        microseconds(self.every)

    def bind(self) -> Kernel:
        """Return what counts, for one run."""
        return _Throttle(self.limit, microseconds(self.every), self.by, str(self.time))


def microseconds(length: float | str) -> int:
    """Return a length of time in microseconds.

    >>> microseconds("1.5s"), microseconds(60)
    (1500000, 60000000)

    Raises:
        ValueError: it is none, or shorter than a microsecond.
    """
    if isinstance(length, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", length.strip())
        size = float(match[1]) * _UNITS[match[2]] if match else 0.0
    else:
        size = length * 1e6
    if not 1 <= size < 2**62:
        raise ValueError(f"every={length!r} is no length of time: give seconds, or a number with ms, s, m, h or d")
    return round(size)


class _Throttle:
    """How many values went through in the last windows of each key."""

    def __init__(self, limit: int, every: int, by: str | None, time: str) -> None:
        self.limit = limit
        self.every = every
        self.by = by
        self.time = time
        self.gone: dict[Hashable, dict[int, int]] = {}

    def __call__(self, column: Column) -> Outcome:
        """Return which values go through."""
        windows, problems = self._windows(column)
        keys = Keys(np.zeros(len(column), dtype=np.int64), [None]) if self.by is None else keys_of(column, self.by)
        problems.update(keys.problems)
        keep = np.zeros(len(column), dtype=np.bool_)
        good = np.ones(len(column), dtype=np.bool_)
        good[list(problems)] = False
        if good.any():
            keep[good] = self._let_through(keys.codes[good], keys.distinct, windows[good])
        return Outcome(column, keep, problems=problems)

    def _windows(self, column: Column) -> tuple[NDArray[np.int64], dict[int, BaseException]]:
        """Return the window of each value, and what has none."""
        times = column.field(self.time)
        windows = _cut(times, self.every)
        known = times.dtype.is_temporal() or times.dtype.is_numeric()
        problems: dict[int, BaseException] = {}
        for row in np.flatnonzero(windows.is_null().to_numpy()).tolist():
            if column.sparse and times[row] is None:
                problems[row] = KeyError(f"no field {self.time!r}")
            elif known and times[row] is not None:
                problems[row] = ValueError(f"field {self.time!r} is no time: {times[row]}")
            else:
                problems[row] = TypeError(f"field {self.time!r} is {times[row]!r}: neither a datetime nor a number")
        return windows.fill_null(0).to_numpy(), problems

    def _let_through(
        self, codes: NDArray[np.int64], distinct: list[Hashable], windows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which values go through, by the numbers of their keys, and by their windows."""
        ends, ranks = np.unique(windows, return_inverse=True)
        _, first, pair = np.unique(codes * len(ends) + ranks, return_index=True, return_inverse=True)
        pairs = [
            (distinct[code], window) for code, window in zip(codes[first].tolist(), windows[first].tolist(), strict=True)
        ]
        earlier = np.array([self.gone.get(key, {}).get(window, 0) for key, window in pairs], dtype=np.int64)
        keep: NDArray[np.bool_] = before(pair) + earlier[pair] < self.limit
        keep &= windows > self._newest(codes, distinct, windows) - WINDOWS
        for (key, window), count in zip(pairs, np.bincount(pair, keep).astype(np.int64) + earlier, strict=True):
            self.gone.setdefault(key, {})[window] = int(count)
        for key in dict.fromkeys(key for key, _ in pairs):
            if len(self.gone[key]) > 1:
                self._forget(key)
        return keep

    def _newest(self, codes: NDArray[np.int64], distinct: list[Hashable], windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each value the newest window that its key has had by then."""
        import polars as pl

        here = pl.DataFrame({"key": codes, "window": windows}).select(pl.col("window").cum_max().over("key"))
        earlier = np.array([max(self.gone.get(key, ()), default=_NEVER) for key in distinct], dtype=np.int64)
        newest: NDArray[np.int64] = np.maximum(here["window"].to_numpy(), earlier[codes])
        return newest

    def _forget(self, key: Hashable) -> None:
        """Forget the windows of a key that are too old."""
        windows = self.gone[key]
        newest = max(windows)
        for window in [window for window in windows if window <= newest - WINDOWS]:
            del windows[window]


def _cut(times: pl.Series, every: int) -> pl.Series:
    """Return the number of the window that each time is in; nothing for what is no time. Exact to the microsecond."""
    import polars as pl

    if times.dtype in (pl.Datetime, pl.Date):
        ticks = times.cast(pl.Datetime("us")).to_physical()
    elif times.dtype.is_integer():
        seconds = times.cast(pl.Int64, strict=False)
        ticks = seconds.set(~seconds.is_between(-MOST, MOST), None) * 1_000_000
    elif times.dtype.is_numeric():
        near = pl.Series(np.rint(times.cast(pl.Float64).to_numpy() * 1e6))
        ticks = near.set(~(near.abs() <= MOST * 1e6), None).cast(pl.Int64)
    else:
        ticks = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(times))
    windows: pl.Series = ticks // every
    return windows
