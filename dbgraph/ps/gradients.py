"""Gradients as they are kept and cut up outside of JAX: dense arrays, or some rows."""

from __future__ import annotations

import numpy as np

from dbgraph.ir.region import Region
from dbgraph.optim.sparse import Rows
from dbgraph.ps.layout import Owned

Gradient = np.ndarray | Rows
"""Of a region of a parameter; rows have their indices in the whole parameter."""
Change = tuple[Owned, Gradient]
"""A region, and its gradient."""


def size_bytes(gradient: Gradient) -> int:
    """Of its arrays."""
    if isinstance(gradient, Rows):
        return gradient.indices.nbytes + gradient.values.nbytes
    return gradient.nbytes


def added(total: Gradient | None, gradient: Gradient) -> Gradient:
    """The sum, in memory of its own unless `total` is None."""
    if total is None:
        return gradient
    if isinstance(total, Rows):
        assert isinstance(gradient, Rows), "a parameter's gradients are of one kind"
        return total.joined(gradient)
    return np.asarray(total + gradient)


def cut(gradient: Gradient, region: Region, part: Region) -> Gradient:
    """The part of a region's gradient that lies in another region, inside the first one."""
    if isinstance(gradient, np.ndarray):
        return gradient[part.within(region).slices()]
    low, high = part.bounds[0]
    inside = (low <= gradient.indices) & (gradient.indices < high)
    columns = part.within(region).slices()[1:]
    return Rows(gradient.indices[inside], gradient.values[inside][(slice(None), *columns)])


def add_to(
    target: np.ndarray, place: Region, gradient: Gradient, region: Region, factor: float = 1.0
) -> None:
    """Adds factor * gradient to the values of a region, in place, where both are.

    Args:
        place: the region of `target`.
        region: that of the gradient.
    """
    common = place.intersect(region)
    if common.empty:
        return
    part = cut(gradient, region, common)
    inner = target[common.within(place).slices()]
    if isinstance(part, Rows):
        np.add.at(inner, part.indices - common.bounds[0][0], factor * part.values)
    else:
        inner += part if factor == 1.0 else factor * part
