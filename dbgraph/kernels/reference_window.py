"""NumPy references of the sliding windows: a loop over positions, as the definition reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dbgraph.ir.types import Attrs
from dbgraph.kernels.reference_pointwise import Array, Reference, widened


def _padded(attrs: Attrs, x: Array, value: float) -> Array:
    rows, columns = attrs.pairs("padding")
    return np.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=value)


def _windows(
    attrs: Attrs, padded: Array, size: tuple[int, ...]
) -> Iterator[tuple[int, int, Array]]:
    """(output row, output column, the window's elements: B PH PW C) of each position."""
    (down, right), (height, width) = attrs.ints("strides"), size
    for i, top in enumerate(range(0, padded.shape[1] - height + 1, down)):
        for j, left in enumerate(range(0, padded.shape[2] - width + 1, right)):
            yield i, j, padded[:, top : top + height, left : left + width, :]


def _by_position(
    attrs: Attrs,
    padded: Array,
    size: tuple[int, ...],
    maps: int,
    of_window: Callable[[int, int, Array], Array],
) -> Array:
    down, right = attrs.ints("strides")
    rows = (padded.shape[1] - size[0]) // down + 1
    columns = (padded.shape[2] - size[1]) // right + 1
    out = np.empty((padded.shape[0], rows, columns, maps), padded.dtype)
    for i, j, window in _windows(attrs, padded, size):
        out[:, i, j, :] = of_window(i, j, window)
    return out


def _conv2d(attrs: Attrs, x: Array, w: Array) -> Array:
    return _by_position(
        attrs,
        _padded(attrs, x, 0),
        w.shape[:2],
        w.shape[3],
        lambda i, j, window: np.tensordot(window, w, 3),
    )


def _local2d(attrs: Attrs, x: Array, w: Array) -> Array:
    return _by_position(
        attrs,
        _padded(attrs, x, 0),
        w.shape[2:4],
        w.shape[5],
        lambda i, j, window: np.tensordot(window, w[i, j], 3),
    )


def _pool2d(attrs: Attrs, x: Array) -> Array:
    """Padding is left out: marked by NaN, it is in no maximum, no count and no sum."""
    reduce: dict[str, Callable[[Array], Any]] = {
        "max": lambda v: np.nanmax(v, (1, 2)),
        "average": lambda v: np.nanmean(v, (1, 2)),
        "l2": lambda v: np.sqrt(np.nansum(v * v, (1, 2))),
    }
    of_window = reduce[attrs.str("kind")]
    return _by_position(
        attrs,
        _padded(attrs, x, np.nan),
        attrs.ints("size"),
        x.shape[3],
        lambda i, j, window: np.asarray(of_window(window)),
    )


WINDOW: Mapping[str, Reference] = {
    "conv2d": widened(_conv2d),
    "local2d": widened(_local2d),
    "pool2d": widened(_pool2d),
}
