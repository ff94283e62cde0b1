"""Reshape, as regions.

The axes of the input and of the output fall into groups with equal numbers of elements: batch to
batch, (rows, columns, channels) to units. Within a group an *aligned* range of the flat order is
a box of both shapes; the tile of an output region reads the smallest such range that contains it,
reshapes it, and takes the region out of the result. Cuts along the batch, or at multiples of the
inner axes, so read exactly what they need; any other cut is right too, and reads more.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.leaf import no_flops
from dbgraph.ops.schema import OpDef, needs_none, require

Shape = tuple[int, ...]


class Group(NamedTuple):
    """Consecutive axes of the input and of the output with the same number of elements."""

    source: range
    target: range


def groups(source: Shape, target: Shape) -> list[Group]:
    """The finest decomposition of a reshape.

    >>> [(list(a), list(b)) for a, b in groups((5, 2, 3), (5, 6))]
    [([0], [0]), ([1, 2], [1])]
    """
    found = []
    i = j = 0
    while i < len(source) and j < len(target):
        a, b = i + 1, j + 1
        left, right = source[i], target[j]
        while left != right:
            if left < right:
                left, a = left * source[a], a + 1
            else:
                right, b = right * target[b], b + 1
        found.append(Group(range(i, a), range(j, b)))
        i, j = a, b
    if i < len(source) or j < len(target):  # axes of length 1 that nothing faces
        found.append(Group(range(i, len(source)), range(j, len(target))))
    return found


def _coordinates(index: int, shape: Shape) -> Shape:
    found = []
    for n in reversed(shape):
        index, k = divmod(index, n)
        found.append(k)
    return tuple(reversed(found))


def _flat(place: Shape, shape: Shape) -> int:
    index = 0
    for k, n in zip(place, shape, strict=True):
        index = index * n + k
    return index


def _box(flat: tuple[int, int], shape: Shape) -> Region:
    """The smallest box that contains a flat range; its elements are contiguous."""
    first, last = _coordinates(flat[0], shape), _coordinates(flat[1] - 1, shape)
    bounds = []
    split = False
    for a, b, n in zip(first, last, shape, strict=True):
        bounds.append((0, n) if split else (a, b + 1))
        split = split or a != b
    return Region(tuple(bounds))


def _hull(box: Region, shape: Shape) -> tuple[int, int]:
    """The flat range from a box's first element to its last."""
    last = tuple(b - 1 for _, b in box.bounds)
    return _flat(box.start, shape), _flat(last, shape) + 1


def _aligned(wanted: Region, source: Shape, target: Shape) -> tuple[Region, Region]:
    """The boxes of a group's input and output with the same elements, around an output box."""
    flat = _hull(wanted, target)
    while True:
        outer = _hull(_box(flat, target), target)
        inner = _hull(_box(outer, source), source)
        if inner == flat:
            return _box(flat, source), _box(flat, target)
        flat = inner


def _boxes(attrs: Attrs, types: Types, region: Region) -> tuple[Region, Region, Region]:
    """The input's box, the box of `shape` with the same elements, and the region, in `shape`."""
    source, target = types[0].shape, attrs.ints("shape")
    offset = attrs.ints("offset") or (0,) * len(target)
    wanted = region.shift(offset)
    read: list[tuple[int, int]] = []
    made: list[tuple[int, int]] = []
    for group in groups(source, target):
        inner, outer = _aligned(
            Region(tuple(wanted.bounds[k] for k in group.target)),
            tuple(source[k] for k in group.source),
            tuple(target[k] for k in group.target),
        )
        read.extend(inner.bounds)
        made.extend(outer.bounds)
    return Region(tuple(read)), Region(tuple(made)), wanted


def _infer(attrs: Attrs, types: Types) -> TensorType:
    check.takes("reshape", types, 1)
    x, shape = types[0], check.shape("reshape", attrs)
    require(
        x.size == prod(shape),
        f"reshape: {x} has {x.size} elements; the shape {check.lengths(shape)} has {prod(shape)}",
    )
    offset, keep = check.ints("reshape", attrs, "offset"), check.ints("reshape", attrs, "keep")
    require(len(offset) == len(keep), f"reshape: offset {offset} and keep {keep} differ in length")
    if not keep:
        return x.with_shape(shape)
    ok = len(keep) == len(shape) and all(
        a >= 0 and n > 0 and a + n <= whole for a, n, whole in zip(offset, keep, shape, strict=True)
    )
    require(ok, f"reshape: offset {offset} and keep {keep} do not name a region of {shape}")
    return x.with_shape(keep)


def _reads(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return (_boxes(attrs, types, region)[0],)


def _localize(attrs: Attrs, types: Types, region: Region) -> Attrs:
    _, made, wanted = _boxes(attrs, types, region)
    if made == wanted:
        return attrs.having(shape=made.shape, offset=(), keep=())
    return attrs.having(shape=made.shape, offset=wanted.within(made).start, keep=region.shape)


def _axes(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(len(attrs.ints("shape"))))


RESHAPE = OpDef(
    "reshape",
    "reshape(x …) shape, offset, keep → keep (or shape where keep is ()): the elements of x in "
    "row-major order as `shape`, and of that the region that begins at `offset`.",
    infer=_infer,
    reads=_reads,
    cut_axes=_axes,
    flops=no_flops,
    localize=_localize,
    vjp_needs=needs_none,
)
