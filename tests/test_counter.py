"""The random bits: equal in NumPy and JAX, independent of the cut, and random enough."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.ir.counter import keep_threshold, uniform_bits, unit_floats

N = 1 << 18
INDEX = np.arange(N, dtype=np.uint32)
WORDS = st.integers(0, 2**32 - 1)


def signs(bits: np.ndarray) -> np.ndarray:
    """Bit k of each word as ±1: shape 32, words."""
    return 1.0 - 2.0 * ((bits >> np.arange(32, dtype=np.uint32)[:, None]) & 1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The largest correlation of any bit of one with the same bit of the other, in deviations."""
    return float(np.abs((signs(a) * signs(b)).mean(1)).max() * np.sqrt(a.size))


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**64), stream=WORDS, high=WORDS, low=WORDS)
def test_the_same_in_jax_in_any_form(seed: int, stream: int, high: int, low: int) -> None:
    """Ints, NumPy words and JAX words give the same bits; an index alone, the same as in a row."""
    index = np.arange(5, dtype=np.uint32) + np.uint32(low)
    wanted = uniform_bits(seed, stream, high, index)
    assert wanted.dtype == np.uint32
    words = [np.full(1, w, np.uint32) for w in (stream, high)]
    np.testing.assert_array_equal(uniform_bits(seed, *words, index), wanted)
    in_jax = uniform_bits(seed, *map(jnp.asarray, words), jnp.asarray(index))
    assert in_jax.dtype == jnp.uint32
    np.testing.assert_array_equal(np.asarray(in_jax), wanted)
    np.testing.assert_array_equal(uniform_bits(seed, stream, high, index[3:4]), wanted[3:4])


def test_golden() -> None:
    """Initial values and masks of stored runs depend on these bits: they must never change."""
    assert uniform_bits(7, 3, 1, INDEX[:4]).tolist() == GOLDEN


GOLDEN = [611526600, 2924176897, 2229399294, 1026574814]


@pytest.mark.parametrize("seed", [0, 1, 2**32, 12345])
def test_mean_and_bytes(seed: int) -> None:
    bits = uniform_bits(seed, 0, 0, INDEX)
    floats = unit_floats(bits)
    assert 0 < floats.min() < floats.max() < 1
    assert abs(floats.mean() - 0.5) < 5 * np.sqrt(1 / 12 / N)
    assert abs(floats.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / N)
    for shift in (0, 8, 16, 24):  # chi-square of 255 degrees of freedom: 255 ± 22.6
        counts = np.bincount((bits >> shift) & 255, minlength=256)
        chi_square = float(((counts - N / 256) ** 2 / (N / 256)).sum())
        assert 255 - 6 * 22.6 < chi_square < 255 + 6 * 22.6


def test_neighbours_are_not_correlated() -> None:
    bits = uniform_bits(3, 5, 0, INDEX)
    for lag in (1, 2, 3, 8, 64, 1000):
        assert correlation(bits[lag:], bits[:-lag]) < 6


def test_streams_seeds_and_examples_are_not_correlated() -> None:
    base = uniform_bits(3, 5, 9, INDEX)
    others = [(3, 6, 9), (3, 5, 10), (4, 5, 9), (3, 9, 5), (5, 3, 9), (3 + 2**32, 5, 9), (3, 4, 8)]
    for seed, stream, high in others:
        assert correlation(base, uniform_bits(seed, stream, high, INDEX)) < 6


def test_a_stream_is_no_permutation_of_another() -> None:
    """With one key per stream the values of two streams would be the same set, permuted."""
    first = np.unique(uniform_bits(0, 0, 0, INDEX))
    second = np.unique(uniform_bits(0, 1, 0, INDEX))
    shared = np.intersect1d(first, second).size
    assert shared < 2 * N * N / 2**32 + 50


def test_one_index_across_streams() -> None:
    """What dropout sees: the same unit, step after step."""
    steps = np.arange(N, dtype=np.uint32)
    bits = uniform_bits(0, steps, 0, np.zeros(1, np.uint32))
    assert abs(unit_floats(bits).mean() - 0.5) < 5 * np.sqrt(1 / 12 / N)
    assert correlation(bits[1:], bits[:-1]) < 6


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999])
def test_threshold(rate: float) -> None:
    kept = (uniform_bits(1, 2, 3, INDEX) >= keep_threshold(rate)).mean()
    assert abs(kept - (1 - rate)) <= 5 * np.sqrt(rate * (1 - rate) / N)
