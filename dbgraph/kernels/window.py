"""Convolution and pooling: the window ops whose parameters, if any, are shared by all positions.

Pooling is a chain of strided slices, first along the rows, then along the columns: a window of
5x5 takes 5 + 5 slices, not 25. XLA fuses them. Against `lax.reduce_window` on CPU (windows of
2x2 to 5x5, strides 1 and 2) the maximum is 1.6 to 11 times faster forward and 3 to 20 times with
gradients, whose select-and-scatter is slow; a sum is 2 to 10 times faster forward and 1.2 to 2.8
times with gradients (0.7 times on large 2x2 windows that do not overlap).
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array, lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def conv2d(x: Array, w: Array, *, strides: Pair, padding: Padding) -> Array:
    """Filters x with the weights w, the same at every position.

    x (B, H, W, C), w (PH, PW, C, M) -> (B, OH, OW, M), where
    OH = (H + padding[0][0] + padding[0][1] - PH) // strides[0] + 1, and OW likewise; padding is
    with zeros.
    """
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pool2d(
    x: Array,
    *,
    kind: Literal["max", "average", "l2"],
    size: Pair,
    strides: Pair,
    padding: Padding,
) -> Array:
    """Pools each map of x over windows of `size`.

    x (B, H, W, C) -> (B, OH, OW, C), OH and OW as for `conv2d`. "max" ignores padding; its
    gradient is shared by equal maxima. "average" divides by the number of positions of the window
    that lie in the image. "l2" is the root of the sum of squares, with gradient 0 where all of a
    window is 0. Sums are taken in float32 at least.
    Source: L2 pooling, Le et al., "Building High-level Features Using Large Scale Unsupervised
    Learning" (ICML 2012), section 3.
    """
    if kind == "max":
        return _fold(lax.max, _padded(x, -jnp.inf, padding), size, strides)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if kind == "average":
        total = _fold(lax.add, _padded(wide, 0, padding), size, strides)
        return (total / _positions(x.shape, size, strides, padding)).astype(x.dtype)
    squares = _fold(lax.add, _padded(wide * wide, 0, padding), size, strides)
    return _root(squares).astype(x.dtype)


def _padded(x: Array, value: float, padding: Padding) -> Array:
    (top, bottom), (left, right) = padding
    config = ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0))
    return lax.pad(x, jnp.asarray(value, x.dtype), config)


def _fold(combine: Callable[[Array, Array], Array], x: Array, size: Pair, strides: Pair) -> Array:
    """Combines the elements of each window of (B, H, W, C): along its rows, then its columns."""
    for axis in (0, 1):
        x = reduce(combine, _slices(x, axis + 1, size[axis], strides[axis]))
    return x


def _slices(x: Array, axis: int, size: int, stride: int) -> list[Array]:
    """`size` slices: the i-th holds the i-th element of every window along the axis."""
    last = (x.shape[axis] - size) // stride * stride
    return [lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(size)]


def _positions(
    shape: Sequence[int], size: Pair, strides: Pair, padding: Padding
) -> npt.NDArray[np.float32]:
    """How many positions of each window lie in the image: (OH, OW, 1)."""

    def along(axis: int) -> npt.NDArray[np.float32]:
        extent, (low, high) = shape[axis + 1], padding[axis]
        first = np.arange(-low, extent + high - size[axis] + 1, strides[axis], dtype=np.float32)
        return np.minimum(first + size[axis], extent) - np.maximum(first, 0)

    return along(0)[:, None, None] * along(1)[:, None]


def _root(squares: Array) -> Array:
    """sqrt, with the gradient 0 at 0: there it never sees the 0, whose gradient is infinite."""
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))
