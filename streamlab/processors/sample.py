"""Letting some of the values through."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Kernel, Outcome
from streamlab.processors.keys import keys_of


@dataclass(frozen=True)
class sample(Columnar):
    """Let a share of the values through, chosen at random; or, with ``by``, all values of a share of the keys.

    The choice depends on the seed, and of a value on its place in the stream; with ``by`` on its key only, so that two
    runs, or two pipelines, choose the same keys. State: the random generator; with ``by`` none.

    Args:
        rate: the share, 0 to 1.
        seed: equal seeds make equal choices.
        by: the field that is the key.

    Raises:
        ValueError: the rate is not from 0 to 1.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("few", processors.sample(0.25)).run(["a", "b", "c", "d", "e", "f"]).output["value"].tolist()
        ['c', 'd']
    """

    rate: float
    seed: int = 0
    by: str | None = None

    ordered = True

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate={self.rate!r} must be a share: from 0 to 1")
        np.random.PCG64(self.seed)  # refuses what is no seed

    def bind(self) -> Kernel:
        """Return what chooses, for one run."""
        if self.by is not None:
            return self.apply
        return _Sample(self.rate, self.seed)

    def apply(self, column: Column) -> Outcome:
        """Return the values of the chosen keys."""
        keys = keys_of(column, self.by)
        return Outcome(column, keys.of_each(draws(keys.distinct, self.seed) < self.rate), problems=keys.problems)


class _Sample:
    """Draws a number for each value."""

    def __init__(self, rate: float, seed: int) -> None:
        self.rate = rate
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, column: Column) -> Outcome:
        """Return which values are chosen."""
        return Outcome(column, self.generator.random(len(column)) < self.rate)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.generator.bit_generator.state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.generator.bit_generator.state = state


def draws(keys: Sequence[Hashable], seed: int) -> NDArray[np.float64]:
    """Return a number from 0 up to 1 for each key, the same wherever and whenever it is asked for.

    It is the key's CRC-32, mixed with the seed by the finalizer of SplitMix64 (Steele, Lea and Flood, *Fast Splittable
    Pseudorandom Number Generators*, OOPSLA 2014): a CRC alone would make the choices of two seeds depend on each other.
    """
    sums = np.array([zlib.crc32(_text(key).encode("utf-8", "surrogatepass")) for key in keys], dtype=np.uint64)
    bits = sums + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return np.ldexp((bits >> np.uint64(11)).astype(np.float64), -53)


def _text(key: Hashable) -> str:
    """Return the same text for equal keys."""
    return str(int(key)) if isinstance(key, (int, float)) and key == key // 1 else str(key)
