"""Counter-based random bits: the same for an index however the work is cut.

A bit pattern is a hash of (seed, stream, index): no state, no order. The same text serves NumPy
and JAX arrays, since both wrap uint32 arithmetic alike, so masks and initial values are equal bit
for bit in both.

The mix is `lowbias32` of Chris Wellons, "Prospecting for Hash Functions" (2018): a bijection of
32 bits whose output bits flip with probability close to 1/2 when an input bit flips.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MASK = 0xFFFFFFFF
_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B
# Two keys per (seed, stream, high index) start from different digits of pi. With one key alone,
# the bits of one stream would be another stream's, permuted.
_STARTS = (0x243F6A88, 0x85A308D3)

Words = Any
"""A Python int, or an array of uint32 (NumPy or JAX) of rank 1 or more."""


def _mix(x: Words) -> Words:
    """lowbias32 of each word."""
    if isinstance(x, int):
        x = ((x ^ (x >> 16)) * _FIRST) & _MASK
        x = ((x ^ (x >> 15)) * _SECOND) & _MASK
        return x ^ (x >> 16)
    # uint32 constants: NumPy would not widen, JAX would not take them for int32.
    x = (x ^ (x >> np.uint32(16))) * np.uint32(_FIRST)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(_SECOND)
    return x ^ (x >> np.uint32(16))


def _xor(a: Words, b: Words) -> Words:
    if isinstance(a, int) and isinstance(b, int):
        return a ^ b
    return (np.uint32(a) if isinstance(a, int) else a) ^ (np.uint32(b) if isinstance(b, int) else b)


def _key(start: int, *words: Words) -> Words:
    key: Words = start
    for word in words:
        key = _mix(_xor(key, word & _MASK if isinstance(word, int) else word))
    return key


def uniform_bits(seed: int, stream: Words, high: Words, low: Words) -> Words:
    """32 random bits for each index.

    Args:
        seed: any int; its lower 64 bits count.
        stream: what the bits are for, such as a step or a parameter: an int or uint32 words.
        high: the upper 32 bits of the index, such as the example: an int or uint32 words.
        low: the lower 32 bits, such as the place in the example: uint32 words, rank at least 1.

    Returns:
        uint32, in the common shape of the arrays (NumPy's broadcasting), of the library that
        `low` is of.
    """
    words = (seed, seed >> 32, stream, high)
    first, second = (_key(start, *words) for start in _STARTS)
    first = np.uint32(first) if isinstance(first, int) else first
    return _mix(_xor(second, _mix(low + first)))


def keep_threshold(rate: float) -> int:
    """Bits below this number are dropped: `rate` of all 2**32, to the nearest."""
    return min(round(rate * 2**32), _MASK)


def unit_floats(
    bits: np.ndarray[Any, np.dtype[np.uint32]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Bits as float64 in the open interval (0, 1), evenly spaced: 0 and 1 do not occur."""
    return np.asarray((bits + 0.5) * 2.0**-32, np.float64)
