"""`sample` lets a share of the values through, or the values of a share of the keys."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.meaning import GONE, Reference, assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
RATES = st.floats(0, 1) | st.sampled_from([0, 0.5, 1])


def drawn(rate: float, seed: int) -> Reference:
    """Return the reference: a draw for each value."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return lambda value: value if generator.random() < rate else GONE


def chosen(rate: float, seed: int, field: str) -> Reference:
    """Return the reference: SplitMix64 of the key's CRC, in Python's own numbers."""

    def mixed(key: Any) -> float:
        text = {1.0: "1"}.get(key, str(key))  # for 1 and True too
        bits = zlib.crc32(text.encode("utf-8", "surrogatepass")) + (seed + 1) * 0x9E3779B97F4A7C15
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            bits %= 2**64
            bits = (bits ^ bits >> shift) * factor
        bits %= 2**64
        return ((bits ^ bits >> 31) >> 11) / 2**53

    return lambda value: value if mixed(value[field]) < rate else GONE


@given(
    st.lists(st.text(max_size=3) | st.fixed_dictionaries({"a": st.integers()}), max_size=30), SIZES, RATES, st.integers(0)
)
def test_sample_at_random(values: list[Any], sizes: list[int], rate: float, seed: int) -> None:
    assert_means(processors.sample(rate, seed=seed), drawn(rate, seed), values, sizes)


KEYS = st.text(max_size=3) | st.sampled_from(["\udcff", None, 1, 1.0, True, 2, 0.5])


@given(
    st.lists(st.fixed_dictionaries({"n": st.integers(0, 9)}, optional={"k": KEYS}), max_size=30),
    SIZES,
    RATES,
    st.integers(0, 2**70),
)
def test_sample_of_keys(values: list[dict[str, Any]], sizes: list[int], rate: float, seed: int) -> None:
    assert_means(processors.sample(rate, seed=seed, by="k"), chosen(rate, seed, "k"), values, sizes)


def kept(rate: float, seed: int) -> set[int]:
    few = processors.sample(rate, seed=seed, by="user")
    pipeline = Pipeline("p").add("make", lambda line: {"user": line}, to="few").add("few", few)
    return {*pipeline.run([f"user-{n}" for n in range(10_000)]).output["line_no"]}


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_share_of_the_keys_is_the_rate(seed: int) -> None:
    assert 900 < len(kept(0.1, seed)) < 1100


def test_seeds_choose_independently_of_each_other() -> None:
    """Half of what one chooses another one does too; of CRCs of seed and key it would be all, or none."""
    assert 2300 < len(kept(0.5, 0) & kept(0.5, 1)) < 2700
    assert kept(0.1, 3) <= kept(0.5, 3)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="must be a share"):
        processors.sample(rate)


def test_a_seed_is_no_negative_number() -> None:
    with pytest.raises(ValueError):
        processors.sample(0.5, seed=-1)
